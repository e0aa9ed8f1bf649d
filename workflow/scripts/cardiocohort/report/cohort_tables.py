"""The stage tables of all batches, joined. Owned by the report stage."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..cohort import stage_tables
from ..runtime import tables
from ..runtime.errors import InputError
from ..runtime.text_files import read_table_text

ANATOMIES = stage_tables.ANATOMIES | stage_tables.CAUSES
TOPOLOGY = stage_tables.TOPOLOGY | stage_tables.FAILED_RULES
MESHES = stage_tables.MESHES | tables.FILE_COLUMNS


@dataclass(frozen=True)
class CohortTables:
    """One frame a stage, over all batches, each with a column `batch`.

    `targets` and `anatomies` have one row per subject and structure, `inputs` one row per file, the others a
    row per subject. Without generation (the user's own label maps) `targets` is empty.
    """

    targets: pd.DataFrame
    anatomies: pd.DataFrame
    topology: pd.DataFrame
    meshes: pd.DataFrame
    inputs: pd.DataFrame

    @property
    def subjects(self) -> pd.DataFrame:
        """subject, arm, batch of everyone requested, in the order of the batches."""
        source = self.anatomies if self.targets.empty else self.targets
        return source[["subject", "arm", "batch"]].drop_duplicates("subject").reset_index(drop=True)


def read_cohort_tables(
    targets: Iterable[str],
    anatomies: Iterable[str],
    topology: Iterable[str],
    meshes: Iterable[str],
    inputs: Iterable[str],
) -> CohortTables:
    """Read the tables of all batches; InputError naming table and subject where they do not fit together."""
    joined = CohortTables(
        _joined(targets, stage_tables.TARGETS),
        _joined(anatomies, ANATOMIES),
        _joined(topology, TOPOLOGY),
        _joined(meshes, MESHES),
        _joined(inputs, stage_tables.INPUTS),
    )
    everyone = set(joined.subjects["subject"])
    for stage in ("anatomies", "topology", "meshes", "inputs"):
        subjects = set(getattr(joined, stage)["subject"])
        if subjects != everyone:
            subject = min(subjects ^ everyone)
            raise InputError(
                f"subject {subject!r} is {'not' if subject in everyone else 'only'} in the {stage} tables; "
                "they are of different runs: delete the tables of that stage to remake them"
            )
    return joined


def _joined(paths: Iterable[str], columns: dict[str, str]) -> pd.DataFrame:
    frames = [tables.read_table(path, columns).assign(batch=Path(path).stem) for path in paths]
    if not frames:
        return pd.DataFrame(columns=[*columns, "batch"])
    # a column without a value has no type of its own and must not decide that of the whole
    return pd.concat([frame.dropna(axis=1, how="all") for frame in frames], ignore_index=True).reindex(
        columns=list(dict.fromkeys(name for frame in frames for name in frame.columns))
    )


def requests(path: str | Path | None) -> pd.DataFrame:
    """The rows of a cohort table as they are written, without empty columns; none without a table."""
    if path is None:
        return pd.DataFrame()
    lines = [
        line.rstrip("\t")
        for line in read_table_text(path, "cohort table").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    text = io.StringIO("\n".join(lines))
    # an arm may have the name NA
    frame = pd.read_csv(text, sep="\t", dtype="str", index_col=False, keep_default_na=False).fillna("")
    return frame.loc[:, frame.ne("").any()]
