"""svMultiPhysics deck: checked by the rules of the solver's readers, with pyvista and meshio as readers."""

from xml.etree import ElementTree

import meshio
import numpy as np
import pytest
import pyvista
import vtk
from hypothesis import given

from cardiocohort.mechanics.settings import MATERIALS, Mechanics
from cardiocohort.mesh.lids import lids
from cardiocohort.mesh.model import FACETS
from cardiocohort.mesh.second_order import second_order
from deck_records import installed
from decks import (
    RANDOM,
    block,
    export,
    inflations,
    isochoric_energy,
    many,
    models,
    stretches,
    svmultiphysics_curve,
)


def is_int32(data, name):
    """What the solver's vtkIntArray::SafeDownCast demands."""
    return isinstance(data.GetAbstractArray(name), vtk.vtkIntArray)


def key(point):
    """The solver finds a face's nodes in the mesh by their coordinates, printed with 16 decimals."""
    return ",".join(f"{x:.16e}" for x in point)


@many
@given(model=models, mechanics=inflations)
def test_mesh_faces_and_fibres_as_the_solver_reads_them(model, mechanics, tmp_path_factory, deck_record):
    folder = export("svmultiphysics", model, mechanics, tmp_path_factory)
    document = ElementTree.parse(folder / "solver.xml").getroot()
    described = document.find("Add_mesh")
    mesh = pyvista.read(folder / described.findtext("Mesh_file_path").strip())
    points, all_facets = model.points_mm, model.facets
    cell, face_cell = vtk.VTK_TETRA, vtk.VTK_TRIANGLE
    if mechanics.element_order == 2:
        points, _, all_facets = second_order(points, model.tets, all_facets)
        cell, face_cell = vtk.VTK_QUADRATIC_TETRA, vtk.VTK_QUADRATIC_TRIANGLE
    assert mesh.celltypes.tolist() == [cell] * len(model.tets)
    assert is_int32(mesh.GetPointData(), "GlobalNodeID")
    assert is_int32(mesh.GetCellData(), "GlobalElementID")
    assert mesh["GlobalNodeID"].tolist() == list(range(1, len(points) + 1))
    assert mesh["GlobalElementID"].tolist() == list(range(1, len(model.tets) + 1))
    assert mesh["DOMAIN_ID"].tolist() == model.region.tolist()
    assert mesh.points.dtype == np.float64
    assert np.array_equal(mesh.points, points)
    tets = mesh.cells_dict[cell]
    assert np.array_equal(np.unique(tets), np.arange(len(points))), "unused nodes are refused"
    corners = mesh.points[tets[:, :4]]
    volumes = np.linalg.det(corners[:, 1:] - corners[:, :1]) / 6
    assert np.allclose(volumes, model.tet_volumes_mm3)
    assert np.all(volumes != 0), "flat elements are refused"
    nodes = {key(point): i for i, point in enumerate(mesh.points)}
    assert len(nodes) == len(mesh.points), "two nodes in one place are refused"
    names = [face.get("name") for face in described.findall("Add_face")]
    assert len(names) == len(set(names))
    assert names == [name for name, tag in FACETS.items() if (model.facet_tag == tag).any()]
    for face in described.findall("Add_face"):
        part = pyvista.read(folder / face.findtext("Face_file_path").strip())
        expected = all_facets[model.facet_tag == FACETS[face.get("name")]]
        assert is_int32(part.GetPointData(), "GlobalNodeID")
        assert is_int32(part.GetCellData(), "GlobalElementID")
        found = np.array([nodes[key(point)] for point in part.points])
        assert np.array_equal(found + 1, part["GlobalNodeID"])
        assert {part.get_cell(i).type for i in range(part.n_cells)} == {face_cell}
        found = found[np.array([part.get_cell(i).point_ids for i in range(part.n_cells)])]
        assert np.array_equal(found, expected)
        for facet, parent in zip(expected.tolist(), part["GlobalElementID"].tolist(), strict=True):
            assert set(facet) <= set(tets[parent - 1].tolist())
    paths = [e.text.strip() for e in described.findall("Fiber_direction_file_path")]
    for path, direction in zip(paths, (model.microstructure.f0, model.microstructure.s0), strict=True):
        fibres = meshio.read(folder / path)
        assert fibres.cell_data["FIB_DIR"][0].dtype == np.float64
        assert np.array_equal(fibres.cell_data["FIB_DIR"][0], direction)
        assert np.array_equal(fibres.cells[0].data, model.tets)
        deck_record.read(
            "svmultiphysics", *installed("meshio"), deck=RANDOM, quantity="fibres and sheets", bound=0,
            found=np.abs(fibres.cell_data["FIB_DIR"][0] - direction).max(),
        )  # fmt: skip
    deck_record.read(
        "svmultiphysics", *installed("pyvista"), deck=RANDOM, quantity="nodes of the mesh", unit="mm",
        found=np.abs(mesh.points - points).max(), bound=0,
    )  # fmt: skip


