"""FEBio deck: read by the rules of FEBio's own readers, its energies compared with the papers'."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from pyfebio import model as pyfebio_model

from cardiocohort.mechanics.settings import MATERIALS, Guccione, Mechanics
from cardiocohort.mesh.model import FACETS, REGIONS
from cardiocohort.mesh.second_order import second_order
from deck_records import installed
from decks import RANDOM, block, export, inflations, isochoric_energy, many, models, stretches

SOURCE = ("reader after FEBio's source", "4.11, 65622b5")
SECTIONS = [
    *("Module", "Control", "Material", "Mesh", "MeshDomains", "MeshData"),
    *("Boundary", "Loads", "LoadData", "Output"),
]


def numbers(text, kind=float):
    return [kind(part) for part in text.split(",")]


class Feb:
    """A .feb file as FEBio 4 builds its model: everything by name and id, what is unknown is refused."""

    def __init__(self, path):
        root = ElementTree.parse(path).getroot()
        assert (root.tag, root.attrib) == ("febio_spec", {"version": "4.0"})
        names = [section.tag for section in root]
        assert names == [name for name in SECTIONS if name in names]
        self.section = {section.tag: section for section in root}
        mesh = self.section["Mesh"]
        assert {part.tag for part in mesh} <= {"Nodes", "Elements", "Surface", "NodeSet"}
        nodes = mesh.findall("Nodes/node")
        ids = [int(node.get("id")) for node in nodes]
        assert ids == sorted(set(ids))
        assert ids[0] >= 1
        self.points = {i: numbers(node.text) for i, node in zip(ids, nodes, strict=True)}
        self.parts, self.elements = {}, {}
        for part in mesh.findall("Elements"):
            expected = {"tet4": 4, "tet10": 10}[part.get("type")]
            assert part.get("name") not in self.parts
            self.parts[part.get("name")] = [int(e.get("id")) for e in part]
            for element in part:
                assert element.tag == "elem"
                i, ns = int(element.get("id")), numbers(element.text, int)
                assert i not in self.elements
                assert len(ns) == expected
                assert set(ns) <= self.points.keys()
                self.elements[i] = ns
        self.surfaces = {}
        for surface in mesh.findall("Surface"):
            kinds = {facet.tag for facet in surface}
            assert kinds <= {"tri3", "tri6"}
            facets = [numbers(facet.text, int) for facet in surface]
            assert {len(f) for f in facets} == {int(kind[3:]) for kind in kinds}
            self.surfaces[surface.get("name")] = facets
        self.node_sets = {s.get("name"): numbers(s.text, int) for s in mesh.findall("NodeSet")}
        materials = {m.get("name"): m for m in self.section["Material"]}
        assert [m.get("id") for m in materials.values()] == [str(i + 1) for i in range(len(materials))]
        self.material = {
            d.get("name"): materials[d.get("mat")] for d in self.section["MeshDomains"].findall("SolidDomain")
        }
        assert self.material.keys() == self.parts.keys()

    def axes(self):
        """(3, 3) by element id, columns first, second and third axis, as FEBio's mat3d(a, d) makes them."""
        found = {}
        for data in self.section["MeshData"]:
            assert (data.tag, data.get("type")) == ("ElementData", "mat_axis")
            ids = self.parts[data.get("elem_set")]
            for entry in data:
                a, d = (np.array(numbers(entry.find(tag).text)) for tag in "ad")
                first = a / np.linalg.norm(a)
                third = np.cross(a, d) / np.linalg.norm(np.cross(a, d))
                found[ids[int(entry.get("lid")) - 1]] = np.array([first, np.cross(third, first), third]).T
        return found


@many
@given(model=models, mechanics=inflations)
def test_mesh_tags_and_fibres_survive(model, mechanics, tmp_path_factory, deck_record):
    feb = Feb(export("febio", model, mechanics, tmp_path_factory) / "heart.feb")
    points, tets, facets = model.points_mm, model.tets, model.facets
    if mechanics.element_order == 2:
        points, tets, facets = second_order(points, tets, facets)
    ids = sorted(feb.points)
    assert np.allclose([feb.points[i] for i in ids], points, rtol=1e-9, atol=1e-8)
    read = np.array([feb.elements[i] for i in sorted(feb.elements)])
    assert np.array_equal(read - 1, tets)
    for part, elements in feb.parts.items():
        assert set(model.region[np.array(elements) - 1]) == {REGIONS[part]}
    corners = np.array([feb.points[i] for i in ids])[read[:, :4] - 1]
    volumes = np.linalg.det(corners[:, 1:] - corners[:, :1]) / 6
    assert np.allclose(volumes, model.tet_volumes_mm3, rtol=1e-6, atol=1e-9)
    for name, tag in FACETS.items():
        expected = facets[model.facet_tag == tag]
        if len(expected):
            assert np.array_equal(np.array(feb.surfaces[name]) - 1, expected)
            assert feb.node_sets[f"{name}_nodes"] == (np.unique(expected) + 1).tolist()
    if mechanics.material == "neo_hooke":
        assert "MeshData" not in feb.section
        return
    axes = feb.axes()
    assert sorted(axes) == sorted(feb.elements)
    micro = model.microstructure
    expected = np.stack([micro.f0, micro.s0], axis=-1)
    found = np.array([axes[i][:, :2] for i in sorted(axes)])
    deck_record.read(
        "febio", *SOURCE, deck=RANDOM, quantity="fibres and sheets", found=np.abs(found - expected).max(),
        bound=1e-6,
    )  # fmt: skip


