"""What is sampled: arms of samples that differ in what is constrained, and how (evaluation stage).

Sample i of every arm has the same target heart and the same noise, so that arms are compared in pairs.
Light on purpose: the Snakefile imports it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from ..runtime.errors import InputError

PAPER = ("size", "position", "shape")  # Kadry et al., CardioComposer, ICLR 2026
ABLATION = ("size", "position", "shape", "orientation")
METHODS = ("polyak", "dps")
STRENGTHS = {"polyak": "strengths", "dps": "dps_strengths"}  # keys of how many samples at other strengths
UNGUIDED = "unguided"
COHORT = "cohort"  # an attempt as cohorts make it: the config's method, topology guidance, restarts
IMPLICIT = "implicit"  # the paper's baseline: a bundle whose denoiser takes heat maps of the targets
EXTREMES = "extremes"


@dataclass(frozen=True)
class Arm:
    """`samples` samples by one method, each steered to the `attributes` of the `constrained` structures.

    strength: factor on the method's step (`polyak`: fraction and trust, `dps`: weight). deviations: of the
    arm of extreme targets; empty for targets that are hearts.
    """

    method: str
    constrained: tuple[str, ...]
    attributes: tuple[str, ...]
    samples: int
    strength: float = 1.0
    deviations: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        if self.deviations:
            return EXTREMES
        if self.method == UNGUIDED:
            return UNGUIDED
        parts = [self.method, str(len(self.constrained))]
        parts += ["_".join(self.attributes)] if self.attributes != PAPER else []
        return "_".join(parts) + (f"_x{self.strength:g}" if self.strength != 1.0 else "")

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict) -> "Arm":
        tuples = {key: tuple(plain[key]) for key in ("constrained", "attributes", "deviations")}
        return cls(**plain | tuples)


def arms(settings: dict) -> dict[str, Arm]:
    """The arms of the config's section `evaluation` by name; those of no samples are left out.

    Unguided; each method at each set of constrained structures; attempts of a cohort, and the baseline if
    there is a bundle for it, at none too; the ablation, one attribute of the smallest set alone (all and
    none are arms of the former); each method at other strengths, at the largest set; extreme targets.
    """
    n, sets = settings["samples"], sorted(map(tuple, settings["constrained"]), key=len)
    arms = [Arm(UNGUIDED, (), (), n[UNGUIDED])]
    arms += [Arm(method, names, PAPER, n[method]) for method in METHODS for names in sets]
    arms += [Arm(COHORT, names, PAPER, n[COHORT]) for names in ((), *sets)]
    if settings["implicit"]:
        arms += [Arm(IMPLICIT, names, PAPER, n[IMPLICIT]) for names in ((), *sets)]
    arms += [Arm("polyak", sets[0], (attribute,), n["polyak"]) for attribute in ABLATION]
    arms += [
        Arm(method, sets[-1], PAPER, min(n[STRENGTHS[method]], n[method]), strength)
        for method in METHODS
        for strength in settings["strengths"]
        if strength != 1.0
    ]
    deviations = tuple(settings["extremes"])
    if deviations:
        arms.append(Arm("polyak", sets[0][:1], PAPER[:2], n["extremes"], 1.0, deviations))
    return {arm.name: arm for arm in arms if arm.samples}


def hearts_needed(settings: dict) -> int:
    """Target hearts that the arms need."""
    return max((arm.samples for arm in arms(settings).values() if not arm.deviations), default=0)


def template_shares(label_maps: str | None, training: dict, which: str, bundle: str) -> dict[str, float]:
    """Templates (path: share) of a bundle's training record: `alike` what is sampled, or `left_out`.

    None where `label_maps` (config key `evaluation.label_maps`) are the hearts that the bundle has not seen.
    Raises InputError for a bundle that was trained on label maps: it has no templates to deform anew.
    """
    if label_maps:
        return {}
    if training["label_maps"]:
        raise InputError(
            f"config key 'evaluation.label_maps' is null, but {bundle} was trained on label maps; name a "
            "folder of others, which it has not seen"
        )
    names = {path: Path(path).name.split(".")[0] for path in training["templates"]}
    if which == "left_out":
        chosen = set(training["leave_out"])
    else:
        # bundles of version 1 name the templates that the denoiser took last
        chosen = set(*training.get("focus", [])[-1:]) or set(names.values())
    return {path: share for path, share in training["templates"].items() if names[path] in chosen}
