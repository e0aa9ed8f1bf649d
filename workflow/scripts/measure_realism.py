"""Rule measure_realism: samples of every method against hearts that the prior has not seen."""

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.evaluation import realism_table
from cardiocohort.evaluation.samples import read_arms, read_hearts
from cardiocohort.runtime import script, tables


def main(snakemake):
    i, p = snakemake.input, snakemake.params
    anatomy, grid = read_anatomy(i.bundle)
    found = realism_table.table(
        read_arms(i.samples, p.arms), read_hearts(i.hearts), anatomy, grid, p.resamples, p.seed
    )
    tables.write_table(snakemake.output.table, found, realism_table.COLUMNS)


if __name__ == "__main__":
    script.run(main, snakemake)
