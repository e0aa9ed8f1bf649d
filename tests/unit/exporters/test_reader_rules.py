"""Rules of the solvers' readers, one test each: what their sources refuse must not be in a deck.

svMultiPhysics: Parameters.cpp, read_files.cpp and consts.cpp at b5fbed0 (July 2026). FEBio: FEBioXML, FECore
and FEBioMech at 65622b5 (4.11). Names are those that the readers know for the elements that the decks use.
"""

from xml.etree import ElementTree

import pytest

from cardiocohort.exporters import Deck, writer
from cardiocohort.mechanics.settings import BASES, MATERIALS, Mechanics
from decks import block

SIDES = {(0, 0, 1): 2, (1, 0, 0): 3, (-1, 0, 0): 4}
HEART = block(side=lambda normal: SIDES.get(normal, 1))
every_deck = pytest.mark.parametrize(
    "mechanics",
    [Mechanics(material=material, base=base) for material in MATERIALS for base in BASES],
    ids=lambda mechanics: f"{mechanics.material}-{mechanics.base}",
)

# svMultiPhysics: parameters by element, and those of them without which it ends
GENERAL_REQUIRED = {
    "Continue_previous_simulation", "Number_of_time_steps", "Save_results_to_VTK_format",
    "Spectral_radius_of_infinite_time_step", "Start_saving_after_time_step", "Time_step_size",
}  # fmt: skip
GENERAL = GENERAL_REQUIRED | {
    "Check_IEN_order", "Convert_BIN_to_VTK_format", "Debug", "Include_xml",
    "Increment_in_saving_restart_files", "Increment_in_saving_VTK_files", "Name_prefix_of_saved_VTK_files",
    "Number_of_initialization_time_steps", "Number_of_spatial_dimensions", "Overwrite_restart_file",
    "Restart_file_name", "Save_averaged_results", "Save_results_in_folder",
    "Searched_file_name_to_trigger_stop", "Simulation_initialization_file_path",
    "Simulation_requires_remeshing", "Start_averaging_from_zero", "Verbose", "Warning",
}  # fmt: skip
MESH = {
    "Add_face", "Domain", "Domain_file_path", "Fiber_direction_file_path", "Mesh_file_path",
    "Mesh_scale_factor", "Prestress_file_path", "Initial_displacements_file_path",
}  # fmt: skip
EQUATION = {
    "Coupled", "Initialize", "Max_iterations", "Min_iterations", "Prestress", "Tolerance",
    "Use_taylor_hood_type_basis", "Explicit_geometric_coupling",
}  # fmt: skip
SOLID = {
    "Continuity_stabilization_coefficient", "Density", "Dilational_penalty_model", "Elasticity_modulus",
    "Force_x", "Force_y", "Force_z", "Mass_damping", "Momentum_stabilization_coefficient",
    "Penalty_parameter", "Poisson_ratio",
}  # fmt: skip
PARTS = {"Add_BC", "Constitutive_model", "Active_stress", "LS", "Output", "Viscosity"}
CONDITION = {
    "Apply_along_normal_direction", "Damping", "Effective_direction", "Follower_pressure_load",
    "Ramp_function", "Stiffness", "Temporal_values_file_path", "Time_dependence", "Type", "Value",
}  # fmt: skip
LAWS = {
    "neoHookean": set(),
    "Guccione": {"bf", "bfs", "bt", "c"},
    "HolzapfelOgden": {"a", "b", "a4f", "b4f", "a4s", "b4s", "afs", "bfs", "k"},
}
LINEAR = {"Absolute_tolerance", "Krylov_space_dimension", "Linear_algebra", "Max_iterations", "Tolerance"}
PRECONDITIONERS = {
    "fsils": {"fsils", "rcs", "row-column-scaling"},
    "petsc": {"petsc-jacobi", "petsc-rcs"},
}


SOLVERS = ("solver.xml", "solver_active.xml")
RUNS = [
    (Mechanics(material=material, base=base), file)
    for material in MATERIALS
    for base in BASES
    for file in SOLVERS
]
every_run = pytest.mark.parametrize(
    ("mechanics", "solver"), RUNS, ids=[f"{m.material}-{m.base}-{file}" for m, file in RUNS]
)


def svmultiphysics(folder, mechanics, file) -> ElementTree.Element:
    writer("svmultiphysics")(HEART, folder, mechanics, Deck())
    return ElementTree.parse(folder / file).getroot()


def tags(element) -> set[str]:
    return {part.tag for part in element}


@every_run
def test_svmultiphysics_knows_every_parameter(mechanics, solver, tmp_path, deck_record):
    root = svmultiphysics(tmp_path, mechanics, solver)
    general, mesh, equation = (
        root.find(n) for n in ("GeneralSimulationParameters", "Add_mesh", "Add_equation")
    )
    assert {name for face in mesh.findall("Add_face") for name in tags(face)} == {"Face_file_path"}
    unknown = (tags(general) - GENERAL) | (tags(mesh) - MESH) | (tags(equation) - EQUATION - SOLID - PARTS)
    for condition in equation.findall("Add_BC"):
        unknown |= tags(condition) - CONDITION
    unknown |= tags(equation.find("LS")) - LINEAR
    unknown |= tags(equation.find("LS/Linear_algebra")) - {"Preconditioner", "Assembly", "Configuration_file"}
    assert not unknown
    deck_record.read(
        "svmultiphysics", "rules of the source, one by one", "July 2026, b5fbed0", deck="all materials",
        quantity="parameters that the source does not know", found=len(unknown), bound=0,
    )  # fmt: skip


