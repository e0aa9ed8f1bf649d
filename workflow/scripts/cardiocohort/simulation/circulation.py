"""A closed loop of circulation without space, coupled to both ventricles. Owned by the simulation stage.

The model is that of Regazzoni et al., J Comput Phys 457:111083 (2022): systemic and pulmonary arteries and
veins are resistances, compliances and inertances, atria are elastances that vary in time, and four valves are
diodes that resist a little forwards and much backwards. Volumes mL, pressures kPa, flows mL/s, times s.

Time steps are implicit (backward Euler). Ventricles are pressures that are given, or elastances too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from .cycle import activation

MMHG = 0.133322  # kPa
# unknowns of the loop
V_LA, V_LV, V_RA, V_RV, P_AR_SYS, P_VEN_SYS, P_AR_PUL, P_VEN_PUL = range(8)
Q_AR_SYS, Q_VEN_SYS, Q_AR_PUL, Q_VEN_PUL = range(8, 12)
NAMES = (
    "la_volume_ml", "lv_volume_ml", "ra_volume_ml", "rv_volume_ml", "systemic_arteries_kpa",
    "systemic_veins_kpa", "pulmonary_arteries_kpa", "pulmonary_veins_kpa", "systemic_arteries_ml_s",
    "systemic_veins_ml_s", "pulmonary_arteries_ml_s", "pulmonary_veins_ml_s",
)  # fmt: skip
CHAMBERS = (V_LA, V_LV, V_RA, V_RV)
VALVE_SMOOTH_KPA = 0.01  # around equal pressures a valve opens smoothly, for Newton's method
ITERATIONS, CLOSED = 60, 1e-11


class NotClosed(Exception):
    """The loop's equations of a time step were not solved."""


@dataclass(frozen=True)
class Chamber:
    """p = (passive + active * activation(t)) (V - unstressed); kPa/mL and mL."""

    passive: float
    active: float
    unstressed: float
    activation: Callable[[float], float]

    def elastance(self, time: float) -> float:
        return self.passive + self.active * self.activation(time)

    def rest(self, time: float) -> float:
        return self.unstressed


@dataclass(frozen=True)
class Followed:
    """p = p(t) + k(t) (V - V(t)): near the pressures (kPa) and volumes (mL) of a beat at `times` (s) from its
    start, with stiffnesses k (kPa/mL), all (n,)."""

    period: float
    times: np.ndarray
    pressures: np.ndarray
    volumes: np.ndarray
    stiffnesses: np.ndarray

    def elastance(self, time: float) -> float:
        return self._at(self.stiffnesses, time)

    def rest(self, time: float) -> float:
        return self._at(self.volumes, time) - self._at(self.pressures, time) / self.elastance(time)

    def _at(self, values: np.ndarray, time: float) -> float:
        return float(np.interp(time % self.period, self.times, values))


Ventricle = Chamber | Followed


