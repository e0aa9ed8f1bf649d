"""What the page shows of a trial: tables and figures of `snakemake trial`. Owned by the report stage."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..runtime import tables

TABLES = ("contrasts", "sample_sizes", "missing")
TEXT = dict.fromkeys(("endpoint", "arm", "reference"), "str")
FURTHER_TEXT = {"contrasts": {"adjusted_for": "str"}}  # of a table


@dataclass(frozen=True)
class Trial:
    """Frames by name (TABLES) and figures (PNG) by name."""

    tables: dict[str, pd.DataFrame]
    figures: dict[str, bytes]


def read_trial(paths: Iterable[str]) -> Trial | None:
    """The trial in these files; None where there are none."""
    files = {path.name: path for path in map(Path, paths)}
    if not files:
        return None
    found = {
        name: tables.read_table(files[f"{name}.tsv"], TEXT | FURTHER_TEXT.get(name, {})) for name in TABLES
    }
    figures = {path.stem: path.read_bytes() for path in files.values() if path.suffix == ".png"}
    return Trial(found, figures)
