"""Where control ends: a grid of exact targets, far beyond what the prior has seen (evaluation stage).

The targets are ellipsoid hearts (`known`) of mean lengths, of which the cavity is moved from the mean in two
parameters at a time; all of the cavity's attributes are constrained, those of the others are free.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from ...anatomy import attributes, moments
from ...runtime import artifacts
from ...runtime.batch_runner import Task
from ...runtime.outcomes import ending_of
from ..arms import PAPER
from . import hearts as ellipsoid_hearts

# planes of the grid: the parameters that are moved along their two axes
PLANES = {"size and place": ("size", "place"), "size and elongation": ("size", "elongation")}
STRUCTURE = "cavity"
COLUMNS = {"plane": "str", "first": "float64", "second": "float64", "volume_error_percent": "float64"}
COLUMNS |= {
    "centroid_error_mm": "float64",
    "shape_error": "float64",
    "residual_sd": "float64",
    "ended": "str",
    "gate": "str",
}


@dataclass(frozen=True)
class Place:
    """A point of the grid: deviations of the plane's two parameters, in standard deviations of training."""

    plane: str
    first: float
    second: float


def places(points: int, reach: float) -> list[Place]:
    """`points` by `points` of each plane, from -reach to reach standard deviations."""
    along = np.linspace(-reach, reach, points)
    return [Place(plane, float(a), float(b)) for plane in PLANES for a, b in product(along, along)]


def heart_at(place: Place) -> ellipsoid_hearts.Known:
    """The target of a place, the mean heart but for its cavity.

    size: all semi-axes by one factor; place: to the right; elongation: the first semi-axis longer and the
    others shorter at the same volume. In standard deviations of `known.draw`: of the log volume, of a
    coordinate, and of the logarithm of a semi-axis.
    """
    moved = dict(zip(PLANES[place.plane], (place.first, place.second), strict=True))
    size = (
        moved.get("size", 0.0) * ellipsoid_hearts.LOG_SPREAD * np.sqrt(3.0)
    )  # SD of the sum of three logarithms
    longer = moved.get("elongation", 0.0) * ellipsoid_hearts.LOG_SPREAD
    factors = np.exp(size / 3.0 + longer * np.array([1.0, -0.5, -0.5]))
    mean = ellipsoid_hearts.Known(
        np.zeros(3),
        np.array(ellipsoid_hearts.CAVITY_MM),
        ellipsoid_hearts.WALL_MM,
        np.array(ellipsoid_hearts.ATRIUM_MM),
        np.zeros(3),
    )
    centre = mean.centre_mm + np.array([moved.get("place", 0.0) * ellipsoid_hearts.PLACE_MM, 0.0, 0.0])
    return replace(mean, centre_mm=centre, cavity_mm=mean.cavity_mm * factors)


def targets(points: list[Place]) -> list[pd.DataFrame]:
    """Target rows of each place: exact moments, all attributes of the cavity constrained."""
    rows = []
    for place in points:
        columns = moments.to_columns(ellipsoid_hearts.moments_of(heart_at(place)))
        structures = ellipsoid_hearts.ANATOMY.structures
        constrained = [",".join(PAPER) if name == STRUCTURE else "" for name in structures]
        rows.append(pd.DataFrame({"structure": structures, **columns, "constrained": constrained}))
    return rows


def table(points: list[Place], records: list[dict], wanted: list[pd.DataFrame]) -> pd.DataFrame:
    """One row per place: COLUMNS, errors of the cavity against exact targets; `records` of `sampling.work`.

    ended: why there is none, or why a cohort's subject would end as outside the prior; "" where it is met.
    gate: what the gate (resources/topology/ellipsoids.tsv) holds against it.
    """
    k, out = ellipsoid_hearts.ANATOMY.structures.index(STRUCTURE), []
    for place, record, rows in zip(points, records, wanted, strict=True):
        row = vars(place) | dict.fromkeys(list(COLUMNS)[3:7], np.nan)
        ended = ending_of(record).text
        row |= {"ended": ended, "gate": "; ".join(record.get("reasons", [ended]))}
        if "moments" in record and record["moments"]["volume_ml"][k] > 0:
            achieved, target = (moments.from_columns(each)[k : k + 1] for each in (record["moments"], rows))
            row["volume_error_percent"] = 100 * abs(float(achieved.volume_ml[0] / target.volume_ml[0]) - 1)
            for name, attribute in (("centroid_error_mm", "position"), ("shape_error", "shape")):
                differs = attributes.differences(attribute, (achieved,), (target,))
                row[name] = float(np.linalg.norm(differs))
            row["residual_sd"] = max(record["residuals"].values())
        out.append(row)
    return pd.DataFrame(out)


def tasks(points: list[Place], wanted: list[pd.DataFrame], seed: int, inputs: str) -> list[Task]:
    """One task per place, with the same noise everywhere: only targets differ on the map."""
    listed = []
    for index, (place, rows) in enumerate(zip(points, wanted, strict=True)):
        payload = (rows.to_dict("records"), seed, 0)
        name = f"place-{index:05d}"
        listed.append(Task(name, f"{name}.nii.gz", artifacts.digest([inputs, vars(place), payload]), payload))
    return listed
