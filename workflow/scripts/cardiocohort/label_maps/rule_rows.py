"""Small tables of anatomical rules with named structures. Owned by the segmentations stage."""

from collections.abc import Iterator
from pathlib import Path

from ..anatomy.labels import Anatomy
from ..runtime.errors import InputError
from ..runtime.tables import read_cells


def read_rows(
    path: str | Path, columns: tuple[str, ...], anatomy: Anatomy, structures: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column) of a TSV table; the cells of `structures` name structures of the anatomy.

    Raises InputError naming file, line and column otherwise.
    """
    frame = read_cells(path, "table")
    if tuple(frame.columns) != columns:
        raise InputError(f"{path}: its columns are {', '.join(frame.columns)}; expected {', '.join(columns)}")
    for line, row in enumerate(frame.to_dict("records"), 2):
        for column in structures:
            if row[column] not in anatomy.structures:
                raise InputError(
                    f"{path}, line {line}, column {column!r}: {row[column]!r} is no structure; "
                    f"allowed: {', '.join(anatomy.structures)}"
                )
        yield line, row
