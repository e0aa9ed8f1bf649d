"""Which labels touch, and over what area. Owned by no stage."""

import numpy as np


def contact_areas(labels: np.ndarray, spacing_mm: tuple[float, float, float], n: int) -> np.ndarray:
    """Area (mm^2) of the voxel faces shared by each pair of the labels 0..n-1: (n, n), diagonal 0."""
    areas = np.zeros((n, n))
    for axis in range(3):
        first = np.moveaxis(labels, axis, 0)
        low, high = first[:-1], first[1:]
        differ = low != high
        pairs = low[differ].astype(np.int64) * n + high[differ]
        face = float(np.prod(spacing_mm)) / spacing_mm[axis]
        areas += np.bincount(pairs, minlength=n * n).reshape(n, n) * face
    return areas + areas.T
