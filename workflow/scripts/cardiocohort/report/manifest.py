"""The manifest: one row a requested subject, what became of it and where its files are.

Owned by the report stage. Who asks "which hearts can I simulate" reads this table alone.
"""

import numpy as np
import pandas as pd

from ..metrics.agreement import agreement, errors_by_subject
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
STATUSES = ("accepted", "rejected", "base_rejected", "failed")
MESH_FIGURES = (
    "n_nodes",
    "n_tets",
    "min_scaled_jacobian",
    "p1_scaled_jacobian",
    "wall_volume_ml",
    "rv_wall_mm",
)


def manifest(tables: CohortTables, seeds: dict[str, int]) -> pd.DataFrame:
    """The manifest of a cohort (`COLUMNS`, then mesh figures); `seeds` by batch, empty without generation.

    A subject is accepted when its decks are written; rejected when a gate (topology, mesh) refused it;
    base_rejected when it is the sibling of a heart that was refused or not made; failed when a stage could
    not make its file. `stage` says where it ended, `reason` why.
    """
    frame = tables.subjects.set_index("subject")
    anatomy = tables.anatomies.drop_duplicates("subject").set_index("subject").reindex(frame.index)
    topology = tables.topology.set_index("subject").reindex(frame.index)
    mesh = tables.meshes.set_index("subject").reindex(frame.index)
    decks = _decks(tables.inputs).reindex(frame.index)

    has_anatomy, has_mesh = anatomy["file"].ne(""), mesh["file"].ne("")
    ended = [
        anatomy["status"].eq("base_rejected"),
        ~has_anatomy,
        topology["verdict"].ne("accepted"),
        mesh["verdict"].ne("accepted"),
        decks["verdict"].ne("accepted"),
    ]
    frame["status"] = np.select(
        ended, ["base_rejected", "failed", "rejected", "rejected", "failed"], "accepted"
    )
    stages = ["generation", "generation", "topology", "meshing", "inputs"]
    frame["stage"] = np.select(ended, stages, "inputs")
    detail = " (" + mesh.get("detail", pd.Series("", mesh.index)).fillna("").astype(str) + ")"
    refused = mesh["reason"] + detail.where(detail != " ()", "")
    reasons = [anatomy["reason"], anatomy["reason"], topology["reasons"], refused, decks["reason"]]
    frame["reason"] = np.select(ended, [r.astype(object) for r in reasons], "")
    frame["seed"] = frame["batch"].map(seeds).astype("Int64")
    frame["attempts"] = anatomy["attempts"]
    if not tables.targets.empty:
        errors = errors_by_subject(agreement(tables.targets, tables.anatomies))
        frame = frame.join(errors.round(4))
    frame["anatomy"] = ("anatomies/" + frame["batch"] + "/" + anatomy["file"]).where(has_anatomy, "")
    frame["mesh"] = ("meshes/" + frame["batch"] + "/" + mesh["file"]).where(has_mesh, "")
    complete = decks["verdict"].eq("accepted")
    frame["inputs"] = ("inputs/" + frame["batch"] + "/" + frame.index).where(complete, "")
    figures = mesh.reindex(columns=list(MESH_FIGURES))
    for name in ("n_nodes", "n_tets"):
        figures[name] = figures[name].astype("Int64")
    frame = frame.join(figures).reset_index()
    return frame.reindex(columns=[*COLUMNS, *MESH_FIGURES])


def _decks(inputs: pd.DataFrame) -> pd.DataFrame:
    """Verdict and reason by subject: the first file's that is not accepted, if there is one."""
    refused_first = inputs.assign(good=inputs["verdict"].eq("accepted")).sort_values("good", kind="stable")
    return refused_first.drop_duplicates("subject").set_index("subject")[["verdict", "reason"]]
