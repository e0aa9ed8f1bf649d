"""Endpoints are checked before any job: each mistake has its own message, with what is allowed."""

import pytest

from cardiocohort.cohort import covariates, subject_columns
from cardiocohort.config.check import complete
from cardiocohort.runtime.errors import InputError
from cardiocohort.trial import endpoints
from heart_anatomy import HEART

FREE = {"base": "", "covariates": {}, "constraints": {}}
AGE = {"age_years": {"kind": "fixed", "parameters": [60.0]}}
ARMS = {"healthy": FREE | {"name": "healthy"}, "ph": FREE | {"name": "ph"}}
SIZES = {"healthy": 20, "ph": 20}
COLUMNS = subject_columns.columns(HEART.structures, covariates.known(), {})
LV = "left_ventricle_volume_ml"


def checked(arms=ARMS, sizes=SIZES, shared=(), **section):
    return endpoints.check(config(**section), COLUMNS, arms, sizes, shared)


def config(simulation=None, meshing=None, **section):
    whole = {"endpoints": {"primary": {LV: {}}} | section}
    return complete(whole | {"simulation": simulation or {}, "meshing": meshing or {}})


def test_endpoints_have_the_unit_of_their_column():
    margin = {"test": "equivalence", "margin": 5, "unit": "g/m2"}
    found = checked(secondary={"myocardium_mass_index_g_m2": margin}, reference_arm="ph")
    assert [(e.column, e.unit, e.kind, e.equivalence) for e in found] == [
        (LV, "mL", "primary", False), ("myocardium_mass_index_g_m2", "g/m2", "secondary", True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"primary": {"left_ventricle_volum_ml": {}}},
            r"no column 'left_ventricle_volum_ml'; did you mean " + LV,
        ),
        ({"primary": {}}, r"'endpoints.primary' is empty"),
        ({"primary": {"arm": {}}}, "holds text"),
        ({"primary": {"seed": {}}}, "constant within an arm"),
        ({"primary": {"simulation_lv_pressure_kpa": {}}}, "constant, since the configuration sets it"),
        ({"primary": {LV: {"margin": 5}}}, r"the margin 5 has no unit; write unit: 'mL'"),
        ({"primary": {LV: {"margin": 5, "unit": "L"}}}, "unit is 'L', the column's is 'mL'"),
        ({"primary": {LV: {"test": "equivalence"}}}, r"equivalence needs a margin above 0, in mL; it has 0"),
        ({"secondary": {LV: {}}}, "is a primary endpoint already"),
        ({"reference_arm": "helthy"}, r"'helthy' is no arm of the cohort table; allowed: healthy, ph"),
        ({"adjust_for": ["bmi", "volume"]}, r"'volume' is no covariate; allowed: .*bsa_m2"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(section, said):
    with pytest.raises(InputError, match=said):
        checked(**section)


@pytest.mark.parametrize(
    "section",
    [
        {"primary": {LV: {"test": "better"}}},
        {"primary": {LV: {"margins": 5}}},
        {"alpha": 0.7},
        {"primary": [LV]},
    ],
)
def test_the_schema_knows_what_an_endpoint_is_made_of(section):
    with pytest.raises(InputError, match=r"endpoints\."):
        complete({"endpoints": section})


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (
            "simulation_lv_ef",
            r"'endpoints.primary.simulation_lv_ef'.* needs a beat.*simulation.cycle.beats: 0; set "
            r"simulation: \{cycle: \{beats: 10\}\}",
        ),
        ("simulation_lv_longitudinal_strain", "needs a beat"),
        ("simulation_rv_stroke_index_ml_m2", "needs a beat"),
        (
            "simulation_image_residual_mm",
            r"simulation_image_residual_mm'.* needs the unloading.*simulation.reference: image; set "
            r"simulation: \{reference: unloaded\}",
        ),
        ("simulation_unloading_iterations", "needs the unloading"),
    ],
)
def test_a_column_that_the_config_never_fills_is_no_endpoint(column, said):
    with pytest.raises(InputError, match=said):
        checked(primary={column: {}})
    full = config({"cycle": {"beats": 1}, "reference": "unloaded"}, primary={column: {}})
    assert [e.column for e in endpoints.check(full, COLUMNS, ARMS, SIZES)] == [column]


def test_figures_of_ventricles_are_no_endpoints_of_other_meshes():
    labels = config(meshing={"domain": "labels"}, secondary={"rv_mass_index_g_m2": {}})
    with pytest.raises(InputError, match=r"secondary.rv_mass_index_g_m2'.*meshing.domain: labels"):
        endpoints.check(labels, COLUMNS, ARMS, SIZES)
    for column in ("rv_mass_index_g_m2", "simulation_lv_fibre_strain"):
        assert checked(secondary={column: {}})


def test_an_arm_of_one_heart_has_no_spread():
    with pytest.raises(InputError, match="arm 'ph' has 1 heart"):
        checked(sizes=SIZES | {"ph": 1})


def test_siblings_of_one_label_map_file_count_as_one_heart():
    of_map = {"base": "scans/one.nii.gz"}
    for arms in (
        {"healthy": FREE | of_map, "ph": FREE},
        {"healthy": FREE, "ph": FREE | of_map},
        {"healthy": FREE | of_map, "ph": FREE | {"base": "healthy"}},
    ):
        with pytest.raises(InputError, match=r"one label map file \(scans/one.nii.gz\)"):
            checked(arms=arms)
    with pytest.raises(InputError, match="arm 'ph' have the same explicit targets"):
        checked(arms=ARMS | {"ph": FREE}, shared={"ph"})
    third = {"healthy": FREE, "ph": FREE, "scan": FREE | of_map}
    assert checked(arms=third, sizes=SIZES | {"scan": 4})


def test_one_arm_is_no_trial():
    with pytest.raises(InputError, match="this cohort has 1"):
        checked(arms={"healthy": ARMS["healthy"]})


def test_a_covariate_that_the_table_fixes_for_all_is_constant():
    fixed = {name: arm | {"covariates": AGE} for name, arm in ARMS.items()}
    with pytest.raises(InputError, match=r"endpoints.primary.age_years.*constant"):
        checked(arms=fixed, primary={"age_years": {}})
    checked(arms=fixed | {"ph": ARMS["ph"]}, primary={"age_years": {}})
