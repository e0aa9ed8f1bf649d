"""svMultiPhysics' input: mesh-complete folder, fibre files and solver.xml. Owned by the inputs stage.

Format: the readers in svMultiPhysics' source (vtk_xml_parser.cpp, read_msh.cpp, load_msh.cpp, read_files.cpp,
Parameters.cpp, FourierInterpolation.cpp, CoupledBoundaryCondition.cpp). GlobalNodeID and GlobalElementID are
Int32 and count from 1; a face carries the ids of its nodes and of the tetrahedra behind its triangles. Its
coordinates are the mesh's to the last bit, since the solver finds nodes by them. A fibre file is a mesh with
the cell array FIB_DIR (Float64), first fibres, then sheets. DOMAIN_ID of the mesh is what `Domain_file_path`
reads. The solver has no units: mm, kg and s are consistent with kPa. The tension of solver_active.xml is
written as `Active_stress`, as in the source of July 2026; other versions may read another form.

Caps close the cavities for a coupling with svZeroDSolver (`Chamber_cap_surface`): triangles between nodes of
the rim, with GlobalNodeID and cell Normals, turned as the endocardium is. They are no faces of the mesh.

The equation is `ustruct`, displacement and pressure (Liu & Marsden, Comput Methods Appl Mech Eng 337:549,
2018). On ten-node tetrahedra displacements are quadratic and pressures linear (Taylor and Hood), as those of
`simulate` are. On four-node ones both are linear and stabilised, by two coefficients that are 0 unless they
are written. VTK's polygons have no midside nodes: faces of ten-node tetrahedra are unstructured grids.

Loads are taken at the end of a step and balanced within it (generalised alpha), so that a ramp is in balance
some steps after its end alone. Where Newton's method fails the solver goes on to the next step: a load that
is too large for it ends in numbers without meaning, not in an error.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvista

from ..mechanics.settings import Mechanics
from ..mesh.lids import lids
from ..mesh.model import FACETS, REGIONS, BiventricularModel
from ..mesh.vtk_files import write_dataset
from ..runtime.artifacts import write_text
from . import register
from ._checks import CHECKS, checked
from ._deck import (
    ENDOCARDIA,
    PLAIN,
    Deck,
    behind_facets,
    expected,
    is_ramp,
    load_shares,
    mesh_of_order,
    need_fibres,
    pressures_kpa,
    slow_shares,
)  # fmt: skip

MESH = "mesh-complete"
ENDING = {1: "vtp", 2: "vtu"}  # of the faces' files, by element_order
DIRECTIONS = {"f0": "fibres_f0.vtu", "s0": "fibres_s0.vtu"}
# Vinnakota & Bassingthwaighte, Am J Physiol Heart Circ Physiol 286:H1742 (2004)
DENSITY_KG_PER_MM3 = 1.053e-6
POISSON_RATIO = 0.49
RAMP_S = 1.0  # pressures rise this slowly, so that inertia does not count
ACTIVE_STEPS = 2  # of a contraction on ten-node tetrahedra, for each of an inflation
# as in the solver's own case LV_HolzapfelOgden_active; it has decayed when the loads have been held
VISCOSITY_KPA_S = 0.1
# the solver takes the mean out of the tension, which swells compressible muscle: this times the bulk modulus
INCOMPRESSIBLE = 100.0
SLACK_STEPS = {1: 8, 2: 4}  # by element_order; steps are never shortened. With 4 a run of order 1 failed
HOLD_STEPS = 6  # at full pressure, until the state is in balance with it
# as in the solver's own cases of ustruct
STABILISATION = {"holzapfel_ogden": 1e-5, "guccione": 1e-3, "neo_hooke": 1e-3}
# type and preconditioner; the solver's own stagnates on fibre laws
PETSC, OWN = ("petsc", "petsc-jacobi"), ("fsils", "fsils")
DIRECT = 'PETSC_OPTIONS="-pc_type lu -pc_factor_mat_solver_type mumps"'  # in the preconditioner's place
RUN = "svmultiphysics solver.xml"
ELEMENTS = {
    1: "Four-node tetrahedra are stiff: on a mesh of 6,479 they reached 91 to 96 % of the volume change of\n"
    "ten-node ones, and 73 % (LV) and 64 % (RV) with holzapfel_ogden.\n",
    2: "Ten-node tetrahedra: quadratic displacements and linear pressures, as in `simulate`.\n",
}
ACTIVE = "active"


@dataclass(frozen=True)
class Run:
    """An inflation or a contraction, and what brings Newton's method through it."""

    mechanics: Mechanics
    active: bool = False

    @property
    def quadratic(self) -> bool:
        return self.mechanics.element_order == 2

    @property
    def shares(self) -> np.ndarray:
        """(n + 1,) shares of the full load from 0 to 1, at even times."""
        if self.active and self.quadratic:
            return slow_shares(ACTIVE_STEPS * self.mechanics.load_steps)
        return load_shares(self.mechanics, SLACK_STEPS[self.mechanics.element_order])

    @property
    def even(self) -> bool:
        """Whether the loads rise in equal steps, else as a power of time."""
        return is_ramp(self.mechanics) and not (self.active and self.quadratic)

    @property
    def viscous(self) -> bool:
        """Four-node tetrahedra did without."""
        return self.quadratic and not self.even

    @property
    def bulk_modulus_kpa(self) -> float:
        return self.mechanics.bulk_modulus_kpa * (INCOMPRESSIBLE if self.active and self.quadratic else 1.0)

    @property
    def curves(self) -> str:
        return "_pressure_active.dat" if self.active else "_pressure.dat"

    @property
    def linear_solver(self) -> tuple[str, str]:
        return PETSC if self.quadratic or self.mechanics.material != "neo_hooke" else OWN


