"""Forces and stiffnesses of all elements at once, in closed form. Owned by the simulation stage.

Automatic differentiation of the energy takes six times as long. Element unknowns are the displacements of
the ten nodes, axis by axis, then the pressures of the four corners.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import scipy.sparse

from .finite_elements import ng
from .materials import PAIRS, Law, at, direct

# four points a tetrahedron, as is customary with ten nodes: exact for the strains of a linear problem
QUADRATURE_ORDER = 2
SURFACE_ORDER = 4  # exact for follower pressures on six-node triangles
EDGE_POINTS = 3  # exact for follower pressures on the fan from a quadratic edge
OPPOSITE = {"lv_endo": "rv", "rv_endo": "lv"}  # free walls whose base carries nothing of a cavity's load
CHUNK = 512  # elements at a time, whose arrays stay in the processor's cache
_IDENTITY = np.eye(3)


@dataclass(frozen=True)
class Solid:
    """The tetrahedra. dofs (M, 34); slopes (M, Q, 3, 10) of the shapes (1/mm) along the columns of `axes`,
    fibre, sheet and normal: (M, 1, 3, 3) for those of an element, (M, Q, 3, 3) for those of its points;
    weights (M, Q) in mm3; pressures (Q, 4): the corners' shapes at the points.
    """

    dofs: np.ndarray
    axes: np.ndarray
    slopes: np.ndarray
    weights: np.ndarray
    pressures: np.ndarray

    def contributions(
        self, state: np.ndarray, law: Law, bulk_kpa: float, stiffness: bool, threads: int
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray | None]]:
        """Rows, residual (m, 34) and, if wanted, the stiffness's upper triangle (m, 595), piece by piece."""
        size = CHUNK * threads  # larger arrays, of which threads wait less for each other
        pieces = [slice(i, i + size) for i in range(0, len(self.dofs), size)]

        def work(rows: slice):
            with np.errstate(all="ignore"):  # a step too large shows as a residual that is not finite
                return rows, *self._piece(rows, state, at(law, rows), bulk_kpa, stiffness)

        if threads == 1:
            yield from map(work, pieces)
        else:
            with ThreadPoolExecutor(threads) as pool:
                yield from pool.map(work, pieces)

    def deformation(self, state: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """(m, Q, 3, 3) of the elements `rows`: columns are where fibre, sheet and normal go."""
        nodes, slopes = state[self.dofs[rows, :30]], self.slopes[rows]
        m, q = slopes.shape[:2]
        moved = nodes.reshape(m, 3, 10) @ slopes.reshape(m, 3 * q, 10).swapaxes(1, 2)
        return self.axes[rows] + moved.reshape(m, 3, q, 3).swapaxes(1, 2)

    def _piece(self, rows: slice, state: np.ndarray, law: Law, bulk_kpa: float, stiffness: bool):
        """The energy is W(J^(-2/3) C) + p (J - 1) - p^2 / (2 kappa); Holzapfel, Nonlinear Solid Mechanics
        (2000), section 6.6, has its derivatives. A law may add a stress by C itself (`materials.direct`), and
        volume_kpa (J - 1 - ln J) at each point."""
        weights, pressures = self.weights[rows], state[self.dofs[rows, 30:]]
        m, q = weights.shape
        # at m q points together: (3, 3, n)
        f = self.deformation(state, rows).reshape(-1, 3, 3).transpose(1, 2, 0).copy()
        c = np.array([(f[:, i] * f[:, j]).sum(axis=0) for i, j in PAIRS])
        j = _determinant(f)
        inverse = _adjugate(c) / (j * j)
        shrink = np.where(j > 0, np.cbrt(j) ** -2, np.nan)  # an element turned inside out has no energy
        mixed = (pressures @ self.pressures.T).ravel()
        kept = getattr(law, "volume_kpa", 0.0)
        p = mixed + kept * (1 - 1 / j)
        s_bar, d_bar = law(shrink * c)
        trace = _contract(s_bar, c)
        isochoric = shrink * (s_bar - trace / 3 * inverse)
        stress = isochoric + p * j * inverse
        if (more := direct(law, c)) is not None:
            stress += more[0]
        weighted = weights.ravel()
        second = _full(weighted * stress)
        first = _times(f, second).reshape(3, 3, m, q).transpose(2, 0, 3, 1).reshape(m, 3, 3 * q)
        out = np.empty((m, 34))
        out[:, :30] = (first @ self.slopes[rows].reshape(m, 3 * q, 10)).reshape(m, 30)
        out[:, 30:] = (weighted * (j - 1 - mixed / bulk_kpa)).reshape(m, q) @ self.pressures
        if not stiffness:
            return out, None
        dc = np.einsum("ijn,jn->in", d_bar, _weigh(c))
        both = -(shrink**2) / 3 * dc - 2 / 3 * isochoric
        both += (shrink**2 / 18 * _contract(dc, c) - shrink * trace / 9 + p * j / 2) * inverse
        d = (shrink**2) * d_bar + inverse[:, None] * both + both[:, None] * inverse
        d += (2 / 3 * shrink * trace - 2 * p * j) * _square(inverse)
        if more is not None:
            d += more[1]
        if kept:
            d += kept * inverse[:, None] * inverse
        return out, self._stiffness(rows, f, second, weighted * d, weighted * j * inverse, bulk_kpa)

    def _stiffness(self, rows: slice, f, second, d, change, bulk_kpa: float) -> np.ndarray:
        """(m, 595) from values at the points, times their weights: second Piola-Kirchhoff stress (3, 3, n),
        its derivative by the strain (6, 6, n), and that of the volume (6, n)."""
        slopes, weights = self.slopes[rows], self.weights[rows]
        m, q = weights.shape
        across = slopes.reshape(m, 3 * q, 10).swapaxes(1, 2)
        k = np.empty((m, 10 * 90 + 10 * 12 + 16))  # by `_order`
        by_displacement, by_pressure, own = np.split(k, (900, 1020), axis=1)
        # derivative of the first stress by the deformation gradient, whose columns are in the body's axes:
        # (n, column and row of the stress, row and column of the gradient)
        strain = _strain_by_deformation(f)
        left = strain.reshape(-1, 6, 9).swapaxes(1, 2)
        a = left @ (_last(d) @ strain.swapaxes(2, 3).reshape(-1, 6, 9))
        a.reshape(-1, 3, 9, 3)[:, :, ::4] += _last(second)[:, :, None]
        pulled = (a.reshape(m, q, 27, 3) @ slopes).reshape(m, 3 * q, 90)
        np.matmul(across, pulled, out=by_displacement.reshape(m, 10, 90))
        volume = _last(_times(f, _full(change)).swapaxes(0, 1)).reshape(m, q, 3, 1, 3)
        volume = (volume * self.pressures[:, None, :, None]).reshape(m, 3 * q, 12)
        np.matmul(across, volume, out=by_pressure.reshape(m, 10, 12))
        own[:] = (-(self.pressures.T * (weights / bulk_kpa)[:, None]) @ self.pressures).reshape(m, 16)
        return k.take(_order(), axis=1)


@dataclass(frozen=True)
class Surface:
    """Loaded triangles. dofs (T, 18) of their displacements, axis by axis; shapes (Q, 6) and slopes (Q, 6, 2)
    on the reference triangle; tangents (T, Q, 3, 2) of the undeformed surface; weights (Q,), whose sign with
    the tangents' cross product is outward; pressure_kpa (T,) at the full load.
    """

    dofs: np.ndarray
    shapes: np.ndarray
    slopes: np.ndarray
    tangents: np.ndarray
    weights: np.ndarray
    pressure_kpa: np.ndarray

    def forces(self, state: np.ndarray) -> np.ndarray:
        """(T, 18) residual of the full load, whose traction is -p cof(F) N: minus its force."""
        moved = self.moved(state)
        area = np.cross(moved[..., 0], moved[..., 1])
        weighted = self.pressure_kpa[:, None] * self.weights
        out = (area * weighted[..., None]).swapaxes(1, 2) @ self.shapes
        return out.reshape(len(out), 18)

    def stiffness(self, state: np.ndarray) -> np.ndarray:
        """(T, 18, 18): its derivative."""
        moved = self.moved(state)
        weighted = (self.pressure_kpa[:, None] * self.weights)[..., None, None]
        a, b = (_cross_matrix(moved[..., axis]) * weighted for axis in (0, 1))
        shapes = [self.shapes[:, :, None] * self.slopes[:, None, :, axis] for axis in (0, 1)]
        k = np.einsum("tqij,qab->tiajb", a, shapes[1], optimize=True)
        k -= np.einsum("tqij,qab->tiajb", b, shapes[0], optimize=True)
        return k.reshape(len(k), 18, 18)

    def moved(self, state: np.ndarray) -> np.ndarray:
        """(T, Q, 3, 2): tangents of the deformed surface."""
        nodes = state[self.dofs].reshape(-1, 1, 3, 6)
        return self.tangents + nodes @ self.slopes


@dataclass(frozen=True)
class Springs:
    """Springs on triangles, at rest undeformed. dofs, shapes, slopes and tangents as those of a surface;
    weights (Q,) with the stiffness in kPa/mm; along the surface's `normal` alone, or in all directions.
    """

    dofs: np.ndarray
    shapes: np.ndarray
    slopes: np.ndarray
    tangents: np.ndarray
    weights: np.ndarray
    normal: bool

    @cached_property
    def stiffness(self) -> np.ndarray:
        """(T, 18, 18)."""
        across = np.cross(self.tangents[..., 0], self.tangents[..., 1])
        area = np.linalg.norm(across, axis=-1)
        normals = across / area[..., None]
        along = normals[..., None] * normals[..., None, :] if self.normal else _IDENTITY
        weights = (self.weights * area)[..., None, None]
        along = np.broadcast_to(along, (*area.shape, 3, 3)) * weights
        both = self.shapes[:, :, None] * self.shapes[:, None]
        return np.einsum("tqij,qab->tiajb", along, both, optimize=True).reshape(-1, 18, 18)

    def forces(self, state: np.ndarray) -> np.ndarray:
        """(T, 18)."""
        return np.einsum("tij,tj->ti", self.stiffness, state[self.dofs])

    def referred(self, shift: np.ndarray) -> "Springs":
        """Those of a body whose undeformed corners lie at `shift` (n,) from this one's."""
        nodes = shift[self.dofs].reshape(-1, 1, 3, 6)
        return replace(self, tangents=self.tangents + nodes @ self.slopes)


@dataclass(frozen=True)
class Valves:
    """The load of the pressure on the planes of the valves, which the base carries.

    A closed surface under pressure has no resultant, so the load on a cavity's valves is minus that on its
    endocardium: the pressure times the vector area of the rim. It is spread evenly over the undeformed area
    of the base around the cavity (after Regazzoni et al., J Comput Phys 457:111083, 2022).

    Edges of the rims: dofs (E, 18) of the endocardial triangle at each, axis by axis; shapes and slopes
    (E, Q, 6) along the edge, which runs as the boundary of the endocardium does; points and tangents
    (E, Q, 3) undeformed; weights (Q,); which (E,): the cavity. base: all triangles that carry a load, and
    carried (C, T): whether each carries that of a cavity. n: unknowns of an axis. pressure_kpa (C,) at the
    full load.
    """

    dofs: np.ndarray
    shapes: np.ndarray
    slopes: np.ndarray
    points: np.ndarray
    tangents: np.ndarray
    weights: np.ndarray
    which: np.ndarray
    base: Surface
    carried: np.ndarray
    n: int
    pressure_kpa: np.ndarray

    @cached_property
    def shares(self) -> np.ndarray:
        """(C, n) of the load of each cavity, by unknown of an axis."""
        across = np.cross(self.base.tangents[..., 0], self.base.tangents[..., 1])
        area = np.linalg.norm(across, axis=-1) * self.base.weights
        shares = np.zeros((len(self.carried), self.n))
        for share, own in zip(shares, self.carried, strict=True):
            np.add.at(share, self.base.dofs[own, :6].ravel(), (area[own] @ self.base.shapes).ravel())
            share /= area[own].sum() or 1.0  # a body with one ventricle has no base around the other
        return shares

    def forces(self, state: np.ndarray) -> np.ndarray:
        """(3 n,) of the full load."""
        points, tangents = self._moved(state)
        areas = np.einsum("eqi,q->ei", np.cross(points, tangents), self.weights) / 2
        resultants = np.zeros((len(self.shares), 3))
        np.add.at(resultants, self.which, areas)
        return ((self.pressure_kpa[:, None] * resultants).T @ self.shares).ravel()

    def stiffness(self, state: np.ndarray, share: float) -> scipy.sparse.csr_array:
        """(ndof, ndof): derivative of minus the force, at a share of the load. All of the base is coupled
        with the rim, by an outer product per axis and cavity."""
        (points, tangents), size = self._moved(state), len(state)
        by = np.einsum("eqij,eqa,q->eiaj", _cross_matrix(points), self.slopes, self.weights)
        by -= np.einsum("eqij,eqa,q->eiaj", _cross_matrix(tangents), self.shapes, self.weights)
        by = by.transpose(0, 1, 3, 2).reshape(-1, 3, 18) / 2
        found = scipy.sparse.csr_array((size, size))
        for cavity, own_share in enumerate(self.shares):
            own, on = self.which == cavity, np.flatnonzero(own_share)
            for axis in range(3):
                slopes = np.zeros(size)
                np.add.at(slopes, self.dofs[own].ravel(), by[own, axis].ravel())
                of = np.flatnonzero(slopes)
                values = -share * self.pressure_kpa[cavity] * np.outer(own_share[on], slopes[of])
                rows, columns = np.repeat(axis * self.n + on, len(of)), np.tile(of, len(on))
                found += scipy.sparse.csr_array((values.ravel(), (rows, columns)), shape=(size, size))
        return found

    def referred(self, shift: np.ndarray) -> "Valves":
        """Those of a body whose undeformed corners lie at `shift` (n,) from this one's."""
        points, tangents = self._moved(shift)
        base = replace(self.base, tangents=self.base.moved(shift))
        return replace(self, points=points, tangents=tangents, base=base)

    def _moved(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points and tangents (E, Q, 3) of the deformed edges."""
        nodes = state[self.dofs].reshape(-1, 3, 6)
        return (
            self.points + np.einsum("eqa,eia->eqi", self.shapes, nodes),
            self.tangents + np.einsum("eqa,eia->eqi", self.slopes, nodes),
        )


def valves(space: ng.FESpace, base: str, pressures_kpa: dict[str, float]) -> Valves:
    """Of the cavities whose endocardia are the boundaries of `pressures_kpa`, under these pressures.

    base: the boundary that carries their loads: that of the left ventricle all but the free wall of the right
    one, and the other way round (by the names of the materials).
    """
    mesh, frame = space.mesh, Frame(space)
    names, corners = np.array(mesh.GetBoundaries()), np.array([vertex.point for vertex in mesh.vertices])
    element = ng.H1(mesh, order=2).GetFE(ng.ElementId(ng.BND, 0))
    reference = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])  # corners of the reference triangle
    places, weights = np.polynomial.legendre.leggauss(EDGE_POINTS)
    places, n = (places + 1) / 2, space.components[0].ndof // 3
    carrying = np.flatnonzero(names[frame.boundary] == base)
    behind = _materials_behind(mesh, frame.dofs[carrying, :3])
    found, carried = [], np.zeros((len(pressures_kpa), len(carrying)), bool)
    for cavity, name in enumerate(pressures_kpa):
        on = np.flatnonzero(names[frame.boundary] == name)
        if not len(on):  # the body has one ventricle
            continue
        across = np.cross(frame.tangents[on, :, :, 0], frame.tangents[on, :, :, 1])
        outward = (across * frame.normals[on]).sum(axis=(1, 2)) > 0
        vertices = frame.dofs[on, :3]
        edges = np.sort(vertices[:, [[0, 1], [1, 2], [2, 0]]], axis=-1).reshape(-1, 2)
        _, back, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
        for edge in np.flatnonzero(count[back.ravel()] == 1):
            triangle, local = divmod(int(edge), 3)
            ends = [local, (local + 1) % 3]
            a, b = ends if outward[triangle] else ends[::-1]
            at = (1 - places)[:, None] * reference[a] + places[:, None] * reference[b]
            start, end = corners[vertices[triangle, [a, b]]]
            found.append(
                (
                    frame.dofs[on[triangle]],
                    np.array([list(element.CalcShape(*point)) for point in at]),
                    np.array([element.CalcDShape(*point).NumPy() for point in at])
                    @ (reference[b] - reference[a]),
                    start + places[:, None] * (end - start),
                    np.broadcast_to(end - start, (EDGE_POINTS, 3)),
                    cavity,
                )
            )
        carried[cavity] = behind != OPPOSITE.get(name, "")
    dofs, shapes, slopes, points, tangents, which = map(np.array, zip(*found, strict=True))
    parts = (frame.dofs[carrying], frame.shapes, frame.slopes, frame.tangents[carrying], frame.weights)
    on_base, pressures = Surface(*parts, np.zeros(len(carrying))), np.array(list(pressures_kpa.values()))
    return Valves(
        dofs, shapes, slopes, points, tangents, weights / 2, which, on_base, carried, n, pressures
    )  # fmt: skip


def _materials_behind(mesh: ng.Mesh, triangles: np.ndarray) -> np.ndarray:
    """(T,) name of the material of the tetrahedron at each boundary triangle (T, 3)."""
    elements = list(mesh.Elements(ng.VOL))
    tets = np.array([[vertex.nr for vertex in element.vertices] for element in elements])
    faces = np.sort(tets[:, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]], axis=-1).reshape(-1, 3)
    keys = np.array([1, mesh.nv, mesh.nv**2])
    of_faces, wanted = faces @ keys, np.sort(triangles, axis=-1) @ keys
    order = np.argsort(of_faces)
    tet = order[np.searchsorted(of_faces[order], wanted)] // 4
    return np.array(mesh.GetMaterials())[[elements[i].index for i in tet]]


def solid(space: ng.FESpace, axes: np.ndarray | None, order: int = QUADRATURE_ORDER) -> Solid:
    """Of all tetrahedra of a Taylor-Hood space; axes (M, 3, 3) of the elements or (M, Q, 3, 3) of their
    `quadrature_points`, orthonormal, or None for those of space."""
    mesh, rule = space.mesh, ng.IntegrationRule(ng.TET, order)
    points = mesh.MapToAllElements({ng.TET: rule}, ng.VOL)
    q = len(rule.points)
    jacobians = np.asarray(ng.specialcf.JacobianMatrix(3)(points)).reshape(-1, q, 3, 3)
    axes = np.array(np.broadcast_to(_IDENTITY, (len(jacobians), 3, 3)) if axes is None else axes)
    axes = axes.reshape(len(jacobians), -1, 3, 3)
    # no law sees the sign of a direction, the volume ratio does
    axes[..., 2] *= np.sign(np.linalg.det(axes))[..., None]
    quadratic, linear = (ng.H1(mesh, order=order).GetFE(ng.ElementId(ng.VOL, 0)) for order in (2, 1))
    slopes = np.array([quadratic.CalcDShape(*point).NumPy() for point in rule.points])
    slopes = np.ascontiguousarray((slopes @ np.linalg.inv(jacobians) @ axes).swapaxes(-1, -2))
    shapes = np.array([list(linear.CalcShape(*point)) for point in rule.points])
    weights = np.abs(np.linalg.det(jacobians)) * np.array(rule.weights)
    return Solid(_dofs(space, ng.VOL), axes, slopes, weights, shapes)


def corner_weights(order: int = QUADRATURE_ORDER) -> np.ndarray:
    """(Q, 4): barycentric coordinates of the points at which the laws are evaluated, in every tetrahedron."""
    places = np.array([list(point) for point in ng.IntegrationRule(ng.TET, order).points])[:, :3]
    # the reference tetrahedron's corners are at 1, 0, 0 first and at the origin last
    return np.column_stack([places, 1 - places.sum(axis=1)])


def quadrature_points(mesh: ng.Mesh, order: int = QUADRATURE_ORDER) -> np.ndarray:
    """(M, Q, 3): where (mm) the laws of a mesh's tetrahedra are evaluated."""
    rule = ng.IntegrationRule(ng.TET, order)
    places = ng.CF((ng.x, ng.y, ng.z))(mesh.MapToAllElements({ng.TET: rule}, ng.VOL))
    return np.asarray(places).reshape(-1, len(rule.points), 3)


def surface(space: ng.FESpace, pressures_kpa: dict[str, float]) -> Surface:
    """Of the triangles of the boundaries of `pressures_kpa`."""
    mesh, frame = space.mesh, Frame(space)
    by_index = np.array([pressures_kpa.get(name, 0.0) for name in mesh.GetBoundaries()])
    pressure = by_index[frame.boundary]
    on = np.flatnonzero(pressure)
    area = np.cross(frame.tangents[on, :, :, 0], frame.tangents[on, :, :, 1])
    outward = np.sign((area * frame.normals[on]).sum(axis=(1, 2)))
    return Surface(
        frame.dofs[on], frame.shapes, frame.slopes, frame.tangents[on], frame.weights, outward * pressure[on]
    )


def springs(space: ng.FESpace, boundary: str, kpa_per_mm: float, normal: bool) -> Springs:
    """Of the triangles of a boundary, in all directions or along the normal alone."""
    frame = Frame(space)
    on = np.flatnonzero(frame.boundary == space.mesh.GetBoundaries().index(boundary))
    weights = kpa_per_mm * frame.weights
    return Springs(frame.dofs[on], frame.shapes, frame.slopes, frame.tangents[on], weights, normal)


class Frame:
    """Geometry of all boundary triangles at the quadrature points."""

    def __init__(self, space: ng.FESpace):
        mesh, rule = space.mesh, ng.IntegrationRule(ng.TRIG, SURFACE_ORDER)
        points = mesh.MapToAllElements({ng.TRIG: rule}, ng.BND)
        q = len(rule.points)
        element = ng.H1(mesh, order=2).GetFE(ng.ElementId(ng.BND, 0))
        self.shapes = np.array([list(element.CalcShape(*point[:2])) for point in rule.points])
        self.slopes = np.array([element.CalcDShape(*point[:2]).NumPy() for point in rule.points])
        self.tangents = np.asarray(ng.specialcf.JacobianMatrix(3, 2)(points)).reshape(-1, q, 3, 2)
        self.normals = np.asarray(ng.specialcf.normal(3)(points)).reshape(-1, q, 3)
        self.weights = np.array(rule.weights)
        self.boundary = np.array([element.index for element in mesh.Elements(ng.BND)])
        self.dofs = _dofs(space, ng.BND)[:, :18]


def _dofs(space: ng.FESpace, kind) -> np.ndarray:
    elements = range(space.mesh.GetNE(kind))
    return np.array([space.GetDofNrs(ng.ElementId(kind, i)) for i in elements], dtype=np.int32)


@cache
def upper(n: int) -> np.ndarray:
    """Places of the upper triangle's entries, row by row, in a raveled n x n matrix."""
    rows, columns = np.triu_indices(n)
    return rows * n + columns


def _weigh(tensor: np.ndarray) -> np.ndarray:
    """With the components off the diagonal doubled, for contractions of symmetric tensors."""
    out = tensor.copy()
    out[3:] *= 2
    return out


def _contract(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("in,in->n", a, _weigh(b))


def _determinant(f: np.ndarray) -> np.ndarray:
    return (
        f[0, 0] * (f[1, 1] * f[2, 2] - f[1, 2] * f[2, 1])
        - f[0, 1] * (f[1, 0] * f[2, 2] - f[1, 2] * f[2, 0])
        + f[0, 2] * (f[1, 0] * f[2, 1] - f[1, 1] * f[2, 0])
    )


def _adjugate(c: np.ndarray) -> np.ndarray:
    xx, yy, zz, xy, xz, yz = c
    return np.array(
        [
            yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy,
            xz * yz - xy * zz, xy * yz - xz * yy, xy * xz - xx * yz,
        ]
    )  # fmt: skip


def _square(a: np.ndarray) -> np.ndarray:
    """(6, 6, n): half of a_ik a_jl + a_il a_jk."""
    full, out = _full(a), np.empty((6, *a.shape))
    for row, (i, j) in enumerate(PAIRS):
        for column, (k, m) in enumerate(PAIRS[row:], row):
            out[row, column] = 0.5 * (full[i, k] * full[j, m] + full[i, m] * full[j, k])
            out[column, row] = out[row, column]
    return out


def _full(tensor: np.ndarray) -> np.ndarray:
    """(3, 3, n) of (6, n)."""
    return tensor[np.array([[0, 3, 4], [3, 1, 5], [4, 5, 2]])]


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3, 3, n): products of (3, 3, n)."""
    return np.array([(a * b[:, column]).sum(axis=1) for column in range(3)]).swapaxes(0, 1)


def _last(tensor: np.ndarray) -> np.ndarray:
    """(n, i, j) of (i, j, n)."""
    return np.ascontiguousarray(np.moveaxis(tensor, -1, 0))


def _strain_by_deformation(f: np.ndarray) -> np.ndarray:
    """(n, 6, 3, 3): Green-Lagrange strains, shear doubled, by the column and row of F (3, 3, n)."""
    columns = _last(f.swapaxes(0, 1))
    out = np.zeros((len(columns), 6, 3, 3))
    for row, (i, j) in enumerate(PAIRS):
        out[:, row, i], out[:, row, j] = columns[:, j], columns[:, i]
    return out


@cache
def _order() -> np.ndarray:
    """(595,): where `Solid._stiffness` has the entries of the upper triangle, row by row."""
    place = np.empty((34, 34), dtype=int)
    place[:30, :30] = np.arange(900).reshape(10, 3, 3, 10).swapaxes(0, 1).reshape(30, 30)
    place[:30, 30:] = 900 + np.arange(120).reshape(10, 4, 3).transpose(2, 0, 1).reshape(30, 4)
    place[30:, 30:] = 1020 + np.arange(16).reshape(4, 4)
    return place[np.triu_indices(34)]


def _cross_matrix(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3), which times another vector is the cross product."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
