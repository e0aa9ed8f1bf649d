"""What a trial asks of a population is known before any job."""

from pathlib import Path

import pandas as pd
import pytest

from cardiocohort.cohort import covariates, people
from cardiocohort.cohort.covariates import Distribution
from cardiocohort.cohort.grammar import parse_edits
from cardiocohort.cohort.table import Arm, read_cohort
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART, HEART_GRID
from synthetic_population import given

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "resources/priors/people/reference_moments.parquet"
RULES = ROOT / "resources/anatomies/heart/topology.tsv"


KNOWN = covariates.known()


def arm(**values):
    return Arm("a", 1, given(**values), None, (), ())


def check(*arms, reference=SHIPPED):
    return people.check_trial(arms, "trial.tsv", reference, RULES, KNOWN, HEART_GRID)


def test_the_demo_asks_for_nothing_that_is_not_there():
    assert check(*read_cohort(ROOT / "config/cohort.tsv", HEART)) == []


def test_an_unknown_condition_lists_those_that_exist():
    with pytest.raises(InputError, match=r"arm 'a', column 'condition': 'ph' is not .* healthy"):
        check(arm(condition="ph"))


def test_volumes_per_area_need_areas_in_the_population(tmp_path):
    per_area = Arm("a", 1, {}, None, (), parse_edits("aorta.volume: 30 mL/m2", HEART))
    assert check(per_area) == []
    people.tables.read_table(SHIPPED, {}).drop(columns="bsa_m2").to_parquet(tmp_path / "r.parquet")
    with pytest.raises(InputError, match=r"arm 'a', column 'edits': aorta\.volume .*'bsa_m2'; write mL"):
        check(per_area, reference=tmp_path / "r.parquet")


def test_ages_beyond_the_population_are_a_warning():
    (warning,) = check(arm(age_years=Distribution("uniform", (5.0, 40.0)), bsa_m2=1.8))
    ages = pd.read_parquet(SHIPPED)["age_years"]
    population = f"{ages.min():.4g} to {ages.max():.4g}"
    assert f"age_years reaches 5 to 40, outside the reference population's {population}" in warning


@pytest.mark.parametrize(
    "name", ["tetralogy_of_fallot", "VSD", "fontan", "hlhs", "d_tga", "dextrocardia", "dorv_repaired"]
)
def test_a_condition_that_the_gate_excludes_is_refused(tmp_path, name):
    table = pd.read_parquet(SHIPPED).iloc[:20]
    table.assign(condition=name).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(InputError, match=rf"reference table .*{name}.*cannot be made: .*topology rules"):
        check(reference=tmp_path / "r.parquet")


@pytest.mark.parametrize(
    "name", ["healthy", "advsd1", "dilated_cardiomyopathy", "pulmonary_hypertension", "asdf"]
)
def test_other_conditions_are_not_refused(name):
    people.check_conditions([name], people.read_exclusions(RULES.with_name("topology_conditions.tsv")), "x")


def test_columns_that_nothing_uses_are_named(tmp_path):
    table = pd.read_parquet(SHIPPED).iloc[:300].assign(grip_n=300.0, heigth_cm="tall")
    for path in (tmp_path / "r.parquet", tmp_path / "r.tsv"):
        table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, sep="\t", index=False)
        (warning,) = check(reference=path)
        assert "columns grip_n, heigth_cm are not used" in warning
        assert r"'column\tkind\tlow\thigh\ngrip_n\tnumeric\t300\t300'" in warning


def test_populations_too_small_for_their_covariates_are_refused(tmp_path):
    table = pd.read_parquet(SHIPPED).iloc[:200]  # 20 subjects
    sites = table["subject"].map(lambda name: f"site{int(name[-5:]) % 7}")
    table.assign(race=sites).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(
        InputError, match=r"20 subjects; .* needs at least 2\d.*bsa_m2, condition, race: leave"
    ):
        check(reference=tmp_path / "r.parquet")
    table.iloc[:0].to_parquet(tmp_path / "r.parquet")
    with pytest.raises(InputError, match=r"r\.parquet: the reference table has no rows"):
        check(reference=tmp_path / "r.parquet")


def test_every_excluded_condition_names_rules_of_the_gate():
    known = {line.split("\t")[0] for line in RULES.read_text().splitlines()}
    for _, rules, _ in people.read_exclusions(RULES.with_name("topology_conditions.tsv")):
        first = rules.split(",")[0].split(".")[0]
        assert first in known or first == "positions of the convention"


def test_a_table_without_covariates_is_described(tmp_path):
    table = pd.read_parquet(SHIPPED).iloc[:30].drop(columns=list(covariates.STANDARD))
    table.to_parquet(tmp_path / "r.parquet")
    summary = people.described(people.read_people(tmp_path / "r.parquet", KNOWN), KNOWN)
    assert summary["subjects"].tolist() == [3, 3]
