"""Runs of the real workflow for tests: a bundle without a network, Snakemake in a folder of its own."""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import yaml

from cardiocohort.anatomy.bundle_metadata import FORMAT
from cardiocohort.runtime.artifacts import sha256
from heart_anatomy import HEART, HEART_GRID
from synthetic_population import reference_frame

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((REPOSITORY / "resources/templates").glob("*.nii.gz"))
COLUMNS = "arm\tn\tsex\tcondition\tage\tbsa\tseed\tconstraints\tedits"


def make_bundle(folder: Path) -> Path:
    """A bundle for dry runs and for the stages that need the anatomy only; its weights hold no network."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(b"no network in here")
    reference_frame(30).to_parquet(folder / "reference_moments.parquet", index=False)
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


def label_map_project(folder: Path, copies: int = 1) -> Path:
    """A folder with a bundle, a config of its own and `copies` of each template as label maps."""
    make_bundle(folder / "bundle")
    (folder / "maps").mkdir(parents=True)
    for path in TEMPLATES:
        for copy in range(copies):
            shutil.copy(path, folder / "maps" / f"{path.name.split('_')[0]}_{copy}.nii.gz")
    (folder / "config").mkdir()
    config = {"cohort": "mine", "bundle": "bundle", "label_maps": "maps", "batch_size": 100}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    return folder


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


# Snakemake imports for two seconds. One process per test process has done so, and each run is a fork of it
# that goes on as `python -m snakemake` does. Modules of the library are imported by the fork.
SERVER = """
import json, os, sys
import snakemake.cli, snakemake.jobs, snakemake.report, pandas, jsonschema, smart_open, yte
for line in sys.stdin:
    run = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.chdir(run["folder"])
    os.environ.clear()
    os.environ.update(run["environment"])
    out = os.open(run["output"], os.O_WRONLY)
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    if run["in_full"]:  # a rule's own message takes the place of what Snakemake says of a job
        snakemake.jobs.Job.message = property(lambda job: None)
    sys.path[0] = os.getcwd()
    sys.argv = [snakemake.cli.__file__, *run["arguments"]]
    snakemake.cli.main(run["arguments"])
"""


@cache
def _server() -> subprocess.Popen:
    """It ends with the test process, which closes its input."""
    start = [sys.executable, "-c", SERVER]
    server = subprocess.Popen(
        start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    atexit.register(server.communicate)
    return server


def snakemake(
    workdir: Path, *arguments: str, repository: Path = REPOSITORY, snakefile: str = "workflow/Snakefile",
    in_full: bool = False,
) -> subprocess.CompletedProcess:  # fmt: skip
    """Run Snakemake in and with `--directory workdir`; output and errors together in `.stdout`."""
    line = command(workdir, *arguments, repository=repository, snakefile=snakefile)
    with tempfile.NamedTemporaryFile("r") as output:
        run = {"folder": str(workdir), "arguments": line[3:], "in_full": in_full}
        run |= {"environment": environment(), "output": output.name}
        _server().stdin.write(json.dumps(run) + "\n")
        _server().stdin.flush()
        code = int(_server().stdout.readline())
        return subprocess.CompletedProcess(line, code, output.read())


def job_counts(output: str) -> dict[str, int]:
    """Jobs by rule, from Snakemake's table of jobs."""
    table = re.search(r"^job +count\n[- ]+\n((?:\S+ +\d+\n)+)", output, re.MULTILINE)
    if table is None:
        return {}
    counts = {name: int(count) for name, count in (line.split() for line in table[1].splitlines())}
    counts.pop("total")
    return counts


STRICT = ("--strict-dag-evaluation", "functions", "cyclic-graph", "periodic-wildcards")


def planned_jobs(
    workdir: Path, *arguments: str, snakefile: str = "workflow/Snakefile"
) -> dict[str, list[dict[str, str]]]:
    """Rule -> resources (and threads) of each of its jobs, as a strict dry run states them."""
    run = snakemake(workdir, "--dry-run", *arguments, *STRICT, snakefile=snakefile, in_full=True)
    assert run.returncode == 0, run.stdout
    planned = {}
    for block in re.split(r"^(?:local)?rule ", run.stdout, flags=re.MULTILINE)[1:]:
        stated = dict(re.findall(r"^    (resources|threads): (.*)$", block, re.MULTILINE))
        job = dict(pair.split("=", 1) for pair in stated.get("resources", "").split(", ") if pair)
        planned.setdefault(block.split(":")[0], []).append(job | {"threads": stated.get("threads", "1")})
    assert {rule: len(jobs) for rule, jobs in planned.items()} == job_counts(run.stdout)
    return planned


def planned_resources(workdir: Path, *arguments: str) -> dict[str, dict[str, str]]:
    """Rule -> resources (and threads) of its last job."""
    return {rule: jobs[-1] for rule, jobs in planned_jobs(workdir, *arguments).items()}
