"""A label map of a user, checked for what its file cannot know: which label is which, and how the heart lies.

Every route goes through `read_heart`: a cohort's label maps, those of a prior and of its evaluation, and the
base of siblings. What is checked is data, a folder of three tables per anatomy (config key `convention`):
positions.tsv, layout.tsv and numberings.tsv. Owned by the segmentations stage.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np

from ..anatomy.label_map import LabelMap, canonical, labels_of
from ..anatomy.labels import Anatomy
from ..anatomy.nifti import AGREE
from ..runtime.errors import InputError
from . import layout as layouts
from . import numberings as numbered
from .folder import CONVENTION_TABLES
from .layout import Layout, Look, Shapes
from .numberings import Numberings
from .positions import AXES, Position, load_positions, misplaced
from .volumes import read_volume

CORRECT = "correct the header, or export the file again (docs/own-data.md, Orientation)"
DEXTROCARDIA = "A heart that truly lies mirrored in its body (dextrocardia) is not in this convention"
CODES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Convention:
    """How hearts of an anatomy lie and look; without a layout nothing of it is checked.

    `geometry`: the form of a NIfTI header that is trusted, or that the forms must agree (`anatomy.nifti`).
    """

    positions: tuple[Position, ...] = ()
    layout: Layout | None = None
    numberings: Numberings | None = None
    geometry: str = AGREE


def open_convention(tables: Iterable[str | Path], anatomy: Anatomy, geometry: str = AGREE) -> Convention:
    """The files CONVENTION_TABLES (none at all checks nothing); InputError naming what is wrong in them."""
    by_name = {Path(path).name: path for path in tables}
    if not by_name:
        return Convention(geometry=geometry)
    positions, layout, numberings = (by_name[name] for name in CONVENTION_TABLES)
    try:
        return Convention(
            load_positions(positions, anatomy),
            layouts.load_layout(layout, anatomy),
            numbered.load_numberings(numberings, anatomy),
            geometry,
        )
    except InputError as error:
        raise InputError(f"config key 'convention' (null checks nothing): {error}") from None


def read_heart(
    path: str | Path, anatomy: Anatomy, convention: Convention, needed: Collection[str] = ()
) -> tuple[LabelMap, tuple[str, ...]]:
    """A user's label map, RAS+ and axis-aligned, and remarks on its header.

    Raises InputError naming the file, and what to do, for all that `read_volume` and `canonical` refuse, for
    labels that the anatomy lacks or that look like another numbering, for the anatomy's labels without a
    structure of `needed`, and for a heart that lies mirrored, turned or with its axes in another order.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such label map")
    volume = read_volume(path, convention.geometry)
    values, affine = canonical(path, volume.values, volume.affine)
    if needed:
        _check_needed(path, values, anatomy, needed)
    axes = tuple(affine[i, 3] + affine[i, i] * np.arange(n) for i, n in enumerate(values.shape))
    if convention.layout is not None and values.any():
        _check_look(path, values, axes, anatomy, convention, nib.aff2axcodes(volume.affine))
    return LabelMap(labels_of(path, values, anatomy), affine), volume.remarks


def _check_needed(path: Path, values, anatomy: Anatomy, needed: Collection[str]) -> None:
    """InputError unless values (X, Y, Z) have the structures, if they are the anatomy's labels."""
    structures = dict(enumerate(anatomy.structures, 1))
    present = np.unique(np.concatenate([np.unique(plane) for plane in values]))  # all at once: 2 GB of 512^3
    found = [int(value) for value in present if value in structures]
    if len(found) < np.count_nonzero(present):
        return  # of another numbering: the checks that follow say more
    lacking = [name for name in needed if anatomy.label(name) not in found]
    if lacking:
        has = ", ".join(f"{k} {structures[k]}" for k in found) or "background alone"
        labels = ", ".join(f"{k} {name}" for k, name in structures.items())
        raise InputError(
            f"{path}: it has no {', '.join(lacking)}. As labels of this anatomy it has {has}; the anatomy "
            f"has {labels}. Name a label map that has them, or the anatomy that this map is of (config keys "
            "'anatomy' and 'bundle')"
        )


def _check_look(path: Path, values, axes_mm, anatomy: Anatomy, convention: Convention, stored_axes) -> None:
    """InputError unless values (X, Y, Z) look like a heart in this convention, saying what they look like."""
    try:
        shapes = layouts.shapes_of(values, axes_mm)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    structures = numbered.of_labels(shapes.values, dict(enumerate(anatomy.structures, 1)))
    look, reasons = _judged(values, axes_mm, shapes, structures, anatomy, convention)
    if look is not None and (look.structures != structures or None in structures):
        raise InputError(f"{path}: {_numbering(path, shapes, structures, look, convention)}")
    if look is not None and not look.upright:
        raise InputError(f"{path}: {_orientation(look, stored_axes)}")
    if reasons:
        raise InputError(f"{path}: {'; '.join(reasons)}; {CORRECT}")


