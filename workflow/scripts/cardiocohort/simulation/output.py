"""Files of a simulated heart. Owned by the simulation stage."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyvista

from ..anatomy.aha_segments import SEGMENTS
from ..mesh.model import REGIONS, BiventricularModel
from ..mesh.second_order import second_order
from ..mesh.vtk_files import write_dataset
from ..runtime.artifacts import atomic_path

FIELD, CURVE, REGIONAL = "displacement.vtu", "pressure_volume.tsv", "displacement.tsv"
UNLOADED = "unloaded.vtu"


def write_field(
    path: Path, model: BiventricularModel, moved: np.ndarray, cells: dict[str, np.ndarray]
) -> None:
    """The undeformed mesh of ten-node tets with the point array displacement (mm) and cell arrays."""
    points, tets, _ = second_order(model.points_mm, model.tets, model.facets)
    grid = pyvista.UnstructuredGrid({pyvista.CellType.QUADRATIC_TETRA: tets}, points)
    grid.point_data["displacement"] = moved
    grid.cell_data["region"] = model.region.astype(np.int32)
    if model.coordinates is not None:
        grid.cell_data["aha"] = model.coordinates.aha.astype(np.int32)
    for name, values in cells.items():
        grid.cell_data[name] = values.astype(np.float32)
    write_dataset(path, grid)


def write_rows(path: Path, rows: list[dict]) -> None:
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, sep="\t", index=False, float_format="%.6g")


def regional_displacements(model: BiventricularModel, moved: np.ndarray) -> list[dict]:
    """Volume-weighted mean and largest displacement (mm) of each region's and segment's tets.

    A tet's displacement is the mean of its corners'. Segments where the model has coordinates.
    """
    size = np.linalg.norm(moved[model.tets].mean(axis=1), axis=1)
    parts = {name: model.region == tag for name, tag in REGIONS.items()}
    if model.coordinates is not None:
        parts |= {f"aha_{n}": model.coordinates.aha == n for n in SEGMENTS}
    return [
        {
            "part": name,
            "mean_mm": float(np.average(size[inside], weights=model.tet_volumes_mm3[inside])),
            "max_mm": float(size[inside].max()),
        }
        for name, inside in parts.items()
        if inside.any()
    ]
