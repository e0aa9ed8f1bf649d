"""Masks of any grid, oblique or not, as one label map on the bundle's grid. Owned by the segmentations stage.

Each mask becomes the share of every voxel that it fills, so that neither volume nor outline depends
on how the two grids happen to lie; taking the nearest voxel instead would make the outline jagged.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Grid
from .volumes import Mask

MAX_SAMPLES = 8  # along an axis of a voxel


def occupancy(mask: Mask, grid: Grid, centre_mm: np.ndarray) -> np.ndarray:
    """Share of each voxel of `grid` that the mask fills, (X, Y, Z) float32 in [0, 1].

    The grid lies along RAS+ with `centre_mm` (3,) at its origin. The share is the mean of the
    trilinearly interpolated mask at n^3 points in the voxel that are no farther apart than the
    mask's own voxels: an average over the voxel, so nothing is aliased. What lies outside is lost.
    """
    h = grid.spacing_mm
    mask_voxel_mm = np.linalg.norm(mask.affine[:3, :3], axis=0).min()
    n = int(np.clip(np.ceil(h / mask_voxel_mm), 2, MAX_SAMPLES))
    padded = np.pad(mask.voxels, 1).astype(np.float32)  # half a voxel around the mask is inside it
    to_mask = np.linalg.inv(mask.affine)
    start = np.array([axis[0] for axis in grid.axes_mm()])
    low, high = _box(mask, grid, centre_mm)
    out = np.zeros(grid.shape, np.float32)
    if (high <= low).any():
        return out
    total = np.zeros(tuple(high - low), np.float32)
    matrix = to_mask[:3, :3] * h
    steps = (np.arange(n) + 0.5) / n - 0.5
    for offset in np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3):
        point = centre_mm + start + (low + offset) * h
        first = to_mask[:3, :3] @ point + to_mask[:3, 3] + 1  # + 1: the padding
        total += ndimage.affine_transform(padded, matrix, first, total.shape, order=1)
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = total / n**3
    return np.clip(out, 0.0, 1.0)


def to_labels(shares: Sequence[np.ndarray]) -> np.ndarray:
    """The label map (X, Y, Z) uint8 of occupancies (X, Y, Z), the first being label 1.

    A voxel is tissue where all together fill at least half of it, and then what fills most of it: so
    no background seeps in where structures meet. Where masks overlap, the lower label wins.
    """
    total, best = np.zeros_like(shares[0]), np.zeros_like(shares[0])
    labels = np.zeros(shares[0].shape, np.uint8)
    for label, share in enumerate(shares, 1):
        larger = share > best
        labels[larger], best[larger] = label, share[larger]
        total += share
    labels[total < 0.5] = 0
    return labels


def overlaps(
    shares: Sequence[np.ndarray], labels: np.ndarray
) -> dict[tuple[int, int], tuple[float, float, float]]:
    """What two masks both claim, in voxels, by their labels: in all, and what either has of it in `labels`.

    Two masks that fill s and t of a voxel share at least s + t - 1 of it; neighbours share nothing.
    """
    where = sum(shares) > 1.0
    filled, owner = np.array([share[where] for share in shares]), labels[where]
    found = {}
    for i, j in combinations(range(len(shares)), 2):
        both = np.clip(filled[i] + filled[j] - 1.0, 0.0, None)
        if both.any():
            of = [both.sum(), *(both[owner == label].sum() for label in (i + 1, j + 1))]
            found[i + 1, j + 1] = tuple(float(voxels) for voxels in of)
    return found


def label_map_onto(label_map: LabelMap, grid: Grid, centre_mm: np.ndarray, n_labels: int) -> LabelMap:
    """`label_map` resampled to `grid`, whose origin is `centre_mm` (3,) of the map's world."""
    boxes = ndimage.find_objects(label_map.labels, max_label=n_labels)
    shares = [np.zeros(grid.shape, np.float32)] * n_labels
    for k, box in enumerate(boxes):
        if box is not None:
            affine = label_map.affine.copy()
            affine[:3, 3] += [b.start * h for b, h in zip(box, label_map.spacing_mm, strict=True)]
            shares[k] = occupancy(Mask(label_map.labels[box] == k + 1, affine, ()), grid, centre_mm)
    return LabelMap(to_labels(shares), grid.affine())


def _box(mask: Mask, grid: Grid, centre_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 voxel of the grid that the mask can reach, (3,) each, inside the grid."""
    ends = [(-1, size) for size in mask.voxels.shape]
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)
    points = corners @ mask.affine[:3, :3].T + mask.affine[:3, 3] - centre_mm
    start = np.array([axis[0] for axis in grid.axes_mm()])
    index = (points - start) / grid.spacing_mm
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, grid.shape)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, 0, grid.shape)
    return low, high
