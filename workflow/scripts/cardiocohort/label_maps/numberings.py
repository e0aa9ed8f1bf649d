"""Numberings of labels that public data sets and tools use. Owned by the segmentations stage."""

from collections.abc import Iterable
from pathlib import Path

from ..anatomy.labels import Anatomy
from ..runtime.errors import InputError
from .rule_rows import read_rows

COLUMNS = ("numbering", "label", "structure")
Numberings = dict[str, dict[int, str]]  # name -> label -> structure


def load_numberings(path: str | Path, anatomy: Anatomy) -> Numberings:
    """Read a table of numberings (TSV); InputError naming file, line and column for a bad one."""
    numberings: Numberings = {}
    for line, row in read_rows(path, COLUMNS, anatomy, ("structure",)):
        if not row["label"].isdecimal():
            raise InputError(f"{path}, line {line}, column 'label': {row['label']!r} is no whole number")
        numberings.setdefault(row["numbering"], {})[int(row["label"])] = row["structure"]
    return numberings


def of_labels(labels: tuple[int, ...], numbering: dict[int, str]) -> tuple[str | None, ...]:
    """The structure of every label in a numbering, None for one that it lacks."""
    return tuple(numbering.get(label) for label in labels)


def name_of(structures: dict[int, str], numberings: Numberings) -> str | None:
    """The first numbering that gives all of these labels these structures."""
    return next((name for name, n in numberings.items() if structures.items() <= n.items()), None)


def sources_block(structures: Iterable[tuple[str, int]], suffix: str) -> str:
    """The config key `segmentations.sources` in one line, for structures and their labels in one file."""
    labels: dict[str, list[int]] = {}
    for structure, label in structures:
        labels.setdefault(structure, []).append(label)
    cells = (f'{name}: ["{{case}}{suffix}:{"+".join(map(str, k))}"]' for name, k in labels.items())
    return f"sources: {{{', '.join(cells)}}}"
