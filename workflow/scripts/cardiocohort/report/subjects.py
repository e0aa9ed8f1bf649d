"""The subject table: one row per requested heart with all that statistics need. Owned by the report stage.

`cohort.subject_columns` defines the columns. The measurements of hearts that were not accepted are empty.
Their covariates and targets stay, since they say whom a trial lost.
"""

import os.path
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy import attributes
from ..anatomy.domains import slab_mm
from ..anatomy.label_map import read_label_map
from ..anatomy.labels import Anatomy
from ..anatomy.moments import MOMENT_COLUMNS, THICKNESS, Moments, from_columns
from ..anatomy.unions import select
from ..cohort.covariates import AREA, Covariate
from ..cohort.stage_tables import covariate_columns, mesh_files
from ..cohort.subject_columns import (
    CHAMBERS,
    INDEXED,
    MUSCLE_G_PER_ML,
    SIMULATION,
    Column,
    pairs_of,
    part_name,
)
from ..mesh.model import BiventricularModel
from ..mesh.storage import read_model
from ..runtime.artifacts import check_file, listed_file
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome
from ..runtime.tables import FILE_COLUMNS
from . import heart_mesh, heart_shape
from .cohort_tables import CohortTables
from .heart_shape import BASAL, CAVITY, CONICITY, CURVATURES, REGION_WALLS

FROM_MANIFEST = ("arm", "batch", "seed", "attempts", "status", "stage", "reason", "causes", "arm_settings")
FROM_MESH = heart_mesh.SUBJECT_FIGURES
RENAMED = {"wall_volume_ml": "mesh_wall_volume_ml"}  # an anatomy may have a structure `wall`
ENDED = ("verdict", "reason", "detail")  # of a simulation, kept where it failed; so is the share of its load


def subjects(
    tables: CohortTables,
    manifest: pd.DataFrame,
    simulations: pd.DataFrame,
    measures: pd.DataFrame,
    anatomy: Anatomy,
    bases: Mapping[str, str],
    matches: Mapping[str, str],
    constrained: Mapping[str, tuple],
    local: Mapping[str, Collection[str]],
) -> pd.DataFrame:
    """One row per subject of the manifest, in its order; columns of stages that have not run are missing.

    simulations: rows of the simulation tables, empty where `simulate` has not run. measures: `measure` by
    subject. bases: by arm, the arm or label map file that its subjects are siblings of. matches: by arm, the
    arm that it is matched to. Both have "" for none. constrained: relations of the arms
    (`subject_columns.relations`). local: their parts (`subject_columns.parts`).
    """
    rows = manifest.set_index("subject")
    accepted = rows.index[rows["status"] == Outcome.ACCEPTED]
    out = rows[["arm", "batch"]].copy()
    out["base"] = [_other(name, bases.get(arm, ""), bases) for name, arm in rows["arm"].items()]
    out["matched"] = [_other(name, matches.get(arm, ""), bases) for name, arm in rows["arm"].items()]
    out["cluster"] = clusters(out["base"], out["matched"], tables.targets)
    out = out.join(rows[[name for name in FROM_MANIFEST if name not in out]])
    out = out.join(_people(tables.targets))
    names, pairs = (*anatomy.structures, *local), pairs_of(anatomy.structures, constrained)
    blocks = [
        _volumes(tables, anatomy.structures, accepted),
        *([_parts(tables, accepted, local)] if local else []),
        *([] if tables.targets.empty else [_relations(tables.targets, names, rows.index, pairs, "target_")]),
        _relations(tables.anatomies, names, accepted, pairs),
        _mesh(tables.meshes, accepted),
        measures.reindex(accepted),
        _function(simulations, accepted),
    ]
    for block in blocks:
        out = out.join(block)
    area = out.get(AREA, pd.Series(np.nan, out.index))
    for name in anatomy.structures:
        out[f"{name}_volume_index_ml_m2"] = out[f"{name}_volume_ml"] / area
    out = out.assign(**heart_shape.wall_mass(out, anatomy, area), **heart_shape.region_masses(out, area))
    out = out.assign(**{name: out[of] / area for of, name in INDEXED.items() if of in out})
    out["mesh_wall_mass_g"] = MUSCLE_G_PER_ML * out["mesh_wall_volume_ml"]
    return out.reset_index()


def covariates_in(targets: pd.DataFrame, known: Mapping[str, Covariate]) -> dict[str, Covariate]:
    """The covariates that the targets have, by column."""
    return {name: known[name] for name in covariate_columns(targets) if name in known}


