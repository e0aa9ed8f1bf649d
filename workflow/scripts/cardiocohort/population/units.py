"""Are a table's numbers in mL, mm and mm^2, its axes RAS+? Owned by the population stage.

Three tests. A solid body fills at most all of the ellipsoid with its second moments, in any unit of length.
So a volume and a covariance of different units show it, whatever the anatomy. And no structure is a hundred
times larger or smaller than those of the bundle. And no heart of several structures looks twice as much like
the bundle's once its axes are swapped or turned round.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..anatomy.labels import ARRANGEMENTS
from ..anatomy.moments import Moments, from_columns
from ..runtime import tables
from ..runtime.errors import InputError

if TYPE_CHECKING:
    from .reference import Reference

# unit -> its size in that of the column
VOLUMES = {"mm3": 1e-3, "L": 1e3, "m3": 1e6}
LENGTHS = {"cm": 10.0, "m": 1e3, "um": 1e-3}
AREAS = {"cm2": 1e2, "m2": 1e6, "um2": 1e-6}
# factors beyond which a quantity is of another unit: a child's heart is a tenth of an adult's, a
# largest structure of a disease four times one; centroids lie at least a third as far apart
MAX_VOLUME_FACTOR, MAX_LENGTH_FACTOR, MAX_AREA_FACTOR = 100.0, 4.0, 30.0
# structures by whose centroids a frame is recognised: of hearts turned by 30 degrees about any axis, 3 in
# 1,000 with three structures look mirrored, and none with six; of a large table so many hearts are let pass
FEWEST_STRUCTURES, MOST_MIRRORED = 3, 0.02
# a frame is recognised if it moves the usual centroids by so many times their spread, and if exchanging it
# leaves at most so much of the distance to them
LEAST_MOVE, LEAST_DISTANCE, MOST_LEFT = 0.8, 0.7, 0.5
AXES = "xyz"
FRAMES = np.array(ARRANGEMENTS[1:])  # all that are not RAS+, (47, 3, 3)
MAX_FILL = 10.0  # of a solid body: 1; a row drawn from a wide distribution may exceed it somewhat


@dataclass(frozen=True)
class Usual:
    """Medians of a population by structure: volume (mL), trace of the covariance (mm^2), centroid (3,) mm."""

    volume_ml: dict[str, float]
    scale_mm2: dict[str, float]
    centroid_mm: dict[str, np.ndarray]


def usual_of(reference: "Reference") -> Usual:
    """What hearts of a reference population are like."""
    m = reference.moments

    def by_name(values: np.ndarray) -> dict:
        return dict(zip(reference.structures, np.median(values, axis=0), strict=True))

    return Usual(by_name(m.volume_ml), by_name(m.scale_mm2), by_name(m.centroid_mm))


def check_units(path, frame: pd.DataFrame, usual: Usual | None) -> None:
    """InputError where moments (`MOMENT_COLUMNS` by row, column `structure`) are of another unit or frame.

    It names file, row, column and the unit, or the axes. `usual`: of the bundle; None compares nothing with
    it.
    """
    moments = from_columns(frame)
    _check_fill(path, frame, moments)
    if usual is None:
        return
    compared = (
        ("volume_ml", moments.volume_ml, usual.volume_ml, VOLUMES, MAX_VOLUME_FACTOR),
        ("covariance_*_mm2", moments.scale_mm2, usual.scale_mm2, AREAS, MAX_AREA_FACTOR),
    )
    for column, values, medians, units, most in compared:
        expected = frame["structure"].map(medians).to_numpy(float)
        ratio = values / expected
        far = np.flatnonzero(np.isfinite(ratio) & (np.abs(np.log(ratio)) > np.log(most)))
        if far.size:
            row, name = frame.index[far[0]], frame["structure"].iloc[far[0]]
            raise InputError(
                f"{tables.where(path, row)}, column {column!r}: {values[far[0]]:.4g} for {name} is "
                f"{ratio[far[0]]:.3g} times the bundle's median, {expected[far[0]]:.4g}"
                f"{_looks_like(ratio[far[0]], units)}; {len(far)} of {len(frame)} rows are so. The column is "
                f"in {column.rpartition('_')[2]}"
            )
    _check_distances(path, frame, moments, usual)


def _check_fill(path, frame: pd.DataFrame, moments: Moments) -> None:
    ellipsoid_ml = 4 / 3 * np.pi * np.sqrt(5**3 * np.linalg.det(moments.covariance_mm2)) / 1000
    fill = moments.volume_ml / ellipsoid_ml
    full = np.flatnonzero(fill > MAX_FILL)
    if full.size:
        row, name = frame.index[full[0]], frame["structure"].iloc[full[0]]
        raise InputError(
            f"{tables.where(path, row)}: {name} has {moments.volume_ml[full[0]]:.4g} mL, {fill[full[0]]:.3g} "
            f"times the volume of the ellipsoid with its covariance, which no body can have; {len(full)} of "
            f"{len(frame)} rows are so. Are volumes in mL (not mm3) and covariances in mm2 (not cm2)?"
        )


def _check_distances(path, frame: pd.DataFrame, moments: Moments, usual: Usual) -> None:
    """Where the centroids of each heart lie to each other, over the structures that the bundle has."""
    known = np.flatnonzero(frame["structure"].isin(list(usual.centroid_mm)))
    keys = [name for name in ("arm", "subject") if name in frame.columns]
    hearts = frame.iloc[known].groupby(keys, sort=False).indices if keys else {"": np.arange(len(known))}
    mirrored, told = {}, 0
    for own in hearts.values():
        rows, here = frame.iloc[known[own]], moments.centroid_mm[known[own]]
        there = np.array([usual.centroid_mm[name] for name in rows["structure"]])
        if _spread(there) < np.sqrt(np.median(list(usual.scale_mm2.values()))) / 4:
            continue  # structures about one centre, as a wall and its cavity, say nothing
        _check_distance(path, rows, here, there)
        if len(rows) >= FEWEST_STRUCTURES:
            told += 1
            if (other := _other_frame(here, there)) is not None:
                mirrored[_heart(rows)] = other
    if len(mirrored) > MOST_MIRRORED * told:
        heart, other = next(iter(mirrored.items()))
        raise InputError(
            f"{path}, columns 'centroid_*_mm' of {heart!r}: with {_said(other)} in place of x, y and z its "
            f"structures lie to each other as those of the bundle do; {len(mirrored)} of {told} hearts are "
            "so. Axes run to the right of the patient, to the front and to the head (RAS+): give centroids "
            "and covariances so"
        )


def _spread(centroids: np.ndarray) -> float:
    """Root of the mean squared distance (mm) of centroids (K, 3) from their mean."""
    return float(np.sqrt(centroids.var(axis=0).sum()))


def _heart(rows: pd.DataFrame) -> str:
    names = (rows[name].iloc[0] for name in ("subject", "arm") if name in rows.columns)
    return next(filter(None, names), "the table")


def _check_distance(path, rows: pd.DataFrame, here: np.ndarray, there: np.ndarray) -> None:
    spread, expected = _spread(here), _spread(there)
    ratio = max(spread, 1e-9) / expected
    if abs(np.log(ratio)) > np.log(MAX_LENGTH_FACTOR):
        raise InputError(
            f"{path}, columns 'centroid_*_mm' of {_heart(rows)!r}: centroids lie {spread:.3g} mm "
            f"apart (rms), {ratio:.2g} times the bundle's {expected:.3g} mm{_looks_like(ratio, LENGTHS)}. "
            "They are in mm"
        )


def _other_frame(here: np.ndarray, there: np.ndarray) -> np.ndarray | None:
    """The one of FRAMES that brings centroids (K, 3) to the usual ones, if they are not there before."""
    here, there = here - here.mean(axis=0), there - there.mean(axis=0)
    moved, left = _lengths(there @ FRAMES - there), _lengths(here @ FRAMES - there)
    before = _lengths(here - there)
    found = moved > LEAST_MOVE * _lengths(there)
    found &= (left < MOST_LEFT * before) & (before > LEAST_DISTANCE * moved)
    return FRAMES[np.where(found, left, np.inf).argmin()] if found.any() else None


def _lengths(centroids: np.ndarray) -> np.ndarray:
    """Root sum of squares over structures and axes of (..., K, 3)."""
    return np.sqrt(np.square(centroids).sum(axis=(-2, -1)))


def _said(frame: np.ndarray) -> str:
    """`-x, -y and z` of a matrix of FRAMES."""
    of = [(AXES[column.nonzero()[0][0]], column.sum()) for column in frame.T]
    first, second, third = (("-" if sign < 0 else "") + name for name, sign in of)
    return f"{first}, {second} and {third}"


def _looks_like(ratio: float, units: dict[str, float]) -> str:
    """The unit whose size explains a ratio within a factor of three; empty if none does."""
    for unit, size in units.items():
        if abs(np.log(ratio * size)) < np.log(3.0):
            return f"; it looks like {unit}"
    return ""
