"""How a simulated heart moves, for the 3-D view. Of hearts only. Owned by the report stage."""

from dataclasses import dataclass

import numpy as np
import pyvista

from ..mesh.model import BiventricularModel
from .function_section import run_file

MOST_FRAMES = 12


@dataclass(frozen=True)
class Motion:
    """A mesh at T moments: words of each, places_mm (T, N, 3) of its nodes in the frame of the model's file.

    strain (T, M): Green-Lagrange strain along the fibres of each tet, from the first moment on; None without
    fibres.
    """

    labels: list[str]
    places_mm: np.ndarray
    strain: np.ndarray | None

    def in_heart_frame(self, world_from_heart: np.ndarray) -> np.ndarray:
        """places_mm of a model that lies in the scanner's coordinates, in the heart frame."""
        turn, shift = world_from_heart[:3, :3], world_from_heart[:3, 3]
        return (self.places_mm - shift) @ turn


def motion_of(run: dict, model: BiventricularModel) -> Motion:
    """Of a complete run: at most MOST_FRAMES of the last beat, or the unloaded and the loaded state.

    model: the mesh as its file has it. InputError where a file is missing or was changed.
    """
    count = len(model.points_mm)
    fibres = None if model.microstructure is None else model.microstructure.f0
    if run["unloaded_file"]:
        free = pyvista.read(run_file(run, "unloaded_"))
        fibres = np.asarray(free.cell_data["f0"], dtype=float) if "f0" in free.cell_data else None
    if run["motion_file"]:
        grid = pyvista.read(run_file(run, "motion_"))
        times = np.asarray(grid.field_data["time_s"])
        shown = np.unique(np.rint(np.linspace(0, len(times) - 1, MOST_FRAMES)).astype(int))
        moved = [np.asarray(grid.point_data[f"displacement_{k:02d}"])[:count] for k in shown]
        labels = [f"{times[k]:.2f} s after end-diastole" for k in shown]
    else:
        grid = pyvista.read(run_file(run))
        end = np.asarray(grid.point_data["displacement"])[:count]
        moved, labels = [np.zeros_like(end), end], ["unloaded", "at the full load"]
    # the first points of ten-node tets are their corners, numbered as the mesh numbers them
    rest = np.asarray(grid.points, dtype=float)[:count]
    places = rest + np.stack(moved).astype(float)
    if fibres is None:
        return Motion(labels, places, None)
    back = np.linalg.inv(_edges(rest, model.tets))
    stretches = np.stack([np.linalg.norm(_along(now, model.tets, back, fibres), axis=1) for now in places])
    return Motion(labels, places, ((stretches / stretches[0]) ** 2 - 1) / 2)


def carried(
    directions: np.ndarray, image_mm: np.ndarray, tets: np.ndarray, places_mm: np.ndarray
) -> np.ndarray:
    """Unit directions (T, K, 3): `directions` (K, 3) in tets (K, 4) that move from image to places."""
    back = np.linalg.inv(_edges(image_mm, tets))
    found = np.stack([_along(now, tets, back, directions) for now in places_mm])
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def _edges(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """(M, 3, 3), edges from the first corner as columns."""
    return (points[tets[:, 1:]] - points[tets[:, :1]]).swapaxes(1, 2)


def _along(now: np.ndarray, tets: np.ndarray, back: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(M, 3), directions as the deformation gradient of each tet carries them."""
    return np.einsum("mij,mjk,mk->mi", _edges(now, tets), back, directions)