def wrong_look(
    labels: np.ndarray, axes_mm: tuple, anatomy: Anatomy, convention: Convention
) -> tuple[str, ...]:
    """Why labels (X, Y, Z), each from a source of its own, do not look like a heart; none if they do."""
    if convention.layout is None or not labels.any():
        return ()
    shapes = layouts.shapes_of(labels, axes_mm)
    structures = tuple(anatomy.structures[value - 1] for value in shapes.values)
    look, reasons = _judged(labels, axes_mm, shapes, structures, anatomy, convention)
    if look is not None and look.structures != structures:
        pairs = zip(structures, look.structures, strict=True)
        found = ", ".join(f"{name} looks like {other}" for name, other in pairs if other not in (name, None))
        return (f"sources exchanged: {found}",)
    if look is not None and not look.upright:
        return (_orientation(look),)
    return reasons


def _judged(values, axes_mm, shapes, structures, anatomy, convention) -> tuple[Look | None, tuple[str, ...]]:
    """What labels look like that are no heart as they are, and why they are none; (None, ()) for a heart."""
    reasons = ()
    if None not in structures:
        reasons = _misplacements(values, axes_mm, shapes, anatomy, convention)
        wrong = layouts.unjoined(shapes, structures, convention.layout)
        if not reasons and not wrong and not layouts.exchanged(shapes, structures, convention.layout):
            return None, ()
    known = [numbered.of_labels(shapes.values, numbering) for numbering in convention.numberings.values()]
    if len(structures) <= layouts.FEW_LABELS:
        known += permutations(structures)
    candidates = [names for names in (structures, *known) if sum(name is not None for name in names) >= 3]
    return layouts.recognise(shapes, convention.layout, candidates), reasons


def _misplacements(
    labels: np.ndarray, axes_mm: tuple, shapes: Shapes, anatomy: Anatomy, convention: Convention
) -> tuple[str, ...]:
    """Why the structures of a label map (X, Y, Z) lie on the wrong side of each other; none if they do not.

    `shapes` are those of its labels. The layout's stand-ins take the place of absent structures.
    """
    names = (anatomy.structures[value - 1] for value in shapes.values)
    places = dict(zip(names, shapes.centroid_mm, strict=True))
    places |= layouts.stand_in_centroids(labels, axes_mm, anatomy, convention.layout)
    reasons = misplaced(places, convention.positions)
    if not reasons and (turned := layouts.misalignment(places, convention.layout)):
        reasons = (turned,)
    return reasons


def _numbering(path: Path, shapes: Shapes, structures: tuple, look: Look, convention: Convention) -> str:
    """What the labels look like, and the sources that import them; `structures`: by the convention."""
    numbering = {k: name for k, name in zip(shapes.values, look.structures, strict=True) if name is not None}
    name = numbered.name_of(numbering, convention.numberings)
    conventional = dict(zip(shapes.values, structures, strict=True))
    differing = {k: found for k, found in numbering.items() if found != conventional[k]}
    listed = ", ".join(f"{k} {structure}" for k, structure in (numbering if name else differing).items())
    if differing:
        numbers = f"the numbering of {name}: {listed}" if name else listed
        what = f"its labels look like {numbers}, not like the convention's"
    else:
        what = "its labels are those of the convention, but for more"
    if not look.upright:
        what += f"; {_orientation(look)}"
    sources = [(structure, k) for k, structure in numbering.items()]
    for k in shapes.values:
        if k in numbering:
            continue
        index = shapes.values.index(k)
        beside = numbering.get(shapes.values[int(np.argmax(shapes.contact_mm2[index]))])
        what += f"; {k} ({shapes.volume_ml[index]:.1f} mL) is another structure"
        if beside:
            what += f", beside {beside}: add it there, as below, or leave it out"
            sources.append((beside, k))
    suffix = path.name[path.name.index(".") :]
    return (
        f"{what}. Import the file by the target label_maps (docs/own-data.md) with "
        f"segmentations: {{folder: {path.parent}, {numbered.sources_block(sources, suffix)}}}"
    )


def _orientation(look: Look, stored_axes: tuple[str, ...] = ("R", "A", "S")) -> str:
    """Which way the heart lies, and which axes would be right; `stored_axes` as codes of nibabel."""
    mirrored = np.linalg.det(look.arrangement) < 0
    diagonal = np.diag(look.arrangement)
    if diagonal.all():
        names = ", ".join(AXES[axis] for axis in range(3) if diagonal[axis] < 0)
        what = f"{'mirrored' if mirrored else 'turned by half'}: {names} exchanged"
    else:
        what = f"{'mirrored, ' if mirrored else ''}with its axes in another order"
    stored = np.diag([1.0] * 4)
    for column, code in enumerate(stored_axes):
        axis = next(i for i, pair in enumerate(CODES) if code in pair)
        stored[:3, column] = np.eye(3)[axis] * (1 if code == CODES[axis][1] else -1)
    stored[:3, :3] = look.arrangement @ stored[:3, :3]
    return (
        f"its heart lies {what}. The header says that the stored axes run {' '.join(stored_axes)}, the heart "
        f"lies as if they ran {' '.join(nib.aff2axcodes(stored))}; {CORRECT}"
        + (f". {DEXTROCARDIA}" if mirrored else "")
    )
