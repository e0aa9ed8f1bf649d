"""Rule write_config: the config as it was used, defaults filled in."""

import yaml

from cardiocohort import files, script


def main(snakemake):
    text = yaml.safe_dump(dict(snakemake.params.settings), sort_keys=False, allow_unicode=True)
    files.write_text(snakemake.output.config, text)


if __name__ == "__main__":
    script.run(main, snakemake)
