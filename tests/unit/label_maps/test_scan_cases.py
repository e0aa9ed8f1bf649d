"""Cases of real scans, from their files to verdict and label map; and what single defects lead to.

Excerpts of two scans are in tests/data/segmentations (with their source). Template T1 was made of one of
them; its vessels were cut at the border of its own, smaller field.
"""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.label_map import read_label_map, to_grid
from cardiocohort.anatomy.nifti import AGREE
from cardiocohort.label_maps.cases import Source, find_cases, parse_source, parse_sources, source_files
from cardiocohort.label_maps.folder import find_label_maps
from cardiocohort.label_maps.importing import import_label_map
from cardiocohort.label_maps.scans import (
    CASES,
    case_tasks,
    cases_table,
    find_masks,
    make_label_map,
    open_standard,
    wrong_sizes,
)
from cardiocohort.label_maps.volumes import Volume, mask_of, read_volume
from cardiocohort.runtime import batch_runner
from cardiocohort.runtime.errors import SubjectError
from cardiocohort.runtime.tables import read_table, write_table
from cardiocohort.topology import load_rules
from heart_anatomy import CONVENTION, HEART, HEART_GRID

RESOURCES = Path(__file__).resolve().parents[3] / "resources"
DATA = Path(__file__).resolve().parents[2] / "data/segmentations"
SLICER = DATA.parent / "nrrd/slicer_overlapping.seg.nrrd"
V1 = {
    "aorta": 7, "inferior_vena_cava": 8, "myocardium": 44, "left_atrium": 45, "left_ventricle": 46,
    "right_atrium": 47, "right_ventricle": 48, "pulmonary_artery": 49,
}  # fmt: skip
VERSION_2_FIRST = {
    name: [f"{name}.nii.gz", *([f"v1_labels.nrrd:{V1[name]}"] if name in V1 else [])]
    for name in HEART.structures
}  # fmt: skip
FILES = [
    RESOURCES / "anatomies/heart/topology.tsv",
    RESOURCES / "segmentations/heart_vessels.tsv",
    CONVENTION,
]


def run(folder, out, sources=None):
    """Records of all cases in `folder`, by case; label maps in `out`."""
    tasks = case_tasks(
        find_cases(folder), parse_sources(sources or VERSION_2_FIRST, HEART.structures),
        (parse_source("heart.nii.gz"),), "same settings",
    )  # fmt: skip
    records = batch_runner.run_batch(
        out, tasks, make_label_map, initializer=open_standard, initargs=(HEART, HEART_GRID, *FILES)
    )
    return {record["subject"]: record for record in records}


