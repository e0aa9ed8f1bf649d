"""Figures that the documents quote are those of the tables that ship beside the bundle."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from cardiocohort.evaluation import (
    acceptance_criteria,
    coupling,
    fidelity,
    gate_rates,
    realism_table,
    summary,
)
from cardiocohort.evaluation.ellipsoid_benchmark import grid as ellipsoid_grid
from cardiocohort.prior import model_card

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "resources/priors/small"
COLUMNS = {
    "realism": realism_table.COLUMNS,
    "fidelity": fidelity.COLUMNS,
    "coupling": coupling.COLUMNS,
    "topology": gate_rates.TOPOLOGY,
    "extremes": gate_rates.EXTREMES,
    "known": ellipsoid_grid.COLUMNS,
}
BASELINE = ("realism", "fidelity", "topology")
BASELINE_WEIGHTS = "600d3a36cf1280fa"  # of the bundle that shipped when the baseline was run
NUMBER = r"(?<![\w-])\d+(?:\.\d+)?"


def read(folder, names):
    return {
        name: pd.read_csv(folder / f"{name}.tsv", sep="\t", keep_default_na=False, na_values=[""])
        for name in names
    }


@pytest.fixture(scope="module")
def found():
    return read(BUNDLE / "evaluation", COLUMNS)


@pytest.fixture(scope="module")
def held(found):
    return acceptance_criteria.criteria(found["realism"], found["coupling"])


@pytest.fixture(scope="module")
def baseline():
    """Tables of the run that had the implicit baseline, beside held-out hearts."""
    tables = read(BUNDLE / "evaluation/implicit", BASELINE)
    tables["realism"] = tables["realism"].query("reference == 'reference'")
    return tables


@pytest.fixture(scope="module")
def sections():
    """Of the document, on the shipped prior and on the implicit baseline."""
    text = (ROOT / "docs/evaluation.md").read_text().split("## The shipped prior")[1]
    return text.split("### An earlier implicit baseline")


def of_baseline(tables):
    made = [summary.realism, summary.errors, summary.topology]
    return "\n\n".join(make(tables[name]) for make, name in zip(made, BASELINE, strict=True))


@pytest.mark.parametrize("name", COLUMNS)
def test_the_tables_have_the_stages_columns(found, name):
    assert set(COLUMNS[name]) <= set(found[name].columns)
    assert len(found[name]) > 0


def test_the_figures_of_the_shipped_prior_are_those_of_its_tables(found, held, baseline, sections):
    """The document's tables are what the stage writes from them, to the letter."""
    for text, made in zip(sections, (summary.markdown(found, held), of_baseline(baseline)), strict=True):
        for block in made.strip().split("\n\n"):
            assert block in text, block.splitlines()[0]
        shown = [line for line in text.splitlines() if line.startswith("|")]
        assert len(shown) == sum(line.startswith("|") for line in made.splitlines())


def test_no_number_stands_in_the_text_that_is_not_in_a_table(found, held, baseline, sections):
    """Words between the tables quote figures of the tables only; the paragraph on a run states its own."""
    own = json.loads((BUNDLE / "bundle.json").read_text())["weights_sha256"][:16]
    tables = summary.markdown(found, held) + json.dumps(held), of_baseline(baseline)
    for text, made, weights in zip(sections, tables, (own, BASELINE_WEIGHTS), strict=True):
        run, *rest = [p for p in text.split("\n\n") if p.strip() and not p.startswith("|")]
        assert weights in run
        known = set(re.findall(r"\d+(?:\.\d+)?", made))
        for number in re.findall(NUMBER, " ".join(rest)):
            assert number in known, number


def test_the_card_and_the_readme_quote_the_tables(found, held):
    made = summary.overview(found)
    figures, described = (json.loads((BUNDLE / name).read_text()) for name in ("card.json", "bundle.json"))
    own, evaluated = (BUNDLE / "CARD.md").read_text().split("\n## Evaluation\n")
    assert own == model_card.markdown(figures, described)
    text = evaluated.replace(made, "")
    assert text != evaluated
    assert re.findall(NUMBER, text) == ["95"]  # % intervals
    readme = (ROOT / "README.md").read_text()
    (paragraph,) = [p for p in readme.split("\n\n") if "`evaluate`" in p]
    quoted = paragraph.split("`evaluate`")[1].split("](docs/evaluation.md)")[0]
    known = set(re.findall(r"\d+(?:\.\d+)?", made + json.dumps(held)))
    numbers = re.findall(NUMBER, quoted)
    assert len(numbers) > 3
    assert set(numbers) <= known
