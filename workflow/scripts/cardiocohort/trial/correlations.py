"""Geometry beside simulated function. Owned by the trial stage."""

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ..cohort.subject_columns import Column

COLUMNS = (
    "function",
    "geometry",
    "n",
    "clusters",
    "rho",
    "p",
    "p_fdr",
    "rho_within",
    "p_within",
    "p_within_fdr",
)
FEWEST = 5  # hearts of a correlation


def correlations(subjects: pd.DataFrame, columns: dict[str, Column]) -> pd.DataFrame:
    """Spearman's rank correlation of every simulated quantity with every geometric one: COLUMNS.

    `_within`: after the mean of each arm was taken away, so that a difference between arms alone is no
    correlation. p values are of Student's t. Its degrees of freedom count clusters, since hearts of one
    cluster are not independent; within arms, each further arm takes one. `p_fdr`: adjusted over the table
    (Benjamini, Hochberg, J R Stat Soc B 1995). No rows where nothing was simulated; constant columns are left
    out.
    """
    function, geometry = (_varying(subjects, columns, role) for role in ("function", "geometry"))
    rows = []
    for f in function:
        for g in geometry:
            pair = subjects[["arm", "cluster", f, g]].dropna()
            if len(pair) < FEWEST or pair[f].nunique() < 2 or pair[g].nunique() < 2:
                continue
            within = pair[[f, g]] - pair.groupby("arm")[[f, g]].transform("mean")
            whole = stats.spearmanr(pair[f], pair[g]).statistic
            inside = stats.spearmanr(within[f], within[g]).statistic
            n, arms = pair["cluster"].nunique(), pair["arm"].nunique()
            rows.append({
                "function": f, "geometry": g, "n": len(pair), "clusters": n, "rho": whole,
                "p": _p_value(whole, n - 2), "rho_within": inside, "p_within": _p_value(inside, n - 1 - arms),
            })  # fmt: skip
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[2:], float))
    for name in ("p", "p_within"):
        known = table[name].notna()
        if known.any():
            table.loc[known, f"{name}_fdr"] = multipletests(table.loc[known, name], method="fdr_bh")[1]
    return table


def _p_value(rho: float, freedom: int) -> float:
    """Two-sided p of a rank correlation by Student's t; NaN without degrees of freedom."""
    if freedom < 1 or not np.isfinite(rho):
        return np.nan
    return float(2 * stats.t.sf(abs(rho) * np.sqrt(freedom / max(1 - rho**2, 1e-300)), freedom))


def _varying(subjects: pd.DataFrame, columns: dict[str, Column], role: str) -> list[str]:
    names = [name for name, c in columns.items() if c.role == role and c.kind == "number"]
    return [name for name in names if subjects[name].nunique() > 1]