@pytest.fixture
def scans(tmp_path):
    shutil.copytree(DATA, tmp_path / "scans", ignore=shutil.ignore_patterns("README.md"))
    return tmp_path / "scans"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Verdicts on the two scans as they are, and the folder of the label maps."""
    out = tmp_path_factory.mktemp("real") / "maps"
    return run(DATA, out), out


def test_the_whole_scan_is_accepted_from_two_sources(real):
    record = real[0]["s0327"]
    assert record["verdict"] == "accepted", record["reason"]
    assert record["reason"] == ""
    assert "aorta=aorta.nii.gz" in record["sources"]
    assert "left_ventricle=v1_labels.nrrd:46" in record["sources"]
    assert "pulmonary_artery=v1_labels.nrrd:49" in record["sources"]


def test_it_resembles_the_template_made_of_the_same_scan(real):
    found = read_label_map(real[1] / "s0327.nii.gz", HEART)
    template = read_label_map(RESOURCES / "templates/T1_totalsegmentator_s0327.nii.gz", HEART)
    field = np.zeros(HEART_GRID.shape, bool)
    field[8:-8, 8:-8, 8:-8] = True  # the template's
    theirs = to_grid(template, HEART_GRID).labels
    dice = {
        name: 2 * (a & b).sum() / (a.sum() + b.sum())
        for k, name in enumerate(HEART.structures, 1)
        for a, b in [((found.labels == k) & field, theirs == k)]
    }
    assert all(dice[name] >= 0.98 for name in HEART.centred_on), dice
    assert dice["aorta"] >= 0.98, dice
    assert dice["pulmonary_artery"] >= 0.98, dice
    assert min(dice.values()) >= 0.92, dice


def test_it_lies_on_the_grid_about_the_hearts_centre_in_the_scanners_coordinates(real):
    found = read_label_map(real[1] / "s0327.nii.gz", HEART)
    assert found.labels.shape == HEART_GRID.shape
    origin = np.array(real[0]["s0327"]["origin_mm"])
    affine = HEART_GRID.affine()
    affine[:3, 3] += origin
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    centre = moments.measure_labels(found.labels, [(1, 2, 3, 4, 5)], found.axes_mm).centroid_mm[0]
    assert np.linalg.norm(centre - origin) <= 0.15
    scan = read_volume(DATA / "s0327/v1_labels.nrrd")
    theirs = mask_of(scan, (V1["right_ventricle"],)).centroid_mm
    ours = mask_of(Volume(found.labels, found.affine), (HEART.label("right_ventricle"),)).centroid_mm
    assert np.linalg.norm(ours - theirs) <= 0.5
    volumes = [(found.labels == k).sum() * HEART_GRID.voxel_volume_ml for k in range(1, 11)]
    np.testing.assert_allclose(real[0]["s0327"]["volumes_ml"], volumes)


def test_volumes_of_the_chambers_are_those_of_the_scan(real):
    scan = read_volume(DATA / "s0327/v1_labels.nrrd")
    voxel_ml = abs(np.linalg.det(scan.affine[:3, :3])) / 1000
    for name in HEART.centred_on:
        found = real[0]["s0327"]["volumes_ml"][HEART.label(name) - 1]
        # masks of two sources overlap at the valves, where the lower label wins
        assert found == pytest.approx((scan.values == V1[name]).sum() * voxel_ml, rel=0.02)


def test_the_cut_scan_is_rejected_with_reasons(real):
    record = real[0]["s0328"]
    assert record["verdict"] == "rejected"
    assert "cut by the field: whole heart (superior end)" in record["reason"]
    assert "missing: myocardium, left_ventricle" in record["reason"]
    assert not (real[1] / "s0328.nii.gz").exists()
    assert (real[1] / "pictures/s0328.png").exists()


def test_the_table_of_cases(real, tmp_path):
    people = pd.DataFrame({"case": ["s0328", "s0327"], "sex": ["male", "female"]})
    write_table(tmp_path / "cases.tsv", cases_table(list(real[0].values()), HEART, people), CASES)
    table = read_table(tmp_path / "cases.tsv", CASES).set_index("case")
    assert table.loc["s0327", "file"] == "s0327.nii.gz"
    assert table.loc["s0327", "size"] == (real[1] / "s0327.nii.gz").stat().st_size
    assert len(table.loc["s0327", "sha256"]) == 64
    assert table.loc["s0328", "file"] == ""
    assert table["sex"].to_dict() == {"s0327": "female", "s0328": "male"}
    assert table.loc["s0327", "left_ventricle_ml"] == pytest.approx(127, abs=1)
    assert table.loc["s0328", "left_ventricle_ml"] == 0
    origin = table.loc["s0327", ["origin_x_mm", "origin_y_mm", "origin_z_mm"]].astype(float)
    np.testing.assert_allclose(origin, real[0]["s0327"]["origin_mm"], atol=1e-4)


def test_what_is_accepted_can_be_a_cohort_and_train_a_prior(real, tmp_path):
    from cardiocohort.prior import reference_population

    source, rules = real[1] / "s0327.nii.gz", load_rules(FILES[0], HEART)
    imported = import_label_map(
        tmp_path / "cohort.nii.gz", (str(source), HEART, HEART_GRID, rules, CONVENTION)
    )
    np.testing.assert_allclose(imported["volume_ml"], real[0]["s0327"]["volumes_ml"])
    source = reference_population.open_source(HEART, HEART_GRID, FILES[0], {}, None, 0, CONVENTION)
    (task,) = reference_population.folder_tasks(find_label_maps(real[1]), "")
    record = reference_population.work_folder(source, tmp_path / "prior.nii.gz", task.payload)
    assert record["verdict"] == "accepted"
    assert record["repairs"] == []


def rewrite(path, change):
    """Save a NIfTI file with what `change` makes of its voxels and affine."""
    image = nib.load(path)
    values, affine = change(np.asanyarray(image.dataobj), image.affine.copy())
    changed = nib.Nifti1Image(values, affine)
    changed.set_sform(affine, 1)
    nib.save(changed, path)


def as_nifti(case):
    """The case's NRRD file as NIfTI, under the name of the labels' file."""
    volume = read_volume(case / "v1_labels.nrrd")
    nib.save(nib.Nifti1Image(volume.values, volume.affine), case / "v1_labels.nii.gz")
    (case / "v1_labels.nrrd").unlink()


NIFTI = {k: [s.replace(".nrrd", ".nii.gz") for s in several] for k, several in VERSION_2_FIRST.items()}


def one_case(scans):
    shutil.rmtree(scans / "s0328")
    return scans / "s0327"


def test_the_first_source_that_has_a_structure_wins(scans, tmp_path, real):
    case = one_case(scans)
    rewrite(case / "aorta.nii.gz", lambda values, affine: (np.zeros_like(values), affine))
    version_1_first = VERSION_2_FIRST | {
        "inferior_vena_cava": ["v1_labels.nrrd:8", "inferior_vena_cava.nii.gz"],
    }
    record = run(scans, tmp_path / "maps", version_1_first)["s0327"]
    assert "aorta=v1_labels.nrrd:7" in record["sources"]  # the first file has no voxel of it
    assert "inferior_vena_cava=v1_labels.nrrd:8" in record["sources"]
    k = HEART.label("inferior_vena_cava")
    assert record["volumes_ml"][k - 1] != pytest.approx(real[0]["s0327"]["volumes_ml"][k - 1], rel=0.01)


def test_a_segment_that_is_not_there_is_looked_for_in_the_next_source(tmp_path):
    (tmp_path / "s1").mkdir()
    shutil.copy(SLICER, tmp_path / "s1/s1.seg.nrrd")
    sources = [Source("{case}.seg.nrrd", (name,)) for name in ("Ribs", "ribs")]
    ((source, mask),) = find_masks(tmp_path / "s1", {"aorta": tuple(sources)}, AGREE).values()
    assert str(source) == "{case}.seg.nrrd:ribs"
    assert mask.voxels.sum() == 8487
    with pytest.raises(SubjectError, match=r"aorta: .*s1\.seg\.nrrd: not one segment of the name 'Ribs'"):
        find_masks(tmp_path / "s1", {"aorta": (sources[0],)}, AGREE)


def test_masks_that_may_be_something_else_fail_with_their_values(tmp_path):
    (tmp_path / "aorta.nii").write_bytes(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)).to_bytes())
    with pytest.raises(SubjectError, match=r"aorta: .*aorta.nii: .* holds the values 1. Name"):
        find_masks(tmp_path, {"aorta": (Source("aorta.nii"),)}, AGREE)


def test_sizes_of_no_heart_are_refused():
    assert wrong_sizes({"aorta": 60.0, "left_ventricle": 900.0}) == []
    (reason,) = wrong_sizes({"aorta": 6e-8, "left_ventricle": 7078.0, "myocardium": 160.0})
    assert reason.startswith("size: aorta 6e-08 mL, left_ventricle 7078 mL (allowed: 0.1 to 2000 mL")


def test_version_1_alone_lacks_veins(scans, tmp_path):
    case = one_case(scans)
    for path in case.glob("*.nii.gz"):
        path.unlink()
    record = run(scans, tmp_path / "maps")["s0327"]
    assert record["verdict"] == "accepted", record["reason"]
    assert record["changes"].startswith("without superior_vena_cava, pulmonary_vein; ")


def test_another_storage_of_a_scan_gives_the_same_label_map(scans, tmp_path, real):
    case = one_case(scans)
    as_nifti(case)

    def stored_otherwise(values, affine):
        turn = np.array([[0, 0, -1, values.shape[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
        return np.ascontiguousarray(values[::-1].transpose(1, 2, 0)), affine @ turn

    for path in case.glob("*.nii.gz"):
        rewrite(path, stored_otherwise)
    record = run(scans, tmp_path / "maps", NIFTI)["s0327"]
    assert record["verdict"] == "accepted", record["reason"]
    ours, theirs = (
        read_label_map(out / "s0327.nii.gz", HEART).labels for out in (tmp_path / "maps", real[1])
    )
    assert (ours != theirs).sum() <= 20  # of 100,000 voxels: shares of just one half are rounded both ways


def rejected(scans, folder, change):
    """The reason why a case is rejected whose volumes were changed."""
    case = one_case(scans)
    as_nifti(case)
    for path in case.glob("*.nii.gz"):
        rewrite(path, change)
    record = run(scans, folder, NIFTI)["s0327"]
    assert record["verdict"] == "rejected"
    return record["reason"]


def test_a_mirrored_scan_is_rejected(scans, tmp_path):
    mirror = np.diag([-1.0, 1, 1, 1])
    reason = rejected(scans, tmp_path / "maps", lambda values, affine: (values, mirror @ affine))
    assert "mirrored: left and right exchanged" in reason


def test_a_scan_that_ends_inside_the_heart_is_rejected(scans, tmp_path):
    # the atria's roofs are gone
    reason = rejected(scans, tmp_path / "maps", lambda values, affine: (values[:, :, :90], affine))
    assert "cut by the field: left_atrium (superior end)" in reason
    assert "left_ventricle (" not in reason


def test_a_refused_heart_is_rejected_with_the_gates_reasons(scans, tmp_path):
    case = one_case(scans)
    as_nifti(case)

    def pierced(values, affine):
        """A channel of 12 mm from the left ventricle through its side wall."""
        centre = np.argwhere(values == V1["left_ventricle"]).mean(axis=0).astype(int)
        hole = values[: centre[0], centre[1] - 4 : centre[1] + 4, centre[2] - 4 : centre[2] + 4]
        hole[hole == V1["myocardium"]] = 0
        return values, affine

    rewrite(case / "v1_labels.nii.gz", pierced)
    record = run(scans, tmp_path / "maps", NIFTI)["s0327"]
    assert record["verdict"] == "rejected"
    assert "breach.left_ventricle" in record["reason"]


def test_a_case_that_cannot_be_read_does_not_stop_the_others(scans, tmp_path):
    path = scans / "s0328/aorta.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    (scans / "empty").mkdir()
    records = run(scans, tmp_path / "maps")
    assert records["s0327"]["verdict"] == "accepted"
    assert records["s0328"]["verdict"] == "failed"
    assert "aorta.nii.gz: not a readable NIfTI file" in records["s0328"]["reason"]
    assert records["empty"]["verdict"] == "failed"
    assert "no structure" in records["empty"]["reason"]
    table = cases_table(list(records.values()), HEART, None)
    assert table["verdict"].tolist() == ["failed", "accepted", "failed"]


def test_finished_cases_are_kept_and_changed_ones_are_made_again(scans, tmp_path):
    out = tmp_path / "maps"
    first = run(scans, out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert run(scans, out) == first
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == times
    no_wall = {name: [f for f in VERSION_2_FIRST[name] if "v1" not in f] for name in HEART.structures}
    second = run(scans, out, no_wall)
    assert second["s0327"]["verdict"] == "rejected"
    assert second["s0327"]["reason"].startswith("missing: myocardium, ")
    assert not (out / "s0327.nii.gz").exists()  # the map of the earlier run
    (scans / "s0327/pulmonary_vein.nii.gz").unlink()
    third = run(scans, out)
    assert third["s0328"] == first["s0328"]
    assert "without pulmonary_vein" in third["s0327"]["changes"]


def test_one_file_per_case_needs_no_folder(tmp_path):
    """The block that a label map in another numbering is refused with imports it from where it lies."""
    for case in ("a", "b.1"):
        (tmp_path / f"{case}.nii.gz").touch()
    (tmp_path / "c").mkdir()
    sources = parse_sources({name: ["{case}.nii.gz:2"] for name in HEART.structures}, HEART.structures)
    cases = find_cases(tmp_path, sources.values())
    assert [case.name for case in cases] == ["a", "b.1", "c"]
    assert [path.name for path in source_files(cases[1], sources)] == ["b.1.nii.gz"]
    assert source_files(cases[2], sources) == []
    assert [case.name for case in find_cases(tmp_path)] == ["c"]
