"""The subject table: nobody missing, measurements that are right, and of accepted hearts alone."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import report_cohort
import write_subjects
from cardiocohort.anatomy import domains
from cardiocohort.anatomy.domains import Domain, to_text
from cardiocohort.anatomy.label_map import LabelMap
from cardiocohort.anatomy.moments import MOMENT_COLUMNS, from_ellipsoid
from cardiocohort.cohort.table import Arm
from cardiocohort.mesh import storage
from cardiocohort.mesh.model import REGIONS
from cardiocohort.metrics.agreement import agreement
from cardiocohort.report import heart_shape, subjects
from cardiocohort.report.cohort_tables import read_cohort_tables
from cardiocohort.report.manifest import COLUMNS, manifest
from cardiocohort.report.subjects import FROM_MESH, RENAMED
from cardiocohort.runtime import tables
from cardiocohort.runtime.artifacts import NO_FILE, sha256
from cardiocohort.runtime.errors import InputError, SubjectError
from cardiocohort.simulation.subject import table_row
from heart_anatomy import HEART, HEART_GRID
from small_meshes import biventricle, truncated_ellipsoid
from workflow_runs import make_bundle

HEALTHY, DILATED = report_cohort.ARMS
BATCHES = [f"{arm}-0000" for arm in report_cohort.ARMS]
SLAB = Domain(form="slab", frame="heart", axis=[0, 0, 1], low=0, high=20)
CONSTRAINTS = (("aorta/left_ventricle", ("direction",)), ("aorta@slab", ("size", "thickness")))
ARMS = [
    Arm(HEALTHY, 4, {}, None, (), ()).to_dict(),
    Arm(DILATED, 4, {}, None, CONSTRAINTS, (), HEALTHY, {"slab": SLAB}).to_dict(),
]


def add_slab(path: str) -> None:
    """Rows of `aorta@slab` with half the aorta's volume, in a table of targets or anatomies."""
    frame = pd.read_parquet(path)
    rows = frame[frame["structure"] == "aorta"].assign(structure="aorta@slab")
    rows["volume_ml"] /= 2.0
    place = to_text(domains.place(SLAB, domains.HEART, HEART_GRID))
    whole, part = frame.assign(domain=""), rows.assign(domain=place, thickness_mm=8.0)
    pd.concat([whole, part], ignore_index=True).to_parquet(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Inputs and outputs of the script for two arms of four, of which four hearts were accepted."""
    folder = tmp_path_factory.mktemp("cohort")
    paths = report_cohort.write_cohort(folder)
    for stage in ("targets", "anatomies"):
        add_slab(paths[stage][1])
    model = biventricle(polar_nodes=12, azimuth_nodes=32)
    for path in paths["meshes"]:
        frame = pd.read_csv(path, sep="\t", keep_default_na=False, na_values=[""])
        place = folder / "meshes" / frame["subject"][0].replace("-00000", "-0000")
        meshed = frame["verdict"] == "accepted"
        for part, write in (("", storage.write_volume), ("surface_", storage.write_surface)):
            file = place / ("x.vtu" if part == "" else "x.surface.vtp")
            write(file, model)
            frame[f"{part}file"] = np.where(meshed, file.name, "")
            frame[f"{part}size"] = np.where(meshed, file.stat().st_size, None)
            frame[f"{part}sha256"] = np.where(meshed, sha256(file), "")
        for name in FROM_MESH:
            frame[name] = frame[name] if name in frame else np.where(meshed, 100.0, np.nan)
        frame.to_csv(path, sep="\t", index=False)
    people = manifest(read_cohort_tables(**paths), {f"{HEALTHY}-0000": 7}, {})
    tables.write_table(folder / "manifest.tsv", people, COLUMNS)
    bundle = make_bundle(folder / "bundle") / "bundle.json"
    names = {"table": "subjects.tsv", "parquet": "subjects.parquet", "dictionary": "subjects.schema.json"}
    job = SimpleNamespace(
        input=_Inputs({"manifest": str(folder / "manifest.tsv"), "bundle": str(bundle)}),
        output=SimpleNamespace(**{name: folder / file for name, file in names.items()}),
        params=SimpleNamespace(arms=ARMS, batches=BATCHES, stages=list(paths)),
        paths=paths,
    )
    write_subjects.main(job)
    return job


def test_label_maps_of_the_user_have_no_targets_and_no_index(made, tmp_path):
    names = {"table": "s.tsv", "parquet": "s.parquet", "dictionary": "s.json"}
    job = SimpleNamespace(
        input=made.input,
        output=SimpleNamespace(**{name: tmp_path / file for name, file in names.items()}),
        params=SimpleNamespace(arms=[], batches=BATCHES, stages=made.params.stages[1:]),
    )
    write_subjects.main(job)
    found = pd.read_parquet(job.output.parquet)
    assert len(found) == 8
    assert "bsa_m2" not in found
    assert found[["aorta_target_volume_ml", "aorta_volume_index_ml_m2"]].isna().all(axis=None)
    assert found["aorta_volume_ml"].notna().sum() == 4
    assert (found["base"] == "").all()


class _Inputs(dict):
    __getattr__ = dict.__getitem__


@pytest.fixture(scope="module")
def frame(made):
    return pd.read_parquet(made.output.parquet).set_index("subject")


def test_every_requested_heart_has_a_row_and_only_accepted_ones_are_measured(frame):
    assert list(frame.index) == [f"{arm}-{k:05d}" for arm in report_cohort.ARMS for k in range(4)]
    lost = frame[frame["status"] != "accepted"]
    assert len(lost) == 4
    assert (lost["reason"] != "").all()
    ends = ("_volume_ml", "_sphericity", "_curvature_ratio", "_wall_ml", "_mass_g", "_shape_error")
    measured = [name for name in frame if name.endswith(ends)]
    measured = [name for name in measured if "target" not in name and "_at_slab_" not in name] + [
        RENAMED.get(name, name) for name in FROM_MESH
    ]
    assert lost[measured].isna().all(axis=None)
    assert frame.drop(lost.index)[measured].notna().all(axis=None)
    # they say who is missing
    targets = ["aorta_target_volume_ml", "target_distance_left_ventricle_to_aorta_mm"]
    assert lost[["bsa_m2", *targets]].notna().all(axis=None)


def test_values_follow_from_the_stage_tables(frame, made):
    anatomies = read_cohort_tables(**made.paths).anatomies
    heart = anatomies[anatomies["subject"] == f"{HEALTHY}-00000"].set_index("structure")
    row = frame.loc[f"{HEALTHY}-00000"]
    volume, centroid = heart["volume_ml"], heart[[f"centroid_{axis}_mm" for axis in "xyz"]]
    assert row["myocardium_mass_g"] == pytest.approx(1.05 * volume["myocardium"])
    assert row["left_ventricle_volume_index_ml_m2"] == pytest.approx(volume["left_ventricle"] / 1.7)
    assert row["aorta_volume_error_percent"] == pytest.approx(10.0)
    assert row["aorta_centroid_error_mm"] == pytest.approx(3.0)
    assert row["volume_ratio_right_ventricle_to_left_ventricle"] == pytest.approx(
        volume["right_ventricle"] / volume["left_ventricle"]
    )
    away = (centroid.loc["aorta"] - centroid.loc["left_ventricle"]).to_numpy()
    assert row["distance_left_ventricle_to_aorta_mm"] == pytest.approx(np.linalg.norm(away))
    # targets are moved alike and their volumes divided by 1.1, so that relations stay as they are
    for relation in (
        "distance_left_ventricle_to_aorta_mm", "volume_ratio_right_ventricle_to_left_ventricle",
        *(f"direction_aorta_to_left_ventricle_{axis}" for axis in "xyz"),
    ):  # fmt: skip
        assert row[f"target_{relation}"] == pytest.approx(row[relation])
    assert row["aorta_shape_error"] == pytest.approx(0.0, abs=1e-12)
    ways = row[[f"direction_aorta_to_left_ventricle_{axis}" for axis in "xyz"]].to_numpy(float)
    np.testing.assert_allclose(ways, away / np.linalg.norm(away))
    assert frame.loc[f"{DILATED}-00001", "base"] == f"{HEALTHY}-00001"
    assert frame.loc[f"{DILATED}-00001", "cluster"] == f"{HEALTHY}-00001"
    assert (frame["matched"] == "").all()
    assert 0.4 < row["left_ventricle_conicity"] < 0.9  # of a template heart


def test_walls_of_the_mesh_add_up_and_are_indexed(frame):
    model = biventricle(polar_nodes=12, azimuth_nodes=32)
    row = frame.loc[f"{HEALTHY}-00000"]
    walls = {name: row[f"{name}_wall_ml"] for name in REGIONS}
    assert sum(walls.values()) == pytest.approx(model.wall_volume_ml)
    for name, tag in REGIONS.items():
        a, b, c, d = model.points_mm[model.tets[model.region == tag]].swapaxes(0, 1)
        volume = np.einsum("ij,ij->i", b - a, np.cross(c - a, d - a)).sum() / 6000
        assert walls[name] == pytest.approx(volume)
        assert row[f"{name}_wall_mass_g"] == pytest.approx(1.05 * volume)
    assert row["rv_mass_index_g_m2"] == pytest.approx(1.05 * walls["rv"] / 1.7)
    assert row["lv_mass_index_g_m2"] == pytest.approx(1.05 * (walls["lv"] + walls["septum"]) / 1.7)
    assert row["rv_cavity_index_ml_m2"] == pytest.approx(row["rv_cavity_ml"] / 1.7)


def test_shape_errors_are_those_of_the_manifest(made):
    """A target covariance of another shape: the norm that the manifest has a median of."""
    found = read_cohort_tables(**made.paths)
    targets = found.targets.copy()
    targets["covariance_xx_mm2"] *= 1.3
    subject = f"{HEALTHY}-00000"
    anatomies = found.anatomies[found.anatomies["subject"] == subject]
    expected = agreement(targets, anatomies).set_index("structure")["shape_error"]
    block = subjects._volumes(
        SimpleNamespace(targets=targets, anatomies=anatomies, subjects=found.subjects),
        HEART.structures,
        pd.Index([subject]),
    )
    for name in HEART.structures:
        assert block.loc[subject, f"{name}_shape_error"] == pytest.approx(expected[name])
        assert expected[name] > 0.01


def test_clusters_follow_bases_matches_files_and_explicit_targets():
    base = {"a-0": "", "a-1": "", "b-0": "a-0", "c-0": "b-0", "m-1": "", "s-0": "./x.nii", "s-1": "x.nii",
            "t-0": "s-0", "e-0": "", "e-1": "", "e-2": ""}  # fmt: skip
    matched = dict.fromkeys(base, "") | {"m-1": "a-1"}
    places = np.arange(len(base) * 2, dtype=float)
    targets = pd.DataFrame({"subject": list(base) * 2, "structure": ["lv"] * len(base) + ["rv"] * len(base)})
    for name in MOMENT_COLUMNS:
        targets[name] = places
    explicit = targets["subject"].isin(["e-0", "e-2"])
    targets.loc[explicit, list(MOMENT_COLUMNS)] = targets.loc[explicit, "structure"].eq("rv") + 0.5
    unions = targets.assign(structure=targets["structure"] + "+la", volume_ml=places)
    found = subjects.clusters(pd.Series(base), pd.Series(matched), pd.concat([targets, unions]))
    assert found.to_dict() == {
        "a-0": "a-0", "a-1": "a-1", "b-0": "a-0", "c-0": "a-0", "m-1": "a-1", "s-0": "x.nii", "s-1": "x.nii",
        "t-0": "x.nii", "e-0": "e-0", "e-1": "e-1", "e-2": "e-0",
    }  # fmt: skip


def test_parts_of_structures_have_columns_slabs_an_area_and_walls_a_thickness(frame):
    row = frame.loc[f"{DILATED}-00000"]
    assert row["aorta_at_slab_volume_ml"] == pytest.approx(row["aorta_volume_ml"] / 2)
    assert row["aorta_at_slab_target_volume_ml"] == pytest.approx(row["aorta_target_volume_ml"] / 2)
    assert row["aorta_at_slab_volume_error_percent"] == pytest.approx(10.0)
    assert row["aorta_at_slab_centroid_error_mm"] == pytest.approx(3.0)
    assert row["aorta_at_slab_thickness_mm"] == row["aorta_at_slab_target_thickness_mm"] == 8.0
    assert row["aorta_at_slab_area_mm2"] == pytest.approx(1000 * row["aorta_at_slab_volume_ml"] / 20)
    target_ml = row["aorta_at_slab_target_volume_ml"]
    assert row["aorta_at_slab_target_area_mm2"] == pytest.approx(1000 * target_ml / 20)
    other = frame.loc[f"{HEALTHY}-00000"]  # of an arm that does not name it
    assert other[[name for name in frame if "_at_slab_" in name]].isna().all()


def test_both_files_say_the_same_and_the_dictionary_all_of_it(frame, made):
    text = pd.read_csv(made.output.table, sep="\t").set_index("subject")
    assert list(text.columns) == list(frame.columns)
    for name in frame.select_dtypes("number"):
        np.testing.assert_allclose(text[name].astype(float), frame[name].astype(float))
    defined = json.loads(made.output.dictionary.read_text())["columns"]
    assert [entry["name"] for entry in defined] == ["subject", *frame.columns]


def _simulated(made, tmp_path, **further):
    subjects = [f"{arm}-{k:05d}" for arm in report_cohort.ARMS for k in range(4)]
    good = {"verdict": "accepted", "load_share": 1.0, **NO_FILE}
    rows = [
        table_row(good | {"subject": name, "lv_loaded_ml": 100.0 + k, "lv_edv_ml": 120.0 + k})
        for k, name in enumerate(subjects)
    ]
    rows[1] |= {"verdict": "failed", "reason": "simulation did not converge", "load_share": 0.4}
    tables.write_table(tmp_path / "s.tsv", pd.DataFrame(rows).assign(**further), {})
    names = ("table", "parquet", "dictionary")
    files = ("s.tsv", "s.parquet", "s.json")
    output = {name: tmp_path / "out" / file for name, file in zip(names, files, strict=True)}
    job = SimpleNamespace(
        input=_Inputs(made.input | {"simulations": [str(tmp_path / "s.tsv")]}),
        output=SimpleNamespace(**output),
        params=made.params,
    )
    write_subjects.main(job)
    return pd.read_parquet(output["parquet"]).set_index("subject")


def test_simulated_quantities_are_of_full_loads_only(made, tmp_path):
    found = _simulated(made, tmp_path)
    assert found.loc[f"{HEALTHY}-00000", "simulation_lv_loaded_ml"] == 100.0
    assert found.loc[f"{HEALTHY}-00000", "simulation_lv_edv_index_ml_m2"] == pytest.approx(120.0 / 1.7)
    assert np.isnan(found.loc[f"{HEALTHY}-00001", "simulation_lv_edv_index_ml_m2"])
    halted = found.loc[f"{HEALTHY}-00001"]
    assert halted["simulation_verdict"] == "failed"
    assert halted["simulation_load_share"] == 0.4
    assert np.isnan(halted["simulation_lv_loaded_ml"])
    assert found.loc[f"{HEALTHY}-00003", "simulation_verdict"] == ""  # not accepted


def test_a_quantity_without_a_definition_is_an_error(made, tmp_path):
    with pytest.raises(InputError, match="'simulation_torsion_deg' has no definition"):
        _simulated(made, tmp_path, torsion_deg=12.0)


def test_sphericity_of_ellipsoids():
    assert heart_shape.sphericity(from_ellipsoid([0, 0, 0], [20, 20, 20], np.eye(3)).covariance_mm2) == (
        pytest.approx(1.0)
    )
    long = from_ellipsoid([0, 0, 0], [45, 20, 30], np.eye(3)).covariance_mm2
    nothing = np.full((3, 3), np.nan)
    found = heart_shape.sphericity(np.stack([long, nothing, np.zeros((3, 3))]))
    np.testing.assert_allclose(found, [np.sqrt(20 * 30) / 45, np.nan, np.nan])


@pytest.mark.parametrize(
    ("radius", "expected"),
    [
        (lambda t: np.sqrt(np.clip(1 - (2 * t - 1) ** 2, 0, None)), np.sqrt(28 / 52)),  # ellipsoid
        (lambda t: 0.2 + 0.8 * t, np.sqrt((7**3 - 3**3) / (11**3 - 7**3))),  # frustum of a cone
        (lambda t: np.ones_like(t), 1.0),  # cylinder
    ],
)
def test_conicity_of_known_bodies(radius, expected):
    """A body of 80 mm along y, 36 mm wide, with its base towards -y or +y, on a 1 mm grid."""
    x, y, z = np.meshgrid(*(np.arange(n) - n / 2 + 0.5 for n in (44, 84, 44)), indexing="ij")
    for way in (1.0, -1.0):
        t = way * y / 80 + 0.5
        inside = (t >= 0) & (t <= 1) & (x**2 + z**2 <= (18 * radius(np.clip(t, 0, 1))) ** 2)
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        affine[:3, 3] = [-21.5, -41.5, -21.5]
        found = heart_shape.conicity(
            LabelMap(inside.astype(np.uint8), affine), 1, np.array([0.0, way * 90.0, 0.0])
        )
        assert found == pytest.approx(expected, rel=0.01)


def test_curvature_of_arcs_of_either_sign_and_of_a_line():
    angle = np.linspace(-0.6, 0.6, 40)
    arc = 25.0 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    assert heart_shape._curvature(arc, np.zeros(2)) == pytest.approx(1 / 25)
    assert heart_shape._curvature(arc, np.array([90.0, 0.0])) == pytest.approx(-1 / 25)
    line = np.stack([np.linspace(0, 1, 40), np.linspace(3, 5, 40)], axis=-1)
    assert heart_shape._curvature(line, np.array([9.0, 0.0])) == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(heart_shape._curvature(arc[:5], np.zeros(2)))


def test_the_septum_of_a_round_ventricle_curves_as_its_free_wall():
    """An LV of revolution: in the short axis both are arcs of circles about the long axis."""
    curvature, ratio = heart_shape.septal_curvature(biventricle(polar_nodes=20, azimuth_nodes=64))
    assert ratio == pytest.approx(1.0, rel=0.05)
    height = np.linspace(-40 + 47 / 3, -40 + 2 * 47 / 3)  # of the 47 mm from apex to base
    assert 10 / curvature == pytest.approx(np.mean(20 * np.sqrt(1 - (height / 40) ** 2)), rel=0.02)


def test_a_ventricle_alone_has_no_septum():
    with pytest.raises(SubjectError):
        heart_shape.septal_curvature(truncated_ellipsoid())
