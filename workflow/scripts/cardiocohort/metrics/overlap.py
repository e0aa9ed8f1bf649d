"""Overlap of two label maps. Owned by no stage; report, generation and evaluation share it."""

import numpy as np
from scipy.spatial import KDTree

from ..anatomy.labels import Anatomy


def dice(a: np.ndarray, b: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Dice overlap (K,) of every structure in two label maps; 0 where neither has it."""
    overlaps = []
    for k in range(1, anatomy.n_channels):
        total = np.count_nonzero(a == k) + np.count_nonzero(b == k)
        overlaps.append(2.0 * np.count_nonzero((a == k) & (b == k)) / max(total, 1))
    return np.array(overlaps)


def dice_by_name(a: np.ndarray, b: np.ndarray, anatomy: Anatomy) -> dict[str, float]:
    """`dice` by the structure's name."""
    return dict(zip(anatomy.structures, dice(a, b, anatomy).tolist(), strict=True))


def surface_distance_mm(a: np.ndarray, b: np.ndarray, anatomy: Anatomy, spacing_mm: float) -> np.ndarray:
    """Mean distance (K,) mm between the surfaces of every structure in two label maps, both ways.

    Surfaces are the centres of the voxel faces that bound a structure; NaN where either map lacks it.
    """
    distances = np.full(anatomy.n_channels - 1, np.nan)
    for k in range(1, anatomy.n_channels):
        one, other = (_face_centres(labels == k) * spacing_mm for labels in (a, b))
        if len(one) and len(other):
            there, back = KDTree(other).query(one)[0], KDTree(one).query(other)[0]
            distances[k - 1] = (there.mean() + back.mean()) / 2
    return distances


def _face_centres(mask: np.ndarray) -> np.ndarray:
    """Centres (N, 3), in voxels, of the faces between voxels in and out of a mask (X, Y, Z)."""
    centres = []
    for axis in range(3):
        before = [slice(None)] * 3
        before[axis] = slice(-1)
        after = [slice(None)] * 3
        after[axis] = slice(1, None)
        at = np.argwhere(mask[tuple(before)] != mask[tuple(after)]).astype(float)
        at[:, axis] += 0.5
        centres.append(at)
    return np.concatenate(centres)
