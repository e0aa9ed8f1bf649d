"""Rule bench_planning: what Snakemake needs to plan trials of many subjects (a dry run, nothing is made)."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.runtime import artifacts, script

COLUMNS = "arm\tn\tsex\tcondition\tage\tbsa\tseed\tconstraints\tedits"
# a fresh interpreter starts Snakemake: a child begins with the memory of whoever forks it, and counts it
LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def cost(command: list[str], **options) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of a command; CalledProcessError where it fails."""
    launch = [sys.executable, "-c", LAUNCHER, *command]
    out = subprocess.run(launch, capture_output=True, text=True, check=True, **options)
    cpu, memory = map(float, out.stdout.split())
    return cpu, memory * (1 if sys.platform == "darwin" else 1024) / 1e6


def write_trial(folder: Path, bundle: str | Path, subjects: int) -> None:
    """The cohort table `trial.tsv` of two arms with `subjects` in all."""
    structure = read_anatomy(Path(bundle) / "bundle.json")[0].structures[0]
    rows = [f"{arm}\t{subjects // 2}\tany\t\t\t\t\t{structure}: size\t" for arm in ("a", "b")]
    (folder / "trial.tsv").write_text("\n".join([COLUMNS, *rows]) + "\n")


def plan(snakefile: str, bundle: str, subjects: int, config: list[str]) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of a dry run of two arms with `subjects` in all."""
    with tempfile.TemporaryDirectory() as folder:
        write_trial(Path(folder), bundle, subjects)
        command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--directory", folder]
        command += ["--dry-run", "--quiet", "rules", "--cores", "1", "--config", "cohort_table=trial.tsv"]
        return cost([*command, f"bundle={bundle}", *config])


def main(snakemake):
    p = snakemake.params
    bundle = str(Path(snakemake.input.bundle).parent.resolve())
    config = [f"batch_size={p.batch_size}", f"anatomy={p.anatomy}", f"meshing={{domain: {p.domain}}}"]
    found = []
    for subjects in p.sizes:
        runs = [plan(p.snakefile, bundle, subjects, config) for _ in range(p.repeats)]
        found.append((subjects, p.batch_size, *(min(values) for values in zip(*runs, strict=True))))
    table = pd.DataFrame(found, columns=["subjects", "batch_size", "cpu_seconds", "peak_mb"])
    with artifacts.atomic_path(snakemake.output.table) as path:
        table.round({"cpu_seconds": 2, "peak_mb": 0}).to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
