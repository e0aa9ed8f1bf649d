"""The gate over one batch of anatomies. Owned by the topology stage."""

import time
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.label_map import read_label_map
from ..anatomy.labels import Anatomy
from ..cohort import stage_tables
from ..runtime import progress
from ..runtime.artifacts import check_file, listed_file
from ..runtime.outcomes import Outcome
from .gate import Verdict, examine
from .rules import Rules


def check_batch(anatomies: pd.DataFrame, folder: str | Path, anatomy: Anatomy, rules: Rules) -> pd.DataFrame:
    """One row per subject of `anatomies` (stage_tables.ANATOMIES): stage_tables.TOPOLOGY, then every measure
    and stage_tables.FAILED_RULES.

    Label maps lie in `folder`; nothing is repaired. The verdict is MISSING where generation left no label
    map. The user's own maps are held to the rules for scans, and siblings of a heart that lacks structures
    (column `absent`) to those that hold without these. InputError for a file that is missing
    or not the one its row lists.
    """
    rows = []
    there = anatomies.drop_duplicates("subject")
    with progress.reported(folder, list(there["subject"][there["file"] != ""]), 0, 1) as report:
        for first in there.to_dict("records"):
            started, subject = time.perf_counter(), first["subject"]
            if not first["file"]:
                rows.append({"subject": subject, "verdict": Outcome.MISSING, "reasons": first["reason"]})
                continue
            path = check_file(*listed_file(first, folder))
            label_map = read_label_map(path, anatomy)
            present = set(np.unique(label_map.labels))
            applicable = rules
            if first["status"] == Outcome.IMPORTED:
                applicable = rules.for_scans(present)
            elif first.get("absent", ""):
                applicable = rules.holding(present)
            verdict = examine(label_map.labels, label_map.spacing_mm, anatomy, applicable)
            word = Outcome.ACCEPTED if verdict.accepted else Outcome.REJECTED
            reasons = "; ".join(verdict.reasons)
            report.finished(subject, {"verdict": word, "reason": reasons}, time.perf_counter() - started)
            row = {"subject": subject, "verdict": word, "reasons": reasons}
            rows.append(row | verdict.measures | _failed(verdict))
    ids = [rule.id for rule in (*rules.checks, *rules.unopened)]
    columns = [*stage_tables.TOPOLOGY, *ids, *stage_tables.FAILED_RULES]
    return pd.DataFrame(rows, columns=columns)


def _failed(verdict: Verdict) -> dict:
    """The cells of stage_tables.FAILED_RULES, none for a heart that is accepted."""
    if verdict.accepted:
        return {}
    first = verdict.failures[0]
    values = (",".join(verdict.failed_rules), first.measured, first.limit)
    return dict(zip(stage_tables.FAILED_RULES, values, strict=True))
