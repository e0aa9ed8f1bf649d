"""Writes the tables of the documents from the shipped priors and atlas and the TSV files beside them.

    python -m cardiocohort.evaluation.documents

Such a table stands between `<!-- table: prior/name -->` and `<!-- end -->`; text around it is left alone.
Those of the atlas are named atlas/name.
"""

import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import yaml

from ..anatomy.bundle_metadata import read_anatomy, read_card
from ..anatomy.folder import of_hearts
from ..cohort import covariates, people
from ..prior.published import assumptions
from ..runtime.errors import InputError
from . import acceptance_criteria, atlas_tables, summary

REPOSITORY = Path(__file__).resolve().parents[4]
PRIORS = REPOSITORY / "resources/priors"
ATLAS = REPOSITORY / "resources/atlas/evaluation"
HEART = REPOSITORY / "resources/anatomies/heart/anatomy.json"
RELATIONS = REPOSITORY / "resources/reference/relations.tsv"
DOCUMENTS = [
    REPOSITORY / name
    for name in (
        "docs/evaluation.md",
        "docs/validation/anatomies.md",
        "docs/validation/atlas.md",
        "docs/cohort-table.md",
        "docs/virtual-patients.md",
        *(f"resources/priors/{name}/CARD.md" for name in ("aorta", "knee", "people", "spine")),
    )
]
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


def read(folder: Path, names: Collection[str] = WRITERS) -> dict[str, pd.DataFrame]:
    """The tables `names` that lie in a folder, by name."""
    return {
        name: pd.read_csv(folder / f"{name}.tsv", sep="\t", keep_default_na=False, na_values=[""])
        for name in names
        if (folder / f"{name}.tsv").exists()
    }


def markdown_tables() -> dict[str, str]:
    """Name of a marked table -> its Markdown; those of a prior's evaluation are named prior/table."""
    evaluated = sorted(folder.parent for folder in PRIORS.glob("*/evaluation"))
    known = covariates.known()
    default = REPOSITORY / yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["bundle"]
    return {
        **{
            f"{bundle.name}/{name}": table
            for bundle in evaluated
            for name, table in _of_prior(bundle).items()
        },
        **{f"atlas/{name}": table for name, table in _of_atlas().items()},
        "anatomies": summary.anatomies(_of_anatomies(evaluated, default)),
        "assumptions": assumptions(RELATIONS),
        "covariates": covariates.markdown(known),
        "population": people.markdown(
            people.described(people.read_people(default / "reference_moments.parquet", known), known), known
        ),
    }


def _of_prior(bundle: Path) -> dict[str, str]:
    """Tables of the evaluation of a shipped bundle."""
    tables = read(bundle / "evaluation")
    figures = acceptance_criteria.read_figures(
        bundle / "card.json", read_card(bundle / "bundle.json")["weights_sha256"]
    )
    written = {
        **{name: WRITERS[name](table) for name, table in tables.items()},
        "overview": summary.overview(tables),
    }
    if of_hearts(read_anatomy(bundle / "bundle.json")[0]):  # the bars are those of hearts
        criteria = acceptance_criteria.criteria(tables, figures)
        written["acceptance_criteria"] = summary.acceptance(criteria)
    return written


def _of_anatomies(bundles: list[Path], default: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Evaluation of the default prior and of those of other anatomies, by the name of the anatomy."""
    others = [b for b in bundles if not of_hearts(read_anatomy(b / "bundle.json")[0])]
    return {"heart": read(default / "evaluation")} | {b.name: read(b / "evaluation") for b in others}


def _of_atlas() -> dict[str, str]:
    """Tables of the shipped atlas."""
    anatomy, _ = read_anatomy(HEART)
    return atlas_tables.writers(read(ATLAS, sorted(path.stem for path in ATLAS.glob("*.tsv"))), anatomy)


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
