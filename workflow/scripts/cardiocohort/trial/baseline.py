"""Who was requested and who was accepted: covariates, targets, endpoints by arm. Owned by the trial stage."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..cohort.subject_columns import RELATION_TARGETS, Column
from ..runtime.outcomes import Outcome

COLUMNS = (
    "arm", "who", "column", "level", "unit", "n", "missing", "mean", "sd", "median", "q1", "q3", "count",
    "percent",
)  # fmt: skip
REQUESTED, ACCEPTED = "requested", "accepted"


def baseline(subjects: pd.DataFrame, columns: Mapping[str, Column], names: list[str]) -> pd.DataFrame:
    """Every column of `names` by arm, of requested and of accepted hearts: COLUMNS. subjects: the table."""
    accepted = subjects[subjects["status"] == Outcome.ACCEPTED]
    parts = [
        describe(hearts, subjects, columns, names).assign(who=who)
        for who, hearts in ((REQUESTED, subjects), (ACCEPTED, accepted))
    ]
    return pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS))


def describe(
    hearts: pd.DataFrame, everyone: pd.DataFrame, columns: Mapping[str, Column], names: list[str]
) -> pd.DataFrame:
    """One row per arm and column (a text column: per level of `everyone`): COLUMNS without `who`.

    Numbers have mean, standard deviation (n - 1), median and quartiles, levels have count and percent of the
    known. A column without any value is left out.
    """
    rows = []
    for arm in everyone["arm"].unique():
        own = hearts[hearts["arm"] == arm]
        for name in names:
            head = {"arm": arm, "column": name, "unit": columns[name].unit}
            known = everyone.loc[everyone[name].notna() & everyone[name].ne(""), name]
            if columns[name].kind == "text":
                rows += [
                    head | {"level": level} | _of_level(own[name], level) for level in sorted(set(known))
                ]
            elif len(known):
                rows.append(head | {"level": ""} | _of_numbers(own[name]))
    return pd.DataFrame(rows).reindex(columns=[name for name in COLUMNS if name != "who"])


def names_of(columns: Mapping[str, Column], endpoints: list[str]) -> list[str]:
    """The columns of the baseline table: covariates, target volumes, and the endpoints."""
    wanted = [
        name
        for name, c in columns.items()
        if c.role in ("covariate", "target") and not name.startswith(RELATION_TARGETS)
    ]
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
