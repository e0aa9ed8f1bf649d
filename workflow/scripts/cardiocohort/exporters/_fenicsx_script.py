"""The script that a FEniCSx deck is run with; text, since it imports what this workflow does not have."""

INFLATE = '''"""Passive inflation of both ventricles with fenicsx-pulse; see README.txt.

    mpirun -n 4 python3 inflate.py          solve; displacement.bp, pressure_volume.tsv
    python3 inflate.py --save-geometry      write the mesh with its fibres as cardiac-geometries does (adios2)
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

FOLDER = Path(__file__).resolve().parent
DIRECTIONS = ("f0", "s0", "n0")


def cellwise(mesh, space, name, rows):
    """A function of vectors (M, 3) given in the order of the cells of mesh.h5."""
    import dolfinx

    function = dolfinx.fem.Function(space, name=name)
    # DOLFINx renumbers cells, on every process in its own way
    original = mesh.topology.original_cell_index
    dofs = space.dofmap.list.reshape(len(original), -1)[:, 0]
    function.x.array.reshape(-1, 3)[dofs] = rows[original]
    return function


def read_geometry(comm):
    """The geometry of the folder with its fibres, sheets and sheet normals."""
    import cardiac_geometries
    from cardiac_geometries.utils import array2functionspace

    geometry = cardiac_geometries.geometry.Geometry.from_folder(comm, FOLDER)
    spaces = json.loads((FOLDER / "microstructure.json").read_text())
    with h5py.File(FOLDER / "microstructure.h5") as store:
        for name in DIRECTIONS:
            space = array2functionspace(geometry.mesh, tuple(spaces[name]))
            setattr(geometry, name, cellwise(geometry.mesh, space, name, store[f"cells/{name}"][:]))
    return geometry


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


def inflate(comm):
    found = version("fenicsx-pulse")
    if tuple(map(int, found.split(".")[:2])) < (0, 12):
        sys.exit(f"fenicsx-pulse {found} measures open cavities without their lid; 0.12 or newer is needed")

    import dolfinx
    import pulse

    settings = json.loads((FOLDER / "mechanics.json").read_text())
    source = read_geometry(comm)
    geometry = pulse.HeartGeometry.from_cardiac_geometries(source, metadata={"quadrature_degree": 4})
    model = pulse.CardiacModel(
        material=material(settings, source),
        active=pulse.Passive(),
        compressibility=pulse.Compressible2(pulse.Variable(settings["bulk_modulus_kpa"], "kPa")),
    )

    def constant():
        return dolfinx.fem.Constant(geometry.mesh, dolfinx.default_scalar_type(0.0))

    aims = {"LV": settings["lv_pressure_kpa"], "RV": settings["rv_pressure_kpa"]}
    pressures = {name: pulse.Variable(constant(), "kPa") for name in aims}
    loads = [pulse.NeumannBC(traction=p, marker=geometry.markers[n][0]) for n, p in pressures.items()]
    springs = []
    if settings["base"] == "robin":
        stiffness = pulse.Variable(constant(), "kPa / mm")
        stiffness.assign(settings["base_stiffness_kpa_per_mm"])
        # along the normal and across it: alike in all directions
        springs += [
            pulse.RobinBC(stiffness, geometry.markers["BASE"][0], perpendicular=across, normal="reference")
            for across in (False, True)
        ]
    base = pulse.BaseBC.fixed if settings["base"] == "fixed" else pulse.BaseBC.free
    problem = pulse.StaticProblem(
        model=model,
        geometry=geometry,
        bcs=pulse.BoundaryConditions(neumann=loads, robin=springs),
        parameters={"base_bc": base, "mesh_unit": "mm"},
    )
    writer = dolfinx.io.VTXWriter(comm, FOLDER / "displacement.bp", [problem.u], engine="BP4")
    rows = ["step\\tlv_kpa\\trv_kpa\\tlv_ml\\trv_ml"]
    for step in range(settings["load_steps"] + 1):
        share = step / settings["load_steps"]
        for name, pressure in pressures.items():
            pressure.assign(share * aims[name])
        if step and not problem.solve():
            sys.exit(
                f"step {step}, {share:.3g} of the load, did not converge; those before it are in "
                "pressure_volume.tsv. More load_steps in mechanics.json may help"
            )
        writer.write(share)
        # closed by a flat lid as the opening lies at rest
        volumes = [comm.allreduce(geometry.volume(name, u=problem.u)) / 1000 for name in aims]
        rows.append("\\t".join(map(str, [step, *(share * kpa for kpa in aims.values()), *volumes])))
        if comm.rank == 0:
            print(rows[-1], flush=True)
            (FOLDER / "pressure_volume.tsv").write_text("\\n".join(rows) + "\\n")
    writer.close()


if __name__ == "__main__":
    from mpi4py import MPI

    if "--save-geometry" in sys.argv:
        read_geometry(MPI.COMM_WORLD).save_folder(FOLDER / "cardiac_geometries")
    else:
        inflate(MPI.COMM_WORLD)
'''
