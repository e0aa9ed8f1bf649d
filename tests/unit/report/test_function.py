"""Simulated hearts and siblings on the page: figures, strains, motion, pairs."""

import base64
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import report_cohort
import simulated_runs
from cardiocohort.anatomy import moments
from cardiocohort.anatomy.aha_segments import LEFT
from cardiocohort.cohort.grammar import Edit
from cardiocohort.cohort.table import Arm
from cardiocohort.mesh.frames import in_frame
from cardiocohort.mesh.model import Microstructure
from cardiocohort.mesh.storage import write_surface, write_volume
from cardiocohort.report import function_section, gallery, motion, pairs_section
from cardiocohort.report.cohort_tables import CohortTables, read_cohort_tables
from cardiocohort.report.manifest import manifest
from cardiocohort.runtime import artifacts
from cardiocohort.runtime.errors import InputError
from cardiocohort.simulation import calibration
from cardiocohort.simulation.calibration import Calibration
from cardiocohort.simulation.scaling import Scaling
from heart_anatomy import HEART
from simulated_runs import failed_run, stretches, times, write_run, write_table
from small_meshes import box


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Arms a (two that beat, one failed) and b (accepted, not run), and the runs' rows."""
    folder = tmp_path_factory.mktemp("runs")
    rows = [write_run(folder / "a-0000", f"a-0000{k}", beat=True) for k in (0, 1)] + [failed_run("a-00002")]
    rows[1] |= {"lv_ef": 0.7, "periodic": 0.0, "detail": "the beat does not repeat itself after 3 beats"}
    path = write_table(folder / "a-0000.tsv", rows)
    subjects = ["a-00000", "a-00001", "a-00002", "b-00000"]
    manifest = pd.DataFrame({"subject": subjects, "arm": list("aaab"), "status": "accepted"})
    runs = function_section.read_runs([path], manifest)
    return runs, function_section.function_of(runs, manifest), folder


def test_runs_are_counted_and_failures_keep_their_reason(found):
    function = found[1]
    counts = function.counts.set_index("arm")
    assert counts.loc["a"].to_dict() == {"run": 3, "complete": 2, "failed": 1, "unsteady": 1, "not_run": 0}
    assert counts.loc["b"].to_dict() == {"run": 0, "complete": 0, "failed": 0, "unsteady": 0, "not_run": 1}
    remarks = function.remarks.set_index("subject")
    assert list(remarks.index) == ["a-00001", "a-00002"]
    assert tuple(remarks.loc["a-00002", ["reason", "load_share"]]) == ("simulation did not converge", 0.4)


def test_figures_are_of_complete_runs_in_their_units(found):
    row = found[1].quantities.set_index(["arm", "quantity"]).loc["a", "LV ejection fraction"]
    assert (row["n"], row["unit"]) == (2, "%")
    assert row["mean"] == pytest.approx(60.0)
    assert row["sd"] == pytest.approx(np.std([50, 70], ddof=1))


def test_curves_are_of_the_last_beat(found):
    curve = found[1].curves
    own = curve[(curve["subject"] == "a-00000") & (curve["ventricle"] == "lv")]
    assert len(own) == 81
    assert own["volume_ml"].idxmin() - own.index[0] == 57  # (t / 0.8)^2 = 1/2 at 0.566 s


def test_segments_have_the_strain_of_their_tets(found):
    fibre = found[1].strains["fibre"].set_index("subject").loc["a-00000"]
    known = [n for n in LEFT if np.isfinite(fibre[n])]
    assert len(known) > 10
    assert [fibre[n] for n in known] == pytest.approx(known)  # E_ff is a hundredth of the segment


def test_strain_of_a_beat_is_taken_where_ejection_ends(found):
    """0.56 s is the first moment whose volume is within 0.1 % of the stroke volume of the least one."""
    _, function, folder = found
    table = pd.read_csv(folder / "a-0000/a-00000/strains.tsv", sep="\t")
    systole = times()[np.abs(times() - 0.56).argmin()]
    for name in function_section.OF_STRAINS:
        rows = table[np.isclose(table["time_s"], systole, atol=1e-4)].set_index("aha")[name]
        shown = function.strains[name].set_index("subject").loc["a-00000", list(rows.index)]
        np.testing.assert_allclose(shown.astype(float), 100 * rows)
    tabled = function_section.strain_table(function.strains)
    assert set(tabled["n"]) == {2}
    np.testing.assert_allclose(tabled["radial_sd"], 0.0, atol=1e-9)  # the same heart twice


