"""Tables on disk: their columns are checked whenever one is written or read. Owned by no stage.

Parquet between steps, TSV where people read; the suffix decides.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from .artifacts import atomic_path
from .errors import InputError
from .text_files import MAX_CELLS, MAX_COLUMNS, check_columns, read_table_text

MAX_PARQUET_BYTES = 2**30  # unpacked
FILE_COLUMNS = {"file": "str", "size": "Int64", "sha256": "str"}


def write_table(path: str | Path, frame: pd.DataFrame, columns: dict[str, str]) -> None:
    """Write `frame` atomically; `columns` must be there and come first, further ones follow."""
    frame = _checked(path, frame, columns)
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, sep="\t", index=False, na_rep="")


def read_table(path: str | Path, columns: dict[str, str], alone: bool = False) -> pd.DataFrame:
    """Read a table written by `write_table`; InputError naming file and column if it does not fit.

    Columns beyond `columns` come along, unless those are wanted `alone`.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            frame = _read_parquet(path, list(columns) if alone else None)
        else:
            texts = {name: "str" for name, kind in columns.items() if kind == "str"}
            text = read_table_text(path, "table")
            check_columns(path, text)
            frame = pd.read_csv(
                io.StringIO(text), sep="\t", dtype=texts, keep_default_na=False, na_values=[""],
                usecols=(lambda name: name in columns) if alone else None, skip_blank_lines=alone,
            )  # fmt: skip
            if not alone:
                frame = frame[
                    frame.notna().any(axis=1)
                ]  # empty lines count in the place of a row that an error names
    except InputError:
        raise
    # pyarrow's errors derive from these; a corrupt schema makes pandas fail in ways of its own
    except (OSError, ValueError, KeyError, TypeError, IndexError, NotImplementedError, MemoryError) as error:
        raise InputError(f"{path}: not a readable table ({error})") from error
    return _checked(path, frame, columns)


def column_names(path: str | Path) -> list[str]:
    """Names of a table's columns, without reading it; InputError for a file that is no table."""
    path = Path(path)
    if path.suffix != ".parquet":
        return [name.strip() for name in read_table_text(path, "table").partition("\n")[0].split("\t")]
    from pyarrow import ArrowException, parquet

    try:
        return list(parquet.read_schema(path).names)
    except (OSError, ValueError, ArrowException) as error:
        raise InputError(f"{path}: not a readable table ({error})") from error


def where(path: str | Path, row: int) -> str:
    """File and row of a table's index: the line of a TSV file, below its header."""
    return f"{path}, row {row + 2}" if Path(path).suffix != ".parquet" else f"{path}, row {row} (from 0)"


def first_bad(path: str | Path, frame: pd.DataFrame, column: str, bad, allowed: str) -> None:
    """InputError for the first row of `frame` that is `bad` (a mask), saying what is `allowed` there."""
    if bad.any():
        row = frame.index[np.argmax(np.asarray(bad))]
        value = frame.at[row, column]
        shown = (
            "the cell is empty; it"
            if pd.isna(value)
            else f"{value.item() if hasattr(value, 'item') else value!r}"
        )
        raise InputError(f"{where(path, row)}, column {column!r}: {shown} is not {allowed}")


def read_cells(path: str | Path, what: str) -> pd.DataFrame:
    """The cells of a TSV table as text, empty where there is nothing; InputError if it is none."""
    text = read_table_text(path, what)
    check_columns(path, text)
    try:
        frame = pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False).fillna("")
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a readable {what} ({error})") from error
    return frame


def _read_parquet(path: Path, columns: list[str] | None) -> pd.DataFrame:
    """A Parquet file's frame; InputError if it says that it is much larger unpacked than any table here.

    Raises ValueError for text that is none, which pandas would tell where it is first looked at.
    """
    from pyarrow import ArrowException, parquet  # not where the Snakefile imports the modules of its parse

    with parquet.ParquetFile(path) as file:
        about = file.metadata
        unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        if (
            about.num_columns > MAX_COLUMNS
            or not 0 <= about.num_rows * about.num_columns <= MAX_CELLS
            or not 0 <= unpacked <= MAX_PARQUET_BYTES
        ):
            raise InputError(
                f"{path}: a table of {about.num_rows} rows, {about.num_columns} columns, {unpacked} bytes; "
                f"allowed: {MAX_COLUMNS} columns, {MAX_CELLS} cells, {MAX_PARQUET_BYTES} bytes"
            )
    try:
        frame = pd.read_parquet(path, columns=columns)
        for _, texts in frame.select_dtypes("string").items():
            texts.to_numpy()
    except ArrowException as error:  # some of its kinds are no ValueError
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return frame


def _checked(path, frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(columns)}")
    frame = frame[[*columns, *(name for name in frame.columns if name not in columns)]].copy()
    for name, kind in columns.items():
        try:
            values = frame[name].fillna("") if kind == "str" else frame[name]
            frame[name] = values.astype(kind)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"{path}: column {name!r} does not hold {kind} values ({error})") from error
    return frame
