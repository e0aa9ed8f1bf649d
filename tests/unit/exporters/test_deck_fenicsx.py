"""FEniCSx deck: read with h5py by the rules of DOLFINx's XDMF reader and of cardiac-geometries' folders."""

import ast
import json
import re
import tomllib
from dataclasses import asdict
from importlib.metadata import version
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from hypothesis import given

import fenicsx_environment
from cardiocohort.exporters import Deck, writer
from cardiocohort.mechanics.settings import MATERIALS, Mechanics
from decks import RANDOM, block, export, inflations, many, models, reading_lines

INCLUDE = "{https://www.w3.org/2001/XInclude}include"
CORNERS = {"Tetrahedron": 4, "Triangle": 3}


class Xdmf:
    """Grids by name, their data resolved as DOLFINx does: file:path, dimensions checked, includes too."""

    def __init__(self, path):
        self.folder = path.parent
        self.root = ElementTree.parse(path).getroot()
        assert self.root.tag == "Xdmf"
        self.grids = {grid.get("Name"): grid for grid in self.root.findall("Domain/Grid")}

    def data(self, item):
        assert item.get("Format") == "HDF"
        file, place = item.text.split(":")
        with h5py.File(self.folder / file) as store:
            values = store[place][:]
        assert values.shape == tuple(map(int, item.get("Dimensions").split()))
        return values

    def topology(self, name):
        topology = self.grids[name].find("Topology")
        cells = self.data(topology.find("DataItem"))
        assert int(topology.get("NumberOfElements")) == len(cells)
        assert int(topology.get("NodesPerElement")) == CORNERS[topology.get("TopologyType")] == cells.shape[1]
        return cells

    def geometry(self, name):
        grid = self.grids[name]
        if grid.find("Geometry") is None:
            pointer = grid.find(INCLUDE).get("xpointer")
            other = re.fullmatch(r"xpointer\(/Xdmf/Domain/Grid\[@Name='(.+)'\]/Geometry\)", pointer)[1]
            return self.geometry(other)
        assert grid.find("Geometry").get("GeometryType") == "XYZ"
        return self.data(grid.find("Geometry/DataItem"))

    def tags(self, name):
        attribute = self.grids[name].find("Attribute")
        assert (attribute.get("AttributeType"), attribute.get("Center")) == ("Scalar", "Cell")
        return self.data(attribute.find("DataItem")).ravel()


@many
@given(model=models, mechanics=inflations)
def test_mesh_tags_and_fibres_survive(model, mechanics, tmp_path_factory, deck_record):
    folder = export("fenicsx", model, mechanics, tmp_path_factory)
    # the names that cardiac_geometries.utils.read_mesh asks for
    xdmf = Xdmf(folder / "mesh.xdmf")
    assert list(xdmf.grids) == ["Mesh", "Cell tags", "Facet tags"]
    points, tets = xdmf.geometry("Mesh"), xdmf.topology("Mesh")
    assert points.dtype == np.float64
    assert np.array_equal(points, model.points_mm)
    assert np.array_equal(tets, model.tets)
    corners = points[tets]
    assert np.allclose(np.linalg.det(corners[:, 1:] - corners[:, :1]) / 6, model.tet_volumes_mm3)
    for name, entities, tags in (
        ("Cell tags", model.tets, model.region),
        ("Facet tags", model.facets, model.facet_tag),
    ):
        assert np.array_equal(xdmf.geometry(name), points)
        assert np.array_equal(xdmf.topology(name), entities)
        assert xdmf.tags(name).dtype == np.int32
        assert np.array_equal(xdmf.tags(name), tags)
    with h5py.File(folder / "microstructure.bp") as store:
        for name in ("f0", "s0", "n0"):
            # as the h5py backend of io4dolfinx reads a function: values of a cell by dofmap and offsets
            function = store[f"mesh/functions/{name}"]
            assert function.attrs["timestamps"].tolist() == [0.0]
            offsets, dofmap = function["dofmap_offsets"][:], function["dofmap"][:]
            assert offsets.tolist() == list(range(0, 3 * len(model.tets) + 1, 3))
            found = function["0/array"][:][dofmap].reshape(-1, 3)
            deck_record.read(
                "fenicsx", "h5py, by io4dolfinx's layout", version("h5py"), deck=RANDOM, bound=0,
                quantity="fibres, sheets, normals",
                found=np.abs(found - getattr(model.microstructure, name)).max(),
            )  # fmt: skip
        assert store["mesh/CellPermutations"].shape == (len(model.tets),)


def test_markers_and_spaces_are_what_cardiac_geometries_keeps(tmp_path_factory):
    folder = export("fenicsx", block(), Mechanics(), tmp_path_factory)
    markers = json.loads((folder / "markers.json").read_text())
    facets = {"EPI": [1, 2], "BASE": [2, 2], "LV": [3, 2], "RV": [4, 2]}
    regions = {"LV_MUSCLE": [1, 3], "RV_MUSCLE": [2, 3], "SEPTUM": [3, 3]}
    assert markers == facets | regions
    spaces = json.loads((folder / "microstructure.json").read_text())
    # basix: ElementFamily.P = 1, CellType.tetrahedron = 3, degree 0, discontinuous
    assert spaces == {"f0": [1, 3, 0, 1], "s0": [1, 3, 0, 1], "n0": [1, 3, 0, 1]}


