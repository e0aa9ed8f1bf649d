"""Who is in a reference population, and whether it has the people that the arms name.

Owned by the population stage; light, because the Snakefile imports it.
"""

import csv
import math
import re
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from ..runtime import tables
from ..runtime.errors import InputError
from .table import REFERENCE_COLUMNS, Arm

COVARIATES = {"sex": "str", "age_years": "float64", "bsa_m2": "float64", "condition": "str"}
SUMMARY = {"condition": "str", "sex": "str", "subjects": "int64"} | dict.fromkeys(
    ("age_years_min", "age_years_max", "bsa_m2_min", "bsa_m2_max"), "float64"
)


def read_people(path: str | Path) -> pd.DataFrame:
    """One row per subject of a reference table, with those of COVARIATES that it has; unchecked.

    Raises InputError for a file that is no table, or has no column `subject`.
    """
    present = {name: kind for name, kind in COVARIATES.items() if name in tables.column_names(path)}
    frame = tables.read_table(path, {"subject": "str"} | present, alone=True)
    return frame.drop_duplicates("subject").reset_index(drop=True)


def unknown_columns(path: str | Path) -> str:
    """One sentence that names columns of a reference table which nothing uses; empty if there are none."""
    others = [name for name in tables.column_names(path) if name not in {*REFERENCE_COLUMNS, *COVARIATES}]
    if not others:
        return ""
    return (
        f"{path}: columns {', '.join(others)} are not used; the covariates are {', '.join(COVARIATES)} "
        "(docs/cohort-table.md)"
    )


def check_arm(arm: Arm, people: pd.DataFrame) -> None:
    """InputError if the arm names covariates that no subject of the population has."""
    stated = {
        "sex": arm.female_share is not None,
        "age_years": arm.age is not None,
        "bsa_m2": arm.bsa is not None,
        "condition": arm.condition is not None,
    }
    for column, wanted in stated.items():
        if wanted and column not in people.columns:
            raise InputError(
                f"arm {arm.name!r} gives {column.split('_')[0]}, but the reference table has no column "
                f"{column!r}; leave the cell empty, or add the column to the reference table"
            )
    if arm.condition is not None and arm.condition not in set(people["condition"]):
        raise InputError(
            f"arm {arm.name!r}, column 'condition': {arm.condition!r} is not in the reference population; "
            f"allowed: {', '.join(sorted(set(people['condition'])))} (target describe_population lists them)"
        )
    shares = {} if arm.female_share is None else {"female": arm.female_share, "male": 1.0 - arm.female_share}
    for sex, share in shares.items():
        if share > 0.0 and not alike(people, sex, arm.condition).any():
            raise InputError(
                f"arm {arm.name!r}, column 'sex': the reference population has no {sex} subject"
                + (f" with {arm.condition}" if arm.condition else "")
            )


def alike(people: pd.DataFrame, sex: str | None, condition: str | None):
    """Mask (N,) of the people of this sex and condition; None stands for any."""
    same = pd.Series(True, index=people.index)
    if sex is not None:
        same &= people["sex"] == sex
    if condition is not None:
        same &= people["condition"] == condition
    return same.to_numpy()


def outside(arm: Arm, people: pd.DataFrame) -> list[str]:
    """One sentence per covariate of which values in the arm lie outside those of the population."""
    found = []
    for column, distribution in (("age_years", arm.age), ("bsa_m2", arm.bsa)):
        if distribution is None or column not in people.columns:
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


def check_trial_apart(arms: Iterable[dict], *paths: str | Path) -> list[str]:
    """`check_trial` of arms (`Arm.to_dict()`) in a process of its own.

    The tables and their readers take 30 MB, which the process that plans would keep.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as apart:
        return apart.submit(check_trial, [Arm.from_dict(arm) for arm in arms], *paths).result()


def check_trial(
    arms: Iterable[Arm], cohort_table: str | Path, reference: str | Path, rules: str | Path
) -> list[str]:
    """What can be known of a trial before any job: warnings, in sentences.

    Raises InputError for what the population cannot answer, and for conditions that cannot be made: those of
    the table `<rules>_conditions.tsv` beside the topology rules.
    """
    arms, people = list(arms), read_people(reference)
    warnings = [unknown_columns(reference)]
    for arm in arms:
        check_arm(arm, people)
        warnings += outside(arm, people)
    excluded = Path(rules).with_name(f"{Path(rules).stem}_conditions.tsv")
    if not excluded.exists() and "condition" in people:
        warnings.append(
            f"{rules}: no table {excluded.name} beside it says which conditions these rules exclude; hearts "
            "of such a condition would have its name only"
        )
    if excluded.exists():
        exclusions = read_exclusions(excluded)
        check_conditions(sorted(set(people.get("condition", []))), exclusions, f"reference table {reference}")
        named = [arm.condition for arm in arms if arm.condition]
        check_conditions(named, exclusions, f"{cohort_table}, column 'condition'")
    return [warning for warning in warnings if warning]


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


def described(people: pd.DataFrame) -> pd.DataFrame:
    """The columns SUMMARY: one row per condition and sex, then one for all."""
    empty = {"condition": "", "sex": "", "age_years": math.nan, "bsa_m2": math.nan}
    whole = people.assign(**{name: people.get(name, default) for name, default in empty.items()})
    rows = []
    for (condition, sex), group in whole.groupby(["condition", "sex"]):
        rows.append({"condition": condition, "sex": sex} | _ranges(group))
    rows.append({"condition": "all", "sex": "any"} | _ranges(whole))
    return pd.DataFrame(rows, columns=list(SUMMARY))


def _ranges(group: pd.DataFrame) -> dict:
    ranges = {"subjects": len(group)}
    for name in ("age_years", "bsa_m2"):
        ranges |= {f"{name}_min": group[name].min(), f"{name}_max": group[name].max()}
    return ranges


def markdown(summary: pd.DataFrame) -> str:
    """The summary as a table of a document."""
    lines = ["| condition | sex | subjects | age, years | body-surface area, m2 |", "|---|---|---|---|---|"]
    for row in summary.to_dict("records"):
        age = f"{row['age_years_min']:.0f} to {row['age_years_max']:.0f}"
        bsa = f"{row['bsa_m2_min']:.2f} to {row['bsa_m2_max']:.2f}"
        lines.append(f"| {row['condition']} | {row['sex']} | {row['subjects']} | {age} | {bsa} |")
    return "\n".join(lines)
