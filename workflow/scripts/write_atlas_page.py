"""Rule write_atlas_page: the page of an atlas, with pictures of its modes."""

import json
from pathlib import Path

import pandas as pd

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.plotting import pages
from cardiocohort.report import atlas_page
from cardiocohort.runtime import artifacts, script


def main(snakemake):
    inputs = snakemake.input
    anatomy, _ = read_anatomy(inputs.anatomy)

    def read(name: str) -> pd.DataFrame:
        words = ("subject", "use", "reason", "not_matched")
        rows = pd.read_csv(inputs[name], sep="\t", dtype=dict.fromkeys(words, "str"))
        return rows.fillna({word: "" for word in words if word in rows})

    examples = atlas_page.with_pictures(read("examples"), Path(inputs.examples).with_suffix(""), anatomy)
    folder = Path(inputs.registrations).parent / "refused"
    pictures = {path.stem: pages.data_uri(path.read_bytes(), "png") for path in folder.glob("*.png")}
    page = atlas_page.html(
        snakemake.params.name,
        anatomy,
        read("hearts"),
        json.loads(Path(inputs.template).read_text()),
        read("registrations"),
        {name: read(name) for name in ("compactness", "generalisation", "specificity")},
        examples,
        pictures,
    )
    artifacts.write_text(snakemake.output.page, page)


if __name__ == "__main__":
    script.run(main, snakemake)
