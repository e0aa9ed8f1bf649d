"""How hearts without a value could bias an endpoint. Owned by the trial stage.

Tipping point: how far the mean of the missing hearts would have to lie from the accepted ones' for the
conclusion to change, if the missing of both arms lie off in opposite directions (Yan, Lee, Li, J Biopharm
Stat 2009). The standard error stays that of the accepted hearts.
"""

import numpy as np
import pandas as pd

from .contrasts import interval
from .pairing import Comparison

COLUMNS = (
    "endpoint", "unit", "kind", "arm", "reference", "requested_arm", "missing_arm", "requested_reference",
    "missing_reference", "conclusion", "tipping_shift", "tipping_shift_sd", "target_shift_arm_sd",
    "target_shift_reference_sd",
)  # fmt: skip
VOLUME, TARGET = "_volume_ml", "_target_volume_ml"


def tipping_points(
    comparisons: list[Comparison], contrasts: pd.DataFrame, subjects: pd.DataFrame, alpha: float
) -> pd.DataFrame:
    """One row per comparison: COLUMNS. contrasts: the rows of the same comparisons.

    tipping_shift: the smallest shift (unit of the endpoint; beside it in pooled standard deviations) of the
    missing hearts' mean that changes the conclusion at the unadjusted alpha; empty where nothing is missing.
    target_shift: mean target volume of the missing hearts minus the accepted ones', in their standard
    deviations, which is known without an anatomy; for volumes only.
    """
    rows = []
    for c, shown in zip(comparisons, contrasts["conclusion"], strict=True):
        row = {
            "endpoint": c.endpoint.column, "unit": c.endpoint.unit, "kind": c.endpoint.kind, "arm": c.arm,
            "reference": c.reference, "requested_arm": c.requested[0], "missing_arm": c.missing[0],
            "requested_reference": c.requested[1], "missing_reference": c.missing[1], "conclusion": shown,
        }  # fmt: skip
        if c.enough:
            shift = tipping_shift(c, alpha)
            spread = np.sqrt((c.arm_values.var(ddof=1) + c.reference_values.var(ddof=1)) / 2)
            row |= {"tipping_shift": shift, "tipping_shift_sd": shift / spread}
        row["target_shift_arm_sd"] = target_shift(subjects, c.arm, c.endpoint.column)
        row["target_shift_reference_sd"] = target_shift(subjects, c.reference, c.endpoint.column)
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def tipping_shift(c: Comparison, alpha: float) -> float:
    """Smallest shift of the missing hearts' mean that changes the unadjusted conclusion; NaN without them.

    The difference over all requested hearts is that of the accepted ones plus the shift times the missing
    shares; a conclusion changes where an end of its interval meets the margin.
    """
    shares = [lost / n for lost, n in zip(c.missing, c.requested, strict=True)]
    share = shares[0] if c.paired else sum(shares)
    if share == 0:
        return float("nan")
    margin = c.endpoint.margin
    if c.endpoint.equivalence:
        _, low, high = interval(c, 2 * alpha)
        room = min(low + margin, margin - high)  # negative by how much the interval must move to lie inside
        if room < 0 and high - low > 2 * margin:
            return float("inf")  # no shift makes the interval short enough
        return abs(room) / share
    _, low, high = interval(c, alpha)
    if margin > 0:
        gap = low - margin
    elif margin < 0:
        gap = margin - high
    else:
        gap = max(low, -high)
    return abs(gap) / share


def target_shift(subjects: pd.DataFrame, arm: str, column: str) -> float:
    """Mean target of an arm's missing hearts minus the others' mean, in standard deviations of the others."""
    target = column.removesuffix(VOLUME) + TARGET
    if not column.endswith(VOLUME) or target not in subjects.columns:
        return float("nan")
    own = subjects[subjects["arm"] == arm]
    lost = own[column].isna()
    kept, gone = own.loc[~lost, target], own.loc[lost, target]
    if gone.empty or len(kept) < 2:
        return float("nan")
    return float((gone.mean() - kept.mean()) / kept.std())
