"""Newton's method at a prescribed load, or at a prescribed work of the load. Owned by the simulation stage.

A factorisation is kept as long as it makes a good preconditioner of a Krylov method with the present tangent
(which has the unsymmetric part that follower pressures have at a free rim): the tangent changes in every
iteration, its factorisation is what costs.

At rest Holzapfel and Ogden's material is hundreds of times softer than at end-diastolic strains, so that
a step of load is tiny first and huge later. Prescribed work, the load's dot product with the displacement
(a weighted change of the cavities' volumes), goes evenly; the load that belongs to it is found along with the
displacements (the bordered system of arc-length methods: Riks, J Appl Mech 39:1060, 1972).
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from . import elements, kernels
from .factors import Factors, Pardiso, Singular, factors
from .problem import Pattern, Problem

KRYLOV_STEPS = 16
PATIENCE = 4  # steps after which the residual must be on the way to its aim within KRYLOV_STEPS
LARGEST_UPDATE = 0.025  # of the body's diagonal, in one iteration
# An update is halved where the residual grows beyond the larger of these: a multiple of the one before, and
# of the load: many times the full one in steps of work, else the present one. In an exponential law a small
# overshoot of the strain is a stress that nothing comes back from.
GROWTH, OVER_LOAD = 2.0, 20.0
# A step of work starts from balance, along its tangent. Where the residual then grows beyond this multiple of
# the full load, the law stiffens on the way: a shorter step takes fewer iterations than the way back.
OFF_BALANCE = 0.5
TRIAL = 3  # iterations after which a step of work must be nearer to balance than after the first one
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
    n_unknowns: int
    factors: Factors
    costly_pairs: bool = False  # two right sides at once take twice the time of one
    factorised: bool = False
    factorisations: int = 0
    values: np.ndarray = field(init=False)  # (nnz,)
    along_loads: np.ndarray = ()  # (k - 1, n): last solutions for rights after the first
    sums: elements.Sums = field(init=False)

    def __post_init__(self):
        self.sums = elements.Sums(len(self.pattern.columns) + 1)

    @classmethod
    def of(cls, problem: Problem) -> "Tangent":
        pattern = problem.pattern()
        n = len(pattern.order)
        parts = pattern.rows, pattern.columns, n, problem.threads, pattern.blocks
        found = factors(problem.library, *parts)
        costly_pairs = isinstance(found, Pardiso) and problem.threads > 1
        return cls(pattern, len(problem.free), found, costly_pairs)

    def assemble(self, problem: Problem, state: np.ndarray, share: float) -> None:
        self.values, odd = problem.tangent(self.pattern, state, share, self.sums)
        rows = self.pattern.starts, self.pattern.blocks
        ends = self.pattern.starts[self.pattern.blocks]
        shares = np.searchsorted(ends, np.linspace(0, ends[-1], elements.PARTS + 1))

        def times(x: np.ndarray) -> np.ndarray:
            def part(share: tuple[int, int]) -> np.ndarray:
                out = np.zeros(len(x))
                kernels.multiply(self.values, self.pattern.columns, *rows, *share, x, out)
                return out

            return elements.sum_of_parts(part, pairwise(shares), problem.threads) + odd @ x

        self._times = times

    def times(self, along: np.ndarray) -> np.ndarray:
        """(ndof,): the tangent times `along`, zero at prescribed unknowns."""
        return self._spread(self._times(along[self.pattern.order]))

    def precondition(self, right: np.ndarray) -> np.ndarray:
        """(ndof,): solution for `right` (ndof,) by the last factors, zero at prescribed unknowns."""
        return self._spread(self.factors.solve(right[self.pattern.order][None])[0])

    def solve(self, rights: np.ndarray, aim: float) -> np.ndarray:
        """Solutions of the tangent for `rights` (k, ndof), each up to a relative residual `aim`.

        Rights after the first are loads, which change little from one iteration to the next: where pairs are
        costly their last solutions are where they start. Raises Diverged if there are none.
        """
        free = rights[:, self.pattern.order]
        found = self._krylov(free, aim) if self.factorised else None
        if found is None:
            self.factorised = False
            self.sums.release()
            try:
                self.factors.factorise(self.values)
            except Singular as error:
                raise Diverged(f"the tangent could not be factorised ({error})") from error
            self.factorised = True
            self.factorisations += 1
            found = self._krylov(free, aim)
            if found is None and self.factors.sharpen():
                return self.solve(rights, aim)
        if found is None:
            raise Diverged("the tangent could not be solved")
        if self.costly_pairs and len(found) > 1:
            self.along_loads = found[1:]
        return np.array([self._spread(row) for row in found])

    def _krylov(self, rights: np.ndarray, aim: float) -> np.ndarray | None:
        """Least residuals of all right sides in one space (GCR), which the factors precondition.

        It has the iterates of GMRES (Eisenstat, Elman & Schultz, SIAM J Numer Anal 20:345, 1983). None where
        `aim` is not reached in KRYLOV_STEPS.
        """
        sizes = np.linalg.norm(rights, axis=1)
        left, found, basis = rights.copy(), np.zeros_like(rights), []
        for row, guess in zip(range(1, len(rights)), self.along_loads, strict=False):
            after = rights[row] - self._times(guess)
            if np.linalg.norm(after) < sizes[row]:
                left[row], found[row] = after, guess
        for step in range(KRYLOV_STEPS + 1):
            ratios = np.linalg.norm(left, axis=1) / np.where(sizes > 0, sizes, 1)
            worst = ratios.max()
            if worst <= aim:
                return found
            if not np.isfinite(worst) or (step >= PATIENCE and worst > aim ** (step / KRYLOV_STEPS)):
                return None
            try:
                tried = self.factors.solve(left[ratios > aim])
            except Singular:
                return None
            for new in tried:
                image = self._times(new)
                for old, old_image in basis:
                    weight = old_image @ image
                    image -= weight * old_image
                    new -= weight * old
                size = np.linalg.norm(image)
                if size > 0:
                    basis.append((new / size, image / size))
                    weights = left @ basis[-1][1]
                    found += weights[:, None] * basis[-1][0]
                    left -= weights[:, None] * basis[-1][1]
        return None

    def _spread(self, values: np.ndarray) -> np.ndarray:
        out = np.zeros(self.n_unknowns)
        out[self.pattern.order] = values
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
    share is below 1; there it stays, as it does without. A value too far for one step is lowered.
    Raises Diverged if there is none within `iterations`, Falls if that of some work is beyond the largest
    load.
    """
    n, diagonal = problem.n_displacements, problem.diagonal_mm
    out, load = problem.residual(state, share), problem.load(state)
    # a step of work is far from balance on its way; at a stated load, no update needs more than that load
    stepping = work is not None
    excess = OVER_LOAD if stepping else share
    for iteration in range(1, iterations + 1):
        tangent.assemble(problem, state, share)
        rights = np.array([-out]) if work is None else np.array([-out, load])
        step, *more = tangent.solve(rights, accuracy.linear)
        change = 0.0
        if work is not None:
            (force, origin, value), (along,) = work, more
            change = (value - force @ (state - origin) - force @ step) / (force @ along)
            step += change * along
        largest = np.abs(step[:n]).max() / diagonal
        if not np.isfinite(largest):
            raise Diverged("the tangent could not be solved")
        part = min(1.0, LARGEST_UPDATE / largest) if largest else 1.0
        starts, whole = work is not None and iteration == 1, part
        bound, multiple = GROWTH * np.linalg.norm(out), OFF_BALANCE if starts else excess
        for _ in range(HALVINGS):
            new, new_share = state + part * step, share + part * change
            if work is not None and new_share >= 1.0:
                new_share = 1.0
            out, load = problem.residual(new, new_share), problem.load(new)
            with np.errstate(over="ignore"):  # of an exponential law, which the bound then refuses
                size, full = np.linalg.norm(out), np.linalg.norm(load)
            if np.isfinite(size) and size <= max(bound, multiple * full):
                break
            part /= 2
        else:
            raise Diverged("the residual grows with every update, however small")
        if starts:
            begun = size
        elif stepping and iteration >= TRIAL and size > begun:
            raise Diverged(f"the residual has grown in {iteration} iterations")
        state, share = new, new_share
        if starts and part < whole:
            work = (force, origin, force @ (state - origin))
        if work is not None and share == 1.0:
            work = None
        enough = size <= accuracy.residual * full * max(abs(share), 1e-6)
        if part == 1.0 and enough and largest <= accuracy.increment:
            if work is not None and load @ along <= 0:
                raise Falls("the load falls as the body grows")
            return state, share, iteration
    raise Diverged(f"no equilibrium within {iterations} iterations")
