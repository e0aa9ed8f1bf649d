"""The page's numbers about a cohort. Owned by the report stage."""

from dataclasses import dataclass

import pandas as pd

from ..anatomy.labels import Anatomy
from ..cohort.table import Arm
from ..meshing.chambers import WALL_FIGURES
from ..metrics.agreement import ERRORS, agreement, constrained_in, error_table
from ..runtime.outcomes import Outcome
from . import acceptance, bullseye, heart_mesh
from .baseline_table import baseline_table
from .cohort_tables import CohortTables
from .further_attributes import further_attributes
from .reference_values import compare

MESH_SUMMARY = {
    "n_tets": "median",
    "min_scaled_jacobian": "min",
    "p1_scaled_jacobian": "min",
    "wall_volume_ml": "median",
    **heart_mesh.MEDIANS,
    "surface_distance_p95_mm": "median",
    "regions": "median",
    "region_volume_error": "max",
}
UNITS = {"mm": "mm", "ml": "mL", "mm2": "mm²"}  # of the figures of walls, by the end of their names


@dataclass(frozen=True)
class Summary:
    """Frames as the modules that make them define them; `errors` holds the headline's medians by column.

    `generated` is False for the user's own label maps, which have no targets: then agreement, further,
    selection and errors are empty.
    """

    generated: bool
    arms: pd.DataFrame
    reasons: pd.DataFrame
    agreement: pd.DataFrame
    error_table: pd.DataFrame
    further: pd.DataFrame
    errors: dict[str, float]
    selection: pd.DataFrame
    volumes: pd.DataFrame
    people: pd.DataFrame  # requested and accepted subjects by arm
    comparison: pd.DataFrame
    meshes: pd.DataFrame
    added_walls: pd.DataFrame  # and planes between blood pools, of meshes that have them
    walls: pd.DataFrame
    wall_table: pd.DataFrame
    warnings: list[str]


def summarise(
    tables: CohortTables,
    manifest: pd.DataFrame,
    reference_values: pd.DataFrame,
    arms: list[Arm],
    anatomy: Anatomy,
) -> Summary:
    """Compare and count: errors over all written label maps, volumes over accepted hearts.

    `arms` are the cohort table's; none for the user's own label maps.
    """
    accepted = manifest.loc[manifest["status"] == Outcome.ACCEPTED, "subject"]
    volumes = tables.anatomies.loc[
        tables.anatomies["subject"].isin(accepted) & (tables.anatomies["volume_ml"] > 0),
        ["subject", "arm", "structure", "volume_ml"],
    ]
    generated = not tables.targets.empty
    rows = agreement(tables.targets, tables.anatomies) if generated else pd.DataFrame()
    shifts = acceptance.selection(tables.targets, manifest) if generated else pd.DataFrame()
    walls = bullseye.wall_rows(tables.meshes, manifest)
    return Summary(
        generated=generated,
        arms=acceptance.by_arm(manifest),
        reasons=acceptance.by_reason(manifest, tables.anatomies),
        agreement=rows,
        error_table=error_table(rows) if generated else pd.DataFrame(),
        further=further_attributes(tables.targets, tables.anatomies) if generated else pd.DataFrame(),
        errors=_medians(rows) if generated else {},
        selection=shifts,
        volumes=volumes,
        people=baseline_table(tables, manifest, anatomy),
        comparison=compare(volumes, tables.targets, reference_values),
        meshes=_mesh_summary(tables.meshes, manifest),
        added_walls=added_walls(tables.meshes, manifest),
        walls=walls,
        wall_table=bullseye.wall_table(walls),
        warnings=acceptance.warnings(arms, tables.targets, manifest, shifts),
    )


def _medians(rows: pd.DataFrame) -> dict[str, float]:
    return {
        column: float(rows.loc[constrained_in(rows, attribute), column].abs().median())
        for attribute, column in ERRORS.items()
    }


def _mesh_summary(meshes: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """One row per arm: meshes made, and of every figure the median or, for the gates, the worst."""
    accepted = meshes[meshes["verdict"] == Outcome.ACCEPTED].reindex(columns=["subject", *MESH_SUMMARY])
    groups = accepted.merge(manifest[["subject", "arm"]], on="subject").groupby("arm", sort=False)
    return groups.agg(MESH_SUMMARY).assign(n=groups.size()).reset_index()


def added_walls(meshes: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Median, least and largest of each figure of WALL_FIGURES per arm; no row where no mesh has any."""
    columns = [name for name in WALL_FIGURES if name in meshes]
    accepted = meshes[meshes["verdict"] == Outcome.ACCEPTED].merge(manifest[["subject", "arm"]], on="subject")
    rows = []
    for arm, group in accepted.groupby("arm", sort=False):
        for column in columns:
            values = group[column].dropna()
            what, end = column.rsplit("_", 1)
            if len(values):
                rows.append([arm, what, UNITS[end], len(values), values.median(), values.min(), values.max()])
    return pd.DataFrame(rows, columns=["arm", "what", "unit", "n", "median", "least", "largest"])
