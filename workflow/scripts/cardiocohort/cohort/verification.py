"""Whether what a cohort holds can be made again: stored tables and files against a recomputed subject.

Owned by no stage: `snakemake verify` recomputes one subject a batch with the rules of the stages themselves.
"""

import math
from pathlib import Path

import pandas as pd

from ..runtime import artifacts
from ..runtime.errors import InputError

COLUMNS = {"batch": "str", "subject": "str", "stage": "str", "verdict": "str", "detail": "str"}
IDENTICAL, DIFFERS, DAMAGED = "identical", "differs", "damaged"
VERDICTS = (IDENTICAL, DIFFERS, DAMAGED)
OF_A_RUN = "seconds"  # begins the names of columns that tell what a job took, which is no result
FILES = ("", "surface_")  # prefixes of file, size and sha256 in the stages' tables


def damaged_files(table: pd.DataFrame, folder: str | Path) -> list[str]:
    """Files that a stage's table lists and that are missing from `folder` or are not what was written."""
    damaged = []
    for prefix in FILES:
        names = [f"{prefix}{name}" for name in ("file", "size", "sha256")]
        if not set(names) <= set(table.columns):
            continue
        listed = table[names].dropna()
        for name, size, sha256 in listed[listed[names[0]] != ""].drop_duplicates().itertuples(index=False):
            try:
                artifacts.check_file(Path(folder) / name, int(size), sha256)
            except InputError:
                damaged.append(name)
    return damaged


def differences(stored: pd.DataFrame, again: pd.DataFrame) -> list[str]:
    """What differs between the rows of one subject as stored and as recomputed, column by column.

    Rows are compared in their order, values exactly; of numbers the largest relative difference is given.
    """
    stored, again = (
        frame.loc[:, [not name.startswith(OF_A_RUN) for name in frame.columns]] for frame in (stored, again)
    )
    # a column that is there for others of the batch is empty for this subject
    stored, again = _without_empty(stored, again), _without_empty(again, stored)
    if list(stored.columns) != list(again.columns):
        odd = sorted(set(stored.columns) ^ set(again.columns)) or ["their order"]
        return [f"columns: {', '.join(odd)}"]
    if len(stored) != len(again):
        return [f"rows: {len(stored)} stored, {len(again)} recomputed"]
    columns = []
    for name in stored.columns:
        left, right = stored[name].reset_index(drop=True), again[name].reset_index(drop=True)
        if not ((left == right) | (left.isna() & right.isna())).fillna(False).all():
            columns.append(name + _size_of_difference(left, right))
    return columns


def _without_empty(frame: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """`frame` without columns that `other` lacks and that hold nothing."""
    return frame[[name for name in frame if name in other or not frame[name].isna().all()]]


def _size_of_difference(left: pd.Series, right: pd.Series) -> str:
    if not all(pd.api.types.is_numeric_dtype(values) for values in (left, right)):
        return ""
    left, right = left.astype(float), right.astype(float)
    scale = pd.concat([left.abs(), right.abs()], axis=1).max(axis=1)
    worst = ((left - right).abs() / scale).max()
    return "" if math.isnan(worst) else f" by {worst:.1e}"


def verdict_of(
    stage: str, subject: str, stored: pd.DataFrame, again: pd.DataFrame, folder: str | Path
) -> dict:
    """Verdict (`VERDICTS`) and detail on one stage of a batch: its files, and its recomputed subject.

    `stored` holds all rows of the batch, whose files lie in `folder`; `again` those of the subject.
    """
    damaged = damaged_files(stored, folder)
    different = differences(stored[stored["subject"] == subject], again)
    verdict = DAMAGED if damaged else DIFFERS if different else IDENTICAL
    return {"subject": subject, "stage": stage, "verdict": verdict, "detail": "; ".join(damaged or different)}


def complaint(verdicts: pd.DataFrame) -> str | None:
    """One message on all that is not identical (`COLUMNS`), None if all is."""
    bad = verdicts[verdicts["verdict"] != IDENTICAL]
    if bad.empty:
        return None
    lines = [f"  {r.batch}, {r.stage} ({r.subject}): {r.verdict}: {r.detail}" for r in bad.itertuples()]
    return "\n".join(
        [
            f"{len(bad)} of {len(verdicts)} stages of batches are not as recomputed:",
            *lines,
            "`damaged`: a file is not what was written; delete the batch's table to remake it. `differs`: "
            "another processor, other versions (provenance.json) or other code; the first stage of a batch "
            "that differs is the cause, the later ones follow.",
        ]
    )
