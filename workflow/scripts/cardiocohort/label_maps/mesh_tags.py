"""Which element tag of a four-chamber mesh is which tissue. Of hearts only. Owned by segmentations.

Tables for public cohorts are in resources/segmentations (sources in docs/own-data.md).
"""

from dataclasses import dataclass
from pathlib import Path

from ..anatomy.labels import Anatomy
from ..runtime.errors import InputError
from .rule_rows import read_rows

COLUMNS = ("tag", "part", "role", "structures", "tissue")
ROLES = ("wall", "tube", "lid")


@dataclass(frozen=True)
class Tag:
    """One kind of tissue of a mesh.

    A `wall` surrounds the blood of one structure, a `tube` the blood of a vessel with open ends. A `lid` is a
    valve or the end of a vessel: it closes the one or two structures that it touches. `tissue`: the structure
    that the part itself is in the label map; most are background.
    """

    tag: int
    part: str
    role: str
    structures: tuple[str, ...]
    tissue: str = ""

    def __str__(self) -> str:
        return f"tag {self.tag} ({self.part})"


def load_tags(path: str | Path, anatomy: Anatomy) -> tuple[Tag, ...]:
    """Read a table of tags (TSV); InputError naming file, line and column for a bad one."""
    tags: dict[int, Tag] = {}
    for line, row in read_rows(path, COLUMNS, anatomy, ()):
        names = tuple(name.strip() for name in row["structures"].split(","))
        unknown = [name for name in names if name not in anatomy.structures]
        faults = (
            ("tag", not row["tag"].isdecimal() or len(row["tag"]) > 9, "a whole number"),
            ("tag", row["tag"].isdecimal() and int(row["tag"]) in tags, "a tag that no row before has"),
            ("role", row["role"] not in ROLES, f"one of {', '.join(ROLES)}"),
            ("structures", bool(unknown), f"of {', '.join(anatomy.structures)}"),
            ("tissue", row["tissue"] not in ("", *anatomy.structures), "empty, or a structure"),
            ("structures", len(names) > (2 if row["role"] == "lid" else 1), "one structure, or two of a lid"),
        )
        for column, wrong, allowed in faults:
            if wrong:
                raise InputError(
                    f"{path}, line {line}, column {column!r}: {row[column]!r}; allowed: {allowed}"
                )
        tags[int(row["tag"])] = Tag(int(row["tag"]), row["part"], row["role"], names, row["tissue"])
    return tuple(tags.values())
