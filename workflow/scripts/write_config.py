"""Rule write_config: the config as it was used, defaults filled in, and the cohort table as it was."""

import yaml

from cardiocohort.runtime import artifacts, script
from cardiocohort.runtime.text_files import read_text


def main(snakemake):
    text = yaml.safe_dump(dict(snakemake.params.settings), sort_keys=False, allow_unicode=True)
    artifacts.write_text(snakemake.output.config, text)
    if snakemake.output.get("cohort_table"):  # the user's own label maps have none
        table = read_text(snakemake.input.cohort_table, "cohort table")
        artifacts.write_text(snakemake.output.cohort_table, table)


if __name__ == "__main__":
    script.run(main, snakemake)
