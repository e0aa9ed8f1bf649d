"""Arithmetic of tetrahedra: volumes, quality, boundary. Owned by the meshing stage; numpy only."""

import numpy as np

# faces opposite to nodes 0..3, outward for a positively oriented tetrahedron
FACES = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
EDGES_AT = np.array([[0, 1, 2], [0, 3, 4], [1, 3, 5], [2, 4, 5]])  # the three edges that meet at each corner


def signed_volumes(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """(M,) volumes, positive for right-handed tets (M, 4) over points (N, 3)."""
    return _determinants(points[tets]) / 6.0


def _determinants(corners: np.ndarray) -> np.ndarray:
    a, b, c = (corners[..., i, :] - corners[..., 0, :] for i in (1, 2, 3))
    return np.einsum("...i,...i->...", a, np.cross(b, c))


def scaled_jacobian(corners: np.ndarray) -> np.ndarray:
    """Scaled Jacobian (...) of tets given by corners (..., 4, 3): 1 regular, 0 flat, < 0 inverted.

    sqrt(2) J over the largest product of the three edge lengths that meet at a corner (Knupp, Finite
    Elements in Analysis and Design 2003; the definition of the Verdict library).
    """
    edges = np.linalg.norm(corners[..., EDGES[:, 0], :] - corners[..., EDGES[:, 1], :], axis=-1)
    at = edges[..., EDGES_AT].prod(axis=-1)
    jacobian = _determinants(corners)
    largest = np.maximum(at.max(axis=-1), np.finfo(float).tiny)
    return np.sqrt(2.0) * jacobian / largest


def scaled_jacobian_over(apexes: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """`scaled_jacobian` (A, F) of the tets between each of `apexes` (A, 3) and each of `faces` (F, 3, 3).

    Corners of faces in the order of FACES. Faces count once, so that many apexes take little time.
    """
    ax, ay, az = np.moveaxis(faces[None] - apexes[:, None, None], 3, 0)  # (A, F, 3) from apex to corners
    lengths = np.sqrt(ax * ax + ay * ay + az * az)
    jacobian = (
        ax[..., 0] * (ay[..., 1] * az[..., 2] - az[..., 1] * ay[..., 2])
        + ay[..., 0] * (az[..., 1] * ax[..., 2] - ax[..., 1] * az[..., 2])
        + az[..., 0] * (ax[..., 1] * ay[..., 2] - ay[..., 1] * ax[..., 2])
    )
    sides = faces - faces[:, [1, 2, 0]]
    sides = np.sqrt((sides * sides).sum(axis=2))  # (F, 3): of corners 0 and 1, 1 and 2, 2 and 0
    at_face = (lengths * (sides * sides[:, [2, 0, 1]])).max(axis=2)
    largest = np.maximum(lengths.prod(axis=2), at_face)
    return np.sqrt(2.0) * jacobian / np.maximum(largest, np.finfo(float).tiny)


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
