"""Arms against the reference arm: differences, ratios, intervals, tests. Owned by the trial stage.

Values are one per cluster of hearts (`pairing`). Unpaired arms: Welch's t, and analysis of covariance with
HC3 standard errors. Paired arms: Student's t of the differences. Equivalence: two one-sided tests
(Schuirmann, J Pharmacokinet Biopharm 1987). A superiority margin is tested on its own side only. Its p value
is twice the one-sided one, so that all p values of superiority are compared with the same alpha. Primary p
values are adjusted by Holm (Scand J Stat 1979).
"""

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from .pairing import Comparison

COLUMNS = (
    "endpoint", "unit", "kind", "arm", "reference", "design", "n_arm", "n_reference", "hearts_arm",
    "hearts_reference", "left_out", "missing_arm", "missing_reference", "mean_arm", "mean_reference",
    "difference", "difference_low", "difference_high",
    "ratio", "ratio_low", "ratio_high", "standardised", "standardised_low", "standardised_high", "test",
    "margin", "equivalence_low", "equivalence_high", "p", "p_holm", "conclusion", "adjusted_difference",
    "adjusted_low", "adjusted_high", "adjusted_p", "adjusted_for",
)  # fmt: skip
SHOWN, NOT_SHOWN, TOO_FEW = "shown", "not shown", "too few hearts"
ARM = "arm"  # term of the analysis of covariance


def contrasts(
    comparisons: list[Comparison], subjects: pd.DataFrame, adjust_for: list[str], alpha: float
) -> pd.DataFrame:
    """One row per comparison: COLUMNS. Intervals have the level 1 - alpha, `equivalence_...` 1 - 2 alpha.

    subjects: the subject table, for covariates. NaN where there are too few hearts, or for a
    ratio values that are not above 0.
    """
    rows = [_row(c, subjects, adjust_for, alpha) for k, c in enumerate(comparisons)]
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    family = table["kind"].eq("primary") & table["p"].notna()
    if family.any():
        table.loc[family, "p_holm"] = multipletests(table.loc[family, "p"], alpha, "holm")[1]
    decided = table["p_holm"].where(table["kind"] == "primary", table["p"])
    table["conclusion"] = np.where(decided.isna(), TOO_FEW, np.where(decided <= alpha, SHOWN, NOT_SHOWN))
    return table


def p_value(comparison: Comparison, margin: float | None = None) -> float:
    """The p value of the endpoint's own test, against another margin if one is given."""
    own = comparison.endpoint
    margin = own.margin if margin is None else margin
    if comparison.paired:
        sample = DescrStatsW(comparison.differences)
        if own.equivalence:
            return float(sample.ttost_mean(-margin, margin)[0])
        one_sided, both = sample.ttest_mean, {}
    else:
        sample = CompareMeans(DescrStatsW(comparison.arm_values), DescrStatsW(comparison.reference_values))
        if own.equivalence:
            return float(sample.ttost_ind(-margin, margin, usevar="unequal")[0])
        one_sided, both = sample.ttest_ind, {"usevar": "unequal"}
    if not own.margin:
        return float(one_sided(value=margin, **both)[1])
    side = "larger" if own.margin > 0 else "smaller"
    return min(1.0, 2 * float(one_sided(value=margin, alternative=side, **both)[1]))


def interval(comparison: Comparison, alpha: float) -> tuple[float, float, float]:
    """Difference arm - reference and its interval of level 1 - alpha."""
    return _interval(comparison.arm_values, comparison.reference_values, comparison.paired, alpha)


def _interval(
    arm: np.ndarray, reference: np.ndarray, paired: bool, alpha: float
) -> tuple[float, float, float]:
    if paired:
        low, high = DescrStatsW(arm - reference).tconfint_mean(alpha)
    else:
        low, high = CompareMeans(DescrStatsW(arm), DescrStatsW(reference)).tconfint_diff(
            alpha, usevar="unequal"
        )
    return float(arm.mean() - reference.mean()), float(low), float(high)


