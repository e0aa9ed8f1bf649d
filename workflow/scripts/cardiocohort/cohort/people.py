"""Who is in a reference population, and whether it has the people that the arms name.

Owned by the population stage; light, because the Snakefile imports it.
"""

import csv
import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.domains import CELL_VOXELS, REST, place_usual, split
from ..anatomy.labels import Anatomy, Grid
from ..anatomy.moments import MOMENT_COLUMNS, from_columns
from ..runtime import tables
from ..runtime.apart import apart
from ..runtime.errors import InputError
from . import covariates
from .covariates import AREA, GROUP, Covariate
from .regressors import Regression, check_size, regression_on
from .table import REFERENCE_COLUMNS, Arm

SUMMARY = {"condition": "str", "sex": "str", "subjects": "int64"} | dict.fromkeys(
    ("age_years_min", "age_years_max", "bsa_m2_min", "bsa_m2_max"), "float64"
)


def read_people(path: str | Path, known: Mapping[str, Covariate]) -> pd.DataFrame:
    """One row per subject of a reference table, with those of the covariates `known` that it has.

    Raises InputError for a file that is no table or has no column `subject`, and for values not allowed.
    """
    frame = covariates.read_table(path, {"subject": "str"}, known)
    if frame.empty:
        raise InputError(f"{path}: the reference table has no rows")
    return frame.drop_duplicates("subject").reset_index(drop=True)


def of_subjects(path: str | Path, subjects: Collection[str], known: Mapping[str, Covariate]) -> pd.DataFrame:
    """Covariates of the label maps that a prior is trained on: one row per subject, `subject` first.

    path: the table of config key `prior.covariates`. Rows of other subjects are not read. Raises InputError
    naming file, row and column for a gap or a value that is not allowed, and for subjects without a row.
    """
    frame = covariates.read_table(path, {"subject": "str"}, known, among=subjects)
    lacking = sorted(set(subjects) - set(frame["subject"]))
    if lacking:
        raise InputError(
            f"{path}, column 'subject': no row of {', '.join(lacking[:5])} ({len(lacking)} are missing); "
            "every label map that is trained on needs one, or take these maps out of the folder"
        )
    return frame.drop_duplicates("subject").reset_index(drop=True)


def unknown_columns(path: str | Path, known: Mapping[str, Covariate]) -> str:
    """Names the columns of a reference table which nothing uses, and what would use them; empty if none."""
    others = [name for name in tables.column_names(path) if name not in {*REFERENCE_COLUMNS, *known}]
    if not others:
        return ""
    nearest = get_close_matches(others[0], list(known), n=1)
    column = tables.read_table(path, {others[0]: "object"}, alone=True)[others[0]]
    numbers = covariates.numbers_of(column)
    row = f"column\tkind\n{others[0]}\tcategorical"
    if numbers.notna().all() and len(numbers):
        row = f"column\tkind\tlow\thigh\n{others[0]}\tnumeric\t{numbers.min():g}\t{numbers.max():g}"
    return (
        f"{path}: columns {', '.join(others)} are not used"
        + (f" (is {others[0]!r} meant to be {nearest[0]!r}?)" if nearest else "")
        + f"; the covariates are {', '.join(known)}. To use one, name a table in the config key "
        f"'covariates_table', here with the lines {row!r} (docs/cohort-table.md)"
    )


def regression_of(people: pd.DataFrame, known: Mapping[str, Covariate]) -> Regression:
    """What hearts are regressed on, of the covariates that `people` have."""
    return regression_on([known[name] for name in people.columns if name in known], people)


def check_arm(arm: Arm, people: pd.DataFrame, known: Mapping[str, Covariate], regression: Regression) -> None:
    """InputError if the arm gives covariates that no subject of the population has, or that say nothing."""
    derived = {d.regressor.covariate.column: d for d in regression.derived}
    for column, given in arm.covariates.items():
        cohort_column = known[column].cohort_column
        if column not in people.columns:
            raise InputError(
                f"arm {arm.name!r} gives {cohort_column}, but the reference table has no column "
                f"{column!r}; leave the cell empty, or add the column to the reference table"
            )
        where = f"arm {arm.name!r}, column {cohort_column!r}"
        if column in derived:
            others = derived[column].others
            raise InputError(
                f"{where}: {' and '.join(others)} determine {column} in the reference population; leave the "
                f"cell empty and give {' and '.join(known[name].cohort_column for name in others)}, or take "
                "one of these columns out of the reference table"
            )
        only = people[column].iloc[0]
        if column in regression.constant and (given.kind, given.parameters) != ("fixed", (only,)):
            raise InputError(
                f"{where}: every subject of the reference population has {column} {only:g}, so it cannot say "
                "what another value does; leave the cell empty"
            )
        lacking = [level for level in given.levels if level not in set(people[column])]
        if lacking:
            raise InputError(
                f"{where}: {lacking[0]!r} is not in the reference population; allowed: "
                f"{', '.join(sorted(set(people[column])))} (target describe_population lists them)"
            )
    for levels in combinations(arm):
        if not alike(people, levels).any():
            said = " and ".join(f"{known[column].cohort_column} {level}" for column, level in levels.items())
            raise InputError(
                f"arm {arm.name!r}: the reference population has no subject with {said}; change one of the "
                "cells, or leave it empty"
            )


