"""The topology gate: is a label map a heart that can be meshed? Owned by the topology stage.

Rules are data (`resources/topology/<anatomy>.tsv`), measures are code that knows no structure's name.
"""

from .batch import check_batch
from .gate import Failure, Verdict, examine, joined, judge, repair
from .rules import Rule, Rules
from .table import load_rules

__all__ = [
    "Failure",
    "Rule",
    "Rules",
    "Verdict",
    "check_batch",
    "examine",
    "joined",
    "judge",
    "load_rules",
    "repair",
]
