"""What large trials cost (`make bench-scale`, about 20 minutes of CPU): writes results/bench/scale.tsv.

- planning: dry run, and runs that find nothing to do, of 100 to 100,000 subjects. A finished trial of that
  size is made without its hearts: its tables are empty files, with Snakemake's record of a run for each
  (`--touch`). Where nothing changed, Snakemake looks at the times and records of files, never into them.
- cohorts: toy cohorts that are run to their report, alone and on a one-node SLURM (support/slurm_cluster.py):
  CPU seconds of Snakemake, its jobs and, there, of SLURM's own processes.
- files: what a subject and a batch leave behind, of a real heart and of the toy cohorts.

CPU seconds, not seconds: other work on the machine changes them little.
"""

import ctypes
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import yaml

import slurm_cluster
import tiny_cohort
from bench_planning import cost, plan, write_trial
from cardiocohort.runtime.artifacts import atomic_path
from workflow_runs import REPOSITORY, command, environment

SNAKEFILE = REPOSITORY / "workflow/Snakefile"
BUNDLE = REPOSITORY / "resources/priors/people"
SIZES = (100, 1000, 10_000, 100_000)  # of planned trials
BATCH_SIZE = 50
COHORTS = (10, 200)  # subjects of the toy cohorts that are run
TOY_BATCH_SIZE = 10
ON_SLURM = 20  # subjects of the toy cohort that is run both ways
COLUMNS = ("measure", "subjects", "batch_size", "quantity", "value")
PROFILE = ("--workflow-profile", str(REPOSITORY / "workflow/profiles/slurm"), "--slurm-no-account")
# Snakemake's `--touch` waits a tenth of a second after each job, for file systems of coarse times
TOUCH = (
    "import sys, snakemake.executors.touch as touch; touch.Executor.SLEEPING_TIME = 0; "
    "from snakemake.cli import main; main(sys.argv[1:])"
)
NOTHING = "Nothing to be done"
OF_A_SUBJECT = re.compile(r"/(anatomies|meshes|inputs)/[A-Za-z0-9_]+-\d+/")  # the folder of a batch
PR_SET_CHILD_SUBREAPER = 36


def ours() -> dict[str, str]:
    """A user's environment, without the path on which this program finds the library."""
    return {k: v for k, v in environment().items() if k != "PYTHONPATH"}


