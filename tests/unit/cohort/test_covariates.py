"""The table of covariates, its columns in tables of people, and its cells in the cohort table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.cohort import covariates, stage_tables, table
from cardiocohort.cohort.covariates import Covariate, Distribution, known, parse_cell
from cardiocohort.cohort.table import Arm, read_cohort
from cardiocohort.population.covariates import quantile
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART
from workflow_runs import COLUMNS

NYHA = Covariate("nyha", "nyha", "categorical")
OWN = "column\tkind\tunit\tlow\thigh\ttransform\tlevels\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# the table


def test_the_standard_covariates_come_first_and_have_the_columns_of_every_cohort_table():
    assert tuple(known())[:4] == covariates.STANDARD
    assert [known()[name].cohort_column for name in covariates.STANDARD] == ["sex", "age", "bsa", "condition"]
    assert known()["sex"].levels == ("female", "male")
    assert (known()["bsa_m2"].low, known()["bsa_m2"].high, known()["bsa_m2"].transform) == (0.2, 4.0, "log")


def test_the_documentation_shows_the_table_of_covariates_and_its_columns():
    text = (Path(__file__).resolve().parents[3] / "docs/cohort-table.md").read_text(encoding="utf-8")
    section = text.partition("## Covariates")[2].partition("## Constraints")[0]
    assert f"<!-- table: covariates -->\n{covariates.markdown(known())}\n<!-- end -->" in section, (
        "python -m cardiocohort.evaluation.documents"
    )
    for name in covariates.COLUMNS:
        assert f"`{name}`" in section


def test_a_row_of_the_documentation_has_names_kind_and_values():
    lines = covariates.markdown(
        known() | {"smoker": Covariate("smoker", "smokes", "categorical", "", levels=("no", "yes"))}
    )
    rows = {line.split(" | ")[0].strip("|` "): line for line in lines.splitlines()[2:]}
    assert list(rows) == [*known(), "smoker"]
    assert rows["bsa_m2"] == "| `bsa_m2` | `bsa` | numeric | 0.2 to 4 m² | body-surface area |"
    assert rows["smoker"].startswith("| `smoker` | `smokes` | categorical | no, yes |")
    assert "| categorical | any names |" in rows["nyha"]


def test_no_covariate_can_have_the_name_of_a_column_that_tables_have():
    own = {c.cohort_column for c in known().values()}
    columns = {*table.COLUMNS, *table.OPTIONAL_COLUMNS, *table.REFERENCE_COLUMNS} - own
    columns |= {*stage_tables.TARGETS, *stage_tables.JUDGED}
    assert columns <= set(covariates.RESERVED)


def test_a_users_table_adds_covariates_and_changes_ranges(tmp_path):
    text = OWN + "# from the registry\n\nlvot_gradient\tnumeric\tmmHg\t0\t300\t\t\ncentre\tcategorical\n"
    text += "height_cm\tnumeric\tcm\t100\t230\tlog\t\n"
    found = known(write(tmp_path / "own.tsv", text))
    assert found["lvot_gradient"] == Covariate("lvot_gradient", "lvot_gradient", "numeric", "mmHg", 0, 300)
    assert list(found) == [*known(), "lvot_gradient", "centre"]
    assert found["height_cm"].low == 100
    assert {**found, "height_cm": 0} == {**known(), "height_cm": 0} | {
        name: found[name] for name in ("lvot_gradient", "centre")
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("volume_ml\tnumeric\t\t0\t1\t\t", "column 'column': 'volume_ml' cannot name"),
        ("seed\tcategorical\t\t\t\t\t", "column 'column': 'seed' cannot name"),
        ("1st\tnumeric\t\t0\t1\t\t", "'1st' cannot name"),
        ("grip\tfloat\t\t0\t1\t\t", "column 'kind': 'float' .* numeric, categorical"),
        ("grip\tnumeric\t\t\t1\t\t", "column 'low': '' is not a number"),
        ("grip\tnumeric\t\t3\t3\t\t", "'low' and 'high': 3 and 3"),
        ("grip\tnumeric\t\t0\t3\tlog\t", "above 0 for the transform log"),
        ("grip\tnumeric\t\t1\t3\tsquare\t", "'square' is none; allowed: identity, log"),
        ("grip\tnumeric\t\t1\t3\t\ta, b", "column 'levels': a numeric covariate has none"),
        ("grip\tcategorical\t\t1\t3\t\t", "column 'low': a categorical covariate has none"),
        ("grip\tcategorical\t\t\t\t\tany, b", "column 'levels': 'any, b' are no levels"),
        ("grip\tcategorical\t\t\t\t\tb", "two or more names"),
        ("grip\tcategorical\t\t\t\t\t\tx", "more cells than the 7 columns"),
        ("age\tnumeric\t\t0\t9\t\t", "a name of the covariate 'age_years'"),
        ("sex\tnumeric\t\t0\t9\t\t", "'sex' is categorical, with the cohort column 'sex'"),
        ("grip\tcategorical\ngrip\tcategorical", "column 'column': 'grip' is there already"),
    ],
)
def test_a_bad_row_names_file_row_and_column(tmp_path, row, message):
    path = write(tmp_path / "own.tsv", f"{OWN}{row}\n")
    with pytest.raises(InputError, match=rf"own\.tsv, row [23].*{message}"):
        known(path)


@pytest.mark.parametrize("header", ["kind\tunit", "column\tkind\tkind", "column\tkind\tcolour", ""])
def test_a_header_that_is_none(tmp_path, header):
    with pytest.raises(InputError, match=r"own\.tsv, row 1: .*the columns are column, cohort_column, kind"):
        known(write(tmp_path / "own.tsv", f"{header}\n"))


# columns of tables of people


def people(**columns) -> pd.DataFrame:
    return pd.DataFrame({"subject": ["a", "a", "b", "b"]} | columns)


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
@pytest.mark.parametrize(
    "values",
    [["2", "2", "3", "3"], [2, 2, 3, 3], [2.0, 2.0, 3.0, 3.0], pd.Categorical(["2", "2", "3", "3"])],
)
def test_levels_are_read_alike_from_text_and_numbers(tmp_path, suffix, values):
    path, frame = tmp_path / f"t.{suffix}", people(nyha=values, height_cm=[170, 170, 181.5, 181.5])
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, sep="\t", index=False)
    read = covariates.read_table(path, {"subject": "str"}, known())
    assert read["height_cm"].tolist() == [170.0, 170.0, 181.5, 181.5]
    assert read["nyha"].tolist() == ["2", "2", "3", "3"]


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"height_cm": [170.0, 170.0, np.nan, np.nan]},
            ["'height_cm': the cell is empty", "1 of 2 subjects"],
        ),
        ({"nyha": ["II", "II", None, None]}, ["'nyha': the cell is empty", "best left out"]),
        ({"height_cm": [1.7, 1.7, 1.8, 1.8]}, ["'height_cm'", "1.7 is not in the range 30 to 250 cm"]),
        ({"ejection_fraction": [0.6, 0.6, 0.5, 0.5]}, ["'ejection_fraction'", "0.6", "5 to 95 %"]),
        ({"height_cm": ["tall"] * 4}, ["'height_cm'", "'tall' is not in the range"]),
        ({"nyha": ["II/III"] * 4}, ["'nyha'", "'II/III' is not a name of letters"]),
        ({"nyha": ["any"] * 4}, ["'nyha'", "'any' is not a name"]),
        ({"nyha": ["I", "II", "I", "I"]}, ["'nyha': 'II'", "a subject has one value"]),
        ({"height_cm": [170, 171, 170, 170]}, ["'height_cm': 171", "a subject has one value"]),
    ],
)
def test_a_covariate_of_some_subjects_or_of_no_person_is_refused(tmp_path, suffix, columns, words):
    path, frame = tmp_path / f"t.{suffix}", people(**columns)
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError) as error:
        covariates.read_table(path, {"subject": "str"}, known())
    for word in (str(path), "row", *words):
        assert word in str(error.value)


# cells of the cohort table


@given(shares=st.lists(st.integers(1, 100), min_size=2, max_size=6), space=st.sampled_from(["", " "]))
@settings(max_examples=50, deadline=None)
def test_shares_read_back_and_are_those_of_the_ranks(shares, space):
    levels = [f"l{k}" for k in range(len(shares))]
    percent = np.round(100.0 * np.array(shares) / sum(shares), 9)
    text = ",".join(
        f"{space}{p!r}{space}% {level}" for p, level in zip(percent.tolist(), levels, strict=True)
    )
    distribution = parse_cell(text.strip(), NYHA)
    assert distribution.levels == tuple(levels)
    drawn = [quantile(distribution, (k + 0.5) / 1000, np.nan, np.nan) for k in range(1000)]
    for level, p in zip(levels, percent, strict=True):
        assert drawn.count(level) == pytest.approx(10 * p, abs=1.0)


def test_a_level_a_mixture_and_an_open_cell():
    sex = known()["sex"]
    assert parse_cell("male", sex).levels == ("male",)
    assert parse_cell("30 % male", sex) == Distribution("shares", (("female", 0.7), ("male", 0.3)))
    assert parse_cell("100% female", sex).levels == ("female",)
    assert parse_cell("25 % male, 75 % female", sex).parameters == (("male", 0.25), ("female", 0.75))
    assert parse_cell("II", NYHA) == Distribution("shares", (("II", 1.0),))
    assert parse_cell("any", NYHA) is parse_cell("", sex) is None


@pytest.mark.parametrize(
    "text",
    ["60 % II", "60 % II, 50 % III", "II, III", "50 % II, 50 % II", "II III", "-10 % I, 110 % II", "?"],
)
def test_shares_that_are_none(text):
    with pytest.raises(InputError, match=r"is not a nyha; allowed: a name as in .* 'nyha'.*100 % together"):
        parse_cell(text, NYHA)
    with pytest.raises(InputError, match="is not a sex; allowed: female, male, any"):
        parse_cell(text, known()["sex"])


def cohort(tmp_path, columns, cells) -> list[Arm]:
    text = f"{COLUMNS}\t{columns}\nill\t2\tany\t\t\t\t\t\t\t{cells}\n"
    return read_cohort(write(tmp_path / "trial.tsv", text), HEART, known(_registry(tmp_path)))


def _registry(tmp_path):
    return write(tmp_path / "own.tsv", "column\tcohort_column\tkind\nsite_of_care\tsite\tcategorical\n")


def test_a_cohort_table_names_any_covariate(tmp_path):
    (arm,) = cohort(tmp_path, "height_cm\tnyha\tsite", "160..175\t40 % II, 60 % III\tnorth")
    assert arm.covariates == {
        "height_cm": Distribution("uniform", (160.0, 175.0)),
        "nyha": Distribution("shares", (("II", 0.4), ("III", 0.6))),
        "site_of_care": Distribution("shares", (("north", 1.0),)),
    }
    assert Arm.from_dict(arm.to_dict()).covariates == arm.covariates


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("heigth_cm", "170", r"row 1: unknown column 'heigth_cm' \(did you mean 'height_cm'\?\)"),
        ("age_years", "50", r"unknown column 'age_years' \(did you mean 'age'\?\); the columns are arm"),
        ("site_of_care", "x", "unknown column 'site_of_care' .did you mean 'site'"),
        (
            "height_cm",
            "1.72",
            "row 2, column 'height_cm': 1.72 in '1.72' is out of range; allowed: 30 to 250",
        ),
        ("ejection_fraction", "40..120", "row 2, column 'ejection_fraction': 120 in"),
        ("nyha", "II or III", "row 2, column 'nyha': 'II or III' is not a nyha"),
    ],
)
def test_a_cell_that_no_person_can_have(tmp_path, column, cell, message):
    with pytest.raises(InputError, match=message):
        cohort(tmp_path, column, cell)
