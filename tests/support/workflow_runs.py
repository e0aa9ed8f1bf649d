"""Runs of the real workflow for tests: a bundle without a network, Snakemake in a folder of its own."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import FORMAT
from cardiocohort.runtime.artifacts import sha256
from heart_anatomy import HEART, HEART_GRID

REPOSITORY = Path(__file__).resolve().parents[2]
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


def command(
    workdir: Path, *arguments: str, repository: Path = REPOSITORY, snakefile: str = "workflow/Snakefile"
) -> list[str]:
    return [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(repository / snakefile),
        "--directory",
        str(workdir),
        *arguments,
    ]


def run_command(line: list[str], workdir: Path) -> subprocess.CompletedProcess:
    """Run a command in `workdir`; output and errors together in `.stdout`."""
    return subprocess.run(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment(),
        cwd=workdir,
    )  # fmt: skip


def snakemake(workdir: Path, *arguments: str, repository: Path = REPOSITORY) -> subprocess.CompletedProcess:
    """Run Snakemake with `--directory workdir`; output and errors together in `.stdout`."""
    return run_command(command(workdir, *arguments, repository=repository), workdir)


def job_counts(output: str) -> dict[str, int]:
    """Jobs by rule, from Snakemake's table of jobs."""
    table = re.search(r"^job +count\n[- ]+\n((?:\S+ +\d+\n)+)", output, re.MULTILINE)
    if table is None:
        return {}
    counts = {name: int(count) for name, count in (line.split() for line in table[1].splitlines())}
    counts.pop("total")
    return counts


# rules have messages of their own, in place of which Snakemake tells a job in full
IN_FULL = (
    "import sys, snakemake.jobs; snakemake.jobs.Job.message = property(lambda job: None); "
    "from snakemake.cli import main; main(sys.argv[1:])"
)


STRICT = ("--strict-dag-evaluation", "functions", "cyclic-graph", "periodic-wildcards")


def planned_jobs(
    workdir: Path, *arguments: str, snakefile: str = "workflow/Snakefile"
) -> dict[str, list[dict[str, str]]]:
    """Rule -> resources (and threads) of each of its jobs, as a strict dry run tells them."""
    start = [
        sys.executable,
        "-c",
        IN_FULL,
        *command(workdir, "--dry-run", *arguments, *STRICT, snakefile=snakefile)[3:],
    ]
    run = subprocess.run(start, cwd=workdir, env=environment(), capture_output=True, text=True, check=False)
    told = run.stdout + run.stderr
    assert run.returncode == 0, told
    found = {}
    for block in re.split(r"^(?:local)?rule ", told, flags=re.MULTILINE)[1:]:
        told_of = dict(re.findall(r"^    (resources|threads): (.*)$", block, re.MULTILINE))
        resources = dict(pair.split("=", 1) for pair in told_of.get("resources", "").split(", ") if pair)
        found.setdefault(block.split(":")[0], []).append(resources | {"threads": told_of.get("threads", "1")})
    assert {rule: len(jobs) for rule, jobs in found.items()} == job_counts(told)
    return found


def planned_resources(workdir: Path, *arguments: str) -> dict[str, dict[str, str]]:
    """Rule -> resources (and threads) of its last job."""
    return {rule: jobs[-1] for rule, jobs in planned_jobs(workdir, *arguments).items()}
