"""The quantities that rules bound, one function a kind. Owned by the topology stage.

Every measure is `(scene, rule) -> float`; NaN where it is undefined because a structure is absent,
which no bound accepts. To add a kind, write a function and name it in `KINDS`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..anatomy.contacts import bare_voxels, opening_patches
from .betti import COMPLEMENT, FOREGROUND
from .rules import Rule
from .scene import Scene

BEHIND = 3  # voxels around a wall that its map of thickness has


class Kind(NamedTuple):
    """A kind of rule: its measure, the unit, and the columns it needs besides `structure`."""

    measure: Callable[[Scene, Rule], float]
    unit: str
    needs: tuple[str, ...] = ()


def volume(scene: Scene, rule: Rule) -> float:
    """Volume of the structure, mL."""
    return float(scene.voxels[list(rule.structure)].sum()) * scene.voxel_ml


def components(scene: Scene, rule: Rule) -> float:
    return scene.betti(rule.structure).components


def holes(scene: Scene, rule: Rule) -> float:
    return scene.betti(rule.structure).holes


def cavities(scene: Scene, rule: Rule) -> float:
    return scene.betti(rule.structure).cavities


def contact(scene: Scene, rule: Rule) -> float:
    """Area of the voxel faces shared by structure and other, mm^2."""
    return float(scene.faces_mm2[np.ix_(rule.structure, rule.other)].sum())


def border(scene: Scene, rule: Rule) -> float:
    """Area of the field's border that the structure touches, mm^2."""
    area = 0.0
    for axis in range(3):
        face = math.prod(scene.spacing_mm) / scene.spacing_mm[axis]
        ends = np.take(scene.labels, (0, -1), axis)
        area += float(np.isin(ends, rule.structure).sum()) * face
    return area


def gap(scene: Scene, rule: Rule) -> float:
    """Free distance from the structure's farthest piece to other, mm: 0 where voxel faces are shared.

    Distance of voxel centres less one voxel; pieces are 26-connected.
    """
    labels = scene.labels[scene.box(rule.structure + rule.other)]
    if not (np.isin(rule.structure, labels).any() and np.isin(rule.other, labels).any()):
        return math.nan
    distance = ndimage.distance_transform_edt(~np.isin(labels, rule.other), scene.spacing_mm)
    inner = scene.box(rule.structure)
    outer = scene.box(rule.structure + rule.other)
    window = tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    pieces, n, _ = scene.pieces(rule.structure)
    nearest = ndimage.minimum(distance[window], pieces, np.arange(1, n + 1))
    return float(np.max(nearest)) - voxel_mm(scene)


def exposure(scene: Scene, rule: Rule) -> float:
    """Share of the structure's surface that neither `other` (its wall) nor `openings` cover, %."""
    surface = _surface_mm2(scene, rule)
    if surface.sum() == 0:
        return math.nan
    return float(100.0 * (1.0 - surface[list(rule.other + rule.openings)].sum() / surface.sum()))


def opening(scene: Scene, rule: Rule) -> float:
    """Share of the structure's surface that openings which the map does not label take up, %."""
    surface = _surface_mm2(scene, rule).sum()
    if surface == 0:
        return math.nan
    box, inside = _surroundings(scene, rule.structure)
    patches = _unlabelled_openings(scene, rule, scene.labels[box], inside)
    return 100.0 * _bare_area(scene, rule, box, patches) / float(surface)


def leak(scene: Scene, rule: Rule) -> float:
    """Area (mm^2) of the structure's surface that is bare (as in `breach`), away from the openings.

    Away: more than `openings_mm` from every voxel of the structure that shares a face with
    `openings` (`openings_of`); everything is away if there are none. A leak of the smallest width counts.
    """
    box, inside = _surroundings(scene, rule.structure)
    return _bare_area(scene, rule, box, inside & _away_from_openings(scene, rule, scene.labels[box], inside))


def breach(scene: Scene, rule: Rule) -> float:
    """Area (mm^2) of the structure's surface that is bare in a patch of its own, at any distance.

    Bare: covered neither by `other` nor by `openings`. A patch of bare voxels, 26-connected, that
    reaches a voxel at an opening is the opening's rim; one that does not is a hole in the wall.
    """
    return _bare_area(scene, rule, *breach_voxels(scene, rule))


def breach_voxels(scene: Scene, rule: Rule) -> tuple[tuple, np.ndarray]:
    """Box around the structure, and the mask in there of the bare voxels that `breach` counts."""
    box, inside = _surroundings(scene, rule.structure)
    labels = scene.labels[box]
    at_opening = openings_of(scene, rule, labels, inside)
    bare = _bare(rule, labels, inside)
    patches, _ = ndimage.label(bare | at_opening, FOREGROUND)
    return box, bare & ~np.isin(patches, np.unique(patches[at_opening]))


