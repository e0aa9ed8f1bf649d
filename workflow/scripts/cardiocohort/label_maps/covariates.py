"""Covariates of the cases of a data set, by case. Owned by the segmentations stage."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..cohort.covariates import Covariate, are_allowed, numbers_of
from ..runtime.errors import InputError
from ..runtime.tables import read_cells


def read_covariates(path: str | Path, known: Mapping[str, Covariate]) -> pd.DataFrame:
    """The covariates table (TSV): `case`, then covariates in the order of `known`; empty cells are unknown.

    Raises InputError naming file, row (line of the file) and column for anything else, or a case twice.
    """
    frame = read_cells(path, "covariates table")
    wrong = [name for name in frame.columns if name not in ("case", *known)]
    if "case" not in frame.columns or wrong:
        problem = f"unknown column {wrong[0]!r}" if wrong else "column 'case' is missing"
        raise InputError(
            f"{path}: {problem}; the columns are case and any of {', '.join(known)}, by tabs. The "
            "table of the config key 'covariates_table' adds covariates"
        )
    frame = frame.apply(lambda column: column.str.strip())
    _refuse(path, frame, "case", frame["case"].duplicated(), "a case that has no row yet")
    present = [covariate for name, covariate in known.items() if name in frame.columns]
    for covariate in present:
        name, given = covariate.column, frame[covariate.column] != ""
        values = numbers_of(frame[name]) if covariate.numeric else frame[name]
        _refuse(path, frame, name, given & ~are_allowed(values, covariate), covariate.allowed)
        frame[name] = values
    return frame[["case", *(covariate.column for covariate in present)]]


def _refuse(path, frame: pd.DataFrame, column: str, bad: pd.Series, allowed: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise InputError(
            f"{path}, row {row + 2}, column {column!r}: {frame[column].iloc[row]!r} is not allowed; expected "
            f"{allowed}, or nothing where it is unknown"
        )


def known_of_all(frame: pd.DataFrame, known: Mapping[str, Covariate]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Subjects' covariates for a prior's training: `frame` (case and `known` ones) without what a case lacks.

    A reference population takes no unknown values, so a column with an empty cell is left out whole.
    Returns the table, with column `subject` for `case`, and the names of the columns left out.
    """
    names = [name for name in known if name in frame.columns]
    lacking = tuple(name for name in names if (frame[name].isna() | frame[name].eq("")).any())
    kept = [name for name in names if name not in lacking]
    return frame[["case", *kept]].rename(columns={"case": "subject"}), lacking