def test_calibrations_are_shown_with_a_warning_where_a_target_was_not_reached(found, tmp_path):
    runs, _, _ = found
    manifest = pd.DataFrame({"subject": ["a-00000"], "arm": "a", "status": "accepted"})
    good = Calibration(
        "a", "reached", "", "a-00001", {"lv_ef": 0.6}, {"lv_ef": 0.59}, 0.02, Scaling(tension=1.25)
    )
    bad = Calibration(
        "b", "not reached", "lv_ef is 0.5 for 0.6", "b-00000", {"lv_ef": 0.6}, {"lv_ef": 0.5}, 0.02,
        Scaling(tension=4.0),
    )  # fmt: skip
    for one in (good, bad):
        calibration.write(tmp_path / f"{one.arm}.json", one)
    paths = [str(tmp_path / f"{one.arm}.json") for one in (good, bad)]
    function = function_section.function_of(runs, manifest, paths)
    rows = function.calibrations.set_index("arm")
    assert rows.loc["a", ["quantity", "unit", "scalar"]].tolist() == ["LV ejection fraction", "%", "tension"]
    assert rows.loc["a", ["wanted", "reached", "factor"]].tolist() == pytest.approx([60.0, 59.0, 1.25])
    assert rows["verdict"].tolist() == ["reached", "not reached"]
    (warning,) = function.warnings
    assert "Arm b" in warning
    assert "lv_ef is 0.5 for 0.6" in warning


def test_a_file_that_was_changed_is_not_shown(found, tmp_path):
    path = write_table(tmp_path / "a-0000.tsv", [write_run(tmp_path / "a-0000", "a-00000")])
    (tmp_path / "a-0000/a-00000/pressure_volume.tsv").write_text("load_share\n")
    manifest = pd.DataFrame({"subject": ["a-00000"], "arm": "a", "status": "accepted"})
    with pytest.raises(InputError, match=r"pressure_volume\.tsv"):
        function_section.function_of(function_section.read_runs([path], manifest), manifest)


def test_colours_of_strain_are_even_around_zero(found):
    for frame in found[1].strains.values():
        scale = function_section.strain_scale(frame)
        assert scale.vmin == -scale.vmax
        assert scale.vmax % 5 == 0
        assert scale.vmax >= np.nanquantile(np.abs(frame[list(LEFT)].to_numpy(float)), 0.99)


@pytest.mark.parametrize("beat", [True, False])
def test_a_motion_has_the_places_and_fibre_strains_of_its_gradients(tmp_path, beat):
    """Homogeneous deformation of an unloaded mesh: everything is known in closed form."""
    model = box()
    run = write_run(tmp_path, "s", model, beat) | {"folder": str(tmp_path)}
    moved = motion.motion_of(run, model)
    gradients = stretches()
    if beat:
        shown = np.rint(np.linspace(0, len(gradients) - 1, motion.MOST_FRAMES)).astype(int)
        assert moved.labels[0] == "0.00 s after end-diastole"
        gradients = gradients[shown]
    else:
        gradients = np.stack([np.eye(3), gradients[0]])
        assert moved.labels == ["unloaded", "at the full load"]
    rest = simulated_runs.unloaded(model).points_mm
    np.testing.assert_allclose(moved.places_mm, np.einsum("tij,nj->tni", gradients, rest), atol=1e-5)
    fibres = model.microstructure.f0
    stretch = np.linalg.norm(np.einsum("tij,mj->tmi", gradients, fibres), axis=-1)
    np.testing.assert_allclose(moved.strain, ((stretch / stretch[0]) ** 2 - 1) / 2, atol=1e-4)
    along = motion.carried(fibres, model.points_mm, model.tets, moved.places_mm)
    wanted = np.einsum("tij,mj->tmi", gradients, fibres)
    np.testing.assert_allclose(along, wanted / np.linalg.norm(wanted, axis=-1, keepdims=True), atol=1e-4)


