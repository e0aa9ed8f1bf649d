"""Rule propose_batch_size: the batch size at which jobs last 10 to 60 minutes, from a pilot's benchmarks."""

import logging

from cardiocohort.cohort import batch_size
from cardiocohort.report.manifest import COLUMNS
from cardiocohort.runtime import artifacts, script, tables


def main(snakemake):
    manifest = tables.read_table(snakemake.input.manifest, COLUMNS)
    pilot = batch_size.read_pilot(snakemake.params.benchmarks, manifest["batch"].value_counts().to_dict())
    size, table = batch_size.propose(pilot)
    slowest = table.iloc[0]
    if slowest["worst_job_minutes"] * 60 > batch_size.LONGEST_S:
        logging.warning("one subject of %s takes more than an hour", slowest["stage"])
    with artifacts.atomic_path(snakemake.output.table) as path:
        table.assign(batch_size=size).round(2).to_csv(path, sep="\t", index=False)
    logging.info(
        "batch_size: %d (%s: %.0f minutes a job, %.0f at worst)",
        size, slowest["stage"], slowest["job_minutes"], slowest["worst_job_minutes"],
    )  # fmt: skip


if __name__ == "__main__":
    script.run(main, snakemake)
