"""Beats of a heart from end-diastole until they repeat themselves. Owned by the simulation stage."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..runtime.artifacts import atomic_path
from .beat import Heart, Moment, run_beat
from .circulation import (
    NAMES,
    P_AR_PUL,
    P_AR_SYS,
    P_VEN_SYS,
    START,
    V_LV,
    V_RV,
    Chamber,
    Circulation,
    Followed,
)  # fmt: skip

log = logging.getLogger(__name__)

CHECKPOINT_STEPS = 10
VENTRICLES = [V_LV, V_RV]
OUTLETS = {"left": ("aortic", P_AR_SYS), "right": ("pulmonary", P_AR_PUL)}  # valve, arteries behind it
# Elastances before the first beat: volume without pressure and at end-systole as shares of the end-diastolic
# volume, end-systolic pressure (kPa); a healthy heart's. They shorten the way to a limit cycle only.
UNSTRESSED, END_SYSTOLIC, SYSTOLIC_KPA = 0.2, (0.42, 0.5), (13.0, 3.0)
# Of the ventricles between beats: unstressed volume as a share of the least one; largest share of the tension
# in passive filling, which must change the volume by this share; least stiffness as a share of the largest
FIT_UNSTRESSED, PASSIVE_SHARE, FIT_FILLING, FIT_LEAST = 0.5, 1e-3, 0.05, 0.01
# Search for the volume of blood between beats: most limit cycles, share of the left ventricle's volume that
# may be left, factor of the first change of the venous pressure's logarithm, largest change
BLOOD_SEARCH, BLOOD_TOLERANCE, FIRST_CHANGE, LARGEST_CHANGE = 12, 0.001, 1.0, 0.3
# Of the systemic resistance that holds a mean arterial pressure: least and largest one over the stated one;
# its change for one of the pressure, as logarithms (the inverse of a slope measured on a model heart, 0.47,
# docs/validation/simulation.md); largest factor in one beat; what may be left of the pressure, as a share
REFLEXES, REFLEX_POWER, REFLEX_STEP, REFLEX_TOLERANCE = (0.5, 2.0), 2.0, 1.5, 0.02
SEARCH, SEARCH_STEPS = 8, 40  # halvings of the search for a volume of blood, time steps of its beats


@dataclass(frozen=True)
class Beats:
    """moments: of the last beat, complete or not; rows: of all (`row`); periodic: whether it repeats itself;
    reason: why it ended early, or nothing."""

    moments: list[Moment]
    rows: list[dict]
    beats: int
    periodic: bool
    newton: int
    reason: str


def beat_until_periodic(
    heart: Heart, state: np.ndarray, pressures: np.ndarray, checkpoint: Path | None = None, key: str = ""
) -> Beats:
    """Beats from an end-diastolic `state` (ndof,) at `pressures` (2,) in kPa.

    A run that was killed goes on from `checkpoint`, if that is of the same `key`; it is removed at the end.
    """
    cycle, period = heart.cycle, heart.circulation.period
    saved = _read(checkpoint, key)
    volumes, _ = heart.cavities.volumes(state)
    if saved is None:
        loop = first_loop(heart, volumes, pressures)
        beats, rows, newton, moments = 1, [], 0, [Moment(0.0, state, pressures, volumes, loop, 0.0)]
        failures = 0
    else:
        beats, rows, newton, moments, resistance, failures = saved
        heart.circulation = heart.circulation.with_systemic_resistance(resistance)
        log.info("beat %d goes on at %.4f s", beats, moments[-1].time)
    while True:
        done = len(moments)

        def keep(
            so_far: list[Moment], failed: int, beat: int = beats, used: int = newton, before: list = rows
        ) -> None:
            if checkpoint is not None and len(so_far) % CHECKPOINT_STEPS == 0:
                resistance = heart.circulation.resistances[0]
                _write(checkpoint, key, beat, before, used, so_far, resistance, failed)

        moments, used, reason = run_beat(heart, moments, (beats - 1) * period, keep, failures)
        newton += used
        rows = rows + [row(moment, beats, (beats - 1) * period) for moment in moments]
        log.info(
            "beat %d: %d moments (%d before), %d Newton iterations, %.0f mL of blood",
            beats, len(moments), done, used, heart.circulation.volume(moments[-1].loop),
        )  # fmt: skip
        held = not reason and holds_pressure(heart, moments)
        periodic = held and repeats(moments, cycle.tolerance)
        if reason or periodic or beats >= cycle.beats:
            if checkpoint is not None:
                checkpoint.unlink(missing_ok=True)
            return Beats(moments, rows, beats, periodic, newton, reason)
        if not held:
            heart.circulation = heart.circulation.with_systemic_resistance(next_resistance(heart, moments))
            log.info("systemic resistance %.4g kPa s/mL", heart.circulation.resistances[0])
        # in the beat's own time steps: others would leave an error
        loop = next_loop(heart.circulation, moments, cycle.steps, volumes[0])
        moments, beats, failures = [replace(moments[-1], loop=loop)], beats + 1, 0


def repeats(moments: list[Moment], tolerance: float) -> bool:
    """Whether both ventricles eject the same and end the beat as they began it.

    tolerance: as a share of the stroke volume.
    """
    volumes = np.array([moment.loop[VENTRICLES] for moment in moments])
    strokes = np.ptp(volumes, axis=0)
    changes = np.abs(volumes[-1] - volumes[0])
    return bool(max(changes.max(), abs(strokes[0] - strokes[1])) <= tolerance * strokes.min())


def holds_pressure(heart: Heart, moments: list[Moment]) -> bool:
    """Whether a beat has the mean arterial pressure that is wanted, if one is, or no resistance is nearer."""
    wanted = heart.cycle.arterial_mean_kpa
    if not wanted or abs(arterial_mean(moments) / wanted - 1) <= REFLEX_TOLERANCE:
        return True
    return next_resistance(heart, moments) == heart.circulation.resistances[0]


def next_resistance(heart: Heart, moments: list[Moment]) -> float:
    """Systemic resistance (kPa s/mL) of the next beat, to bring the mean arterial pressure to the wanted one.

    Within REFLEXES, times what is stated.
    """
    change = (heart.cycle.arterial_mean_kpa / arterial_mean(moments)) ** REFLEX_POWER
    low, high = (bound * heart.stated_resistance for bound in REFLEXES)
    now = heart.circulation.resistances[0]
    return float(np.clip(now * np.clip(change, 1 / REFLEX_STEP, REFLEX_STEP), low, high))


def unheld_pressure(heart: Heart, moments: list[Moment]) -> str:
    """What a last beat lacks of the mean arterial pressure that is wanted; nothing where it has it."""
    wanted, mean = heart.cycle.arterial_mean_kpa, arterial_mean(moments)
    if not wanted or not abs(mean / wanted - 1) > REFLEX_TOLERANCE:
        return ""
    factor = heart.circulation.resistances[0] / heart.stated_resistance
    return (
        f"the mean arterial pressure is {mean:.2f} kPa for {wanted:g} (simulation.cycle.arterial_mean_kpa), "
        f"with {factor:.3g} of the stated systemic resistance; allowed are {REFLEXES[0]:g} to {REFLEXES[1]:g}"
    )


def arterial_mean(moments: list[Moment]) -> float:
    """Mean pressure of the systemic arteries over a beat (kPa); NaN of a beat without a step."""
    times = np.array([moment.time for moment in moments])
    return _mean(times, np.array([moment.loop[P_AR_SYS] for moment in moments]))


def closed_outlets(moments: list[Moment]) -> str:
    """Which ventricle never opens its outlet valve in a beat, and by how much; nothing where both open.

    Its volume then changes by what the inlet and leaks let through: that is no ejection fraction.
    """
    pressures = np.array([moment.pressures_kpa for moment in moments])
    said = []
    for ventricle, (side, (valve, artery)) in enumerate(OUTLETS.items()):
        behind = np.array([moment.loop[artery] for moment in moments])
        if not (pressures[:, ventricle] > behind).any():
            said.append(
                f"the {valve} valve never opens: the {side} ventricle reaches "
                f"{pressures[:, ventricle].max():.2f} kPa, the arteries have at least {behind.min():.2f} kPa"
            )
    return "; ".join(said)


def first_loop(heart: Heart, volumes: np.ndarray, pressures: np.ndarray) -> np.ndarray:
    """State (12,) of the circulation at end-diastole: a limit cycle of elastances in the ventricles' place.

    The volume of blood is the one with which the left ventricle ends its filling with its volume.
    """
    chambers = tuple(
        Chamber(
            max(pressure, 0.1) / ((1 - UNSTRESSED) * volume),
            systolic / ((share - UNSTRESSED) * volume),
            UNSTRESSED * volume,
            heart.course,
        )
        for volume, pressure, share, systolic in zip(
            volumes, pressures, END_SYSTOLIC, SYSTOLIC_KPA, strict=True
        )
    )
    circulation, loop = heart.circulation, START.copy()
    low, high = np.log(0.1), np.log(10.0)
    for _ in range(SEARCH):
        middle = (low + high) / 2
        start = START.copy()
        start[P_VEN_SYS] *= np.exp(middle)
        loop = circulation.limit_cycle(start, chambers, SEARCH_STEPS)
        low, high = (low, middle) if loop[V_LV] > volumes[0] else (middle, high)
    return _with_volumes(circulation, loop, volumes)


def next_loop(
    circulation: Circulation, moments: list[Moment], steps: int, end_diastolic_ml: float
) -> np.ndarray:
    """State (12,) at the start of the limit cycle of ventricles that do what they did in a beat.

    The volume of blood is the one with which the left ventricle is filled to end_diastolic_ml.
    """
    chambers = tuple(_followed(moments, ventricle, circulation.period) for ventricle in range(2))
    loop = circulation.limit_cycle(moments[-1].loop, chambers, steps)
    found = [(0.0, loop)]
    # secant: the volume grows almost evenly with the pressure of the systemic veins
    change = FIRST_CHANGE * (end_diastolic_ml / loop[V_LV] - 1)
    for _ in range(BLOOD_SEARCH):
        if abs(loop[V_LV] - end_diastolic_ml) <= BLOOD_TOLERANCE * end_diastolic_ml:
            break
        more = loop.copy()
        more[P_VEN_SYS] *= np.exp(np.clip(change, -LARGEST_CHANGE, LARGEST_CHANGE))
        loop = circulation.limit_cycle(more, chambers, steps)
        found.append((found[-1][0] + float(np.log(more[P_VEN_SYS] / found[-1][1][P_VEN_SYS])), loop))
        (before, one), (last, other) = found[-2:]
        gained = other[V_LV] - one[V_LV]
        if gained * (last - before) <= 0:
            break
        change = (end_diastolic_ml - other[V_LV]) * (last - before) / gained
    return loop


def _followed(moments: list[Moment], ventricle: int, period: float) -> Followed:
    """What a ventricle did in a beat, and how it would answer other volumes.

    Its stiffness is the slope of its passive filling, and rises with the tension to that of a line from the
    unstressed volume to end-systole. A line through the unstressed volume would be several times too soft in
    diastole, and the blood would move for more beats.
    """
    times = np.array([moment.time - moments[0].time for moment in moments])
    volumes = np.array([moment.loop[VENTRICLES[ventricle]] for moment in moments])
    pressures = np.array([moment.pressures_kpa[ventricle] for moment in moments])
    tension = np.array([moment.tension_kpa for moment in moments])
    # a beat that repeats itself begins as it ends
    volumes[0], pressures[0], tension[0] = volumes[-1], pressures[-1], tension[-1]
    unstressed = FIT_UNSTRESSED * volumes.min()
    systole = np.argmax(pressures / (volumes - unstressed))
    most = pressures[systole] / (volumes[systole] - unstressed)
    share = tension / max(tension.max(), 1e-9)
    passive = share < PASSIVE_SHARE
    slope = low = FIT_LEAST * most
    if passive.any() and np.ptp(volumes[passive]) > FIT_FILLING * volumes.max():
        slope = np.polyfit(volumes[passive], pressures[passive], 1)[0]
    return Followed(period, times, pressures, volumes, np.clip(slope, low, most) * (1 - share) + most * share)


def row(moment: Moment, beat: int, start: float) -> dict:
    """Of loops.tsv."""
    named = dict(zip(NAMES, moment.loop.tolist(), strict=True))
    lv, rv = moment.pressures_kpa.tolist()
    head = {"beat": beat, "time_s": moment.time - start, "tension_kpa": moment.tension_kpa}
    return head | {"lv_pressure_kpa": lv, "rv_pressure_kpa": rv} | named


def figures(beats: Beats, period: float) -> dict:
    """Of the last beat: volumes mL, pressures kPa, rates kPa/s, cardiac output L/min, ejection fractions."""
    volumes = np.array([moment.loop[VENTRICLES] for moment in beats.moments])
    pressures = np.array([moment.pressures_kpa for moment in beats.moments])
    times = np.array([moment.time for moment in beats.moments])
    rates = np.diff(pressures, axis=0) / np.diff(times)[:, None]
    found = {"beats": beats.beats, "periodic": int(beats.periodic), "beat_iterations": beats.newton}
    for place, name in enumerate(("lv", "rv")):
        most, least = float(volumes[:, place].max()), float(volumes[:, place].min())
        found |= {
            f"{name}_edv_ml": most,
            f"{name}_esv_ml": least,
            f"{name}_stroke_ml": most - least,
            f"{name}_ef": (most - least) / most,
            f"{name}_peak_kpa": float(pressures[:, place].max()),
            f"{name}_dpdt_max_kpa_s": float(rates[:, place].max(initial=0)),
            f"{name}_dpdt_min_kpa_s": float(rates[:, place].min(initial=0)),
        }
    arteries = np.array([moment.loop[P_AR_SYS] for moment in beats.moments])
    return found | {
        "cardiac_output_l_min": found["lv_stroke_ml"] * 60 / period / 1000,
        "arterial_mean_kpa": arterial_mean(beats.moments),
        "arterial_peak_kpa": float(arteries.max()),
    }


def _with_volumes(circulation: Circulation, loop: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """The state with other volumes of the ventricles, the difference taken from the systemic veins."""
    loop = loop.copy()
    loop[P_VEN_SYS] += (loop[VENTRICLES] - volumes).sum() / circulation.compliances[1]
    loop[VENTRICLES] = volumes
    return loop


def _mean(times: np.ndarray, values: np.ndarray) -> float:
    """Over time, since time steps may be halved; NaN of a beat without a step."""
    lasted = times[-1] - times[0]
    return float(np.trapezoid(values, times) / lasted) if lasted > 0 else np.nan


PARTS = ("time", "state", "pressures_kpa", "volumes_ml", "loop", "tension_kpa")


def _write(
    path: Path,
    key: str,
    beat: int,
    rows: list[dict],
    newton: int,
    moments: list[Moment],
    resistance: float,
    failures: int,
) -> None:
    arrays = {part: np.array([getattr(moment, part) for moment in moments]) for part in PARTS}
    columns = {f"row_{name}": np.array([r[name] for r in rows]) for name in (rows[0] if rows else ())}
    with atomic_path(path) as temporary:
        np.savez(
            temporary, key=key, beat=beat, newton=newton, resistance=resistance, failures=failures,
            **arrays, **columns,
        )  # fmt: skip


def _read(path: Path | None, key: str) -> tuple[int, list[dict], int, list[Moment], float, int] | None:
    if path is None or not path.exists():
        return None
    with np.load(path) as saved:
        if str(saved["key"]) != key:
            return None
        parts = [saved[part] for part in PARTS]
        names = [name.removeprefix("row_") for name in saved.files if name.startswith("row_")]
        columns = [saved[f"row_{name}"].tolist() for name in names]
        rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        moments = [
            Moment(float(t), s, p, v, loop, float(tension))
            for t, s, p, v, loop, tension in zip(*parts, strict=True)
        ]
        counts = {name: int(saved[name]) for name in ("beat", "newton", "failures")}
        resistance = float(saved["resistance"])
    return counts["beat"], rows, counts["newton"], moments, resistance, counts["failures"]