@dataclass(frozen=True)
class Circulation:
    """Parameters of the loop: kPa s/mL, mL/kPa, kPa s2/mL, in the order of the pressures of its state.

    Those of Regazzoni et al. (2022), but for the pulmonary resistances: 0.07 mmHg s/mL each gives a healthy
    mean pulmonary pressure; 0.1625 gives some 30 mmHg.
    """

    period: float = 0.8
    resistances: tuple = (0.8 * MMHG, 0.26 * MMHG, 0.07 * MMHG, 0.07 * MMHG)
    compliances: tuple = (1.2 / MMHG, 60.0 / MMHG, 10.0 / MMHG, 16.0 / MMHG)
    inertances: tuple = (5e-3 * MMHG, 5e-4 * MMHG, 5e-4 * MMHG, 5e-4 * MMHG)
    valve_open: float = 0.0075 * MMHG
    valve_closed: float = 75006.2 * MMHG
    la: tuple = (0.09 * MMHG, 0.07 * MMHG, 4.0)
    ra: tuple = (0.07 * MMHG, 0.06 * MMHG, 4.0)
    atrial_onset: float = 0.8  # of the period
    atrial_contraction: float = 0.17  # s
    atrial_relaxation: float = 0.17
    atria: tuple[Chamber, Chamber] = field(init=False)

    def __post_init__(self):
        course = Course(
            self.period, self.atrial_onset * self.period, self.atrial_contraction, self.atrial_relaxation
        )
        object.__setattr__(self, "atria", (Chamber(*self.la, course), Chamber(*self.ra, course)))

    def of_size(self, size: float) -> "Circulation":
        """That of a body `size` times as large: its flows and volumes are, at the same pressures and times.

        So compliances grow with the body, and resistances, inertances and elastances fall: cardiac output and
        vascular resistance are indexed to the body's surface in that way.
        """

        def divided(values: tuple) -> tuple:
            return tuple(value / size for value in values)

        def atrium(passive: float, active: float, unstressed: float) -> tuple:
            return passive / size, active / size, unstressed * size

        return replace(
            self,
            resistances=divided(self.resistances),
            compliances=tuple(size * value for value in self.compliances),
            inertances=divided(self.inertances),
            valve_open=self.valve_open / size,
            valve_closed=self.valve_closed / size,
            la=atrium(*self.la),
            ra=atrium(*self.ra),
        )

    def with_systemic_resistance(self, kpa_s_ml: float) -> "Circulation":
        """With this resistance of the systemic arteries."""
        return replace(self, resistances=(kpa_s_ml, *self.resistances[1:]))

    def volume(self, state: np.ndarray) -> float:
        """All blood of the loop (mL), above the unstressed volume of its vessels."""
        return float(state[list(CHAMBERS)].sum() + state[P_AR_SYS : P_VEN_PUL + 1] @ self.compliances)

    def step(
        self,
        state: np.ndarray,
        time: float,
        dt: float,
        pressures: np.ndarray,
        ventricles: tuple[Ventricle, Ventricle] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """State at `time`, dt after `state`, and the slopes (2, 2) of the ventricles' volumes by `pressures`.

        pressures (2,): at `time`, of the left and the right ventricle, on top of those of `ventricles`.
        Raises NotClosed.
        """
        elastance, unstressed = np.zeros(4), np.zeros(4)
        chambers = {0: self.atria[0], 2: self.atria[1]}
        if ventricles is not None:
            chambers |= {1: ventricles[0], 3: ventricles[1]}
        for place, chamber in chambers.items():
            elastance[place], unstressed[place] = chamber.elastance(time), chamber.rest(time)
        given = np.array([0.0, pressures[0], 0.0, pressures[1]])
        new = state.copy()
        for _ in range(ITERATIONS):
            rates, slopes, by_pressure = self._rates(
                new, given + elastance * (new[:4] - unstressed), elastance
            )
            out = new - state - dt * rates
            if np.abs(out).max() <= CLOSED * (1 + np.abs(new).max()):
                by = np.linalg.solve(np.eye(12) - dt * slopes, dt * by_pressure)
                return new, by[np.ix_([V_LV, V_RV], [1, 3])]
            new = new - np.linalg.solve(np.eye(12) - dt * slopes, out)
        raise NotClosed(f"the circulation's step of {dt:.2g} s at {time:.4f} s was not solved")

    def beat(
        self, state: np.ndarray, ventricles: tuple[Ventricle, Ventricle], steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """States (steps + 1, 12) of a beat of elastances from `state`, and ventricular pressures (., 2)."""
        states, times = [state], np.linspace(0, self.period, steps + 1)
        for time in times[1:]:
            new, _ = self.step(states[-1], time, self.period / steps, np.zeros(2), ventricles)
            states.append(new)
        states = np.array(states)
        pressures = [
            [c.elastance(t) * (v - c.rest(t)) for c, v in zip(ventricles, row, strict=True)]
            for t, row in zip(times, states[:, [V_LV, V_RV]], strict=True)
        ]
        return states, np.array(pressures)

    def limit_cycle(
        self, state: np.ndarray, ventricles: tuple[Ventricle, Ventricle], steps: int = 80, most: int = 60
    ) -> np.ndarray:
        """State (12,) at the start of a beat that repeats itself within 0.05 mL and kPa."""
        for _ in range(most):
            new = self.beat(state, ventricles, steps)[0][-1]
            if np.abs(new - state)[:8].max() < 0.05:
                break
            state = new
        return new

    def _rates(self, state: np.ndarray, pressures: np.ndarray, elastance: np.ndarray):
        """Time derivatives (12,), their slopes (12, 12) by the state, and (12, 4) by the given pressures."""
        flows, forward = np.empty(4), np.zeros((4, 12))  # valves: mitral, aortic, tricuspid, pulmonary
        by_given = np.zeros((4, 4))
        # from chamber or vessel to chamber or vessel: place of the pressure, -1 where it is an unknown
        for valve, (a, b) in enumerate(((0, 1), (1, P_AR_SYS), (2, 3), (3, P_AR_PUL))):
            drop = pressures[a] - (pressures[b] if b < 4 else state[b])
            flows[valve], slope = self._valve(drop)
            forward[valve, a] += slope * elastance[a]
            by_given[valve, a] += slope
            forward[valve, b] -= slope * (elastance[b] if b < 4 else 1.0)
            if b < 4:
                by_given[valve, b] -= slope
        rates, slopes, by = np.zeros(12), np.zeros((12, 12)), np.zeros((12, 4))

        def flow(into: int, scale: float, valve: int | None = None, unknown: int | None = None) -> None:
            if valve is not None:
                rates[into] += scale * flows[valve]
                slopes[into] += scale * forward[valve]
                by[into] += scale * by_given[valve]
            else:
                rates[into] += scale * state[unknown]
                slopes[into, unknown] += scale

        for chamber, inflow, valve_in, valve_out in (
            (V_LA, Q_VEN_PUL, None, 0), (V_LV, None, 0, 1), (V_RA, Q_VEN_SYS, None, 2), (V_RV, None, 2, 3),
        ):  # fmt: skip
            flow(chamber, 1.0, valve_in, inflow)
            flow(chamber, -1.0, valve_out)
        c = self.compliances
        flow(P_AR_SYS, 1 / c[0], valve=1)
        flow(P_AR_PUL, 1 / c[2], valve=3)
        for vessel, inflow, outflow, capacity in (
            (P_AR_SYS, None, Q_AR_SYS, c[0]), (P_VEN_SYS, Q_AR_SYS, Q_VEN_SYS, c[1]),
            (P_AR_PUL, None, Q_AR_PUL, c[2]), (P_VEN_PUL, Q_AR_PUL, Q_VEN_PUL, c[3]),
        ):  # fmt: skip
            if inflow is not None:
                flow(vessel, 1 / capacity, unknown=inflow)
            flow(vessel, -1 / capacity, unknown=outflow)
        ends = (
            (Q_AR_SYS, P_AR_SYS, P_VEN_SYS), (Q_VEN_SYS, P_VEN_SYS, V_RA),
            (Q_AR_PUL, P_AR_PUL, P_VEN_PUL), (Q_VEN_PUL, P_VEN_PUL, V_LA),
        )  # fmt: skip
        for (q, a, b), r, inertia in zip(ends, self.resistances, self.inertances, strict=True):
            lower = pressures[b] if b < 4 else state[b]
            rates[q] = (state[a] - lower - r * state[q]) / inertia
            slopes[q, a] = 1 / inertia
            slopes[q, b] = -(elastance[b] if b < 4 else 1.0) / inertia
            slopes[q, q] = -r / inertia
        return rates, slopes, by

    def _valve(self, drop: float) -> tuple[float, float]:
        """Flow for a drop of pressure, and its slope."""
        backwards, opens = 1 / self.valve_closed, 1 / self.valve_open - 1 / self.valve_closed
        width = VALVE_SMOOTH_KPA
        share = min(max(drop / width + 0.5, 0.0), 1.0)
        taken = drop if share == 1.0 else width / 2 * share**2
        return backwards * drop + opens * taken, backwards + opens * share


@dataclass(frozen=True)
class Course:
    """Activation from 0 to 1 and back, each half a cosine, again every period; s."""

    period: float
    onset: float
    contraction: float
    relaxation: float

    def __call__(self, time: float) -> float:
        return activation((time - self.onset) % self.period, self.contraction, self.relaxation)


# Where the search for a limit cycle begins; its blood is all the blood there is
START = np.array(
    [65.0, 120.0, 65.0, 130.0, 80 * MMHG, 22 * MMHG, 18 * MMHG, 12 * MMHG, 0.0, 0.0, 0.0, 0.0]
)  # fmt: skip
