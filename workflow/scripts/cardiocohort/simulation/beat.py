"""A heart that beats in a closed circulation. Owned by the simulation stage.

At each moment unknowns are displacements and pressures of the muscle, the pressures of both cavities, and the
circulation's state (`circulation`): a cavity's pressure is the Lagrange multiplier of the condition that its
volume is the circulation's. All are solved at once: the circulation's implicit step gives volumes and their
slopes by the pressures, which close the bordered system of Newton's method.

The muscle is quasi-static, with a viscosity that makes relaxation robust. A cavity's lid is the fan from its
rim's centroid; pressure on the lid is borne by what is not modelled. After each beat the ventricles are
replaced by elastances in time fitted to it, whose limit cycle is where the next beat starts (Regazzoni &
Quarteroni, Comput Methods Appl Mech Eng 373:113506, 2021).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import elements
from .active import Contracting, modified_tensors
from .circulation import V_LV, V_RV, Circulation, Course, NotClosed
from .cycle import Cycle
from .newton import GROWTH, HALVINGS, LARGEST_UPDATE, OVER_LOAD, Diverged, Tangent
from .problem import Problem

log = logging.getLogger(__name__)

RESIDUAL, INCREMENT, GAP_ML, LINEAR = 2e-3, 5e-4, 0.02, 5e-2
LEAST_PRESSURE_KPA = 0.5  # of the load's norm that residuals are measured by
EASY = 5  # iterations up to which a halved time step is doubled
ML = 1000.0  # mm3


@dataclass(frozen=True)
class Moment:
    """time (s); state (ndof,); pressures_kpa and volumes_ml (2,) of the cavities; loop (12,): the
    circulation's state; tension_kpa of the left ventricle."""

    time: float
    state: np.ndarray
    pressures_kpa: np.ndarray
    volumes_ml: np.ndarray
    loop: np.ndarray
    tension_kpa: float


