"""Virtual patients against the published tables that they are drawn from."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiocohort.cohort import people
from cardiocohort.prior import published as tables
from cardiocohort.prior.virtual_patients import CHAMBERS, draw, read_published, wall_growth
from cardiocohort.report import reference_values
from cardiocohort.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "resources/reference"
HYPERTENSION = "pulmonary_hypertension"
AGE_SD = 60 / np.sqrt(12)  # uniform from 20 to 80 years
SEX_RATIO = {"female": 132 / 146, "male": 160 / 146}  # of the healthy LV, Kawel-Boehm 2015


@pytest.fixture(scope="module")
def published():
    return read_published(REFERENCE / "reference_values.tsv")


@pytest.fixture(scope="module")
def patients(published):
    rng = np.random.default_rng(3)
    drawn = [draw(rng, published, ("aorta", "pulmonary_vein")) for _ in range(20000)]
    return pd.DataFrame([{**vars(patient), **patient.volumes_ml} for patient in drawn])


@pytest.fixture
def copy(tmp_path):
    for name in ("reference_values.tsv", "relations.tsv"):
        shutil.copy(REFERENCE / name, tmp_path / name)
    return tmp_path


def _cells(path):
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


# ---- means and spreads


@pytest.mark.parametrize(
    ("structure", "condition", "sex", "mean", "sd"),
    [
        ("right_ventricle", "heart_failure_reduced_ejection", "male", 75.0 * 1.9, 29.4 * 1.9),  # DERIVATE
        ("left_atrium", "atrial_fibrillation", "female", 80.8 * 1.7, 23.6 * 1.7),  # Moon, pooled
        (
            "myocardium",
            "hypertrophic_cardiomyopathy",
            "female",
            89 * 1.7 / 1.05,
            33 * 1.7 / 1.05,
        ),  # Olivotto 2008
        (
            "left_atrium",
            "hypertrophic_cardiomyopathy",
            "male",
            103 * 46 / 33,
            103 * 18 / 33,
        ),  # ratio to relatives
        (
            "left_ventricle",
            "dilated_cardiomyopathy",
            "male",
            285 * SEX_RATIO["male"],
            48 * SEX_RATIO["male"],
        ),  # ACDC
        (
            "left_ventricle",
            "heart_failure_reduced_ejection",
            "female",  # two groups of ACDC in equal parts
            (285 + 172) / 2 * SEX_RATIO["female"],
            np.sqrt((48**2 + 43**2) / 2 + ((285 - 172) / 2) ** 2) * SEX_RATIO["female"],
        ),
    ],
)
def test_rows_become_the_volumes_that_they_say(published, structure, condition, sex, mean, sd):
    assert published.volumes_ml[structure, condition, sex] == pytest.approx((mean, sd), rel=0.01)


@pytest.mark.parametrize("structure", CHAMBERS)
def test_drawn_means_and_spreads_agree_with_the_table(published, patients, structure):
    """Within four standard errors, and what the cut at two SDs takes: 3 % of the mean, 20 % of the SD."""
    for (condition, sex), own in patients.groupby(["condition", "sex"]):
        if condition == HYPERTENSION and structure.endswith("ventricle"):
            continue  # these two are split by a ratio of their own
        mean, sd = published.volumes_ml[structure, condition, sex]
        n = len(own)
        assert n > 300
        assert abs(own[structure].mean() - mean) < 4 * sd / np.sqrt(n) + 0.03 * mean, (condition, sex)
        assert 0.8 - 2 / np.sqrt(2 * n) < own[structure].std() / sd < 1 + 4 / np.sqrt(2 * n), (condition, sex)


def test_shares_of_conditions_and_sexes(published, patients):
    shares = patients["condition"].value_counts(normalize=True)
    assert set(shares.index) == set(published.prevalence)
    for condition, share in published.prevalence.items():
        assert abs(shares[condition] - share) < 4 * np.sqrt(share * (1 - share) / len(patients))
    assert (patients["sex"] == "female").mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(patients)))


# ---- age


@pytest.mark.parametrize(
    ("structure", "condition", "slope_ml"),
    [
        ("left_ventricle", "healthy", {"female": -0.8, "male": -0.8}),  # MESA
        ("myocardium", "healthy", {"female": -0.3 / 1.05, "male": -0.3 / 1.05}),  # MESA
        ("right_ventricle", "healthy", {"female": -0.35 * 35 / AGE_SD, "male": -0.35 * 33 / AGE_SD}),
        ("left_atrium", "healthy", {"female": 0.0, "male": 0.0}),  # Maceira
        ("left_ventricle", "dilated_cardiomyopathy", {"female": -0.8 * 285 / 146, "male": -0.8 * 285 / 146}),
    ],
)
def test_regression_recovers_the_change_with_age(patients, structure, condition, slope_ml):
    """Within four standard errors of the regression coefficient, with body size beside age."""
    for sex, slope in slope_ml.items():
        own = patients[(patients["sex"] == sex) & (patients["condition"] == condition)]
        design = np.column_stack([np.ones(len(own)), own["age_years"], own["bsa_m2"]])
        fit, residual, *_ = np.linalg.lstsq(design, own[structure], rcond=None)
        error = np.sqrt(residual[0] / (len(own) - 3) * np.linalg.inv(design.T @ design)[1, 1])
        assert abs(fit[1] - slope) < 4 * error, (structure, sex)
        assert slope == 0 or abs(slope) > 4 * error  # the test could tell it from none


# ---- pulmonary hypertension, hypertrophy


def test_right_over_left_ventricle_lies_in_the_published_classes(published, patients):
    own = patients[patients["condition"] == HYPERTENSION]
    ratio = own["right_ventricle"] / own["left_ventricle"]
    assert ratio.between(1.27, 3.0).all()
    for (low, high), share in zip([(1.27, 1.7), (1.7, 2.3), (2.3, 3.0)], (0.4, 0.35, 0.25), strict=True):
        found = ratio.between(low, high).mean()
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / len(own))
    middle = np.sqrt(own["right_ventricle"] * own["left_ventricle"])
    healthy = patients[patients["condition"] == "healthy"]
    expected = np.sqrt(healthy["right_ventricle"] * healthy["left_ventricle"]).mean() * 1.03
    assert middle.mean() == pytest.approx(expected, abs=4 * middle.std() / np.sqrt(len(own)))


@pytest.mark.parametrize(
    ("condition", "mean", "sd"),
    [
        ("healthy", 1.0, 0.08 / 1.02),
        ("hypertrophic_cardiomyopathy", 1.76 / 1.02, 0.30 / 1.02),
        ("hypertrophic_concentric", 1.0, 0.08 / 1.02),
    ],
)
def test_the_septum_grows_as_in_its_pattern(patients, condition, mean, sd):
    drawn = patients.loc[patients["condition"] == condition, "septal_growth"]
    assert abs(drawn.mean() - mean) < 4 * sd / np.sqrt(len(drawn))
    # a normal distribution cut at two SDs, the rest lying on the bounds, keeps 0.959 of its SD
    assert drawn.std() == pytest.approx(0.959 * sd, rel=4 / np.sqrt(2 * len(drawn)))


@given(st.floats(0.5, 3), st.floats(0.3, 4), st.floats(0.05, 0.95))
def test_septum_and_free_wall_together_are_the_wall(septal_growth, wall_factor, share):
    septum, free_wall = wall_growth(septal_growth, wall_factor, share)
    assert share * septum + (1 - share) * free_wall == pytest.approx(wall_factor)
    assert septum / free_wall == pytest.approx(septal_growth)


# ---- the tables


def test_every_relation_matters(copy, published):
    """Another value in any row is another population, or an error where rows must sum to 1."""
    path = copy / "relations.tsv"
    rows = _cells(path)
    for i, row in rows.iterrows():
        low, high, _ = tables.RELATION_NAMES[tables._kind(row["name"])]
        value = float(row["value"])
        other = value + 0.01 * (high - low) * (1 if value + 0.01 * (high - low) <= high else -1)
        changed = rows.copy()
        changed.at[i, "value"] = str(other)
        changed.to_csv(path, sep="\t", index=False)
        if row["name"].startswith(("prevalence", "share_of_", "severity_share_")):
            with pytest.raises(InputError, match="must sum to 1"):
                read_published(copy / "reference_values.tsv")
        else:
            assert read_published(copy / "reference_values.tsv") != published, row["name"]


def test_every_published_volume_matters(copy, published):
    """To the patients, or beside a cohort in its report; rows of neither are named here."""
    path = copy / "reference_values.tsv"
    rows = _cells(path)
    values = reference_values.read_reference_values(path)
    unused = set()
    for i, row in rows[rows["structure"].isin([*CHAMBERS, "ascending_aorta"])].iterrows():
        changed = rows.copy()
        changed.at[i, "mean"] = str(1.1 * float(row["mean"]))
        changed.to_csv(path, sep="\t", index=False)
        people_of = reference_values.Who((row["group"],), ("female", "male"), 1.8)
        compared = reference_values.comparable(values.loc[[i]], people_of)
        if read_published(path) == published and compared.empty:
            unused.add((row["structure"], row["quantity"], row["source"].split(" (")[0]))
    assert unused == {("myocardium", "mass_index", "Petersen 2017")}


def test_every_assumption_is_listed_with_its_reason():
    rows = _cells(REFERENCE / "relations.tsv")
    listed = (ROOT / "docs/virtual-patients.md").read_text().split("<!-- table: assumptions -->")[1]
    lines = listed.splitlines()
    for _, row in rows[rows["kind"] == "assumption"].iterrows():
        start, end = f"| {row['name']} | ", f" | {row['source']} |"
        who = (row["structure"], row["group"])
        assert any(
            line.startswith(start) and line.endswith(end) and all(text in line for text in who)
            for line in lines
        ), row.tolist()
    published = set(rows.loc[rows["kind"] == "published", "source"])
    assert not any(line.endswith(f" | {source} |") for line in lines for source in published)


def test_the_gate_excludes_none_of_the_conditions(published):
    path = ROOT / "resources/anatomies/heart/topology_conditions.tsv"
    people.check_conditions(list(published.prevalence), people.read_exclusions(path), "relations.tsv")


def _replaced(column, value, **where):
    def change(rows):
        chosen = np.logical_and.reduce([rows[name] == text for name, text in where.items()])
        assert chosen.any()
        rows.loc[rows.index[chosen][0], column] = value
        return rows

    return change


def _without(**where):
    return lambda rows: rows[~np.logical_and.reduce([rows[name] == text for name, text in where.items()])]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "reference_values",
            _replaced("mean", "16O", quantity="mass"),
            r"s.tsv, row 8, column 'mean': '16O' is not a number",
        ),
        (
            "reference_values",
            _replaced("sd", "", quantity="mass"),
            r"s.tsv, row 8, column 'sd'.* is not a number above 0",
        ),
        (
            "reference_values",
            _replaced("sd", "-3", quantity="mass"),
            r"row 8, column 'sd': '-3' is not a number above 0",
        ),
        (
            "reference_values",
            _replaced("sd", "inf", quantity="mass"),
            r"row 8, column 'sd': 'inf' is not a number above 0",
        ),
        (
            "reference_values",
            _replaced("unit", "l", quantity="mass"),
            r"row 8, column 'unit': 'l' is not that of the quantity: mL ",
        ),
        (
            "reference_values",
            _replaced("quantity", "mass", structure="left_atrium"),
            r"row \d+, column 'quantity': 'mass' is not a volume",
        ),
        (
            "reference_values",
            _replaced("unit", "mL/m2", quantity="maximal_volume"),
            r"row \d+, column 'unit': 'mL/m2' is not that of the quantity",
        ),
        (
            "reference_values",
            _replaced("unit", "cm", structure="ascending_aorta"),
            r"row \d+, column 'unit': 'cm' is not that of the quantity: .* mm \(diameter\)",
        ),
        (
            "reference_values",
            _replaced("sd", "20", structure="ascending_aorta"),
            r"s.tsv: sd of the ascending_aorta of 'male' is 20; it must be below 13.35",
        ),
        (
            "relations",
            _replaced("value", "0.96", name="body_surface_sd"),
            r"relations.tsv: body_surface_sd of 'male' is 0.96; it must be below 0.95",
        ),
        (
            "reference_values",
            _replaced("sex", "men", quantity="mass"),
            r"row 8, column 'sex': 'men' is not female, male",
        ),
        ("reference_values", _replaced("source", "", quantity="mass"), r"row 8, column 'source'"),
        (
            "reference_values",
            _replaced("quantity", "size", structure="myocardium"),
            r"row 8, column 'quantity': 'size'",
        ),
        ("reference_values", lambda rows: rows.drop(columns="unit"), r"s.tsv: column 'unit' is missing"),
        ("reference_values", _without(structure="left_atrium"), r"no row of 'left_atrium', group 'healthy'"),
        (
            "reference_values",
            _without(structure="ascending_aorta"),
            r"no row of the ascending_aorta, sex 'female'",
        ),
        (
            "relations",
            _replaced("value", "x", name="age_lowest"),
            r"relations.tsv, row 13, column 'value': 'x' is not a number from 0 to 120",
        ),
        (
            "relations",
            _replaced("value", "nan", name="age_slope"),
            r"row \d+, column 'value': 'nan' is not a number from -5 to 5",
        ),
        (
            "relations",
            _replaced("value", "81", name="age_lowest"),
            r"age_lowest \(81\) is not below age_highest \(80\)",
        ),
        (
            "relations",
            _replaced("value", "0.5", name="prevalence"),
            r"rows prevalence sum to 1.1; they must sum to 1",
        ),
        (
            "relations",
            _replaced("unit", "mm/year", name="age_slope"),
            r"row \d+, column 'unit': 'mm/year' is not mL/year",
        ),
        (
            "relations",
            _replaced("kind", "guess", name="age_slope"),
            r"row \d+, column 'kind': 'guess' is not published or assumption",
        ),
        ("relations", _replaced("source", "", name="age_slope"), r"row \d+, column 'source'"),
        (
            "relations",
            _replaced("name", "age_slop", name="age_slope"),
            r"row \d+, column 'name': 'age_slop' is not one of prevalence, ",
        ),
        (
            "relations",
            _replaced("structure", "left_auricle", name="age_slope"),
            r"no row 'age_correlation' of structure 'left_ventricle'",
        ),
        (
            "relations",
            _replaced("group", "amyloidosis", name="variation"),
            r"row \d+, column 'name': 'variation' is not read by anything",
        ),
        (
            "relations",
            _replaced("group", "wellness", name="prevalence"),
            r"no row 'prevalence' of structure 'all', group 'healthy'",
        ),
        (
            "relations",
            _replaced("group", "amyloidosis", group="atrial_fibrillation"),
            r"no row of 'left_ventricle', group 'amyloidosis', and relations.tsv",
        ),
        (
            "relations",
            _replaced("name", "share_of_gout", name="share_of_dilated_cardiomyopathy"),
            r"names gout, infarct_reduced_ejection; allowed",
        ),
        (
            "relations",
            lambda rows: pd.concat([rows, rows.iloc[[3]]]),
            r"column 'name': .* is not new: an earlier row",
        ),
        ("relations", _without(name="widest_draw"), r"relations.tsv, column 'name': no row 'widest_draw'"),
    ],
)
def test_a_damaged_table_is_named_with_row_and_column(copy, file, change, message):
    path = copy / f"{file}.tsv"
    change(_cells(path)).to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match=message):
        read_published(copy / "reference_values.tsv")


def test_a_missing_table_of_relations_is_named(copy):
    (copy / "relations.tsv").unlink()
    with pytest.raises(InputError, match=r"relations\.tsv"):
        read_published(copy / "reference_values.tsv")
