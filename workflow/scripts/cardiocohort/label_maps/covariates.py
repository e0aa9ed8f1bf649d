"""Sex, age, body surface area and condition of the cases, by case. Owned by the segmentations stage."""

from pathlib import Path

import pandas as pd

from ..cohort.table import CONDITION_NAME, LIMITS
from ..runtime.errors import InputError
from ..runtime.tables import read_cells

SEXES = ("female", "male")
NUMBERS = {"age_years": LIMITS["age"], "bsa_m2": LIMITS["bsa"]}
COLUMNS = ("sex", "age_years", "bsa_m2", "condition")


def read_covariates(path: str | Path) -> pd.DataFrame:
    """The covariates table (TSV): column `case` and any of COLUMNS, in their order; an empty cell is unknown.

    Raises InputError naming file, row (line of the file) and column for anything else, or a case twice.
    """
    frame = read_cells(path, "covariates table")
    wrong = [name for name in frame.columns if name not in ("case", *COLUMNS)]
    if "case" not in frame.columns or wrong:
        problem = f"unknown column {wrong[0]!r}" if wrong else "column 'case' is missing"
        raise InputError(f"{path}: {problem}; the columns are case and any of {', '.join(COLUMNS)}, by tabs")
    frame = frame.apply(lambda column: column.str.strip())
    _refuse(path, frame, "case", frame["case"].duplicated(), "a case that has no row yet")
    for name in COLUMNS:
        if name not in frame.columns:
            continue
        given = frame[name] != ""
        if name in NUMBERS:
            low, high = NUMBERS[name]
            numbers = pd.to_numeric(frame[name], errors="coerce")
            _refuse(path, frame, name, given & ~numbers.between(low, high), f"a number, {low:g} to {high:g}")
            frame[name] = numbers
        elif name == "sex":
            _refuse(path, frame, name, given & ~frame[name].isin(SEXES), " or ".join(SEXES))
        else:
            bad = given & ~frame[name].map(lambda text: bool(CONDITION_NAME.fullmatch(text)))
            _refuse(path, frame, name, bad, "letters, digits and underscores")
    return frame[["case", *(name for name in COLUMNS if name in frame.columns)]]


def _refuse(path, frame: pd.DataFrame, column: str, bad: pd.Series, allowed: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise InputError(
            f"{path}, row {row + 2}, column {column!r}: {frame[column].iloc[row]!r} is not allowed; expected "
            f"{allowed}, or nothing where it is unknown"
        )


def known_of_all(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Subjects' covariates for a prior's training: `frame` (case and COLUMNS) without what some case lacks.

    A reference population takes no unknown values, so a column with an empty cell is left out whole.
    Returns the table, with column `subject` for `case`, and the names of the columns left out.
    """
    names = [name for name in COLUMNS if name in frame.columns]
    lacking = tuple(name for name in names if (frame[name].isna() | frame[name].eq("")).any())
    kept = [name for name in names if name not in lacking]
    return frame[["case", *kept]].rename(columns={"case": "subject"}), lacking
