"""Small repairs of a label map: defects within the volumes that the rules state. Owned by the topology stage.

A repair acts on one structure and reports its changes. Its rule bounds the volume that it may change in
all places together. Where that is not enough, it changes nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.measure import euler_number

from .betti import COMPLEMENT, FOREGROUND, Betti, betti, euler_gain
from .measures import openings_of, thickness_map, voxel_mm
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


def cut_at_border(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give a vessel's voxels in the outermost layer of the field to the background: it ends inside."""
    outermost = np.ones(scene.labels.shape, bool)
    outermost[1:-1, 1:-1, 1:-1] = False
    cut = outermost & np.isin(scene.labels, rule.structure)
    voxels = np.count_nonzero(cut)
    labels = scene.labels.copy()
    if voxels == 0 or voxels * scene.voxel_ml > rule.maximum:
        return labels, ()
    labels[cut] = 0
    return labels, (_note(scene, rule, voxels, 0),)


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
    """Fill holes through the structure that a closing by one voxel of the source shuts with a small patch.

    A patch is taken if it raises the Euler characteristic. That change is local: the cells which the
    patch adds to the union of cubes lie within one voxel of it. Where the rule has openings, the whole patch
    lies within `openings_mm` of them.
    """
    box, pad = scene.box(rule.structure, margin=1 + scene.span), scene.span
    mask = np.pad(np.isin(scene.labels[box], rule.structure), pad)
    closed = ndimage.binary_closing(mask, FOREGROUND, iterations=scene.span)
    patches, n = ndimage.label(closed & ~mask, FOREGROUND)
    sizes = np.bincount(patches.ravel(), minlength=n + 1)
    shutting = []
    for i, patch_box in enumerate(ndimage.find_objects(patches), 1):
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in patch_box)
        before, patch = mask[around], patches[around] == i
        if euler_number(before | patch, connectivity=3) > euler_number(before, connectivity=3):
            shutting.append(i)
    if shutting and rule.openings:
        openings = np.isin(scene.labels[box], rule.openings)
        near = ndimage.distance_transform_edt(~openings, scene.spacing_mm) <= rule.openings_mm
        near &= openings.any()
        far = set(np.unique(patches[np.pad(~near, pad, constant_values=True)]))
        shutting = [i for i in shutting if i not in far]
    small = _small(scene, rule, sizes, shutting)
    labels = scene.labels.copy()
    labels[box][np.isin(patches, small)[(slice(pad, -pad),) * 3]] = rule.structure[0]
    return labels, tuple(_note(scene, rule, sizes[i], rule.structure[0]) for i in small)


