"""Settings of guidance whose cost and errors are compared, and the tables of them (target `guidance_bench`).

The frontier: what a user can spend, by rule, noise levels and how often `polyak` steers. The sensitivity:
length of the steps and every lambda, multiplied by factors. The config's own settings are in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from cardiocohort.generation.settings import GuidanceSettings

UNGUIDED = "unguided"
METHODS = ("polyak", "dps")
COHORT = "cohort"  # the config's method with topology guidance and restarts, as a cohort has them
MIDDLE = {"sigma_from": 8.0, "sigma_to": 0.09}  # noise levels where steps of `polyak` pay most
WAYS = (
    {"guide_every": 1, "step_fraction": 0.5},
    {"guide_every": 1, "step_fraction": 1.0},
    {"guide_every": 2, "step_fraction": 1.0},
    {"guide_every": 3, "step_fraction": 1.0},
    {"guide_every": 4, "step_fraction": 1.0},
    {"guide_every": 3, "step_fraction": 1.4, "momentum": 0.5},
    {"guide_every": 2, "step_fraction": 1.4, "momentum": 0.5} | MIDDLE,
    {"guide_every": 3, "step_fraction": 1.4, "momentum": 0.5} | MIDDLE,
)  # of `polyak`: how often it steers, how far, and where; momentum is the config's where none is named
STEP = "step"  # of `polyak` fraction and trust, of `dps` the weight
PARAMETERS = (STEP, "size", "position", "shape")
ERRORS = ("volume_percent", "centroid_mm", "shape", "axes_degrees")


@dataclass(frozen=True)
class Setting:
    """One way of sampling; `parameter`, if any, is `factor` times what the config has."""

    method: str
    guidance: GuidanceSettings
    parameter: str = ""
    factor: float = 1.0

    @property
    def name(self) -> str:
        g = self.guidance
        if self.parameter:
            return f"{self.method}_{self.parameter}_x{self.factor:g}"
        return f"{self.method}_{g.steps}" + (f"_{self.way}" if self.method == "polyak" else "")

    @property
    def way(self) -> str:
        """How `polyak` steers: levels, share of the step, momentum, limits of the noise level."""
        g = self.guidance
        more = f"_m{g.momentum:g}" if g.momentum else ""
        if g.sigma_from < g.sigma_max or g.sigma_to > g.sigma_min:
            more += f"_{g.sigma_from:g}to{g.sigma_to:g}"
        return f"every{g.guide_every}_x{g.step_fraction:g}{more}"

    def columns(self) -> dict:
        """What the tables say of it; `way` is of `polyak` alone."""
        g, polyak = self.guidance, self.method == "polyak"
        return {
            "setting": self.name,
            "method": self.method,
            "steps": g.steps,
            "way": self.way if polyak else "",
            "parameter": self.parameter,
            "factor": self.factor,
        }


def of_config(given: GuidanceSettings) -> list[Setting]:
    """Unguided sampling, each rule as the config has it, and an attempt of a cohort."""
    return [Setting(method, _by(method, given)) for method in (UNGUIDED, *METHODS, COHORT)]


def frontier(given: GuidanceSettings, levels: Sequence[int]) -> list[Setting]:
    """`of_config`, then every rule at each number of levels, `polyak` in each of WAYS."""
    found = of_config(given)
    for steps in levels:
        found += [Setting(method, replace(_by(method, given), steps=steps)) for method in (UNGUIDED, "dps")]
        polyak = replace(_by("polyak", given), steps=steps)
        found += [Setting("polyak", replace(polyak, **way)) for way in WAYS]
    return list(dict.fromkeys(found))


def sensitivity(given: GuidanceSettings, factors: Sequence[float]) -> list[Setting]:
    """`of_config`, then every parameter of every rule times every factor."""
    return of_config(given) + [
        Setting(method, scaled(_by(method, given), parameter, factor), parameter, factor)
        for method in METHODS
        for parameter in PARAMETERS
        for factor in factors
        if factor != 1.0
    ]


def scaled(s: GuidanceSettings, parameter: str, factor: float) -> GuidanceSettings:
    """The settings with the step, or one lambda of their rule, times `factor`."""
    if s.method == "dps":
        name = "weight" if parameter == STEP else f"lambda_{parameter}"
        return replace(s, dps=replace(s.dps, **{name: factor * getattr(s.dps, name)}))
    if parameter == STEP:
        return replace(s, step_fraction=factor * s.step_fraction, trust_radius=factor * s.trust_radius)
    name = f"lambda_{parameter}"
    return replace(s, **{name: factor * getattr(s, name)})


def summary(samples: pd.DataFrame, settings: list[Setting]) -> pd.DataFrame:
    """One row per setting: its columns; medians of ERRORS over targets and structures; kept, the share that
    the gate accepts after the bounded repairs; seconds_per_sample; ratio to unguided sampling at as many
    levels; n, the targets that all of the settings were sampled for, which the figures are of.

    `samples` as from `frontier.sample`. Unguided samples had none of the targets that their errors are
    from.
    """
    samples = samples[samples["setting"].isin({setting.name for setting in settings})]
    times = samples.groupby("target")["setting"].nunique()
    samples = samples[samples["target"].isin(times.index[times == len(settings)])]
    hearts = samples.drop_duplicates(["setting", "target"]).groupby("setting")
    found = pd.DataFrame([setting.columns() for setting in settings]).set_index("setting")
    found[list(ERRORS)] = samples.groupby("setting")[list(ERRORS)].median()
    found["kept"] = hearts["kept"].mean()
    found["seconds_per_sample"] = hearts["seconds"].mean()
    unguided = found[found["method"] == UNGUIDED].set_index("steps")["seconds_per_sample"]
    found["ratio_to_unguided"] = found["seconds_per_sample"] / found["steps"].map(unguided)
    found["n"] = hearts.size()
    return found.reset_index()


def spread(length: int, wanted: int) -> list[int]:
    """At most `wanted` indices, as evenly as can be from the first to the last of `length`."""
    wanted = min(length, wanted)
    return [round(i * (length - 1) / max(wanted - 1, 1)) for i in range(wanted)]


def _by(method: str, given: GuidanceSettings) -> GuidanceSettings:
    return replace(given, method=method) if method in METHODS else given
