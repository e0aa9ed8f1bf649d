"""Betti numbers of a voxel mask. Owned by the topology stage.

Connectivity pair 26/6: voxels of the mask meet over faces, edges or corners (the mask is the union of
its closed cubes), voxels of the complement over faces only. Source: Kong & Rosenfeld 1989, "Digital
topology: introduction and survey" (the pair); Euler-Poincare formula (b1).
"""

from itertools import combinations, product
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


CORNERS = tuple(product((0, 1), repeat=3))  # of a window of 2^3 voxels; the bits of its code, lowest first


def _euler_by_code() -> np.ndarray:
    """(256,): eight times what the vertex in a window's middle adds to vertices - edges + faces - cubes.

    A cell of the union of closed cubes is there if any cube around it is. The vertex has half of each of its
    six edges, a quarter of its twelve faces and an eighth of its eight cubes.
    """
    edges = [[c for c in CORNERS if c[axis] == side] for axis in range(3) for side in (0, 1)]
    faces = [pair for pair in combinations(CORNERS, 2) if np.abs(np.subtract(*pair)).sum() == 1]
    codes = []
    for code in range(256):
        there = {corner for k, corner in enumerate(CORNERS) if code >> k & 1}
        present = [sum(bool(there & set(cell)) for cell in cells) for cells in (edges, faces)]
        codes.append(8 * bool(there) - 4 * present[0] + 2 * present[1] - len(there))
    return np.array(codes)


_EULER = _euler_by_code()


def euler_gain(mask: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """(X, Y, Z) int: by how much the Euler characteristic of a mask (X, Y, Z) rises where a block goes.

    The block of `size` voxels starts at the voxel. The characteristic is a sum over windows of 2^3 voxels, so
    that those which the block reaches tell its change.
    """
    around = np.pad(mask, [(2, 1 + n) for n in size]).astype(np.int64)
    shape = tuple(n - 1 for n in around.shape)
    windows = sum(
        around[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))] << k
        for k, corner in enumerate(CORNERS)
    )
    gain = np.zeros(mask.shape, dtype=np.int64)
    for start in product(*(range(-1, n) for n in size)):
        inside = [
            all(0 <= s + c < n for s, c, n in zip(start, corner, size, strict=True)) for corner in CORNERS
        ]
        lost = sum(1 << k for k, is_inside in enumerate(inside) if is_inside)
        code = windows[tuple(slice(2 + s, 2 + s + n) for s, n in zip(start, mask.shape, strict=True))]
        gain += _EULER[code & ~lost] - _EULER[code]
    return gain // 8
