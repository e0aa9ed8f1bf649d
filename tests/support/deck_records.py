"""Figures of the tests that read or run solver decks, kept in a table where DECK_RECORDS names one.

    DECK_RECORDS=resources/verification/decks.tsv .venv/bin/python -m pytest tests/unit/exporters
    .venv/bin/python -m cardiocohort.config.documents

The second command writes the table of docs/validation/solvers.md. A test's rows replace those that it had,
once it has passed: run it with all its parameters. Rows of tests that do not run keep figures and dates.
"""

import csv
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from cardiocohort.exporters._checks import COLUMNS, READ, RUN, Record, read

VARIABLE = "DECK_RECORDS"
REPOSITORY = Path(__file__).resolve().parents[2]
# of tests of this process: the parameters of a test share its rows
_FOUND: dict[str, dict[tuple, Record]] = {}


@dataclass
class Recorder:
    """What the fixture `deck_record` is: `read` and `run` hold a difference against its bound and keep it."""

    source: str
    rows: dict[tuple, Record] = field(default_factory=dict)

    def read(self, name: str, program: str, of: str, **figure) -> None:
        """A deck of format `name` was read; program: a distribution of PyPI, or another reader with `of`."""
        self._keep(name, READ, program, of, **figure)

    def run(self, name: str, program: str, of: str, **figure) -> None:
        """A deck was run by a program of version `of`."""
        self._keep(name, RUN, program, of, **figure)

    def _keep(
        self, name: str, done: str, program: str, of: str, *,
        deck: str, quantity: str, found: float, bound: float, unit: str = "",
    ) -> None:  # fmt: skip
        found = float(found)
        assert found <= bound, f"{program}, {quantity}: {found:g} {unit}, at most {bound:g} is allowed"
        today = date.today().isoformat()
        row = Record(
            name, done, program, of, deck, quantity, f"{found:.3g}", f"{bound:g}", unit, today, self.source
        )
        _keep_larger(self.rows, [row])

    def write(self, table: Path) -> None:
        """Put the rows in the table, in place of those that this test had before this process."""
        merged = _FOUND.setdefault(self.source, {})
        _keep_larger(merged, self.rows.values())
        lock = Path(tempfile.gettempdir()) / f"{re.sub(r'[^a-z0-9]+', '-', str(table).lower())}.lock"
        with FileLock(lock):
            kept = [row for row in (read(table) if table.exists() else ()) if row.source != self.source]
            rows = sorted([*kept, *merged.values()], key=_order)
            with open(table, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
                writer.writeheader()
                writer.writerows(map(asdict, rows))


def table() -> Path | None:
    """The table that figures are written into, if one is named."""
    named = os.environ.get(VARIABLE)
    return REPOSITORY / named if named else None


def installed(distribution: str) -> tuple[str, str]:
    """A reader from PyPI, and its version."""
    return distribution, version(distribution)


@lru_cache(maxsize=1)
def calculix() -> tuple[str, str]:
    """CalculiX, and the version that it states."""
    done = subprocess.run(["ccx", "-v"], capture_output=True, text=True, check=False)
    return "CalculiX", re.search(r"Version (\S+)", done.stdout)[1]


def _order(row: Record) -> tuple:
    return row.format, row.done, row.source, row.program, row.deck, row.quantity


def _keep_larger(rows: dict[tuple, Record], more: Iterable[Record]) -> None:
    """The row with the largest difference of all that say the same."""
    for row in more:
        key = _order(row)
        if key not in rows or float(rows[key].found) < float(row.found):
            rows[key] = row
