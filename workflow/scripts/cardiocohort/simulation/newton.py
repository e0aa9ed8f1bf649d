"""Newton's method at a prescribed load, or at a prescribed work of the load. Owned by the simulation stage.

A factorisation is kept as long as it makes a good preconditioner for GMRES with the present tangent (which
has the unsymmetric part that follower pressures have at a free rim): the tangent changes in every
iteration, its factorisation is what costs.

At rest Holzapfel and Ogden's material is hundreds of times softer than at end-diastolic strains, so that
a step of load is tiny first and huge later. Prescribed work, the load's dot product with the displacement
(a weighted change of the cavities' volumes), goes evenly; the load that belongs to it is found along with the
displacements (the bordered system of arc-length methods: Riks, J Appl Mech 39:1060, 1972).
"""

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse

from .factors import Factors, Singular, factors
from .problem import Pattern, Problem

GMRES_STEPS = 16
PATIENCE = 4  # steps after which GMRES must be on the way to its aim within GMRES_STEPS
LARGEST_UPDATE = 0.025  # of the body's diagonal, in one iteration
# An update is halved where the residual grows beyond the larger of these: a multiple of the one before, and
# of the load. In an exponential law a small overshoot of the strain is a stress that nothing comes back from.
GROWTH, OVER_LOAD = 2.0, 20.0
HALVINGS = 8


class Diverged(Exception):
    """Newton's method did not find an equilibrium."""


class Falls(Diverged):
    """The equilibrium found lies beyond the largest load: it grows with less."""


@dataclass(frozen=True)
class Accuracy:
    """When an equilibrium is found: the residual over the load's norm, the last update over the body's
    diagonal; linear: relative residual of the linear systems on the way."""

    residual: float
    increment: float
    linear: float


LOOSE = Accuracy(3e-2, 3e-3, 1e-1)  # on the way
TIGHT = Accuracy(1e-4, 1e-4, 2e-2)


@dataclass
class Tangent:
    """The tangent at the present state, with the factorisation of this or an earlier one."""

    pattern: Pattern
    free: np.ndarray
    factors: Factors
    factorised: bool = False
    factorisations: int = 0
    values: np.ndarray = field(init=False)

    @classmethod
    def of(cls, problem: Problem) -> "Tangent":
        pattern = problem.pattern()
        n = int(problem.free.sum())
        return cls(pattern, problem.free, factors(pattern.rows, pattern.columns, n, problem.threads))

    def assemble(self, problem: Problem, state: np.ndarray, share: float) -> None:
        self.values, odd = problem.tangent(self.pattern, state, share)
        n = odd.shape[0]
        starts = np.searchsorted(self.pattern.rows, np.arange(n + 1))
        upper = scipy.sparse.csr_array((self.values, self.pattern.columns, starts), shape=(n, n))
        lower, diagonal = upper.T, upper.diagonal()
        self._times = lambda x: upper @ x + lower @ x - diagonal * x + odd @ x

    def times(self, along: np.ndarray) -> np.ndarray:
        """(ndof,): the tangent times `along`, zero at prescribed unknowns."""
        return self._spread(self._times(along[self.free]))

    def solve(self, right: np.ndarray, aim: float) -> np.ndarray:
        """Solution (ndof,) of the tangent for `right` up to a relative residual; Diverged if there is none."""
        solution = self._gmres(right[self.free], aim) if self.factorised else None
        if solution is None:
            self.factorised = False
            try:
                self.factors.factorise(self.values)
            except Singular as error:
                raise Diverged(f"the tangent could not be factorised ({error})") from error
            self.factorised = True
            self.factorisations += 1
            solution = self._gmres(right[self.free], aim)
        if solution is None:
            raise Diverged("the tangent could not be solved")
        return self._spread(solution)

    def _gmres(self, right: np.ndarray, aim: float) -> np.ndarray | None:
        """GMRES preconditioned from the right; None where it does not reach `aim` in GMRES_STEPS."""
        size = np.linalg.norm(right)
        if size == 0:
            return np.zeros_like(right)
        basis, tried, hessenberg = [right / size], [], np.zeros((GMRES_STEPS + 1, GMRES_STEPS))
        start = np.zeros(GMRES_STEPS + 1)
        start[0] = size
        for k in range(GMRES_STEPS):
            tried.append(self.factors.solve(basis[k]))
            new = self._times(tried[k])
            if not np.isfinite(new).all():
                return None
            for i, old in enumerate(basis):
                hessenberg[i, k] = old @ new
                new -= hessenberg[i, k] * old
            hessenberg[k + 1, k] = np.linalg.norm(new)
            small, rest = hessenberg[: k + 2, : k + 1], start[: k + 2]
            weights = np.linalg.lstsq(small, rest, rcond=None)[0]
            left = np.linalg.norm(rest - small @ weights) / size
            if left <= aim:
                return sum(w * t for w, t in zip(weights, tried, strict=True))
            if k + 1 >= PATIENCE and left > aim ** ((k + 1) / GMRES_STEPS):
                return None
            basis.append(new / hessenberg[k + 1, k])
        return None

    def _spread(self, values: np.ndarray) -> np.ndarray:
        out = np.zeros(len(self.free))
        out[self.free] = values
        return out


def equilibrium(
    problem: Problem,
    tangent: Tangent,
    state: np.ndarray,
    share: float,
    iterations: int,
    accuracy: Accuracy,
    work: tuple[np.ndarray, np.ndarray, float] | None = None,
) -> tuple[np.ndarray, float, int]:
    """State, share of the load and iterations at the equilibrium near `state`.

    With work = (force, origin, value) the share is free and force . (state - origin) = value, as long as the
    share is below 1; there it stays, as it does without. Raises Diverged if there is none within `iterations`,
    Falls if that of some work is beyond the largest load.
    """
    n, diagonal = problem.n_displacements, problem.diagonal_mm
    out, load = problem.residual(state, share), problem.load(state)
    for iteration in range(1, iterations + 1):
        tangent.assemble(problem, state, share)
        step, change = -tangent.solve(out, accuracy.linear), 0.0
        if work is not None:
            force, origin, value = work
            along = tangent.solve(load, accuracy.linear)
            change = (value - force @ (state - origin) - force @ step) / (force @ along)
            step += change * along
        largest = np.abs(step[:n]).max() / diagonal
        if not np.isfinite(largest):
            raise Diverged("the tangent could not be solved")
        part = min(1.0, LARGEST_UPDATE / largest) if largest else 1.0
        # the first iteration of a step of work starts from balance, so that its residual must grow
        bound = np.inf if work is not None and iteration == 1 else GROWTH * np.linalg.norm(out)
        for _ in range(HALVINGS):
            new, new_share = state + part * step, share + part * change
            if work is not None and new_share >= 1.0:
                new_share = 1.0
            out, load = problem.residual(new, new_share), problem.load(new)
            size, full = np.linalg.norm(out), np.linalg.norm(load)
            if size <= max(bound, OVER_LOAD * full):
                break
            part /= 2
        else:
            raise Diverged("the residual grows with every update, however small")
        state, share = new, new_share
        if work is not None and share == 1.0:
            work = None
        enough = size <= accuracy.residual * full * max(abs(share), 1e-6)
        if part == 1.0 and enough and largest <= accuracy.increment:
            if work is not None and load @ along <= 0:
                raise Falls("the load falls as the body grows")
            return state, share, iteration
    raise Diverged(f"no equilibrium within {iterations} iterations")
