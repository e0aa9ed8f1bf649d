"""Explicit targets (moments or ellipsoids) and the script that writes a batch's targets."""

import json
import logging
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy.bundle_metadata import FORMAT
from cardiocohort.anatomy.moments import MOMENT_COLUMNS, from_columns, from_ellipsoid
from cardiocohort.cohort import stage_tables
from cardiocohort.cohort.table import Distribution
from cardiocohort.cohort.target_arms import refuse_other_arms
from cardiocohort.population.explicit import ELLIPSOID_COLUMNS, explicit_targets, read_targets
from cardiocohort.population.plausibility import population_for
from cardiocohort.population.reference import read_reference
from cardiocohort.population.targets import drawn_targets, tabulate
from cardiocohort.population.units import usual_of
from cardiocohort.runtime import tables
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART, HEART_GRID
from synthetic_population import K, arm, reference_frame, structure_rows

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "workflow/scripts/draw_targets.py"
USUAL = ROOT / "resources/priors/people/reference_moments.parquet"
TWO = "left_ventricle, myocardium: size position shape"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "reference.parquet"
    reference_frame(300).to_parquet(path)
    return path


def ellipsoids() -> pd.DataFrame:
    rows = [
        ("women", "left_ventricle", 10, 5, -8, 20, 25, 42, 30, -20, 70, np.nan),
        ("women", "myocardium", 9, 5, -9, 28, 33, 50, 30, -20, 70, 101.5),
    ]
    return pd.DataFrame(rows, columns=["arm", "structure", *ELLIPSOID_COLUMNS, "volume_ml"])


