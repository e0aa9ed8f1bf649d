"""Mean thickness of a wall in a domain: 2 V / S, of its volume V and the area S of both its sides there.

Owned by no stage. Written on the array API: guidance (torch) and measurement (numpy) run the same lines, on
the 4 mm cells of guidance. By the coarea formula S is the integral of the gradient's length, however soft the
sides are; gradients are those at the corners of cells. The label map's voxels are pooled into cells first,
since the steps of voxels would add area. Walls have to be two cells thick: the sides of a thinner one cancel.
"""

import numpy as np
from array_api_compat import array_namespace

from .moments import Array

LEAST_AREA_MM2 = 1.0  # keeps a wall that has vanished, and its gradient, finite
FLAT = 1e-12  # per mm^2: keeps the gradient of the length of a zero gradient finite


def mean_thickness_mm(occupancy: Array, weights: Array, spacing_mm: float) -> Array:
    """Thickness (...) of what has the occupancies (..., X, Y, Z), where the weights (..., X, Y, Z) are.

    Cubic cells with edges of `spacing_mm`. The faces of the domain are no sides of the wall.
    """
    xp = array_namespace(occupancy)
    length = xp.sqrt(sum((step / spacing_mm) ** 2 for step in _steps(occupancy)) + FLAT)
    sides = spacing_mm**3 * _sum(length * _at_corners(weights))
    return 2.0 * spacing_mm**3 * _sum(occupancy * weights) / xp.clip(sides, min=LEAST_AREA_MM2)


def measured_in(mask: np.ndarray, weights: np.ndarray, spacing_mm: float, cell: int) -> float:
    """`mean_thickness_mm` of one wall of a label map (X, Y, Z), on cells of `cell`^3 voxels."""
    return float(mean_thickness_mm(*_cells_of(mask, weights, cell), cell * spacing_mm))


def opposed(mask: np.ndarray, weights: np.ndarray, cell: int) -> float:
    """Share of the sides of a body (X, Y, Z) in a domain that face along one line, forth or back.

    The largest eigenvalue of the mean of n n^T over the normals n: 1 of a plate, 1/2 of a rod, 1/3 of a ball.
    """
    occupancy, weights = _cells_of(mask, weights, cell)
    areas, _ = _along(np.stack(_steps(occupancy)), _at_corners(weights))
    return float(areas[-1] / max(areas.sum(), FLAT))


def cut_off(mask: np.ndarray, weights: np.ndarray, cell: int) -> float:
    """Share of the domain's own faces in all faces across a wall (X, Y, Z); 0 where both sides lie inside.

    Across is the direction of the normals (`opposed`). Faces of the domain inside the wall take the place of
    sides that it does not reach, so that `mean_thickness_mm` would count too little area.
    """
    occupancy, weights = _cells_of(mask, weights, cell)
    steps, at_corners = np.stack(_steps(occupancy)), _at_corners(weights)
    across = _along(steps, at_corners)[1][:, -1]
    sides = np.sum(abs(np.einsum("i,ixyz", across, steps)) * at_corners)
    faces = np.sum(abs(np.einsum("i,ixyz", across, np.stack(_steps(weights)))) * _at_corners(occupancy))
    return float(faces / max(sides + faces, FLAT))


def _along(steps: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and eigenvectors (columns) of the sum of w n n^T |steps|, n the normals."""
    length = np.sqrt((steps**2).sum(axis=0) + FLAT)
    return np.linalg.eigh(np.einsum("ixyz,jxyz,xyz->ij", steps, steps, weights / length))


def _cells_of(mask: np.ndarray, weights: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Occupancy and weights of the cells about a domain."""
    occupancy, weights = (_pooled(field, cell) for field in (mask, weights))
    ends = [(i.min(), i.max()) if len(i) else (0, 0) for i in np.nonzero(weights > 0)]
    near = tuple(slice(max(first - 1, 0), last + 2) for first, last in ends)
    return occupancy[near], weights[near]


def _steps(occupancy: Array) -> tuple[Array, Array, Array]:
    """Differences along x, y, z at the corners that eight cells share."""
    x, y, z = -3, -2, -1
    mean_x, mean_z = _mean(occupancy, x), _mean(occupancy, z)
    return _step(_mean(mean_z, y), x), _step(_mean(mean_x, z), y), _step(_mean(mean_x, y), z)


def _at_corners(field: Array) -> Array:
    return _mean(_mean(_mean(field, -3), -2), -1)


def _pooled(field: np.ndarray, cell: int) -> np.ndarray:
    blocks = [size for n in field.shape for size in (n // cell, cell)]
    return field.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float64)


def _sum(field: Array) -> Array:
    xp = array_namespace(field)
    return xp.sum(xp.sum(xp.sum(field, axis=-1), axis=-1), axis=-1)


def _mean(field: Array, axis: int) -> Array:
    low, high = _neighbours(axis)
    return (field[low] + field[high]) / 2.0


def _step(field: Array, axis: int) -> Array:
    low, high = _neighbours(axis)
    return field[high] - field[low]


def _neighbours(axis: int) -> tuple[tuple, tuple]:
    after = (slice(None),) * (-1 - axis)
    return (..., slice(None, -1), *after), (..., slice(1, None), *after)
