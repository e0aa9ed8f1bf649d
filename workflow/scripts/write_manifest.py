"""Rule write_manifest: one row per requested subject over all batches and stages."""

import logging

from cardiocohort.report.cohort_tables import read_cohort_tables
from cardiocohort.report.manifest import COLUMNS, STATUSES, manifest
from cardiocohort.runtime import progress, script, tables
from cardiocohort.runtime.outcomes import Outcome


def main(snakemake):
    i = snakemake.input
    found = read_cohort_tables(i.get("targets", []), i.anatomies, i.topology, i.meshes, i.inputs)
    frame = manifest(found, snakemake.params.seeds, snakemake.params.arms)
    tables.write_table(snakemake.output.table, frame, COLUMNS)
    ended = frame.loc[frame["status"] != Outcome.ACCEPTED, "subject"]
    if len(ended):
        names, table = progress.named(list(ended)), snakemake.output.table
        logging.warning(
            "%d of %d subjects not accepted: %s; the reasons are in %s", len(ended), len(frame), names, table
        )
    counts = frame["status"].value_counts()
    logging.info("%s", ", ".join(f"{counts.get(status, 0)} {status}" for status in STATUSES))


if __name__ == "__main__":
    script.run(main, snakemake)
