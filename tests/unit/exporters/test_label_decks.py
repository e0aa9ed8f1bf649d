"""Decks of a mesh of all labels, read back by others' readers: regions, interfaces, units, fibres."""

import dataclasses
import json
import re
from xml.etree import ElementTree

import h5py
import meshio
import numpy as np
import pytest
import pyvista

from cardiocohort import exporters
from cardiocohort.exporters import _labels
from cardiocohort.mesh.label_model import wrong_facets
from cardiocohort.meshing.settings import LABEL_FORMATS
from cardiocohort.runtime.errors import InputError
from small_meshes import two_labels


@pytest.fixture(scope="module")
def model():
    made = two_labels()
    assert wrong_facets(made) == 0
    return made


def test_formats_of_the_config_are_those_with_a_writer():
    assert sorted(LABEL_FORMATS) == sorted(_labels.WRITERS)
    with pytest.raises(InputError, match="'febio' cannot hold a mesh of all labels; allowed: calculix"):
        exporters.label_writer("febio")


@pytest.mark.parametrize("name", LABEL_FORMATS)
def test_a_writer_returns_what_it_wrote(model, tmp_path, name):
    files = _labels.WRITERS[name](model, tmp_path)
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert files[-1].name == "README.txt"
    assert "Volumes: lower 1.00 mL, upper 1.00 mL.\n" in files[-1].read_text()


def test_opencarp(model, tmp_path):
    _labels.write_opencarp(model, tmp_path)

    def rows(name, head, columns=slice(None)):
        lines = (tmp_path / name).read_text().splitlines()
        return lines[:head], [line.split()[columns] for line in lines[head:]]

    head, points = rows("heart.pts", 1)
    assert head == [str(len(model.points_mm))]
    assert np.allclose(np.array(points, dtype=float), 1000 * model.points_mm)
    _, elements = rows("heart.elem", 1, slice(1, None))
    assert np.array_equal(np.array(elements, dtype=int), np.column_stack([model.tets, model.region]))
    head, axes = rows("heart.lon", 1)
    length = np.linalg.norm(np.array(axes, dtype=float)[:, :3], axis=1)
    assert head == ["2"]
    assert np.array_equal(length, model.region == 1)
    _, interface = rows("heart.lower-upper.surf", 1, slice(1, None))
    corners = model.points_mm[np.array(interface, dtype=int)]
    assert (corners[..., 2] == 10).all()
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normal[:, 2] > 0).all()  # outward of the lower one
    assert normal[:, 2].sum() / 2 == pytest.approx(100.0)
    for a, b in (("lower", "outside"), ("upper", "outside")):
        _, facets = rows(f"heart.{a}-{b}.surf", 1, slice(1, None))
        head, nodes = rows(f"heart.{a}-{b}.vtx", 2)
        assert head == [str(len(nodes)), "intra"]
        assert {int(n) for (n,) in nodes} == {int(n) for row in facets for n in row}


def test_calculix(model, tmp_path):
    _labels.write_calculix(model, tmp_path)
    mesh = meshio.read(tmp_path / "heart_mesh.inp")
    assert np.array_equal(mesh.points, model.points_mm)
    for label, name in ((1, "LOWER"), (2, "UPPER")):
        block = mesh.cells[label - 1]
        assert block.type == "tetra"
        assert np.array_equal(block.data, model.tets[model.region == label])
        assert name in mesh.cell_sets
    assert (model.points_mm[mesh.point_sets["LOWER_TO_UPPER"]][:, 2] == 10).all()


def test_calculix_reads_coordinates_next_to_zero(model, tmp_path):
    """It does not read 4e-06, which lacks the decimal point."""
    shifted = dataclasses.replace(model, points_mm=model.points_mm + 4e-6)
    _labels.write_calculix(shifted, tmp_path)
    written = (tmp_path / "heart_mesh.inp").read_text()
    assert "0.000004000" in written
    assert not re.findall(r"(?<![\d.])-?\d+e[-+]\d+", written)


def test_fenicsx(model, tmp_path):
    """What DOLFINx itself reads of such files is tested with the FEniCSx deck."""
    _labels.write_fenicsx(model, tmp_path)
    named = json.loads((tmp_path / "markers.json").read_text())
    tree = ElementTree.parse(tmp_path / "mesh.xdmf")
    with h5py.File(tmp_path / "mesh.h5") as store:
        for item in tree.iter("DataItem"):  # what the XDMF says of the arrays is so
            file, _, name = item.text.partition(":")
            assert file == "mesh.h5"
            assert list(store[name].shape) == [int(n) for n in item.get("Dimensions").split()]
        regions = store["MeshTags/Cell tags/Values"][:, 0]
        facets = store["MeshTags/Facet tags/topology"][:]
        tags = store["MeshTags/Facet tags/Values"][:, 0]
    assert {name: tag for name, (tag, dimension) in named.items() if dimension == 3} == {
        "lower": 1,
        "upper": 2,
    }
    assert np.array_equal(regions, model.region)
    for name, part in model.interfaces().items():
        assert np.array_equal(facets[tags == named[name][0]], part)
    assert len(facets) == len(model.facets)


def test_surfaces_enclose_their_regions(model, tmp_path):
    """STL in mm, glTF in m with y up: what was z is y there."""
    _labels.write_surfaces(model, tmp_path)
    scene = pyvista.read(tmp_path / "heart.glb").combine().extract_surface(algorithm=None)
    bodies = [body.extract_surface(algorithm=None) for body in scene.split_bodies()]
    for k, body in enumerate(sorted(bodies, key=lambda body: body.center[1])):
        assert pyvista.read(tmp_path / f"{model.structures[k]}.stl").volume == pytest.approx(1000.0)
        assert body.volume == pytest.approx(1e-6, rel=1e-4)
        assert body.bounds[2:4] == pytest.approx((0.01 * k, 0.01 * (k + 1)))
