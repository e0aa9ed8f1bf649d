"""Rule measure_reference_parts: moments of parts of structures in the hearts of a prior's population."""

import logging
from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.domains import Domain
from cardiocohort.population.measured_parts import measure_population
from cardiocohort.population.parts import COLUMNS
from cardiocohort.runtime import script, tables


def main(snakemake):
    anatomy, grid = read_anatomy(snakemake.input.anatomy)
    wanted = {name: Domain(**values) for name, values in snakemake.params.domains.items()}
    hearts, parts = Path(snakemake.input.hearts), snakemake.params.parts
    walls = snakemake.params.walls
    table, refused = measure_population(hearts, parts, wanted, anatomy, grid, snakemake.threads, walls)
    for subject, reason in refused.items():
        logging.warning("%s is left out: %s", subject, reason)
    tables.write_table(snakemake.output.table, table, {"subject": "str"} | COLUMNS)
    logging.info(
        "%s: %d parts in %d hearts, %d left out",
        snakemake.output.table,
        len(parts),
        table["subject"].nunique(),
        len(refused),
    )


if __name__ == "__main__":
    script.run(main, snakemake)
