"""Batch tables: which columns they have, checked whenever one is written or read. Owned by no stage.

Parquet between steps, TSV where people read; the suffix decides.
"""

from pathlib import Path

import pandas as pd

from .errors import InputError
from .files import atomic_path
from .moments import MOMENT_COLUMNS

FILE_COLUMNS = {"file": "str", "size": "Int64", "sha256": "str"}
_MOMENTS = {"subject": "str", "arm": "str", "structure": "str"} | dict.fromkeys(MOMENT_COLUMNS, "float64")

TARGETS = _MOMENTS | {"constrained": "str", "plausibility": "float64"}
ANATOMIES = TARGETS | {"attempts": "int64", "status": "str", "reason": "str"} | FILE_COLUMNS
TOPOLOGY = {"subject": "str", "verdict": "str", "reasons": "str"}
MESHES = {"subject": "str", "verdict": "str", "reason": "str"}
INPUTS = {"subject": "str", "verdict": "str", "reason": "str", "format": "str"} | FILE_COLUMNS


def write_table(path: str | Path, frame: pd.DataFrame, columns: dict[str, str]) -> None:
    """Write `frame` atomically; `columns` must be there and come first, further ones follow."""
    frame = _checked(path, frame, columns)
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, sep="\t", index=False, na_rep="")


def read_table(path: str | Path, columns: dict[str, str]) -> pd.DataFrame:
    """Read a table written by `write_table`; InputError naming file and column if it does not fit."""
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            texts = {name: "str" for name, kind in columns.items() if kind == "str"}
            frame = pd.read_csv(path, sep="\t", dtype=texts, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise InputError(f"{path}: not a readable table ({error})") from error
    return _checked(path, frame, columns)


def _checked(path, frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(columns)}")
    frame = frame[[*columns, *(name for name in frame.columns if name not in columns)]].copy()
    for name, kind in columns.items():
        try:
            values = frame[name].fillna("") if kind == "str" else frame[name]
            frame[name] = values.astype(kind)
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: column {name!r} does not hold {kind} values ({error})") from error
    return frame