def test_the_page_reads_the_folder_by_the_lines_of_the_readme(tmp_path_factory):
    """Which a long test runs."""
    readme = export("fenicsx", block(), Mechanics(), tmp_path_factory) / "README.txt"
    lines = reading_lines(readme.read_text())
    page = (fenicsx_environment.REPOSITORY / "docs/solvers.md").read_text(encoding="utf-8")
    assert re.findall(r"```python\n(.*?)```", page, re.DOTALL) == ["\n".join([*lines, ""])]


@pytest.mark.parametrize("in_ci", [True, False])
@pytest.mark.parametrize("lacking", ["", "a C compiler"])
def test_in_continuous_integration_a_broken_environment_fails(in_ci, lacking, monkeypatch, tmp_path):
    def broken(python, folder):
        raise RuntimeError("pip install: no such version")

    monkeypatch.setattr(fenicsx_environment, "CACHE", tmp_path)
    monkeypatch.setattr(fenicsx_environment, "lacking", lambda: lacking)
    monkeypatch.setattr(fenicsx_environment, "_make", broken)
    monkeypatch.setenv("CI", "true" if in_ci else "")
    ends = RuntimeError if in_ci and not lacking else pytest.skip.Exception
    with pytest.raises(ends, match=lacking or "no such version"):
        fenicsx_environment.need()


@pytest.mark.parametrize("material", MATERIALS)
def test_settings_reach_the_script_by_the_names_it_uses(material, tmp_path_factory):
    mechanics = Mechanics(material=material, load_steps=9)
    folder = export("fenicsx", block(), mechanics, tmp_path_factory)
    settings = json.loads((folder / "mechanics.json").read_text())
    assert settings.pop("pericardium_kpa_per_mm") == 0
    assert Mechanics.of(settings) == mechanics
    settings = json.loads((folder / "mechanics.json").read_text())
    tree = ast.parse((folder / "inflate.py").read_text())
    used = {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "settings"
        and isinstance(node.slice, ast.Constant)
    }
    assert len(used) > 5
    assert used <= settings.keys()


@many
@given(mechanics=inflations)
def test_the_command_line_of_pulse_gets_the_same_settings(mechanics, tmp_path_factory):
    """Names and units as fenicsx-pulse's configuration has them; its own reader runs in the long tests."""
    folder = export("fenicsx", block(), mechanics, tmp_path_factory)
    config = tomllib.loads((folder / "inflation.toml").read_text())
    assert config["geometry"]["unit"] == "mm"
    loads = {load["marker"]: load["profile"]["to_value"].split() for load in config["load"]}
    for marker, kpa in (("LV", mechanics.lv_pressure_kpa), ("RV", mechanics.rv_pressure_kpa)):
        value, unit = loads[marker]
        assert (float(value), unit) == (pytest.approx(kpa), "kPa")
    assert config["time"]["num_steps"] == mechanics.load_steps
    if mechanics.base == "fixed":
        assert config["bcs"] == {"base_bc": "fixed"}
    else:
        along, across = config["bcs"]["robin"]
        assert (along["perpendicular"], across["perpendicular"]) == (False, True)
        assert along["value"] == across["value"] == f"{mechanics.base_stiffness_kpa_per_mm:g} kPa/mm"
    assert [spring["marker"] for spring in config["bcs"].get("robin", [])] in ([], ["BASE", "BASE"])
    law = config["material"]
    kinds = {"holzapfel_ogden": "holzapfel_ogden", "guccione": "guccione", "neo_hooke": "neo_hookean"}
    assert law.pop("type") == kinds[mechanics.material]
    given_values = sorted(float(str(value).removesuffix(" kPa")) for value in law.values())
    assert given_values == pytest.approx(sorted(asdict(getattr(mechanics, mechanics.material)).values()))


@pytest.mark.parametrize("base", ["fixed", "robin"])
def test_springs_of_the_pericardium_are_along_the_undeformed_normal(base, tmp_path):
    """In every run of fenicsx-pulse's command line, and in the script's settings; the base keeps its own."""
    deck = Deck(pericardium_kpa_per_mm=0.3)
    sides = {(0, 0, 1): 2, (1, 0, 0): 3, (-1, 0, 0): 4}
    model = block(side=lambda normal: sides.get(normal, 1))
    writer("fenicsx")(model, tmp_path, Mechanics(base=base), deck)
    assert json.loads((tmp_path / "mechanics.json").read_text())["pericardium_kpa_per_mm"] == 0.3
    for name in ("inflation", "contraction", "beat"):
        supports = tomllib.loads((tmp_path / f"{name}.toml").read_text())["bcs"]
        *others, spring = supports["robin"]
        assert spring == {
            "marker": "EPI", "value": "0.3 kPa/mm", "perpendicular": False, "normal": "reference",
        }  # fmt: skip
        assert [other["marker"] for other in others] == (["BASE", "BASE"] if base == "robin" else [])
        assert supports.get("base_bc") == ("fixed" if base == "fixed" else None)
