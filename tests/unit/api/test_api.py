"""The library from Python: the public names, the page that shows them, and the same hearts as a cohort's."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

import cardiocohort
from cardiocohort import api
from cardiocohort.anatomy import moments
from cardiocohort.anatomy.label_map import LabelMap, read_label_map
from cardiocohort.cohort.table import read_cohort
from cardiocohort.generation import anatomies
from cardiocohort.population.explicit import read_targets
from cardiocohort.population.model import ENTRIES, fit
from cardiocohort.population.plausibility import population_for
from cardiocohort.population.reference import read_reference
from cardiocohort.population.targets import drawn_targets
from cardiocohort.runtime.errors import InputError, SubjectError
from heart_anatomy import HEART
from small_meshes import box
from tiny_prior import write_tiny_bundle

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "resources/priors/people"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    rules = folder / "rules.tsv"
    rules.write_text(
        "rule\tkind\tscope\tstructure\tother\topenings\topenings_mm\tpercentile\tmin\tmax\tunit\treason\n"
        "volume\tvolume\tany\twall\t\t\t\t\t1e9\t\tmL\tno heart is that large\n"
    )
    guidance = {"steps": 3, "max_miss": 1000}
    write_tiny_bundle(folder / "bundle")
    return cardiocohort.load_prior(folder / "bundle", rules, "cpu", max_attempts=2, guidance=guidance)


@pytest.fixture(scope="module")
def shipped():
    return cardiocohort.load_prior(device="cpu")


FUNCTIONS = [name for name in cardiocohort.__all__ if not name.endswith("Error")]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_is_described(name):
    """Each parameter has an entry with its type under Parameters, and what comes back its own."""
    function = getattr(cardiocohort, name)
    text = inspect.getdoc(function)
    described = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+$)", text, re.MULTILINE | re.DOTALL)[1]
    entries = {}
    for names, kind in re.findall(r"^(\S[^:\n]*?)(?: : (.+))?$", described, re.MULTILINE):
        entries |= dict.fromkeys(names.split(", "), kind)
    parameters = inspect.signature(function).parameters.values()
    stars = {p.name: "**" if p.kind is p.VAR_KEYWORD else "" for p in parameters}
    assert list(entries) == [star + p for p, star in stars.items()]
    assert all(entries.values()), entries
    assert re.search(r"^Returns\n-------\n\S", text, re.MULTILINE)


def test_public_names_are_functions_and_their_errors():
    assert len(FUNCTIONS) == 8
    assert (cardiocohort.InputError, cardiocohort.SubjectError) == (InputError, SubjectError)
    assert set(cardiocohort.__all__) == {*FUNCTIONS, "InputError", "SubjectError"}
    with pytest.raises(AttributeError, match="no attribute 'sample'"):
        _ = cardiocohort.sample


def test_the_package_stays_light_until_a_function_is_used():
    code = "import sys, cardiocohort; print([m for m in ('torch', 'pyvista', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_documented_example_makes_a_heart(tmp_path, monkeypatch):
    """The notebook, which holds the first block of docs/python.md statement by statement."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)[1]
    notebook = nbformat.read(ROOT / "docs/notebooks/one_heart.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] for cell in cells), "outputs are not kept in the repository"
    statements = [ast.dump(node) for cell in cells for node in ast.parse(cell.source).body]
    assert {ast.dump(node) for node in ast.parse(code).body} <= set(statements)
    monkeypatch.chdir(tmp_path)
    found = {}
    for cell in cells:
        exec(cell.source, found)
    assert (tmp_path / "one_heart.png").stat().st_size > 5000
    assert found["volumes"]["left_ventricle"] == pytest.approx(140, rel=0.03)
    assert found["verdict"].accepted
    grid = found["grid"]
    assert {"region", "f0", "s0", "n0", "aha", "wall_mm", "apicobasal"} <= set(grid.cell_data.keys())
    assert np.median(grid["wall_mm"][grid["region"] == 2]) == pytest.approx(5, rel=0.15)
    assert grid.n_cells == len(found["model"].tets) > 5000


def test_a_mesh_is_in_the_frame_that_is_set_or_refused(tiny, monkeypatch):
    model = box()
    monkeypatch.setattr(api, "mesh_labels", lambda *_: (model, {}))
    heart = LabelMap(np.ones((2, 2, 2), np.uint8), np.eye(4))
    assert cardiocohort.mesh_heart(tiny, heart, domain="labels") is model
    with pytest.raises(SubjectError, match="no origin for this heart"):
        cardiocohort.mesh_heart(tiny, heart, domain="labels", frame="scanner")


def test_targets_are_those_of_the_cohort_table(shipped):
    (arm, _) = read_cohort(ROOT / "config/cohort.tsv", HEART)
    reference = read_reference(BUNDLE / "reference_moments.parquet", HEART)
    expected = drawn_targets(arm, range(2), 1, population_for(arm, reference), 0.95)
    row = pd.read_csv(ROOT / "config/cohort.tsv", sep="\t", keep_default_na=False, dtype=str).iloc[0]
    cells = {name: row[name] for name in ("constraints", "sex", "condition", "age", "bsa")}
    pd.testing.assert_frame_equal(cardiocohort.draw_targets(shipped, n=2, arm=arm.name, **cells), expected)


def test_a_heart_is_that_of_the_generation_stage(tiny, tmp_path):
    """Also one of which the gate accepts no attempt; and another seed gives another heart."""
    targets = cardiocohort.draw_targets(tiny, "wall: size", n=2, arm="a")
    rows = targets[targets["subject"] == "a-00001"]
    heart = cardiocohort.sample_heart(tiny, rows, seed=3)
    anatomies.work(tiny, [tmp_path / "x.nii.gz"], [(rows.to_dict("records"), 3, "a", 1, None)])
    written = read_label_map(tmp_path / "x.nii.gz", tiny.prior.anatomy)
    np.testing.assert_array_equal(heart.labels, written.labels)
    np.testing.assert_array_equal(heart.affine, tiny.prior.grid.affine())
    assert cardiocohort.check_heart(tiny, heart).failed_rules == ("volume.wall",)
    other = cardiocohort.sample_heart(tiny, rows, seed=4)
    assert (other.labels != heart.labels).any()


def test_measures_are_in_the_coordinates_of_the_map(tiny):
    labels = np.zeros((12, 10, 8), np.uint8)
    labels[2:6, 3:5, 1:7] = 1
    labels[8:10, 3:5, 1:3] = 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 100, 0, -50
    wall, cavity = cardiocohort.measure_heart(tiny, LabelMap(labels, affine)).to_dict("records")
    assert (wall["structure"], cavity["structure"]) == tiny.prior.anatomy.structures
    assert (wall["volume_ml"], cavity["volume_ml"]) == pytest.approx((48 * 8e-3, 8 * 8e-3))
    assert [wall[f"centroid_{x}_mm"] for x in "xyz"] == pytest.approx([107, 7, -43])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": 3}, "there is no covariate 'weight'; allowed: sex, age, bsa, condition, "),
        ({"sex": "woman"}, "female"),
        ({"constraints": "ventricle: size"}, "ventricle"),
        ({"arm": "a b"}, "arm 'a b': an arm is a word"),
        ({"n": 0}, "n 0: it is a whole number, 1 or more"),
        ({"n": 2.0}, "n 2.0: it is a whole number"),
        ({"seed": -1}, "seed -1: it is a whole number, 0 or more"),
        ({"seed": "a"}, "seed 'a': it is a whole number"),
        ({"constraints": None}, "constraints None: it is text"),
        ({"truncation": 95}, "truncation 95: it is a share between 0 and 1"),
    ],
)
def test_a_wrong_argument_says_what_is_allowed(tiny, arguments, message):
    with pytest.raises(InputError, match=message):
        cardiocohort.draw_targets(tiny, **arguments)


