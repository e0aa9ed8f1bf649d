"""Rule describe_population: conditions and covariates of the reference population, and their ranges."""

import logging

from cardiocohort.cohort import covariates, people
from cardiocohort.runtime import script, tables


def main(snakemake):
    known = covariates.known(snakemake.input.get("covariates_table"))
    found = people.read_people(snakemake.input.reference, known)
    summary = people.described(found, known)
    for remark in people.regression_of(found, known).remarks(found):
        logging.warning(remark)
    tables.write_table(snakemake.output.table, summary, people.SUMMARY)
    logging.info("%s:\n%s", snakemake.input.reference, summary.to_string(index=False))


if __name__ == "__main__":
    script.run(main, snakemake)
