"""The reference population: a table of moments and covariates, read and checked.

Owned by the population stage. One row per subject and structure; docs/cohort-table.md describes
the columns. Positions are in the heart frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.domains import split
from ..anatomy.labels import Anatomy
from ..anatomy.moments import MOMENT_COLUMNS, Moments, from_columns
from ..anatomy.unions import select
from ..cohort import covariates
from ..cohort.covariates import Covariate
from ..cohort.people import regression_of
from ..cohort.regressors import Regression
from ..runtime import tables
from ..runtime.errors import InputError
from .units import Usual, check_units

COLUMNS = {"subject": "str", "structure": "str"} | dict.fromkeys(MOMENT_COLUMNS, "float64")
MAX_OFFSET_MM = 10.0  # of the heart's centre from the origin; voxel rounding makes less than 1


@dataclass(frozen=True)
class Reference:
    """N subjects with K structures each, in the anatomy's order; `moments` are (N, K).

    `covariates` has one row per subject and those columns of the `known` covariates that the table has.
    """

    structures: tuple[str, ...]
    moments: Moments
    covariates: pd.DataFrame
    known: Mapping[str, Covariate] = field(default_factory=covariates.known)

    @cached_property
    def regression(self) -> Regression:
        """What hearts are regressed on."""
        return regression_of(self.covariates, self.known)


def read_reference(
    path: str | Path,
    anatomy: Anatomy,
    usual: Usual | None = None,
    known: Mapping[str, Covariate] | None = None,
) -> Reference:
    """Read a reference table (Parquet or TSV); `usual`: of the bundle's hearts, to recognise other units.

    `known`: the covariates that columns can be; None for those of every run.
    Subjects are sorted by name, so that the order of rows means nothing. Raises InputError naming
    file, row and column for all that cannot be moments or covariates of whole hearts.
    """
    known = covariates.known() if known is None else known
    frame = covariates.read_table(path, COLUMNS, known)
    if frame.empty:
        raise InputError(f"{path}: the reference table has no rows")
    present = [name for name in known if name in frame.columns]
    frame = frame.assign(structure=check_structures(path, frame, anatomy, unions=False))
    check_moments(path, frame)
    check_units(path, frame, usual)
    structures = tuple(name for name in anatomy.structures if name in set(frame["structure"]))
    _check_complete(path, frame, structures)

    order = frame["structure"].map(structures.index)
    frame = frame.assign(order=order).sort_values(["subject", "order"], kind="stable")
    shape = (frame["subject"].nunique(), len(structures))
    moments = from_columns({name: frame[name].to_numpy().reshape(shape) for name in MOMENT_COLUMNS})
    _check_frame(path, moments, structures, anatomy)
    people = frame.iloc[:: len(structures)][present].reset_index(drop=True)
    return Reference(structures, moments, people, known)


def check_structures(path, frame: pd.DataFrame, anatomy: Anatomy, unions: bool) -> pd.Series:
    """The column `structure`, without blanks that a hand has left there.

    InputError unless every cell names a structure of the anatomy; with `unions` also a union, or a part
    `structure@domain`.
    """
    names = frame["structure"].map(lambda name: "+".join(part.strip() for part in name.split("+")))
    for row, name in names.drop_duplicates().items():
        try:
            labels = anatomy.labels_of(split(name)[0] if unions else name)
        except InputError as error:
            raise InputError(f"{tables.where(path, row)}, column 'structure': {error}") from None
        if len(labels) > 1 and not unions:
            raise InputError(
                f"{tables.where(path, row)}, column 'structure': {name!r} is a union; give its parts instead"
            )
    return names


def check_moments(path, frame: pd.DataFrame) -> None:
    """Volumes positive, everything finite, covariances positive definite."""
    for name in MOMENT_COLUMNS:
        tables.first_bad(path, frame, name, ~np.isfinite(frame[name]), "a finite number")
    tables.first_bad(path, frame, "volume_ml", ~(frame["volume_ml"] > 0), "a volume above 0 mL")
    values = np.linalg.eigvalsh(from_columns(frame).covariance_mm2)
    flat = ~(values[:, 0] > 1e-9 * values[:, 2])
    if flat.any():
        row = frame.index[np.argmax(flat)]
        raise InputError(
            f"{tables.where(path, row)}, columns 'covariance_*_mm2': not a positive definite matrix "
            f"(eigenvalues {', '.join(f'{v:.4g}' for v in values[np.argmax(flat)])} mm^2)"
        )


def _check_complete(path, frame: pd.DataFrame, structures: tuple[str, ...]) -> None:
    twice = frame.duplicated(["subject", "structure"])
    tables.first_bad(path, frame, "structure", twice, "new; this subject has a row of that structure already")
    counts = frame.groupby("subject").size()
    if (counts < len(structures)).any():
        subject = counts.idxmin()
        has = set(frame.loc[frame["subject"] == subject, "structure"])
        lacks = [name for name in structures if name not in has]
        raise InputError(
            f"{path}: subject {subject!r} has no row of {', '.join(lacks)}; every subject needs the same "
            "structures (leave out subjects, or structures, that are not complete)"
        )


def _check_frame(path, moments: Moments, structures: tuple[str, ...], anatomy: Anatomy) -> None:
    if not set(anatomy.centred_on) <= set(structures):
        return
    centre = select(moments, structures, ("+".join(anatomy.centred_on),)).centroid_mm[:, 0]
    offset = np.linalg.norm(centre, axis=-1)
    if offset.max() > MAX_OFFSET_MM:
        worst = int(np.argmax(offset))
        raise InputError(
            f"{path}: the hearts are not in the heart frame; the common centroid of "
            f"{', '.join(anatomy.centred_on)} must be the origin (within {MAX_OFFSET_MM:g} mm), but of the "
            f"subject sorted {worst + 1}th it is {np.round(centre[worst], 1).tolist()} mm; subtract it from "
            "that subject's centroids"
        )
