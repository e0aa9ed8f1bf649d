"""Betti numbers of a voxel mask. Owned by the topology stage.

Connectivity pair 26/6: voxels of the mask meet over faces, edges or corners (the mask is the union of
its closed cubes), voxels of the complement over faces only. Source: Kong & Rosenfeld 1989, "Digital
topology: introduction and survey" (the pair); Euler-Poincare formula (b1).
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.measure import euler_number

FOREGROUND = np.ones((3, 3, 3), bool)  # 26 neighbours
COMPLEMENT = ndimage.generate_binary_structure(3, 1)  # 6 neighbours


class Betti(NamedTuple):
    """components b0, holes through it b1 (a torus has one), enclosed cavities b2."""

    components: int
    holes: int
    cavities: int


def betti(mask: np.ndarray) -> Betti:
    """Betti numbers of a mask (X, Y, Z) bool; voxels outside the array count as complement."""
    mask = np.pad(mask, 1)
    components = ndimage.label(mask, FOREGROUND)[1]
    cavities = ndimage.label(~mask, COMPLEMENT)[1] - 1
    holes = components + cavities - int(euler_number(mask, connectivity=3))
    return Betti(components, holes, cavities)
