"""Arms of explicit targets against those of the trial. Population stage; light, for the Snakefile."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..runtime import tables


def refuse_other_arms(path: str | Path, arms: Iterable[str]) -> None:
    """InputError for the first row of a targets table whose arm is none of `arms`: nobody would have it.

    A batch job sees its own arm alone, and so cannot tell a misspelt one from another's.
    """
    arms = list(arms)
    frame = tables.read_table(path, {"arm": "str"}, alone=True)
    allowed = (
        f"an arm of the cohort table without a base; allowed: {', '.join(arms)}. Correct it, or take such "
        "rows out (siblings have the moments of their base)"
    )
    tables.first_bad(path, frame, "arm", ~frame["arm"].isin(arms), allowed)


def arms_of_one_target(path: str | Path) -> set[str]:
    """Arms whose subjects all have the same targets: the table names none of their subjects."""
    columns = {"arm": "str"} | ({"subject": "str"} if "subject" in tables.column_names(path) else {})
    frame = tables.read_table(path, columns, alone=True)
    subject = frame.get("subject", pd.Series("", frame.index))
    return set(frame["arm"]) - set(frame.loc[subject != "", "arm"])
