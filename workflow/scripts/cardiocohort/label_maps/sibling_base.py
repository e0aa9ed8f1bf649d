"""The base of digital siblings: an anatomy of another arm, or a label map file.

Used by the population stage (targets of siblings) and the generation stage.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.label_map import centred, read_label_map
from ..anatomy.labels import Anatomy, Grid
from ..cohort.grammar import Edit
from ..cohort.table import subject_name
from ..runtime.artifacts import check_file, listed_file
from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome
from .reading import Convention, open_convention, read_heart


def read_base_map(
    path: str | Path, anatomy: Anatomy, grid: Grid, convention: Convention, needed: Collection[str] = ()
) -> np.ndarray:
    """Labels (X, Y, Z) of the file on `grid`, moved by whole voxels so that the heart's centre is the origin.

    Raises InputError naming the file if it is no label map of the anatomy, has voxels of another size, lacks
    a structure that is `needed` or that the anatomy is centred on, or does not fit the field. Vessels may be
    absent.
    """
    try:
        needed = dict.fromkeys((*anatomy.centred_on, *needed))
        label_map, _ = read_heart(path, anatomy, convention, needed)
        return centred(label_map, anatomy, grid)
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from None


def of_table(arm: dict, index: int, anatomies: pd.DataFrame, topology: pd.DataFrame, folder: Path) -> dict:
    """The base of subject `index` of an arm (`Arm.to_dict()`), from the batch tables of the base's arm.

    `refused` says why there is none: no anatomy was made, or the topology gate rejected it.
    """
    subject = subject_name(arm["base"], index)
    row = anatomies[anatomies["subject"] == subject].iloc[0]
    verdict = topology[topology["subject"] == subject].iloc[0]
    refused = (
        "" if verdict["verdict"] == Outcome.ACCEPTED else f"{subject}, {verdict['reasons'] or row['reason']}"
    )
    listed = listed_file(row, folder) if row["file"] else None
    return {"subject": subject, "listed": listed, "refused": refused, "edited": edited_in(arm)}


def of_map(arm: dict, path: str, sha256: str, convention: Sequence[str], reading: dict) -> dict:
    """The base of every subject of an arm whose base is a label map file.

    How it is read: the tables `convention`, and their digests and the trusted `geometry` in `reading`.
    """
    return {
        "subject": Path(path).name,
        "path": path,
        "sha256": sha256,
        "convention": list(convention),
        "reading": reading,
        "refused": "",
        "edited": edited_in(arm),
    }


def read_made(subject: str, anatomies: pd.DataFrame, folder: Path, anatomy: Anatomy) -> np.ndarray | None:
    """Labels (X, Y, Z) of a subject in a table of anatomies with files in `folder`; None if it has none."""
    row = anatomies[anatomies["subject"] == subject].iloc[0]
    if not row["file"]:
        return None
    return read_label_map(check_file(*listed_file(row, folder)), anatomy).labels


def edited_in(arm: dict) -> list[str]:
    """Structures that the arm's edits change."""
    return sorted({name for edit in arm["edits"] for name in Edit(**edit).changes})


def read_base(base: dict, anatomy: Anatomy, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) of a base on the grid; InputError if a listed file is not what its table says."""
    if "path" in base:
        convention = open_convention(base["convention"], anatomy, base["reading"]["geometry"])
        return read_base_map(base["path"], anatomy, grid, convention)
    return read_label_map(check_file(*base["listed"]), anatomy).labels
