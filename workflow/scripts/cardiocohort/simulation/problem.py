"""The equations of a passive inflation at finite strain. Owned by the simulation stage.

Unknowns are displacements of second order (mm) and a continuous pressure of first order (kPa): Taylor-Hood
elements, which do not lock where displacements alone would. The energy is

    W(J^(-2/3) C) + p (J - 1) - p^2 / (2 kappa)

whose pressure is kappa (J - 1), so that it stands for kappa / 2 (J - 1)^2, and for incompressibility where
kappa is infinite. Pressures follow the surface: the traction on a facet with outward normal N is
-lambda p cof(F) N, lambda being the share of the load.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import ngsolve as ng
import numpy as np
import scipy.sparse

from . import elements
from .materials import Law

PATTERN_CHUNK = 8192


@dataclass(frozen=True)
class Spring:
    """Springs on a boundary (kPa/mm), in all directions or along its undeformed normal alone."""

    boundary: str
    kpa_per_mm: float
    normal: bool = False


@dataclass(frozen=True)
class Pattern:
    """Where the entries of the tangent's upper triangle are, in rows and columns (nnz,) of free unknowns.

    solid (M, 34 * 35 / 2), surface and springs (T, 18 * 19 / 2): the entry of each pair of an element's
    unknowns, nnz where one of them is prescribed.
    """

    rows: np.ndarray
    columns: np.ndarray
    solid: np.ndarray
    surface: np.ndarray
    springs: list[np.ndarray]


@dataclass(frozen=True)
class Problem:
    """A body, its `law`, loads and supports.

    state: displacement and pressure; free (ndof,): whether an unknown is not prescribed. `approach`: laws by
    which the full load is reached before `law` itself is obeyed (`continuation`).
    """

    mesh: ng.Mesh
    state: ng.GridFunction
    solid: elements.Solid
    surface: elements.Surface
    springs: list[tuple[np.ndarray, np.ndarray]]
    law: Law
    bulk_kpa: float
    free: np.ndarray
    pressures_kpa: dict[str, float]
    approach: tuple[Law, ...] = ()
    threads: int = 1
    diagonal_mm: float = field(init=False)

    def __post_init__(self):
        corners = np.array([vertex.point for vertex in self.mesh.vertices])
        # of the undeformed body's box
        object.__setattr__(self, "diagonal_mm", float(np.linalg.norm(np.ptp(corners, axis=0))))

    @property
    def displacement(self) -> ng.GridFunction:
        return self.state.components[0]

    @property
    def n_displacements(self) -> int:
        return self.displacement.space.ndof

    def load(self, state: np.ndarray) -> np.ndarray:
        """Force of the full load (ndof,) on the deformed surface, zero at prescribed unknowns."""
        force = np.zeros(len(self.free))
        np.add.at(force, self.surface.dofs.ravel(), -self.surface.forces(state).ravel())
        return force * self.free

    def residual(self, state: np.ndarray, share: float) -> np.ndarray:
        """Forces out of balance (ndof,) at a share of the load, zero at prescribed unknowns."""
        out = np.zeros(len(self.free))
        for rows, forces, _ in self.solid.contributions(state, self.law, self.bulk_kpa, False, self.threads):
            np.add.at(out, self.solid.dofs[rows].ravel(), forces.ravel())
        for dofs, stiffness in self.springs:
            np.add.at(out, dofs.ravel(), np.einsum("tij,tj->ti", stiffness, state[dofs]).ravel())
        return out * self.free - share * self.load(state)

    def pattern(self) -> Pattern:
        """Of the tangent."""
        number = np.where(self.free, np.cumsum(self.free) - 1, -1)
        n = np.int64(self.free.sum())

        def keys(dofs: np.ndarray) -> np.ndarray:
            first, second = np.triu_indices(dofs.shape[1])
            a, b = number[dofs[:, first]], number[dofs[:, second]]
            return np.where((a < 0) | (b < 0), n * n, np.minimum(a, b) * n + np.maximum(a, b))

        # a share of the elements at a time: all their pairs of unknowns would fill the memory
        dofs = self.solid.dofs
        pieces = []
        for start in range(0, len(dofs), PATTERN_CHUNK):
            own, places = np.unique(keys(dofs[start : start + PATTERN_CHUNK]), return_inverse=True)
            pieces.append((own, places.astype(np.int32)))
        entries = np.unique(np.concatenate([own for own, _ in pieces]))
        entries = entries[entries < n * n]
        solid = [np.searchsorted(entries, own).astype(np.int32)[places] for own, places in pieces]

        def found(dofs: np.ndarray) -> np.ndarray:
            return np.searchsorted(entries, keys(dofs)).astype(np.int32)

        rows, columns = np.divmod(entries, n)
        return Pattern(
            rows.astype(np.int32),
            columns.astype(np.int32),
            np.concatenate([piece.reshape(-1, 34 * 35 // 2) for piece in solid]),
            found(self.surface.dofs),
            [found(dofs) for dofs, _ in self.springs],
        )

    def tangent(self, pattern: Pattern, state: np.ndarray, share: float):
        """Entries (nnz,) of the symmetric part's upper triangle, and the rest as a sparse matrix of the free
        unknowns: what follower pressures have at a free rim."""
        out = np.zeros(len(pattern.rows) + 1)
        upper = _upper(34)
        for rows, _, k in self.solid.contributions(state, self.law, self.bulk_kpa, True, self.threads):
            np.add.at(
                out, pattern.solid[rows].ravel().astype(np.intp), k.reshape(len(k), -1)[:, upper].ravel()
            )
        upper = _upper(18)
        for at, (_, k) in zip(pattern.springs, self.springs, strict=True):
            np.add.at(out, at.ravel(), k.reshape(len(k), -1)[:, upper].ravel())
        k = share * self.surface.stiffness(state)
        even = (k + k.swapaxes(1, 2)) / 2
        np.add.at(out, pattern.surface.ravel(), even.reshape(len(k), -1)[:, upper].ravel())
        dofs = self.surface.dofs
        rows, columns = np.repeat(dofs, 18, axis=1).ravel(), np.tile(dofs, 18).ravel()
        size = len(self.free)
        odd = scipy.sparse.csr_array(((k - even).ravel(), (rows, columns)), shape=(size, size))
        return out[:-1], odd[self.free][:, self.free]


def problem(
    mesh: ng.Mesh,
    law: Law,
    bulk_kpa: float,
    pressures_kpa: dict[str, float],
    fixed: dict[str, str],
    springs: Iterable[Spring] = (),
    axes: np.ndarray | None = None,
    approach: tuple[Law, ...] = (),
    threads: int = 1,
) -> Problem:
    """State an inflation at rest.

    pressures_kpa: full load by boundary; fixed: boundary -> axes that do not move there ("xyz", "x", ...);
    axes (M, 3, 3): fibre, sheet and normal of each element as columns, in which `law` is stated.
    """
    held = {f"dirichlet{axis}": "|".join(b for b, axes in fixed.items() if axis in axes) for axis in "xyz"}
    displacements = ng.VectorH1(mesh, order=2, **{key: names for key, names in held.items() if names})
    space = displacements * ng.H1(mesh, order=1)
    return Problem(
        mesh,
        ng.GridFunction(space),
        elements.solid(space, axes),
        elements.surface(space, pressures_kpa),
        [elements.springs(space, s.boundary, s.kpa_per_mm, s.normal) for s in springs],
        law,
        bulk_kpa,
        np.array(list(space.FreeDofs()), dtype=bool),
        dict(pressures_kpa),
        approach,
        threads,
    )


def _upper(n: int) -> np.ndarray:
    rows, columns = np.triu_indices(n)
    return rows * n + columns