@register("svmultiphysics")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics, deck: Deck = PLAIN) -> list[Path]:
    """solver.xml, one pressure curve a cavity, mesh-complete/ with fibres, and README.txt in `folder`."""
    need_fibres(model, mechanics)
    mesh, order = folder / MESH, mechanics.element_order
    points, tets, facets = mesh_of_order(model, order)
    names = [name for name, tag in FACETS.items() if (model.facet_tag == tag).any()]
    owner, _ = behind_facets(model)
    files = [mesh / f"{MESH}.mesh.vtu", mesh / f"{MESH}.exterior.{ENDING[order]}"]
    _write_volume(files[0], points, tets, model.region)
    _write_face(files[1], points, facets, model.facet_tag, owner)
    for name in names:
        files.append(mesh / "mesh-surfaces" / f"{name}.{ENDING[order]}")
        own = model.facet_tag == FACETS[name]
        _write_face(files[-1], points, facets[own], model.facet_tag[own], owner[own])
    for name, lid in lids(model).items():
        files.append(mesh / "caps" / f"{name}_cap.vtp")
        _write_cap(files[-1], model, lid)
    if model.microstructure is not None:
        for direction, file in DIRECTIONS.items():
            files.append(mesh / file)
            _write_directions(files[-1], model, getattr(model.microstructure, direction))
    run, springs = Run(mechanics), deck.pericardium_kpa_per_mm
    files += _write_curves(folder, run.curves, run, pressures_kpa(mechanics), names)
    files.append(folder / "solver.xml")
    write_text(files[-1], _solver(model, run, names, springs))
    if _contracts(model, mechanics, deck):
        run, tension = Run(mechanics, active=True), {ACTIVE: deck.settings.active_tension_kpa}
        files += _write_curves(folder, run.curves, run, deck.active_pressures_kpa(), names)
        files += _write_curves(folder, "_tension.dat", run, tension, [ACTIVE])
        files.append(folder / "solver_active.xml")
        write_text(files[-1], _solver(model, run, names, springs))
    files.append(folder / "README.txt")
    write_text(files[-1], _readme(model, mechanics, deck, names))
    return files


def _contracts(model: BiventricularModel, mechanics: Mechanics, deck: Deck) -> bool:
    """Whether there is an active variant: on four-node tetrahedra it failed with slack fibres."""
    return deck.contracts(model) and (mechanics.element_order == 2 or is_ramp(mechanics))


def _write_curves(folder: Path, ending: str, run: Run, kpa: dict[str, float], names: list[str]) -> list[Path]:
    """A file per name that is present: how many points and Fourier coefficients, then time and value.

    The solver holds the last value only with two points and a ramp. Other curves are periodic: they last a
    step longer than the run.
    """
    shares = run.shares
    if run.even:
        times, shares, coefficients = np.array([0.0, RAMP_S]), shares[[0, -1]], 1
    else:
        coefficients = len(shares) - 1
        times = RAMP_S / coefficients * np.arange(len(shares) + HOLD_STEPS + 1)
        shares = np.append(shares, np.ones(HOLD_STEPS + 1))
    files = []
    for name, value in kpa.items():
        if name in names:
            files.append(folder / f"{name}{ending}")
            steps = zip(times, value * shares, strict=True)
            rows = "".join(f"{time:.10g} {pressure:.10g}\n" for time, pressure in steps)
            write_text(files[-1], f"{len(times)} {coefficients}\n{rows}")
    return files


