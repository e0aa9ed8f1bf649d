"""Confidence intervals by resampling (evaluation stage)."""

from collections.abc import Iterator

import numpy as np

LEVEL = 0.95


def bootstrap_rows(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Indices (n,) of resamples with replacement; equal arguments give equal ones, so that figures of arms
    that share their samples' indices are resampled in pairs (Efron and Tibshirani 1993).
    """
    rng = np.random.default_rng([seed, n])
    for _ in range(resamples):
        yield rng.integers(n, size=n)


def halves(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Indices (n // 2,) of random halves, in pairs as `bootstrap_rows`.

    For figures that go by nearest neighbours: in a resample with replacement many samples are there twice,
    each the other's neighbour. The spread of a mean over random halves is that of the bootstrap over all
    (McCarthy 1969; Shao and Wu 1989, the jackknife that deletes half).
    """
    rng = np.random.default_rng([seed, n, 2])
    for _ in range(resamples):
        yield rng.permutation(n)[: n // 2]


def around(estimate: float, resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Interval about the estimate by the resamples' quantiles about their own mean.

    Halves, and resamples with replacement, move such figures by a bias that the estimate does not have: only
    their spread is taken.
    """
    finite = resampled[np.isfinite(resampled)]
    if not len(finite) or not np.isfinite(estimate):
        return np.nan, np.nan
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(finite - finite.mean(), [tail, 100 - tail])
    return float(estimate + low), float(estimate + high)


def quantiles(values: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Quantiles (R, Q) of the finite entries of each row of values (R, m), NaN where there is none.

    Interpolated as by `numpy.quantile`; several times as fast as its form that passes over NaN.
    """
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=1)  # NaN are last
    n = np.isfinite(ordered).sum(axis=1)
    out = []
    for level in levels:
        place = level * np.maximum(n - 1, 0)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, np.maximum(n - 1, 0))
        low, high = (np.take_along_axis(ordered, at[:, None], axis=1)[:, 0] for at in (below, above))
        out.append(low + (place - below) * (high - low))
    return np.stack(out, axis=1)


def quantile_intervals(
    values: np.ndarray, levels: tuple[float, ...], resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles (Q,) of the finite entries of all of values (n, k), and 95 % intervals (Q, 2).

    Percentile bootstrap over rows: entries of a row come together.
    """
    drawn = np.stack([values[rows].ravel() for rows in bootstrap_rows(len(values), resamples, seed)])
    tail = 100 * (1 - LEVEL) / 2
    ends = np.nanpercentile(quantiles(drawn, levels), [tail, 100 - tail], axis=0)
    return quantiles(values.reshape(1, -1), levels)[0], ends.T


def difference_interval(a: np.ndarray, b: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares, of a (n,) bool and b (n,) bool over the same samples.

    Percentile bootstrap over pairs.
    """
    differs = a.astype(float) - b
    shares = [differs[rows].mean() for rows in bootstrap_rows(len(a), resamples, seed)]
    tail = 100 * (1 - LEVEL) / 2
    return tuple(map(float, np.percentile(shares, [tail, 100 - tail])))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927), which is sound at 0 and 1 too."""
    if n == 0:
        return np.nan, np.nan
    z, share = 1.959964, successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # at 0 and 1 the ends are the share itself, up to rounding
    return float(max(min(centre - half, share), 0.0)), float(min(max(centre + half, share), 1.0))
