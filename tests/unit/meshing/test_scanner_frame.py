"""A label map somewhere in the scanner: its mesh and decks lie over it."""

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import build_meshes
import import_anatomies
import write_inputs
from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.cohort import stage_tables
from cardiocohort.mesh.frames import in_frame
from cardiocohort.mesh.model import FACETS
from cardiocohort.mesh.storage import read_model
from cardiocohort.runtime import tables
from heart_anatomy import HEART
from workflow_runs import REPOSITORY

TEMPLATE = next((REPOSITORY / "resources/templates").glob("T3*.nii.gz"))
BUNDLE = REPOSITORY / "resources/anatomies/heart/anatomy.json"
RULES = REPOSITORY / "resources/anatomies/heart/topology.tsv"
CONVENTION = sorted((REPOSITORY / "resources/anatomies/heart/convention").glob("*.tsv"))
PLACE_MM = [121.5, -80.25, 1040.0]
INSIDE_MM = 2.0  # a voxel


def job(inputs, table, **params):
    params = {"library": "", "anatomy": "", **params}
    return SimpleNamespace(
        input=SimpleNamespace(**inputs),
        output=SimpleNamespace(table=str(table)),
        params=SimpleNamespace(**params),
        threads=1,
    )


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """T3 elsewhere in the scanner, stored with its axes in the order and directions S, P, L."""
    heart = read_label_map(TEMPLATE, HEART)
    affine = heart.affine.copy()
    affine[:3, 3] += PLACE_MM
    image = nib.Nifti1Image(heart.labels, affine)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt("SPL")
        )
    )
    path = tmp_path_factory.mktemp("scan") / "scan.nii"
    nib.save(turned, path)
    return path


@pytest.fixture(scope="module")
def folder(scan, tmp_path_factory):
    """The cohort's folder after import, meshing in the scanner's frame, and two decks."""
    folder = tmp_path_factory.mktemp("cohort")
    anatomies, topology = folder / "anatomies/a.parquet", folder / "topology/a.tsv"
    meshes, inputs = folder / "meshes/a.tsv", folder / "inputs/a.tsv"
    for table in (anatomies, topology, meshes, inputs):
        table.parent.mkdir()
    import_anatomies.main(
        job(
            {
                "label_maps": [str(scan)], "rules": str(RULES), "bundle": str(BUNDLE),
                "convention": CONVENTION,
            },
            anatomies, subjects=["a-00000"], arm="a", rules_sha256="", convention_sha256="",
            nifti_geometry="agree",
        )
    )  # fmt: skip
    verdicts = pd.DataFrame([{"subject": "a-00000", "verdict": "accepted", "reasons": ""}])
    tables.write_table(topology, verdicts, stage_tables.TOPOLOGY)
    build_meshes.main(
        job(
            {"anatomies": str(anatomies), "topology": str(topology), "bundle": str(BUNDLE)}, meshes,
            meshing={"frame": "scanner", "edge_length_mm": 3.4}, microstructure={},
        )
    )  # fmt: skip
    params = {
        "formats": ["opencarp", "vtu"],
        "domain": "biventricular",
        "mechanics": {},
        "simulation": None,
        "decks": {},
    }
    write_inputs.main(job({"meshes": str(meshes)}, inputs, **params))
    return folder


def mesh_of(folder):
    (volume,) = (folder / "meshes/a").glob("*.vtu")
    return read_model(volume, volume.with_suffix(".surface.vtp"))


def share_in_cavity(model, scan, offset_mm):
    """Share of the LV's endocardium, away from the base, that an offset inwards brings into LV blood."""
    facets = model.facets[model.facet_tag == FACETS["lv_endo"]]
    facets = facets[~np.isin(facets, model.nodes_of("base")).any(axis=1)]
    corners = model.points_mm[facets]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1)[:, None]  # out of the muscle, into the cavity
    image = nib.load(scan)
    index = nib.affines.apply_affine(np.linalg.inv(image.affine), corners.mean(axis=1) + offset_mm * normal)
    found = np.asarray(image.dataobj)[tuple(np.rint(index).astype(int).T)]
    return (found == HEART.label("left_ventricle")).mean()


def test_the_mesh_lies_over_its_scan(folder, scan):
    model = mesh_of(folder)
    assert model.frame == "scanner"
    assert share_in_cavity(model, scan, INSIDE_MM) > 0.98
    assert share_in_cavity(model, scan, -INSIDE_MM) < 0.02


def test_the_matrix_takes_the_heart_frame_there(folder, scan):
    model = mesh_of(folder)
    heart = in_frame(model, "heart")
    assert np.abs(heart.points_mm.mean(axis=0)).max() < 40
    assert np.linalg.norm(model.points_mm.mean(axis=0) - PLACE_MM) < 60
    there = nib.affines.apply_affine(model.world_from_heart, heart.points_mm)
    assert np.allclose(there, model.points_mm, atol=1e-6)
    canonical = read_label_map(next((folder / "anatomies/a").glob("*.nii.gz")), HEART)
    origin = nib.as_closest_canonical(nib.load(scan)).affine[:3, 3]
    assert np.allclose(model.world_from_heart[:3, 3], origin - canonical.affine[:3, 3], atol=1e-3)


def test_decks_are_in_the_same_frame_and_say_so(folder):
    model, decks = mesh_of(folder), folder / "inputs/a/a-00000"
    points = np.loadtxt(decks / "opencarp/heart.pts", skiprows=1) / 1000
    assert np.allclose(points, model.points_mm, atol=1e-6)
    for name in ("opencarp", "vtu"):
        record = json.loads((decks / name / "frame.json").read_text())
        assert record["frame"] == "scanner"
        assert np.array_equal(record["world_from_heart"], model.world_from_heart)
        assert "frame.json" in (decks / name / "README.txt").read_text()
    deck = read_model(decks / "vtu/mesh.vtu", decks / "vtu/surface.vtp")
    assert np.array_equal(deck.world_from_heart, model.world_from_heart)
    listed = pd.read_csv(folder / "inputs/a.tsv", sep="\t")["file"]
    assert "a-00000/vtu/frame.json" in set(listed)
