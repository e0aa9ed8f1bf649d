"""Decks that follow the simulations: their geometry, and the volumes that a README expects."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import write_inputs
from cardiocohort import exporters
from cardiocohort.cohort import stage_tables
from cardiocohort.exporters import Deck, Simulated
from cardiocohort.mechanics.decks import NOT_UNLOADED
from cardiocohort.mechanics.settings import HolzapfelOgden, Mechanics
from cardiocohort.mesh.storage import read_model, write_surface, write_volume
from cardiocohort.runtime import artifacts, tables
from cardiocohort.simulation import calibration
from cardiocohort.simulation.scaling import Scaling
from small_meshes import box

INFLATIONS = ("calculix", "febio", "fenicsx", "svmultiphysics")
FOUND = Simulated("image", {"lv": 81.0, "rv": 90.0}, {"lv": 105.25, "rv": 112.5}, seconds=61.4)


def readme(name: str, folder: Path, simulated: Simulated, mechanics: Mechanics, springs=0.0) -> str:
    exporters.writer(name)(box(), folder, mechanics, Deck(simulated, pericardium_kpa_per_mm=springs))
    return (folder / "README.txt").read_text()


@pytest.mark.parametrize("name", INFLATIONS)
def test_the_readme_states_the_simulated_volumes_and_a_tolerance(name, tmp_path):
    text = readme(name, tmp_path, FOUND, Mechanics(material="neo_hooke"))
    assert "of `simulate` with neo_hooke: LV 105.25 mL, RV 112.50 mL" in text
    assert "Tolerance: " in text
    assert "took 61 s" in text


def test_volumes_of_another_material_are_not_expected(tmp_path):
    text = readme("calculix", tmp_path, FOUND, Mechanics())
    assert "another material, neo_hooke: do not expect" in text
    assert "Tolerance" not in text


@pytest.mark.parametrize("name", INFLATIONS)
def test_springs_on_the_epicardium_are_there_or_said_to_be_missing(name, tmp_path):
    text = readme(name, tmp_path, FOUND, Mechanics(material="neo_hooke"), springs=0.25)
    if name == "febio":
        assert "The epicardium is free: springs of 0.25 kPa/mm held it in `simulate`" in text
        assert "springs held the epicardium, which is free in this deck: expect larger volumes" in text
        assert "Tolerance" not in text
    else:
        assert "Springs of 0.25 kPa/mm along the undeformed normal hold the epicardium" in text
        assert "Tolerance: " in text


@pytest.mark.parametrize("name", ["febio", "fenicsx", "svmultiphysics"])
def test_directions_that_a_deck_lacks_are_said(name, tmp_path):
    """They matter to laws with fibres alone."""
    within = replace(FOUND, fibres="points")
    text = readme(name, tmp_path, within, Mechanics())
    assert "this deck has one per tetrahedron" in text
    assert "`simulation: {fibres: elements}`. Tolerance with these: " in text
    assert "tetrahedron;" not in readme(name, tmp_path, within, Mechanics(material="neo_hooke"))
    assert "tetrahedron;" not in readme(name, tmp_path, FOUND, Mechanics())


@pytest.mark.parametrize("name", INFLATIONS)
def test_a_load_that_was_not_reached_is_said(name, tmp_path):
    unfinished = replace(FOUND, at_load_ml={}, reason="simulation did not converge: too thin")
    text = readme(name, tmp_path, unfinished, Mechanics())
    assert "did not reach the full load" in text
    assert "too thin" in text
    assert "105" not in text


@pytest.fixture
def cohort(tmp_path):
    """Tables and files of two meshes, of their simulations, and of a calibration that doubles stiffness."""
    model, loose = box(), replace(box(), points_mm=0.9 * box().points_mm)
    meshes, runs = tmp_path / "meshes/a-0000.tsv", tmp_path / "simulations/a-0000.tsv"
    rows, results = [], []
    for subject, share in (("a-00000", 1.0), ("a-00001", 0.4)):
        beside = {meshes: (model, rows), runs: (loose, results)}
        for table in beside:
            (table.with_suffix("") / subject).mkdir(parents=True, exist_ok=True)
        files = [f"{subject}/mesh.vtu", f"{subject}/mesh.vtp", f"{subject}/unloaded.vtu"]
        write_volume(meshes.with_suffix("") / files[0], model)
        write_surface(meshes.with_suffix("") / files[1], model)
        write_volume(runs.with_suffix("") / files[2], loose)

        def listed(table, file, part):
            found = artifacts.listing(table.with_suffix(""), file)
            return {f"{part}{column}": value for column, value in found.items()}

        ending = {"subject": subject, "verdict": "accepted", "reason": ""}
        rows.append(ending | listed(meshes, files[0], "") | listed(meshes, files[1], "surface_"))
        if share < 1:
            ending = {"subject": subject, "verdict": "failed", "reason": "unloading did not converge"}
        volumes = {"lv_unloaded_ml": 70.0, "lv_loaded_ml": 81.5, "rv_unloaded_ml": 79.0, "rv_loaded_ml": 88.0}
        results.append(
            ending | {"detail": "", "load_share": share, "seconds": 12.0} | volumes
            | artifacts.NO_FILE | listed(runs, files[2], "unloaded_")
        )  # fmt: skip
    tables.write_table(meshes, pd.DataFrame(rows), stage_tables.MESHES | stage_tables.MESH_FILES)
    tables.write_table(runs, pd.DataFrame(results), stage_tables.SIMULATIONS)
    found = calibration.Calibration("a", calibration.REACHED, "", "", {}, {}, 0.02, Scaling(stiffness=2.0))
    calibration.write(tmp_path / "a.json", found)
    return tmp_path


def written(cohort: Path, reference: str) -> pd.DataFrame:
    """The table of inputs, after the rule's script."""
    table = cohort / f"{reference}/a-0000.tsv"
    files = {
        "meshes": str(cohort / "meshes/a-0000.tsv"),
        "simulations": [str(cohort / "simulations/a-0000.tsv")],
        "calibration": [str(cohort / "a.json")],
    }
    params = {
        "formats": ["vtu", "fenicsx"],
        "domain": "biventricular",
        "mechanics": {},
        "decks": {},
        "library": "",
    }
    params["simulation"] = {"reference": reference, "pericardium_kpa_per_mm": 0.5}
    write_inputs.main(
        SimpleNamespace(
            input=SimpleNamespace(**files),
            output=SimpleNamespace(table=str(table)),
            params=SimpleNamespace(**params),
        )
    )
    return tables.read_table(table, stage_tables.INPUTS)


