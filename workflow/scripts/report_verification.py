"""Rule verify: reports what the comparison of all batches found; fails if anything is not identical."""

import logging

import pandas as pd

from cardiocohort.cohort import verification
from cardiocohort.runtime import script, tables
from cardiocohort.runtime.errors import InputError


def main(snakemake):
    found = [tables.read_table(path, verification.COLUMNS) for path in snakemake.input]
    verdicts = pd.concat(found, ignore_index=True)
    message = verification.complaint(verdicts)
    if message:
        raise InputError(message)
    logging.info("%d batches: stored files are whole, recomputed subjects are identical", len(found))


if __name__ == "__main__":
    script.run(main, snakemake)