def _row(c: Comparison, subjects: pd.DataFrame, adjust_for: list[str], alpha: float) -> dict:
    own = c.endpoint
    row = {
        "endpoint": own.column, "unit": own.unit, "kind": own.kind, "arm": c.arm, "reference": c.reference,
        "design": "paired" if c.paired else "unpaired", "n_arm": len(c.arm_values),
        "n_reference": len(c.reference_values),
        "hearts_arm": c.hearts[0], "hearts_reference": c.hearts[1], "left_out": c.left_out,
        "missing_arm": c.missing[0], "missing_reference": c.missing[1], "test": own.test,
        "margin": own.margin,
        "p": np.nan, "p_holm": np.nan, "adjusted_for": "",
    }  # fmt: skip
    if not c.enough:
        return row
    row |= {"mean_arm": c.arm_values.mean(), "mean_reference": c.reference_values.mean(), "p": p_value(c)}
    row |= _three("difference", interval(c, alpha))
    if own.equivalence:
        row["equivalence_low"], row["equivalence_high"] = interval(c, 2 * alpha)[1:]
    row |= _three("ratio", _ratio(c, alpha)) | _three("standardised", _standardised(c, alpha))
    return row if c.paired or c.clustered else row | _adjusted(c, subjects, adjust_for, alpha)


def _three(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _ratio(c: Comparison, alpha: float) -> tuple[float, float, float]:
    """Ratio of geometric means, arm over reference, with the interval of the difference of logarithms."""
    if min(c.arm_values.min(), c.reference_values.min()) <= 0:
        return (np.nan,) * 3
    return tuple(np.exp(_interval(np.log(c.arm_values), np.log(c.reference_values), c.paired, alpha)))


def _standardised(c: Comparison, alpha: float) -> tuple[float, float, float]:
    """Hedges' g: difference over the pooled standard deviation of the arms, corrected for small samples.

    Unpaired: normal interval. Paired: that of the difference in the same unit, as if the deviation were
    known. So it holds zero where the test finds no difference. Percentiles of resampled pairs do not, where
    there are few.
    """
    arm, reference = ((v.std(ddof=1), len(v)) for v in (c.arm_values, c.reference_values))
    with np.errstate(invalid="ignore", divide="ignore"):
        per_unit = effectsize_smd(1.0, *arm, 0.0, *reference)[0]
        g, variance = effectsize_smd(c.arm_values.mean(), *arm, c.reference_values.mean(), *reference)
    if not np.isfinite(per_unit):
        return (np.nan,) * 3
    if not c.paired:
        reach = stats.norm.ppf(1 - alpha / 2) * np.sqrt(variance)
        return float(g), float(g - reach), float(g + reach)
    return tuple(float(per_unit * value) for value in interval(c, alpha))


def _adjusted(c: Comparison, subjects: pd.DataFrame, adjust_for: list[str], alpha: float) -> dict:
    """Analysis of covariance: the difference between the arms at equal covariates, if estimable."""
    people = subjects.set_index("subject").loc[
        [name for hearts in (*c.arm_hearts, *c.reference_hearts) for name in hearts]
    ]
    used, terms = [], {}
    for name in adjust_for:
        known = people[name] if name in people else pd.Series(dtype=float)
        if known.empty or known.isna().any() or known.eq("").any() or known.nunique() < 2:
            continue
        used.append(name)
        if pd.api.types.is_numeric_dtype(known):
            terms[name] = known.to_numpy(float) - known.mean()
        else:
            levels = pd.get_dummies(known, drop_first=True, dtype=float)
            terms |= {f"{name}: {level}": levels[level].to_numpy() for level in levels}
    in_arm = np.repeat([1.0, 0.0], [len(c.arm_values), len(c.reference_values)])
    design = pd.DataFrame({"const": 1.0, ARM: in_arm} | terms)
    if not used or len(design) <= design.shape[1] + 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return {}
    values = np.concatenate([c.arm_values, c.reference_values])
    fit = sm.OLS(values, design).fit(cov_type="HC3", use_t=True)
    low, high = fit.conf_int(alpha).loc[ARM]
    row = _three("adjusted", (fit.params[ARM], low, high))
    row["adjusted_difference"] = row.pop("adjusted")
    return row | {"adjusted_p": fit.pvalues[ARM], "adjusted_for": ", ".join(used)}