def combinations(arm: Arm) -> list[dict[str, str]]:
    """The levels by column that subjects of an arm can have together."""
    given = {column: d.levels for column, d in arm.covariates.items() if d.levels}
    return [dict(zip(given, levels, strict=True)) for levels in product(*given.values())]


def alike(people: pd.DataFrame, levels: Mapping[str, str]) -> np.ndarray:
    """Mask (N,) of the people with these levels, by column."""
    same = np.ones(len(people), dtype=bool)
    for column, level in levels.items():
        same &= (people[column] == level).to_numpy()
    return same


def outside(arm: Arm, people: pd.DataFrame) -> list[str]:
    """One sentence per covariate of which values in the arm lie outside those of the population."""
    found = []
    for column, distribution in arm.covariates.items():
        if distribution.kind == "shares":
            continue
        low, high = people[column].min(), people[column].max()
        first, *second = distribution.parameters
        spread = 2 * second[0] if distribution.kind == "normal" else 0.0
        least, most = first - spread, (second[0] if distribution.kind == "uniform" else first) + spread
        if least < low or most > high:
            found.append(
                f"arm {arm.name!r}: {column} reaches {least:.4g} to {most:.4g}, outside the reference "
                f"population's {low:.4g} to {high:.4g}; hearts there are extrapolated"
            )
    return found


def check_trial_apart(arms: Iterable[dict], *args) -> list[str]:
    """`check_trial` of arms (`Arm.to_dict()`) in a process of its own.

    The tables and their readers take 30 MB, which the process that plans would keep.
    """
    return apart(check_trial, [Arm.from_dict(arm) for arm in arms], *args)


def check_trial(
    arms: Iterable[Arm],
    cohort_table: str | Path,
    reference: str | Path,
    rules: str | Path,
    known: Mapping[str, Covariate],
    grid: Grid,
    anatomy: Anatomy | None = None,
) -> list[str]:
    """What can be known of a trial before any job: warnings, in sentences.

    Raises InputError for a reference table of another `anatomy`, for what the population cannot answer, for
    parts of structures that have no place in its median heart on `grid`, and for conditions that cannot be
    made: those of the table `<rules>_conditions.tsv` beside the topology rules.
    """
    arms, people = list(arms), read_people(reference, known)
    if anatomy:
        check_structures(reference, anatomy)
    regression = regression_of(people, known)
    warnings = [unknown_columns(reference, known)]
    warnings += [f"{reference}: {remark}" for remark in regression.remarks(people)]
    for arm in arms:
        check_arm(arm, people, known, regression)
        warnings += outside(arm, people)
    check_parts(arms, cohort_table, reference, grid)
    per_m2 = [(arm.name, edit) for arm in arms for edit in arm.edits if edit.operation == "set_per_m2"]
    if per_m2 and AREA not in people.columns:
        name, edit = per_m2[0]
        raise InputError(
            f"{cohort_table}, arm {name!r}, column 'edits': {edit.structure}.{edit.quantity} is per m2 of "
            f"body-surface area, and the reference table {reference} has no column {AREA!r}; write "
            f"{'mm2' if edit.quantity == 'area' else 'mL'}"
        )
    excluded = Path(rules).with_name(f"{Path(rules).stem}_conditions.tsv")
    if not excluded.exists() and GROUP in people:
        warnings.append(
            f"{rules}: no table {excluded.name} beside it says which conditions these rules exclude; hearts "
            "of such a condition would have its name only"
        )
    if excluded.exists():
        exclusions = read_exclusions(excluded)
        check_conditions(sorted(set(people.get(GROUP, []))), exclusions, f"reference table {reference}")
        named = [level for arm in arms if GROUP in arm.covariates for level in arm.covariates[GROUP].levels]
        check_conditions(named, exclusions, f"{cohort_table}, column 'condition'")
    check_size(regression, len(people))
    return [warning for warning in warnings if warning]


