"""Runs of the real workflow for tests: a bundle without a network, Snakemake in a folder of its own."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from cardiocohort.anatomy import HEART, HEART_GRID
from cardiocohort.bundle_card import FORMAT
from cardiocohort.files import sha256

REPOSITORY = Path(__file__).resolve().parents[1]
COLUMNS = "arm\tn\tsex\tcondition\tage\tbsa\tseed\tconstraints\tedits"


def make_bundle(folder: Path) -> Path:
    """A bundle for dry runs and for the stages that need the anatomy only; its weights hold no network."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(b"no network in here")
    (folder / "reference_moments.parquet").write_bytes(b"no table in here")
    card = {
        "format": FORMAT,
        "anatomy": asdict(HEART),
        "grid": asdict(HEART_GRID),
        "weights_sha256": sha256(folder / "weights.safetensors"),
    }
    (folder / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def make_cohort_table(path: Path, arms: dict[str, int]) -> Path:
    rows = [f"{arm}\t{n}\tany\thealthy\t\t\t\tleft_ventricle: all\t" for arm, n in arms.items()]
    path.write_text("\n".join([COLUMNS, *rows]) + "\n", encoding="utf-8")
    return path


def environment() -> dict[str, str]:
    """As a user's shell: no profile of the developer, one thread of numerical libraries."""
    return {k: v for k, v in os.environ.items() if k != "SNAKEMAKE_PROFILE"} | {"OMP_NUM_THREADS": "1"}


def command(workdir: Path, *arguments: str, repository: Path = REPOSITORY) -> list[str]:
    snakefile = str(repository / "workflow" / "Snakefile")
    return [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        snakefile,
        "--directory",
        str(workdir),
        *arguments,
    ]


def snakemake(workdir: Path, *arguments: str, repository: Path = REPOSITORY) -> subprocess.CompletedProcess:
    """Run Snakemake with `--directory workdir`; output and errors together in `.stdout`."""
    return subprocess.run(
        command(workdir, *arguments, repository=repository),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment(),
        cwd=workdir,
    )  # fmt: skip


def job_counts(output: str) -> dict[str, int]:
    """Jobs by rule, from Snakemake's table of jobs."""
    table = re.search(r"^job +count\n[- ]+\n((?:\S+ +\d+\n)+)", output, re.MULTILINE)
    if table is None:
        return {}
    counts = {name: int(count) for name, count in (line.split() for line in table[1].splitlines())}
    counts.pop("total")
    return counts
