"""Laplace problems on the mesh with linear elements. Owned by the meshing stage."""

import numpy as np
from scipy.sparse import diags_array
from scipy.sparse.linalg import cg
from skfem import Basis, ElementTetP1, MeshTet, asm, condense
from skfem.models.poisson import laplace as stiffness

from ..errors import SubjectError

TOLERANCE = 1e-8


def solve(points_mm: np.ndarray, tets: np.ndarray, problems: list[dict[float, np.ndarray]]) -> np.ndarray:
    """Harmonic fields (len(problems), N), each given by values -> nodes held at that value.

    Where sets of nodes overlap the later one holds. SubjectError if the iteration does not converge.
    """
    mesh = MeshTet(np.ascontiguousarray(points_mm.T), np.ascontiguousarray(tets.T))
    basis = Basis(mesh, ElementTetP1())
    matrix = asm(stiffness, basis)
    fields = []
    for held in problems:
        field = np.zeros(len(points_mm))
        for value, nodes in held.items():
            field[nodes] = value
        fixed = np.unique(np.concatenate(list(held.values())))
        reduced, right, _, free = condense(matrix, np.zeros(len(field)), x=field, D=fixed)
        found, status = cg(
            reduced, right, rtol=TOLERANCE, maxiter=5000, M=diags_array(1.0 / reduced.diagonal())
        )
        if status != 0:
            raise SubjectError(
                "Laplace problem not solved", f"conjugate gradients ended with status {status}"
            )
        field[free] = found
        fields.append(field)
    return np.array(fields)


def gradients(points_mm: np.ndarray, tets: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Gradients (K, M, 3), per mm, of nodal fields (K, N) on the tets."""
    corners = points_mm[tets]
    edges = corners[:, 1:] - corners[:, :1]  # (M, 3, 3)
    rises = fields[:, tets[:, 1:]] - fields[:, tets[:, :1]]  # (K, M, 3)
    return np.einsum("mij,kmj->kmi", np.linalg.inv(edges), rises)


def to_nodes(tets: np.ndarray, weights: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Averages (n, 3) at the nodes of vectors (M, 3) on the tets, weighted by `weights` (M,)."""
    total = np.zeros((n, 3))
    for column in range(4):
        for i in range(3):
            total[:, i] += np.bincount(tets[:, column], weights * values[:, i], minlength=n)
    mass = sum(np.bincount(tets[:, c], weights, minlength=n) for c in range(4))
    return total / np.maximum(mass, np.finfo(float).tiny)[:, None]
