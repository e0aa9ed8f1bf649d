"""Laplace problems on the mesh with linear elements. Owned by the meshing stage."""

import numpy as np
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import cg
from skfem import Basis, ElementTetP1, MeshTet, asm, condense
from skfem.models.poisson import laplace as stiffness

from ..mesh.tetrahedron_geometry import signed_volumes
from ..runtime.errors import SubjectError

TOLERANCE = 1e-8
SIDEWAYS = 0.01  # weight of what a length may change across its direction, against along it


def solve(points_mm: np.ndarray, tets: np.ndarray, problems: list[dict[float, np.ndarray]]) -> np.ndarray:
    """Harmonic fields (len(problems), N), each given by values -> nodes held at that value.

    Where sets of nodes overlap the later one holds. SubjectError if the iteration does not converge.
    """
    mesh = MeshTet(np.ascontiguousarray(points_mm.T), np.ascontiguousarray(tets.T))
    basis = Basis(mesh, ElementTetP1())
    matrix = asm(stiffness, basis)
    return np.array([_held(matrix, np.zeros(len(points_mm)), held) for held in problems])


def lengths(points_mm: np.ndarray, tets: np.ndarray, direction: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Length (N,), mm, of the path along unit vectors `direction` (M, 3) on the tets from the nodes `start`.

    The field d that fits direction . grad d = 1 best (least squares), zero on `start` (Schuler et al., Med
    Image Anal 2021; the equation is that of Yezzi and Prince, IEEE Trans Med Imaging 2003). A weak penalty
    on its change across the direction makes the answer unique and smooth. Every node must be in a tet.
    """
    return _held(*_length_system(points_mm, tets, direction), {0.0: start})


def _length_system(points_mm: np.ndarray, tets: np.ndarray, direction: np.ndarray):
    """Matrix (N, N) and right side (N,) of `lengths`; the other way round, the matrix is the same."""
    shape = _shapes(points_mm, tets)
    volume = np.abs(signed_volumes(points_mm, tets))
    along = np.einsum("mki,mi->mk", shape, direction)  # (M, 4)
    full = np.einsum("mki,mli->mkl", shape, shape)
    along_twice = along[:, :, None] * along[:, None, :]
    local = volume[:, None, None] * ((1 - SIDEWAYS) * along_twice + SIDEWAYS * full)
    n = len(points_mm)
    rows, columns = np.repeat(tets, 4, axis=1).ravel(), np.tile(tets, 4).ravel()
    matrix = coo_array((local.ravel(), (rows, columns)), shape=(n, n)).tocsr()
    return matrix, np.bincount(tets.ravel(), (volume[:, None] * along).ravel(), minlength=n)


def share_of_length(
    points_mm: np.ndarray, tets: np.ndarray, field: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far a node lies from `start` to `end` (nodes) along the gradient of `field` (N,), and that length.

    Share (N,) from 0 to 1 and length (N,) in mm of the whole path. Every node must be in a tet.
    """
    up = directions(points_mm, tets, field)
    matrix, right = _length_system(points_mm, tets, up)
    before = np.maximum(_held(matrix, right, {0.0: start}), 0.0)
    behind = np.maximum(_held(matrix, -right, {0.0: end}), 0.0)
    return before / np.maximum(before + behind, np.finfo(float).tiny), before + behind


def part_of(
    points_mm: np.ndarray, tets: np.ndarray, *sets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Points and tets of some of a mesh's tets alone, and sets of its nodes as indices of the new points."""
    nodes, compact = np.unique(tets, return_inverse=True)
    return points_mm[nodes], compact.reshape(-1, 4), [np.flatnonzero(np.isin(nodes, s)) for s in sets]


def _held(matrix, right: np.ndarray, held: dict[float, np.ndarray]) -> np.ndarray:
    """Solution (N,) of a symmetric system with values held at nodes."""
    field = np.zeros(len(right))
    for value, nodes in held.items():
        field[nodes] = value
    fixed = np.unique(np.concatenate(list(held.values())))
    reduced, rest, _, free = condense(matrix, right, x=field, D=fixed)
    values, status = cg(reduced, rest, rtol=TOLERANCE, maxiter=5000, M=diags_array(1.0 / reduced.diagonal()))
    if status != 0:
        raise SubjectError("Laplace problem not solved", f"conjugate gradients ended with status {status}")
    field[free] = values
    return field


def gradients(points_mm: np.ndarray, tets: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Gradients (K, M, 3), per mm, of nodal fields (K, N) on the tets."""
    corners = points_mm[tets]
    edges = corners[:, 1:] - corners[:, :1]  # (M, 3, 3)
    rises = fields[:, tets[:, 1:]] - fields[:, tets[:, :1]]  # (K, M, 3)
    return np.einsum("mij,kmj->kmi", np.linalg.inv(edges), rises)


def directions(points_mm: np.ndarray, tets: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Unit vectors (M, 3) on the tets along which a nodal field (N,) rises; zero where it is flat."""
    slope = gradients(points_mm, tets, field[None])[0]
    return slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), np.finfo(float).tiny)


def _shapes(points_mm: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """Gradients (M, 4, 3), per mm, of the four hat functions of every tet."""
    corners = points_mm[tets]
    inner = np.linalg.inv(corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1)  # (M, 3, 3)
    return np.concatenate([-inner.sum(axis=1, keepdims=True), inner], axis=1)


def to_nodes(tets: np.ndarray, weights: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Averages (n, 3) at the nodes of vectors (M, 3) on the tets, weighted by `weights` (M,)."""
    total = np.zeros((n, 3))
    for column in range(4):
        for i in range(3):
            total[:, i] += np.bincount(tets[:, column], weights * values[:, i], minlength=n)
    mass = sum(np.bincount(tets[:, c], weights, minlength=n) for c in range(4))
    return total / np.maximum(mass, np.finfo(float).tiny)[:, None]
