"""Files of a heart's beats: loops, strains, motion; names of the pictures. Owned by the simulation stage."""

from pathlib import Path

import numpy as np
import pyvista

from ..anatomy.aha_segments import LEFT as LEFT_SEGMENTS
from ..anatomy.aha_segments import SEGMENTS
from ..mesh.model import BiventricularModel
from ..mesh.second_order import second_order
from ..mesh.vtk_files import write_dataset

LOOPS, STRAINS, WALL_MOTION, MOTION = "loops.tsv", "strains.tsv", "wall_motion.tsv", "motion.vtu"
FIGURE, ANIMATION = "beat.png", "beat.webp"
DIRECTIONS = ("longitudinal", "radial", "circumferential")  # of strains
FRAMES = 30
SAME_VOLUME = 1e-3  # of the stroke volume: what closed valves leak while the muscle relaxes is far less


def frames(times: np.ndarray) -> np.ndarray:
    """Places of about FRAMES of the times (T,), evenly spaced, the first and the last among them."""
    even = np.linspace(times[0], times[-1], min(FRAMES, len(times)))
    return np.unique(np.abs(times[:, None] - even).argmin(axis=0))


def write_motion(path: Path, model: BiventricularModel, moved: list[np.ndarray], times: np.ndarray) -> None:
    """The stress-free mesh of ten-node tets with a point array displacement_<frame> (mm) per frame.

    moved: of each frame (N + E, 3); the field array time_s has the frames' times.
    """
    points, tets, _ = second_order(model.points_mm, model.tets, model.facets)
    grid = pyvista.UnstructuredGrid({pyvista.CellType.QUADRATIC_TETRA: tets}, points)
    for frame, values in enumerate(moved):
        grid.point_data[f"displacement_{frame:02d}"] = values.astype(np.float32)
    grid.field_data["time_s"] = times
    grid.cell_data["region"] = model.region.astype(np.int32)
    write_dataset(path, grid)


def strains(model: BiventricularModel, moved: list[np.ndarray], times: np.ndarray) -> list[dict]:
    """Volume-weighted mean Green-Lagrange strains of each AHA segment at the frames, from the first one on.

    Longitudinal, radial and circumferential directions are those of the ventricular coordinates in the first
    frame; a tet's strain is its corners', and tets without these directions are left out. muscle_ml: the
    volume of the others, by which means of several segments are weighted.
    """
    if model.coordinates is None:
        return []
    tets, count = model.tets, len(model.points_mm)
    start = model.points_mm + moved[0][:count]
    edges = (start[tets[:, 1:]] - start[tets[:, :1]]).swapaxes(1, 2)
    back = np.linalg.inv(edges)
    coordinates = model.coordinates
    across, along = (
        _unit(np.einsum("mi,mij->mj", values[tets[:, 1:]] - values[tets[:, :1]], back))
        for values in (coordinates.node_transmural, coordinates.node_apicobasal)
    )
    along = _unit(along - (along * across).sum(axis=1, keepdims=True) * across)
    directions = dict(zip(DIRECTIONS, (along, across, _unit(np.cross(across, along))), strict=True))
    known = np.isfinite(directions["circumferential"]).all(axis=1)
    rows = []
    for values, time in zip(moved, times, strict=True):
        now = model.points_mm + values[:count]
        gradient = (now[tets[:, 1:]] - now[tets[:, :1]]).swapaxes(1, 2) @ back
        by_tet = {
            name: ((np.einsum("mij,mj->mi", gradient, d) ** 2).sum(axis=1) - 1) / 2
            for name, d in directions.items()
        }
        for number in SEGMENTS:
            inside = known & (coordinates.aha == number)
            if inside.any():
                weights = model.tet_volumes_mm3[inside]
                means = {name: float(np.average(e[inside], weights=weights)) for name, e in by_tet.items()}
                means["muscle_ml"] = float(weights.sum()) / 1000.0
                rows.append({"time_s": float(time), "aha": number} | means)
    return rows


def end_systole(times: np.ndarray, volumes_ml: np.ndarray) -> float:
    """Time at which a ventricle has ejected: the first one with its least volume, within SAME_VOLUME.

    times, volumes_ml (T,) of a beat. Until the next valve opens the volume stays as it is, so that rounding
    would choose among these times; the muscle deforms meanwhile.
    """
    volumes = np.asarray(volumes_ml, dtype=float)
    ejected = volumes <= volumes.min() + SAME_VOLUME * np.ptp(volumes)
    return float(np.asarray(times)[ejected.argmax()])


def end_systolic(rows: list[dict], systole: float) -> dict[str, float]:
    """Mean strains of the left ventricle's wall at the frame nearest to `systole` (s), weighted by volume.

    rows: of `strains`. NaN where they have no left segments.
    """
    left = [row for row in rows if row["aha"] in LEFT_SEGMENTS]
    if not left:
        return dict.fromkeys((f"lv_{name}_strain" for name in DIRECTIONS), float("nan"))
    nearest = min((row["time_s"] for row in left), key=lambda time: abs(time - systole))
    shown = [row for row in left if row["time_s"] == nearest]
    weights = [row["muscle_ml"] for row in shown]
    return {
        f"lv_{name}_strain": float(np.average([row[name] for row in shown], weights=weights))
        for name in DIRECTIONS
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    """NaN where there is no direction."""
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(size > 0, size, np.nan)
