"""Which labels touch, over what area, and where a cavity lies bare. Owned by no stage."""

import numpy as np
from scipy import ndimage

VALVES_APART_MM = 16.0  # between mitral and aortic valve, at most; the templates' are 4 mm apart or less


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


def bare_voxels(cavity: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Voxels of a cavity (X, Y, Z) bool that share a face with what is neither it nor `covered`."""
    return cavity & ndimage.binary_dilation(~(cavity | covered))


def opening_patches(cavity: np.ndarray, covered: np.ndarray, spacing_mm) -> list[np.ndarray]:
    """Where the valves of a cavity without labelled neighbours are, largest first: masks (X, Y, Z) bool.

    They are its largest bare patch and, if it lies beside that, the second one: a bridge of muscle may part
    two valves. None, where all of the cavity is covered. Patches are 26-connected.
    """
    patches, n = ndimage.label(bare_voxels(cavity, covered), np.ones((3, 3, 3)))
    if n == 0:
        return []
    first, *others = 1 + np.argsort(np.bincount(patches.ravel())[1:])[::-1][:2]
    distance_mm = ndimage.distance_transform_edt(patches != first, spacing_mm)
    beside = [k for k in others if distance_mm[patches == k].min() <= VALVES_APART_MM]
    return [patches == k for k in (first, *beside)]
