"""Label maps of a user, read before any job: those of the folder, and the bases of arms.

Owned by the population stage. In a process of its own (`apart`), which opens what the planning one need not.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from .. import topology
from ..anatomy import domains
from ..anatomy.label_map import LabelMap, read_label_map
from ..anatomy.labels import Anatomy, Grid
from ..cohort.table import Arm
from ..label_maps.reading import open_convention
from ..label_maps.sibling_base import read_base_map
from ..runtime.apart import apart
from ..runtime.errors import InputError
from . import siblings

MOST_READ = 3  # label maps of a folder
# Most broken rules, after repairs, of a map that is of the anatomy. Such maps break two at most, those of
# other organs with the same label numbers four or more (docs/validation/anatomies.md).
MOST_BROKEN = 3


def check_label_maps_apart(
    paths: Iterable[str | Path], anatomy: Anatomy, grid: Grid, rules: str | Path
) -> None:
    """InputError where none of a folder's label maps is of the anatomy: by its labels, or by its rules.

    Of many maps MOST_READ are read. One that is wrong among others fails alone, in its job.
    """
    paths = list(paths)[:MOST_READ]
    if paths:
        apart(_check_label_maps, paths, anatomy, grid, rules)


def _check_label_maps(paths, anatomy: Anatomy, grid: Grid, rules) -> None:
    rules = topology.load_rules(rules, anatomy)
    first: InputError | None = None
    for path in paths:
        try:
            return _check_organ(path, read_label_map(path, anatomy), anatomy, grid, rules)
        except InputError as error:
            first = first or error
    raise first


def check_bases_apart(
    arms: Iterable[Arm],
    bases: Mapping[str, str | Path],
    anatomy: Anatomy,
    grid: Grid,
    rules: str | Path,
    convention: Sequence[str],
    geometry: str,
) -> None:
    """InputError for a label map (path by name of an arm) that is no base of the arm's siblings.

    Such a map is one that jobs refuse (`read_base_map`), that is of another organ, or that lacks what all
    siblings need: a structure which the table `rules` requires of every map, or what the arm edits. A part
    must have its place on it.
    """
    arms = [arm for arm in arms if arm.name in bases]
    if arms:
        apart(_check_bases, arms, dict(bases), anatomy, grid, rules, tuple(convention), geometry)


def _check_bases(arms: list[Arm], bases, anatomy: Anatomy, grid: Grid, rules, convention, geometry) -> None:
    rules = topology.load_rules(rules, anatomy)
    needed = [name for name in anatomy.structures if anatomy.label(name) in rules.required()]
    convention = open_convention(convention, anatomy, geometry)
    read: dict[str, np.ndarray] = {}  # many edits may have one base, which is read once
    for arm in arms:
        path = str(bases[arm.name])
        try:
            if path not in read:
                labels = read_base_map(path, anatomy, grid, convention, needed)
                _check_organ(path, LabelMap(labels, grid.affine()), anatomy, grid, rules)
                read[path] = labels
        except InputError as error:
            raise InputError(f"base of arm {arm.name!r}: {error}") from None
        _check_siblings(arm, path, read[path], anatomy, grid)


def _check_organ(
    path: str | Path, label_map: LabelMap, anatomy: Anatomy, grid: Grid, rules: topology.Rules
) -> None:
    """InputError for a map that breaks more rules than a map of this anatomy does.

    Of finer voxels than those of the grid only some are looked at: a scan would take a minute.
    """
    steps = [max(1, int(grid.spacing_mm // mm)) for mm in label_map.spacing_mm]
    labels = label_map.labels[tuple(slice(None, None, step) for step in steps)]
    spacing_mm = np.multiply(label_map.spacing_mm, steps)
    rules = rules.for_scans(np.unique(labels).tolist())
    _, _, verdict = topology.judge(labels, spacing_mm, anatomy, rules)
    if len(verdict.failures) > MOST_BROKEN:
        raise InputError(
            f"{path}: it breaks {len(verdict.failures)} of the topology rules after repairs "
            f"({', '.join(verdict.failed_rules)}), as maps of other organs with the same label numbers do. "
            f"The anatomy has {', '.join(anatomy.structures)}. Name a label map of it, the anatomy that this "
            "map is of (config keys 'anatomy' and 'bundle'), or your own rules ('topology_rules')"
        )


def _check_siblings(arm: Arm, path: str, labels: np.ndarray, anatomy: Anatomy, grid: Grid) -> None:
    """InputError where a part of the arm has no place on its base, or siblings cannot have targets."""
    bases = siblings.bases_of_map([0], labels, anatomy, grid)
    bases, places = siblings.with_parts_of_all(arm, bases, lambda _: labels, anatomy, grid)
    for part, text in places.get(0, {}).items():
        if reason := domains.refused(text):
            raise InputError(f"base of arm {arm.name!r}: {path}: {part}: {reason}")
    siblings.sibling_targets(arm, [0], 0, bases, None, places)
