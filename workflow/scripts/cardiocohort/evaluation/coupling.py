"""coupling.tsv: does constraining an attribute move others more than data does? (evaluation stage)"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..anatomy import attributes
from ..anatomy.moments import Moments, of_each
from .arms import ABLATION, UNGUIDED
from .intervals import bootstrap_rows
from .samples import Hearts, Samples

BAR = 0.15  # SD/SD: slopes this far from the data's own count as the data's
FEWEST = 12  # samples that a slope goes by
ANGLES = ("turn_1_2", "turn_1_3", "turn_2_3")
ASPECTS = ("aspect_2_1", "aspect_3_2")
ENTRIES = ("log_volume", "x", "y", "z", *ANGLES, *ASPECTS)
OF = {"size": ENTRIES[:1], "position": ENTRIES[1:4], "orientation": ANGLES, "shape": (*ANGLES, *ASPECTS)}
COLUMNS = {
    "constrained": "str",
    "x": "str",
    "y": "str",
    "slope": "float64",
    "low": "float64",
    "high": "float64",
}
COLUMNS |= {"data_slope": "float64", "data_low": "float64", "data_high": "float64", "within_bar": "bool"}


def scalars(hearts: Moments, typical: Moments) -> np.ndarray:
    """ENTRIES of one structure (N,) as numbers (N, 9).

    log volume; centroid (mm); turns (rad) of the principal axes in the planes of two axes of the `typical`
    heart (1,), ascending; logarithms of the ratios of the second to the first eigenvalue, and of the third
    to the second.
    """
    turns = attributes.orientation_angles(hearts, typical)
    values = np.log(np.linalg.eigvalsh(hearts.covariance_mm2))
    return np.column_stack([np.log(hearts.volume_ml), hearts.centroid_mm, turns, np.diff(values, axis=-1)])


@dataclass(frozen=True)
class Scaled:
    """Scalars (n, 9) of a structure in the data's standard deviations, of real hearts and of arms by name.

    passed: which of an arm's samples the gate accepts, (n,) bool, by the arm's name.
    """

    data: np.ndarray
    arms: dict[str, np.ndarray]
    passed: dict[str, np.ndarray]


def scale(arms: dict[str, Samples], hearts: dict[str, Hearts], structure: int) -> Scaled:
    """Scalars of structure number `structure` of real hearts (targets, reference) and of complete samples."""
    real = [hearts[name].moments[:, structure] for name in ("targets", "reference")]
    real = of_each(lambda *of: np.concatenate(of), *real)
    typical = Moments(*(np.mean(of, axis=0)[None] for of in (real.volume_ml, real.centroid_mm, real.shape)))
    data = scalars(real, typical)
    mean, spread = data.mean(axis=0), data.std(axis=0, ddof=1)
    sampled = {
        name: (scalars(s.hearts.moments[s.hearts.complete][:, structure], typical) - mean) / spread
        for name, s in arms.items()
    }
    passed = {n: np.array([not own for own in s.causes])[s.hearts.complete] for n, s in arms.items()}
    return Scaled((data - mean) / spread, sampled, passed)


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of y on x."""
    x = x - x.mean()
    return float(x @ (y - y.mean()) / (x @ x))


def interval(x: np.ndarray, y: np.ndarray, resamples: int, seed: int) -> tuple[float, float, float]:
    """Slope of y on x and its 95 % percentile bootstrap interval."""
    slopes = [slope(x[rows], y[rows]) for rows in bootstrap_rows(len(x), resamples, seed)]
    return slope(x, y), *map(float, np.percentile(slopes, [2.5, 97.5]))


def table(scaled: Scaled, ablation: dict[str, str], resamples: int, seed: int) -> pd.DataFrame:
    """One row per attribute that is constrained alone, an entry x of it, and an entry y of another attribute.

    ablation: attribute -> its arm. Columns: COLUMNS, slopes of y on x in the data's standard deviations with
    95 % intervals: of the arm, of the data; within_bar: the arm's interval meets the data's slope +- BAR;
    passed_slope, passed_low, passed_high: of the arm's samples that the gate accepts; unguided_slope, and so
    on: of samples without any constraint.
    """
    out = []
    for attribute in (a for a in ABLATION if a in ablation):
        achieved, passed = (of[ablation[attribute]] for of in (scaled.arms, scaled.passed))
        for x in OF[attribute]:
            for y in (name for name in ENTRIES if name not in OF[attribute]):
                pair = [ENTRIES.index(x), ENTRIES.index(y)]
                slopes, data = (interval(*v[:, pair].T, resamples, seed) for v in (achieved, scaled.data))
                row = dict(zip(COLUMNS, (attribute, x, y, *slopes, *data), strict=False))
                row["within_bar"] = slopes[1] <= data[0] + BAR and slopes[2] >= data[0] - BAR
                others = {"passed": achieved[passed]} if passed.sum() >= FEWEST else {}
                others |= {UNGUIDED: scaled.arms[UNGUIDED]} if UNGUIDED in scaled.arms else {}
                for name, values in others.items():
                    names = (f"{name}_{part}" for part in ("slope", "low", "high"))
                    row |= dict(zip(names, interval(*values[:, pair].T, resamples, seed), strict=True))
                out.append(row)
    return pd.DataFrame(out)
