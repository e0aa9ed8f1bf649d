"""Settings of a beat. Owned by the simulation stage; light."""

import math
from dataclasses import dataclass, replace

from ..runtime.errors import InputError
from ..runtime.keys import key

LEAST_BSA_M2 = 0.2  # as of the cohort table's column
LEAST_SHARE = 0.95  # of the tension that acts at a time step of the beat


def activation(since: float, contraction: float, relaxation: float) -> float:
    """From 0 to 1 and back, each half a cosine; `since` the onset, all in s."""
    if since < contraction:
        return 0.5 * (1.0 - math.cos(math.pi * since / contraction))
    if since < contraction + relaxation:
        return 0.5 * (1.0 + math.cos(math.pi * (since - contraction) / relaxation))
    return 0.0


@dataclass(frozen=True)
class Cycle:
    """The config section `simulation.cycle`."""

    beats: int = key(
        0,
        "Most beats that are simulated until they repeat themselves; 0 simulates none.",
        minimum=0,
        maximum=100,
    )
    heart_rate_per_min: float = key(75.0, "Heart rate (1/min).", minimum=20, maximum=250)
    tension_kpa: float = key(
        100.0,
        "Largest active tension along the fibres, at their unloaded length (kPa).",
        minimum=0,
        maximum=1000,
    )
    contractility: dict = key(
        {},
        "Factor of the tension by arm of the cohort table; 1 for healthy arms that are not named. Below 1 "
        "for hearts that contract weakly, as in dilated cardiomyopathy. Arms of a condition must be named.",
        additionalProperties={"type": "number", "minimum": 0, "maximum": 10, "description": "factor"},
    )
    rv_tension: float = key(
        1.0, "Tension of the right free wall as a share of the left ventricle's.", minimum=0, maximum=10
    )
    tension_across: float = key(
        0.0, "Tension along sheets and normals as a share of the fibres'.", minimum=0, maximum=1
    )
    length_dependence: float = key(
        1.5, "Relative change of tension per relative change of a fibre's length.", minimum=0, maximum=20
    )
    contraction_s: float = key(
        0.2, "Time from onset to the largest tension (s).", exclusiveMinimum=0, maximum=2
    )
    relaxation_s: float = key(
        0.2, "Time from the largest tension to none (s).", exclusiveMinimum=0, maximum=2
    )
    systemic_resistance: float = key(
        1.0, "Factor of the systemic arteries' resistance.", exclusiveMinimum=0, maximum=20
    )
    arterial_mean_kpa: float = key(
        0.0,
        "Mean arterial pressure (kPa) to which each heart's systemic resistance is adjusted between beats, "
        "as reflexes do, from half to twice the stated one; 0 keeps the stated one.",
        minimum=0,
        maximum=30,
    )
    reference_bsa_m2: float = key(
        0.0,
        "Body-surface area (m2) of the person whose circulation the other keys state. Vessels, valves and "
        "atria of each subject are then scaled by its own area over this one; 0 leaves them alike in all.",
        minimum=0,
        maximum=4,
    )
    viscosity_kpa_s: float = key(0.1, "Viscosity of the muscle (kPa s).", minimum=0, maximum=100)
    steps: int = key(
        100, "Time steps of a beat, where Newton's method needs no more.", minimum=10, maximum=10000
    )
    tolerance: float = key(
        0.01,
        "A beat repeats itself where it begins and ends with the same volumes, and both ventricles eject the "
        "same, within this share of the stroke volume.",
        exclusiveMinimum=0,
        maximum=1,
    )
    max_iterations: int = key(
        12, "Newton iterations after which a time step is halved.", minimum=1, maximum=1000
    )
    max_halvings: int = key(
        8, "Halvings of a time step in a row after which a beat ends as failed.", minimum=1, maximum=100
    )

    # the eight hearts of config/experiments/beat.yaml have no such step; one that creeps has dozens a beat
    max_failures: int = key(
        30,
        "Time steps without a solution, in one beat, after which it ends as failed.",
        minimum=1,
        maximum=10000,
    )

    def __post_init__(self):
        period, active = 60.0 / self.heart_rate_per_min, self.contraction_s + self.relaxation_s
        if active >= period:
            raise InputError(
                f"simulation.cycle.contraction_s, relaxation_s: together {active:g} s, which must be "
                f"less than a beat, {period:g} s at heart_rate_per_min {self.heart_rate_per_min:g}"
            )
        times = (k * period / self.steps for k in range(self.steps))
        share = max(activation(time, self.contraction_s, self.relaxation_s) for time in times)
        if share < LEAST_SHARE:
            raise InputError(
                f"simulation.cycle.steps: the {self.steps} time steps of a beat of {period:g} s miss the "
                f"largest tension; {share:.0%} of it acts at most. With contraction_s {self.contraction_s:g} "
                f"and relaxation_s {self.relaxation_s:g}, set steps to at least {self.steps_needed}"
            )
        if 0 < self.reference_bsa_m2 < LEAST_BSA_M2:
            raise InputError(
                f"simulation.cycle.reference_bsa_m2: {self.reference_bsa_m2:g} m2 is no body's surface; "
                f"allowed are {LEAST_BSA_M2:g} to 4, and 0 for one circulation of all subjects"
            )
        for arm, factor in self.contractility.items():
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor <= 10:
                where = f"simulation.cycle.contractility.{arm}"
                raise InputError(f"{where}: {factor!r} is not a number from 0 to 10")

    @property
    def steps_needed(self) -> int:
        """Steps from which on one of them is near enough to the largest tension, wherever they fall."""
        near_s = (self.contraction_s + self.relaxation_s) * math.acos(2.0 * LEAST_SHARE - 1.0) / math.pi
        return math.ceil(60.0 / self.heart_rate_per_min / near_s)

    def body_size(self, bsa_m2: float) -> float:
        """Of a subject, over that of the person whose circulation is stated; 1 where it is not known."""
        if not self.reference_bsa_m2 or math.isnan(bsa_m2):
            return 1.0
        return bsa_m2 / self.reference_bsa_m2

    def of_arm(self, arm: str) -> "Cycle":
        """With the tension of an arm's hearts."""
        factor = self.contractility.get(arm, 1.0)
        return replace(self, tension_kpa=self.tension_kpa * factor, contractility={})
