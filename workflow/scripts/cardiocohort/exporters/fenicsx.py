"""FEniCSx: XDMF mesh with tags, microstructure and a script that inflates. Owned by the inputs stage.

Layout: a folder that `cardiac_geometries.geometry.Geometry.from_folder` reads: mesh.xdmf (its data in
mesh.h5) with the grids "Mesh", "Cell tags" and "Facet tags" that DOLFINx writes, markers.json (name -> tag,
dimension), microstructure.json (name -> family, cell, degree, discontinuous of basix), microstructure.bp
(fibres, sheets, normals). io4dolfinx reads the last one by the numbering of the cells in mesh.h5. It is in
the layout of its h5py backend, since ADIOS2, its default, cannot be written without its library.

inflation.toml is the same inflation for the command line of fenicsx-pulse. Units are mm and kPa; the mesh
stays linear, displacements are quadratic and pressures linear.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from ..mechanics.settings import Mechanics
from ..mesh.model import DIRECTIONS, FACETS, REGIONS, BiventricularModel
from ..runtime.artifacts import readable_json, write_text
from . import register
from ._checks import checked
from ._deck import expected, need_fibres
from ._fenicsx_script import INFLATE
from ._xdmf import write_hdf5, write_tagged_mesh

# the names that fenicsx-pulse and fenicsx-ldrb look for
MARKERS = {"epi": "EPI", "base": "BASE", "lv_endo": "LV", "rv_endo": "RV"}
REGION_MARKERS = {"lv": "LV_MUSCLE", "rv": "RV_MUSCLE", "septum": "SEPTUM"}
# basix: family P, cell tetrahedron, degree 0, discontinuous: one vector a cell
CELLWISE = [1, 3, 0, 1]
RUN = "mpirun -n 4 python3 inflate.py"
RUN_PULSE = "python3 inflate.py pulse run inflation.toml"
NO_FIBRES = '[geometry.fibers]\ntype = "none"\n'


@register("fenicsx")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics) -> list[Path]:
    """mesh.xdmf, .h5, markers, microstructure, settings, inflate.py and README.txt in `folder`."""
    need_fibres(model, mechanics)
    comment = f"Both ventricles, mm; tags are named in markers.json. Run: {RUN}"
    mesh = (model.points_mm, model.tets, model.region, model.facets, model.facet_tag)
    files = [*write_tagged_mesh(folder, *mesh, comment), folder / "markers.json"]
    write_text(files[-1], readable_json(_markers()))
    if model.microstructure is not None:
        files += [folder / "microstructure.bp", folder / "microstructure.json"]
        write_hdf5(files[-2], partial(_fill_microstructure, model=model))
        write_text(files[-1], readable_json(dict.fromkeys(DIRECTIONS, CELLWISE)))
    files += [folder / name for name in ("mechanics.json", "inflation.toml", "inflate.py", "README.txt")]
    write_text(files[-4], readable_json(asdict(mechanics)))
    write_text(files[-3], _command_line(mechanics))
    write_text(files[-2], INFLATE)
    write_text(files[-1], _readme(model, mechanics))
    return files


def _fill_microstructure(store: h5py.File, model: BiventricularModel) -> None:
    """Functions as io4dolfinx's h5py backend keeps them: three values a cell, in the order of mesh.h5."""
    packed = {"compression": "gzip", "shuffle": True, "track_times": False}
    offsets = 3 * np.arange(len(model.tets) + 1, dtype=np.int64)
    shared = {"dofmap": np.arange(offsets[-1]), "dofmap_offsets": offsets}
    store.create_dataset("mesh/CellPermutations", data=np.zeros(len(model.tets), np.uint32), **packed)
    functions = store.create_group("mesh/functions")
    for name in DIRECTIONS:
        function = functions.create_group(name)
        function.attrs["timestamps"] = np.zeros(1)
        values = getattr(model.microstructure, name).astype(float).ravel()
        function.create_dataset("0/array", data=values, **packed)
        for part, numbers in shared.items():
            if name == DIRECTIONS[0]:
                function.create_dataset(part, data=numbers, **packed)
            else:  # a second name of the same data
                function[part] = functions[f"{DIRECTIONS[0]}/{part}"]


def _markers() -> dict[str, list[int]]:
    facets = {MARKERS[name]: [tag, 2] for name, tag in FACETS.items()}
    return facets | {REGION_MARKERS[name]: [tag, 3] for name, tag in REGIONS.items()}


