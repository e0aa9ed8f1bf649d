"""Forces and stiffnesses of all elements at once, in closed form. Owned by the simulation stage.

Automatic differentiation of the energy takes many times as long. Element unknowns are the displacements of
the ten nodes, axis by axis, then the pressures of the four corners.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import scipy.sparse

from . import kernels
from .finite_elements import ng
from .materials import Law, at, direct

# four points a tetrahedron, as is customary with ten nodes: exact for the strains of a linear problem
QUADRATURE_ORDER = 2
SURFACE_ORDER = 4  # exact for follower pressures on six-node triangles
EDGE_POINTS = 3  # exact for follower pressures on the fan from a quadratic edge
OPPOSITE = {"lv_endo": "rv", "rv_endo": "lv"}  # free walls whose base carries nothing of a cavity's load
CHUNK = 1024  # elements at a time, whose arrays stay in the processor's cache
PARTS = 2  # of every large sum, with any number of threads: the number changes no bit
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

    def forces(self, state: np.ndarray, law: Law, bulk_kpa: float, threads: int) -> np.ndarray:
        """(ndof,): residual."""

        def add(rows: slice, own: Law, out: np.ndarray) -> None:
            *body, s_bar, more, _, _, bulk, volume = self._points(rows, state, own, bulk_kpa)
            kernels.forces(*body, s_bar, more, bulk, volume, out)

        return self._summed(add, law, Sums(len(state)), threads)

    def stiffness(
        self, state: np.ndarray, law: Law, bulk_kpa: float, places: np.ndarray, sums: "Sums", threads: int
    ) -> np.ndarray:
        """(n,), in `sums`: the elements' stiffnesses, whose upper triangles belong at places (M, 595)."""

        def add(rows: slice, own: Law, out: np.ndarray) -> None:
            kernels.stiffness(*self._points(rows, state, own, bulk_kpa), places[rows], out)

        return self._summed(add, law, sums, threads)

    def _summed(self, add: Callable, law: Law, sums: "Sums", threads: int) -> np.ndarray:
        """What `add` adds to (n,), a chunk of elements at a time."""
        shares = np.linspace(0, len(self.dofs), PARTS + 1).astype(int)

        def part(number: int) -> np.ndarray:
            out, end = sums.zeros(number), shares[number + 1]
            with np.errstate(all="ignore"):  # a step too large shows as a residual that is not finite
                for start in range(shares[number], end, CHUNK):
                    rows = slice(start, min(start + CHUNK, end))
                    add(rows, at(law, rows), out)
            return out

        return sum_of_parts(part, range(PARTS), threads)

    def deformation(self, state: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """(m, Q, 3, 3) of the elements `rows`: columns are where fibre, sheet and normal go."""
        slopes = self.slopes[rows]
        f = np.empty((*slopes.shape[:2], 3, 3))
        kernels.deform(state, self.dofs[rows], slopes, self.axes[rows], f)
        return f

    def _points(self, rows: slice, state: np.ndarray, law: Law, bulk_kpa: float) -> tuple:
        """What `kernels.stiffness` needs of some elements.

        The energy is W(J^(-2/3) C) + p (J - 1) - p^2 / (2 kappa); Holzapfel, Nonlinear Solid Mechanics
        (2000), section 6.6, has its derivatives. A law may add a stress by C itself (`materials.direct`), and
        volume_kpa (J - 1 - ln J) at each point."""
        f = self.deformation(state, rows)
        points = f.shape[0] * f.shape[1]
        c, j = np.empty((6, points)), np.empty(points)
        kernels.strain(f, c, j)
        shrink = np.where(j > 0, np.cbrt(j) ** -2, np.nan)  # an element turned inside out has no energy
        s_bar, d_bar = law(shrink * c)
        more, more_d = direct(law, c) or (np.empty((0, points)), np.empty((0, 0, points)))
        return (
            state, self.dofs[rows], self.slopes[rows], self.weights[rows], self.pressures, f, c, j, shrink,
            s_bar, more, d_bar, more_d, float(bulk_kpa), float(getattr(law, "volume_kpa", 0.0)),
        )  # fmt: skip


class Sums:
    """Arrays (n,) for the parts of a sum, which stay: pages of new ones cost as much as the elements."""

    def __init__(self, n: int):
        self._n, self._parts = n, [None] * PARTS

    def zeros(self, part: int) -> np.ndarray:
        """The array of a part, set to zero."""
        if self._parts[part] is None:
            self._parts[part] = np.empty(self._n)
        self._parts[part].fill(0)
        return self._parts[part]

    def release(self) -> None:
        """The memory of all but the first, in which the sum is."""
        self._parts[1:] = [None] * (PARTS - 1)


def sum_of_parts(work: Callable, parts: Iterable, threads: int) -> np.ndarray:
    """Of what `work` returns for each part, added in their order to the first."""
    first, *others = parts
    if threads == 1:
        found = map(work, others)
    else:
        submitted = [_other_threads(threads - 1).submit(work, part) for part in others]
        found = (other.result() for other in submitted)
    total = work(first)
    for other in found:
        total += other
    return total


@cache
def _other_threads(n: int) -> ThreadPoolExecutor:
    """Kept, since a new thread starts work a millisecond late, a quarter of a product's time."""
    return ThreadPoolExecutor(n)


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


def _cross_matrix(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3), which times another vector is the cross product."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
