"""Raising the load from rest in automatic steps. Owned by the simulation stage.

Steps are of equal work rather than of equal load (`newton`), grow where Newton's method converges quickly
and are halved where it does not. The last one is at the full load exactly.

Fibres that resist tension only are hundreds of times softer once they are shortened, and at rest every one
is at the edge: Newton's method gropes for those that are, in a first step however small. So the first step
is taken with fibres that resist both, and at its load their resistance to shortening is taken away little by
little.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import ngsolve as ng
import numpy as np

from .newton import Diverged, Tangent, equilibrium, load_vector, residual
from .problem import Problem
from .settings import SimulationSettings

log = logging.getLogger(__name__)

FIRST_STEP = 0.002  # largest displacement of the first step, in diagonals of the body
STIFFENED_STEP = 0.01  # the same where fibres resist shortening at first, which is then taken away in
SLACKENING = (0.2, 0.04, 0.008, 0.0)  # shares of their stiffness
AFTER_SLACKENING = 0.5  # work of the next step over that of the first, to which slackening has added much
# factor of the next step where Newton's method took at most so many iterations
GROWTH = ((4, 3.0), (7, 2.0), (9, 1.4))
OVERSHOOT = 1.1  # of the work that the full load is expected at, so that the last step passes it
# a step that loses load lies beyond the largest load that the body bears
LIMIT = "the body bears no more than {:.3g} of the load"


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
    """Load the body in steps; `keep` is called with every converged one, the first being rest.

    problem.state holds the last converged state when `keep` is called and at the end.
    """
    with ng.TaskManager():
        return _inflate(problem, settings, keep)


def _inflate(problem: Problem, settings: SimulationSettings, keep: Callable[[Step], None]) -> Run:
    tangent, vector = Tangent(problem), problem.state.vec.FV().NumPy()
    before, last = None, Step(0.0, 0, vector.copy())
    keep(last)
    steps = halvings = in_a_row = 0
    work, spent = None, 0.0  # of the next step and of the last one

    def end(reason: str = "") -> Run:
        return Run(not reason, last.share, steps, halvings, tangent.factorisations, reason)

    while steps < settings.max_steps:
        try:
            if work is None:
                work = _first_work(problem, tangent, last)
            if before is None:
                new, done = _first_step(problem, tangent, last, work, settings.max_iterations)
            else:
                guess = _guess(problem, before, last, work / spent)
                new, done = _advance(problem, tangent, last, guess, work, settings.max_iterations), work
        except Diverged as error:
            halvings, in_a_row = halvings + 1, in_a_row + 1
            log.info("share %.4f: %s; the step is halved", last.share, error)
            if work is None or in_a_row > settings.max_halvings:
                return end(str(error))
            work, tangent.factor = work / 2, None
            continue
        if new.share <= last.share:
            return end(LIMIT.format(last.share))
        before, last, spent = last, new, done
        steps, in_a_row = steps + 1, 0
        vector[:] = last.state
        keep(last)
        log.info("share %.4f of the load in %d iterations", last.share, last.iterations)
        if last.share == 1.0:
            return end()
        rate = (last.share - before.share) / spent
        growth = next((factor for most, factor in GROWTH if last.iterations <= most), 1.0)
        if steps == 1 and problem.compressed is not None:
            growth = AFTER_SLACKENING
        work = min(growth * spent, OVERSHOOT * (1 - last.share) / rate)
    return end(f"{settings.max_steps} load steps were not enough")


def _first_work(problem: Problem, tangent: Tangent, rest: Step) -> float:
    """Work of a step that moves the body by FIRST_STEP at most, by the tangent at rest."""
    most = FIRST_STEP
    if problem.compressed is not None:
        problem.compressed.Set(1.0)
        most = STIFFENED_STEP
    residual(problem, rest.state, 0.0)  # sets the load, of which the tangent is a function
    tangent.assemble(rest.state)
    force = load_vector(problem, rest.state)
    along = tangent.solve(force)
    largest = np.abs(along[: problem.n_displacements]).max()
    return float(force @ along) * most * problem.diagonal_mm / largest


def _first_step(
    problem: Problem, tangent: Tangent, rest: Step, work: float, iterations: int
) -> tuple[Step, float]:
    """The first step, and the work that was done in it: `work`, and what slackening fibres adds."""
    if problem.compressed is None:
        return _advance(problem, tangent, rest, rest.state, work, iterations), work
    force = load_vector(problem, rest.state)
    problem.compressed.Set(1.0)
    step = _advance(problem, tangent, rest, rest.state, work, iterations)
    for share in SLACKENING:
        problem.compressed.Set(share)
        state, _, used = equilibrium(problem, tangent, step.state, step.share, iterations)
        step = Step(step.share, used, state)
    return step, float(force @ (step.state - rest.state))


def _guess(problem: Problem, before: Step, last: Step, ahead: float) -> np.ndarray:
    """Where Newton's method starts: `ahead` times the last step farther, or where it ended.

    Of fibres that go slack and tighten the last step says little; the tangent at its end says more.
    """
    if problem.compressed is not None:
        return last.state
    return last.state + ahead * (last.state - before.state)


def _advance(
    problem: Problem, tangent: Tangent, last: Step, guess: np.ndarray, work: float, iterations: int
) -> Step:
    """The equilibrium `work` away from the last; that of the full load if it lies in between."""
    force = load_vector(problem, last.state)
    control = (force, last.state, work)
    state, share, used = equilibrium(problem, tangent, guess, last.share, iterations, control)
    if share < 1.0:
        return Step(share, used, state)
    between = last.state + (1.0 - last.share) / (share - last.share) * (state - last.state)
    state, _, more = equilibrium(problem, tangent, between, 1.0, iterations)
    return Step(1.0, used + more, state)
