"""Arms of explicit targets against those of the trial. Population stage; light, for the Snakefile."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.domains import REST, definition, domain_named, frame_structures, is_part, is_slab, split
from ..anatomy.labels import Grid
from ..anatomy.moments import THICKNESS
from ..runtime import tables
from ..runtime.errors import InputError
from .table import Arm

DEFINITION = "definition"
PART_COLUMNS = {"structure": "str", DEFINITION: "str"}  # of a table of parts: what it is of
AREA = "area_mm2"  # of a targets table: a slab's area in place of its volume
MAKE_IT = (
    "`snakemake reference_parts` measures the parts that arms name in the hearts of the config section "
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


def arms_with_parts(arms: Iterable[dict]) -> dict[str, Arm]:
    """Arms (`Arm.to_dict()`) that name parts, by name."""
    return {arm.name: arm for arm in map(Arm.from_dict, arms) if arm.parts()}


def wanted_parts(arms: Iterable[Arm]) -> tuple[list[str], list[str]]:
    """Parts that the arms name, each once, and those of them whose thickness is named."""
    arms = list(arms)
    walls = set().union(*(arm.walls() for arm in arms))
    names = list(dict.fromkeys(part for arm in arms for part in arm.parts()))
    return names, [name for name in names if name in walls]


def measured_parts(path: str | Path) -> tuple[dict[str, set[str]], set[str]]:
    """Definitions by name of what a table of parts has, and the names that have a thickness there."""
    with_thickness = THICKNESS in tables.column_names(path)
    kinds = PART_COLUMNS | ({THICKNESS: "float64"} if with_thickness else {})
    rows = tables.read_table(path, kinds, alone=True)
    walls = set(rows.loc[rows[THICKNESS].notna(), "structure"]) if with_thickness else set()
    known = rows[list(PART_COLUMNS)].drop_duplicates().groupby("structure")[DEFINITION].agg(set)
    return known.to_dict(), walls


def parts_as_measured(arm: Arm, path: str | Path, grid: Grid) -> list[str]:
    """The parts of an arm that a table of parts has of the same domains and voxel size."""
    known, _ = measured_parts(path)
    return [name for name in arm.parts() if known.get(name) == {definition(name, arm.domains, grid)}]


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
    known, walls = None, set()
    for name, arm in drawn_parts(arms, path).items():
        if measured and known is None:
            known, walls = measured_parts(measured)
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
            if part in arm.walls() - walls:
                raise InputError(
                    f"{cohort_table}, arm {name!r}: the thickness of {part} is to be drawn, but the table of "
                    f"parts {measured} (config key 'reference_parts') has none of it; {MAKE_IT}"
                )


def explicit_arms(path: str | Path) -> set[str]:
    """The arms that a targets table names."""
    return set(tables.read_table(path, {"arm": "str"}, alone=True)["arm"])


def _check_explicit(arms: list[Arm], cohort_table: str | Path, path: str | Path) -> None:
    """The parts of arms of the targets table have rows there, and no others have."""
    frame = tables.read_table(path, {"arm": "str", "structure": "str"})
    subject = frame["subject"] if "subject" in frame.columns else pd.Series("", frame.index)
    frame["subject"] = subject.astype(object).fillna("")
    for name in (AREA, THICKNESS):
        frame[name] = pd.to_numeric(frame[name], errors="coerce") if name in frame.columns else np.nan
    for arm in arms:
        own = frame[frame["arm"] == arm.name]
        if own.empty:
            continue
        slabs = [part for part in arm.parts() if is_slab(part, arm.domains)]
        no_slab = own[AREA].notna() & ~own["structure"].isin(slabs)
        allowed = f"a slab that arm {arm.name!r} names, since {AREA} is given: {', '.join(slabs) or 'none'}"
        tables.first_bad(path, own, "structure", no_slab, allowed)
        unknown = own["structure"].isin(arm.walls()) & own[THICKNESS].isna()
        allowed = f"a thickness, since arm {arm.name!r} names that of the structure"
        tables.first_bad(path, own, THICKNESS, unknown, allowed)
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
