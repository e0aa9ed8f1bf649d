"""Arms of explicit targets against those of the trial. Population stage; light, for the Snakefile."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..anatomy.domains import REST, definition, domain_named, frame_structures, is_part, split
from ..anatomy.labels import Grid
from ..runtime import tables
from ..runtime.errors import InputError
from .table import Arm

DEFINITION = "definition"
PART_COLUMNS = {"structure": "str", DEFINITION: "str"}  # of a table of parts: what it is of
MAKE_IT = (
    "`snakemake reference_parts` measures the parts of drawn arms in the hearts of the config section "
    "'prior' and writes results/prior/<name>/reference_parts.parquet"
)


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


def drawn_parts(arms: Iterable[dict], path: str | Path | None) -> dict[str, Arm]:
    """Arms (`Arm.to_dict()`) that name parts and draw their targets, by name. path: the targets table."""
    found = {arm.name: arm for arm in map(Arm.from_dict, arms) if not arm.base and arm.parts()}
    explicit = explicit_arms(path) if path and found else set()
    return {name: arm for name, arm in found.items() if name not in explicit}


def check_parts(
    arms: Iterable[dict],
    cohort_table: str | Path,
    path: str | Path | None,
    measured: str | Path | None,
    grid: Grid,
) -> None:
    """InputError for a part `structure@domain` of hearts without a base whose moments nobody gives.

    arms: `Arm.to_dict()`. path: the targets table. measured: the table of parts (`population.parts`), of the
    same domains on the same `grid`. Both are None where there is none.
    """
    arms = list(arms)
    if path:
        _check_explicit([Arm.from_dict(arm) for arm in arms if not arm["base"]], cohort_table, path)
    known = None
    for name, arm in drawn_parts(arms, path).items():
        if measured and known is None:
            rows = tables.read_table(measured, PART_COLUMNS, alone=True).drop_duplicates()
            known = rows.groupby("structure")[DEFINITION].agg(set).to_dict()
        for part in arm.parts():
            own = definition(part, arm.domains, grid)
            if not measured or part not in known:
                table = "there is no table of parts"
                if measured:
                    table = f"the table of parts {measured} has no row of it"
                raise InputError(
                    f"{cohort_table}, arm {name!r}: the moments of {part} are to be drawn, but {table} "
                    f"(config key 'reference_parts'); {MAKE_IT}. Or write its moments in the targets table "
                    "('targets_table'), write a base, whose label map is measured, or name the whole "
                    "structure"
                )
            if known[part] != {own}:
                raise InputError(
                    f"{cohort_table}, arm {name!r}: the table of parts {measured} (config key "
                    f"'reference_parts') has {part} of another domain than config key "
                    f"'domains.{split(part)[1].removeprefix(REST)}', or of another voxel size; {MAKE_IT}"
                )


def explicit_arms(path: str | Path) -> set[str]:
    """The arms that a targets table names."""
    return set(tables.read_table(path, {"arm": "str"}, alone=True)["arm"])


def _check_explicit(arms: list[Arm], cohort_table: str | Path, path: str | Path) -> None:
    """The parts of arms of the targets table have rows there, and no others have."""
    frame = tables.read_table(path, {"arm": "str", "structure": "str"})
    subject = frame["subject"] if "subject" in frame.columns else pd.Series("", frame.index)
    frame["subject"] = subject.astype(object).fillna("")
    for arm in arms:
        own = frame[frame["arm"] == arm.name]
        if own.empty:
            continue
        local = own["structure"].map(is_part).astype(bool)
        named = ", ".join(arm.parts()) or "none"
        allowed = f"a part that arm {arm.name!r} names in its constraints or edits: {named}"
        tables.first_bad(path, own, "structure", local & ~own["structure"].isin(arm.parts()), allowed)
        subjects = {s: set(rows["structure"]) for s, rows in own.groupby("subject", sort=False)}
        for part in arm.parts():
            _check_frame_is_given(part, arm, cohort_table)
            needed = [part, *frame_structures(part, arm.domains)]
            for who, has in subjects.items():
                if lacking := [name for name in needed if name not in has]:
                    raise _without_targets(lacking[0], part, arm.name, who, cohort_table)


def _check_frame_is_given(part: str, arm: Arm, cohort_table: str | Path) -> None:
    if domain_named(part, arm.domains).frame == "contact":
        raise InputError(
            f"{cohort_table}, arm {arm.name!r}: {part} has the frame 'contact', and moments in the targets "
            "table do not say where two structures touch; take a domain in the frame 'structure' or 'heart', "
            "draw the arm's targets, or write a base (config key "
            f"'domains.{split(part)[1].removeprefix(REST)}')"
        )


def _without_targets(name: str, part: str, arm: str, subject: str, cohort_table: str | Path) -> InputError:
    who = f" for subject {subject!r}" if subject else ""
    why = "" if name == part else f", which the domain of {part} lies by"
    return InputError(
        f"{cohort_table}, arm {arm!r}: {name} has no row in the targets table (config key "
        f"'targets_table'){who}{why}; write its moments there, write a base, whose label map is measured, or "
        "name the whole structure"
    )


def arms_of_one_target(path: str | Path) -> set[str]:
    """Arms whose subjects all have the same targets: the table names none of their subjects."""
    columns = {"arm": "str"} | ({"subject": "str"} if "subject" in tables.column_names(path) else {})
    frame = tables.read_table(path, columns, alone=True)
    subject = frame.get("subject", pd.Series("", frame.index))
    return set(frame["arm"]) - set(frame.loc[subject != "", "arm"])
