"""Arms of explicit targets against those of the trial. Population stage; light, for the Snakefile."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..anatomy.domains import is_part
from ..runtime import tables
from ..runtime.errors import InputError
from .table import Arm


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


def check_parts(arms: Iterable[dict], cohort_table: str | Path, path: str | Path | None) -> None:
    """InputError for a part `structure@domain` of hearts without a base that has no targets, or no use.

    arms: `Arm.to_dict()`. path: the targets table; None without one. The population has whole structures
    only, so the moments of a part are the user's.
    """
    read = {arm.name: arm for arm in map(Arm.from_dict, arms) if not arm.base}
    if not path:  # in most plans; the string operations of pandas load megabytes that these do not need
        for arm in read.values():
            for part in arm.parts():
                raise _without_targets(part, arm.name, "", cohort_table)
        return
    frame = tables.read_table(path, {"arm": "str", "structure": "str"})
    subject = frame["subject"] if "subject" in frame.columns else pd.Series("", frame.index)
    frame["subject"] = subject.astype(object).fillna("")
    for name, arm in read.items():
        own = frame[frame["arm"] == name]
        local = own["structure"].map(is_part).astype(bool)
        named = ", ".join(arm.parts()) or "none"
        allowed = f"a part that arm {name!r} names in its constraints or edits: {named}"
        tables.first_bad(path, own, "structure", local & ~own["structure"].isin(arm.parts()), allowed)
        subjects = own["subject"].drop_duplicates()
        for part in arm.parts():
            lacking = [s for s in subjects if not ((own["structure"] == part) & (own["subject"] == s)).any()]
            if own.empty or lacking:
                raise _without_targets(part, name, lacking[0] if lacking else "", cohort_table)


def _without_targets(part: str, arm: str, subject: str, cohort_table: str | Path) -> InputError:
    who = f" for subject {subject!r}" if subject else ""
    return InputError(
        f"{cohort_table}, arm {arm!r}: {part} has no row in the targets table (config key "
        f"'targets_table'){who}; write its moments there, "
        "write a base, whose label map is measured, or name the whole structure"
    )


def arms_of_one_target(path: str | Path) -> set[str]:
    """Arms whose subjects all have the same targets: the table names none of their subjects."""
    columns = {"arm": "str"} | ({"subject": "str"} if "subject" in tables.column_names(path) else {})
    frame = tables.read_table(path, columns, alone=True)
    subject = frame.get("subject", pd.Series("", frame.index))
    return set(frame["arm"]) - set(frame.loc[subject != "", "arm"])
