"""Rule check_topology: the verdict on every anatomy of one batch, with reasons and measures."""

from pathlib import Path

from cardiocohort import topology
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.cohort import stage_tables
from cardiocohort.runtime import script, tables


def main(snakemake):
    anatomy, _ = read_anatomy(snakemake.input.bundle)
    rules = topology.load_rules(snakemake.input.rules, anatomy)
    source = Path(snakemake.input.anatomies)
    anatomies = tables.read_table(source, stage_tables.ANATOMIES)
    verdicts = topology.check_batch(anatomies, source.with_suffix(""), anatomy, rules)
    tables.write_table(snakemake.output.table, verdicts, stage_tables.TOPOLOGY)


if __name__ == "__main__":
    with script.session(snakemake):
        main(snakemake)
