"""Columns of the batch tables that each stage writes and the next ones read. Owned by no stage."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.moments import MOMENT_COLUMNS, THICKNESS
from ..runtime import artifacts
from ..runtime.outcomes import Outcome, Stage
from ..runtime.tables import FILE_COLUMNS, read_table

_MOMENTS = {"subject": "str", "arm": "str", "structure": "str"} | dict.fromkeys(MOMENT_COLUMNS, "float64")

FAR = 1e-3  # a median plausibility below this deserves a warning

# of the targets table, after its first columns; the covariates of the subject follow
JUDGED = ("mahalanobis", "heart_plausibility")
# Last column of targets, only where an arm names parts `structure@domain`: where the domain lies (JSON,
# `anatomy.domains`), empty for whole structures
DOMAIN = "domain"
# One more, where the table of parts has measured them: JSON, reference standard deviations of what the row
# constrains, by the words of `constrained`
SPREADS = "spreads"
TARGETS = _MOMENTS | {"constrained": "str", "plausibility": "float64"}
ANATOMIES = TARGETS | {"attempts": "int64", "status": "str", "reason": "str"} | FILE_COLUMNS
TOPOLOGY = {"subject": "str", "verdict": "str", "reasons": "str"}
MESHES = {"subject": "str", "verdict": "str", "reason": "str"}
SIMULATIONS = {"subject": "str", "verdict": "str", "reason": "str", "detail": "str"} | FILE_COLUMNS
INPUTS = {"subject": "str", "verdict": "str", "reason": "str", "format": "str"} | FILE_COLUMNS

# Of the mesh table: the files of a heart, its volume and its surface
MESH_FILES = FILE_COLUMNS | {f"surface_{name}": kind for name, kind in FILE_COLUMNS.items()}

# Of the anatomies table, hearts from a scan only: the heart frame's origin in the scanner's coordinates, RAS+
ORIGIN = ("origin_x_mm", "origin_y_mm", "origin_z_mm")
# Last columns of the anatomies table. cause: `reason` without its figures; tried_causes: JSON, for each
# attempt the names of what refused it, by stage
CAUSES = {"cause": "str", "tried_causes": "str"}
# Last columns of the topology table: ids of the violated rules, separated by commas; of the first of them
# what was measured and the bound that this breaks, empty where it was not measurable
FAILED_RULES = {"failed_rules": "str", "failed_measured": "float64", "failed_limit": "float64"}

ENDINGS = ("outcome", "stage", "reason", "causes")


def covariate_columns(targets: pd.DataFrame) -> list[str]:
    """The columns of a table of targets that say who a subject is: those after TARGETS and JUDGED."""
    return [
        name
        for name in targets.columns
        if name not in (*TARGETS, *JUDGED, DOMAIN, SPREADS, THICKNESS, "batch")
    ]


def body_surfaces(paths: Iterable[str | Path]) -> dict[str, float]:
    """Body-surface area (m2) by subject, of targets tables; NaN where it is not known."""
    areas: dict[str, float] = {}
    for path in paths:
        table = read_table(path, {"subject": "str", "bsa_m2": "float64"}).drop_duplicates("subject")
        areas |= dict(zip(table["subject"], table["bsa_m2"].astype(float), strict=True))
    return areas


def mesh_files(row: dict, folder: Path) -> tuple[tuple[str, int, str], ...]:
    """Path, size and sha256 of volume and surface, from a row of the mesh table (MESH_FILES) in `folder`."""
    return tuple(artifacts.listed_file(row, folder, part) for part in ("", "surface_"))


def endings(stage: Stage, table: pd.DataFrame) -> pd.DataFrame:
    """How each row of a stage's table ends: columns ENDINGS, on the table's index.

    outcome: of `Outcome`. reason: as people read it, figures included. causes: its name without figures; of
    the topology stage the ids of the violated rules, separated by commas.
    """
    if stage is Stage.GENERATION:
        outcome = np.where(table["file"].ne(""), Outcome.ACCEPTED, Outcome.FAILED)
        outcome = np.where(table["status"].eq(Outcome.BASE_REJECTED), Outcome.BASE_REJECTED, outcome)
        reason, causes = table["reason"], table["cause"]
    elif stage is Stage.TOPOLOGY:
        outcome = np.where(table["verdict"].eq(Outcome.ACCEPTED), Outcome.ACCEPTED, Outcome.REJECTED)
        reason, causes = table["reasons"], table["failed_rules"]
    elif stage is Stage.MESHING:
        outcome = np.where(table["verdict"].eq(Outcome.ACCEPTED), Outcome.ACCEPTED, Outcome.REJECTED)
        causes = table["reason"]
        figures = " (" + table.get("detail", pd.Series("", table.index)).fillna("").astype(str) + ")"
        reason = causes + figures.where(figures != " ()", "")
    else:
        outcome = np.where(table["verdict"].eq(Outcome.ACCEPTED), Outcome.ACCEPTED, Outcome.FAILED)
        reason = causes = table["reason"]
    columns = (outcome, str(stage), reason, causes)
    return pd.DataFrame(dict(zip(ENDINGS, columns, strict=True)), index=table.index)
