"""Thickness of a wall by distances to its two sides: another measure than the product's, to compare with."""

import numpy as np
from scipy import ndimage

FINER = 3  # voxels are split into so many along each axis, and their steps are smoothed over one voxel:
SMOOTHED = 1.0  # the nearest corner of a staircase is nearer than the surface
AROUND_MM = 30.0


def mean_by_distances(
    wall: np.ndarray, sides: tuple[np.ndarray, np.ndarray], weights: np.ndarray, spacing_mm: float
) -> float:
    """Mean of the distances to both sides, over the voxels of a wall, by weight (mm).

    wall, sides: masks (X, Y, Z), bool; the sides are what lies on either side of the wall.
    """
    margin = int(AROUND_MM / spacing_mm)
    within = np.nonzero(wall & (weights > 0))
    near = tuple(slice(max(i.min() - margin, 0), i.max() + margin + 1) for i in within)
    inside, first, second = (
        _finer(ndimage.gaussian_filter(mask[near].astype(float), SMOOTHED)) > 0.5 for mask in (wall, *sides)
    )
    step = spacing_mm / FINER
    # between middles of voxels: half a fine voxel too much at either side
    across = sum(ndimage.distance_transform_edt(~side) * step for side in (first, second)) - step
    return float(np.average(across[inside], weights=_finer(weights[near])[inside]))


def _finer(field: np.ndarray) -> np.ndarray:
    return ndimage.zoom(field, FINER, order=1, grid_mode=True, mode="nearest")
