"""Raising the load from rest in automatic steps, and the curve back to rest. Owned by the simulation stage.

Steps on the way up are of equal work rather than of equal load (`newton`), grow where Newton's method
converges quickly and are halved where it does not. The way itself is of no interest and is gone loosely.

Fibres that resist tension only are hundreds of times softer once they are shortened, and at rest every one
is at the edge: Newton's method gropes for those that are, in a first step however small. So the full load is
reached by laws with a softened change (problem.approach), each nearer to the law itself, which then holds at
the end. The pressure-volume curve goes down from there, where few fibres change, obeying the law.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .factors import blas_on_one_thread
from .newton import LOOSE, TIGHT, Accuracy, Diverged, Falls, Tangent, equilibrium
from .problem import Problem
from .settings import SimulationSettings

log = logging.getLogger(__name__)

FIRST_STEP = 0.02  # largest displacement of the first step, in diagonals of the body
# factor of the next step where Newton's method took at most so many iterations
GROWTH = ((6, 4.0), (9, 2.0))
ITERATIONS = 20  # in an equilibrium at a stated load, which cannot be halved
# A residual is mostly of fibres that still change, which volumes hardly feel (0.02 mL on T2).
CURVE = Accuracy(5e-2, 2e-3, 1e-1)
# of evenly spaced numbers, for the shares of the curve: a heart is softest at rest
CURVE_POWER = 1.5
# Steps that lose load lie beyond the largest load in equilibrium; after so many it is known well.
MOST_FALLS = 4
LIMIT = "the largest load in equilibrium is {:.3g} of the full load"


@dataclass(frozen=True)
class Step:
    """A converged step: share of the load, Newton iterations, state (ndof,)."""

    share: float
    iterations: int
    state: np.ndarray


@dataclass(frozen=True)
class Run:
    """How an inflation ended: `complete` at the full load, otherwise `reason` says why not.

    `share` is the load's share of the last good state, which is left in problem.state.
    """

    complete: bool
    share: float
    steps: int
    halvings: int
    factorisations: int
    reason: str = ""


def inflate(problem: Problem, settings: SimulationSettings, keep: Callable[[Step], None]) -> Run:
    """Load the body; `keep` is called with the points of the curve from rest to the last good state.

    problem.state holds a point's state when `keep` is called, and the last good state at the end.
    """
    with blas_on_one_thread():
        tangent, vector = Tangent.of(problem), problem.state.vec.FV().NumPy()
        rest = Step(0.0, 0, vector.copy())
        path, halvings, reason = _rise(problem, tangent, rest, settings)
        last, ends = _obey(problem, tangent, path)
        reason = reason or ends
        curve = [rest]
        if last.share > 0:
            curve += _curve(problem, tangent, last, path, settings)
        for step in curve:
            vector[:] = step.state
            keep(step)
    return Run(bool(last.share == 1.0), last.share, len(path) - 1, halvings, tangent.factorisations, reason)


def _rise(
    problem: Problem, tangent: Tangent, rest: Step, settings: SimulationSettings
) -> tuple[list[Step], int, str]:
    """Steps to the full load by the first law of the approach; halvings; why not farther, or nothing."""
    soft = replace(problem, law=(*problem.approach, problem.law)[0])
    path, halvings, in_a_row, falls, work = [rest], 0, 0, 0, None
    while len(path) <= settings.max_steps:
        last = path[-1]
        try:
            if work is None:
                work = first_work(soft, tangent, last)
            force = soft.load(last.state)
            control = (force, last.state, work)
            start = (last.state, last.share)
            new = Step(*_ordered(equilibrium(soft, tangent, *start, settings.max_iterations, LOOSE, control)))
        except Diverged as error:
            halvings, in_a_row, falls = halvings + 1, in_a_row + 1, falls + isinstance(error, Falls)
            log.info("share %.4f: %s; the step is halved", last.share, error)
            if work is None or in_a_row > settings.max_halvings:
                return path, halvings, str(error)
            if falls > MOST_FALLS:
                return path, halvings, LIMIT.format(last.share)
            work, tangent.factorised = work / 2, False
            continue
        path.append(new)
        log.info("share %.4f of the load in %d iterations", new.share, new.iterations)
        if new.share == 1.0:
            return path, halvings, ""
        in_a_row = 0
        work = min(work, float(force @ (new.state - last.state)))  # less where it was too far for a step
        work *= 1.0 if falls else next((factor for most, factor in GROWTH if new.iterations <= most), 1.0)
    return path, halvings, f"{settings.max_steps} load steps were not enough"


def first_work(problem: Problem, tangent: Tangent, rest: Step) -> float:
    """Work of a step that moves the body by FIRST_STEP at most, by the tangent at rest."""
    tangent.assemble(problem, rest.state, 0.0)
    force = problem.load(rest.state)
    (along,) = tangent.solve(force[None], LOOSE.linear)
    largest = np.abs(along[: problem.n_displacements]).max()
    return float(force @ along) * FIRST_STEP * problem.diagonal_mm / largest


def _obey(problem: Problem, tangent: Tangent, path: list[Step]) -> tuple[Step, str]:
    """The equilibrium of the law itself at the last step of the path at which there is one; why not later."""
    laws, reason = (*problem.approach, problem.law)[1:] or (problem.law,), ""
    for step in reversed(path[1:]):
        state, used = step.state, step.iterations
        try:
            for law in laws:
                accuracy = TIGHT if law is problem.law else LOOSE
                stage = replace(problem, law=law)
                state, _, used = equilibrium(stage, tangent, state, step.share, ITERATIONS, accuracy)
                log.info("share %.4f by the next law in %d iterations", step.share, used)
            return Step(step.share, used, state), reason
        except Diverged as error:
            reason = reason or str(error)
            log.info("share %.4f: %s; a step back", step.share, error)
            tangent.factorised = False
    return path[0], reason


def _curve(
    problem: Problem, tangent: Tangent, top: Step, path: list[Step], settings: SimulationSettings
) -> list[Step]:
    """Points of the curve from the one after rest to `top`, solved downwards; those that are found."""
    shares = top.share * np.linspace(0, 1, settings.curve_points)[1:-1] ** CURVE_POWER
    found = [top]
    for share in shares[::-1]:
        for guess in (_guess, _other_guess):
            try:
                start = guess(problem, tangent, found, path, share)
                state, _, used = equilibrium(problem, tangent, start, share, ITERATIONS, CURVE)
            except Diverged as error:
                log.info("share %.4f of the curve: %s", share, error)
                tangent.factorised = False
                continue
            found.append(Step(float(share), used, state))
            break
        else:
            log.info("share %.4f of the curve is left out", share)
    return found[::-1]


def _guess(problem: Problem, tangent: Tangent, found: list[Step], path: list[Step], share: float):
    """State (ndof,) at a share below those of `found`: on the tangent of the first, later on the polynomial
    through rest and the last ones."""
    if len(found) > 1:
        return _between([path[0], *found[-3:]], share)
    (last,) = found
    tangent.assemble(problem, last.state, last.share)
    (along,) = tangent.solve(problem.load(last.state)[None], CURVE.linear)
    return last.state + (share - last.share) * along


def _other_guess(problem: Problem, tangent: Tangent, found: list[Step], path: list[Step], share: float):
    """The nearest to balance of states on the way up, and on polynomials without rest.

    The way up is all there is near the largest load.
    """
    after = next((i for i, step in enumerate(path) if step.share > share), len(path) - 1)
    guesses = [_between(path[max(after - 1, 0) : after + 1], share)]
    guesses += [_between(found[-count:], share) for count in range(2, min(len(found), 4) + 1)]
    with np.errstate(over="ignore"):
        sizes = [np.linalg.norm(problem.residual(guess, share)) for guess in guesses]
    return guesses[int(np.nanargmin(sizes))]


def _between(steps: list[Step], share: float) -> np.ndarray:
    """State (ndof,) at a share on the polynomial by the share's root through the steps."""
    at = np.sqrt([step.share for step in steps])
    weights = [
        np.prod((np.sqrt(share) - np.delete(at, i)) / (a - np.delete(at, i))) for i, a in enumerate(at)
    ]
    return sum(weight * step.state for weight, step in zip(weights, steps, strict=True))


def _ordered(found: tuple[np.ndarray, float, int]) -> tuple[float, int, np.ndarray]:
    state, share, used = found
    return float(share), used, state