def test_rows_of_several_hearts_and_missing_columns_are_refused(tiny):
    targets = cardiocohort.draw_targets(tiny, "wall: size", n=2)
    with pytest.raises(InputError, match="targets of 2 subjects; give the rows of one"):
        cardiocohort.sample_heart(tiny, targets)
    with pytest.raises(InputError, match=r"column 'volume_ml': -5\.0 is not a volume above 0 mL"):
        cardiocohort.sample_heart(tiny, targets.iloc[:1].assign(volume_ml=-5.0))
    with pytest.raises(InputError, match=r"seed 1\.5: it is a whole number"):
        cardiocohort.sample_heart(tiny, targets.iloc[:1], seed=1.5)
    with pytest.raises(InputError, match="the targets lack the columns volume_ml"):
        cardiocohort.sample_heart(tiny, targets.drop(columns="volume_ml"))


def test_a_target_beyond_the_field_is_an_error_with_its_reason(tiny):
    targets = cardiocohort.draw_targets(tiny, "wall: position").assign(centroid_x_mm=500.0)
    with pytest.raises(SubjectError) as error:
        cardiocohort.sample_heart(tiny, targets)
    assert error.value.reason == "target outside the prior"


def test_the_mean_heart_is_that_of_the_reference_population(tiny):
    """Without covariates: geometric means of volumes, means of centroids."""
    reference = pd.read_parquet(tiny.bundle / "reference_moments.parquet").groupby("structure")
    mean = cardiocohort.mean_heart(tiny).set_index("structure")
    for name, hearts in reference:
        assert mean.loc[name, "volume_ml"] == pytest.approx(np.exp(np.log(hearts["volume_ml"]).mean()))
        assert mean.loc[name, "centre_x_mm"] == pytest.approx(hearts["centroid_x_mm"].mean())


