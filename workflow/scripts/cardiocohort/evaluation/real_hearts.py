"""Folders and tables of hearts that an evaluation names, checked before any job (evaluation stage).

Light on purpose: the Snakefile imports it.
"""

from collections.abc import Collection
from pathlib import Path

from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome
from ..runtime.tables import FILE_COLUMNS, read_table, where
from .variety import FEWEST

TRAIN = "train"  # split of the hearts that networks are fitted to
COLUMNS = {"subject": "str", "split": "str", "verdict": "str"} | FILE_COLUMNS


def training_hearts(path: str | Path, key: str) -> dict[str, tuple[str, int, str]]:
    """Label map, its size and sha256 of every heart that a prior was trained on, by subject.

    path: hearts.tsv of `snakemake prior`, beside its folder `hearts`; `key` is the config key that names it.
    InputError for another table, for one without training hearts, and for a file that is not there or has
    another size. Contents are compared in the job: they may be many.
    """
    try:
        rows = read_table(path, COLUMNS, alone=True)
    except InputError as error:
        raise InputError(
            f"config key {key!r}: {error}. Name hearts.tsv of a prior's population, "
            "results/prior/<name>/population/hearts.tsv"
        ) from None
    used = rows[(rows["split"] == TRAIN) & (rows["verdict"] == Outcome.ACCEPTED)]
    if used.empty:
        raise InputError(
            f"config key {key!r}: {path} has no row with split {TRAIN!r} and verdict "
            f"'{Outcome.ACCEPTED}', so there is no training heart to compare with"
        )
    folder, found = Path(path).parent / "hearts", {}
    for index, row in used.iterrows():
        file = folder / row["file"]
        if not row["file"] or not file.is_file() or file.stat().st_size != row["size"]:
            lacks = "is not there" if not row["file"] or not file.is_file() else "has another size"
            raise InputError(
                f"config key {key!r}: {where(path, index)}: the label map {str(file)!r} {lacks}; keep the "
                "folder 'hearts' beside the table, or set the key to null"
            )
        found[row["subject"]] = (str(file), int(row["size"]), row["sha256"])
    return found


def check_variety(hearts: Collection[str], folder: str | Path, key: str) -> None:
    """InputError for too few real hearts to have a spread."""
    if len(hearts) < FEWEST:
        raise InputError(
            f"config key {key!r}: {folder} has {len(hearts)} label map{'s' if len(hearts) > 1 else ''} "
            f"({', '.join(hearts)}); a spread needs {FEWEST} or more real hearts"
        )