def wall_thickness(scene: Scene, rule: Rule) -> float:
    """A percentile over the structure's surface of the wall's thickness, mm, away from the openings.

    Estimator: for every surface voxel of the structure (blood) the distance of its centre to the
    nearest centre outside blood and `other` (the wall), less one voxel; so a flat wall n voxels
    thick counts n voxels, and bare blood 0. It is the minimal thickness seen from the cavity, exact
    for flat axis-parallel walls, within a voxel otherwise; percentiles make it robust to that. A wall
    thicker than its distance to an opening counts as that distance.
    """
    _, surface, thickness = thickness_map(scene, rule)
    return float(np.percentile(thickness[surface], rule.percentile)) if surface.any() else math.nan


def thickness_map(scene: Scene, rule: Rule) -> tuple[tuple, np.ndarray, np.ndarray]:
    """Box of blood and wall, mask of the inner surface away from the openings, thickness (mm) in the box.

    The same for all rules of a wall: it is found once.
    """
    wall = (rule.structure, rule.other, rule.openings, rule.openings_mm)
    return scene.once(("thickness", *wall), lambda: _thickness_map(scene, rule))


def _thickness_map(scene: Scene, rule: Rule) -> tuple[tuple, np.ndarray, np.ndarray]:
    box, inside = _surroundings(scene, rule.structure + rule.other, BEHIND)
    labels = scene.labels[box]
    blood = np.isin(labels, rule.structure)
    surface = blood & ~ndimage.binary_erosion(blood, COMPLEMENT, border_value=0)
    surface &= _away_from_openings(scene, rule, labels, blood)
    # beyond the field counts as outside
    distance = ndimage.distance_transform_edt(np.pad(inside, 1), scene.spacing_mm)[1:-1, 1:-1, 1:-1]
    return box, surface, distance - voxel_mm(scene)


def _surroundings(scene: Scene, labels: tuple[int, ...], margin: int = 1) -> tuple[tuple, np.ndarray]:
    """The box of `labels` with `margin` voxels around it, and their mask in there."""
    box = scene.box(labels, margin)
    return box, np.isin(scene.labels[box], labels)


def _bare_area(scene: Scene, rule: Rule, box: tuple, where: np.ndarray) -> float:
    """Area of the faces of the voxels `where` towards neither structure, `other` nor `openings`, mm^2."""
    covered = np.isin(scene.labels[box], rule.structure + rule.other + rule.openings)
    area = 0.0
    for axis in range(3):
        face = math.prod(scene.spacing_mm) / scene.spacing_mm[axis]
        here, bare = np.moveaxis(where, axis, 0), np.moveaxis(~covered, axis, 0)
        area += float((here[:-1] & bare[1:]).sum() + (here[1:] & bare[:-1]).sum()) * face
    return area


def _surface_mm2(scene: Scene, rule: Rule) -> np.ndarray:
    """Area of the structure's surface by the label that covers it, (K + 1,) mm^2."""
    surface = scene.faces_mm2[list(rule.structure)].sum(axis=0)
    surface[list(rule.structure)] = 0.0
    return surface


def _bare(rule: Rule, labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Voxels of the structure that share a face with neither `other` nor `openings` nor itself."""
    return bare_voxels(inside, np.isin(labels, rule.other + rule.openings))


def _unlabelled_openings(scene: Scene, rule: Rule, labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The bare patches that stand in for openings which the map does not label."""
    patches = opening_patches(inside, np.isin(labels, rule.other), scene.spacing_mm)
    return np.any(patches, axis=0) if patches else np.zeros_like(inside)


def openings_of(scene: Scene, rule: Rule, labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Voxels of the structure at its openings, or where these must be if the map labels none of them."""
    at_opening = inside & ndimage.binary_dilation(np.isin(labels, rule.openings), COMPLEMENT)
    unlabelled = not scene.voxels[list(rule.openings)].any()
    return _unlabelled_openings(scene, rule, labels, inside) if unlabelled else at_opening


def _away_from_openings(scene: Scene, rule: Rule, labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    at_opening = openings_of(scene, rule, labels, inside)
    if not at_opening.any():
        return np.ones_like(inside)
    return ndimage.distance_transform_edt(~at_opening, scene.spacing_mm) > rule.openings_mm


def voxel_mm(scene: Scene) -> float:
    return float(np.mean(scene.spacing_mm))


KINDS: dict[str, Kind] = {
    "volume": Kind(volume, "mL"),
    "components": Kind(components, "count"),
    "holes": Kind(holes, "count"),
    "cavities": Kind(cavities, "count"),
    "contact": Kind(contact, "mm2", ("other",)),
    "gap": Kind(gap, "mm", ("other",)),
    "exposure": Kind(exposure, "%", ("other", "openings")),
    "opening": Kind(opening, "%", ("other", "openings")),
    "breach": Kind(breach, "mm2", ("other", "openings")),
    "leak": Kind(leak, "mm2", ("other", "openings", "openings_mm")),
    "wall_thickness": Kind(wall_thickness, "mm", ("other", "openings", "openings_mm", "percentile")),
    "border": Kind(border, "mm2"),
}
