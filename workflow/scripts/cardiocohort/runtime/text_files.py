"""Text files from users, read within bounds. Owned by no stage; every table and card is read with it.

Light on purpose (no pandas): the Snakefile calls it.
"""

from pathlib import Path

from .errors import InputError

MAX_BYTES = 2**28  # targets of 100,000 subjects have 2^27
MAX_COLUMNS = 1000
MAX_CELLS = 2**25  # those targets are 2^24


def read_text(path: str | Path, what: str, max_bytes: int = MAX_BYTES) -> str:
    """The UTF-8 text of a file, `what` in messages; InputError if it is none, or larger than `max_bytes`."""
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            content = handle.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"{path}: no readable {what} ({error.strerror})") from error
    if len(content) > max_bytes:
        raise InputError(f"{path}: the {what} is larger than the {max_bytes} bytes allowed")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the {what} is not UTF-8 text ({error}); save it as such") from error


def read_table_text(path: str | Path, what: str) -> str:
    """The text of a tab-separated table; InputError if the table is too large.

    It may be much larger than its file: lines are filled up to the longest one.
    """
    text = read_text(path, what)
    lines = text.splitlines() or [""]
    width = max(line.count("\t") for line in lines) + 1
    if width > MAX_COLUMNS or width * len(lines) > MAX_CELLS:
        raise InputError(
            f"{path}: the {what} has up to {width} columns in {len(lines)} lines; allowed: {MAX_COLUMNS} "
            f"columns and {MAX_CELLS} cells"
        )
    if "\0" in text:
        raise InputError(f"{path}: the {what} has zero bytes; it is no text")
    return text


def check_columns(path: str | Path, text: str) -> None:
    """InputError for what pandas would read without a word: it renames the second of two columns with one
    name, and takes the first cells for an index where a line has more cells than the header.
    """
    lines = text.splitlines() or [""]
    header = [name.strip() for name in lines[0].split("\t")]
    for place, name in enumerate(header, 1):
        if name and place != (first := header.index(name) + 1):
            raise InputError(
                f"{path}, row 1: column {name!r} is there twice, as columns {first} and {place}; keep one"
            )
    for number, line in enumerate(lines, 1):
        if line.count("\t") >= len(header):
            raise InputError(
                f"{path}, row {number}: more cells than the {len(header)} columns of the header; "
                "cells are separated by one tab each"
            )
