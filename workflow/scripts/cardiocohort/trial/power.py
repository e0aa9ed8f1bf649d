"""Power of the tests by number of hearts, by formula and by resampling. Owned by the trial stage.

Arms of equal size, with the means and spreads of the hearts that there are. Formulas: noncentral t
(statsmodels), for equivalence of both one-sided tests. Resampling draws hearts (pairs) with replacement and
tests each drawn trial; it needs no normal distribution.
"""

import math
import warnings

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.proportion import proportion_confint

from .pairing import Comparison

KEYS = ("endpoint", "kind", "arm", "reference", "design", "test", "margin", "alpha")
CURVE = (*KEYS, "n_per_arm", "power_formula", "power_resampled", "power_low", "power_high")
SIZES = (
    *KEYS, "power", "n_formula", "n_resampled", "accepted_share", "request_formula", "request_resampled",
)  # fmt: skip
FEWEST, MOST = 3, 1_000_000  # hearts of an arm
POINTS = 10  # of a curve
MOST_DRAWN = 2000  # hearts of an arm in a resampled trial


def power_tables(
    comparisons: list[Comparison], alpha: float, power: float, resamples: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Power curves (CURVE) and sample sizes (SIZES) of the comparisons with enough hearts.

    The alpha of primary endpoints is divided by the number of their tests, as Holm does for the smallest p.
    `n_...` are hearts (pairs) with a value, `request_...` the hearts to request so that as many are accepted,
    rounded up; empty where no number up to a million (the curve's end, if resampled) suffices.
    """
    enough = [c for c in comparisons if c.enough]
    family = max(sum(c.endpoint.primary for c in enough), 1)
    curves, sizes = [], []
    for k, c in enumerate(enough):
        own = alpha / family if c.endpoint.primary else alpha
        key = {
            "endpoint": c.endpoint.column, "kind": c.endpoint.kind, "arm": c.arm, "reference": c.reference,
            "design": "paired" if c.paired else "unpaired", "test": c.endpoint.test,
            "margin": c.endpoint.margin, "alpha": own,
        }  # fmt: skip
        needed = sample_size(c, own, power)
        curve = _curve(c, own, numbers(c, needed), resamples, np.random.default_rng([seed, k]))
        curves.append(curve.assign(**key))
        drawn = _first(curve, power)
        share = min(1 - lost / n for lost, n in zip(c.missing, c.requested, strict=True))
        sizes.append(
            key | {"power": power, "n_formula": needed, "n_resampled": drawn, "accepted_share": share}
            | {"request_formula": _up(needed / share), "request_resampled": _up(drawn / share)}
        )  # fmt: skip
    table = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
    return table.reindex(columns=list(CURVE)), pd.DataFrame(sizes).reindex(columns=list(SIZES))


def formula_power(c: Comparison, alpha: float, n: float) -> float:
    """Power of the endpoint's test with n hearts in each arm (n pairs)."""
    difference, spread = _effect(c)
    # an unpaired spread is of a difference of two hearts, of which sqrt(2) is the formula's own
    spread = spread if c.paired else spread / math.sqrt(2)
    margin = c.endpoint.margin
    if c.endpoint.equivalence:
        sides = (_one_sided(c, (margin + way * difference) / spread, n, alpha) for way in (1, -1))
        return max(0.0, sum(sides) - 1.0)  # both tests fail together only where neither can succeed
    if margin:
        return _one_sided(c, math.copysign(1, margin) * (difference - margin) / spread, n, alpha / 2)
    return _t_power(c, abs(difference) / spread, n, alpha, "two-sided")


def _one_sided(c: Comparison, effect: float, n: float, alpha: float) -> float:
    return _t_power(c, effect, n, alpha, "larger")


def _t_power(c: Comparison, effect: float, n: float, alpha: float, alternative: str) -> float:
    solver = TTestPower() if c.paired else TTestIndPower()
    reached = float(solver.power(effect, n, alpha, alternative=alternative))
    # scipy's noncentral t is NaN far from the critical value, where the power is 1 or 0
    return reached if math.isfinite(reached) else float(effect > 0)


def sample_size(c: Comparison, alpha: float, power: float) -> float:
    """Fewest hearts in each arm (pairs) that have the power by formula; NaN where a million have not."""

    def missing(n: float) -> float:
        return formula_power(c, alpha, n) - power

    if not missing(MOST) > 0:
        return math.nan
    if missing(FEWEST) >= 0:
        return float(FEWEST)
    return float(math.ceil(optimize.brentq(missing, FEWEST, MOST) - 1e-6))


def resampled_power(c: Comparison, alpha: float, n: int, resamples: int, rng: np.random.Generator) -> int:
    """In how many of `resamples` trials of n hearts in each arm (n pairs) the test shows its hypothesis."""
    own = c.endpoint

    def p(margin: float, alternative: str) -> np.ndarray:
        if c.paired:
            return stats.ttest_1samp(first, margin, axis=1, alternative=alternative).pvalue
        return stats.ttest_ind(
            first - margin, second, axis=1, equal_var=False, alternative=alternative
        ).pvalue

    values = c.differences if c.paired else c.arm_values
    first = values[rng.integers(len(values), size=(resamples, n))]
    second = c.reference_values[rng.integers(len(c.reference_values), size=(resamples, n))]
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a trial of one heart, drawn n times
        if own.equivalence:
            shown = np.maximum(p(-own.margin, "greater"), p(own.margin, "less")) <= alpha
        elif own.margin:
            shown = 2 * p(own.margin, "greater" if own.margin > 0 else "less") <= alpha
        else:
            shown = p(0.0, "two-sided") <= alpha
    return int(shown.sum())


def numbers(c: Comparison, needed: float) -> list[int]:
    """Hearts in each arm that a curve shows: from few to well beyond those needed, and those there are."""
    own = min(len(c.arm_values), len(c.reference_values))
    last = 2.5 * needed if math.isfinite(needed) else 10 * own
    spaced = np.geomspace(FEWEST, min(max(last, 20, 1.5 * own), MOST_DRAWN), POINTS)
    return sorted({*np.round(spaced).astype(int).tolist(), min(max(own, FEWEST), MOST_DRAWN)})


def _effect(c: Comparison) -> tuple[float, float]:
    """Mean difference, and the standard deviation of one difference."""
    if c.paired:
        return float(c.differences.mean()), float(c.differences.std(ddof=1))
    spread = math.sqrt(c.arm_values.var(ddof=1) + c.reference_values.var(ddof=1))
    return float(c.arm_values.mean() - c.reference_values.mean()), spread


def _curve(c: Comparison, alpha: float, points: list[int], resamples: int, rng) -> pd.DataFrame:
    rows = []
    for n in points:
        shown = resampled_power(c, alpha, n, resamples, rng)
        low, high = proportion_confint(shown, resamples, 0.05, "wilson")
        rows.append({
            "n_per_arm": n, "power_formula": formula_power(c, alpha, n), "power_resampled": shown / resamples,
            "power_low": low, "power_high": high,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _first(curve: pd.DataFrame, power: float) -> float:
    """Hearts from which the resampled curve stays at the power or above, between its points by logarithm."""
    reached = curve["power_resampled"].to_numpy() >= power
    if not reached[-1]:
        return math.nan
    k = len(reached) - int(np.argmin(reached[::-1])) if not reached.all() else 0
    if k == 0:
        return float(curve["n_per_arm"].iloc[0])
    ends = curve.iloc[k - 1 : k + 1]
    return _up(np.exp(np.interp(power, ends["power_resampled"], np.log(ends["n_per_arm"]))))


def _up(n: float) -> float:
    return float(math.ceil(n - 1e-6)) if math.isfinite(n) else math.nan
