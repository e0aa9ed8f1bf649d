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

import numpy as np
import scipy.sparse

from . import elements, kernels
from .finite_elements import ng
from .materials import Law
from .settings import MUMPS


@dataclass(frozen=True)
class Spring:
    """Springs on a boundary (kPa/mm), in all directions or along its undeformed normal alone."""

    boundary: str
    kpa_per_mm: float
    normal: bool = False


@dataclass(frozen=True)
class Odd:
    """A sparse matrix of all pairs of unknowns of the loaded triangles: places (T, 18, 18) of the pairs among
    the entries, after one for all prescribed ones; columns and starts as those of a pattern."""

    places: np.ndarray
    columns: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, dofs: np.ndarray, n: int) -> "Odd":
        """dofs (T, 18) below n, or -1 where prescribed."""
        rows, columns = dofs[:, :, None], dofs[:, None, :]
        pairs = np.where((rows < 0) | (columns < 0), -1, rows * np.int64(n) + columns)
        found, places = np.unique(np.append(pairs.ravel(), -1), return_inverse=True)
        starts = np.searchsorted(found[1:], np.arange(n + 1) * np.int64(n))
        columns = found[1:] % n
        return cls(places[:-1].reshape(pairs.shape), columns.astype(np.int32), starts.astype(np.int32))

    def matrix(self, values: np.ndarray) -> scipy.sparse.csr_array:
        """Of the triangles' values (T, 18, 18)."""
        n, entries = len(self.starts) - 1, len(self.columns)
        summed = np.bincount(self.places.ravel(), values.ravel(), 1 + entries)[1:]
        return scipy.sparse.csr_array((summed, self.columns, self.starts), shape=(n, n))


