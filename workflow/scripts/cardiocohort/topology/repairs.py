"""Small repairs of a label map: what a voxel or a dozen are wrong by. Owned by the topology stage.

A repair acts on one structure and says what it did. Its rule bounds the volume that it may change,
all places together; where that is not enough it changes nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.measure import euler_number

from .betti import COMPLEMENT, FOREGROUND
from .measures import thickness_map, voxel_mm
from .rules import Rule
from .scene import Scene

THIN_VOXELS = 1.2  # a wall of one voxel is thin; what is two voxels thick along a diagonal is not


class Repair(NamedTuple):
    """A kind of repair: `(scene, rule) -> (labels, what was done)`, its unit and needed columns."""

    apply: Callable[[Scene, Rule], tuple[np.ndarray, tuple[str, ...]]]
    unit: str
    needs: tuple[str, ...] = ()


def remove_specks(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give 26-connected pieces that are small, and not the largest, the label around them."""
    pieces, n, box = scene.pieces(rule.structure, margin=1)
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)
    small = _small(scene, rule, sizes, [i for i in range(1, n + 1) if i != 1 + np.argmax(sizes[1:])])
    labels, done = scene.labels.copy(), []
    window = labels[box]
    for i in small:
        speck = pieces == i
        around = np.bincount(window[ndimage.binary_dilation(speck, COMPLEMENT) & ~speck]).argmax()
        window[speck] = around
        done.append(_note(scene, rule, sizes[i], around))
    return labels, tuple(done)


def fill_pinholes(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give small cavities, whatever their labels, the label of the structure that encloses them."""
    box = scene.box(rule.structure)
    spaces, n = ndimage.label(np.pad(~np.isin(scene.labels[box], rule.structure), 1, constant_values=True))
    sizes = np.bincount(spaces.ravel(), minlength=n + 1)
    small = _small(scene, rule, sizes, [i for i in range(1, n + 1) if i != spaces[0, 0, 0]])
    labels = scene.labels.copy()
    labels[box][np.isin(spaces, small)[1:-1, 1:-1, 1:-1]] = rule.structure[0]
    return labels, tuple(_note(scene, rule, sizes[i], rule.structure[0]) for i in small)


def seal_perforations(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Fill holes through the structure that a closing by one voxel shuts with a small patch.

    A patch is taken if it raises the Euler characteristic. That change is local: the cells which the
    patch adds to the union of cubes lie within one voxel of it.
    """
    box = scene.box(rule.structure, margin=2)
    mask = np.pad(np.isin(scene.labels[box], rule.structure), 1)
    patches, n = ndimage.label(ndimage.binary_closing(mask, FOREGROUND) & ~mask, FOREGROUND)
    sizes = np.bincount(patches.ravel(), minlength=n + 1)
    shutting = []
    for i, found in enumerate(ndimage.find_objects(patches), 1):
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in found)
        before, patch = mask[around], patches[around] == i
        if euler_number(before | patch, connectivity=3) > euler_number(before, connectivity=3):
            shutting.append(i)
    small = _small(scene, rule, sizes, shutting)
    labels = scene.labels.copy()
    labels[box][np.isin(patches, small)[1:-1, 1:-1, 1:-1]] = rule.structure[0]
    return labels, tuple(_note(scene, rule, sizes[i], rule.structure[0]) for i in small)


def thicken_thin_spots(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the wall the background voxels behind places where it is one voxel thick.

    A neighbouring structure behind the wall is left alone, and so are the surroundings of openings. Where
    blood lies bare the wall is not thin but pierced: nothing is done, the gate says so.
    """
    box, surface, thickness = thickness_map(scene, rule, margin=3)
    labels = scene.labels.copy()
    thin = surface & (thickness < THIN_VOXELS * voxel_mm(scene))
    if not thin.any() or (thickness[thin] <= 0).any():
        return labels, ()
    reach = ndimage.distance_transform_edt(~thin, scene.spacing_mm) - voxel_mm(scene)
    behind = (reach < THIN_VOXELS * voxel_mm(scene)) & (labels[box] == 0)
    spots, n = ndimage.label(behind, FOREGROUND)
    sizes = np.bincount(spots.ravel(), minlength=n + 1)
    small = _small(scene, rule, sizes, list(range(1, n + 1)))
    labels[box][np.isin(spots, small)] = rule.other[0]
    return labels, tuple(_note(scene, rule, sizes[i], rule.other[0]) for i in small)


def part_neighbours(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the wall the voxels where the structures in `other`, which it parts, share a face.

    Of two such voxels that of the later structure is taken.
    """
    first, *_, last = sorted(rule.other)
    box = scene.box(rule.other, margin=1)
    labels = scene.labels.copy()
    touching = (labels[box] == last) & ndimage.binary_dilation(labels[box] == first, COMPLEMENT)
    places, n = ndimage.label(touching, FOREGROUND)
    sizes = np.bincount(places.ravel(), minlength=n + 1)
    small = _small(scene, rule, sizes, list(range(1, n + 1)))
    labels[box][np.isin(places, small)] = rule.structure[0]
    return labels, tuple(_note(scene, rule, sizes[i], rule.structure[0]) for i in small)


def _small(scene: Scene, rule: Rule, sizes: np.ndarray, candidates: list[int]) -> list[int]:
    """The candidates no larger than the rule allows; none if together they are."""
    small = [i for i in candidates if sizes[i] * scene.voxel_ml <= rule.maximum]
    return small if sizes[small].sum() * scene.voxel_ml <= rule.maximum else []


def _note(scene: Scene, rule: Rule, voxels: int, label: int) -> str:
    name = scene.anatomy.structures[label - 1] if label else "background"
    return f"{rule.id}: {voxels} voxels ({voxels * scene.voxel_ml:.3f} mL) became {name}"


REPAIRS: dict[str, Repair] = {
    "speck": Repair(remove_specks, "mL"),
    "pinhole": Repair(fill_pinholes, "mL"),
    "perforation": Repair(seal_perforations, "mL"),
    "parting": Repair(part_neighbours, "mL", ("other",)),
    "thin_spot": Repair(thicken_thin_spots, "mL", ("other", "openings", "openings_mm")),
}
