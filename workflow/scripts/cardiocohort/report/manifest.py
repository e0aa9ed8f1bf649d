"""The manifest: one row per requested subject, what became of it and where its files are.

Owned by the report stage. Who asks "which hearts can I simulate" reads this table alone.
"""

import json

import numpy as np
import pandas as pd

from ..cohort import stage_tables
from ..metrics.agreement import agreement, errors_by_subject
from ..runtime.outcomes import Outcome, Stage
from . import heart_mesh
from .cohort_tables import CohortTables

COLUMNS = {
    "subject": "str",
    "arm": "str",
    "batch": "str",
    "status": "str",
    "stage": "str",
    "reason": "str",
    "seed": "Int64",
    "attempts": "Int64",
    "volume_error_median_percent": "float64",
    "volume_error_worst_percent": "float64",
    "centroid_error_median_mm": "float64",
    "shape_error_median": "float64",
    "anatomy": "str",
    "mesh": "str",
    "inputs": "str",
}
STATUSES = tuple(map(str, (Outcome.ACCEPTED, Outcome.REJECTED, Outcome.BASE_REJECTED, Outcome.FAILED)))
# last columns: rules of the gate, separated by commas, or another stage's reason; settings of the arm, JSON
CAUSES, ARM_SETTINGS = "causes", "arm_settings"
ENDED = ("status", "stage", "reason", CAUSES)  # columns of `stage_tables.ENDINGS` in the manifest
MESH_FIGURES = heart_mesh.FIGURES


def manifest(tables: CohortTables, seeds: dict[str, int], arms: dict[str, dict]) -> pd.DataFrame:
    """The manifest of a cohort (COLUMNS, MESH_FIGURES, CAUSES, ARM_SETTINGS).

    seeds: by batch, empty without generation. arms: settings by arm that override the cohort's.

    A subject is accepted when its decks are written; rejected when a gate (topology, mesh) refused it;
    base_rejected when it is the sibling of a heart that was refused or not made; failed when a stage could
    not make its file. `stage` says where it ended, `reason` why, `causes` the same by name
    (`stage_tables.endings`).
    """
    frame = tables.subjects.set_index("subject")
    anatomy = tables.anatomies.drop_duplicates("subject").set_index("subject").reindex(frame.index)
    topology = tables.topology.set_index("subject").reindex(frame.index)
    mesh = tables.meshes.set_index("subject").reindex(frame.index)
    decks = _decks(tables.inputs).reindex(frame.index)

    has_anatomy, has_mesh = anatomy["file"].ne(""), mesh["file"].ne("")
    stages = zip(Stage, (anatomy, topology, mesh, decks), strict=True)
    ends = [stage_tables.endings(stage, table) for stage, table in stages]
    ended = [end["outcome"].ne(Outcome.ACCEPTED) for end in ends]
    whole = (str(Outcome.ACCEPTED), str(Stage.INPUTS), "", "")
    for column, of_ends, of_whole in zip(ENDED, stage_tables.ENDINGS, whole, strict=True):
        frame[column] = np.select(ended, [end[of_ends].astype(object) for end in ends], of_whole)
    frame["seed"] = frame["batch"].map(seeds).astype("Int64")
    frame["attempts"] = anatomy["attempts"]
    if not tables.targets.empty:
        errors = errors_by_subject(agreement(tables.targets, tables.anatomies))
        frame = frame.join(errors.round(4))
    frame["anatomy"] = ("anatomies/" + frame["batch"] + "/" + anatomy["file"]).where(has_anatomy, "")
    frame["mesh"] = ("meshes/" + frame["batch"] + "/" + mesh["file"]).where(has_mesh, "")
    complete = decks["verdict"].eq(Outcome.ACCEPTED)
    frame["inputs"] = ("inputs/" + frame["batch"] + "/" + frame.index).where(complete, "")
    figures = mesh.reindex(columns=list(MESH_FIGURES))
    for name in ("n_nodes", "n_tets"):
        figures[name] = figures[name].astype("Int64")
    frame = frame.join(figures).reset_index()
    stated = {arm: json.dumps(own, sort_keys=True) for arm, own in arms.items()}
    frame[ARM_SETTINGS] = [stated.get(arm, "") for arm in frame["arm"]]
    return frame.reindex(columns=[*COLUMNS, *MESH_FIGURES, CAUSES, ARM_SETTINGS])


def _decks(inputs: pd.DataFrame) -> pd.DataFrame:
    """Verdict and reason by subject: the first file's that is not accepted, if there is one."""
    refused_first = inputs.assign(good=inputs["verdict"].eq(Outcome.ACCEPTED)).sort_values(
        "good", kind="stable"
    )
    return refused_first.drop_duplicates("subject").set_index("subject")[["verdict", "reason"]]