@every_run
def test_svmultiphysics_finds_what_it_requires(mechanics, solver, tmp_path):
    root = svmultiphysics(tmp_path, mechanics, solver)
    assert tags(root.find("GeneralSimulationParameters")) >= GENERAL_REQUIRED
    equation = root.find("Add_equation")
    law = equation.find("Constitutive_model")
    # every parameter of a law is required, and no other is known
    assert tags(law) == LAWS[law.get("type")]
    for viscosity in equation.findall("Viscosity"):
        assert viscosity.get("model") in ("Newtonian", "Potential")
        assert tags(viscosity) == {"Value"}
    for element, attribute in (("Add_BC", "name"), ("Output", "type"), ("LS", "type")):
        assert all(part.get(attribute) for part in equation.findall(element))
    assert all(condition.findtext("Type") for condition in equation.findall("Add_BC"))


@every_run
def test_svmultiphysics_has_no_parameter_without_a_value(mechanics, solver, tmp_path):
    """An element without text and children is taken for an unknown one, except a law without parameters."""
    for element in svmultiphysics(tmp_path, mechanics, solver).iter():
        assert len(element) or (element.text or "").strip() or element.tag == "Constitutive_model"


@every_run
def test_svmultiphysics_pairs_preconditioner_and_linear_algebra(mechanics, solver, tmp_path):
    algebra = svmultiphysics(tmp_path, mechanics, solver).find("Add_equation/LS/Linear_algebra")
    assert algebra.findtext("Preconditioner").strip() in PRECONDITIONERS[algebra.get("type")]


@every_run
def test_svmultiphysics_conditions_are_on_faces_of_the_mesh(mechanics, solver, tmp_path):
    root = svmultiphysics(tmp_path, mechanics, solver)
    faces = {face.get("name") for face in root.find("Add_mesh").findall("Add_face")}
    conditions = root.find("Add_equation").findall("Add_BC")
    assert {condition.get("name") for condition in conditions} <= faces
    for condition in conditions:
        assert condition.findtext("Type").strip() in ("Dirichlet", "Neu", "Robin")
        if condition.findtext("Type").strip() == "Robin":
            # both are 1 where they are missing
            assert condition.find("Stiffness") is not None
            assert condition.find("Damping") is not None


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("base", BASES)
def test_svmultiphysics_springs_of_the_pericardium_are_along_the_normal(base, solver, tmp_path):
    """set_bc_rbnl of set_bc.cpp: -(k u.n) n on the undeformed face, with the flag; all directions without."""
    deck = Deck(pericardium_kpa_per_mm=0.3)
    writer("svmultiphysics")(HEART, tmp_path, Mechanics(material="guccione", base=base), deck)
    root = ElementTree.parse(tmp_path / solver).getroot()
    conditions = root.find("Add_equation").findall("Add_BC")
    (epi,) = [condition for condition in conditions if condition.get("name") == "epi"]
    assert {part.tag: part.text.strip() for part in epi} == {
        "Type": "Robin", "Stiffness": "0.3", "Damping": "0.0", "Apply_along_normal_direction": "true",
    }  # fmt: skip
    assert tags(epi) <= CONDITION
    others = [condition for condition in conditions if condition is not epi]
    assert {other.get("name") for other in others} == {"base", "lv_endo", "rv_endo"}
    assert not [other for other in others if other.find("Apply_along_normal_direction") is not None]


@every_run
def test_svmultiphysics_files_are_there(mechanics, solver, tmp_path):
    for element in svmultiphysics(tmp_path, mechanics, solver).iter():
        if element.tag.endswith("_file_path"):
            assert (tmp_path / element.text.strip()).is_file()


# FEBio: parameters and properties by element
CONTROL = {"analysis", "time_steps", "step_size", "time_stepper", "solver", "plot_level", "output_level"}
STEPPER = {"max_retries", "opt_iter", "dtmin", "dtmax", "aggressiveness", "cutback", "dtforce"}
NEWTON = {
    "symmetric_stiffness", "equation_scheme", "max_refs", "qn_method", "dtol", "etol", "rtol", "rhoi",
    "linear_solver", "lstol", "min_residual", "reform_each_time_step", "diverge_reform",
}  # fmt: skip
TOP = {"k", "pressure_model"}
MATERIAL = {
    "uncoupled solid mixture": {"solid", "mat_axis"},
    "Mooney-Rivlin": {"c1", "c2"},
    "Fung orthotropic": {"E1", "E2", "E3", "G12", "G23", "G31", "v12", "v23", "v31", "c"},
    "uncoupled hyperelastic": {"W"},
    "fiber-exp-pow-uncoupled": {"alpha", "beta", "ksi", "mu", "fiber"},
    "uncoupled prescribed uniaxial active contraction": {"T0", "mat_axis"},
}
LOAD = {
    "pressure": {"pressure", "symmetric_stiffness", "linear", "shell_bottom"},
    "traction Robin BC": {"spring_eps", "dashpot_eps", "shell_bottom"},
}


