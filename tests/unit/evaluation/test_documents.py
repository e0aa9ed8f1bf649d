"""The tables and figures that the documents quote are those of the TSV files that ship beside the bundle."""

import json
import re

import pytest
import yaml

from cardiocohort.evaluation import (
    acceptance_criteria,
    coupling,
    documents,
    fidelity,
    gate_rates,
    realism_table,
    summary,
)
from cardiocohort.evaluation.ellipsoid_benchmark import grid as ellipsoid_grid
from cardiocohort.prior import model_card
from cardiocohort.runtime.errors import InputError

ROOT = documents.REPOSITORY
DEFAULT = ROOT / yaml.safe_load((ROOT / "config/config.yaml").read_text())["bundle"]
PRIORS = sorted(path.parent.name for path in documents.PRIORS.glob("*/bundle.json"))
EVALUATED = sorted(path.parent.name for path in documents.PRIORS.glob("*/evaluation"))
COLUMNS = {
    "realism": realism_table.COLUMNS,
    "fidelity": fidelity.COLUMNS,
    "coupling": coupling.COLUMNS,
    "topology": gate_rates.TOPOLOGY,
    "extremes": gate_rates.EXTREMES,
    "known": ellipsoid_grid.COLUMNS,
}
NUMBER = r"(?<![\w-])\d+(?:\.\d+)?"


@pytest.mark.parametrize("prior", EVALUATED)
def test_the_tables_have_the_stages_columns(prior):
    tables = documents.read(documents.PRIORS / prior / "evaluation")
    assert {"realism", "fidelity", "topology"} <= tables.keys()
    for name, columns in COLUMNS.items():
        if name in tables:
            assert set(columns) <= set(tables[name].columns)
            assert len(tables[name]) > 0


def test_the_default_prior_is_evaluated():
    assert DEFAULT.name in EVALUATED


def test_the_documents_show_every_table_as_it_is():
    markdown = documents.markdown_tables()
    shown = set()
    for document in documents.DOCUMENTS:
        text = document.read_text()
        assert text == documents.updated(document, markdown), (
            f"{document.name} is stale: python -m cardiocohort.evaluation.documents"
        )
        shown |= {match[2] for match in documents.MARKED.finditer(text)}
    assert shown == markdown.keys()


def test_a_table_of_an_unknown_name_is_an_error(tmp_path):
    (tmp_path / "x.md").write_text("<!-- table: relism -->\n| a |\n<!-- end -->\n")
    with pytest.raises(InputError, match=r"x\.md: no table 'relism'; there are [a-z]+/realism, "):
        documents.updated(tmp_path / "x.md", documents.markdown_tables())


def test_results_name_their_weights_and_stand_between_markers():
    text = (ROOT / "docs/evaluation.md").read_text()
    (prior,) = {match[2].split("/")[0] for match in documents.MARKED.finditer(text)}
    own = json.loads((documents.PRIORS / prior / "bundle.json").read_text())["weights_sha256"][:16]
    section = re.split(r"^## ", text.split("\n## The shipped prior")[1], maxsplit=1, flags=re.MULTILINE)[0]
    assert own in section
    assert not re.search(r"^\|", documents.MARKED.sub("", section), re.MULTILINE)


@pytest.mark.parametrize("name", PRIORS)
def test_the_card_is_that_of_the_bundles_figures(name):
    folder = documents.PRIORS / name
    figures, described = (json.loads((folder / part).read_text()) for part in ("card.json", "bundle.json"))
    assert described["name"] == name
    assert figures["weights_sha256"] == described["weights_sha256"]
    card, evaluated = (folder / "CARD.md").read_text().split("\n## Evaluation\n")
    assert card == model_card.markdown(figures, described)
    assert (f"<!-- table: {name}/overview -->" in evaluated) == (name in EVALUATED)


def test_the_readme_quotes_the_tables():
    tables = documents.read(DEFAULT / "evaluation")
    figures_of_card = json.loads((DEFAULT / "card.json").read_text())
    criteria = acceptance_criteria.criteria(tables, figures_of_card)
    (paragraph,) = [p for p in (ROOT / "README.md").read_text().split("\n\n") if "`evaluate`" in p]
    quoted = re.findall(NUMBER, paragraph.split("`evaluate`")[1].split("](docs/evaluation.md)")[0])
    assert len(quoted) > 3
    assert set(quoted) <= set(
        re.findall(r"\d+(?:\.\d+)?", summary.overview(tables) + summary.acceptance(criteria))
    )
