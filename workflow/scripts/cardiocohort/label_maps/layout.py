"""Which label is which structure, and which way does the heart lie? Owned by the segmentations stage.

The usual heart is data (`layout.tsv` of a convention): place, volume, fill and enclosure of every structure.
Fill is the volume over that of the ellipsoid with the same second moments: a wall has 0.3, a cavity 0.9.
Enclosure is the largest share of the surface that one neighbour covers: 0.9 of an enclosed cavity's, 0.2 of
an open one's. A label map is compared under other numberings of its labels, and other orders and signs of
its axes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from ..anatomy.contacts import bare_voxels, contact_areas
from ..anatomy.labels import ARRANGEMENTS, Anatomy
from ..anatomy.moments import measure
from ..runtime.errors import InputError
from .rule_rows import read_rows

COLUMNS = ("structure", "x_mm", "y_mm", "z_mm", "volume_ml", "fill", "enclosure", "touches", "stand_in")
# Spreads of the comparison. For 22 real hearts the mean of the squared deviations in these units is at most
# 2.6 as they are, and larger by 4.1 or more with other axes (resources/anatomies/heart/convention/README.md).
PLACE_MM, LOG_VOLUME, LOG_FILL, ENCLOSURE = 15.0, 0.5, 0.3, 0.2
RECOGNISED = 6.0  # mean of the squared deviations per structure, above which nothing is recognised
MIRRORED = 0.8  # a mirror image that fits this much better than the heart itself
# Lengths along the three axes against the usual heart's: the longest is 1.02 to 1.41 times the shortest for
# 23 real hearts, up to 1.43 for 2,000 of the bundled population, and 1.72 or more for 99 % of these with one
# axis twice as long. Structures nearly in a plane do not show it.
MAX_STRETCH, LEAST_DEPTH_MM = 1.7, 14.0
MAX_TURN_DEG = 60.0  # of 22 hearts: up to 21; hearts elsewhere lie up to 26 from these
CONTACT_MM2 = 50.0  # neighbours share at least this; the least of 22 hearts is 204
# By how much exchanged names fit better (sum of squared deviations): 0 for 176 hearts as they are, 46 or more
# for pairs of them exchanged that no other check sees.
EXCHANGED = 20.0
UNNAMED = 0.4  # mean deviation that each label without a structure counts as, where looks are compared
FEW_LABELS = 4  # their centroids lie nearly in a plane: they do not show how the axes run
MAX_LABELS = 16  # more are not taken for a heart in an unknown numbering
PASSES = 5


@dataclass(frozen=True)
class Shapes:
    """What is seen of n labels: values, centroids (n, 3) mm RAS+, volumes (n,) mL, fills and enclosures (n,),
    and the areas (n, n) mm^2 that they share."""

    values: tuple[int, ...]
    centroid_mm: np.ndarray
    volume_ml: np.ndarray
    fill: np.ndarray
    enclosure: np.ndarray
    contact_mm2: np.ndarray


@dataclass(frozen=True)
class Layout:
    """The usual heart: centroids (K, 3) mm RAS+ about any origin, volumes (K,) mL, fills and enclosures (K,).

    `touches`: pairs of structures that are neighbours. `stand_ins`: for a structure that may be absent, the
    cavity and the wall whose bare surface lies where it would join.
    """

    structures: tuple[str, ...]
    centroid_mm: np.ndarray
    volume_ml: np.ndarray
    fill: np.ndarray
    enclosure: np.ndarray
    touches: tuple[tuple[str, str], ...]
    stand_ins: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Look:
    """What a label map looks like: the structure of every label (None for one that is none), the matrix
    (3, 3) that brings its axes to RAS+, and the mean squared deviation from the layout."""

    structures: tuple[str | None, ...]
    arrangement: np.ndarray
    deviation: float

    @property
    def upright(self) -> bool:
        return bool((self.arrangement == np.eye(3)).all())


def load_layout(path: str | Path, anatomy: Anatomy) -> Layout:
    """Read a layout (TSV); InputError naming file, line and column for a bad one."""
    rows = list(read_rows(path, COLUMNS, anatomy, ("structure",)))
    numbers = []
    for line, row in rows:
        try:
            numbers.append([float(row[column]) for column in COLUMNS[1:7]])
        except ValueError:
            numbers.append([np.nan])
        positive = np.isfinite(numbers[-1]).all() and min(numbers[-1][3:]) > 0
        if not positive:
            raise InputError(
                f"{path}, line {line}: all but the names must be numbers, volume, fill and enclosure above 0"
            )
        others = [*_names(row["touches"], ","), *_names(row["stand_in"], "-")]
        unknown = [name for name in others if name not in anatomy.structures]
        if unknown:
            raise InputError(f"{path}, line {line}: {unknown[0]!r} is no structure of the anatomy")
    table = np.array(numbers)
    return Layout(
        tuple(row["structure"] for _, row in rows),
        table[:, :3],
        table[:, 3],
        table[:, 4],
        table[:, 5],
        tuple((row["structure"], other) for _, row in rows for other in _names(row["touches"], ",")),
        {row["structure"]: tuple(_names(row["stand_in"], "-")) for _, row in rows if row["stand_in"]},
    )


def _names(cell: str, separator: str) -> list[str]:
    return [name.strip() for name in cell.split(separator) if name.strip()]


def shapes_of(values: np.ndarray, axes_mm: tuple[np.ndarray, ...]) -> Shapes:
    """The labels other than 0 in values (X, Y, Z), whole numbers, voxel centres `axes_mm`."""
    present, compact = _compact(values)
    spacing = tuple(float(axis[1] - axis[0]) for axis in axes_mm)
    measured = []
    for k, inside in enumerate(ndimage.find_objects(compact), 1):
        box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in inside)
        m = measure((compact[box] == k).astype(float), tuple(a[s] for a, s in zip(axes_mm, box, strict=True)))
        # a label of few voxels has no spread along some axis: that of one voxel is added
        spread = m.covariance_mm2 + np.diag(np.square(spacing)) / 12
        ellipsoid_ml = 4 / 3 * np.pi * np.sqrt(5**3 * np.linalg.det(spread)) / 1000
        measured.append((m.centroid_mm, float(m.volume_ml), float(m.volume_ml) / ellipsoid_ml))
    centroids, volumes, fills = (np.array(part) for part in zip(*measured, strict=True))
    areas = contact_areas(compact, spacing, len(present) + 1)[1:]
    enclosures = areas[:, 1:].max(axis=1) / np.maximum(areas.sum(axis=1), 1e-9)
    return Shapes(present, centroids, volumes, fills, enclosures, areas[:, 1:])


def _compact(values: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """The values other than 0, sorted, and their numbers 1.. in place (X, Y, Z)."""
    # slice by slice: volumes can be large
    present = sorted(set().union(*(np.unique(plane).tolist() for plane in values)) - {0})
    if len(present) > np.iinfo(np.uint8).max:
        raise InputError(f"{len(present)} labels are too many for a label map of a heart")
    compact = np.zeros(values.shape, np.uint8)
    for k, value in enumerate(present, 1):
        compact[values == value] = k
    return tuple(present), compact


def unjoined(shapes: Shapes, structures: tuple[str, ...], layout: Layout) -> list[tuple[str, str]]:
    """Pairs of neighbours of the layout that are both there and hardly touch, with labels so named."""
    index = {name: k for k, name in enumerate(structures)}
    return [
        (a, b)
        for a, b in layout.touches
        if a in index and b in index and shapes.contact_mm2[index[a], index[b]] < CONTACT_MM2
    ]


def exchanged(shapes: Shapes, structures: tuple[str, ...], layout: Layout) -> bool:
    """Whether the labels fit the layout much better with their names exchanged among them."""
    rows, columns, offset, scale = _fitted(shapes.centroid_mm, shapes, layout, structures)
    costs = _costs(shapes.centroid_mm, shapes, layout, offset, scale)[np.ix_(rows, columns)]
    return bool(np.trace(costs) - costs[linear_sum_assignment(costs)].sum() > EXCHANGED)


def misalignment(centroids_mm: dict[str, np.ndarray], layout: Layout) -> str:
    """Whether structures with these centroids, (3,) mm by name, are stretched, mirrored or turned far, or "".

    By affine and by rigid registration with the layout (Kabsch 1976): a mirror image is recognised in any
    pose. Fewer than five structures are not judged: their centroids lie nearly in a plane.
    """
    known = [k for k, name in enumerate(layout.structures) if name in centroids_mm]
    if len(known) <= FEW_LABELS:
        return ""
    here = np.array([centroids_mm[layout.structures[k]] for k in known])
    there = layout.centroid_mm[known]
    here, there = here - here.mean(axis=0), there - there.mean(axis=0)
    if stretched := _stretch(here, there):
        return stretched
    u, _, vt = np.linalg.svd(here.T @ there)
    handedness = np.linalg.det(u @ vt)  # 1 or -1
    turn, mirror = (u @ np.diag([1.0, 1.0, sign]) @ vt for sign in (handedness, -handedness))
    if np.linalg.norm(here @ mirror - there) < MIRRORED * np.linalg.norm(here @ turn - there):
        return "mirrored: a mirror image of the usual heart fits it better than any turned one"
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    if angle > MAX_TURN_DEG:
        return f"turned by {angle:.0f} degrees against the usual heart (allowed: {MAX_TURN_DEG:.0f})"
    return ""


def _stretch(here: np.ndarray, there: np.ndarray) -> str:
    """How lengths along the axes of centroids (K, 3) mm differ from the usual ones; empty if all do alike."""
    if np.linalg.svd(there, compute_uv=False)[-1] < LEAST_DEPTH_MM * np.sqrt(len(there)):
        return ""
    x, y, z = lengths = np.linalg.norm(np.linalg.pinv(there) @ here, axis=0)
    if lengths.max() < MAX_STRETCH * lengths.min():
        return ""
    return (
        f"stretched: along x, y and z (RAS+) it is {x:.2f}, {y:.2f} and {z:.2f} times as long as the usual "
        "heart. Are the voxel sizes right?"
    )


def stand_in_centroids(labels: np.ndarray, axes_mm: tuple, anatomy: Anatomy, layout: Layout) -> dict:
    """Where absent structures would join, (3,) mm by structure: the centre of a cavity's bare surface voxels.

    labels (X, Y, Z), voxel centres `axes_mm`. So a map of few structures still shows which way it lies.
    """
    places = {}
    for name, (cavity, wall) in layout.stand_ins.items():
        blood = labels == anatomy.label(cavity)
        if (labels == anatomy.label(name)).any() or not blood.any():
            continue
        bare = np.argwhere(bare_voxels(blood, labels == anatomy.label(wall)))
        if bare.size:
            places[name] = np.array([axis[index].mean() for axis, index in zip(axes_mm, bare.T, strict=True)])
    return places


def recognise(shapes: Shapes, layout: Layout, candidates: Iterable[tuple[str | None, ...]]) -> Look | None:
    """What the labels look like under any order and signs of the axes, or None where that is no heart.

    `candidates`: structures by label that are tried besides the best assignment; of FEW_LABELS or less only
    these are, with the axes as they are. Where several fit about as well, one with these axes wins.
    """
    known, few = tuple(candidates), len(shapes.values) <= FEW_LABELS
    looks = []
    for arrangement in (np.eye(3),) if few else ARRANGEMENTS:
        turned = shapes.centroid_mm @ arrangement.T
        tried = list(known)
        if FEW_LABELS < len(shapes.values) <= MAX_LABELS:
            tried += [_assigned(turned, shapes, layout, start) for start in (None, *known)]
        looks += [Look(names, arrangement, _deviation(turned, shapes, layout, names)) for names in tried]
    if not looks:
        return None
    best = min(
        looks,
        key=lambda look: look.deviation + 0.5 * (not look.upright) + UNNAMED * look.structures.count(None),
    )
    return best if best.deviation <= RECOGNISED else None


def _costs(turned, shapes: Shapes, layout: Layout, offset_mm: np.ndarray, scale: float) -> np.ndarray:
    """Squared deviations (n, K) of every label from every structure."""
    place = scale * turned[:, None] + offset_mm - layout.centroid_mm
    volume = np.log(shapes.volume_ml)[:, None] + 3 * np.log(scale) - np.log(layout.volume_ml)
    fill = np.log(shapes.fill)[:, None] - np.log(layout.fill)
    enclosure = shapes.enclosure[:, None] - layout.enclosure
    costs = np.square(place / PLACE_MM).sum(axis=-1)
    for deviation, spread in ((volume, LOG_VOLUME), (fill, LOG_FILL), (enclosure, ENCLOSURE)):
        costs += np.square(deviation / spread)
    return costs


def _fitted(turned, shapes: Shapes, layout: Layout, names) -> tuple[list[int], list[int], np.ndarray, float]:
    """Labels that have a structure, these structures' indices, and offset and scale that fit them."""
    rows = [i for i, name in enumerate(names) if name is not None]
    columns = [layout.structures.index(names[i]) for i in rows]
    ratio = np.log(layout.volume_ml[columns] / shapes.volume_ml[rows]).mean() / 3
    scale = float(np.clip(np.exp(ratio), 0.6, 1.6))
    offset = (layout.centroid_mm[columns] - scale * turned[rows]).mean(axis=0)
    return rows, columns, offset, scale


def _deviation(turned, shapes: Shapes, layout: Layout, names) -> float:
    rows, columns, offset, scale = _fitted(turned, shapes, layout, names)
    return float(_costs(turned, shapes, layout, offset, scale)[rows, columns].mean()) if rows else np.inf


def _assigned(turned, shapes: Shapes, layout: Layout, start) -> tuple[str | None, ...]:
    """The structures, each for one label, that deviate least from the layout, placed as `start` says or by
    the mean of the centroids."""
    names = start
    offset, scale = layout.centroid_mm.mean(axis=0) - turned.mean(axis=0), 1.0
    for _ in range(PASSES):
        if names is not None:
            _, _, offset, scale = _fitted(turned, shapes, layout, names)
        rows, columns = linear_sum_assignment(_costs(turned, shapes, layout, offset, scale))
        found = dict(zip(rows.tolist(), columns.tolist(), strict=True))
        new = tuple(layout.structures[found[i]] if i in found else None for i in range(len(shapes.values)))
        if new == names:
            break
        names = new
    return names
