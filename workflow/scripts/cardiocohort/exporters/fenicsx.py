"""FEniCSx: XDMF mesh with tags, microstructure and a script that inflates. Owned by the inputs stage.

Layout: a folder that `cardiac_geometries.geometry.Geometry.from_folder` reads: mesh.xdmf (its data in
mesh.h5) with the grids "Mesh", "Cell tags" and "Facet tags" that DOLFINx writes, markers.json (name -> tag,
dimension), microstructure.json (name -> family, cell, degree, discontinuous of basix). That package keeps
fields in ADIOS2 files that depend on how DOLFINx numbers a mesh in a run; here they are arrays by cell and by
node of mesh.h5, in microstructure.h5, and inflate.py puts them into functions.

Units are mm and kPa; the mesh stays linear, displacements are quadratic.
"""

import io
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np

from ..mechanics.settings import Mechanics
from ..mesh.model import DIRECTIONS, FACETS, REGIONS, BiventricularModel
from ..runtime.artifacts import atomic_path, readable_json, write_text
from . import register
from ._deck import need_fibres
from ._fenicsx_script import INFLATE

# the names that fenicsx-pulse and fenicsx-ldrb look for
MARKERS = {"epi": "EPI", "base": "BASE", "lv_endo": "LV", "rv_endo": "RV"}
REGION_MARKERS = {"lv": "LV_MUSCLE", "rv": "RV_MUSCLE", "septum": "SEPTUM"}
# basix: family P, cell tetrahedron, degree 0, discontinuous: one vector a cell
CELLWISE = [1, 3, 0, 1]
RUN = "mpirun -n 4 python3 inflate.py"


@register("fenicsx")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics) -> list[Path]:
    """mesh.xdmf and .h5, markers, microstructure, mechanics.json, inflate.py and README.txt in `folder`."""
    need_fibres(model, mechanics)
    files = [folder / name for name in ("mesh.h5", "mesh.xdmf", "markers.json")]
    _write_hdf5(files[0], _mesh_arrays(model))
    write_text(files[1], _xdmf(model))
    write_text(files[2], readable_json(_markers()))
    if model.microstructure is not None:
        files += [folder / "microstructure.h5", folder / "microstructure.json"]
        _write_hdf5(files[-2], _microstructure_arrays(model))
        write_text(files[-1], readable_json(dict.fromkeys(DIRECTIONS, CELLWISE)))
    files += [folder / "mechanics.json", folder / "inflate.py", folder / "README.txt"]
    write_text(files[-3], readable_json(asdict(mechanics)))
    write_text(files[-2], INFLATE)
    write_text(files[-1], _readme(mechanics))
    return files


def _write_hdf5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Through memory: on a full disk HDF5 leaves half a file behind, or ends the process."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as store:
        for name, values in arrays.items():
            # without times, so that the same mesh gives the same bytes
            store.create_dataset(name, data=values, track_times=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _mesh_arrays(model: BiventricularModel) -> dict[str, np.ndarray]:
    return {
        "Mesh/Mesh/topology": model.tets.astype(np.int64),
        "Mesh/Mesh/geometry": model.points_mm.astype(np.float64),
        "MeshTags/Cell tags/topology": model.tets.astype(np.int64),
        "MeshTags/Cell tags/Values": model.region.astype(np.int32)[:, None],
        "MeshTags/Facet tags/topology": model.facets.astype(np.int64),
        "MeshTags/Facet tags/Values": model.facet_tag.astype(np.int32)[:, None],
    }


def _microstructure_arrays(model: BiventricularModel) -> dict[str, np.ndarray]:
    micro = model.microstructure
    cells = {f"cells/{name}": getattr(micro, name) for name in DIRECTIONS}
    return cells | {f"nodes/{name}": getattr(micro, f"node_{name}") for name in DIRECTIONS}


def _markers() -> dict[str, list[int]]:
    facets = {MARKERS[name]: [tag, 2] for name, tag in FACETS.items()}
    return facets | {REGION_MARKERS[name]: [tag, 3] for name, tag in REGIONS.items()}


def _xdmf(model: BiventricularModel) -> str:
    geometry = (
        f'<Geometry GeometryType="XYZ"><DataItem Dimensions="{len(model.points_mm)} 3" Format="HDF">'
        "mesh.h5:/Mesh/Mesh/geometry</DataItem></Geometry>\n"
    )
    same = "<xi:include xpointer=\"xpointer(/Xdmf/Domain/Grid[@Name='Mesh']/Geometry)\" />\n"
    n_tets, n_facets = len(model.tets), len(model.facets)
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE Xdmf SYSTEM "Xdmf.dtd" []>\n'
        f"<!-- Both ventricles, mm; tags are named in markers.json. Run: {RUN} -->\n"
        '<Xdmf Version="3.0" xmlns:xi="https://www.w3.org/2001/XInclude">\n<Domain>\n'
        f"{_grid('Mesh', geometry, 'Tetrahedron', n_tets, 4, 'Mesh/Mesh')}</Grid>\n"
        f"{_grid('Cell tags', same, 'Tetrahedron', n_tets, 4, 'MeshTags/Cell tags')}"
        f"{_values('Cell tags', n_tets)}</Grid>\n"
        f"{_grid('Facet tags', same, 'Triangle', n_facets, 3, 'MeshTags/Facet tags')}"
        f"{_values('Facet tags', n_facets)}</Grid>\n"
        "</Domain>\n</Xdmf>\n"
    )


def _grid(name: str, geometry: str, kind: str, n: int, nodes: int, where: str) -> str:
    return (
        f'<Grid Name="{name}" GridType="Uniform">\n{geometry}'
        f'<Topology TopologyType="{kind}" NumberOfElements="{n}" NodesPerElement="{nodes}">'
        f'<DataItem Dimensions="{n} {nodes}" NumberType="Int" Format="HDF">'
        f"mesh.h5:/{where}/topology</DataItem></Topology>\n"
    )


def _values(name: str, n: int) -> str:
    return (
        f'<Attribute Name="{name}" AttributeType="Scalar" Center="Cell">'
        f'<DataItem Dimensions="{n} 1" Format="HDF">mesh.h5:/MeshTags/{name}/Values</DataItem></Attribute>\n'
    )


def _readme(mechanics: Mechanics) -> str:
    return (
        "FEniCSx case: passive inflation, mm and kPa.\n"
        f"Run with: {RUN}   (needs DOLFINx 0.11, fenicsx-pulse 0.12, cardiac-geometriesx, h5py)\n"
        "mesh.xdmf, mesh.h5: mesh, cell tags, facet tags; markers.json names the tags. Read the folder with\n"
        "cardiac_geometries.geometry.Geometry.from_folder. microstructure.h5: f0, s0, n0 by cell and by\n"
        "node of mesh.h5, which inflate.py puts into functions; with --save-geometry (and ADIOS2's Python\n"
        "module) it writes them as cardiac-geometries does.\n"
        f"mechanics.json: material ({mechanics.material}), pressures, base. Volumetric energy:\n"
        "fenicsx-pulse's kappa/4 (J^2 - 1 - 2 ln J) instead of kappa/2 (J - 1)^2.\n"
    )