def _write_volume(path: Path, points: np.ndarray, tets: np.ndarray, region: np.ndarray) -> None:
    cell = pyvista.CellType.TETRA if tets.shape[1] == 4 else pyvista.CellType.QUADRATIC_TETRA
    grid = pyvista.UnstructuredGrid({cell: tets}, points)
    grid.point_data["GlobalNodeID"] = np.arange(1, len(points) + 1, dtype=np.int32)
    grid.cell_data["GlobalElementID"] = np.arange(1, len(tets) + 1, dtype=np.int32)
    grid.cell_data["DOMAIN_ID"] = region.astype(np.int32)
    write_dataset(path, grid)


def _write_face(
    path: Path, points: np.ndarray, facets: np.ndarray, tags: np.ndarray, owner: np.ndarray
) -> None:
    nodes, compact = np.unique(facets, return_inverse=True)
    compact = compact.reshape(facets.shape)
    if facets.shape[1] == 3:
        face = pyvista.PolyData.from_regular_faces(points[nodes], compact)
    else:
        face = pyvista.UnstructuredGrid({pyvista.CellType.QUADRATIC_TRIANGLE: compact}, points[nodes])
    face.point_data["GlobalNodeID"] = (nodes + 1).astype(np.int32)
    face.cell_data["GlobalElementID"] = (owner + 1).astype(np.int32)
    face.cell_data["ModelFaceID"] = tags.astype(np.int32)
    write_dataset(path, face)


