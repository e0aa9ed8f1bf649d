"""What a calibration aims at, and which factor answers which target. Owned by the simulation stage; light."""

from dataclasses import dataclass

from ..runtime.errors import InputError
from ..runtime.keys import key
from .cycle import Cycle

SCALARS = ("stiffness", "tension", "resistance")
# The scalar that answers a target, by column of the simulation table. One scalar answers one target: two
# targets of the same scalar say the same of a heart, or contradict each other.
ANSWERED_BY = {
    "lv_ef": "tension",
    "rv_ef": "tension",
    "lv_stroke_ml": "tension",
    "lv_esv_ml": "tension",
    "cardiac_output_l_min": "tension",
    "lv_dpdt_max_kpa_s": "tension",
    "lv_peak_kpa": "resistance",
    "arterial_mean_kpa": "resistance",
    "arterial_peak_kpa": "resistance",
    "lv_edv_ml": "stiffness",
    "lv_unloaded_ml": "stiffness",
}
# Targets that the stiffness moves with one kind of reference only: the other kind fixes them to the image
REFERENCES = {"lv_edv_ml": "image", "lv_unloaded_ml": "unloaded"}


def _target(what: str, **bounds) -> float | None:
    return key(None, f"Target of {what}; null for none.", **bounds)


@dataclass(frozen=True)
class Calibrate:
    """The config section `simulation.calibrate`."""

    lv_ef: float | None = _target("the left ventricle's ejection fraction", minimum=0.05, maximum=0.9)
    rv_ef: float | None = _target("the right ventricle's ejection fraction", minimum=0.05, maximum=0.9)
    lv_stroke_ml: float | None = _target("the left ventricle's stroke volume (mL)", minimum=1, maximum=500)
    lv_esv_ml: float | None = _target("the left ventricle's least volume (mL)", minimum=1, maximum=1000)
    cardiac_output_l_min: float | None = _target("the cardiac output (L/min)", minimum=0.1, maximum=50)
    lv_dpdt_max_kpa_s: float | None = _target(
        "the fastest rise of the left ventricle's pressure (kPa/s)", minimum=1, maximum=2000
    )
    lv_peak_kpa: float | None = _target("the left ventricle's largest pressure (kPa)", minimum=1, maximum=100)
    arterial_mean_kpa: float | None = _target(
        "the mean pressure of the systemic arteries (kPa)", minimum=1, maximum=100
    )
    arterial_peak_kpa: float | None = _target(
        "the largest pressure of the systemic arteries (kPa)", minimum=1, maximum=100
    )
    lv_edv_ml: float | None = _target(
        "the left ventricle's end-diastolic volume (mL), with `simulation.reference: image`",
        minimum=1,
        maximum=1000,
    )
    lv_unloaded_ml: float | None = _target(
        "the left ventricle's volume without load (mL), with `simulation.reference: unloaded`",
        minimum=1,
        maximum=1000,
    )
    tolerance: float = key(
        0.02,
        "A target counts as reached where the heart is within this share of it; not finer than "
        "`simulation.cycle.tolerance`.",
        minimum=0.001,
        maximum=0.5,
    )
    max_runs: int = key(
        8, "Simulations of a heart after which the calibration ends with the best one.", minimum=1, maximum=50
    )

    @property
    def targets(self) -> dict[str, float]:
        """Targets by column of the simulation table; empty where nothing is calibrated."""
        return {name: getattr(self, name) for name in ANSWERED_BY if getattr(self, name) is not None}

    def check_with(self, cycle: Cycle, reference: str) -> None:
        """InputError where the targets cannot go together, or with the rest of the section `simulation`."""
        targets, where = self.targets, "simulation.calibrate"
        if not targets:
            return
        if not cycle.beats:
            raise InputError(
                f"{where}: {', '.join(targets)} are targets of hearts that beat, and simulation.cycle.beats "
                "is 0; set it above 0, or take the targets out"
            )
        if len(targets) > len(SCALARS):
            raise InputError(
                f"{where}: {len(targets)} targets ({', '.join(targets)}); at most {len(SCALARS)} are "
                f"allowed, one for each of {', '.join(SCALARS)}"
            )
        for scalar in SCALARS:
            own = [name for name in targets if ANSWERED_BY[name] == scalar]
            if len(own) > 1:
                raise InputError(
                    f"{where}: more targets than scalars: the {scalar} alone answers {' and '.join(own)}; "
                    "keep one of them"
                )
        self._check_volumes(cycle)
        answered = [name for name in targets if ANSWERED_BY[name] == "resistance"]
        if answered and cycle.arterial_mean_kpa:
            raise InputError(
                f"{where}.{answered[0]}: simulation.cycle.arterial_mean_kpa is {cycle.arterial_mean_kpa:g}, "
                "which sets the resistance of each heart, and no factor changes it; set that to 0, or take "
                "the target out"
            )
        for name, needed in REFERENCES.items():
            if name in targets and reference != needed:
                raise InputError(
                    f"{where}.{name}: with simulation.reference: {reference} the image gives this volume, "
                    f"and no factor changes it; set reference: {needed}, or take the target out"
                )
        if self.tolerance < cycle.tolerance:
            raise InputError(
                f"{where}.tolerance: {self.tolerance:g} is finer than simulation.cycle.tolerance, "
                f"{cycle.tolerance:g}, within which a beat repeats itself; it must be at least as large"
            )

    def _check_volumes(self, cycle: Cycle) -> None:
        """InputError for a ventricle that would have to eject as much as it holds, or more."""
        if self.lv_edv_ml is None:
            return
        a_beat = (self.cardiac_output_l_min or 0.0) * 1000.0 / cycle.heart_rate_per_min
        told = f"{a_beat:g} mL a beat at simulation.cycle.heart_rate_per_min {cycle.heart_rate_per_min:g}"
        for name, volume_ml, what in (
            ("lv_stroke_ml", self.lv_stroke_ml, f"{self.lv_stroke_ml} mL"),
            ("lv_esv_ml", self.lv_esv_ml, f"{self.lv_esv_ml} mL"),
            ("cardiac_output_l_min", a_beat, told),
        ):
            if volume_ml is not None and volume_ml >= self.lv_edv_ml:
                raise InputError(
                    f"simulation.calibrate.{name}: {what} is not below lv_edv_ml, {self.lv_edv_ml:g} mL; no "
                    "heart has both"
                )