def write(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(path, sep="\t", index=False)
    return path


def test_targets_of_no_ellipsoid_name_arm_and_structure(tmp_path):
    """Edits far outside a population can leave the other structures a covariance of nothing."""
    table = read_targets(write(tmp_path / "targets.tsv", ellipsoids()), HEART)
    names, moments = tuple(table["structure"]), from_columns(table)
    moments.covariance_mm2[1] *= -1
    own = arm(constraints="left_ventricle: size")
    with pytest.raises(
        InputError, match=r"'edits': no myocardium of women-00000 follows from them .*too far"
    ):
        tabulate(own, range(1), 0, None, lambda index, person: (names, moments))


@pytest.mark.parametrize(
    ("column", "written"),
    [("volume_ml", "volume_mL"), ("subject", "subjects"), ("subject", " subject"), ("volume_ml", "volume_l")],
)
def test_a_column_that_nearly_has_a_name_is_not_left_out(tmp_path, column, written):
    """Without it one subject's rows would be the whole arm's, or a shell as large as a solid ellipsoid."""
    frame = ellipsoids().assign(subject="").rename(columns={column: written})
    with pytest.raises(InputError, match=rf"row 1: column {written!r} is not read; write {column!r}"):
        read_targets(write(tmp_path / "targets.tsv", frame), HEART)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = write(tmp_path / "targets.tsv", ellipsoids().assign(again=30.0))
    path.write_text(path.read_text().replace("again", "volume_ml", 1))
    with pytest.raises(InputError, match=r"row 1: column 'volume_ml' is there twice, as columns 12 and 13"):
        read_targets(path, HEART)


def test_ellipsoids_become_their_moments(tmp_path):
    table = read_targets(write(tmp_path / "targets.tsv", ellipsoids()), HEART)
    rotation = Rotation.from_rotvec([30, -20, 70], degrees=True).as_matrix()
    solid = from_ellipsoid([10, 5, -8], [20, 25, 42], rotation)
    found = from_columns(table)
    np.testing.assert_allclose(found.covariance_mm2[0], solid.covariance_mm2)
    assert found.volume_ml.tolist() == [pytest.approx(solid.volume_ml), 101.5]
    # the long axis is the third column of R
    np.testing.assert_allclose(found.covariance_mm2[0] @ rotation[:, 2], 42**2 / 5 * rotation[:, 2])


def test_moments_of_a_drawn_cohort_read_back_as_targets(tmp_path, reference):
    """A targets table that the workflow wrote is a targets table that it takes, TSV or Parquet."""
    one = arm(constraints="left_ventricle+right_ventricle: size; aorta: all")
    population = population_for(one, read_reference(reference, HEART))
    drawn = drawn_targets(one, range(3), 0, population, 0.95)
    drawn.to_parquet(tmp_path / "targets.parquet")
    for path in (tmp_path / "targets.parquet", write(tmp_path / "targets.tsv", drawn)):
        again = explicit_targets(one, range(3), 0, read_targets(path, HEART), population)
        assert again["structure"].tolist() == drawn["structure"].tolist()
        assert again["constrained"].tolist() == drawn["constrained"].tolist()
        np.testing.assert_allclose(
            again[list(MOMENT_COLUMNS)], drawn[list(MOMENT_COLUMNS)], rtol=1e-12, atol=1e-12
        )
        np.testing.assert_allclose(again["plausibility"], drawn["plausibility"], rtol=1e-6)


def test_a_subjects_own_rows_go_before_its_arms(tmp_path):
    own = ellipsoids().assign(subject="women-00002", centre_x_mm=99.0)
    path = write(tmp_path / "t.tsv", pd.concat([ellipsoids().assign(subject=""), own]))
    targets = explicit_targets(arm(constraints=TWO), range(4), 0, read_targets(path, HEART), None)
    assert targets["subject"].unique().tolist() == [f"women-{i:05d}" for i in range(4)]
    assert structure_rows(targets, "left_ventricle")["centroid_x_mm"].tolist() == [10.0, 10.0, 99.0, 10.0]
    assert targets["plausibility"].isna().all()


def test_relative_edits_apply_and_absolute_ones_are_refused(tmp_path):
    table = read_targets(write(tmp_path / "t.tsv", ellipsoids()), HEART)
    doubled = arm(constraints=TWO, edits="myocardium.volume: x2")
    targets = explicit_targets(doubled, range(1), 0, table, None)
    assert structure_rows(targets, "myocardium")["volume_ml"][0] == 203.0
    with pytest.raises(InputError, match=r"arm 'women', column 'edits'.*targets table"):
        explicit_targets(arm(constraints=TWO, edits="myocardium.volume: 90 mL"), range(1), 0, table, None)
    with pytest.raises(InputError, match=r"column 'edits'.*no aorta"):
        explicit_targets(arm(constraints=TWO, edits="aorta.volume: x2"), range(1), 0, table, None)


def test_rows_that_an_arm_needs(tmp_path):
    table = read_targets(write(tmp_path / "t.tsv", ellipsoids()), HEART)
    with pytest.raises(InputError, match=r"'men-00000'.*arm 'men'"):
        explicit_targets(arm("men", TWO), range(1), 0, table, None)
    with pytest.raises(InputError, match=r"column 'constraints'.*no aorta"):
        explicit_targets(arm(constraints="aorta: size"), range(1), 0, table, None)
    union = explicit_targets(arm(constraints="left_ventricle+myocardium: size"), range(1), 0, table, None)
    whole = structure_rows(union, "myocardium+left_ventricle")["volume_ml"][0]
    assert whole == pytest.approx(101.5 + 4 / 3 * np.pi * 20 * 25 * 42 / 1000)


BAD_TARGETS = {
    "no arm": (lambda f: f.drop(columns="arm"), ["'arm' is missing"]),
    "no rotation": (lambda f: f.drop(columns="rotation_y_deg"), ["'rotation_y_deg' is missing"]),
    "both kinds": (lambda f: f.assign(covariance_xx_mm2=1.0), ["one kind"]),
    "flat": (lambda f: f.assign(semi_axis_b_mm=[20.0, 0.0]), ["row 3", "'semi_axis_b_mm'", "above 0 mm"]),
    "volume": (lambda f: f.assign(volume_ml=[np.nan, -5.0]), ["row 3", "'volume_ml'", "above 0 mL"]),
    "text volume": (lambda f: f.assign(volume_ml=["", "big"]), ["row 3", "'volume_ml'", "big"]),
    "empty": (lambda f: f.assign(centre_z_mm=[np.nan, 0.0]), ["row 2", "'centre_z_mm'", "finite"]),
    "structure": (lambda f: f.assign(structure=["lv", "aorta"]), ["row 2", "'structure'", "left_ventricle"]),
    "twice": (lambda f: f.assign(structure="aorta"), ["row 3", "'structure'", "already"]),
    "subject": (lambda f: f.assign(subject=["", "men-00001"]), ["row 3", "'subject'", "'women-00000'"]),
    "number": (lambda f: f.assign(subject=["women-1", ""]), ["row 2", "'subject'", "'women-00000'"]),
    "no rows": (lambda f: f.iloc[:0], ["no rows"]),
}


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_a_bad_targets_table_is_refused_plainly(tmp_path, name):
    change, words = BAD_TARGETS[name]
    path = write(tmp_path / "targets.tsv", change(ellipsoids()))
    with pytest.raises(InputError) as error:
        read_targets(path, HEART)
    for word in (str(path), *words):
        assert word in str(error.value)


def test_blanks_around_names_and_empty_lines_mean_nothing(tmp_path):
    plain = ellipsoids()
    spaced = plain.assign(structure=[f" {name} " for name in plain["structure"]])
    path = write(tmp_path / "spaced.tsv", spaced)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "", *lines[1:], ""]) + "\n")
    read, other = (read_targets(p, HEART) for p in (path, write(tmp_path / "plain.tsv", plain)))
    pd.testing.assert_frame_equal(read.reset_index(drop=True), other)
    union = plain.head(1).assign(structure="left_ventricle + aorta")
    assert read_targets(write(tmp_path / "u.tsv", union), HEART)["structure"].tolist() == [
        "left_ventricle+aorta"
    ]


