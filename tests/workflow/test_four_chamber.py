"""`snakemake` from a real heart's label map to decks and report of chambers with walls, in all formats."""

import json
import shutil

import h5py
import meshio
import numpy as np
import pandas as pd
import pytest
import pyvista
import yaml

from cardiocohort.cohort.stage_tables import mesh_files
from cardiocohort.mesh.label_model import wrong_facets
from cardiocohort.mesh.storage import read_model
from cardiocohort.meshing.chambers import ADDED
from cardiocohort.meshing.settings import LABEL_FORMATS
from cardiocohort.runtime.artifacts import check_file
from workflow_runs import TEMPLATES, make_bundle, snakemake

pytestmark = pytest.mark.long

MESHING = {"domain": "four_chamber", "blood_edge_length_mm": 10.0}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The folder of a finished run of the default target."""
    project = tmp_path_factory.mktemp("project")
    make_bundle(project / "bundle")
    (project / "maps").mkdir()
    shutil.copy(TEMPLATES[2], project / "maps/T3.nii.gz")
    (project / "config").mkdir()
    config = {
        "cohort": "mine", "label_maps": "maps", "bundle": "bundle",
        "meshing": MESHING, "formats": list(LABEL_FORMATS),
    }  # fmt: skip
    (project / "config/config.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(project, "--quiet", "rules", "--cores", "1")
    assert run.returncode == 0, run.stdout
    return project / "results/cohorts/mine"


@pytest.fixture(scope="module")
def model(cohort):
    table = pd.read_csv(cohort / "meshes/mine-0000.tsv", sep="\t")
    (row,) = table.to_dict("records")
    assert row["verdict"] == "accepted", row["detail"]
    assert row["right_ventricle_wall_mm"] == pytest.approx(3.5, rel=0.15)
    assert row["mitral_valve_mm2"] > 50
    return read_model(*(check_file(*file) for file in mesh_files(row, cohort / "meshes/mine-0000")))


def deck(cohort, name):
    return cohort / "inputs/mine-0000/T3" / name


def test_the_mesh_conforms_and_both_ventricles_have_fibres(model):
    assert wrong_facets(model) == 0
    moving = np.unique(model.region[model.microstructure.f0.any(axis=1)])
    assert [model.name(label) for label in moving] == ["myocardium", "right_ventricle_wall"]
    assert model.provenance["meshing"]["blood_edge_length_mm"] == 10.0


def test_every_deck_holds_the_mesh(cohort, model):
    """Volumes of the regions, read by readers that are not ours or by the rules of the format."""
    present = {model.name(label): label for label in np.unique(model.region).tolist()}
    assert {f"{name}_wall" for name in ADDED} <= set(present)
    volumes = {name: model.volumes_mm3[label - 1] for name, label in present.items()}
    grid = pyvista.read(deck(cohort, "vtu") / "mesh.vtu")
    sizes = grid.compute_cell_sizes(length=False, area=False)
    by_label = np.bincount(grid.cell_data["region"], sizes.cell_data["Volume"])
    for name, label in present.items():
        assert by_label[label] == pytest.approx(volumes[name], rel=1e-6)

    rows = (deck(cohort, "opencarp") / "heart.elem").read_text().split("\n", 1)[1].split()
    tags = np.array(rows).reshape(-1, 6)[:, 5].astype(int)
    assert np.array_equal(tags, model.region)
    assert (deck(cohort, "opencarp") / "heart.left_ventricle-left_atrium.surf").exists()

    abaqus = meshio.read(deck(cohort, "calculix") / "heart_mesh.inp")
    assert len(abaqus.points) == len(model.points_mm)
    assert sum(len(block.data) for block in abaqus.cells) == len(model.tets)
    assert "LEFT_VENTRICLE_TO_LEFT_ATRIUM" in abaqus.point_sets

    markers = json.loads((deck(cohort, "fenicsx") / "markers.json").read_text())
    assert {name: markers[name] for name in present} == {name: [k, 3] for name, k in present.items()}
    with h5py.File(deck(cohort, "fenicsx") / "mesh.h5") as file:
        shapes = []
        file.visititems(lambda _, item: shapes.append(getattr(item, "shape", None)))
    assert (len(model.tets), 4) in shapes

    for name, volume in volumes.items():
        surface = pyvista.read(deck(cohort, "surfaces") / f"{name}.stl").clean()
        assert surface.volume == pytest.approx(volume, rel=1e-3)
    assert len(pyvista.read(deck(cohort, "surfaces") / "heart.glb")) > 0


def test_the_report_shows_walls_and_valves(cohort):
    page = (cohort / "report/cohort.html").read_text(encoding="utf-8")
    assert "Added walls and valves" in page
    assert "left atrium wall" in page
    assert "mitral valve" in page
    assert "segments, one per arm" not in page, "there are no segments"
    manifest = pd.read_csv(cohort / "manifest.tsv", sep="\t")
    assert manifest["status"].tolist() == ["accepted"]
