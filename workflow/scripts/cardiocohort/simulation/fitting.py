"""Which factors a calibration tries next. Owned by the simulation stage. Pure.

Few runs are affordable, so slopes come from all runs so far: a ridge regression of their differences from the
best one, towards slopes that were measured on a model heart. Near runs count more, as in a secant method,
unless they are so near that beats repeat no better. The next factors are the least squares of the targets'
logarithms with these slopes, inside bounds and within a radius that is halved where a run is worse than the
best one or fails (a trust region).
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import lsq_linear

from .scaling import LEAST, MOST
from .targets import SCALARS

LARGEST = np.log(2.0)  # change of a factor's logarithm in one run
SMALLEST = 0.01  # a smaller change is within what repeats of a beat differ by
NOISE = 0.05  # changes of a factor's logarithm below this give uncertain slopes
RIDGE = 0.1  # weight of the measured slopes, beside a run at a distance of 1
LEAST_GAIN, LEAST_CHANGE = 0.05, 0.005  # that a run must promise of a target: share of its error, logarithm
# Slopes of logarithms, column of the simulation table by scalar (SCALARS), measured on a model heart by
# factors of 1.2 (docs/validation/simulation.md)
SLOPES = {
    "lv_ef": (-0.24, 0.38, -0.24),
    "rv_ef": (-0.17, 0.30, -0.09),
    "lv_stroke_ml": (-0.25, 0.39, -0.24),
    "lv_esv_ml": (0.27, -0.51, 0.27),
    "cardiac_output_l_min": (-0.25, 0.39, -0.24),
    "lv_dpdt_max_kpa_s": (-0.16, 0.93, 0.22),
    "lv_peak_kpa": (-0.21, 0.40, 0.33),
    "arterial_mean_kpa": (-0.21, 0.41, 0.47),
    "arterial_peak_kpa": (-0.21, 0.41, 0.34),
    "lv_edv_ml": (-0.28, 0.0, 0.0),
    "lv_unloaded_ml": (0.24, 0.0, 0.0),
}


def measured_slopes(targets: Sequence[str], scalars: Sequence[str]) -> np.ndarray:
    """(targets, scalars)."""
    return np.array([[SLOPES[name][SCALARS.index(scalar)] for scalar in scalars] for name in targets])


def next_point(
    points: Sequence[np.ndarray], errors: Sequence[np.ndarray | None], measured: np.ndarray
) -> np.ndarray | None:
    """Logarithms of the factors to try next; None where no run promises anything better.

    points: those of all runs, the first one included. errors: log(reached / target) of the same runs, None
    for a run that failed. measured (m, n): slopes that are taken where runs say nothing.
    """
    if errors[0] is None:
        return None
    best, radius = _trusted(points, errors)
    slopes = _slopes(points, errors, best, measured)
    low = np.maximum(np.log(LEAST) - points[best], -radius)
    high = np.minimum(np.log(MOST) - points[best], radius)
    room = high - low > SMALLEST
    step = np.zeros(len(low))
    if room.any():
        step[room] = lsq_linear(slopes[:, room], -errors[best], (low[room], high[room])).x
    size = np.abs(errors[best])
    gained = size - np.abs(errors[best] + slopes @ step)
    if np.abs(step).max() < SMALLEST or not (gained > np.maximum(LEAST_GAIN * size, LEAST_CHANGE)).any():
        return None
    return points[best] + step


def best_of(errors: Sequence[np.ndarray | None]) -> int:
    """Index of the run with the least sum of squares, the first of equals; 0 where all failed."""
    sizes = [np.inf if error is None else np.linalg.norm(error) for error in errors]
    return int(np.argmin(sizes))


def _trusted(points, errors) -> tuple[int, float]:
    """The best run, and how far from it the next one may be."""
    best, radius = 0, LARGEST
    for place in range(1, len(points)):
        length = float(np.abs(points[place] - points[best]).max())
        error = errors[place]
        if error is not None and np.linalg.norm(error) < np.linalg.norm(errors[best]):
            best, radius = place, min(LARGEST, max(radius, 2 * length))
        else:
            radius = length / 2
    return best, radius


def _slopes(points, errors, best: int, measured: np.ndarray) -> np.ndarray:
    others = [place for place, error in enumerate(errors) if error is not None and place != best]
    if not others:
        return measured
    moved = np.array([points[place] - points[best] for place in others])
    gained = np.array([errors[place] - errors[best] for place in others])
    square = (moved**2).sum(axis=1, keepdims=True)
    weights = square / (square + NOISE**2) ** 2.5
    left = (moved * weights).T @ moved + RIDGE * np.eye(moved.shape[1])
    return measured + np.linalg.solve(left, (moved * weights).T @ (gained - moved @ measured.T)).T