def test_a_motion_in_the_scanners_coordinates_comes_into_the_heart_frame():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, [10.0, -20, 30]
    heart = np.random.default_rng(1).normal(size=(2, 5, 3))
    there = motion.Motion(["a", "b"], heart @ turn.T + matrix[:3, 3], None)
    np.testing.assert_allclose(there.in_heart_frame(matrix), heart, atol=1e-12)


def test_without_fibres_there_is_no_strain(tmp_path):
    model = replace(box(), microstructure=None)
    run = write_run(tmp_path, "s", model, beat=True) | {"folder": str(tmp_path)}
    assert motion.motion_of(run, model).strain is None
    assert isinstance(box().microstructure, Microstructure)


def test_the_gallery_moves_a_simulated_heart_where_its_label_map_is(tmp_path):
    """Its mesh and its run lie in the scanner's coordinates, its label map in the heart frame."""
    heart = report_cohort.ARMS[0] + "-00000"
    paths = report_cohort.write_cohort(tmp_path, n=2)
    matrix = np.eye(4)
    matrix[:3, 3] = [30.0, -200, 70]
    model = in_frame(replace(box(), world_from_heart=matrix), "scanner")
    batch = tmp_path / f"meshes/{report_cohort.ARMS[0]}-0000"
    write_volume(batch / f"{heart}.vtu", model)
    write_surface(batch / f"{heart}.surface.vtp", model)
    tables = read_cohort_tables(**paths)
    file = batch / f"{heart}.vtu"
    listed = {"size": file.stat().st_size, "sha256": artifacts.sha256(file)}
    tables.meshes.loc[tables.meshes["subject"] == heart, list(listed)] = list(listed.values())
    rows = manifest(tables, dict.fromkeys(tables.subjects["batch"], 1), {})
    rows["mesh"] = np.where(rows["subject"] == heart, str(file.relative_to(tmp_path)), "")
    path = write_table(tmp_path / "a-0000.tsv", [write_run(tmp_path / "a-0000", heart, model)])
    runs = function_section.read_runs([path], rows)
    found = gallery.portray([heart], tmp_path, tables, rows, HEART, runs)
    mesh = found.portraits[0].scene["mesh"]
    steps = np.frombuffer(base64.b64decode(mesh["motion"]["steps"]), "i1").reshape(2, -1, 3)
    nodes = np.unique(box().facets)
    unloaded = simulated_runs.unloaded(model).points_mm[nodes] - matrix[:3, 3]
    wanted = unloaded - box().points_mm[nodes]
    error = np.abs(steps[0] * mesh["motion"]["move_mm"] - wanted).max()
    assert error <= mesh["motion"]["move_mm"] / 2 + 1e-5
    strain = motion.motion_of(runs.to_dict("records")[0], model).strain
    assert found.shared["paints"]["strain"]["range"][1] >= 100 * np.quantile(np.abs(strain), 0.99)


def test_the_still_of_a_beat_is_its_end_systole(tmp_path):
    """The frames of the support module have ever more red."""
    run = write_run(tmp_path, "s", beat=True) | {"folder": str(tmp_path)}
    beat = gallery.beat_of(run)
    assert beat.moving == (tmp_path / "s/beat.webp").read_bytes()
    frame = round(0.56 / 0.8 * (simulated_runs.FRAMES - 1))
    assert beat.still.getpixel((16, 8))[0] == pytest.approx(8 * frame, abs=5)
    inflated = write_run(tmp_path, "t") | {"folder": str(tmp_path)}
    assert gallery.beat_of(inflated) is None
    (tmp_path / "s/beat.webp").write_bytes(b"")
    with pytest.raises(InputError, match=r"beat\.webp"):
        gallery.beat_of(run)


# ---- pairs


def rows_of(subject, volumes, shift_mm=0.0, dice=np.nan):
    arm = subject.rpartition("-")[0]
    rows = []
    for structure, volume in volumes.items():
        found = moments.from_ellipsoid([1.0 + shift_mm, 2, 3], [40.0, 20, 15], np.eye(3))
        columns = {name: float(value) for name, value in moments.to_columns(found).items()}
        head = {"subject": subject, "arm": arm, "structure": structure, "constrained": "size"}
        rows.append(head | columns | {"volume_ml": volume, "dice_with_base": dice})
    return rows


