"""Arithmetic of tetrahedra: volumes, quality, boundary. Owned by the meshing stage; numpy only."""

import numpy as np

# faces opposite to nodes 0..3, outward for a positively oriented tetrahedron
FACES = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
EDGES_AT = np.array([[0, 1, 2], [0, 3, 4], [1, 3, 5], [2, 4, 5]])  # the three edges that meet at each corner
Z_BITS = 10  # of each coordinate: a thousandth of the longest side


def signed_volumes(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """(M,) volumes, positive for right-handed tets (M, 4) over points (N, 3)."""
    return _determinants(_edges(points[tets])) / 6.0


def _edges(corners: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Components (...) of the six EDGES of tets given by corners (..., 4, 3), first end less second.

    One array for each component of a corner: many times faster than short rows.
    """
    x, y, z = (np.moveaxis(corners[..., i], -1, 0).copy() for i in range(3))
    return [(x[i] - x[j], y[i] - y[j], z[i] - z[j]) for i, j in EDGES]


def _determinants(edges) -> np.ndarray:
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = edges[:3]
    return -(ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx))


def scaled_jacobian(corners: np.ndarray) -> np.ndarray:
    """Scaled Jacobian (...) of tets given by corners (..., 4, 3): 1 regular, 0 flat, < 0 inverted.

    sqrt(2) J over the largest product of the three edge lengths that meet at a corner (Knupp, Finite
    Elements in Analysis and Design 2003; the definition of the Verdict library).
    """
    edges = _edges(corners)
    lengths = [np.sqrt(x * x + y * y + z * z) for x, y, z in edges]
    largest = np.maximum.reduce([lengths[i] * lengths[j] * lengths[k] for i, j, k in EDGES_AT])
    return np.sqrt(2.0) * _determinants(edges) / np.maximum(largest, np.finfo(float).tiny)


def boundary_facets(tets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Facets (F, 3) that belong to one tet only, normals outward, and that tet's index (F,)."""
    faces = tets[:, FACES].reshape(-1, 3)
    owner = np.repeat(np.arange(len(tets)), 4)
    key = row_keys(np.sort(faces, axis=1), tets.max(initial=0) + 1)
    order = np.argsort(key)
    other = np.diff(key[order], prepend=-1, append=-1) != 0
    once = np.sort(order[other[:-1] & other[1:]])
    return faces[once], owner[once]


def row_keys(rows: np.ndarray, n: int) -> np.ndarray:
    """One integer for each row of two or three node indices below n, which sorts faster than rows.

    Raises OverflowError for more nodes than 64 bits can tell apart (two million).
    """
    if int(n) ** rows.shape[1] >= 2**63:
        raise OverflowError(f"{n} nodes are too many for keys of {rows.shape[1]} indices")
    return rows.astype(np.int64) @ (np.int64(n) ** np.arange(rows.shape[1], dtype=np.int64))


def z_order(points: np.ndarray) -> np.ndarray:
    """Order (N,) of points (N, 3) along a curve through space, by the bits of their coordinates in turn.

    Neighbours on the curve are neighbours in space (Morton, IBM 1966). Of equal places the first comes first.
    """
    if not len(points):
        return np.empty(0, dtype=np.int64)
    low = points.min(axis=0)
    side = max(np.max(points - low), np.finfo(float).tiny)
    cells = ((points - low) / side * (2**Z_BITS - 1)).astype(np.int64)
    along = np.zeros(len(points), dtype=np.int64)
    for bit in range(Z_BITS):
        for axis in range(3):
            along |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(along, kind="stable")
