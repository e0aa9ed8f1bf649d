"""Columns of the tables that sampling writes and the figures read (evaluation stage)."""

from ..anatomy.moments import MOMENT_COLUMNS
from ..runtime.tables import FILE_COLUMNS

HEARTS = {
    "set": "str",
    "subject": "str",
    "origin": "str",
    "structure": "str",
    **dict.fromkeys(MOMENT_COLUMNS, "float64"),
    **FILE_COLUMNS,
}
SAMPLES = {
    "arm": "str",
    "sample": "int64",
    "structure": "str",
    "constrained": "str",
    **dict.fromkeys(MOMENT_COLUMNS, "float64"),
    **dict.fromkeys((f"target_{name}" for name in MOMENT_COLUMNS), "float64"),
    "residual_sd": "float64",
    "ended": "str",
    "raw_reasons": "str",
    "reasons": "str",
    "raw_causes": "str",
    "causes": "str",
    "seconds": "float64",
    **FILE_COLUMNS,
}
