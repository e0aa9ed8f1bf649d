"""Attributes beyond size, position and shape, target and achieved. Owned by the report stage."""

import numpy as np
import pandas as pd

from ..anatomy import attributes
from ..anatomy.domains import slab_mm
from ..anatomy.labels import SLAB_ATTRIBUTES
from ..anatomy.moments import MOMENT_COLUMNS, THICKNESS, Moments, from_columns
from ..cohort.stage_tables import DOMAIN

COLUMNS = ("arm", "structure", "attribute", "n", "target", "achieved", "error_median", "error_p95", "unit")


def further_attributes(targets: pd.DataFrame, anatomies: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, structure (or relation `a/b`) and attribute beyond the paper's three: `COLUMNS`.

    Over the hearts that were written: n of them, medians of target and achieved value where the attribute is
    one number, median and 95th percentile of the error in `unit`.
    """
    keys = ["arm", "subject", "structure"]
    measured = [*MOMENT_COLUMNS, *([THICKNESS] if THICKNESS in targets else [])]
    placed = [DOMAIN] if DOMAIN in targets else []
    both = targets[[*keys, "constrained", *placed, *measured]].merge(
        anatomies.loc[anatomies["volume_ml"] > 0, ["subject", "structure", *measured]],
        on=["subject", "structure"], suffixes=("_target", "_achieved"), validate="1:1",
    )  # fmt: skip
    rows = []
    for (arm, structure, constrained), part in both.groupby(["arm", "structure", "constrained"], sort=False):
        for word in constrained.split(","):
            attribute, other = attributes.split(word)
            if attribute not in (*_MEASURES, *SLAB_ATTRIBUTES):
                continue
            pairs = [part]
            if other:
                partner = both[both["structure"] == other].set_index("subject")
                part = part[part["subject"].isin(partner.index)]
                pairs = [part, partner.loc[part["subject"]]]
            wanted, reached = (
                tuple(_moments(part, which) for part in pairs) for which in ("target", "achieved")
            )
            if attribute == "area":
                target, achieved, error, unit = _area(wanted, reached, part[DOMAIN].map(slab_mm).to_numpy())
            else:
                target, achieved, error, unit = _MEASURES[attribute](wanted, reached)
            rows.append((
                arm, f"{structure}/{other}" if other else structure, attribute, len(part), _median(target),
                _median(achieved), _median(error),
                float(np.nanquantile(error, 0.95)) if len(part) else np.nan, unit,
            ))  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _moments(rows: pd.DataFrame, which: str) -> Moments:
    names = (name for name in (*MOMENT_COLUMNS, THICKNESS) if f"{name}_{which}" in rows)
    return from_columns({name: rows[f"{name}_{which}"] for name in names})


def _median(values: np.ndarray) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan


def _relative(wanted: np.ndarray, achieved: np.ndarray, unit: str = "%"):
    return wanted, achieved, 100.0 * np.abs(achieved / wanted - 1.0), unit


def _scale(wanted, achieved):
    return _relative(wanted[0].scale_mm2, achieved[0].scale_mm2)


def _volume_ratio(wanted, achieved):
    return _relative(attributes.volume_ratio(*wanted), attributes.volume_ratio(*achieved))


def _distance(wanted, achieved):
    before, after = attributes.distance_mm(*wanted), attributes.distance_mm(*achieved)
    return before, after, np.abs(after - before), "mm"


def _area(wanted, achieved, thickness_mm: np.ndarray):
    before, after = (1000.0 * side[0].volume_ml / thickness_mm for side in (wanted, achieved))
    return before, after, np.abs(after - before), "mm2"


def _thickness(wanted, achieved):
    before, after = wanted[0].thickness_mm, achieved[0].thickness_mm
    return before, after, np.abs(after - before), "mm"


def _direction(wanted, achieved):
    cosine = (attributes.direction(*wanted) * attributes.direction(*achieved)).sum(axis=-1)
    nothing = np.full(len(cosine), np.nan)
    return nothing, nothing, np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))), "°"


def _orientation(wanted, achieved):
    """The worst of the principal axes that have a direction to speak of."""
    angles = attributes.principal_axis_degrees(achieved[0], wanted[0])
    nothing = np.full(len(angles), np.nan)
    defined = np.isfinite(angles).any(axis=-1)
    worst = np.where(defined, np.where(np.isfinite(angles), angles, 0.0).max(axis=-1), np.nan)
    return nothing, nothing, worst, "°"


def _aspect(wanted, achieved):
    error = np.linalg.norm(attributes.differences("aspect", achieved, wanted), axis=-1)
    nothing = np.full(len(error), np.nan)
    return nothing, nothing, error, "of tr S"


_MEASURES = {
    "scale": _scale,
    "orientation": _orientation,
    "aspect": _aspect,
    "volume_ratio": _volume_ratio,
    "distance": _distance,
    "direction": _direction,
    "thickness": _thickness,
}
