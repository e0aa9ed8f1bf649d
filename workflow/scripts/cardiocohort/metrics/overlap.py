"""Overlap of two label maps. Owned by no stage; report, generation and evaluation share it."""

import numpy as np

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