def check_parts(arms: Iterable[Arm], cohort_table: str | Path, reference: str | Path, grid: Grid) -> None:
    """InputError for a part `structure@domain` that has no place in the median heart of the population.

    Also for a wall that is to be thinner than a cell, so that its thickness cannot be measured.
    """
    arms, cell_mm = list(arms), CELL_VOXELS * grid.spacing_mm
    for name, edit in ((arm.name, edit) for arm in arms for edit in arm.edits):
        if (edit.quantity, edit.operation) == ("thickness", "set") and edit.value < cell_mm:
            raise InputError(
                f"{cohort_table}, arm {name!r}, column 'edits': {edit.structure}.thickness is "
                f"{edit.value:g} mm, less than a cell; allowed: at least {cell_mm:g} mm"
            )
    named = [(arm, name) for arm in arms for name in arm.parts()]
    if not named:
        return
    kinds = {"structure": "str"} | dict.fromkeys(MOMENT_COLUMNS, "float64")
    median = tables.read_table(reference, kinds).groupby("structure")[list(MOMENT_COLUMNS)].median()
    usual = (from_columns(median), tuple(median.index))
    for arm, name in named:
        if problem := place_usual(name, arm.domains, usual, grid):
            raise InputError(
                f"{cohort_table}, arm {arm.name!r}: {name} in the median heart of the reference population: "
                f"{problem} (config key 'domains.{split(name)[1].removeprefix(REST)}')"
            )


def check_structures(path: str | Path, anatomy: Anatomy) -> None:
    """InputError for the first row of a table of moments whose structure the anatomy does not have.

    A union or a part `structure@domain` counts as its structures.
    """
    frame = tables.read_table(path, {"structure": "str"}, alone=True)
    names = frame["structure"].map(lambda name: [part.strip() for part in split(name)[0].split("+")])
    unknown = ~names.map(set(anatomy.structures).issuperset).astype(bool)
    allowed = (
        f"of the anatomy, which has {', '.join(anatomy.structures)} (config keys 'anatomy' and 'bundle')"
    )
    tables.first_bad(path, frame, "structure", unknown, allowed)


def read_exclusions(path: str | Path) -> list[tuple[str, str, str]]:
    """Rows of a table of excluded conditions: pattern of names, rules of the gate, reason."""
    rows = list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    return [(row["condition"], row["rules"], row["reason"]) for row in rows]


def check_conditions(names: Iterable[str], exclusions: list[tuple[str, str, str]], where: str) -> None:
    """InputError for a condition whose hearts the gate's rules exclude: none that comes out would have it."""
    for name in names:
        for pattern, rules, reason in exclusions:
            if re.search(pattern, name.casefold()):
                raise InputError(
                    f"{where}: hearts with {name!r} cannot be made: {reason} (topology rules {rules}). "
                    "Normal hearts of that name would come out. Take the condition out, or bring rules and a "
                    "prior that allow it (config keys 'topology_rules' and 'bundle')"
                )


def described(people: pd.DataFrame, known: Mapping[str, Covariate]) -> pd.DataFrame:
    """One row per condition and sex, then one for all: the columns SUMMARY, then those of other covariates.

    Numeric ones have <name>_min and <name>_max; of categorical ones <name> lists levels and subjects.
    """
    whole = people.assign(
        **{name: known[name].unknown for name in covariates.STANDARD if name not in people.columns}
    )
    others = [known[name] for name in known if name in whole.columns and name not in ("condition", "sex")]
    rows = []
    for (condition, sex), group in whole.groupby(["condition", "sex"]):
        rows.append({"condition": condition, "sex": sex} | _ranges(group, others))
    rows.append({"condition": "all", "sex": "any"} | _ranges(whole, others))
    return pd.DataFrame(rows)


def _ranges(group: pd.DataFrame, others: list[Covariate]) -> dict:
    ranges = {"subjects": len(group)}
    for name in (c.column for c in others if c.numeric):
        ranges |= {f"{name}_min": group[name].min(), f"{name}_max": group[name].max()}
    for name in (c.column for c in others if not c.numeric):
        counts = group[name].value_counts().sort_index()
        ranges[name] = ", ".join(f"{level}: {count}" for level, count in counts.items())
    return ranges


def markdown(summary: pd.DataFrame, known: Mapping[str, Covariate]) -> str:
    """The summary as a table of a document."""
    numeric = [c for c in known.values() if f"{c.column}_min" in summary.columns]
    titles = ["condition", "sex", "subjects", *(f"{c.description}, {c.unit}" for c in numeric)]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in summary.to_dict("records"):
        cells = [str(row[name]) for name in titles[:3]]
        for c in numeric:
            digits = 0 if c.high > 10 else 2
            cells.append(f"{row[f'{c.column}_min']:.{digits}f} to {row[f'{c.column}_max']:.{digits}f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
