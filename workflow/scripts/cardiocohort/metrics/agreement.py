"""Achieved moments against their targets. Owned by the report stage."""

import numpy as np
import pandas as pd

from ..anatomy.attributes import principal_axis_degrees
from ..anatomy.moments import MOMENT_COLUMNS, from_columns

ERRORS = {"size": "volume_error_percent", "position": "centroid_error_mm", "shape": "shape_error"}


def agreement(targets: pd.DataFrame, anatomies: pd.DataFrame) -> pd.DataFrame:
    """One row per subject and structure that has a target and was written.

    Columns: subject, arm, structure, constrained, target_volume_ml, achieved_volume_ml,
    volume_error_percent (signed), centroid_error_mm, shape_error (Frobenius norm of the difference of
    S / tr S) and axis_error_deg (angle between the long axes; NaN where the target's two largest
    eigenvalues are closer than 1.5 to 1).
    """
    keys = ["subject", "structure"]
    columns = [*keys, *MOMENT_COLUMNS]
    rows = targets[["arm", "constrained", *columns]].merge(
        anatomies[columns], on=keys, how="inner", validate="1:1", suffixes=("_target", "")
    )
    rows = rows[rows["volume_ml"] > 0].reset_index(drop=True)
    achieved = from_columns(rows)
    target = from_columns({name: rows[f"{name}_target"] for name in MOMENT_COLUMNS})
    out = rows[["subject", "arm", "structure", "constrained"]].copy()
    out["target_volume_ml"] = target.volume_ml
    out["achieved_volume_ml"] = achieved.volume_ml
    out["volume_error_percent"] = 100.0 * (achieved.volume_ml / target.volume_ml - 1.0)
    out["centroid_error_mm"] = np.linalg.norm(achieved.centroid_mm - target.centroid_mm, axis=-1)
    out["shape_error"] = np.linalg.norm(achieved.shape - target.shape, axis=(-2, -1))
    out["axis_error_deg"] = principal_axis_degrees(achieved, target)[:, -1]
    return out


def constrained_in(rows: pd.DataFrame, attribute: str) -> pd.Series:
    """Which rows constrain the attribute (one of `anatomy.ATTRIBUTES`)."""
    return rows["constrained"].str.split(",").map(lambda attributes: attribute in attributes).astype(bool)


def errors_by_subject(rows: pd.DataFrame) -> pd.DataFrame:
    """Per subject over its constrained structures: medians of the errors, and the worst volume error."""
    rows = rows.assign(volume_error_percent=rows["volume_error_percent"].abs())
    size, position, shape = (
        rows[constrained_in(rows, attribute)].groupby("subject")[column]
        for attribute, column in ERRORS.items()
    )
    return pd.DataFrame(
        {
            "volume_error_median_percent": size.median(),
            "volume_error_worst_percent": size.max(),
            "centroid_error_median_mm": position.median(),
            "shape_error_median": shape.median(),
        }
    )


def error_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Median and 95th percentile of every error per arm and structure, and which attributes are constrained.

    Sizes are taken without their sign; n is the number of hearts. Where something is constrained, what is
    not has no figure (NaN).
    """
    sized = rows.assign(volume_error_percent=rows["volume_error_percent"].abs())
    groups = sized.groupby(["arm", "structure", "constrained"], sort=False)
    table = groups.size().rename("n").to_frame()
    for column in (*ERRORS.values(), "axis_error_deg"):
        table[f"{column}_median"] = groups[column].median()
        table[f"{column}_p95"] = groups[column].quantile(0.95)
    table = table.reset_index()
    constrained = table["constrained"] != ""
    attributes_of = {column: (attribute,) for attribute, column in ERRORS.items()}
    for column, attributes in (attributes_of | {"axis_error_deg": ("shape", "orientation")}).items():
        free = constrained & ~np.any([constrained_in(table, a) for a in attributes], axis=0)
        table.loc[free, [f"{column}_median", f"{column}_p95"]] = np.nan
    return table
