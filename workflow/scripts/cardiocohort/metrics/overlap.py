"""Overlap of two label maps. Owned by no stage; report, generation and evaluation share it."""

import numpy as np

from ..anatomy.labels import Anatomy


def dice_by_name(a: np.ndarray, b: np.ndarray, anatomy: Anatomy) -> dict[str, float]:
    """Dice overlap of every structure in two label maps."""
    found = {}
    for k, name in enumerate(anatomy.structures, start=1):
        total = np.count_nonzero(a == k) + np.count_nonzero(b == k)
        found[name] = 2.0 * np.count_nonzero((a == k) & (b == k)) / max(total, 1)
    return found
