"""Columns of the batch tables that each stage writes and the next ones read. Owned by no stage."""

from ..anatomy.moments import MOMENT_COLUMNS
from ..runtime.tables import FILE_COLUMNS

_MOMENTS = {"subject": "str", "arm": "str", "structure": "str"} | dict.fromkeys(MOMENT_COLUMNS, "float64")

TARGETS = _MOMENTS | {"constrained": "str", "plausibility": "float64"}
ANATOMIES = TARGETS | {"attempts": "int64", "status": "str", "reason": "str"} | FILE_COLUMNS
TOPOLOGY = {"subject": "str", "verdict": "str", "reasons": "str"}
MESHES = {"subject": "str", "verdict": "str", "reason": "str"}
SIMULATIONS = {"subject": "str", "verdict": "str", "reason": "str", "detail": "str"} | FILE_COLUMNS
INPUTS = {"subject": "str", "verdict": "str", "reason": "str", "format": "str"} | FILE_COLUMNS