@many
@given(model=models, mechanics=inflations)
def test_caps_are_what_a_coupled_chamber_reads(model, mechanics, tmp_path_factory):
    """Rules of CappingSurface in CoupledBoundaryCondition.cpp."""
    folder = export("svmultiphysics", model, mechanics, tmp_path_factory)
    caps = sorted((folder / "mesh-complete").glob("caps/*.vtp"))
    assert [path.stem[:2] for path in caps] == sorted(lids(model))
    for path in caps:
        cap = pyvista.read(path)
        assert is_int32(cap.GetPointData(), "GlobalNodeID")
        nodes = cap["GlobalNodeID"] - 1
        assert np.array_equal(model.points_mm[nodes], cap.points)
        assert {cap.get_cell(i).type for i in range(cap.n_cells)} == {pyvista.CellType.TRIANGLE}
        (wall,) = (folder / "mesh-complete/mesh-surfaces").glob(f"{path.stem[:2]}_endo.vt?")
        wall = pyvista.read(wall)
        assert set(nodes) & set(wall["GlobalNodeID"] - 1), "a cap shares nodes with its chamber"
        normals = cap.cell_data["Normals"]
        assert normals.shape == (cap.n_cells, 3)
        corners = cap.points[cap.regular_faces]
        turned = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert np.all(np.linalg.norm(turned, axis=1) > 0), "a triangle without area ends the run"
        assert np.all((turned * normals).sum(axis=1) > 0)


def text(element, name):
    return element.findtext(name).strip()


def svmultiphysics_stress(equation, c):
    """Isochoric stress at C with det C = 1, before it is projected; the formulas of mat_models.cpp."""
    law = equation.find("Constitutive_model")
    p = {child.tag: float(child.text) for child in law}
    if law.get("type") == "neoHookean":
        mu = float(text(equation, "Elasticity_modulus")) / 2 / (1 + float(text(equation, "Poisson_ratio")))
        return mu * np.eye(3)
    if law.get("type") == "Guccione":
        e = (c - np.eye(3)) / 2
        weight = np.full((3, 3), p["bt"])
        weight[0, :] = weight[:, 0] = p["bfs"]
        weight[0, 0] = p["bf"]
        return p["c"] * np.exp((weight * e * e).sum()) * weight * e
    assert law.get("type") == "HolzapfelOgden"
    stress = p["a"] * np.exp(p["b"] * (np.trace(c) - 3)) * np.eye(3)
    shear = p["afs"] * c[0, 1] * np.exp(p["bfs"] * c[0, 1] ** 2)
    stress[0, 1] += shear
    stress[1, 0] += shear
    for i, a, b in ((0, p["a4f"], p["b4f"]), (1, p["a4s"], p["b4s"])):
        over = c[i, i] - 1
        off = 1 / (np.exp(p["k"] * over) + 1)
        growth = np.exp(b * over**2)
        stress[i, i] += 2 * a * ((1 - off) * over * growth + p["k"] * (off - off**2) / (2 * b) * (growth - 1))
    return stress


@pytest.mark.parametrize("material", MATERIALS)
def test_the_stress_is_the_derivative_of_the_configured_energy(material, tmp_path_factory, deck_record):
    mechanics = Mechanics(material=material, bulk_modulus_kpa=321.0)
    folder = export("svmultiphysics", block(), mechanics, tmp_path_factory)
    equation = ElementTree.parse(folder / "solver.xml").getroot().find("Add_equation")
    assert equation.get("type") == "ustruct"
    assert text(equation, "Dilational_penalty_model") == "quad"
    assert float(text(equation, "Penalty_parameter")) == 321.0
    step, directions = 1e-5, [np.outer(a, b) for a in np.eye(3) for b in np.eye(3)]
    # the solver smooths the switch between tension and compression: near rest the formulas differ
    tested = [c for c in stretches(60) if np.abs(np.diag(c)[:2] - 1).min() > 0.1]
    assert len(tested) > 5
    for c in tested:
        stress = svmultiphysics_stress(equation, c)
        for d in directions:
            d = (d + d.T) / 2
            ahead, behind = (isochoric_energy(mechanics, c + sign * step * d) for sign in (1, -1))
            # dW = S : dC / 2
            ours, theirs = (ahead - behind) / (2 * step), (stress * d).sum() / 2
            deck_record.read(
                "svmultiphysics", "formulas of the source", "July 2026, b5fbed0", deck="all materials",
                quantity="stress in stretched fibres, of max(stress, 1 kPa)", bound=0.2, unit="%",
                found=100 * abs(theirs - ours) / max(abs(ours), 1.0),
            )  # fmt: skip


