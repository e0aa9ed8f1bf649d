"""How the left ventricle's walls move and thicken in a beat. Owned by the simulation stage.

The long axis runs from the middle of the left endocardium's rim to the point of it that is farthest away.
Inward motion is towards the long axis of each time, so that a heart that swings as a whole has none. It is
measured at mid-height: the septum is what faces the right ventricle there, the free wall what faces away from
it. Both are found once, in the first frame, and are the same material points in all others.
"""

from dataclasses import dataclass

import numpy as np
import pyvista

from ..mesh.model import FACETS, BiventricularModel, rim_edges

MID = (1 / 3, 2 / 3)  # of the long axis, from the rim on
FACING = 0.5  # cosine of the angle within which a wall faces the right ventricle, or away from it
# cosine of the angle from the outward direction within which the septum's other side lies: beyond the
# insertion of the right ventricle, or below its apex, the nearest part of its endocardium is not across
ACROSS = np.cos(np.radians(30.0))
LENGTHS = (
    "lv_long_axis_mm", "septal_radius_mm", "lv_free_wall_radius_mm", "septal_thickness_mm",
    "lv_free_wall_thickness_mm",
)  # fmt: skip
MOTION = (
    "lv_long_axis_shortening", "septal_inward_motion_mm", "lv_free_wall_inward_motion_mm",
    "septal_thickening", "lv_free_wall_thickening",
)  # fmt: skip
SURFACES = ("lv_endo", "rv_endo", "epi")  # of FACETS


@dataclass(frozen=True)
class Walls:
    """Where motion is measured, as indices of points; all empty where the endocardium has no opening.

    rim (R,) of the left endocardium; apex (1,), its point farthest from the rim's middle; septum, free_wall:
    its points at mid-height; spanned: those of the septum across which the right ventricle lies.
    """

    rim: np.ndarray
    apex: np.ndarray
    septum: np.ndarray
    free_wall: np.ndarray
    spanned: np.ndarray


def walls(points_mm: np.ndarray, facets: dict[str, np.ndarray]) -> Walls:
    """Walls of a heart in the frame points_mm (N, 3), which is end-diastole.

    facets: triangles (F, 3) of the points, consistently oriented, by name of SURFACES.
    """
    left, right = facets["lv_endo"], facets["rv_endo"]
    rim, none = np.unique(rim_edges(left)), np.zeros(0, dtype=int)
    if not len(rim):
        return Walls(none, none, none, none, none)
    middle, own = points_mm[rim].mean(axis=0), np.unique(left)
    apex = own[[np.linalg.norm(points_mm[own] - middle, axis=1).argmax()]]
    if not len(right):
        return Walls(rim, apex, none, none, none)
    length = np.linalg.norm(points_mm[apex[0]] - middle)
    axis = (points_mm[apex[0]] - middle) / length
    height = (points_mm[own] - middle) @ axis / length
    mid = own[(height > MID[0]) & (height < MID[1])]
    outward = _from_axis(points_mm[mid], middle, axis)
    to_right = _from_axis(points_mm[np.unique(right)].mean(axis=0), middle, axis)
    cosine = _cosine(outward, to_right)
    septum = mid[cosine > FACING]
    across = _nearest(points_mm[septum], points_mm, right) - points_mm[septum]
    spanned = septum[_cosine(across, outward[cosine > FACING]) > ACROSS]
    return Walls(rim, apex, septum, mid[cosine < -FACING], spanned)


def lengths(points_mm: np.ndarray, facets: dict[str, np.ndarray], where: Walls) -> dict[str, np.ndarray]:
    """Lengths (T,) in mm by name of LENGTHS in the frames points_mm (T, N, 3); NaN without such a wall.

    Radii are mean distances of a wall's endocardium from the long axis. Thickness is the mean distance of the
    left endocardium from the epicardium (free wall), and from the right endocardium (septum).
    """
    found = np.full((len(points_mm), len(LENGTHS)), np.nan)
    for row, points in zip(found, points_mm, strict=True):
        if not len(where.rim):
            break
        middle = points[where.rim].mean(axis=0)
        axis = points[where.apex[0]] - middle
        row[0] = np.linalg.norm(axis)
        for place, nodes in enumerate((where.septum, where.free_wall), start=1):
            row[place] = _mean(np.linalg.norm(_from_axis(points[nodes], middle, axis / row[0]), axis=1))
        sides = ((where.spanned, "rv_endo"), (where.free_wall, "epi"))
        for place, (nodes, surface) in enumerate(sides, start=3):
            across = _nearest(points[nodes], points, facets[surface]) - points[nodes]
            row[place] = _mean(np.linalg.norm(across, axis=1))
    return dict(zip(LENGTHS, found.T, strict=True))


def motion(of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Motion (T,) by name of MOTION from the first frame on; of: `lengths`.

    Shortening and thickening are shares of the first length, inward motion is in mm.
    """
    axis, *radii, septum, free = (of[name] for name in LENGTHS)
    inward = [radius[0] - radius for radius in radii]
    return dict(
        zip(MOTION, (1 - axis / axis[0], *inward, septum / septum[0] - 1, free / free[0] - 1), strict=True)
    )


def rows(model: BiventricularModel, moved: list[np.ndarray], times: np.ndarray) -> list[dict]:
    """Per frame its time_s, and what `motion` and `lengths` give; the first frame is end-diastole.

    moved: displacements (N + E, 3) in mm of the model's points and midside nodes, per frame; times (T,) in s.
    """
    count = len(model.points_mm)
    points = np.array([model.points_mm + values[:count] for values in moved])
    facets = {name: model.facets[model.facet_tag == FACETS[name]] for name in SURFACES}
    measured = lengths(points, facets, walls(points[0], facets))
    columns = {"time_s": times} | motion(measured) | measured
    return [{name: float(values[place]) for name, values in columns.items()} for place in range(len(points))]


def end_systolic(of: list[dict], systole: float) -> dict[str, float]:
    """Of `rows` those of MOTION, at the frame nearest to `systole` (s)."""
    nearest = min(of, key=lambda row: abs(row["time_s"] - systole))
    return {name: nearest[name] for name in MOTION}


def _from_axis(points: np.ndarray, origin: np.ndarray, axis: np.ndarray) -> np.ndarray:
    away = points - origin
    return away - (away @ axis)[..., None] * axis


def _cosine(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(k,) of vectors (k, 3) with others (k, 3) or (3,); 0 where one of them has no direction."""
    size = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(others, axis=-1)
    return (vectors * others).sum(axis=-1) / np.where(size > 0, size, np.inf)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _nearest(places: np.ndarray, points: np.ndarray, facets: np.ndarray) -> np.ndarray:
    """(k, 3): the points of the triangles that are nearest to places (k, 3); NaN without triangles."""
    if not (len(places) and len(facets)):
        return np.full((len(places), 3), np.nan)
    surface = pyvista.PolyData.from_regular_faces(points, facets)
    return surface.find_closest_cell(places, return_closest_point=True)[1]
