"""Rule write_atlas_page: the page of an atlas, with pictures of its modes."""

import json
from pathlib import Path

import pandas as pd

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.report import atlas_page
from cardiocohort.runtime import artifacts, script


def main(snakemake):
    inputs = snakemake.input
    anatomy, _ = read_anatomy(inputs.anatomy)

    def read(name: str) -> pd.DataFrame:
        return pd.read_csv(inputs[name], sep="\t", dtype={"subject": str}).fillna(
            {"not_matched": "", "use": "", "reason": ""}
        )

    examples = atlas_page.with_pictures(read("examples"), Path(inputs.examples).with_suffix(""), anatomy)
    page = atlas_page.html(
        snakemake.params.name,
        anatomy,
        read("hearts"),
        json.loads(Path(inputs.template).read_text()),
        read("registrations"),
        {name: read(name) for name in ("compactness", "generalisation", "specificity")},
        examples,
    )
    artifacts.write_text(snakemake.output.page, page)


if __name__ == "__main__":
    script.run(main, snakemake)
