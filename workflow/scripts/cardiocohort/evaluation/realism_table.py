"""realism.tsv: sets of samples, and of real hearts, against reference hearts (evaluation stage)."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from ..anatomy.labels import Anatomy, Grid
from . import chamfer, features, realism
from .arms import PAPER, UNGUIDED
from .intervals import around, halves
from .samples import Hearts, Samples

FIGURES = ("fd", "precision", "recall", "mmd", "coverage", "one_nna")
SHARES = ("precision", "recall", "coverage", "one_nna")
REAL = "real"
COLUMNS = {"method": "str", "constrained_structures": "int64"} | dict.fromkeys(FIGURES, "float64")
COLUMNS |= {"n": "int64"}
MOST = 500  # hearts of a set that are compared, each with each: cost and memory grow with their square
FEWEST = 4 * realism.NEAREST  # hearts of a set: half of them, in resamples, still have neighbours


@dataclass(frozen=True)
class Compared:
    """A set of n hearts beside m reference ones: features and all distances that figures need.

    indices: place of each heart among the arm's samples, so that arms are resampled in pairs.
    """

    indices: np.ndarray
    samples: np.ndarray
    real: np.ndarray
    feature_distances: tuple[np.ndarray, np.ndarray, np.ndarray]  # cross, within samples, within real
    cloud_distances: tuple[np.ndarray, np.ndarray, np.ndarray]


def figures(c: Compared, rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The FIGURES of the hearts `rows` and the reference hearts `reference`, as many of both."""
    n = min(len(rows), len(reference))
    if n <= realism.NEAREST:
        return np.full(len(FIGURES), np.nan)
    rows, reference = rows[:n], reference[:n]
    cross, samples, real = (d[np.ix_(a, b)] for d, a, b in zip(
        c.feature_distances, (rows, rows, reference), (reference, rows, reference), strict=True
    ))  # fmt: skip
    far, among, there = (d[np.ix_(a, b)] for d, a, b in zip(
        c.cloud_distances, (rows, rows, reference), (reference, rows, reference), strict=True
    ))  # fmt: skip
    return np.array(
        [
            realism.frechet_distance(c.samples[rows], c.real[reference]),
            realism.precision(cross, real),
            realism.recall(cross, samples),
            realism.minimum_matching_distance(far),
            realism.coverage(far),
            realism.one_nna(among, far, there),
        ]
    )


def resampled(c: Compared, n: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The FIGURES (6,) of the first n samples, and of resamples (R, 6): halves of them and the reference.

    Of the larger set as many are halved as the estimate goes by: its share of the spread is that of so many.
    """
    place = {index: row for row, index in enumerate(c.indices)}
    m = len(c.real)
    whole = figures(c, _there(place, np.arange(n)), np.arange(m))
    k = min(n, m)
    pairs = zip(halves(k, resamples, seed), halves(k, resamples, seed + 1), strict=True)
    return whole, np.array([figures(c, _there(place, samples), real) for samples, real in pairs])


def _there(place: dict[int, int], indices: np.ndarray) -> np.ndarray:
    return np.array([place[i] for i in indices if i in place], dtype=int)


def table(
    arms: dict[str, Samples],
    hearts: dict[str, Hearts],
    anatomy: Anatomy,
    grid: Grid,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """One row per reference (set of hearts) and method: COLUMNS; `<figure>_low` and `_high`, 95 % intervals.

    Method `real`: the target hearts, in place of samples. n: hearts of either set; of more than MOST, the
    first. Further: fd_ratio, to unguided samples of the same number, and its interval; incomplete, samples
    left out since they lack a structure; reference.

    fd in squared standard deviations of the reference, mmd in mm.
    """
    hearts = {name: some.first(MOST) for name, some in hearts.items()}
    sets = {(REAL, 0): hearts["targets"]}
    for samples in arms.values():
        arm = samples.arm
        if arm.method == UNGUIDED or (arm.attributes == PAPER and arm.strength == 1 and not arm.deviations):
            sets[arm.method, len(arm.constrained)] = samples.hearts.first(MOST)
    set_features = {key: some.features() for key, some in sets.items()}
    set_clouds = {key: some.clouds(anatomy, grid) for key, some in sets.items()}
    within = {key: chamfer.chamfer(clouds, clouds) for key, clouds in set_clouds.items()}
    blocks = []
    for name in ("reference", "left_out"):
        if name not in hearts or len(hearts[name]) < FEWEST:
            continue
        real = hearts[name].features()
        real_clouds = hearts[name].clouds(anatomy, grid)
        real_within = chamfer.chamfer(real_clouds, real_clouds)
        compared = {}
        for key, some in sets.items():
            rows = np.flatnonzero(some.complete)
            scaled = features.standardise(set_features[key][rows], real)
            beside = features.standardise(real, real)
            compared[key] = Compared(
                rows,
                scaled,
                beside,
                (cdist(scaled, beside), cdist(scaled, scaled), cdist(beside, beside)),
                (
                    chamfer.chamfer(set_clouds[key][rows], real_clouds),
                    within[key][np.ix_(rows, rows)],
                    real_within,
                ),
            )
        blocks += _rows(name, compared, {key: len(some) for key, some in sets.items()}, resamples, seed)
    frame = pd.DataFrame(blocks)
    return frame if len(frame) else pd.DataFrame(columns=[*COLUMNS, "reference"])


def _rows(reference: str, compared: dict, drawn: dict, resamples: int, seed: int) -> list[dict]:
    rows = []

    @cache
    def again_of(key: tuple[str, int], n: int) -> tuple[np.ndarray, np.ndarray]:
        return resampled(compared[key], n, resamples, seed)

    for (method, constrained), c in compared.items():
        n = drawn[method, constrained]
        row = {"method": method, "constrained_structures": constrained}
        used = min(len(c.indices), len(c.real))
        if used < FEWEST:
            rows.append(row | dict.fromkeys(FIGURES, np.nan) | {"n": used, "reference": reference})
            continue
        whole, again = again_of((method, constrained), n)
        row |= dict(zip(FIGURES, whole, strict=True)) | {"n": used}
        for figure, value, values in zip(FIGURES, whole, again.T, strict=True):
            most = 1.0 if figure in SHARES else np.inf
            ends = np.clip(around(value, values), 0.0, most)
            row[f"{figure}_low"], row[f"{figure}_high"] = map(float, ends)
        base = compared.get((UNGUIDED, 0))
        # estimates from fewer hearts are larger: no ratio where there are fewer unguided samples
        if base is not None and len(base.indices) >= FEWEST and n <= drawn[UNGUIDED, 0]:
            plain, plain_again = again_of((UNGUIDED, 0), n)
            row["fd_ratio"] = whole[0] / plain[0]
            row["fd_ratio_low"], row["fd_ratio_high"] = around(
                row["fd_ratio"], again[:, 0] / plain_again[:, 0]
            )
        rows.append(row | {"incomplete": n - len(c.indices), "reference": reference})
    return rows
