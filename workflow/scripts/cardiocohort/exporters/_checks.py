"""How far each deck was checked: for the READMEs and the table of docs/validation/solvers.md.

Owned by the inputs stage. resources/verification/decks.tsv has one row per figure, with its date and source:
a test, which writes its own row (tests/support/deck_records.py), or the section of the documents that states
a figure found by hand. `python -m cardiocohort.config.documents` writes the table.
"""

import csv
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

RECORDS = Path(__file__).resolve().parents[4] / "resources/verification/decks.tsv"
READ, RUN = "read", "run"  # what was done with a deck
HEAD = ("format", "read by", "run by", "version", "deck", "largest difference (bound)", "date", "source")
DOCUMENTS = "docs/"  # where sources of figures by hand lie


@dataclass(frozen=True)
class Record:
    """A figure: a `quantity` of a `deck`, as `program` reads or computes it, against what was written or what
    `simulate` or a closed solution has. found: the largest difference; bound: what its test allows, empty by
    hand; source: a test's node id, or a document and section."""

    format: str
    done: str
    program: str
    version: str
    deck: str
    quantity: str
    found: str
    bound: str
    unit: str
    date: str
    source: str

    @property
    def who(self) -> str:
        return f"{self.program} {self.version}".strip()

    @property
    def difference(self) -> str:
        bound = f" ({_figure(self.bound, self.unit)})" if self.bound else ""
        return f"{self.quantity}: {_figure(self.found, self.unit)}{bound}"

    @property
    def by_hand(self) -> bool:
        return self.source.startswith(DOCUMENTS)


COLUMNS = tuple(field.name for field in fields(Record))


@dataclass(frozen=True)
class Check:
    """What a README states beside the records: tolerance of its volumes, and the time of a run."""

    tolerance: str
    time: str


CHECKS = {
    "febio": Check(
        "3 % of each volume's change; 7 % with holzapfel_ogden, which lacks its shear term",
        "85 to 108 s for 6,479 ten-node tetrahedra (T2, one thread), 800 s with holzapfel_ogden",
    ),
    "svmultiphysics": Check(
        "1 % of each volume's change; 2 % with holzapfel_ogden, whose switch of the fibres is smoothed",
        "450 CPU s for 6,479 ten-node tetrahedra (T2, one process) with PETSc and MUMPS, 1,400 s with\n"
        "holzapfel_ogden",
    ),
    "fenicsx": Check(
        "1 % of each volume",
        "1,193 s for 30,200 tetrahedra (T2, guccione, one of two busy cores of a virtual Intel Xeon)",
    ),
    "calculix": Check(
        "3 % of each volume's change",
        "306 s for the heart ph-00000 of docs/tutorial.md (ten nodes, one thread of a busy machine)",
    ),
}


@lru_cache(maxsize=1)
def records() -> tuple[Record, ...]:
    """All figures, in the order of the table."""
    return read(RECORDS)


def read(path: Path) -> tuple[Record, ...]:
    """The figures of a table."""
    with open(path, encoding="utf-8", newline="") as file:
        return tuple(Record(**row) for row in csv.DictReader(file, delimiter="\t"))


def checked(name: str) -> str:
    """The README's paragraph."""
    own = [record for record in records() if record.format == name]
    readers = dict.fromkeys(record.who for record in own if record.done == READ)
    runs = [
        f"Run by {record.who}{', by hand' if record.by_hand else ''}, {record.date}: {record.deck}.\n"
        f"Largest difference (bound), {record.difference}.\n"
        for record in own
        if record.done == RUN
    ]
    if not runs:
        runs = [
            "Not run by its solver: its rules were read in the manual or source, and tested one by one.\n"
        ]
    time = f"Time of a run: {CHECKS[name].time}.\n" if name in CHECKS else ""
    return f"Read back with: {', '.join(readers)}.\n{''.join(runs)}{time}"


def table() -> list[str]:
    """Lines of the table in Markdown: one row per figure, and one per format that no solver ran."""
    found, rows = records(), []
    for name in sorted({record.format for record in found}):
        own = [record for record in found if record.format == name]
        rows += [_cells(record) for record in own]
        if RUN not in {record.done for record in own}:
            rows.append((f"`{name}`", "", "not run", *("",) * 5))
    return [f"| {' | '.join(row)} |" for row in (HEAD, ("---",) * len(HEAD), *rows)]


def _cells(record: Record) -> tuple[str, ...]:
    by = (record.program, "") if record.done == READ else ("", record.program)
    source = "by hand" if record.by_hand else f"`{record.source.partition('::')[2]}`"
    return (
        f"`{record.format}`", *by, record.version, record.deck, record.difference, record.date, source,
    )  # fmt: skip


def _figure(value: str, unit: str) -> str:
    return f"{float(value):.2g} {unit}".strip()
