"""Targets that the user gives instead of having them drawn. Owned by the population stage.

The table (TSV or Parquet) has one row per structure, as moments or as ellipsoids, of a whole arm or of
one subject. docs/cohort-table.md describes the columns.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from ..anatomy import domains
from ..anatomy.domains import AT
from ..anatomy.labels import Anatomy, Grid
from ..anatomy.moments import (
    MOMENT_COLUMNS,
    THICKNESS,
    Moments,
    from_columns,
    from_ellipsoid,
    of_each,
    to_columns,
    to_ellipsoid,
)
from ..cohort.stage_tables import DOMAIN
from ..cohort.table import Arm, subject_name
from ..cohort.target_arms import AREA
from ..runtime import tables
from ..runtime.errors import InputError
from .edits import apply_edits, follow_parts
from .plausibility import Population
from .reference import check_moments, check_structures
from .targets import Heart, tabulate
from .units import Usual, check_units

KEYS = {"arm": "str", "structure": "str"}
CENTRE = tuple(f"centre_{axis}_mm" for axis in "xyz")
SEMI_AXES = tuple(f"semi_axis_{axis}_mm" for axis in "abc")
ROTATION = tuple(f"rotation_{axis}_deg" for axis in "xyz")
ELLIPSOID_COLUMNS = (*CENTRE, *SEMI_AXES, *ROTATION)


def read_targets(path: str | Path, anatomy: Anatomy, usual: Usual | None = None) -> pd.DataFrame:
    """Read a targets table: columns subject ("" = every subject of the arm), arm, structure, moments.

    Raises InputError naming file, row and column for what cannot be targets, or looks like another unit's
    (`usual`: of the bundle's hearts).
    """
    frame = tables.read_table(path, KEYS)
    _check_columns(path, frame)
    ellipsoids = any(name in frame.columns for name in ELLIPSOID_COLUMNS)
    if ellipsoids and any(name in frame.columns for name in MOMENT_COLUMNS[1:]):
        raise InputError(
            f"{path}: it has columns of moments and of ellipsoids; keep one kind: either "
            f"{', '.join(MOMENT_COLUMNS)}, or {', '.join(ELLIPSOID_COLUMNS)} and, optionally, volume_ml"
        )
    numbers = ELLIPSOID_COLUMNS if ellipsoids else MOMENT_COLUMNS
    frame = tables.read_table(path, KEYS | dict.fromkeys(numbers, "float64"))
    if frame.empty:
        raise InputError(f"{path}: the targets table has no rows")
    subject = frame["subject"] if "subject" in frame.columns else pd.Series("", index=frame.index)
    frame["subject"] = subject.fillna("").astype(str)
    _check_subjects(path, frame)
    names = check_structures(path, frame, anatomy, unions=True)
    frame["structure"] = [_canonical(name, anatomy) for name in names]
    twice = frame.duplicated(["arm", "subject", "structure"])
    tables.first_bad(path, frame, "structure", twice, "new; it has a row for this arm and subject already")
    frame = frame.assign(**{name: _optional(path, frame, name) for name in (AREA, THICKNESS)})
    if ellipsoids:
        frame = frame.assign(**_moments_of_ellipsoids(path, frame))
    frame = _with_volumes_for_areas(path, frame)
    check_moments(path, frame)
    check_units(path, frame, usual)
    return frame[["subject", *KEYS, *MOMENT_COLUMNS, AREA, THICKNESS]]


def explicit_targets(
    arm: Arm,
    indices: Iterable[int],
    seed: int,
    table: pd.DataFrame,
    population: Population | None,
    grid: Grid | None = None,
) -> pd.DataFrame:
    """The targets (columns: `targets.tabulate`) of the arm's subjects `indices`.

    A subject has the rows of its own name, or else those of its arm without a name; relative edits are
    applied. Parts `structure@domain` are placed by the moments of the whole structures, before edits, as if
    these were solid ellipsoids; the last column, `domain`, says where, and `grid` is that of the anatomy.
    Raises InputError for a subject without rows, for edits that set a value, and for a part without a place.
    """
    for edit in arm.edits:
        if edit.operation.startswith("set") and "/" not in edit.structure:
            raise InputError(
                f"arm {arm.name!r}, column 'edits': {edit.structure}.{edit.quantity} is set to a value, "
                "but the arm's targets come from the targets table; write the value there"
            )
    rows_of = dict(list(table[table["arm"] == arm.name].groupby("subject")))
    constrained, local, texts = arm.asked(), arm.parts(), {}

    def heart(index: int, person) -> Heart:
        subject = subject_name(arm.name, index)
        rows = rows_of.get(subject, rows_of.get(""))
        if rows is None:
            raise InputError(
                f"the targets table has no rows for subject {subject!r}; write rows with arm "
                f"{arm.name!r} and this subject, or with an empty subject for the whole arm"
            )
        # unions nobody asks for would only be reported as targets that were missed
        rows = rows[[name in constrained or "+" not in name for name in rows["structure"]]]
        names = tuple(rows["structure"])
        for part in (part for edit in arm.edits for part in edit.structure.split("/")):
            if part not in names:
                raise InputError(
                    f"arm {arm.name!r}, column 'edits': the targets table has no {part} for "
                    f"{subject!r}; it has {', '.join(names)}"
                )
        if arm.walls():
            rows = rows.assign(**{THICKNESS: rows[THICKNESS].where(rows["structure"].isin(arm.walls()))})
        else:
            rows = rows.drop(columns=THICKNESS)
        moments = of_each(np.array, from_columns(rows))
        places = {part: _placed(part, subject, arm, (moments, names), grid) for part in local}
        slabs_mm = {part: domains.slab_mm(text) for part, text in places.items()}
        for k, (name, area) in enumerate(zip(names, rows[AREA], strict=True)):
            if not np.isnan(area):
                moments.volume_ml[k] = area * slabs_mm[name] / 1000.0
        texts[subject] = places
        return names, follow_parts(names, moments, apply_edits(moments, names, arm.edits, slabs_mm))

    found = tabulate(arm, indices, seed, population, heart)
    if not local:
        return found
    rows = zip(found["subject"], found["structure"], strict=True)
    return found.assign(**{DOMAIN: [texts[subject].get(name, "") for subject, name in rows]})


def _placed(part: str, subject: str, arm: Arm, heart: tuple[Moments, tuple[str, ...]], grid: Grid) -> str:
    try:
        frame = domains.frame_of_moments(part, arm.domains, heart)
        return domains.to_text(domains.place_part(part, arm.domains, frame, grid))
    except InputError as error:
        raise InputError(f"the targets table, subject {subject!r}: {part}: {error}") from None


def _canonical(name: str, anatomy: Anatomy) -> str:
    whole, at, domain = name.partition(AT)
    return "+".join(sorted(whole.split("+"), key=anatomy.label)) + at + domain


def _check_columns(path, frame: pd.DataFrame) -> None:
    """InputError for a column that nearly has the name of one that is read: it would not be."""
    columns = ("subject", *KEYS, *MOMENT_COLUMNS, AREA, THICKNESS, *ELLIPSOID_COLUMNS)
    known = {name.lower(): name for name in columns}
    for name in frame.columns:
        near = get_close_matches(name.strip().lower(), known, n=1, cutoff=0.8)
        if near and name != (meant := known[near[0]]) and meant not in frame.columns:
            raise InputError(
                f"{path}, row 1: column {name!r} is not read; write {meant!r}, or take it out. Columns are "
                f"{', '.join(known.values())}"
            )


def _optional(path, frame: pd.DataFrame, name: str) -> pd.Series:
    """A column of positive numbers that may be empty, or missing."""
    if name not in frame.columns:
        return pd.Series(np.nan, frame.index)
    values = pd.to_numeric(frame[name], errors="coerce")
    bad = (values.isna() & frame[name].notna()) | (values <= 0) | np.isinf(values)
    tables.first_bad(path, frame, name, bad, "a number above 0, or empty")
    return values


def _with_volumes_for_areas(path, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of an area have the volume of the ellipsoid with their covariance, until their slab is placed."""
    given = frame[AREA].notna()
    whole = given & ~frame["structure"].map(domains.is_inside).astype(bool)
    tables.first_bad(path, frame, AREA, whole, "empty; only a slab 'structure@domain' has an area")
    if not given.any():
        return frame
    of = from_columns(frame[given])
    solid = to_columns(from_ellipsoid(*to_ellipsoid(of)))["volume_ml"]
    return frame.assign(volume_ml=frame["volume_ml"].mask(given, pd.Series(solid, frame.index[given])))


def _check_subjects(path, frame: pd.DataFrame) -> None:
    for row, subject, arm in frame[["subject", "arm"]].itertuples():
        number = subject.removeprefix(f"{arm}-")
        if subject and (
            number == subject or not number.isdecimal() or subject_name(arm, int(number)) != subject
        ):
            raise InputError(
                f"{tables.where(path, row)}, column 'subject': {subject!r} is not a subject of arm {arm!r}; "
                f"allowed: {subject_name(arm, 0)!r} and so on, or empty for every subject of the arm"
            )


def _moments_of_ellipsoids(path, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    for name in ELLIPSOID_COLUMNS:
        tables.first_bad(path, frame, name, ~np.isfinite(frame[name]), "a finite number")
    for name in SEMI_AXES:
        tables.first_bad(path, frame, name, ~(frame[name] > 0), "a length above 0 mm")
    rotation = Rotation.from_rotvec(frame[list(ROTATION)].to_numpy(), degrees=True).as_matrix()
    solid = from_ellipsoid(frame[list(CENTRE)].to_numpy(), frame[list(SEMI_AXES)].to_numpy(), rotation)
    columns = to_columns(solid)
    if "volume_ml" in frame.columns:  # of a shell such as a wall, which no solid ellipsoid has
        given = pd.to_numeric(frame["volume_ml"], errors="coerce")
        bad = given.isna() & frame["volume_ml"].notna()
        tables.first_bad(path, frame, "volume_ml", bad, "a number or empty")
        columns["volume_ml"] = given.fillna(pd.Series(columns["volume_ml"], index=frame.index)).to_numpy()
    return columns