FEBS = ("heart.feb", "heart_active.feb")
every_feb = pytest.mark.parametrize(
    ("mechanics", "feb"),
    [
        pytest.param(Mechanics(material=material, base=base), file, id=f"{material}-{base}-{file}")
        for material in MATERIALS
        for base in BASES
        for file in (FEBS[:1] if material == "holzapfel_ogden" else FEBS)  # whose contraction failed
    ],
)


def febio(folder, mechanics, file) -> ElementTree.Element:
    writer("febio")(HEART, folder, mechanics, Deck())
    return ElementTree.parse(folder / file).getroot()


@every_feb
def test_febio_knows_every_parameter(mechanics, feb, tmp_path, deck_record):
    root, unknown = febio(tmp_path, mechanics, feb), set()
    if (control := root.find("Control")).get("from") is None:
        unknown |= tags(control) - CONTROL
        unknown |= tags(control.find("time_stepper")) - STEPPER
        unknown |= tags(control.find("solver")) - NEWTON
    for material in root.find("Material"):
        unknown |= tags(material) - MATERIAL[material.get("type")] - TOP
        for solid in material.findall("solid"):
            unknown |= tags(solid) - MATERIAL[solid.get("type")]
    for load in root.find("Loads"):
        assert load.tag == "surface_load"
        unknown |= tags(load) - LOAD[load.get("type")]
    assert not unknown
    deck_record.read(
        "febio", "rules of the source, one by one", "4.11, 65622b5", deck="all materials",
        quantity="parameters that the source does not know", found=len(unknown), bound=0,
    )  # fmt: skip


@pytest.mark.parametrize("feb", FEBS)
def test_febio_has_no_springs_on_the_epicardium(feb, tmp_path):
    """FETractionRobinBC.cpp has no parameter of a direction: its traction is -k u."""
    writer("febio")(HEART, tmp_path, Mechanics(material="guccione"), Deck(pericardium_kpa_per_mm=0.3))
    loads = ElementTree.parse(tmp_path / feb).getroot().find("Loads")
    assert {load.get("surface") for load in loads} == {"lv_endo", "rv_endo"}
    assert "The epicardium is free" in (tmp_path / "README.txt").read_text()


@every_deck
def test_febio_names_are_unique_and_found(mechanics, tmp_path):
    """A set, surface or part of a name that is taken ends the reading, as a name that is not there does."""
    root = febio(tmp_path, mechanics, "heart.feb")
    mesh = root.find("Mesh")
    for kind in ("Elements", "Surface", "NodeSet"):
        names = [part.get("name") for part in mesh.findall(kind)]
        assert all(names)
        assert len(names) == len(set(names))
    # nodes have a set of their name
    assert mesh.find("Nodes").get("name") not in {part.get("name") for part in mesh.findall("NodeSet")}
    surfaces = {part.get("name") for part in mesh.findall("Surface")}
    assert {load.get("surface") for load in root.find("Loads")} <= surfaces
    sets = {part.get("name") for part in mesh.findall("NodeSet")}
    assert {bc.get("node_set") for bc in root.findall("Boundary/bc")} <= sets


@every_deck
def test_febio_ids_increase_and_facets_have_them(mechanics, tmp_path):
    mesh = febio(tmp_path, mechanics, "heart.feb").find("Mesh")
    for part in (mesh.find("Nodes"), *mesh.findall("Elements")):
        ids = [int(entry.get("id")) for entry in part]
        assert ids == sorted(set(ids))
    for surface in mesh.findall("Surface"):
        assert all(facet.get("id") for facet in surface)


@every_feb
def test_febio_load_curves_scale_parameters_that_may_change(mechanics, feb, tmp_path):
    """`lc` on a parameter that is not volatile ends the reading; curves count from 1."""
    root = febio(tmp_path, mechanics, feb)
    scaled = {element.tag: element.get("lc") for element in root.iter() if element.get("lc")}
    assert scaled.keys() <= {"pressure", "T0"}
    assert set(scaled.values()) == {"1"}


@every_feb
def test_febio_bounds_of_material_parameters(mechanics, feb, tmp_path):
    for solid in febio(tmp_path, mechanics, feb).find("Material").iter():
        kind, given = solid.get("type"), {part.tag: part.text for part in solid}
        if kind == "fiber-exp-pow-uncoupled":
            assert float(given["beta"]) >= 2
            assert min(float(given[name]) for name in ("alpha", "ksi")) >= 0
        elif kind == "Fung orthotropic":
            assert min(float(given[name]) for name in ("E1", "E2", "E3", "c")) > 0
            assert min(float(given[name]) for name in ("G12", "G23", "G31")) >= 0
