"""Label maps that are the bases of arms, read before any job. Owned by the segmentations stage.

Apart from `sibling_base`, which jobs import: the targets of siblings need no rules.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..anatomy.labels import Anatomy, Grid
from ..runtime.apart import apart
from ..runtime.errors import InputError
from ..topology import load_rules
from .reading import open_convention
from .sibling_base import read_base_map


def check_bases_apart(
    bases: Mapping[str, str | Path],
    anatomy: Anatomy,
    grid: Grid,
    rules: str | Path,
    convention: Sequence[str],
    geometry: str,
) -> None:
    """InputError for a label map (path by arm) that is no base of siblings, in a process of its own.

    Such a map is one that jobs refuse (`read_base_map`), or that lacks a structure which the table `rules`
    requires of every map: all of its siblings would be rejected.
    """
    if bases:
        apart(_check_bases, dict(bases), anatomy, grid, rules, tuple(convention), geometry)


def _check_bases(bases, anatomy: Anatomy, grid: Grid, rules, convention, geometry) -> None:
    required = load_rules(rules, anatomy).required()
    needed = [name for name in anatomy.structures if anatomy.label(name) in required]
    convention = open_convention(convention, anatomy, geometry)
    arms: dict[str, str] = {}  # by map: many edits may have one base, which is read once
    for arm, path in bases.items():
        arms.setdefault(str(path), arm)
    for path, arm in arms.items():
        try:
            read_base_map(path, anatomy, grid, convention, needed)
        except InputError as error:
            raise InputError(f"base of arm {arm!r}: {error}") from None
