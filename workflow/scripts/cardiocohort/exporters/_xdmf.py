"""Meshes with tags as XDMF, data in HDF5, in the layout that DOLFINx writes. Owned by the inputs stage."""

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from ..runtime.artifacts import atomic_path, write_text

FILES = ("mesh.h5", "mesh.xdmf")


def write_tagged_mesh(
    folder: Path,
    points_mm: np.ndarray,
    tets: np.ndarray,
    tet_tag: np.ndarray,
    facets: np.ndarray,
    facet_tag: np.ndarray,
    comment: str,
) -> list[Path]:
    """mesh.h5 and mesh.xdmf in `folder`: points (N, 3), tets (M, 4), facets (F, 3), a tag for each of them.

    Grids "Mesh", "Cell tags" and "Facet tags". Not compressed: parallel HDF5 reads that in its own ways.
    """
    arrays = {
        "Mesh/Mesh/topology": tets.astype(np.int32),
        "Mesh/Mesh/geometry": points_mm.astype(np.float64),
        "MeshTags/Cell tags/Values": tet_tag.astype(np.int32)[:, None],
        "MeshTags/Facet tags/topology": facets.astype(np.int32),
        "MeshTags/Facet tags/Values": facet_tag.astype(np.int32)[:, None],
    }

    def fill(store: h5py.File) -> None:
        for name, values in arrays.items():
            # without times, so that the same mesh gives the same bytes
            store.create_dataset(name, data=values, track_times=False)

    files = [folder / name for name in FILES]
    write_hdf5(files[0], fill)
    write_text(files[1], _xdmf(len(points_mm), len(tets), len(facets), comment))
    return files


def write_hdf5(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Through memory: on a full disk HDF5 leaves half a file behind, or ends the process."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as store:
        fill(store)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _xdmf(n_points: int, n_tets: int, n_facets: int, comment: str) -> str:
    geometry = (
        f'<Geometry GeometryType="XYZ"><DataItem Dimensions="{n_points} 3" Format="HDF">'
        "mesh.h5:/Mesh/Mesh/geometry</DataItem></Geometry>\n"
    )
    same = "<xi:include xpointer=\"xpointer(/Xdmf/Domain/Grid[@Name='Mesh']/Geometry)\" />\n"
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE Xdmf SYSTEM "Xdmf.dtd" []>\n'
        f"<!-- {comment} -->\n"
        '<Xdmf Version="3.0" xmlns:xi="https://www.w3.org/2001/XInclude">\n<Domain>\n'
        f"{_grid('Mesh', geometry, 'Tetrahedron', n_tets, 4, 'Mesh/Mesh')}</Grid>\n"
        f"{_grid('Cell tags', same, 'Tetrahedron', n_tets, 4, 'Mesh/Mesh')}"
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