def in_order(frame: pd.DataFrame, columns: Mapping[str, Column], not_run: Iterable[str]) -> pd.DataFrame:
    """The frame's columns in the order of their definitions, columns without one last.

    Columns of stages that have `not_run` are added, empty.
    """
    not_run = set(not_run)
    known = [name for name, c in columns.items() if name in frame.columns or c.stage in not_run]
    texts = {name: "" for name in known if name not in frame.columns and columns[name].kind == "text"}
    frame = frame.assign(**texts)
    return frame.reindex(columns=[*known, *(name for name in frame.columns if name not in columns)])


def measure(
    anatomies: pd.DataFrame, meshes: pd.DataFrame, folder: Path, anatomy: Anatomy, subjects
) -> pd.DataFrame:
    """What only the files of accepted hearts show, by subject: conicity, walls' volumes, curvature.

    anatomies, meshes: rows of the stage tables with a column `batch`. folder: the cohort's, with their files.
    NaN where a heart lacks what a measure needs. InputError where a listed file is missing or was changed.
    """
    maps = anatomies.set_index(["subject", "structure"])
    listed = {row["subject"]: row for row in meshes.to_dict("records")}
    measured = [*REGION_WALLS.values(), *CURVATURES, *([CONICITY] if CAVITY in anatomy.structures else [])]
    rows = []
    for subject in subjects:
        row = dict.fromkeys(measured, np.nan)
        if {CAVITY, BASAL} <= set(anatomy.structures) and maps.loc[(subject, BASAL), "volume_ml"] > 0:
            beside = maps.loc[(subject, BASAL)]
            file = listed_file(beside, folder / "anatomies" / beside["batch"])
            label_map = read_label_map(check_file(*file), anatomy)
            base = beside[[f"centroid_{axis}_mm" for axis in "xyz"]].to_numpy(float)
            row[CONICITY] = heart_shape.conicity(label_map, anatomy.label(CAVITY), base)
        mesh = listed[subject]
        files = mesh_files(mesh, folder / "meshes" / mesh["batch"])
        model = read_model(*(check_file(*file) for file in files))
        if isinstance(model, BiventricularModel):
            row |= heart_shape.region_walls_ml(model)
            with suppress(SubjectError):  # a mesh without that wall, or an open base, has none
                row |= heart_shape.curvatures(model)
        rows.append(row)
    return pd.DataFrame(rows, columns=measured, index=pd.Index(subjects, name="subject"))


def clusters(base: pd.Series, matched: pd.Series, targets: pd.DataFrame) -> pd.Series:
    """By subject, the entry of the column `cluster`.

    base, matched: the columns, by subject. targets: rows of the stage tables; hearts without base and match
    whose targets are all the same differ by the noise of the sampling alone.
    """
    first = _first_with_targets(targets)

    def of(subject: str) -> str:
        while other := base[subject] or matched[subject]:
            if other not in base:
                return os.path.normpath(other)
            subject = other
        return first.get(subject, subject)

    return pd.Series({subject: of(subject) for subject in base.index}, dtype="str")


def _first_with_targets(targets: pd.DataFrame) -> dict[str, str]:
    """By subject, the first one with the same target moments of all whole structures."""
    if targets.empty:
        return {}
    rows = targets[~targets["structure"].str.contains(r"[+@]")].reset_index(drop=True)
    key = pd.util.hash_pandas_object(rows[["structure", *MOMENT_COLUMNS]], index=False)
    of_subject = key.groupby(rows["subject"], sort=False).sum()
    names = of_subject.index.to_series()
    return names.groupby(of_subject).transform("first").to_dict()


def _other(subject: str, arm: str, arms: Iterable[str]) -> str:
    """The subject of the same index of another arm, or the label map file; "" for none."""
    return f"{arm}-{subject.rpartition('-')[2]}" if arm in arms else arm


def _people(targets: pd.DataFrame) -> pd.DataFrame:
    if targets.empty:
        return pd.DataFrame()
    hearts = targets.drop_duplicates("subject").set_index("subject")
    return hearts.reindex(columns=[*covariate_columns(targets), "heart_plausibility"])


def _moments(rows: pd.DataFrame, names: tuple[str, ...], subjects: pd.Index) -> Moments:
    """Moments (subjects, names); NaN for a structure that a heart lacks."""
    places = pd.MultiIndex.from_product([subjects, names], names=["subject", "structure"])
    table = rows.set_index(["subject", "structure"]).reindex(places)[list(MOMENT_COLUMNS)]
    table = table.where(table["volume_ml"] > 0)
    flat = from_columns(table)
    n, k = len(subjects), len(names)
    return Moments(
        flat.volume_ml.reshape(n, k),
        flat.centroid_mm.reshape(n, k, 3),
        flat.covariance_mm2.reshape(n, k, 3, 3),
    )