@pytest.mark.parametrize(
    ("material", "base", "order", "steps"),
    [("neo_hooke", "fixed", 2, 8), ("holzapfel_ogden", "robin", 1, 64), ("holzapfel_ogden", "robin", 2, 32)],
)
def test_conditions_and_steps(material, base, order, steps, tmp_path_factory):
    """Slack fibres need more steps, which are small at first."""
    model = block(side=lambda n: {(0, 0, 1): 2, (1, 0, 0): 3, (-1, 0, 0): 4}.get(n, 1))
    pressures = {"lv_pressure_kpa": 2.0, "rv_pressure_kpa": 0.7}
    mechanics = Mechanics(material=material, base=base, element_order=order, load_steps=8, **pressures)
    folder = export("svmultiphysics", model, mechanics, tmp_path_factory)
    root = ElementTree.parse(folder / "solver.xml").getroot()
    general, equation = root.find("GeneralSimulationParameters"), root.find("Add_equation")
    step, is_ramp = float(text(general, "Time_step_size")), material == "neo_hooke"
    assert int(text(general, "Number_of_time_steps")) == steps + 6
    conditions = {bc.get("name"): bc for bc in equation.findall("Add_BC")}
    assert conditions.keys() == {"base", "lv_endo", "rv_endo"}
    for name, kpa in (("lv_endo", 2.0), ("rv_endo", 0.7)):
        bc = conditions[name]
        assert (text(bc, "Type"), text(bc, "Time_dependence")) == ("Neu", "Unsteady")
        assert text(bc, "Ramp_function") == str(is_ramp).lower()
        assert text(bc, "Follower_pressure_load") == "true"
        curve = svmultiphysics_curve(folder / text(bc, "Temporal_values_file_path"), is_ramp)
        for number in range(1, steps + 7):
            # the load of a step is in balance some steps later, so that the last six have the full one
            share = min(number / steps, 1.0) ** (1 if is_ramp else 3)
            error = 1e-9 if is_ramp else 0.01  # of a Fourier series at the end of its rise
            assert curve(number * step) == pytest.approx(kpa * share, abs=error * kpa), number
        assert curve((steps + 6) * step) == pytest.approx(kpa, rel=1e-12 if is_ramp else 1e-3)
    if base == "fixed":
        assert (text(conditions["base"], "Type"), float(text(conditions["base"], "Value"))) == (
            "Dirichlet",
            0,
        )
    else:
        assert text(conditions["base"], "Type") == "Robin"
        assert float(text(conditions["base"], "Stiffness")) == mechanics.base_stiffness_kpa_per_mm


@pytest.mark.parametrize(("material", "coefficient"), [("neo_hooke", 1e-3), ("holzapfel_ogden", 1e-5)])
@pytest.mark.parametrize("order", [1, 2])
def test_ustruct_is_stable_and_its_linear_solver_ends(material, coefficient, order, tmp_path_factory):
    """Pressures one order below displacements, or two coefficients, which are 0 where they are missing.

    Iterations of the linear solver count restarts.
    """
    mechanics = Mechanics(material=material, element_order=order)
    folder = export("svmultiphysics", block(), mechanics, tmp_path_factory)
    equation = ElementTree.parse(folder / "solver.xml").getroot().find("Add_equation")
    assert equation.get("type") == "ustruct"
    # read_files.cpp: allowed for ten-node tetrahedra alone; ustruct.cpp: then nothing is stabilised
    assert text(equation, "Use_taylor_hood_type_basis") == {1: "false", 2: "true"}[order]
    for name in ("Momentum", "Continuity"):
        found = equation.findtext(f"{name}_stabilization_coefficient")
        assert float(found) == coefficient if order == 1 else found is None
    solver = equation.find("LS")
    steps = int(text(solver, "Max_iterations")) * int(text(solver, "Krylov_space_dimension"))
    assert 500 <= steps <= 2000
    assert float(text(solver, "Tolerance")) == 1e-4
    # fsils stagnates on the fibre law
    kind = solver.find("Linear_algebra").get("type")
    assert kind == ("fsils" if material == "neo_hooke" and order == 1 else "petsc")
    readme = (folder / "README.txt").read_text()
    assert kind in readme
    assert ("-pc_factor_mat_solver_type mumps" in readme) == (kind == "petsc")