def _command_line(mechanics: Mechanics) -> str:
    """The configuration of fenicsx-pulse's command line, which knows incompressible mixed elements alone."""
    law = _PULSE_LAWS[mechanics.material](mechanics)
    rows = "".join(f"{name} = {value}\n" for name, value in law.items())
    loads = "".join(
        f'\n[[load]]\ntarget = "pressure"\nmarker = "{marker}"\n[load.profile]\ntype = "ramp"\n'
        f'end = "1 s"\nto_value = "{kpa:.10g} kPa"\n'
        for marker, kpa in (("LV", mechanics.lv_pressure_kpa), ("RV", mechanics.rv_pressure_kpa))
    )
    base = '[bcs]\nbase_bc = "fixed"\n'
    if mechanics.base == "robin":
        base = "[bcs]\n" + "".join(
            f'[[bcs.robin]]\nmarker = "BASE"\nvalue = "{mechanics.base_stiffness_kpa_per_mm:.10g} kPa/mm"\n'
            f'perpendicular = {across}\nnormal = "reference"\n'
            for across in ("false", "true")
        )
    return (
        f"# Passive inflation; run: {RUN_PULSE}\n"
        '[geometry]\ntype = "folder"\nfolder = "."\nunit = "mm"\nquadrature_degree = 4\n'
        f"{'' if mechanics.material != 'neo_hooke' else NO_FIBRES}\n"
        f'[material]\n{rows}\n[compressibility]\ntype = "incompressible"\n\n{base}{loads}\n'
        f'[time]\nend_time = "1 s"\nnum_steps = {mechanics.load_steps}\n\n'
        # the law is slack at rest: the first step is halved until it converges
        "[solver]\nmax_halvings = 10\n"
    )


def _pulse_holzapfel_ogden(mechanics: Mechanics) -> dict[str, str]:
    law = mechanics.holzapfel_ogden
    stresses = {"a": law.a_kpa, "a_f": law.a_f_kpa, "a_s": law.a_s_kpa, "a_fs": law.a_fs_kpa}
    exponents = {"b": law.b, "b_f": law.b_f, "b_s": law.b_s, "b_fs": law.b_fs}
    return (
        {"type": '"holzapfel_ogden"'}
        | {name: f'"{kpa:.10g} kPa"' for name, kpa in stresses.items()}
        | {name: repr(float(value)) for name, value in exponents.items()}
    )


def _pulse_guccione(mechanics: Mechanics) -> dict[str, str]:
    law = mechanics.guccione
    exponents = {"bf": law.b_f, "bt": law.b_t, "bfs": law.b_fs}
    head = {"type": '"guccione"', "C": f'"{law.c_kpa:.10g} kPa"'}
    return head | {name: repr(float(value)) for name, value in exponents.items()}


def _pulse_neo_hooke(mechanics: Mechanics) -> dict[str, str]:
    return {"type": '"neo_hookean"', "mu": f'"{mechanics.neo_hooke.mu_kpa:.10g} kPa"'}


_PULSE_LAWS = {
    "holzapfel_ogden": _pulse_holzapfel_ogden,
    "guccione": _pulse_guccione,
    "neo_hooke": _pulse_neo_hooke,
}


def _readme(model: BiventricularModel, mechanics: Mechanics) -> str:
    return (
        "FEniCSx case: passive inflation, mm and kPa.\n"
        f"Run with: {RUN}\n"
        f"or: {RUN_PULSE}   (fully incompressible)\n"
        "Needs DOLFINx 0.11, fenicsx-pulse 0.12, cardiac-geometriesx 0.16, h5py.\n"
        "mesh.xdmf, mesh.h5: mesh, cell tags, facet tags; markers.json names the tags. microstructure.bp:\n"
        "f0, s0, n0 by cell. Read the folder with these two lines:\n"
        '  io4dolfinx.set_default_backend("h5py")\n'
        "  cardiac_geometries.geometry.Geometry.from_folder(comm, folder)\n"
        f"mechanics.json: material ({mechanics.material}), pressures, base. Displacements are of second\n"
        "order, pressures of first order. Load steps begin at 0.1 % of the load. They are halved where\n"
        "Newton's iteration fails and doubled where it is quick, up to 1/load_steps.\n"
        f"{expected(model, mechanics)}{checked('fenicsx')}"
    )