def test_a_mean_heart_is_a_targets_table(shipped, tmp_path):
    mean = cardiocohort.mean_heart(shipped, "explicit", sex="female", condition="healthy", age=50, bsa=1.7)
    mean.to_csv(tmp_path / "targets.tsv", sep="\t", index=False)
    read = read_targets(tmp_path / "targets.tsv", HEART)
    reference = read_reference(BUNDLE / "reference_moments.parquet", HEART)
    person = {"sex": "female", "condition": "healthy", "age_years": 50.0, "bsa_m2": 1.7}
    expected = moments.from_vector(
        fit(reference, reference.structures).given(person).mean.reshape(-1, ENTRIES)
    )
    for name, values in moments.to_columns(expected).items():
        np.testing.assert_allclose(read[name], values, atol=1e-6)


def test_the_recipe_for_explicit_targets_writes_them(tmp_path, monkeypatch):
    """The first block of docs/howto.md: a left ventricle of 1.15^3 the mean's volume, the rest as it is.

    It writes the table of the experiment.
    """
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/howto.md").read_text(), re.DOTALL)[1]
    exec(code, found := {})
    read = read_targets("targets.tsv", HEART).set_index(["arm", "structure"])["volume_ml"]
    experiment = pd.read_csv(ROOT / "config/experiments/ellipsoids_targets.tsv", sep="\t")
    pd.testing.assert_frame_equal(pd.read_csv("targets.tsv", sep="\t"), experiment, atol=2e-3)
    person = {"sex": "female", "condition": "healthy", "age": 50, "bsa": 1.7}
    mean = cardiocohort.mean_heart(found["prior"], **person).set_index("structure")["volume_ml"]
    for arm, factor in (("mean_heart", 1.0), ("large_lv", 1.15**3)):
        wanted = {name: factor if name == "left_ventricle" else 1.0 for name in HEART.structures}
        assert (read[arm] / mean).to_dict() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ({"sex": "female", "condition": "healthy"}, "give age, bsa too"),
        ({"sex": "60 % female", "condition": "healthy", "age": 50, "bsa": 1.7}, "sex: .* one value"),
        ({"sex": "female", "condition": "healthy", "age": "40..50", "bsa": 1.7}, "age: .* one value"),
        ({"sex": "female", "condition": "ill", "age": 50, "bsa": 1.7}, "ill"),
    ],
)
def test_a_mean_heart_needs_one_value_of_each_covariate(shipped, person, message):
    with pytest.raises(InputError, match=message):
        cardiocohort.mean_heart(shipped, **person)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": {"guide_every": 2.5}}, "'guidance.guide_every': 2.5 is not a whole number"),
        ({"guidance": {"stepz": 3}}, "'guidance.stepz' is unknown; did you mean steps"),
        (
            {"guidance": {"sigma_from": 0.1, "sigma_to": 0.2}},
            "'guidance.sigma_from': 0.1 is less than sigma_to",
        ),
        ({"max_attempts": 0}, "max_attempts 0: it is a whole number, 1 or more"),
    ],
)
def test_settings_of_a_prior_are_those_of_the_config(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        cardiocohort.load_prior(tmp_path, **settings)
