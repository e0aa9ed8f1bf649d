"""Hearts as point clouds, and the Chamfer distance between them (evaluation stage)."""

import numpy as np
from scipy import ndimage

from ..anatomy.labels import Anatomy, Grid

POINTS = 128  # on the surface of each structure
TOGETHER = 64  # clouds whose points are compared with those of one cloud at once: 8 MB


def surface_points(labels: np.ndarray, anatomy: Anatomy, grid: Grid, points: int = POINTS) -> np.ndarray:
    """Points (K, points, 3), mm, on the surface of every structure in labels (X, Y, Z), evenly spread.

    Centres of voxels that share a face with another label, chosen by farthest-point sampling (Eldar et al.
    1997) from the one farthest from the centroid, so that equal surfaces have equal clouds; repeated where a
    surface has fewer voxels. Raises ValueError for a structure that is absent.
    """
    axes, clouds = grid.axes_mm(), []
    boxes = ndimage.find_objects(labels, max_label=anatomy.n_channels - 1)
    for k, (name, box) in enumerate(zip(anatomy.structures, boxes, strict=True), start=1):
        if box is None:
            raise ValueError(f"there is no {name} in the label map")
        mask = labels[box] == k
        voxels = np.argwhere(mask & ~ndimage.binary_erosion(mask))
        at = [axis[s][i] for axis, s, i in zip(axes, box, voxels.T, strict=True)]
        clouds.append(_spread_out(np.stack(at, axis=1), points))
    return np.stack(clouds).astype(np.float32)


def _spread_out(all_points: np.ndarray, n: int) -> np.ndarray:
    # on a lattice many are equally far: taken in their own order, one side would have more of them
    all_points = np.random.default_rng(0).permutation(all_points)
    chosen = np.empty(n, int)
    nearest = np.full(len(all_points), np.inf)
    chosen[0] = np.argmax(((all_points - all_points.mean(axis=0)) ** 2).sum(axis=1))
    for i in range(1, n):
        nearest = np.minimum(nearest, ((all_points - all_points[chosen[i - 1]]) ** 2).sum(axis=1))
        chosen[i] = np.argmax(nearest)
    return all_points[chosen]


def chamfer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Chamfer distances (n, m), mm, of clouds (n, K, P, 3) and (m, K, Q, 3), mean over the K structures.

    Of two clouds: half the sum of the mean distances of either's points to the other's nearest. The mean over
    structures compares each with its like, which one cloud of the whole heart does not.
    """
    n, structures = a.shape[:2]
    total = np.zeros((n, len(b)))
    for k in range(structures):
        for first in range(0, len(b), TOGETHER):
            some = slice(first, first + TOGETHER)
            others = b[some, k].reshape(-1, 3)
            squares = (others**2).sum(axis=1)
            for i in range(n):
                cloud = a[i, k]
                distance2 = (cloud**2).sum(axis=1)[:, None] + squares - 2.0 * cloud @ others.T
                distance2 = distance2.reshape(len(cloud), len(b[some]), -1).clip(min=0.0)
                there = np.sqrt(distance2.min(axis=2)).mean(axis=0)
                total[i, some] += there + np.sqrt(distance2.min(axis=0)).mean(axis=1)
    return total / (2 * structures)