class Cavities:
    """Both endocardia of a problem's mesh, with their lids."""

    def __init__(self, problem: Problem):
        space = problem.state.space
        names = {"lv_endo": 1.0, "rv_endo": 2.0}
        self.surface = elements.surface(space, names)
        self.which = np.abs(self.surface.pressure_kpa).astype(int) - 1
        self.outward = np.sign(self.surface.pressure_kpa)
        vertices = self.surface.dofs[:, :3]
        points = np.array([vertex.point for vertex in problem.mesh.vertices])
        self.places = np.einsum("qa,tai->tqi", self.surface.shapes[:, :3], points[vertices])
        n = problem.n_displacements // 3
        self.rims = []
        for cavity in range(2):
            own = vertices[self.which == cavity]
            edges = np.sort(np.concatenate([own[:, [0, 1]], own[:, [1, 2]], own[:, [2, 0]]]), axis=1)
            edges, count = np.unique(edges, axis=0, return_counts=True)
            rim = np.unique(edges[count == 1])
            self.rims.append((points[rim].mean(axis=0), rim[:, None] + n * np.arange(3)))

    def loaded(self, pressures: np.ndarray) -> elements.Surface:
        """The surface under the cavities' pressures (2,) in kPa."""
        return replace(self.surface, pressure_kpa=self.outward * pressures[self.which])

    def under(self, body: Problem, pressures: np.ndarray) -> Problem:
        """The body under the cavities' pressures (2,) in kPa."""
        valves = body.valves and replace(body.valves, pressure_kpa=pressures)
        return replace(body, surface=self.loaded(pressures), valves=valves)

    def volumes(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(2,) in mL, and their slopes (2, ndof) by the state (mL/mm)."""
        surface = self.surface
        nodes = state[surface.dofs].reshape(-1, 3, 6)
        moved = surface.moved(state)
        one, two = moved[..., 0], moved[..., 1]
        weights = (self.outward[:, None] * surface.weights)[..., None]
        area = weights * np.cross(one, two)
        at = self.places + np.einsum("qa,tia->tqi", surface.shapes, nodes)
        volumes, slopes = np.zeros(2), np.zeros((2, len(state)))
        for cavity, (centre, rim) in enumerate(self.rims):
            own = self.which == cavity
            lid = centre + state[rim].mean(axis=0)
            arm = at[own] - lid
            volumes[cavity] = -(arm * area[own]).sum() / 3 / ML
            by = np.einsum("qa,tqi->tia", surface.shapes, area[own])
            by += np.einsum("qa,tqi->tia", surface.slopes[..., 0], weights[own] * np.cross(two[own], arm))
            by += np.einsum("qa,tqi->tia", surface.slopes[..., 1], weights[own] * np.cross(arm, one[own]))
            np.add.at(slopes[cavity], surface.dofs[own].ravel(), -by.reshape(len(by), -1).ravel() / 3 / ML)
            slopes[cavity][rim] += area[own].sum(axis=(0, 1)) / 3 / ML / len(rim)
        return volumes, slopes


class Heart:
    """The muscle, its cavities and the circulation; what a time step needs."""

    def __init__(self, problem: Problem, cycle: Cycle, tension_share: np.ndarray, body_size: float = 1.0):
        self.cavities = Cavities(problem)
        self.body = replace(problem, surface=self.cavities.surface)
        self.tangent = Tangent.of(self.body)
        self.cycle = cycle
        self.circulation = Circulation(
            period=60.0 / cycle.heart_rate_per_min,
            resistances=tuple(
                r * f
                for r, f in zip(Circulation.resistances, (cycle.systemic_resistance, 1, 1, 1), strict=True)
            ),
        ).of_size(body_size)
        self.stated_resistance = self.circulation.resistances[0]  # kPa s/mL, of the systemic arteries
        period = self.circulation.period
        self.course = Course(period, 0.0, cycle.contraction_s, cycle.relaxation_s)
        self.tension_share = tension_share

    def tension(self, time: float) -> float:
        return self.cycle.tension_kpa * self.course(time)

    def law(self, last: Moment, time: float, before: np.ndarray) -> Contracting:
        tension, c = self.tension(time) * self.tension_share, self.cycle
        dt = time - last.time
        return Contracting(
            self.body.law, tension, c.tension_across, c.length_dependence, c.viscosity_kpa_s, dt, before
        )

    def advance(self, last: Moment, dt: float, guess: np.ndarray) -> tuple[Moment, int]:
        """The moment dt after `last`, and Newton iterations; Diverged or NotClosed if there is none."""
        body, time = self.body, last.time + dt
        law = self.law(last, time, modified_tensors(body.solid, last.state))
        state, pressures = guess, last.pressures_kpa.copy()
        n, free, largest, part, size = body.n_displacements, body.free, np.inf, 1.0, np.inf
        loaded = self.cavities.under(replace(body, law=law), pressures)
        out = loaded.residual(state, 1.0)
        for iteration in range(self.cycle.max_iterations + 1):
            loads = np.array([self._load(body, state, cavity) for cavity in range(2)])
            volumes, slopes = self.cavities.volumes(state)
            loop, by_pressure = self.circulation.step(last.loop, time, dt, pressures)
            gap = loop[[V_LV, V_RV]] - volumes
            scale = np.linalg.norm(np.maximum(np.abs(pressures), LEAST_PRESSURE_KPA) @ loads)
            size = np.linalg.norm(out)
            near = largest <= INCREMENT and part == 1.0
            if near and size <= RESIDUAL * scale and np.abs(gap).max() <= GAP_ML:
                return Moment(time, state, pressures, volumes, loop, self.tension(time)), iteration
            self.tangent.assemble(loaded, state, 1.0)
            along, *by = self.tangent.solve(np.array([-out, *loads]), LINEAR)
            by = np.array(by)
            border = (slopes * free) @ by.T - by_pressure
            change = np.linalg.solve(border, gap - (slopes * free) @ along)
            step = along + change @ by
            largest = np.abs(step[:n]).max() / body.diagonal_mm
            if not np.isfinite(largest):
                raise Diverged("the tangent could not be solved")
            part = min(1.0, LARGEST_UPDATE / largest)
            for _ in range(HALVINGS):
                new, pressed = state + part * step, pressures + part * change
                loaded = self.cavities.under(replace(body, law=law), pressed)
                out = loaded.residual(new, 1.0)
                with np.errstate(over="ignore"):
                    found = np.linalg.norm(out)
                if np.isfinite(found) and found <= max(GROWTH * size, OVER_LOAD * scale):
                    break
                part /= 2
            else:
                raise Diverged("the residual grows with every update, however small")
            state, pressures = new, pressed
        raise Diverged(f"no equilibrium within {self.cycle.max_iterations} iterations")

    def _load(self, body: Problem, state: np.ndarray, cavity: int) -> np.ndarray:
        unit = np.eye(2)[cavity]
        return self.cavities.under(body, unit).load(state)


def run_beat(
    heart: Heart,
    moments: list[Moment],
    start: float,
    keep: Callable[[list[Moment], int], None],
    failures: int = 0,
) -> tuple[list[Moment], int, str]:
    """All moments of the beat that began at `start` (s), from the first ones on; Newton iterations; why it
    ended early, or nothing. `keep` is called with the moments so far, and how many steps had no solution.

    Steps are halved where Newton's method fails, at most cycle.max_halvings times in a row, and
    cycle.max_failures times in all, of which `failures` were before.
    """
    cycle, period = heart.cycle, heart.circulation.period
    moments, used, in_a_row = list(moments), 0, 0
    dt = full = period / cycle.steps
    while (left := start + period - moments[-1].time) > 1e-9:
        last, step = moments[-1], min(dt, left)
        guesses = [last.state]
        if len(moments) > 1:
            before = moments[-2]
            pace = step / (last.time - before.time)
            guesses.insert(0, last.state + pace * (last.state - before.state))
        new = None
        for guess in guesses:
            try:
                new, iterations = heart.advance(last, step, guess)
                break
            except (Diverged, NotClosed) as error:
                reason = f"at {last.time:.4f} s: {error}"
                heart.tangent.factorised = False
        if new is None:
            in_a_row, failures, dt = in_a_row + 1, failures + 1, dt / 2
            log.info("%s; the time step is halved", reason)
            if in_a_row > cycle.max_halvings:
                return moments, used, reason
            if failures >= cycle.max_failures:
                tried = f"{failures} time steps of the beat had no solution (simulation.cycle.max_failures)"
                return moments, used, f"{reason}; {tried}"
            continue
        used, in_a_row = used + iterations, 0
        if iterations <= EASY:
            dt = min(full, 2 * dt)
        moments.append(new)
        keep(moments, failures)
        log.info(
            "%.4f s: LV %.2f kPa %.1f mL, RV %.2f kPa %.1f mL, tension %.1f kPa, %d iterations",
            new.time, new.pressures_kpa[0], new.volumes_ml[0], new.pressures_kpa[1], new.volumes_ml[1],
            new.tension_kpa, iterations,
        )  # fmt: skip
    return moments, used, ""
