"""The mesh on disk: `.vtu` with the tets, `.surface.vtp` with the facets. Owned by the meshing stage.

Together they hold the whole model, so that later stages start from the files alone.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyvista

from ..runtime.errors import InputError
from .label_model import LabelModel
from .model import (
    COORDINATES,
    DIRECTIONS,
    BiventricularModel,
    Microstructure,
    VentricularCoordinates,
    orthonormal,
)
from .vtk_files import write_dataset

PROVENANCE = "provenance"
STRUCTURES = "structures"
STEP = 2.0**-16  # of directions (0.0009 degrees), of coordinates, and of wall thickness in mm
Model = BiventricularModel | LabelModel
WORLD_FROM_HEART, IN_SCANNER_FRAME = "world_from_heart", "in_scanner_frame"


def volume_grid(model: Model) -> pyvista.UnstructuredGrid:
    """Tets with cell array region, directions and coordinates as cell and point arrays; mm."""
    grid = pyvista.UnstructuredGrid({pyvista.CellType.TETRA: model.tets}, model.points_mm)
    grid.cell_data["region"] = model.region.astype(np.int32)
    if model.microstructure is not None:
        for name in DIRECTIONS:
            grid.cell_data[name] = getattr(model.microstructure, name).astype(np.float32)
            grid.point_data[name] = getattr(model.microstructure, f"node_{name}").astype(np.float32)
    if isinstance(model, BiventricularModel) and model.coordinates is not None:
        fields = model.coordinates
        for data, arrays in ((grid.cell_data, fields.on_tets()), (grid.point_data, fields.on_nodes())):
            for name, values in arrays.items():
                data[name] = values.astype(np.int32 if values.dtype.kind == "i" else np.float32)
    record = {"units": model.units, **model.provenance}
    if isinstance(model, LabelModel):
        record[STRUCTURES] = list(model.structures)
    text = json.dumps(record, sort_keys=True)
    # as UTF-8 bytes: not every reader of VTK files knows its strings
    grid.field_data[PROVENANCE] = np.frombuffer(text.encode(), dtype=np.uint8)
    _add_frame(grid, model)
    return grid


def shortened(model: Model) -> Model:
    """The model with directions, coordinates and thickness to STEP.

    Digits below it are a sixth of a file and say nothing of a heart. `read_model` makes directions
    orthonormal again.
    """
    micro, fields = model.microstructure, getattr(model, "coordinates", None)
    changed = {}
    if micro is not None:
        changed["microstructure"] = Microstructure(**{k: _to_step(v) for k, v in vars(micro).items()})
    if fields is not None:
        short = {name: _to_step(values) for name, values in vars(fields).items()}
        for name in ("rotational", "node_rotational"):
            short[name] %= 1.0  # the turn ends where it begins
        changed["coordinates"] = VentricularCoordinates(**short)
    return replace(model, **changed)


def _to_step(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind == "i" else np.round(values / STEP) * STEP


def write_volume(path: str | Path, model: Model) -> None:
    """`volume_grid` as `.vtu`, atomically."""
    write_dataset(path, volume_grid(model))


def write_surface(path: str | Path, model: Model) -> None:
    """The facets with point array node, the point's index in the volume.

    Cell arrays: facet, the tag of a biventricular mesh; behind and before, the labels of a label mesh.
    """
    nodes, compact = np.unique(model.facets, return_inverse=True)
    surface = pyvista.PolyData.from_regular_faces(model.points_mm[nodes], compact.reshape(-1, 3))
    if isinstance(model, LabelModel):
        surface.cell_data["behind"], surface.cell_data["before"] = model.sides.T.astype(np.int32)
    else:
        surface.cell_data["facet"] = model.facet_tag.astype(np.int32)
    surface.point_data["node"] = nodes.astype(np.int32)
    _add_frame(surface, model)
    write_dataset(path, surface)


def _add_frame(data: pyvista.DataSet, model: Model) -> None:
    """Field data of a scanned heart: world_from_heart (4, 4); in_scanner_frame, 1 if the points are in it."""
    if model.world_from_heart is not None:
        data.field_data[WORLD_FROM_HEART] = np.asarray(model.world_from_heart, dtype=float)
        data.field_data[IN_SCANNER_FRAME] = np.array([model.frame == "scanner"], dtype=np.int32)


def read_model(volume: str | Path, surface: str | Path) -> Model:
    """The model that the two files hold; InputError naming the file that does not fit."""
    grid, skin = (_read(path) for path in (volume, surface))
    try:
        micro = None
        if "f0" in grid.cell_data:
            micro = Microstructure(*_directions(grid.cell_data), *_directions(grid.point_data))
        provenance = json.loads(bytes(np.asarray(grid.field_data[PROVENANCE], dtype=np.uint8)))
        mesh = {
            "points_mm": np.asarray(grid.points, dtype=float),
            "tets": np.asarray(grid.cells_dict[pyvista.CellType.TETRA], dtype=np.int64),
            "region": np.asarray(grid.cell_data["region"], dtype=np.int64),
            "facets": np.asarray(skin.point_data["node"], dtype=np.int64)[skin.regular_faces],
            "microstructure": micro,
            "units": provenance.pop("units"),
            **_frame(grid),
        }
        if STRUCTURES in provenance:
            sides = np.stack([skin.cell_data["behind"], skin.cell_data["before"]], axis=1).astype(np.int64)
            names = tuple(provenance.pop(STRUCTURES))
            return LabelModel(**mesh, sides=sides, structures=names, provenance=provenance)
        return BiventricularModel(
            **mesh,
            facet_tag=np.asarray(skin.cell_data["facet"], dtype=np.int64),
            coordinates=_coordinates(grid) if "aha" in grid.cell_data else None,
            provenance=provenance,
        )
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{volume} and {surface}: not a mesh of this workflow ({error})") from error


def _directions(data) -> list[np.ndarray]:
    """f0, s0 and n0 (n, 3), orthonormal in single precision; zero vectors stay."""
    exact = orthonormal(*(np.asarray(data[name], dtype=float) for name in DIRECTIONS))
    # a deck that keeps doubles is half as large if they are single ones
    return [directions.astype(np.float32).astype(float) for directions in exact]


def _frame(grid: pyvista.UnstructuredGrid) -> dict:
    if WORLD_FROM_HEART not in grid.field_data:
        return {}
    return {
        "world_from_heart": np.asarray(grid.field_data[WORLD_FROM_HEART], dtype=float).reshape(4, 4),
        "frame": "scanner" if grid.field_data[IN_SCANNER_FRAME][0] else "heart",
    }


def _coordinates(grid: pyvista.UnstructuredGrid) -> VentricularCoordinates:
    def of(data, name):
        values = np.asarray(data[name])
        return values.astype(np.int64 if values.dtype.kind == "i" else float)

    return VentricularCoordinates(
        **{name: of(grid.cell_data, name) for name in (*COORDINATES, "aha", "wall_mm")},
        **{f"node_{name}": of(grid.point_data, name) for name in COORDINATES},
    )


def _read(path: str | Path):
    if not Path(path).is_file():
        raise InputError(f"{path}: no such mesh file")
    return pyvista.read(path)