def test_decks_have_the_unloaded_geometry_and_the_calibrated_stiffness(cohort):
    table = written(cohort, "unloaded")
    folder = cohort / "unloaded/a-0000/a-00000"
    expected = 0.9 * box().points_mm
    for names in (("vtu/mesh.vtu", "vtu/surface.vtp"),):
        back = read_model(*(folder / name for name in names))
        assert np.allclose(back.points_mm, expected)
    text = (folder / "fenicsx/README.txt").read_text()
    assert "Geometry: the stress-free one" in text
    assert "LV 81.50 mL, RV 88.00 mL" in text
    settings = (folder / "fenicsx/mechanics.json").read_text()
    assert '"pericardium_kpa_per_mm": 0.5' in settings
    assert f'"a_f_kpa": {2 * HolzapfelOgden().a_f_kpa}' in settings
    # of the other heart no stress-free geometry is known
    (ended,) = table[table["subject"] == "a-00001"].to_dict("records")
    assert ended["verdict"] == "skipped"
    assert "simulation failed: unloading did not converge" in ended["reason"]


def test_a_geometry_that_does_not_give_the_image_is_in_no_deck():
    """Though its inflation reached the full load."""
    row = {"lv_unloaded_ml": 70.0, "lv_loaded_ml": 81.5, "rv_unloaded_ml": 79.0, "rv_loaded_ml": 88.0}
    row |= {"load_share": 1.0, "seconds": 1.0, "detail": "0.3 mm from the image", "reason": ""}
    row |= {"unloaded_file": "a.vtu", "unloaded_size": 1, "unloaded_sha256": "0"}
    mesh = (("a.vtu", 1, "0"), ("a.vtp", 1, "0"))
    assert Simulated.of(row, "unloaded", "points").geometry(mesh, row, Path()) is not None
    found = Simulated.of(row | {"reason": NOT_UNLOADED}, "unloaded", "points")
    assert found.geometry(mesh, row, Path()) is None
    assert "0.3 mm from the image" in found.reason


def test_decks_of_the_image_are_there_for_every_mesh(cohort):
    table = written(cohort, "image")
    assert set(table["verdict"]) == {"accepted"}
    folder = cohort / "image/a-0000"
    mesh = cohort / "meshes/a-0000/a-00000/mesh.vtu"
    assert (folder / "a-00000/vtu/mesh.vtu").samefile(mesh)
    assert "did not reach" in (folder / "a-00001/fenicsx/README.txt").read_text()
