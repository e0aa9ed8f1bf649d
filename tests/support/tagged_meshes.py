"""Tagged four-chamber meshes with volumes that are known, and their files."""

from pathlib import Path

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import VTK_TETRA, vtkCellArray, vtkUnstructuredGrid
from vtkmodules.vtkIOLegacy import vtkUnstructuredGridWriter
from vtkmodules.vtkIOXML import vtkXMLUnstructuredGridWriter

from cardiocohort.label_maps.mesh_files import UNITS_MM
from cardiocohort.label_maps.mesh_tags import Tag

LV, RV, LA, RA = "left_ventricle", "right_ventricle", "left_atrium", "right_atrium"
TAGS = (
    Tag(1, "LV", "wall", (LV,), "myocardium"), Tag(2, "RV", "wall", (RV,)), Tag(3, "LA", "wall", (LA,)),
    Tag(4, "RA", "wall", (RA,)), Tag(5, "aorta", "tube", ("aorta",)), Tag(7, "mitral valve", "lid", (LV, LA)),
    Tag(8, "tricuspid valve", "lid", (RV, RA)), Tag(9, "aortic valve", "lid", ("aorta",)),
    Tag(10, "atrial ends", "lid", (LA,)), Tag(11, "atrial ends", "lid", (RA,)),
)  # fmt: skip
# six tets of a hexahedron whose corners are numbered in binary, along the paths from corner 0 to corner 7
KUHN = np.array([[0, a, a + b, 7] for a, b in ((1, 2), (1, 4), (2, 1), (2, 4), (4, 1), (4, 2))])
RIM_DEG, MM = 35.0, 3.0  # of a chamber's opening, at the centre; thickness of walls and lids


def _block(corner_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A structured grid of points (I, J, K, 3) as points (N, 3) and tets (M, 4)."""
    shape = corner_points.shape[:3]
    cells = np.indices([n - 1 for n in shape]).reshape(3, -1).T
    corners = np.array([[k >> 2 & 1, k >> 1 & 1, k & 1] for k in range(8)])
    index = np.ravel_multi_index(tuple((cells[:, None] + corners).reshape(-1, 3).T), shape).reshape(-1, 8)
    return corner_points.reshape(-1, 3), index[:, KUHN].reshape(-1, 4)


def cup(centre, radius: float, up: int) -> tuple[np.ndarray, np.ndarray]:
    """A spherical shell with a round opening towards +z (up 1) or -z (-1); its inner radius is `radius`."""
    theta = np.radians(np.linspace(RIM_DEG, 180, 25))[:, None, None]
    phi = np.radians(np.linspace(0, 360, 49))[None, :, None]
    r = np.array([radius, radius + MM])[None, None, :]
    x, y, z = r * np.sin(theta) * np.cos(phi), r * np.sin(theta) * np.sin(phi), up * r * np.cos(theta)
    return _block(np.stack(np.broadcast_arrays(x, y, z), axis=-1) + centre)


def disc(centre, radius: float, thickness: float = MM) -> tuple[np.ndarray, np.ndarray]:
    phi = np.radians(np.linspace(0, 360, 49))[None, :, None]
    r, z = np.linspace(0, radius, 4)[:, None, None], np.array([-0.5, 0.5])[None, None] * thickness
    return _block(np.stack(np.broadcast_arrays(r * np.cos(phi), r * np.sin(phi), z), axis=-1) + centre)


def pipe(centre, radius: float, length: float) -> tuple[np.ndarray, np.ndarray]:
    phi = np.radians(np.linspace(0, 360, 49))[None, :, None]
    r = np.array([radius, radius + MM])[:, None, None]
    z = np.linspace(0, length, 11)[None, None]
    return _block(np.stack(np.broadcast_arrays(r * np.cos(phi), r * np.sin(phi), z), axis=-1) + centre)


def four_chambers(without=()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) mm, tets (M, 4) and tags (M,) of two ventricles, each below its atrium, and of an aorta.

    `without`: tags to leave out.
    """
    parts, rim = [], np.radians(RIM_DEG)
    for x, r, ventricle, atrium, lid in ((0, 24, 1, 3, 7), (70, 26, 2, 4, 8)):
        height = r * np.cos(rim)
        parts.append((ventricle, cup((x, 0, -height), r, 1)))
        parts.append((atrium, cup((x, 0, height), r, -1)))
        parts.append((lid, disc((x, 0, 0), r * np.sin(rim) + 0.5)))
    parts.append((5, pipe((35, 60, 0), 12, 40)))
    parts.append((9, disc((35, 60, 0), 12 + MM)))
    return joined([part for part in parts if part[0] not in without])


def joined(parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points, tets, tags, first = [], [], [], 0
    for tag, (p, t) in parts:
        points.append(p)
        tets.append(t + first)
        tags.append(np.full(len(t), tag))
        first += len(p)
    return np.concatenate(points), np.concatenate(tets), np.concatenate(tags)


def chamber_ml(radius: float) -> float:
    """Volume of a sphere up to the plane of its opening."""
    h = radius * (1 + np.cos(np.radians(RIM_DEG)))
    return np.pi * h**2 * (3 * radius - h) / 3 / 1000


def write(path: Path, points, tets, tags, unit: str = "mm", big: bool = False, text: bool = False) -> Path:
    """As .elem and .pts, .vtk (text or binary, which is always big-endian) or .vtu."""
    points = np.asarray(points) / UNITS_MM[unit]
    if path.suffix == ".elem":
        np.savetxt(path.with_suffix(".pts"), points, "%.9g", header=str(len(points)), comments="")
        np.savetxt(
            path, np.column_stack([tets, tags]), "Tt %d %d %d %d %d", header=str(len(tets)), comments=""
        )
        return path
    grid, cloud, cells = vtkUnstructuredGrid(), vtkPoints(), vtkCellArray()
    cloud.SetData(numpy_to_vtk(np.ascontiguousarray(points, np.float32), deep=True))
    cells.SetData(4, numpy_to_vtkIdTypeArray(np.ascontiguousarray(tets, np.int64).ravel(), deep=True))
    grid.SetPoints(cloud)
    grid.SetCells(VTK_TETRA, cells)
    array = numpy_to_vtk(np.asarray(tags), deep=True)
    array.SetName("ID")
    grid.GetCellData().AddArray(array)
    writer = vtkUnstructuredGridWriter() if path.suffix == ".vtk" else vtkXMLUnstructuredGridWriter()
    writer.SetInputData(grid)
    writer.SetFileName(str(path))
    if path.suffix == ".vtk":
        (writer.SetFileTypeToASCII if text else writer.SetFileTypeToBinary)()
    else:
        writer.SetDataModeToAscii() if text else writer.SetDataModeToAppended()
        (writer.SetByteOrderToBigEndian if big else writer.SetByteOrderToLittleEndian)()
    assert writer.Write()
    return path
