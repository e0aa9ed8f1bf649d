"""The gate over one batch of anatomies. Owned by the topology stage."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.label_map import read_label_map
from ..anatomy.labels import Anatomy
from ..runtime.artifacts import check_file
from .gate import examine
from .rules import Rules

log = logging.getLogger(__name__)
IMPORTED = "imported"  # status of the user's own label maps in the anatomies table


def check_batch(anatomies: pd.DataFrame, folder: str | Path, anatomy: Anatomy, rules: Rules) -> pd.DataFrame:
    """One row per subject of `anatomies` (stage_tables.ANATOMIES): stage_tables.TOPOLOGY, then every measure.

    Label maps lie in `folder`; nothing is repaired. Verdict `missing` where generation left no label
    map. The user's own maps are held to the rules for scans. InputError for a file that is missing
    or not the one its row lists.
    """
    rows = []
    for subject, own in anatomies.groupby("subject", sort=False):
        first = own.iloc[0]
        if not first["file"]:
            rows.append({"subject": subject, "verdict": "missing", "reasons": first["reason"]})
            continue
        path = check_file(Path(folder) / first["file"], first["size"], first["sha256"])
        label_map = read_label_map(path, anatomy)
        imported = first["status"] == IMPORTED
        applicable = rules.for_scans(set(np.unique(label_map.labels))) if imported else rules
        verdict = examine(label_map.labels, label_map.spacing_mm, anatomy, applicable)
        word = "accepted" if verdict.accepted else "rejected"
        log.info("%s: %s%s", subject, word, "".join(f"; {reason}" for reason in verdict.reasons))
        reasons = "; ".join(verdict.reasons)
        rows.append({"subject": subject, "verdict": word, "reasons": reasons, **verdict.measures})
    columns = ["subject", "verdict", "reasons", *(rule.id for rule in rules.checks)]
    return pd.DataFrame(rows, columns=columns)
