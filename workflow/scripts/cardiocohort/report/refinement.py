"""The same hearts meshed and inflated at several edge lengths. Of hearts only. Owned by the meshing stage."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..cohort import stage_tables
from ..runtime import tables

MESH_FIGURES = (
    "n_nodes", "n_tets", "min_scaled_jacobian", "p1_scaled_jacobian", "rv_wall_mm", "wall_volume_ml",
    "lv_cavity_ml", "rv_cavity_ml", "surface_distance_mean_mm", "surface_distance_p95_mm",
    "rim_distance_mm", "seconds",
)  # fmt: skip
RESULTS = ("lv_loaded_ml", "rv_loaded_ml", "max_displacement_mm", "load_share", "seconds", "peak_mb")
FOLDER_UNIT = "mm"  # of `<edge length>mm/meshes/<batch>.tsv`


def study(meshes: Iterable[Path], simulations: Iterable[Path]) -> pd.DataFrame:
    """One row per heart and edge length (mm), the coarsest first: verdict, reason, figures of the mesh.

    meshes, simulations: batch tables in folders named by their edge length. Where there are simulations,
    further columns `simulation_<name>`: verdict and what came out, empty for a heart without a mesh.
    """
    table = _read(meshes, stage_tables.MESHES, ("verdict", "reason", *MESH_FIGURES))
    inflated = _read(simulations, stage_tables.SIMULATIONS, ("verdict", "reason", *RESULTS))
    if inflated is not None:
        keys = ["subject", "edge_length_mm"]
        inflated = inflated.rename(
            columns={name: f"simulation_{name}" for name in inflated if name not in keys}
        )
        table = table.merge(inflated, on=keys, how="left", validate="one_to_one")
    order = {subject: i for i, subject in enumerate(dict.fromkeys(table["subject"]))}
    return table.sort_values(
        ["subject", "edge_length_mm"],
        key=lambda column: column.map(order) if column.name == "subject" else -column,
        ignore_index=True,
    )


def _read(paths: Iterable[Path], columns: dict[str, str], names: tuple[str, ...]) -> pd.DataFrame | None:
    frames = []
    for path in paths:
        frame = tables.read_table(path, columns)
        frame.insert(1, "edge_length_mm", float(path.parts[-3].removesuffix(FOLDER_UNIT)))
        frames.append(frame[["subject", "edge_length_mm", *names]])
    return pd.concat(frames, ignore_index=True) if frames else None
