"""Rule bench_sampling: seconds a sample and peak memory of unguided and guided sampling."""

from pathlib import Path

import pandas as pd

from cardiocohort import files, script, tables
from cardiocohort.generation import bench


def main(snakemake):
    p = snakemake.params
    targets = pd.concat([tables.read_table(path, tables.TARGETS) for path in snakemake.input.targets])
    rows = [own for _, own in targets.groupby("subject", sort=False)]
    found = bench.table(
        str(Path(snakemake.input.bundle).parent), rows, p.guidance, p.device, snakemake.threads
    )
    with files.atomic_path(snakemake.output.table) as path:
        found.to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
