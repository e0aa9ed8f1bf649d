"""Targets of digital siblings: the moments that their base has, with the edits made (population stage).

A sibling answers what its base would be like had it another right ventricle, say. It keeps its base's
covariates and, unless the arm says which, every structure's size, position and shape; of an edited
structure what the edit leaves alone is kept only where it can be (a smaller cavity is somewhere else).
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..anatomy.labels import ATTRIBUTES
from ..anatomy.moments import Moments, from_columns
from ..cohort.covariates import AREA, Person
from ..cohort.grammar import Edit, for_person
from ..cohort.stage_tables import covariate_columns
from ..cohort.table import Arm, subject_name
from ..runtime.errors import InputError
from .edits import apply_edits
from .plausibility import Population
from .targets import Heart, tabulate

# what of an edited structure is constrained, by the edited quantity
KEPT = {
    "volume": ("size",), "volume_ratio": ("size",),
    **dict.fromkeys(("centroid_x", "centroid_y", "centroid_z", "distance"), ("size", "position")),
    "scale": ("size", "position", "scale", "orientation", "aspect"),
    "elongation": ATTRIBUTES, "rotation_x": ATTRIBUTES, "rotation_y": ATTRIBUTES, "rotation_z": ATTRIBUTES,
}  # fmt: skip


def default_constraints(edits: tuple[Edit, ...], names: tuple[str, ...]):
    """`Arm.constraints` of siblings that state none."""
    edited: dict[str, set[str]] = {}
    for edit in edits:
        kept = edited.setdefault(edit.structure.split("/")[0], set())
        kept |= set(KEPT[edit.quantity])
    for kept in edited.values():
        if "shape" in kept:
            kept -= {"orientation", "aspect"}
    order = (*ATTRIBUTES, "scale", "orientation", "aspect")
    return tuple((name, tuple(a for a in order if a in edited.get(name, ATTRIBUTES))) for name in names)


def sibling_targets(
    arm: Arm,
    indices: Iterable[int],
    seed: int,
    bases: dict[int, tuple[tuple[str, ...], Moments, Person | None]],
    population: Population | None,
) -> pd.DataFrame:
    """The targets (columns: `targets.tabulate`) of the siblings `indices` of `bases`, by index.

    A base has names, moments (K,) and a person. Raises InputError for edits and constraints of structures
    that it does not have.
    """
    indices = list(indices)
    names = bases[indices[0]][0]
    for part in (part for edit in arm.edits for part in edit.structure.split("/")):
        if part not in names:
            raise InputError(
                f"arm {arm.name!r}, column 'edits': its base has no {part}; it has {', '.join(names)}"
            )
    if not arm.constraints:
        arm = dataclasses.replace(arm, constraints=default_constraints(arm.edits, names))

    def heart(index: int, person: Person) -> Heart:
        own, moments, _ = bases[index]
        return own, apply_edits(moments, own, for_person(arm.edits, person[AREA]))

    return tabulate(arm, indices, seed, population, heart, person_of=lambda index: bases[index][2])


def bases_of_tables(arm: Arm, indices: Iterable[int], targets: pd.DataFrame, anatomies: pd.DataFrame):
    """Bases by index from the batch tables of the base's arm: the moments that were achieved.

    Where there is no anatomy, the moments that were wanted: such siblings are never made, but stay in the
    tables. Raises InputError naming a subject that the tables lack.
    """
    found = {}
    achieved = dict(iter(anatomies.groupby("subject", sort=False)))
    wanted = dict(iter(targets.groupby("subject", sort=False)))
    for index in indices:
        subject = subject_name(arm.base, index)
        if subject not in achieved or subject not in wanted:
            raise InputError(
                f"arm {arm.name!r}: its base's tables have no subject {subject!r}; they are of another run"
            )
        rows = achieved[subject] if (achieved[subject]["volume_ml"] > 0).all() else wanted[subject]
        rows = rows[~rows["structure"].str.contains("+", regex=False)]
        found[index] = (tuple(rows["structure"]), from_columns(rows), _person(wanted[subject]))
    return found


def bases_of_map(indices: Iterable[int], names: tuple[str, ...], moments: Moments):
    """The same heart for every index, of a person of whom nothing is known."""
    return dict.fromkeys(indices, (names, moments, None))


def _person(rows: pd.DataFrame) -> Person | None:
    first = rows.iloc[0]
    if np.isnan(first["heart_plausibility"]):  # whose base's base is a label map
        return None
    return first[covariate_columns(rows)].to_dict()