@dataclass(frozen=True)
class Pattern:
    """Where the entries of the tangent's upper triangle are, row by row.

    order (n,): the free unknowns node by node, by which rows and columns are numbered; node i has those from
    blocks[i] to blocks[i + 1]. Row i has the entries from starts[i] to starts[i + 1], in `columns` (nnz,).
    solid (M, 34 * 35 / 2), surface and springs (T, 18 * 19 / 2): the entry of each pair of an element's
    unknowns, nnz where one of them is prescribed. odd: entries of what the loads add without symmetry.
    """

    order: np.ndarray
    blocks: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    solid: np.ndarray
    surface: np.ndarray
    springs: list[np.ndarray]
    odd: Odd

    @property
    def rows(self) -> np.ndarray:
        """(nnz,) of the entries."""
        return np.repeat(np.arange(len(self.order), dtype=np.int32), np.diff(self.starts))


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
    springs: list[elements.Springs]
    law: Law
    bulk_kpa: float
    free: np.ndarray
    pressures_kpa: dict[str, float]
    approach: tuple[Law, ...] = ()
    threads: int = 1
    valves: elements.Valves | None = None
    library: str = MUMPS
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
        if self.valves is not None:
            force[: self.n_displacements] += self.valves.forces(state)
        return force * self.free

    def residual(self, state: np.ndarray, share: float) -> np.ndarray:
        """Forces out of balance (ndof,) at a share of the load, zero at prescribed unknowns."""
        out = self.solid.forces(state, self.law, self.bulk_kpa, self.threads)
        for some in self.springs:
            np.add.at(out, some.dofs.ravel(), some.forces(state).ravel())
        return out * self.free - share * self.load(state)

    def pattern(self) -> Pattern:
        """Of the tangent."""
        n_nodes = self.n_displacements // 3
        # a corner's pressure is an unknown of its node
        node = np.concatenate([np.tile(np.arange(n_nodes), 3), np.arange(self.mesh.nv)])
        order = np.argsort(node, kind="stable")
        order = order[self.free[order]]
        sizes = np.bincount(node[order], minlength=n_nodes)
        first = np.concatenate([[0], np.cumsum(sizes)])
        number = np.full(len(self.free), -1)
        number[order] = np.arange(len(order))
        within = np.arange(len(order)) - first[node[order]]

        # all pairs of a tetrahedron's nodes are coupled; pressures and springs act on the same nodes
        nodes = self.solid.dofs[:, :10]
        ends = np.arange(0, nodes.size + 1, 10)
        touched = scipy.sparse.csr_array(
            (np.ones(nodes.size, dtype=bool), nodes.ravel(), ends), shape=(len(nodes), n_nodes)
        )
        graph = scipy.sparse.triu(touched.T @ touched, format="csr")
        graph.sort_indices()
        to = graph.indices
        of = np.repeat(np.arange(n_nodes), np.diff(graph.indptr))
        ahead = np.concatenate([[0], np.cumsum(sizes[to])])
        blocks = ahead[graph.indptr]  # where a node would start if its unknowns had one row together
        offsets = ahead[:-1] - blocks[of]
        columns = np.repeat(first[to] - ahead[:-1], sizes[to]) + np.arange(ahead[-1])
        # a row lacks the columns of its node's earlier unknowns, which are below the diagonal
        lengths = np.diff(blocks)[node[order]] - within
        starts = np.concatenate([[0], np.cumsum(lengths)])
        before = starts[:-1] - within
        columns = columns[np.repeat(blocks[node[order]] - before, lengths) + np.arange(starts[-1])]
        ends, neighbours = graph.indptr, graph.indices

        def places(dofs: np.ndarray, n: int) -> np.ndarray:
            """Of the pairs of unknowns of elements with n nodes."""
            size = dofs.shape[1]
            local = np.concatenate([np.tile(np.arange(n), 3), np.arange(size - 3 * n)])
            found, none = np.empty((len(dofs), size * (size + 1) // 2), dtype=np.int32), len(columns)
            kernels.places(dofs, local, ends, neighbours, offsets, number, before, within, none, found)
            return found

        return Pattern(
            order,
            first[np.concatenate([[True], sizes > 0])],
            starts.astype(np.int32),
            columns.astype(np.int32),
            places(self.solid.dofs, 10),
            places(self.surface.dofs, 6),
            [places(some.dofs, 6) for some in self.springs],
            Odd.of(number[self.surface.dofs], len(order)),
        )

    def tangent(self, pattern: Pattern, state: np.ndarray, share: float, sums: elements.Sums):
        """Entries (nnz,) of the symmetric part's upper triangle, and the rest as a sparse matrix in the
        pattern's order: what follower pressures have at a free rim, and the load of valves.

        sums: of nnz + 1; the entries lie in them, until they are used again."""
        out = self.solid.stiffness(state, self.law, self.bulk_kpa, pattern.solid, sums, self.threads)
        upper = elements.upper(18)
        for at, some in zip(pattern.springs, self.springs, strict=True):
            np.add.at(out, at.ravel(), some.stiffness.reshape(len(at), -1)[:, upper].ravel())
        k = share * self.surface.stiffness(state)
        even = (k + k.swapaxes(1, 2)) / 2
        np.add.at(out, pattern.surface.ravel(), even.reshape(len(k), -1)[:, upper].ravel())
        odd = pattern.odd.matrix(k - even)
        if self.valves is not None:
            odd = odd + self.valves.stiffness(state, share)[pattern.order][:, pattern.order]
        return out[:-1], odd


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
    quadrature: int = elements.QUADRATURE_ORDER,
    base: str | None = None,
    library: str = MUMPS,
) -> Problem:
    """State an inflation at rest.

    pressures_kpa: full load by boundary; fixed: boundary -> axes that do not move there ("xyz", "x", ...);
    axes (M, 3, 3), or (M, Q, 3, 3) at the points of the `quadrature`: fibre, sheet and normal as columns, in
    which `law` is stated. base: the boundary that carries the pressure on the planes of the valves.
    library: that factorises the tangents (`factors`).
    """
    held = {f"dirichlet{axis}": "|".join(b for b, axes in fixed.items() if axis in axes) for axis in "xyz"}
    displacements = ng.VectorH1(mesh, order=2, **{key: names for key, names in held.items() if names})
    space = displacements * ng.H1(mesh, order=1)
    return Problem(
        mesh,
        ng.GridFunction(space),
        elements.solid(space, axes, quadrature),
        elements.surface(space, pressures_kpa),
        [elements.springs(space, s.boundary, s.kpa_per_mm, s.normal) for s in springs],
        law,
        bulk_kpa,
        np.array(list(space.FreeDofs()), dtype=bool),
        dict(pressures_kpa),
        approach,
        threads,
        elements.valves(space, base, pressures_kpa) if base else None,
        library,
    )
