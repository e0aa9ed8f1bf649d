"""The script that a FEniCSx deck is run with; text, since it imports what this workflow does not have."""

INFLATE = '''"""Passive inflation of both ventricles with fenicsx-pulse; see README.txt.

    mpirun -n 4 python3 inflate.py                      solve; pressure_volume.tsv, displacement.bp
    python3 inflate.py pulse run inflation.toml         the same by fenicsx-pulse's own command line
"""

import json
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import h5py
from mpi4py import MPI

FOLDER = Path(__file__).resolve().parent
# load steps as shares of the full load; the law is slack at rest, so that the first one is small
FIRST_STEP, LEAST_STEP, GROWTH = 1e-3, 1e-6, 2.0
FEW_ITERATIONS = 8  # a step that took no more is followed by a larger one


def read_fibres_with_h5py():
    """Make io4dolfinx read microstructure.bp, which is an HDF5 file, on any number of processes."""
    import io4dolfinx
    from io4dolfinx.backends.h5py import backend

    theirs = backend.h5pyfile

    @contextmanager
    def opened(name, filemode="r", force_serial=False, comm=None):
        # each process reads its own part; h5py without MPI refuses that unless it is forced
        with theirs(name, filemode, force_serial or filemode == "r", comm) as store:
            yield store

    backend.h5pyfile = opened
    io4dolfinx.set_default_backend("h5py")


def material(settings, geometry):
    """The passive law of mechanics.json."""
    import pulse

    def stress(kpa):
        return pulse.Variable(kpa, "kPa")

    def number(value):
        return pulse.Variable(value, "dimensionless")

    law = settings[settings["material"]]
    if settings["material"] == "holzapfel_ogden":
        stresses = {name: stress(law[f"{name}_kpa"]) for name in ("a", "a_f", "a_s", "a_fs")}
        numbers = {name: number(law[name]) for name in ("b", "b_f", "b_s", "b_fs")}
        return pulse.HolzapfelOgden(f0=geometry.f0, s0=geometry.s0, **stresses, **numbers)
    if settings["material"] == "guccione":
        return pulse.Guccione(
            f0=geometry.f0, s0=geometry.s0, n0=geometry.n0, C=stress(law["c_kpa"]),
            bf=number(law["b_f"]), bt=number(law["b_t"]), bfs=number(law["b_fs"]),
        )
    return pulse.NeoHookean(mu=stress(law["mu_kpa"]))


def conditions(settings, geometry):
    """Supports and loads, and the function that sets the share of the full load."""
    import dolfinx
    import pulse

    def constant():
        return dolfinx.fem.Constant(geometry.mesh, dolfinx.default_scalar_type(0.0))

    aims = {"LV": settings["lv_pressure_kpa"], "RV": settings["rv_pressure_kpa"]}
    pressures = {name: pulse.Variable(constant(), "kPa") for name in aims}
    loads = [pulse.NeumannBC(traction=p, marker=geometry.markers[n][0]) for n, p in pressures.items()]
    springs = []

    def spring(marker, kpa_per_mm, across):
        stiffness = pulse.Variable(constant(), "kPa / mm")
        stiffness.assign(kpa_per_mm)
        tag = geometry.markers[marker][0]
        springs.append(pulse.RobinBC(stiffness, tag, perpendicular=across, normal="reference"))

    if settings["base"] == "robin":
        # along the normal and across it: alike in all directions
        for across in (False, True):
            spring("BASE", settings["base_stiffness_kpa_per_mm"], across)
    if settings["pericardium_kpa_per_mm"] > 0:
        spring("EPI", settings["pericardium_kpa_per_mm"], False)

    def load(share):
        for name, pressure in pressures.items():
            pressure.assign(share * aims[name])

    return pulse.BoundaryConditions(neumann=loads, robin=springs), load


def state(settings, geometry, law, bcs):
    """The problem in displacements of second order and a pressure p of first order.

    Its energy is W + p (J - 1) - p^2 / (2 kappa), which is kappa / 2 (J - 1)^2 with p = kappa (J - 1).
    """
    import pulse

    kappa = pulse.Variable(settings["bulk_modulus_kpa"], "kPa").to_base_units()

    class NearlyIncompressible(pulse.StaticProblem):
        def _material_form(self, u, p):
            forms = super()._material_form(u, p)
            forms[self.incompressibility_index] -= p / kappa * self.p_test * self.geometry.dx
            return forms

    return NearlyIncompressible(
        model=pulse.CardiacModel(
            material=law, active=pulse.Passive(), compressibility=pulse.Incompressible()
        ),
        geometry=geometry,
        bcs=bcs,
        parameters={
            "base_bc": pulse.BaseBC.fixed if settings["base"] == "fixed" else pulse.BaseBC.free,
            "mesh_unit": "mm",
        },
    )


def converged_shares(problem, load, largest):
    """Solve to the full load; yield the share of it after each step that converged."""
    share, step = 0.0, min(FIRST_STEP, largest)
    yield share
    while share < 1.0:
        aim = min(1.0, share + step)
        load(aim)
        if problem.solve():
            share = aim
            if problem.problem.solver.getIterationNumber() <= FEW_ITERATIONS:
                step = min(largest, GROWTH * step)
            yield share
        else:
            problem.reset_states()
            step /= 2
            if step < LEAST_STEP:
                sys.exit(
                    f"no step of {LEAST_STEP:g} of the load converges beyond {share:.4g} of it; "
                    "what was reached is in pressure_volume.tsv"
                )


def inflate(comm):
    found = version("fenicsx-pulse")
    if tuple(map(int, found.split(".")[:2])) < (0, 12):
        sys.exit(f"fenicsx-pulse {found} measures open cavities without their lid; 0.12 or newer is needed")

    import cardiac_geometries
    import dolfinx
    import pulse
    import ufl

    settings = json.loads((FOLDER / "mechanics.json").read_text())
    source = cardiac_geometries.geometry.Geometry.from_folder(comm, FOLDER)
    geometry = pulse.HeartGeometry.from_cardiac_geometries(source, metadata={"quadrature_degree": 4})
    # four points a tetrahedron, as is customary with ten nodes; pressures on facets keep degree 4
    geometry.dx = ufl.Measure("dx", domain=geometry.mesh, metadata={"quadrature_degree": 2})
    bcs, load = conditions(settings, geometry)
    problem = state(settings, geometry, material(settings, source), bcs)
    cavities = {"LV": settings["lv_pressure_kpa"], "RV": settings["rv_pressure_kpa"]}
    rows = ["load_share\\tlv_kpa\\trv_kpa\\tlv_ml\\trv_ml"]
    with dolfinx.io.VTXWriter(comm, FOLDER / "displacement.bp", [problem.u], engine="BP4") as writer:
        for share in converged_shares(problem, load, 1 / settings["load_steps"]):
            writer.write(share)
            # closed by a flat lid as the opening lies at rest
            volumes = [comm.allreduce(geometry.volume(name, u=problem.u)) / 1000 for name in cavities]
            rows.append("\\t".join(map(str, [share, *(share * kpa for kpa in cavities.values()), *volumes])))
            if comm.rank == 0:
                print(rows[-1], flush=True)
                (FOLDER / "pressure_volume.tsv").write_text("\\n".join(rows) + "\\n")


if __name__ == "__main__":
    read_fibres_with_h5py()
    if sys.argv[1:2] == ["pulse"]:
        import pulse.cli

        sys.exit(pulse.cli.main(sys.argv[2:]))
    inflate(MPI.COMM_WORLD)
'''
