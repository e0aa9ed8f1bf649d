"""Writes the tables of the documents from the shipped bundle and the TSV files beside it.

    python -m cardiocohort.evaluation.documents

Such a table stands between `<!-- table: name -->` and `<!-- end -->`; the text around it is left as it is.
"""

import re
from pathlib import Path

import pandas as pd

from ..anatomy.bundle_metadata import read_card
from ..cohort import covariates, people
from ..prior.published import assumptions
from ..runtime.errors import InputError
from . import acceptance_criteria, summary

REPOSITORY = Path(__file__).resolve().parents[4]
EVALUATION = REPOSITORY / "resources/priors/small/evaluation"
BUNDLE = REPOSITORY / "resources/priors/small"
RELATIONS = REPOSITORY / "resources/reference/relations.tsv"
DOCUMENTS = [
    REPOSITORY / name for name in ("docs/evaluation.md", "docs/cohort-table.md", "docs/virtual-patients.md")
] + [BUNDLE / "CARD.md"]
MARKED = re.compile(r"(<!-- table: ([\w/]+) -->\n).*?(<!-- end -->)", re.DOTALL)
WRITERS = {
    name: getattr(summary, "errors" if name == "fidelity" else name)
    for name in (
        "realism",
        "fidelity",
        "coupling",
        "topology",
        "extremes",
        "known",
        "whole_hearts",
        "variety",
    )
}


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of an evaluation that lie in a folder, by name."""
    return {
        name: pd.read_csv(folder / f"{name}.tsv", sep="\t", keep_default_na=False, na_values=[""])
        for name in WRITERS
        if (folder / f"{name}.tsv").exists()
    }


def markdown_tables() -> dict[str, str]:
    """Name of a marked table -> its Markdown."""
    shipped, baseline = read(EVALUATION), read(EVALUATION / "implicit")
    # of the baseline's run, the left-out template is not shown
    baseline["realism"] = baseline["realism"].query("reference == 'reference'")
    known = covariates.known()
    criteria = acceptance_criteria.criteria(
        shipped,
        acceptance_criteria.read_figures(
            BUNDLE / "card.json", read_card(BUNDLE / "bundle.json")["weights_sha256"]
        ),
    )
    return {
        **{name: WRITERS[name](table) for name, table in shipped.items()},
        **{f"implicit/{name}": WRITERS[name](table) for name, table in baseline.items()},
        "acceptance_criteria": summary.acceptance(criteria),
        "assumptions": assumptions(RELATIONS),
        "covariates": covariates.markdown(known),
        "overview": summary.overview(shipped),
        "population": people.markdown(
            people.described(people.read_people(BUNDLE / "reference_moments.parquet", known), known), known
        ),
    }


def updated(document: Path, tables: dict[str, str]) -> str:
    """Text of a document with its marked tables written anew; InputError for a name that no table has."""

    def write(match: re.Match) -> str:
        if match[2] not in tables:
            raise InputError(f"{document}: no table {match[2]!r}; there are {', '.join(tables)}")
        return match[1] + tables[match[2]] + "\n" + match[3]

    return MARKED.sub(write, document.read_text())


def main() -> None:
    tables = markdown_tables()
    for document in DOCUMENTS:
        document.write_text(updated(document, tables))


if __name__ == "__main__":
    main()
