"""Where a sibling's base is and what became of it; its label map (generation stage)."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy import Anatomy, Grid
from ..base_map import read_base_map
from ..cohort import subject_name
from ..files import check_file
from ..labelmap import read_label_map


def of_table(arm: dict, index: int, anatomies: pd.DataFrame, topology: pd.DataFrame, folder: Path) -> dict:
    """The base of subject `index` of an arm (`Arm.to_dict()`), from the batch tables of the base's arm.

    `refused` says why there is none: no anatomy was made, or the topology gate rejected it.
    """
    subject = subject_name(arm["base"], index)
    row = anatomies[anatomies["subject"] == subject].iloc[0]
    verdict = topology[topology["subject"] == subject].iloc[0]
    refused = "" if verdict["verdict"] == "accepted" else f"{subject}, {verdict['reasons'] or row['reason']}"
    listed = (str(folder / row["file"]), int(row["size"]), row["sha256"]) if row["file"] else None
    return {"subject": subject, "listed": listed, "refused": refused, "edited": edited_in(arm)}


def of_map(arm: dict, path: str, sha256: str) -> dict:
    """The base of every subject of an arm whose base is a label map file."""
    return {
        "subject": Path(path).name,
        "path": path,
        "sha256": sha256,
        "refused": "",
        "edited": edited_in(arm),
    }


def edited_in(arm: dict) -> list[str]:
    """Structures that the arm's edits change."""
    return sorted({edit["structure"].split("/")[0] for edit in arm["edits"]})


def read_base(base: dict, anatomy: Anatomy, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) of a base on the grid; InputError if a listed file is not what its table says."""
    if "path" in base:
        return read_base_map(base["path"], anatomy, grid)
    return read_label_map(check_file(*base["listed"]), anatomy).labels


def dice_by_name(a: np.ndarray, b: np.ndarray, anatomy: Anatomy) -> dict[str, float]:
    """Dice overlap of every structure in two label maps."""
    found = {}
    for k, name in enumerate(anatomy.structures, start=1):
        total = np.count_nonzero(a == k) + np.count_nonzero(b == k)
        found[name] = 2.0 * np.count_nonzero((a == k) & (b == k)) / max(total, 1)
    return found