def _write_cap(path: Path, model: BiventricularModel, facets: np.ndarray) -> None:
    nodes, compact = np.unique(facets, return_inverse=True)
    cap = pyvista.PolyData.from_regular_faces(model.points_mm[nodes], compact.reshape(-1, 3))
    cap.point_data["GlobalNodeID"] = (nodes + 1).astype(np.int32)
    a, b, c = (model.points_mm[facets[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    cap.cell_data["Normals"] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    write_dataset(path, cap)


def _write_directions(path: Path, model: BiventricularModel, directions: np.ndarray) -> None:
    grid = pyvista.UnstructuredGrid({pyvista.CellType.TETRA: model.tets}, model.points_mm)
    grid.cell_data["FIB_DIR"] = np.asarray(directions, dtype=np.float64)
    write_dataset(path, grid)


def _solver(model: BiventricularModel, run: Run, names: list[str], springs: float) -> str:
    fibres = "".join(
        f"  <Fiber_direction_file_path> {MESH}/{file} </Fiber_direction_file_path>\n"
        for file in (DIRECTIONS.values() if model.microstructure is not None else ())
    )
    ending = ENDING[run.mechanics.element_order]
    faces = "".join(
        f'  <Add_face name="{name}">\n'
        f"    <Face_file_path> {MESH}/mesh-surfaces/{name}.{ending} </Face_file_path>\n  </Add_face>\n"
        for name in names
    )
    rising = len(run.shares) - 1
    steps = rising + HOLD_STEPS
    kind, preconditioner = run.linear_solver
    title = "Contraction" if run.active else "Passive inflation"
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>\n'
        f"<!-- {title} of both ventricles; mm, kg, s, kPa. -->\n"
        '<svMultiPhysicsFile version="0.1">\n'
        "<GeneralSimulationParameters>\n"
        "  <Continue_previous_simulation> false </Continue_previous_simulation>\n"
        "  <Number_of_spatial_dimensions> 3 </Number_of_spatial_dimensions>\n"
        f"  <Number_of_time_steps> {steps} </Number_of_time_steps>\n"
        f"  <Time_step_size> {RAMP_S / rising:.10g} </Time_step_size>\n"
        "  <Spectral_radius_of_infinite_time_step> 0.5 </Spectral_radius_of_infinite_time_step>\n"
        "  <Searched_file_name_to_trigger_stop> STOP_SIM </Searched_file_name_to_trigger_stop>\n"
        "  <Save_results_to_VTK_format> true </Save_results_to_VTK_format>\n"
        "  <Name_prefix_of_saved_VTK_files> result </Name_prefix_of_saved_VTK_files>\n"
        "  <Increment_in_saving_VTK_files> 1 </Increment_in_saving_VTK_files>\n"
        "  <Start_saving_after_time_step> 1 </Start_saving_after_time_step>\n"
        f"  <Increment_in_saving_restart_files> {steps} </Increment_in_saving_restart_files>\n"
        "  <Convert_BIN_to_VTK_format> false </Convert_BIN_to_VTK_format>\n"
        "  <Verbose> true </Verbose>\n  <Warning> true </Warning>\n  <Debug> false </Debug>\n"
        "</GeneralSimulationParameters>\n"
        '<Add_mesh name="msh">\n'
        f"  <Mesh_file_path> {MESH}/{MESH}.mesh.vtu </Mesh_file_path>\n{faces}{fibres}"
        "</Add_mesh>\n"
        '<Add_equation type="ustruct">\n'
        "  <Coupled> true </Coupled>\n  <Min_iterations> 3 </Min_iterations>\n"
        "  <Max_iterations> 20 </Max_iterations>\n  <Tolerance> 1e-8 </Tolerance>\n"
        f"  <Use_taylor_hood_type_basis> {str(run.quadratic).lower()} "
        "</Use_taylor_hood_type_basis>\n"
        f"{_material(run)}{_tension(run) if run.active else ''}"
        '  <Output type="Spatial">\n    <Displacement> true </Displacement>\n'
        "    <Pressure> true </Pressure>\n    <Jacobian> true </Jacobian>\n"
        "    <Cauchy_stress> true </Cauchy_stress>\n    <Def_grad> true </Def_grad>\n  </Output>\n"
        f'  <LS type="GMRES">\n    <Linear_algebra type="{kind}">\n'
        f"      <Preconditioner> {preconditioner} </Preconditioner>\n    </Linear_algebra>\n"
        # iterations count restarts, each of as many steps as the Krylov space has dimensions
        "    <Tolerance> 1e-4 </Tolerance>\n    <Max_iterations> 4 </Max_iterations>\n"
        "    <Krylov_space_dimension> 250 </Krylov_space_dimension>\n  </LS>\n"
        f"{_conditions(run, names)}"
        f"{_pericardium(springs, names)}"
        "</Add_equation>\n</svMultiPhysicsFile>\n"
    )


def _material(run: Run) -> str:
    """Energy and the moduli that scale the stabilisation (and, for neo_hooke, the shear modulus itself)."""
    shear, law = _LAWS[run.mechanics.material](run.mechanics)
    stabilisation = viscosity = ""
    if not run.quadratic:
        stabilisation = "".join(
            f"  <{term}_stabilization_coefficient> {STABILISATION[run.mechanics.material]:g} "
            f"</{term}_stabilization_coefficient>\n"
            for term in ("Momentum", "Continuity")
        )
    if run.viscous:
        viscosity = (
            f'  <Viscosity model="Potential">\n    <Value> {VISCOSITY_KPA_S:g} </Value>\n  </Viscosity>\n'
        )
    return (
        f"  <Density> {DENSITY_KG_PER_MM3:.10g} </Density>\n"
        f"  <Elasticity_modulus> {2 * shear * (1 + POISSON_RATIO):.10g} </Elasticity_modulus>\n"
        f"  <Poisson_ratio> {POISSON_RATIO} </Poisson_ratio>\n{viscosity}{law}"
        # K/2 (J - 1)^2
        "  <Dilational_penalty_model> quad </Dilational_penalty_model>\n"
        f"  <Penalty_parameter> {run.bulk_modulus_kpa:.10g} </Penalty_parameter>\n"
        f"{stabilisation}"
    )


def _constitutive(kind: str, values: dict[str, float]) -> str:
    rows = "".join(f"    <{name}> {value:.10g} </{name}>\n" for name, value in values.items())
    return f'  <Constitutive_model type="{kind}">\n{rows}  </Constitutive_model>\n'


def _holzapfel_ogden(mechanics: Mechanics) -> tuple[float, str]:
    law = mechanics.holzapfel_ogden
    values = {
        "a": law.a_kpa, "b": law.b, "a4f": law.a_f_kpa, "b4f": law.b_f, "a4s": law.a_s_kpa, "b4s": law.b_s,
        "afs": law.a_fs_kpa, "bfs": law.b_fs,
        # steepness of the smoothed switch that leaves fibres out in compression, as in the solver's tests
        "k": 100.0,
    }  # fmt: skip
    # along the fibres the tangent at rest is about 4 a_f: a third of it as shear modulus
    return max(law.a_kpa, 4 * law.a_f_kpa / 3), _constitutive("HolzapfelOgden", values)


def _guccione(mechanics: Mechanics) -> tuple[float, str]:
    law = mechanics.guccione
    values = {"c": law.c_kpa, "bf": law.b_f, "bt": law.b_t, "bfs": law.b_fs}
    return law.c_kpa * max(law.b_f, law.b_t, law.b_fs) / 2, _constitutive("Guccione", values)


def _neo_hooke(mechanics: Mechanics) -> tuple[float, str]:
    return mechanics.neo_hooke.mu_kpa, _constitutive("neoHookean", {})


_LAWS = {"holzapfel_ogden": _holzapfel_ogden, "guccione": _guccione, "neo_hooke": _neo_hooke}


def _tension(run: Run) -> str:
    return (
        "  <Active_stress>\n    <Model> UniformUnsteady </Model>\n    <UniformUnsteady>\n"
        f"      <Ramp> {str(run.even).lower()} </Ramp>\n"
        f"      <Temporal_values_file_path> {ACTIVE}_tension.dat </Temporal_values_file_path>\n"
        "    </UniformUnsteady>\n  </Active_stress>\n"
    )


def _conditions(run: Run, names: list[str]) -> str:
    pressures = "".join(
        f'  <Add_BC name="{name}">\n    <Type> Neu </Type>\n'
        "    <Time_dependence> Unsteady </Time_dependence>\n"
        f"    <Temporal_values_file_path> {name}{run.curves} </Temporal_values_file_path>\n"
        f"    <Ramp_function> {str(run.even).lower()} </Ramp_function>\n"
        "    <Follower_pressure_load> true </Follower_pressure_load>\n  </Add_BC>\n"
        for name in ENDOCARDIA
        if name in names
    )
    if "base" not in names:
        return pressures
    support = (
        "    <Type> Dirichlet </Type>\n    <Value> 0.0 </Value>\n"
        if run.mechanics.base == "fixed"
        else "    <Type> Robin </Type>\n"
        f"    <Stiffness> {run.mechanics.base_stiffness_kpa_per_mm:.10g} </Stiffness>\n"
        "    <Damping> 0.0 </Damping>\n"
    )
    return f'{pressures}  <Add_BC name="base">\n{support}  </Add_BC>\n'


def _pericardium(stiffness: float, names: list[str]) -> str:
    """Springs on the epicardium along its undeformed normal: the solver takes -(k u.n) n."""
    if not stiffness or "epi" not in names:
        return ""
    return (
        '  <Add_BC name="epi">\n    <Type> Robin </Type>\n'
        f"    <Stiffness> {stiffness:.10g} </Stiffness>\n    <Damping> 0.0 </Damping>\n"
        "    <Apply_along_normal_direction> true </Apply_along_normal_direction>\n  </Add_BC>\n"
    )


def _readme(model: BiventricularModel, mechanics: Mechanics, deck: Deck, names: list[str]) -> str:
    run = Run(mechanics)
    kind, _ = run.linear_solver
    rise = "evenly" if run.even else "as the cube of time"
    steps = len(run.shares) - 1
    viscosity = ""
    if run.viscous:
        viscosity = (
            f"A viscosity of {VISCOSITY_KPA_S:g} kPa s helps Newton's method; its stress decays while the\n"
            "loads are held.\n"
        )
    tolerance = CHECKS["svmultiphysics"].tolerance if run.quadratic else "none, for these elements"
    contraction = ""
    if _contracts(model, mechanics, deck):
        laws = "all three materials" if run.quadratic else "guccione"
        contraction = deck.contraction("solver_active.xml", f"Run by hand with {laws}.")
    elif deck.contracts(model):
        contraction = f"No active variant: the solver failed in contractions with {mechanics.material}.\n"
    petsc = (
        f"The build must have PETSc (SV_PETSC_DIR), best with MUMPS: then run with\n{DIRECT} {RUN}\n"
        if kind == "petsc"
        else ""
    )
    return (
        "svMultiPhysics case: passive inflation, mm, kg, s, kPa.\n"
        f"Run with: {RUN}   (or mpiexec -n 4 {RUN})\n"
        f"{MESH}/: mesh, faces ({', '.join(names)}; ModelFaceID {FACETS}), fibre and sheet directions;\n"
        f"caps/: {', '.join(f'{name}_cap.vtp' for name in lids(model))}, which close the cavities, for\n"
        "<Chamber_cap_surface> of a coupling with svZeroDSolver; their normals point into the cavity.\n"
        f"DOMAIN_ID {REGIONS}, for a <Domain_file_path> of your own.\n"
        f"Material: {mechanics.material}. Pressures rise {rise} over {RAMP_S:g} s in {steps} steps\n"
        f"and are held for {HOLD_STEPS} more: read the volumes at the last step.\n"
        f"{viscosity}Linear solver: {kind}.\n{petsc}"
        "The solver does not stop where Newton's method fails: see that the column Ri/R1 of each step ends\n"
        "below 1e-4.\n"
        f"{contraction}"
        f"{deck.pericardium()}"
        f"{ELEMENTS[mechanics.element_order]}"
        f"{expected(model, mechanics, deck, tolerance)}{checked('svmultiphysics')}"
    )