def values(element):
    return {child.tag: child.text for child in element}


def febio_energy(material, c):
    """Isochoric energy by FEBio's formulas (theory manual, and the sources of the materials named)."""
    kind, given_values = material.get("type"), values(material)
    if kind == "Mooney-Rivlin":
        i1, i2 = np.trace(c), (np.trace(c) ** 2 - np.trace(c @ c)) / 2
        return float(given_values["c1"]) * (i1 - 3) + float(given_values["c2"]) * (i2 - 3)
    if kind == "Fung orthotropic":
        p = {name: float(given_values[name]) for name in given_values if name not in ("k", "pressure_model")}
        mu = np.array([
            p["G12"] + p["G31"] - p["G23"], p["G12"] - p["G31"] + p["G23"], -p["G12"] + p["G31"] + p["G23"],
        ])  # fmt: skip
        compliance = np.array([
            [1 / p["E1"], -p["v12"] / p["E1"], -p["v31"] / p["E3"]],
            [-p["v12"] / p["E1"], 1 / p["E2"], -p["v23"] / p["E2"]],
            [-p["v31"] / p["E3"], -p["v23"] / p["E2"], 1 / p["E3"]],
        ])  # fmt: skip
        lame = np.linalg.inv(compliance) - 2 * np.diag(mu)
        k, l2 = np.diag(c), np.diag(c @ c)
        q = (2 * mu * (l2 - 2 * k + 1)).sum() + (k - 1) @ lame @ (k - 1)
        return p["c"] / 2 * np.expm1(q / (4 * p["c"]))
    assert kind == "uncoupled solid mixture"
    energy = 0.0
    for solid in material.findall("solid"):
        p = values(solid)
        if solid.get("type") == "uncoupled hyperelastic":
            assert re.fullmatch(r"[-+*/()0-9.expI]+", p["W"])
            energy += eval(p["W"], {"exp": np.exp, "I1": np.trace(c)})
        else:
            assert solid.get("type") == "fiber-exp-pow-uncoupled"
            assert solid.find("fiber").get("type") == "vector"
            direction = np.array(numbers(p["fiber"]))
            alpha, beta, ksi = (float(p[name]) for name in ("alpha", "beta", "ksi"))
            over = max(direction @ c @ direction - 1, 0)
            energy += ksi / (alpha * beta) * np.expm1(alpha * over**beta)
    return energy


@pytest.mark.parametrize(
    "mechanics",
    [Mechanics(material=name) for name in MATERIALS]
    + [Mechanics(material="guccione", guccione=Guccione(c_kpa=0.88, b_f=8, b_t=6, b_fs=12))],
)
def test_the_energy_is_that_of_the_settings(mechanics, tmp_path_factory, deck_record):
    feb = Feb(export("febio", block(), mechanics, tmp_path_factory) / "heart.feb")
    for material in feb.material.values():
        assert float(material.find("k").text) == mechanics.bulk_modulus_kpa
        assert material.find("pressure_model").text == "2"  # K/2 (J - 1)^2 in FEUncoupledMaterial.h
        for c in stretches():
            # FEBio has no fibre-sheet shear term
            wanted = isochoric_energy(mechanics, c, shear_term=False)
            deck_record.read(
                "febio", *SOURCE, deck="all materials", unit="%", bound=1e-4,
                quantity="energy, by the source's formulas",
                found=100 * abs(febio_energy(material, c) / wanted - 1),
            )  # fmt: skip


