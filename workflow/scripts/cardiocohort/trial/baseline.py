"""Who was asked for and who came: covariates, targets and endpoints by arm. Owned by the trial stage."""

import numpy as np
import pandas as pd

from ..cohort.subject_columns import Column
from ..runtime.outcomes import Outcome

COLUMNS = (
    "arm", "who", "column", "level", "unit", "n", "missing", "mean", "sd", "median", "q1", "q3", "count",
    "percent",
)  # fmt: skip
REQUESTED, ACCEPTED = "requested", "accepted"


def baseline(subjects: pd.DataFrame, columns: dict[str, Column], names: list[str]) -> pd.DataFrame:
    """One row per arm, column (a text column: per level) and `who`, requested or accepted hearts: COLUMNS.

    subjects: the subject table. names: its columns to describe. Numbers have mean, standard deviation
    (n - 1), median and quartiles, levels have count and percent of the known. A column without any value is
    left out.
    """
    rows = []
    levels = {name: sorted(subjects.loc[subjects[name].ne(""), name].dropna().unique()) for name in names
              if columns[name].kind == "text"}  # fmt: skip
    for arm, own in subjects.groupby("arm", sort=False):
        for who in (REQUESTED, ACCEPTED):
            hearts = own if who == REQUESTED else own[own["status"] == Outcome.ACCEPTED]
            for name in names:
                head = {"arm": arm, "who": who, "column": name, "unit": columns[name].unit}
                if name in levels:
                    rows += [
                        head | {"level": level} | _of_level(hearts[name], level) for level in levels[name]
                    ]
                elif subjects[name].notna().any():
                    rows.append(head | {"level": ""} | _of_numbers(hearts[name]))
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def names_of(columns: dict[str, Column], endpoints: list[str]) -> list[str]:
    """The columns of the baseline table: covariates, target volumes, and the endpoints."""
    wanted = [name for name, c in columns.items() if c.role in ("covariate", "target")]
    return [*wanted, *(name for name in endpoints if name not in wanted)]


def _of_numbers(values: pd.Series) -> dict:
    known = values.dropna().astype(float)
    quartiles = known.quantile([0.25, 0.5, 0.75]).tolist() if len(known) else [np.nan] * 3
    return {
        "n": len(known), "missing": len(values) - len(known), "mean": known.mean(), "sd": known.std(),
        "q1": quartiles[0], "median": quartiles[1], "q3": quartiles[2],
    }  # fmt: skip


def _of_level(values: pd.Series, level: str) -> dict:
    known = values[values.notna() & values.ne("")]
    count = int(known.eq(level).sum())
    percent = 100.0 * count / len(known) if len(known) else np.nan
    return {"n": len(known), "missing": len(values) - len(known), "count": count, "percent": percent}
