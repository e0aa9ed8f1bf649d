"""Rule describe_population: conditions and covariates of the reference population, and their ranges."""

import logging

from cardiocohort.cohort import people
from cardiocohort.runtime import script, tables


def main(snakemake):
    summary = people.described(people.read_people(snakemake.input.reference))
    tables.write_table(snakemake.output.table, summary, people.SUMMARY)
    logging.info("%s:\n%s", snakemake.input.reference, summary.to_string(index=False))


if __name__ == "__main__":
    script.run(main, snakemake)
