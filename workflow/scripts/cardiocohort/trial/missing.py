"""How hearts without a value could bias an endpoint. Owned by the trial stage.

Tipping point: how far the mean of the missing hearts would have to lie from the accepted ones' for the
conclusion to change, if the missing of both arms lie off in opposite directions (Yan, Lee, Li, J Biopharm
Stat 2009). The standard error stays that of the accepted hearts.
"""

import numpy as np
import pandas as pd

from ..cohort.covariates import AREA
from ..cohort.subject_columns import MUSCLE_G_PER_ML
from .contrasts import interval
from .pairing import Comparison, values_of

COLUMNS = (
    "endpoint", "unit", "kind", "arm", "reference", "requested_arm", "missing_arm", "requested_reference",
    "missing_reference", "conclusion", "tipping_shift", "tipping_shift_sd", "target_shift_arm_sd",
    "target_shift_reference_sd",
)  # fmt: skip
VOLUME, INDEX, TARGET = "_volume_ml", "_volume_index_ml_m2", "_target_volume_ml"
MASS, MASS_INDEX, WALL = "myocardium_mass_g", "myocardium_mass_index_g_m2", "myocardium"


def tipping_points(
    comparisons: list[Comparison], contrasts: pd.DataFrame, subjects: pd.DataFrame, alpha: float
) -> pd.DataFrame:
    """One row per comparison: COLUMNS. contrasts: the rows of the same comparisons.

    tipping_shift: the smallest shift (unit of the endpoint; beside it in pooled standard deviations) of the
    missing hearts' mean that changes the conclusion at the unadjusted alpha; empty where nothing is missing.
    target_shift: mean target of the missing hearts minus the accepted ones', in their standard deviations,
    which is known without an anatomy; for endpoints that have a target (`target_of`).
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
    target = target_of(subjects, column)
    if target is None:
        return float("nan")
    own = subjects["arm"] == arm
    lost = values_of(subjects, column).isna()
    kept, gone = target[own & ~lost].dropna(), target[own & lost].dropna()
    if gone.empty or len(kept) < 2:
        return float("nan")
    return float((gone.mean() - kept.mean()) / kept.std())


def target_of(subjects: pd.DataFrame, column: str) -> pd.Series | None:
    """What the targets of all requested hearts give for a measured column; None where they say nothing.

    Volumes and relations between structures have target columns. Indexed volumes, mass and indexed mass of
    the myocardium follow from target volumes and body surface areas.
    """
    known = subjects.columns
    if f"target_{column}" in known:
        return subjects[f"target_{column}"]
    structure, indexed, factor = None, False, 1.0
    if column in (MASS, MASS_INDEX):
        structure, indexed, factor = WALL, column == MASS_INDEX, MUSCLE_G_PER_ML
    elif column.endswith((VOLUME, INDEX)):
        indexed = column.endswith(INDEX)
        structure = column.removesuffix(INDEX if indexed else VOLUME)
    if structure is None or f"{structure}{TARGET}" not in known or (indexed and AREA not in known):
        return None
    volume = factor * subjects[f"{structure}{TARGET}"]
    return volume / subjects[AREA] if indexed else volume