def snakemake(project: Path, *arguments: str) -> str:
    run = subprocess.run(
        command(project, "--cores", "1", *arguments), cwd=project, env=ours(), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if run.returncode:
        raise RuntimeError(run.stdout)
    return run.stdout


# ---- planning


def finished_trial(folder: Path, subjects: int) -> Path:
    """A project whose trial Snakemake takes for made: two arms, every output there and on record, empty."""
    (folder / "config").mkdir(parents=True)
    write_trial(folder, BUNDLE, subjects)
    config = {"cohort_table": "trial.tsv", "bundle": str(BUNDLE), "batch_size": BATCH_SIZE}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    lines = snakemake(folder, "--quiet", "all", "--summary").splitlines()
    outputs = [line.split("\t")[0] for line in lines if line.startswith("results/")]
    for output in outputs:
        (folder / output).parent.mkdir(parents=True, exist_ok=True)
        (folder / output).touch()
    touch = command(
        folder, "--cores", "1", "--touch", "--forceall", "--quiet", "all", "--scheduler", "greedy"
    )
    subprocess.run([sys.executable, "-c", TOUCH, *touch[3:]], cwd=folder, env=ours(), check=True)
    return folder


def planning(subjects: int, repeats: int) -> Iterable[tuple]:
    """Rows of a trial's dry run, and of a dry and a real run once it is finished; best of `repeats`."""
    with tempfile.TemporaryDirectory() as folder:
        project = finished_trial(Path(folder) / "trial", subjects)
        assert NOTHING in snakemake(project), "a finished trial is not taken for finished"
        runs = {"dry run": lambda: plan(str(SNAKEFILE), str(BUNDLE), subjects, BATCH_SIZE)}
        for name, own in (("no-op dry run", ("--dry-run",)), ("no-op run", ())):
            line = command(project, "--cores", "1", "--quiet", "rules", *own)
            runs[name] = lambda line=line: cost(line, cwd=project, env=ours())
        for name, run in runs.items():
            best = [min(values) for values in zip(*(run() for _ in range(repeats)), strict=True)]
            for quantity, value in zip(("cpu_s", "peak_mb"), best, strict=True):
                yield name, subjects, BATCH_SIZE, quantity, value


# ---- whole runs


def run_cohort(project: str, slurm: bool) -> tuple[float, float]:
    """CPU seconds of a run and of every process that it led to, and its seconds; in a process of its own.

    SLURM's daemons and what they start are counted too: orphans come to this process.
    """
    if slurm:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with slurm_cluster.slurm_cluster() if slurm else nullcontext() as cluster:
        how = PROFILE if slurm else ("--cores", "1")
        begun = time.monotonic()
        run = subprocess.run(
            command(Path(project), "--quiet", "rules", *how), cwd=project, text=True, check=False,
            env=ours() | (cluster.environment if slurm else {}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        seconds = time.monotonic() - begun
        if run.returncode:
            raise RuntimeError(run.stdout + (cluster.logs() if slurm else ""))
    while slurm:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, seconds


def alone(project: Path, slurm: bool = False) -> tuple[float, float]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(run_cohort, str(project), slurm).result()


def jobs_of(subjects: int) -> int:
    """Jobs that go to a cluster: five a batch, and the report."""
    return 5 * -(-subjects // TOY_BATCH_SIZE) + 1


def cohorts(folder: Path) -> Iterable[tuple]:
    """Rows of a small and a large toy cohort: what a subject costs in each, and what further ones do."""
    found = {}
    for n in COHORTS:
        project = tiny_cohort.make_project(folder / f"toy{n}", {"toy": n}, batch_size=TOY_BATCH_SIZE)
        found[n], _ = alone(project)
        yield "toy cohort", n, TOY_BATCH_SIZE, "cpu_s", found[n]
        yield "toy cohort", n, TOY_BATCH_SIZE, "cpu_s_per_subject", found[n] / n
    few, many = COHORTS
    further = (found[many] - found[few]) / (many - few)
    yield f"toy cohort, beyond {few}", many, TOY_BATCH_SIZE, "cpu_s_per_subject", further
    ratio = (found[many] / many) / (found[few] / few)
    yield f"toy cohort, {many} against {few}", many, TOY_BATCH_SIZE, "ratio_of_cpu_s_per_subject", ratio
    yield from batch_files([folder / f"toy{n}" for n in COHORTS], COHORTS)


def on_slurm(folder: Path) -> Iterable[tuple]:
    """Rows of the toy cohort on SLURM and alone: what a job, and a subject, cost more there."""
    if missing := slurm_cluster.missing():
        print(
            f"NOT MEASURED: overhead under SLURM; {', '.join(missing)} not found "
            "(Debian: apt-get install slurmctld slurmd slurm-client munge)",
            file=sys.stderr,
        )
        return
    cpu = {}
    for slurm in (False, True):
        where = "SLURM" if slurm else "no SLURM"
        name = "slurm" if slurm else "local"
        project = tiny_cohort.make_project(folder / name, {"toy": ON_SLURM}, batch_size=TOY_BATCH_SIZE)
        cpu[slurm], seconds = alone(project, slurm)
        yield f"toy cohort, {where}", ON_SLURM, TOY_BATCH_SIZE, "cpu_s", cpu[slurm]
        yield f"toy cohort, {where}", ON_SLURM, TOY_BATCH_SIZE, "seconds", seconds
    more = (cpu[True] - cpu[False]) / jobs_of(ON_SLURM)
    yield "overhead under SLURM", ON_SLURM, TOY_BATCH_SIZE, "cpu_s_per_job", more
    yield "overhead under SLURM", ON_SLURM, TOY_BATCH_SIZE, "cpu_s_per_subject", 5 * more / TOY_BATCH_SIZE
    yield "overhead under SLURM", ON_SLURM, BATCH_SIZE, "cpu_s_per_subject", 5 * more / BATCH_SIZE


# ---- files


def count(paths: Iterable[Path]) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return len(sizes), sum(sizes)


def batch_files(projects: list[Path], sizes: tuple[int, int]) -> Iterable[tuple]:
    """Files and bytes per batch, of two cohorts: tables, logs, benchmarks, Snakemake's records."""
    batches = [n // TOY_BATCH_SIZE for n in sizes]
    few, many = [
        count(p for p in project.rglob("*") if not OF_A_SUBJECT.search(p.as_posix())) for project in projects
    ]
    for quantity, low, high in zip(("files", "bytes"), few, many, strict=True):
        each = (high - low) / (batches[1] - batches[0])
        yield "a batch's own, toy cohort", sizes[1], TOY_BATCH_SIZE, f"{quantity}_per_batch", each


def subject_files(folder: Path) -> Iterable[tuple]:
    """Rows of files and bytes of a real heart, by stage, from label map to decks of all formats."""
    project = tiny_cohort.make_heart_project(folder / "heart")
    snakemake(project, "inputs", "--quiet", "rules")
    cohort = project / "results/cohorts/mine"
    stages = {stage: (cohort / stage / "mine-0000") for stage in ("anatomies", "meshes")}
    stages |= {f"inputs, {deck.name}": deck for deck in sorted(cohort.glob("inputs/*/*/*")) if deck.is_dir()}
    for name, place in stages.items():
        for quantity, value in zip(("files", "bytes"), count(place.rglob("*")), strict=True):
            yield f"a heart's own, {name}", 1, 1, f"{quantity}_per_subject", value


def main(path: Path, sizes: tuple[int, ...] = SIZES) -> None:
    rows = []

    def keep(found: Iterable[tuple]) -> None:
        for row in found:
            print(*row, sep="\t", flush=True)
            rows.append(row)
            with atomic_path(path) as temporary:
                pd.DataFrame(rows, columns=COLUMNS).to_csv(
                    temporary, sep="\t", index=False, float_format="%.4g"
                )

    path.parent.mkdir(parents=True, exist_ok=True)
    for subjects in sizes:
        keep(planning(subjects, repeats=2 if subjects <= 10_000 else 1))
    with tempfile.TemporaryDirectory() as folder:
        keep(cohorts(Path(folder)))
        keep(on_slurm(Path(folder)))
        keep(subject_files(Path(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "results/bench/scale.tsv")