def test_siblings_are_compared_with_the_base_of_their_index():
    """Of four pairs one has no base and one no sibling; the aorta grew though nothing edits it."""
    base = [
        row
        for k in range(4)
        for row in rows_of(f"w-0000{k}", {"right_ventricle": 100.0 * (k + 1), "aorta": 50.0})
    ]
    made = [
        row
        for k in range(4)
        for row in rows_of(
            f"s-0000{k}", {"right_ventricle": 60.0 * (k + 1), "aorta": 55.0}, 2.0 * k, 0.9 - 0.1 * k
        )
    ]
    targets = [
        row
        for k in range(4)
        for row in rows_of(f"s-0000{k}", {"right_ventricle": 50.0 * (k + 1), "aorta": 50.0})
    ]
    none = pd.DataFrame()
    tables = CohortTables(pd.DataFrame(targets), pd.DataFrame(base + made), none, none, none)
    status = ["accepted", "accepted", "rejected", "accepted", "accepted", "accepted", "accepted", "rejected"]
    subjects = [f"{arm}-0000{k}" for arm in "ws" for k in range(4)]
    manifest = pd.DataFrame({"subject": subjects, "arm": list("wwwwssss"), "status": status})
    arm = Arm("s", 4, {}, None, (), (Edit("right_ventricle", "volume", "multiply", 0.5),), "w")
    found = pairs_section.pairs_of(tables, manifest, [Arm("w", 4, {}, None, (), ()), arm], [])
    table = found.table.set_index("structure")
    ventricle, aorta = table.loc["right_ventricle"], table.loc["aorta"]
    assert (ventricle["edit"], ventricle["n"], aorta["edit"]) == ("volume ×0.5", 2, "")
    assert ventricle["wanted_percent"] == pytest.approx(-50)
    assert ventricle["change_percent"] == pytest.approx(-40)
    assert np.isnan(aorta["wanted_percent"])
    assert aorta["change_percent"] == pytest.approx(10)
    assert (aorta["moved_mm"], aorta["moved_most_mm"]) == pytest.approx((1.0, 2.0))
    assert (aorta["dice"], aorta["dice_least"]) == pytest.approx((0.85, 0.8))
    (count,) = found.counts.to_dict("records")
    assert (count["requested"], count["compared"], count["moved"]) == (4, 2, ["aorta"])
    assert pairs_section.pairs_of(tables, manifest, [Arm("w", 4, {}, None, (), ())], []) is None


def test_a_base_that_is_a_label_map_has_the_targets_of_unedited_structures():
    targets = pd.DataFrame(rows_of("s-00000", {"left_ventricle": 50.0, "aorta": 40.0}))
    made = pd.DataFrame(rows_of("s-00000", {"left_ventricle": 55.0, "aorta": 41.0}, 1.0, 0.9))
    none = pd.DataFrame()
    tables = CohortTables(targets, made, none, none, none)
    manifest = pd.DataFrame({"subject": ["s-00000"], "arm": "s", "status": "accepted"})
    for of in ("left_ventricle", "left_ventricle@apex"):  # a structure follows its parts
        arm = Arm("s", 1, {}, None, (), (Edit(of, "volume", "multiply", 0.5),), "maps/base.nii.gz")
        table = pairs_section.pair_table(tables, manifest, [arm]).set_index("structure")
        assert table.loc["aorta", ["change_percent", "moved_mm"]].tolist() == pytest.approx([2.5, 1.0])
        edited = table.loc["left_ventricle"]  # its target is the edited volume, not the base's
        assert np.isnan(edited[["wanted_percent", "change_percent", "moved_mm"]].astype(float)).all()
        assert edited["dice"] == 0.9


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit("a", "volume", "set", 180.0), "volume = 180 mL"),
        (Edit("a", "volume", "set_per_m2", 90.0), "volume = 90 mL/m²"),
        (Edit("a", "centroid_x", "add", -5.0), "centroid x −5 mm"),
        (Edit("a/b", "distance", "multiply", 1.1), "distance to b ×1.1"),
        (Edit("a", "rotation_z", "add", 10.0), "rotation z +10°"),
    ],
)
def test_edits_are_written_as_people_read_them(edit, words):
    assert pairs_section.edit_words(edit) == words