def thicken_thin_spots(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the wall the background voxels behind places where it is one voxel thick.

    A neighbouring structure behind the wall is left alone, and so are the surroundings of openings. Where
    blood lies bare the wall is not thin but pierced: nothing is done, the gate says so.
    """
    box, surface, thickness = thickness_map(scene, rule)
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


def fill_pockets(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the wall the pores (`_pores`) that meet nothing but wall and blood: no way leads through them."""
    box, labels, pores, closed = _pores(scene, rule)
    spaces, _ = ndimage.label(labels == 0, COMPLEMENT)
    foreign = ~np.isin(labels, (0, *rule.structure, *rule.other)) | ~closed & (labels == 0)
    open_spaces = np.unique(spaces[ndimage.binary_dilation(foreign, FOREGROUND)])
    return _filled(scene, rule, box, pores & ~np.isin(spaces, open_spaces))


def fill_pores(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the wall the pores (`_pores`) within `openings_mm` of the openings: unlabelled fibrous tissue."""
    box, labels, pores, _ = _pores(scene, rule)
    blood = np.isin(labels, rule.other)
    of_blood = replace(rule, structure=rule.other, other=rule.structure)
    at_openings = openings_of(scene, of_blood, labels, blood)
    if not at_openings.any():
        return scene.labels.copy(), ()
    near = ndimage.distance_transform_edt(~at_openings, scene.spacing_mm) <= rule.openings_mm
    return _filled(scene, rule, box, pores & near)


def _pores(scene: Scene, rule: Rule) -> tuple[tuple, np.ndarray, np.ndarray, np.ndarray]:
    """A box, the labels in it, pores of the wall that blood in `other` meets, and where the closing is full.

    A pore is background that a closing of wall, blood and openings fills, by one voxel of the source, and
    that shares a face with the blood.
    """
    box, pad = scene.box(rule.structure + rule.other, margin=1 + scene.span), scene.span
    labels = scene.labels[box]
    solid = np.isin(labels, rule.structure + rule.other + rule.openings)
    closed = ndimage.binary_closing(np.pad(solid, pad), FOREGROUND, iterations=scene.span)
    closed = closed[(slice(pad, -pad),) * 3]
    blood = np.isin(labels, rule.other)
    return box, labels, (labels == 0) & closed & ndimage.binary_dilation(blood, COMPLEMENT), closed


def _filled(scene: Scene, rule: Rule, box: tuple, pores: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels with the pores as wall, if they are small together, and one line for all of them."""
    places, n = ndimage.label(pores, FOREGROUND)
    sizes = np.bincount(places.ravel(), minlength=n + 1)
    small = _small(scene, rule, sizes, list(range(1, n + 1)))
    labels, filled = scene.labels.copy(), int(sizes[small].sum())
    labels[box][np.isin(places, small)] = rule.structure[0]
    return labels, (_note(scene, rule, filled, rule.structure[0]),) if filled else ()


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


def joined_through_wall(scene: Scene, rule: Rule) -> bool:
    """Whether the two structures in `other`, which the wall parts, share a face or meet in a gap of the wall.

    A gap is background, connected by faces, that a closing of all of them by one voxel of the source fills.
    One that meets the first structure at its openings is their rim.
    """
    box, pad = scene.box(rule.structure + rule.other, margin=1 + scene.span), scene.span
    labels = scene.labels[box]
    first, second = (labels == label for label in rule.other)
    solid = np.isin(labels, rule.structure + rule.other)
    closed = ndimage.binary_closing(np.pad(solid, pad), FOREGROUND, iterations=scene.span)
    gaps, _ = ndimage.label(closed[(slice(pad, -pad),) * 3] & (labels == 0), COMPLEMENT)
    of_first = replace(rule, structure=rule.other[:1], other=rule.structure)
    at_openings = openings_of(scene, of_first, labels, first)
    beside, beside_openings, beside_second = (
        np.unique(gaps[ndimage.binary_dilation(mask, COMPLEMENT)]) for mask in (first, at_openings, second)
    )
    shared = set(beside) & set(beside_second) - set(beside_openings) - {0}
    return bool(shared) or bool((first & ndimage.binary_dilation(second, COMPLEMENT)).any())


def cut_strands(scene: Scene, rule: Rule) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut strands of the structure, a voxel or two long, that make loops beside its openings.

    A wall around k openings has k - 1 holes, if something parts these. While there are more, voxels go whose
    loss undoes a hole and parts nothing, within `openings_mm` of the openings, the fewest first; they take
    the label around them. Nothing is done where that does not suffice.
    """
    box = scene.box(rule.structure, margin=2)
    before = scene.labels[box]
    labels, mask = before.copy(), np.isin(before, rule.structure)
    now, allowed = betti(mask), len(rule.openings) - 1
    at_opening = ndimage.binary_dilation(np.isin(before, rule.openings), FOREGROUND)
    if now.holes <= allowed or not at_opening.any():
        return scene.labels.copy(), ()
    near = ndimage.distance_transform_edt(~at_opening, scene.spacing_mm) <= rule.openings_mm
    while now.holes > allowed:
        strand_and_betti = _strand(mask, near, now)
        if strand_and_betti is None:
            return scene.labels.copy(), ()
        strand, now = strand_and_betti
        around = ndimage.binary_dilation(strand, FOREGROUND) & ~mask
        labels[strand] = np.bincount(labels[around]).argmax()
        mask &= ~strand
    cut = labels != before
    if np.count_nonzero(cut) * scene.voxel_ml > rule.maximum:
        return scene.labels.copy(), ()
    out = scene.labels.copy()
    out[box] = labels
    counts = np.bincount(labels[cut])
    return out, tuple(_note(scene, rule, counts[k], k) for k in np.flatnonzero(counts))


def _strand(mask: np.ndarray, near: np.ndarray, now: Betti) -> tuple[np.ndarray, Betti] | None:
    """The smallest block of one or two voxels whose loss leaves fewer holes and nothing else, or None."""
    surface = mask & near & ~ndimage.binary_erosion(mask, FOREGROUND)
    # without a face to the complement, what goes becomes a cavity: most blocks need no closer look
    with_face = mask & ~ndimage.binary_erosion(mask, COMPLEMENT)
    for size in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
        reached = with_face
        for axis in np.flatnonzero(np.array(size) == 2):
            reached = reached | np.roll(with_face, -1, axis)
        for place in np.argwhere(surface & reached & (euler_gain(mask, size) > 0)):
            strand = np.zeros_like(mask)
            block = tuple(slice(p, p + n) for p, n in zip(place, size, strict=True))
            strand[block] = mask[block]
            after = betti(mask & ~strand)
            if after.holes < now.holes and after[::2] == now[::2]:
                return strand, after
    return None


def _small(scene: Scene, rule: Rule, sizes: np.ndarray, candidates: list[int]) -> list[int]:
    """The candidates no larger than the rule allows; none if together they are."""
    small = [i for i in candidates if sizes[i] * scene.voxel_ml <= rule.maximum]
    return small if sizes[small].sum() * scene.voxel_ml <= rule.maximum else []


def _note(scene: Scene, rule: Rule, voxels: int, label: int) -> str:
    name = scene.anatomy.structures[label - 1] if label else "background"
    return f"{rule.id}: {voxels} voxels ({voxels * scene.voxel_ml:.3f} mL) became {name}"


REPAIRS: dict[str, Repair] = {
    "border_end": Repair(cut_at_border, "mL"),
    "speck": Repair(remove_specks, "mL"),
    "pinhole": Repair(fill_pinholes, "mL"),
    "perforation": Repair(seal_perforations, "mL"),
    "valve_perforation": Repair(seal_perforations, "mL", ("openings", "openings_mm")),
    "parting": Repair(part_neighbours, "mL", ("other", "openings")),
    "pocket": Repair(fill_pockets, "mL", ("other",)),
    "pore": Repair(fill_pores, "mL", ("other", "openings", "openings_mm")),
    "strand": Repair(cut_strands, "mL", ("openings", "openings_mm")),
    "thin_spot": Repair(thicken_thin_spots, "mL", ("other", "openings", "openings_mm")),
}
