"""Laplace problems on the mesh with linear elements. Owned by the meshing stage."""

import numpy as np

from ..mesh.kernels import places
from ..runtime.errors import SubjectError
from . import kernels

TOLERANCE = 1e-8
STEPS = 5000
SIDEWAYS = 0.01  # weight of what a length may change across its direction, against along it


class Elements:
    """Linear elements on tets (M, 4) over points (N, 3), mm. ValueError where a node is in no tet.

    hats (M, 4, 3): gradients of the hat functions, per mm; volume (M,), mm3.
    """

    def __init__(self, points_mm: np.ndarray, tets: np.ndarray):
        self._tets = np.ascontiguousarray(tets, dtype=np.int64)
        # along an axis: neighbours close to each other in memory, and a seventh fewer steps
        self._order = np.argsort(points_mm[:, np.ptp(points_mm, axis=0).argmax()], kind="stable")
        number = np.empty(len(points_mm), dtype=np.int64)
        number[self._order] = np.arange(len(points_mm))
        self._numbered = number[self._tets]
        order, start = places(self._numbered, len(points_mm))
        if not np.diff(start).all():
            raise ValueError(f"{np.sum(np.diff(start) == 0)} nodes are in no tetrahedron")
        self._pattern = kernels.pattern(self._numbered, order, start)
        self.hats, self.volume = kernels.hats(np.ascontiguousarray(points_mm, dtype=float), self._tets)

    def solve(self, problems: list[dict[float, np.ndarray]]) -> np.ndarray:
        """Harmonic fields (len(problems), N), each given by values -> nodes held at that value.

        Where sets of nodes overlap the later one holds. SubjectError if the iteration does not converge.
        """
        nothing = np.zeros((len(self.volume), 4))
        return self._held(self._matrix(nothing, 1.0), [np.zeros(len(self._order))] * len(problems), problems)

    def gradients(self, fields: np.ndarray) -> np.ndarray:
        """Gradients (K, M, 3), per mm, of nodal fields (K, N) on the tets."""
        # of rises: a flat field has no slope, not one of rounding
        rises = fields[:, self._tets[:, 1:]] - fields[:, self._tets[:, :1]]
        return np.einsum("kma,mai->kmi", rises, self.hats[:, 1:])

    def directions(self, field: np.ndarray) -> np.ndarray:
        """Unit vectors (M, 3) on the tets along which a nodal field (N,) rises; zero where it is flat."""
        slope = self.gradients(field[None])[0]
        return slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), np.finfo(float).tiny)

    def lengths(self, direction: np.ndarray, *starts: tuple[float, np.ndarray]) -> np.ndarray:
        """Lengths (K, N), mm, of the path along unit vectors `direction` (M, 3) on the tets, or against it.

        starts: sense, 1 or -1, and the nodes where the path begins. The field d that fits direction . grad d
        = sense best (least squares), zero at its start (Schuler et al., Med Image Anal 2021; the equation is
        that of Yezzi and Prince, IEEE Trans Med Imaging 2003). A weak penalty on its change across the
        direction makes the answer unique and smooth.
        """
        along = np.einsum("mai,mi->ma", self.hats, direction)
        right = np.bincount(
            self._tets.ravel(), (self.volume[:, None] * along).ravel(), minlength=len(self._order)
        )
        values = self._matrix(along, SIDEWAYS)
        return self._held(
            values, [sense * right for sense, _ in starts], [{0.0: nodes} for _, nodes in starts]
        )

    def share_of_length(
        self, field: np.ndarray, start: np.ndarray, end: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """How far a node lies from `start` to `end` (nodes) along the gradient of `field` (N,).

        Share (N,) from 0 to 1, and length (N,) in mm of the whole path.
        """
        both = self.lengths(self.directions(field), (1.0, start), (-1.0, end))
        before, behind = np.maximum(both, 0.0)
        return before / np.maximum(before + behind, np.finfo(float).tiny), before + behind

    def _matrix(self, along: np.ndarray, sideways: float) -> np.ndarray:
        """Values in the order of the pattern; `along` and `sideways` as in `kernels.assemble`."""
        return kernels.assemble(self._numbered, self.hats, self.volume, along, sideways, *self._pattern)

    def _held(
        self, values: np.ndarray, rights: list[np.ndarray], problems: list[dict[float, np.ndarray]]
    ) -> np.ndarray:
        """Solutions (K, N) of symmetric systems of one matrix with values held at nodes."""
        fields = np.zeros((len(problems), len(self._order)))
        for first in range(0, len(problems), kernels.WIDTH):
            shape = (len(self._order), kernels.WIDTH)
            right, field, free = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
            some = slice(first, first + kernels.WIDTH)
            for k, (own, held) in enumerate(zip(rights[some], problems[some], strict=True)):
                right[:, k], free[:, k] = own, True
                for value, nodes in held.items():
                    field[nodes, k], free[nodes, k] = value, False
            right, field, free = (array[self._order] for array in (right, field, free))
            if not kernels.solve(*self._pattern, values, right, field, free, TOLERANCE, STEPS):
                raise SubjectError("Laplace problem not solved", f"no solution after {STEPS} steps")
            fields[some, self._order] = field[:, : len(problems[some])].T
        return fields


def part_of(
    points_mm: np.ndarray, tets: np.ndarray, *sets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Points and tets of some of a mesh's tets alone, and sets of its nodes as indices of the new points."""
    nodes, compact = np.unique(tets, return_inverse=True)
    return points_mm[nodes], compact.reshape(-1, 4), [np.flatnonzero(np.isin(nodes, s)) for s in sets]


def to_nodes(tets: np.ndarray, weights: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Averages (n, 3) at the nodes of vectors (M, 3) on the tets, weighted by `weights` (M,)."""
    total = np.zeros((n, 3))
    for column in range(4):
        for i in range(3):
            total[:, i] += np.bincount(tets[:, column], weights * values[:, i], minlength=n)
    mass = sum(np.bincount(tets[:, c], weights, minlength=n) for c in range(4))
    return total / np.maximum(mass, np.finfo(float).tiny)[:, None]