@pytest.mark.parametrize("base", ["fixed", "robin"])
def test_loads_supports_and_steps(base, tmp_path_factory):
    model = block(side=lambda n: {(0, 0, 1): 2, (1, 0, 0): 3, (-1, 0, 0): 4}.get(n, 1))
    pressures = {"lv_pressure_kpa": 2.0, "rv_pressure_kpa": 0.7}
    mechanics = Mechanics(material="guccione", base=base, load_steps=7, **pressures)
    feb = Feb(export("febio", model, mechanics, tmp_path_factory) / "heart.feb")
    control = feb.section["Control"]
    assert int(control.find("time_steps").text) == 7
    assert 7 * float(control.find("step_size").text) == pytest.approx(1)
    curve = feb.section["LoadData"].find("load_controller")
    assert [numbers(pt.text) for pt in curve.find("points")] == [[0, 0], [1, 1]]
    loads = {load.get("surface"): load for load in feb.section["Loads"]}
    for name, kpa in (("lv_endo", 2.0), ("rv_endo", 0.7)):
        assert loads[name].get("type") == "pressure"
        pressure = loads[name].find("pressure")
        assert (float(pressure.text), pressure.get("lc")) == (kpa, curve.get("id"))
    if base == "fixed":
        (bc,) = feb.section["Boundary"]
        assert bc.get("type") == "zero displacement"
        assert {feb.points[i][2] for i in feb.node_sets[bc.get("node_set")]} == {6.0}
        assert [bc.find(f"{axis}_dof").text for axis in "xyz"] == ["1", "1", "1"]
    else:
        assert "Boundary" not in feb.section
        assert loads["base"].get("type") == "traction Robin BC"
        assert float(loads["base"].find("spring_eps").text) == mechanics.base_stiffness_kpa_per_mm


def test_slack_fibres_are_loaded_in_small_steps_first(tmp_path_factory):
    feb = Feb(export("febio", block(), Mechanics(load_steps=5), tmp_path_factory) / "heart.feb")
    control = feb.section["Control"]
    assert int(control.find("time_steps").text) == 20
    assert 20 * float(control.find("step_size").text) == pytest.approx(1)
    points = np.array([numbers(pt.text) for pt in feb.section["LoadData"].iter("pt")])
    assert points[[0, -1]].tolist() == [[0, 0], [1, 1]]
    assert points[:, 1] == pytest.approx(points[:, 0] ** 3)


def test_pyfebio_agrees_on_the_sections_it_models(tmp_path_factory, deck_record):
    """Sections that pyfebio parses, conditions as it writes them; it lacks mat_axis data and the mixture."""
    with_base = block(side=lambda normal: 2 if normal == (0, 0, 1) else 3)
    mechanics = Mechanics()
    feb = Feb(export("febio", with_base, mechanics, tmp_path_factory) / "heart.feb")
    kinds = {
        "Mesh": pyfebio_model.mesh.Mesh, "MeshDomains": pyfebio_model.meshdomains.MeshDomains,
        "LoadData": pyfebio_model.loaddata.LoadData, "Control": pyfebio_model.control.Control,
    }  # fmt: skip
    read = {name: kind.from_xml(ElementTree.tostring(feb.section[name])) for name, kind in kinds.items()}
    assert len(read["Mesh"].nodes[0].all_nodes) == len(feb.points)
    assert sum(len(part.all_elements) for part in read["Mesh"].elements) == len(feb.elements)
    assert {domain.name for domain in read["MeshDomains"].solid_domains} == set(feb.parts)
    assert read["Control"].time_steps == 4 * mechanics.load_steps
    load = pyfebio_model.loads.Scale(lc=1, text=mechanics.lv_pressure_kpa)
    written = {
        "Boundary": pyfebio_model.boundary.BCZeroDisplacement(
            node_set="base_nodes", x_dof=1, y_dof=1, z_dof=1
        ),
        "Loads": pyfebio_model.loads.PressureLoad(surface="lv_endo", pressure=load),
    }
    for section, condition in written.items():
        theirs, ours = ElementTree.fromstring(condition.to_xml()), feb.section[section][0]
        assert ours.tag == theirs.tag
        assert theirs.attrib.items() <= ours.attrib.items()
        assert {e.tag for e in ours} <= {e.tag for e in theirs}
        for entry in ours:
            deck_record.read(
                "febio", *installed("pyfebio"), deck="a block", quantity="support of the base and pressure",
                found=abs(float(entry.text) - float(theirs.find(entry.tag).text)), bound=0,
            )  # fmt: skip


@pytest.mark.parametrize("order", [1, 2])
def test_ten_node_tets_are_three_field_elements_by_name(order, tmp_path_factory):
    """FEBio's own choice for tet10 is displacements alone (m_b3field_tet of its FEModelBuilder is false)."""
    feb = Feb(export("febio", block(), Mechanics(element_order=order), tmp_path_factory) / "heart.feb")
    kinds = {domain.get("type") for domain in feb.section["MeshDomains"]}
    assert kinds == {"three-field-solid" if order == 2 else None}
    for material in feb.material.values():
        # which a three-field element demands
        assert material.get("type") in ("uncoupled solid mixture", "Fung orthotropic", "Mooney-Rivlin")


def test_springs_name_the_version_that_has_them(tmp_path_factory):
    readme = {
        base: (export("febio", block(), Mechanics(base=base), tmp_path_factory) / "README.txt").read_text()
        for base in ("fixed", "robin")
    }
    assert "FEBio 4.10" in readme["robin"]
    assert "4.10" not in readme["fixed"]
