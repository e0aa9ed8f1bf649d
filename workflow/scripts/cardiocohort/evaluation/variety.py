"""variety.tsv: do samples vary as real hearts do? Spread of moments by structure (evaluation stage)."""

import logging

import numpy as np
import pandas as pd

from ..anatomy.moments import Moments, to_vector
from ..runtime.errors import InputError
from .intervals import LEVEL, bootstrap_rows

log = logging.getLogger(__name__)

FEWEST = 3  # hearts of a set, to have a spread
BAR = 0.25  # a spread within 25 % of that of real hearts
GROUPS = {
    "centroid": ("x", "y", "z"),
    "principal axes": ("shortest", "middle", "longest"),
    "log covariance": ("l_xx", "l_yy", "l_xy", "l_xz", "l_yz"),
    "volume": ("log_volume",),
}
COLUMNS = {
    "structure": "str",
    "entry": "str",
    "group": "str",
    "sd_samples": "float64",
    "sd_real": "float64",
    "sd_population": "float64",
    "ratio": "float64",
    "low": "float64",
    "high": "float64",
    "within": "bool",
    "of_population": "float64",
    "n_samples": "int64",
    "n_real": "int64",
}


def entries(moments: Moments) -> dict[str, np.ndarray]:
    """By entry, (N,) of N hearts of one structure: centroid (mm), log lengths of the principal axes, entries
    of the trace-free log covariance, log volume.
    """
    vector = to_vector(moments)
    axes = np.log(np.linalg.eigvalsh(np.asarray(moments.covariance_mm2))) / 2
    return {
        "x": vector[:, 1],
        "y": vector[:, 2],
        "z": vector[:, 3],
        "shortest": axes[:, 0],
        "middle": axes[:, 1],
        "longest": axes[:, 2],
        **dict(zip(GROUPS["log covariance"], vector[:, 5:].T, strict=True)),
        "log_volume": vector[:, 0],
    }


def table(
    samples: Moments,
    real: Moments,
    population: Moments,
    structures: tuple[str, ...],
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """One row per structure and entry: the spread of samples (N, K) over that of real hearts (M, K), and over
    that of the population (P, K) that the prior was trained on.

    A population with diseases that the real hearts do not have is wider than they are. A prior that knows it
    is wider too: `of_population` tells this from poor sampling. low and high: 95 %, both sets resampled.
    within: the ratio is within the bar. Hearts without a structure are left out of its rows; one that fewer
    than FEWEST hearts of a set have gets no row. InputError where that leaves none.
    """
    rows, counts = [], {}
    for k, structure in enumerate(structures):
        sets = [m[:, k] for m in (samples, real, population)]
        *sets, whole = [entries(m[np.asarray(m.volume_ml) > 0]) for m in sets]
        n, m = (len(values["x"]) for values in sets)
        if min(n, m) < FEWEST:
            counts[structure] = (n, m)
            continue
        drawn = [list(bootstrap_rows(size, resamples, seed)) for size in (n, m)]
        for group, names in GROUPS.items():
            for name in names:
                mine, theirs, of_population = (v[name].std(ddof=1) for v in (*sets, whole))
                spreads = (
                    np.array([values[index].std(ddof=1) for index in some])
                    for values, some in zip((s[name] for s in sets), drawn, strict=True)
                )
                resampled = np.divide(*spreads)
                tail = 100 * (1 - LEVEL) / 2
                low, high = np.percentile(resampled, [tail, 100 - tail])
                rows.append(
                    {
                        "structure": structure,
                        "entry": name,
                        "group": group,
                        "sd_samples": mine,
                        "sd_real": theirs,
                        "sd_population": of_population,
                        "ratio": mine / theirs,
                        "low": low,
                        "high": high,
                        "within": bool(abs(mine / theirs - 1) <= BAR),
                        "of_population": mine / of_population,
                        "n_samples": n,
                        "n_real": m,
                    }
                )
    for structure, (n, m) in counts.items():
        log.warning(
            "%s: %d samples and %d real hearts have it; a spread needs %d of each", structure, n, m, FEWEST
        )
    if not rows:
        raise InputError(
            f"no structure has a spread: each needs {FEWEST} samples and {FEWEST} real hearts that have it "
            "(config keys 'evaluation.samples.unguided' and 'evaluation.real_hearts')"
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def by_group(rows: pd.DataFrame) -> pd.DataFrame:
    """Of `table`: per group the median ratio, its range over structures and entries, the share within."""
    groups = rows.groupby("group", sort=False)
    return groups.agg(
        median=("ratio", "median"),
        least=("ratio", "min"),
        largest=("ratio", "max"),
        within=("within", "mean"),
    ).reset_index()
