"""Rule bench_sampling: seconds per sample and peak memory of unguided and guided sampling."""

from pathlib import Path

import pandas as pd

import sampling_cost
from cardiocohort.cohort import stage_tables
from cardiocohort.runtime import artifacts, script, tables


def main(snakemake):
    p = snakemake.params
    targets = pd.concat([tables.read_table(path, stage_tables.TARGETS) for path in snakemake.input.targets])
    rows = [own for _, own in targets.groupby("subject", sort=False)]
    found = sampling_cost.table(
        str(Path(snakemake.input.bundle).parent),
        rows,
        p.guidance,
        p.device,
        snakemake.threads,
        p.tensor_sizes,
        p.repeats,
    )
    with artifacts.atomic_path(snakemake.output.table) as path:
        found.to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
