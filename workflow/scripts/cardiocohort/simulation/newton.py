"""Newton's method at a prescribed load, or at a prescribed work of the load. Owned by the simulation stage.

A factorisation is kept as long as it makes a good preconditioner for GMRES with the present tangent (which
has the unsymmetric part that follower pressures have at a free rim): the tangent changes in every
iteration, its factorisation is what costs.

At rest Holzapfel and Ogden's material is hundreds of times softer than at end-diastolic strains, so that
a step of load is tiny first and huge later. Prescribed work, the load's dot product with the displacement
(a weighted change of the cavities' volumes), goes evenly; the load that belongs to it is found along with the
displacements (the bordered system of arc-length methods: Riks, J Appl Mech 39:1060, 1972).
"""

from dataclasses import dataclass

import ngsolve as ng
import numpy as np

from .problem import Problem

RESIDUAL = 1e-4  # of the load's norm
INCREMENT = 1e-4  # of the body's diagonal
LINEAR = 1e-4
GMRES_STEPS = 20
PATIENCE = 4  # steps after which GMRES must be on the way to LINEAR within GMRES_STEPS


class Diverged(Exception):
    """Newton's method did not find an equilibrium."""


@dataclass
class Tangent:
    """The tangent at the present state, with the factorisation of this or an earlier one."""

    problem: Problem
    factor: ng.BaseMatrix | None = None
    factorisations: int = 0

    def assemble(self, state: np.ndarray) -> None:
        self.problem.form.AssembleLinearization(_vector(self.problem, state))

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Solution (ndof,) of the tangent for `right`; Diverged if there is none."""
        if self.factor is not None:
            solution = self._gmres(right)
            if solution is not None:
                return solution
        self.factor = None  # the old one's memory is free before the new one takes its own
        bits = ng.BitArray(self.problem.free.tolist())
        self.factor = self.problem.form.mat.Inverse(bits, inverse="sparsecholesky")
        self.factorisations += 1
        solution = self._gmres(right)
        if solution is None:
            raise Diverged("the tangent could not be solved")
        return solution

    def _gmres(self, right: np.ndarray) -> np.ndarray | None:
        """GMRES preconditioned from the right; None where it does not reach LINEAR in GMRES_STEPS."""
        size = np.linalg.norm(right)
        if size == 0:
            return np.zeros_like(right)
        basis, tried, hessenberg = [right / size], [], np.zeros((GMRES_STEPS + 1, GMRES_STEPS))
        start = np.zeros(GMRES_STEPS + 1)
        start[0] = size
        for k in range(GMRES_STEPS):
            tried.append(self._apply(self.factor, basis[k]))
            new = self._apply(self.problem.form.mat, tried[k]) * self.problem.free
            if not np.isfinite(new).all():
                return None
            for i, old in enumerate(basis):
                hessenberg[i, k] = old @ new
                new -= hessenberg[i, k] * old
            hessenberg[k + 1, k] = np.linalg.norm(new)
            small, rest = hessenberg[: k + 2, : k + 1], start[: k + 2]
            weights = np.linalg.lstsq(small, rest, rcond=None)[0]
            left = np.linalg.norm(rest - small @ weights) / size
            if left <= LINEAR:
                return sum(w * t for w, t in zip(weights, tried, strict=True))
            if k + 1 >= PATIENCE and left > LINEAR ** ((k + 1) / GMRES_STEPS):
                return None
            basis.append(new / hessenberg[k + 1, k])
        return None

    def _apply(self, matrix: ng.BaseMatrix, values: np.ndarray) -> np.ndarray:
        into = self.problem.state.vec.CreateVector()
        into.data = matrix * _vector(self.problem, values)
        return into.FV().NumPy().copy()


def residual(problem: Problem, state: np.ndarray, share: float) -> np.ndarray:
    """Forces out of balance (ndof,), zero at prescribed unknowns."""
    problem.share.Set(share)
    return _applied(problem, problem.form, state)


def load_vector(problem: Problem, state: np.ndarray) -> np.ndarray:
    """Force of the full load (ndof,) on the deformed surface, positive where it pushes."""
    return -_applied(problem, problem.load, state)


def equilibrium(
    problem: Problem,
    tangent: Tangent,
    state: np.ndarray,
    share: float,
    iterations: int,
    work: tuple[np.ndarray, np.ndarray, float] | None = None,
) -> tuple[np.ndarray, float, int]:
    """State, share of the load and iterations at the equilibrium near `state`.

    With work = (force, origin, value) the share is free and force . (state - origin) = value; else it stays.
    Raises Diverged if there is none within `iterations`.
    """
    n = problem.n_displacements
    out = residual(problem, state, share)
    for iteration in range(1, iterations + 1):
        tangent.assemble(state)
        step = -tangent.solve(out)
        if work is not None:
            force, origin, value = work
            along = tangent.solve(load_vector(problem, state))
            missing = value - force @ (state - origin) - force @ step
            change = missing / (force @ along)
            step, share = step + change * along, share + change
        state = state + step
        out = residual(problem, state, share)
        size = np.linalg.norm(out)
        if not np.isfinite(size):
            raise Diverged("a deformation gradient or a stress is not finite")
        aim = RESIDUAL * np.linalg.norm(load_vector(problem, state)) * max(abs(share), 1e-6)
        if size <= aim and np.abs(step[:n]).max() <= INCREMENT * problem.diagonal_mm:
            return state, share, iteration
    raise Diverged(f"no equilibrium within {iterations} iterations")


def _applied(problem: Problem, form: ng.BilinearForm, state: np.ndarray) -> np.ndarray:
    into = problem.state.vec.CreateVector()
    form.Apply(_vector(problem, state), into)
    return into.FV().NumPy() * problem.free


def _vector(problem: Problem, values: np.ndarray) -> ng.BaseVector:
    vector = problem.state.vec.CreateVector()
    vector.FV().NumPy()[:] = values
    return vector
