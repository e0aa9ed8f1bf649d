"""Targets of digital siblings: the moments that their base has, with the edits made (population stage).

A sibling answers what its base would be like had it another size of one structure, say. It keeps its base's
covariates and, unless the arm says which, every structure's size, position and shape; of an edited
structure what the edit leaves alone is kept only where it can be (a smaller cavity is somewhere else).
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from ..anatomy import domains as parts
from ..anatomy.labels import ATTRIBUTES, FURTHER_ATTRIBUTES, WALL_ATTRIBUTES, Anatomy, Grid
from ..anatomy.moments import Moments, from_columns, measure_labels, of_each
from ..cohort.covariates import AREA, Person
from ..cohort.grammar import TILTS, Edit, for_person
from ..cohort.stage_tables import DOMAIN, covariate_columns
from ..cohort.table import Arm, subject_name
from ..runtime.errors import InputError
from .edits import apply_edits, follow_parts
from .plausibility import Population
from .targets import Heart, tabulate

Base = tuple[tuple[str, ...], Moments, Person | None]  # names, their moments (K,), and who it is

# what of an edited structure is constrained, by the edited quantity
KEPT = {
    "volume": ("size",), "volume_ratio": ("size",),
    # a slab that grows elsewhere than around its own centre is another vessel
    "area": ("size", "position"),
    "thickness": ("thickness",),
    **dict.fromkeys(("centroid_x", "centroid_y", "centroid_z", "distance"), ("size", "position")),
    "scale": ("size", "position", "scale", "orientation", "aspect"),
    "elongation": ATTRIBUTES, "rotation_x": ATTRIBUTES, "rotation_y": ATTRIBUTES, "rotation_z": ATTRIBUTES,
}  # fmt: skip


def default_constraints(edits: tuple[Edit, ...], names: tuple[str, ...]):
    """`Arm.constraints` of siblings that state none.

    Where a part `a@domain` is edited, the rest of a is held, and a as a whole is free. Where the way from b
    to a is tilted, its direction is kept, and the sizes of both.
    """
    edited: dict[str, set[str]] = {}
    tilted = [edit.structure for edit in edits if edit.quantity in TILTS]
    for edit in edits:
        for name in edit.changes:
            kept = edited.setdefault(name, set())
            kept |= {"size"} if edit.quantity in TILTS else set(KEPT[edit.quantity])
    for kept in edited.values():
        if "shape" in kept:
            kept -= {"orientation", "aspect"}
    order = (*ATTRIBUTES, *FURTHER_ATTRIBUTES, *WALL_ATTRIBUTES)
    local = [name for name in edited if parts.is_part(name)]
    free = {parts.split(name)[0] for name in local}
    held = [name for name in names if not parts.is_part(name) and name not in free]
    held += [place for name in local for place in (name, parts.rest_of(name))]
    of_structures = ((name, tuple(a for a in order if a in edited.get(name, ATTRIBUTES))) for name in held)
    return (*of_structures, *((name, ("direction",)) for name in dict.fromkeys(tilted)))


def with_parts(
    arm: Arm, base: Base, labels: np.ndarray | None, anatomy: Anatomy, grid: Grid
) -> tuple[Base, dict[str, str]]:
    """A base with the moments of the arm's parts in its label map, and the column `domain` of each part.

    The parts are placed here, once. Where there is no label map (None), or a part cannot be placed on this
    heart, its moments are NaN and its text is the reason, as JSON: {"refused": ...}.
    """
    names, whole, person = base
    found, texts = [whole], {}
    for name in arm.parts():
        try:
            if labels is None:
                raise InputError("the base has no label map")
            placed = parts.place_on(labels, name, arm.domains, anatomy, grid)
            weight = placed.weights(grid.axes_mm())
            own = parts.measure_parts(labels, [name], [weight], anatomy, grid, arm.walls())
            if name in arm.walls():
                parts.check_wall(labels, name, weight, anatomy)
            found.append(own)
            texts[name] = parts.to_text(placed)
        except InputError as error:
            nothing = np.full((1, 3, 3), np.nan)
            found.append(Moments(nothing[:, 0, 0], nothing[:, 0], nothing))
            texts[name] = parts.refusal(str(error))
    joined = of_each(lambda *values: np.concatenate(values), *found)
    return ((*names, *texts), joined, person), texts


def with_parts_of_all(
    arm: Arm,
    bases: dict[int, Base],
    labels_of: Callable[[int], np.ndarray | None],
    anatomy: Anatomy,
    grid: Grid,
) -> tuple[dict[int, Base], dict[int, dict[str, str]]]:
    """`with_parts` of every base by index; `labels_of` is only called for an arm with parts."""
    if not arm.parts():
        return bases, {}
    both = {i: with_parts(arm, base, labels_of(i), anatomy, grid) for i, base in bases.items()}
    return {i: base for i, (base, _) in both.items()}, {i: texts for i, (_, texts) in both.items()}


def sibling_targets(
    arm: Arm,
    indices: Iterable[int],
    seed: int,
    bases: dict[int, Base],
    population: Population | None,
    places: dict[int, dict[str, str]] | None = None,
) -> pd.DataFrame:
    """The targets (columns: `targets.tabulate`) of the siblings `indices` of `bases`, by index.

    With `places` (`with_parts_of_all`) the last column is `domain`. A base has names, moments (K,) and a
    person. Raises InputError for edits and constraints of structures that it does not have.
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
        slabs_mm = {name: parts.slab_mm(text) for name, text in (places or {}).get(index, {}).items()}
        edited = apply_edits(moments, own, for_person(arm.edits, person[AREA]), slabs_mm)
        return own, follow_parts(own, moments, edited)

    table = tabulate(arm, indices, seed, population, heart, person_of=lambda index: bases[index][2])
    if not places:
        return table
    subjects = {subject_name(arm.name, index): texts for index, texts in places.items()}
    rows = zip(table["subject"], table["structure"], strict=True)
    return table.assign(**{DOMAIN: [subjects[subject].get(name, "") for subject, name in rows]})


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
        made, drawn = (t[~t["structure"].str.contains(r"[+@]")] for t in (achieved[subject], wanted[subject]))
        rows = made if (made["volume_ml"] > 0).all() else drawn
        found[index] = (tuple(rows["structure"]), from_columns(rows), _person(wanted[subject]))
    return found


def bases_of_map(indices: Iterable[int], labels: np.ndarray, anatomy: Anatomy, grid: Grid) -> dict[int, Base]:
    """The same heart, a label map (X, Y, Z), for every index, of a person of whom nothing is known."""
    names = tuple(name for name in anatomy.structures if (labels == anatomy.label(name)).any())
    found = measure_labels(labels, [(anatomy.label(name),) for name in names], grid.axes_mm())
    return dict.fromkeys(indices, (names, found, None))


def _person(rows: pd.DataFrame) -> Person | None:
    first = rows.iloc[0]
    if np.isnan(first["heart_plausibility"]):  # whose base's base is a label map
        return None
    return first[covariate_columns(rows)].to_dict()
