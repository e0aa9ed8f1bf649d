"""topology.tsv and extremes.tsv: who passes the gate, what extreme targets give (evaluation stage)."""

import numpy as np
import pandas as pd

from ..anatomy.moments import VECTOR_ENTRIES, Moments, to_vector
from .arms import PAPER, UNGUIDED
from .intervals import difference_interval, wilson
from .samples import Samples

ALL = "all rules"
TOPOLOGY = {"method": "str", "constrained_structures": "int64", "strength": "float64", "rule": "str"}
TOPOLOGY |= {"share": "float64", "low": "float64", "high": "float64", "raw_share": "float64", "n": "int64"}
EXTREMES = {"attribute": "str", "deviations": "float64", "sample": "int64", "achieved": "float64"}
EXTREMES |= {"residual_sd": "float64", "ended": "str", "gate": "str"}


def topology(arms: dict[str, Samples], resamples: int, seed: int) -> pd.DataFrame:
    """One row per arm of the paper's attributes and a rule, `all rules` first: share of samples that pass.

    Columns: TOPOLOGY; share is after the bounded repairs, as a cohort has them, with its 95 % interval;
    raw_share before; raw_low, raw_high; minus_unguided, share less that of the unguided samples of the same
    noise, and its interval by resampled pairs. Of the rules those that some sample breaks.
    """
    chosen = [
        s
        for s in arms.values()
        if not s.arm.deviations and (not s.arm.constrained or s.arm.attributes == PAPER)
    ]
    broken = {rule for s in chosen for own in (*s.raw_causes, *s.causes) for rule in own}
    out = []
    for s in chosen:
        n = len(s.causes)
        for rule in (ALL, *sorted(broken)):
            passed, raw = (_pass(each, rule) for each in (s.causes, s.raw_causes))
            low, high = wilson(int(passed.sum()), n)
            raw_low, raw_high = wilson(int(raw.sum()), n)
            out.append(
                {
                    "method": s.arm.method,
                    "constrained_structures": len(s.arm.constrained),
                    "strength": s.arm.strength,
                    "rule": rule,
                    "share": passed.mean(),
                    "low": low,
                    "high": high,
                    "raw_share": raw.mean(),
                    "n": n,
                    "raw_low": raw_low,
                    "raw_high": raw_high,
                }
            )
            if UNGUIDED in arms and s.arm.method != UNGUIDED:
                pairs = min(n, len(arms[UNGUIDED].causes))
                own, plain = passed[:pairs], _pass(arms[UNGUIDED].causes[:pairs], rule)
                ends = difference_interval(own, plain, resamples, seed)
                names = ("minus_unguided", "minus_unguided_low", "minus_unguided_high")
                out[-1] |= dict(zip(names, (own.mean() - plain.mean(), *ends), strict=True))
    return pd.DataFrame(out)


def _pass(causes: tuple[tuple[str, ...], ...], rule: str) -> np.ndarray:
    """Which samples (n,) do not break the rule."""
    return np.array([not own if rule == ALL else rule not in own for own in causes])


def extremes(samples: Samples | None, reference: Moments) -> pd.DataFrame:
    """One row per sample of an extreme target: EXTREMES; no rows without such an arm.

    reference (N,): the structure in the reference population. deviations: the target, in its standard
    deviations from its mean; achieved: the sample, in the same; residual_sd: how far guidance's own measure
    says it is off; ended: "" if that is near enough, else the reason a cohort's subject would end with; gate:
    the rules that the sample breaks.
    """
    if samples is None:
        return pd.DataFrame(columns=list(EXTREMES))
    vectors = to_vector(reference)
    mean, spread = vectors.mean(axis=0), vectors.std(axis=0)
    name = samples.arm.constrained[0]
    rows = samples.rows[samples.rows["structure"] == name].reset_index(drop=True)
    k = list(dict.fromkeys(samples.rows["structure"])).index(name)
    out = []
    for i, row in rows.iterrows():
        entry = {"size": "log_volume", "position": "x"}[row["constrained"]]
        at = VECTOR_ENTRIES.index(entry)
        found, asked = (
            (_entry(m[i, k], entry) - mean[at]) / spread[at]
            for m in (samples.hearts.moments, samples.targets)
        )
        out.append(
            {
                "attribute": row["constrained"],
                "deviations": round(float(asked), 6),
                "sample": int(row["sample"]),
                "achieved": float(found),
                "residual_sd": row["residual_sd"],
                "ended": row["ended"],
                "gate": "; ".join(samples.causes[i]),
            }
        )
    return pd.DataFrame(out)


def _entry(m: Moments, entry: str) -> float:
    if m.volume_ml <= 0:  # nothing came
        return np.nan
    return float(np.log(m.volume_ml)) if entry == "log_volume" else float(m.centroid_mm["xyz".index(entry)])
