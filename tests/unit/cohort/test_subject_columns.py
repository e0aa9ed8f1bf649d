"""The columns of the subject table: every one defined, every number with a unit, no name twice."""

import re

import pandas as pd
import pytest

from cardiocohort.cohort import covariates, subject_columns
from cardiocohort.cohort.covariates import Covariate
from cardiocohort.cohort.subject_columns import BEAT, DTYPES, INDEXED, NO_UNIT, SIMULATION, TEMPLATES
from cardiocohort.runtime.errors import InputError
from cardiocohort.simulation.beat_output import DIRECTIONS
from cardiocohort.simulation.subject import BEAT_FIGURES, FIGURES, VENTRICLES
from cardiocohort.simulation.wall_motion import MOTION
from heart_anatomy import HEART

ARM = {
    "constraints": {
        "aorta/left_ventricle": ["direction", "volume_ratio"],
        "aorta+left_atrium/myocardium": ["distance"],
    }
}
COLUMNS = subject_columns.columns(HEART.structures, covariates.known(), subject_columns.relations([ARM]))


def test_every_column_has_a_definition_a_stage_and_a_unit():
    for name, column in COLUMNS.items():
        assert re.fullmatch("[a-z][a-z0-9_]*", name)
        assert column.name == name
        assert column.definition
        assert column.stage
        assert "{" not in column.definition + name
        assert column.kind in DTYPES
        assert bool(column.unit) == (column.kind != "text"), name


UNITS = {
    "_ml": "mL", "_mm": "mm", "_g": "g", "_ml_m2": "mL/m2", "_g_m2": "g/m2", "_percent": "%",
    "_kpa": "kPa", "_kpa_s_ml": "kPa s/mL", "_per_cm": "1/cm", "_ratio": NO_UNIT, "_sphericity": NO_UNIT,
    "_mb": "MB", "_strain": NO_UNIT, "_shape_error": NO_UNIT,
}  # fmt: skip


@pytest.mark.parametrize("ending", UNITS)
def test_the_unit_is_the_one_in_the_name(ending):
    longer = tuple(other for other in UNITS if other.endswith(ending) and other != ending)
    of_ending = {
        name: c for name, c in COLUMNS.items() if name.endswith(ending) and not name.endswith(longer)
    }
    assert {column.unit for column in of_ending.values()} == {UNITS[ending]}


def test_every_quantity_of_the_simulation_table_is_defined():
    made = [name for name in COLUMNS if name.startswith(SIMULATION) and name not in INDEXED.values()]
    defined = {name.removeprefix(SIMULATION) for name in made}
    assert defined == {*FIGURES, "verdict", "reason", "detail"}


def test_an_indexed_column_needs_what_its_source_needs():
    for source, indexed in INDEXED.items():
        one, other = COLUMNS[source], COLUMNS[indexed]
        assert (one.unit, other.unit) == ("mL", "mL/m2")
        assert (one.needs, one.stage, one.role) == (other.needs, other.stage, other.role)


def test_figures_that_only_a_beat_gives_need_one():
    """Their names as the simulation has them, so that a new one is not forgotten."""
    strains = [f"lv_{name}_strain" for name in DIRECTIONS]
    figures = [f"{side}_{name}" for side in VENTRICLES for name in BEAT_FIGURES]
    others = ["beats", "periodic", "beat_iterations", "cardiac_output_l_min"]
    others += ["arterial_mean_kpa", "arterial_peak_kpa", "body_size", "systemic_resistance_kpa_s_ml"]
    of_beats = {SIMULATION + name for name in (*strains, *figures, *MOTION, *others)}
    needing = {name for name, column in COLUMNS.items() if column.needs == BEAT}
    assert needing - set(INDEXED.values()) == of_beats


def test_each_relation_has_a_column_for_its_target():
    for name in COLUMNS:
        if name.startswith(("distance_", "volume_ratio_", "direction_")):
            assert COLUMNS[f"target_{name}"].unit == COLUMNS[name].unit
            assert COLUMNS[f"target_{name}"].role == "target"


def test_relations_that_arms_constrain_have_columns():
    assert {f"direction_aorta_to_left_ventricle_{axis}" for axis in "xyz"} <= COLUMNS.keys()
    assert "volume_ratio_aorta_to_left_ventricle" in COLUMNS
    assert "distance_aorta_and_left_atrium_to_myocardium_mm" in COLUMNS
    n = len(HEART.structures)
    assert sum(name.startswith("distance_") for name in COLUMNS) == n * (n - 1) // 2 + 1


def test_two_ventricles_alone_have_no_columns_of_other_structures():
    few = subject_columns.columns(("left_ventricle", "right_ventricle"), {}, {})
    assert not [name for name in few if "atrium" in name or "myocardium" in name]


def test_a_covariate_with_the_name_of_a_column_is_an_error():
    own = {"mesh_wall_mass_g": Covariate("mesh_wall_mass_g", "mesh_wall_mass_g", "numeric", "g", 0, 500)}
    with pytest.raises(InputError, match=r"'mesh_wall_mass_g'.*'covariates_table'"):
        subject_columns.columns(HEART.structures, own, {})


def test_the_dictionary_and_the_file_must_agree():
    frame = pd.DataFrame(columns=list(COLUMNS))
    subject_columns.check("x.tsv", frame, COLUMNS)
    with pytest.raises(InputError, match=r"x.tsv: column 'extra' has no definition"):
        subject_columns.check("x.tsv", frame.assign(extra=1.0), COLUMNS)
    with pytest.raises(InputError, match="'seed' is defined but missing"):
        subject_columns.check("x.tsv", frame.drop(columns="seed"), COLUMNS)
    without = COLUMNS | {"seed": subject_columns.Column("seed", "", "x", "plan", "identity", "integer")}
    with pytest.raises(InputError, match="'seed' is a number without a unit"):
        subject_columns.check("x.tsv", frame, without)
    entries = subject_columns.dictionary(COLUMNS)["columns"]
    assert [entry["name"] for entry in entries] == list(COLUMNS)


def test_the_reference_page_lists_every_template():
    lines = subject_columns.reference()
    assert len(lines) == 2 + len(TEMPLATES)
    assert all(line.count("|") == 5 for line in lines)