def _parts(tables: CohortTables, accepted: pd.Index, local: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """What `_volumes` has of structures, of parts; of slabs the area too, of walls the thickness."""
    found = _volumes(tables, tuple(local), accepted)
    rows = tables.anatomies[tables.anatomies["subject"].isin(accepted)].set_index("subject")
    for name in (name for name, kinds in local.items() if "wall" in kinds):
        for prefix, table in (("target_", tables.targets), ("", rows.reset_index())):
            own = table[table["structure"] == name].set_index("subject")
            found[f"{part_name(name)}_{prefix}thickness_mm"] = own[THICKNESS]
    for name in (name for name, kinds in local.items() if "slab" in kinds):
        for prefix, table in (("target_", tables.targets), ("", rows.reset_index())):
            own = table[table["structure"] == name].set_index("subject")
            found[f"{part_name(name)}_{prefix}area_mm2"] = (
                1000.0 * own["volume_ml"] / own["domain"].map(slab_mm)
            )
    return found


def _volumes(tables: CohortTables, names: tuple[str, ...], accepted: pd.Index) -> pd.DataFrame:
    """Of structures or parts, target volumes of everyone; of accepted hearts volumes, errors, sphericity."""
    achieved = _moments(tables.anatomies, names, accepted)
    found = pd.DataFrame(index=tables.subjects["subject"])
    error, away, shape = (np.full(achieved.volume_ml.shape, np.nan) for _ in range(3))
    if not tables.targets.empty:
        target = _moments(tables.targets, names, found.index)
        for k, name in enumerate(names):
            found[f"{part_name(name)}_target_volume_ml"] = target.volume_ml[:, k]
        own = target[found.index.get_indexer(accepted)]
        error = 100.0 * (achieved.volume_ml / own.volume_ml - 1.0)
        away = np.linalg.norm(achieved.centroid_mm - own.centroid_mm, axis=-1)
        shape = np.linalg.norm(achieved.shape - own.shape, axis=(-2, -1))
    measured = {}
    for k, name in enumerate(names):
        measured[f"{part_name(name)}_volume_ml"] = achieved.volume_ml[:, k]
        measured[f"{part_name(name)}_volume_error_percent"] = error[:, k]
        measured[f"{part_name(name)}_centroid_error_mm"] = away[:, k]
        measured[f"{part_name(name)}_shape_error"] = shape[:, k]
        if name in CHAMBERS:
            measured[f"{name}_sphericity"] = heart_shape.sphericity(achieved.covariance_mm2[:, k])
    return found.join(pd.DataFrame(measured, index=accepted))


def _relations(
    rows: pd.DataFrame,
    names: tuple[str, ...],
    subjects: pd.Index,
    pairs: Mapping[str, tuple],
    prefix: str = "",
) -> pd.DataFrame:
    """Relations of the moments of targets or anatomies, NaN where one of the structures is missing."""
    moments = _moments(rows, names, subjects)
    found = {}
    for attribute, wanted in pairs.items():
        for a, b in wanted:
            first, second = (select(moments, names, (name,))[:, 0] for name in (a, b))
            label = f"{prefix}{attribute}_{part_name(a)}_to_{part_name(b)}"
            if attribute == "distance":
                found[f"{label}_mm"] = attributes.distance_mm(first, second)
            elif attribute == "volume_ratio":
                found[label] = attributes.volume_ratio(first, second)
            else:
                ways = attributes.direction(first, second)
                found |= {f"{label}_{axis}": ways[:, i] for i, axis in enumerate("xyz")}
    return pd.DataFrame(found, index=subjects)


def _mesh(meshes: pd.DataFrame, accepted: pd.Index) -> pd.DataFrame:
    return meshes.set_index("subject").reindex(accepted)[list(FROM_MESH)].rename(columns=RENAMED)


def _function(simulations: pd.DataFrame, accepted: pd.Index) -> pd.DataFrame:
    """Every quantity of the simulation table, with its prefix; figures of full loads only.

    A run that did not reach the full load leaves figures of its last state, which no other heart has.
    """
    if simulations.empty:
        return pd.DataFrame(index=accepted)
    rows = simulations.set_index("subject").reindex(accepted)
    rows = rows[[name for name in rows.columns if not _of_a_file(name, rows.columns)]]
    figures = [name for name in rows.columns if name not in (*ENDED, "load_share")]
    rows[figures] = rows[figures].where(rows["verdict"] == Outcome.ACCEPTED)
    return rows.add_prefix(SIMULATION)


def _of_a_file(name: str, columns: Iterable[str]) -> bool:
    """Whether a column is of a listed file (`<part>file`, `<part>size`, `<part>sha256`), of no quantity."""
    part, _, last = name.rpartition("_")
    listed = {f"{part}_{own}" if part else own for own in FILE_COLUMNS}
    return last in FILE_COLUMNS and listed <= set(columns)