def test_an_empty_line_counts_where_a_row_is_told(tmp_path):
    path = write(tmp_path / "t.tsv", ellipsoids().assign(structure=["lv", "aorta"]))
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, "", *rows]) + "\n")
    with pytest.raises(InputError, match="row 3, column 'structure'"):
        read_targets(path, HEART)


def test_moments_that_are_no_covariance_are_refused(tmp_path):
    values = dict.fromkeys(MOMENT_COLUMNS, 10.0)  # all entries equal: rank one
    path = write(tmp_path / "t.tsv", pd.DataFrame([{"arm": "women", "structure": "aorta"} | values]))
    with pytest.raises(InputError, match=r"row 2, columns 'covariance_.*positive definite"):
        read_targets(path, HEART)


# the script, run as Snakemake runs it, on real files


class Inputs(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_targets_of_an_arm_that_the_trial_lacks_are_refused(tmp_path, suffix):
    frame, path = ellipsoids(), tmp_path / f"targets.{suffix}"
    frame.loc[1, "arm"] = "womem"
    frame.to_parquet(path) if suffix == "parquet" else write(path, frame)
    refuse_other_arms(path, ["men", "women", "womem"])
    line = {"tsv": "row 3", "parquet": r"row 1 \(from 0\)"}[suffix]
    with pytest.raises(
        InputError, match=rf"targets\.{suffix}, {line}, column 'arm': 'womem'.*: men, women\."
    ):
        refuse_other_arms(path, ["men", "women"])


def run_script(tmp_path, one, name="targets", **inputs) -> pd.DataFrame:
    bundle = tmp_path / "bundle.json"
    card = {
        "format": FORMAT,
        "anatomy": {"structures": HEART.structures, "centred_on": HEART.centred_on},
        "grid": {"shape": HEART_GRID.shape, "spacing_mm": HEART_GRID.spacing_mm},
    }
    bundle.write_text(json.dumps(card))
    snakemake = SimpleNamespace(
        rule="draw_targets",
        input=Inputs(bundle=bundle, usual=USUAL, **inputs),
        output=SimpleNamespace(table=tmp_path / f"{name}.parquet"),
        params=SimpleNamespace(
            arm=json.loads(json.dumps(one.to_dict())), first=4, last=6, seed=1, truncation=0.95
        ),
        log=[str(tmp_path / "log.txt")],
    )
    runpy.run_path(str(SCRIPT), init_globals={"snakemake": snakemake}, run_name="__main__")
    return tables.read_table(tmp_path / f"{name}.parquet", stage_tables.TARGETS)


def test_the_script_draws_a_batch(tmp_path, reference):
    one = arm(edits="left_ventricle.volume: x3")
    targets = run_script(tmp_path, one, reference=reference)
    assert targets["subject"].unique().tolist() == ["women-00004", "women-00005", "women-00006"]
    assert len(targets) == 3 * K
    population = population_for(one, read_reference(reference, HEART))
    expected = drawn_targets(one, range(10), 1, population, 0.95)
    expected = expected[expected["subject"].isin(targets["subject"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(targets, expected[targets.columns], check_exact=True, check_dtype=False)
    assert "left_ventricle lies far outside" in (tmp_path / "log.txt").read_text()
    run_script(tmp_path, one, "again", reference=reference)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "targets.parquet").read_bytes()


def test_the_script_takes_explicit_targets(tmp_path, reference):
    table = write(tmp_path / "t.tsv", ellipsoids())
    alone = run_script(tmp_path, arm(constraints=TWO), targets_table=table)
    assert len(alone) == 3 * 2
    assert alone["plausibility"].isna().all()
    judged = run_script(tmp_path, arm(constraints=TWO), targets_table=table, reference=reference)
    assert judged["plausibility"].between(0, 1).all()
    np.testing.assert_array_equal(alone[list(MOMENT_COLUMNS)], judged[list(MOMENT_COLUMNS)])


def test_the_script_ends_with_one_plain_message(tmp_path, reference, caplog):
    with pytest.raises(SystemExit), caplog.at_level(logging.ERROR):
        run_script(tmp_path, arm(covariates={"condition": "amyloidosis"}), reference=reference)
    log = (tmp_path / "log.txt").read_text()
    assert "'amyloidosis' is not in the reference population; allowed: dilated" in log
    assert "Traceback" not in log
    assert not (tmp_path / "targets.parquet").exists()


def test_explicit_arms_may_leave_covariates_open(tmp_path, reference):
    young = {"condition": "healthy", "age_years": Distribution("uniform", (30.0, 40.0))}
    open_arm = arm(constraints=TWO, covariates=young)
    table = write(tmp_path / "t.tsv", ellipsoids())
    targets = run_script(tmp_path, open_arm, targets_table=table, reference=reference)
    assert targets["age_years"].between(30, 40).all()
    assert targets["sex"].isin(["female", "male"]).all()


def test_the_example_is_one_explicit_arm_beside_drawn_ones():
    """config/targets.example.tsv: an arm that it does not name is drawn."""
    shipped = ROOT / "resources/priors/people/reference_moments.parquet"
    usual = usual_of(read_reference(shipped, HEART))
    table = read_targets(ROOT / "config/targets.example.tsv", HEART, usual)
    assert set(table["arm"]) == {"explicit"}
    one = arm(name="explicit", constraints="myocardium, left_ventricle, right_ventricle: size")
    targets = explicit_targets(one, range(2), 0, table, population_for(one, read_reference(shipped, HEART)))
    assert (targets["plausibility"] > 0.01).all()
    refuse_other_arms(ROOT / "config/targets.example.tsv", ["explicit", "drawn"])
