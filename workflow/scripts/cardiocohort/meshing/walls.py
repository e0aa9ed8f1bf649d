"""A heart's label map with the walls that labels lack: right ventricle, atria, vessels. Owned by meshing.

Labels of blood have no wall of their own. Each structure gets a shell outside its blood; none lies across a
valve or a vein's opening, since there the blood of both sides touches, and none closes a vessel's cut end.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..runtime.errors import InputError, SubjectError
from .chambers import LV, MYOCARDIUM, OPENINGS, VALVES
from .interfaces import CLEANING_ROUNDS, CONTACT_REACH, Strengths, islands
from .settings import MeshSettings
from .signed_distance import redistance_near

CELL_MM = 1.0  # of the map with walls
REFINING_BLUR = 0.3  # of the smoothing: the interfaces are smoothed later, more would shrink small pools
# where blood of a vessel comes from; its other end is where it was cut
ROOTS = {b: a for a, b in (*VALVES.values(), *OPENINGS) if b not in ("left_atrium", "right_atrium")}
ARTERIES = ("aorta", "pulmonary_artery")
VEINS = tuple(vein for _, vein in OPENINGS)
TIP_MM, TIP_REACH_MM = 2.0, 5.0  # a cut end: within 5 mm the vessel runs on for less than 2 mm
TIP_SHARE = 0.5  # of a vessel's length, beyond which a cut end is looked for


@dataclass(frozen=True)
class WalledMap:
    """labelmap, on cells of CELL_MM: the anatomy's labels, then those of the walls, as `anatomy` names them.

    walls: label of the wall by label of the blood; that of the left ventricle is the myocardium. wanted_mm:
    thickness by name of the added wall. carved_ml: blood by structure that gave way to a wall between
    two pools which touch but are not connected.
    """

    labelmap: LabelMap
    anatomy: Anatomy
    walls: dict[int, int]
    wanted_mm: dict[str, float]
    carved_ml: dict[str, float]


def check_anatomy(anatomy: Anatomy) -> None:
    """InputError if the anatomy is not a heart with four chambers and both arteries."""
    needed = {MYOCARDIUM, *(name for pair in VALVES.values() for name in pair)}
    if missing := sorted(needed - set(anatomy.structures)):
        raise InputError(
            f"config key 'meshing.domain': four_chamber needs {', '.join(missing)}, which the anatomy lacks; "
            "set labels"
        )


def wall_thicknesses_mm(settings: MeshSettings) -> dict[str, float]:
    """Thickness by structure. Of two walls in one gap, that of the structure named first has it.

    This order is that of Rodero et al. (PLoS Comput Biol 2021), whose chambers lie in their own walls alone.
    """
    walls = {"right_ventricle": settings.rv_wall_mm}
    walls |= dict.fromkeys(("left_atrium", "right_atrium"), settings.atrial_wall_mm)
    walls |= dict.fromkeys(ARTERIES, settings.artery_wall_mm)
    return walls | (dict.fromkeys(VEINS, settings.vein_wall_mm) if settings.vein_wall_mm else {})


def add_walls(labelmap: LabelMap, anatomy: Anatomy, settings: MeshSettings) -> WalledMap:
    """The map with walls. SubjectError if a valve is missing."""
    check_anatomy(anatomy)
    thickness = wall_thicknesses_mm(settings)
    structures = [name for name in thickness if name in anatomy.structures]
    margin = max(thickness.values()) + 3.0
    labels, origin = refined(labelmap, REFINING_BLUR * settings.smoothing_mm, margin)
    number = {name: anatomy.label(name) for name in anatomy.structures}
    connected = {frozenset(number[n] for n in pair) for pair in (*VALVES.values(), *OPENINGS)
                 if set(pair) <= set(number)}  # fmt: skip
    for valve, (a, b) in VALVES.items():
        if not touching(labels, number[a], number[b]).any():
            raise SubjectError(f"no {valve} valve", f"{a} and {b} do not touch in the label map")
    # without walls, veins are left out: room for others' walls, and an opening of their own atrium
    removed = [number[name] for name in VEINS if name in number and name not in structures]
    free = (labels == 0) | np.isin(labels, removed)

    owners = [number[name] for name in (LV, *structures)]
    walls_mm = dict(zip(owners, (settings.min_lv_wall_mm, *map(thickness.get, structures)), strict=True))
    distance, tips = {}, {}
    for k in owners:
        inside = labels == k
        level = 0.5 - ndimage.gaussian_filter(inside.astype(np.float32), 1.0)
        distance[k] = redistance_near(level, CELL_MM, walls_mm[k] + 2.0)
        root = ROOTS.get(anatomy.structures[k - 1])
        if root:
            ends = cut_ends(inside, touching(labels, k, number[root]))
            nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
            tips[k] = ends[tuple(nearest)]
    claims, ratio = {}, {}
    for at, k in enumerate(owners):
        apart = [j for j in owners if j != k and frozenset((j, k)) not in connected]
        closed = np.isin(labels, [j for j in removed if frozenset((j, k)) in connected], invert=True)
        claim = free & closed & (distance[k] < walls_mm[k])
        if k in tips:
            claim &= ~tips[k]
        for j in apart:  # half of the wall from each side where pools touch
            half = walls_mm[k] / 2
            claim |= (labels == j) & (distance[k] < half)
            if j in owners[at:]:
                claim |= (labels == k) & (distance[j] < half)
        claims[k], ratio[k] = claim, np.where(claim, distance[k] / walls_mm[k], np.inf)
    stack = np.stack(list(ratio.values()))
    owner = np.where(np.isfinite(stack.min(axis=0)), np.array(owners)[stack.argmin(axis=0)], 0)
    for one, two in combinations(owners, 2):
        if frozenset((one, two)) not in connected:
            owner[(owner == two) & claims[one]] = one

    names = (*anatomy.structures, *(f"{name}_wall" for name in structures))
    wall_label = {number[name]: len(anatomy.structures) + 1 + i for i, name in enumerate(structures)}
    wall_label[number[LV]] = number[MYOCARDIUM]
    walled = np.where(np.isin(labels, removed), 0, labels)
    for k in owners:
        walled[owner == k] = wall_label[k]
    carved = {
        anatomy.structures[k - 1]: float(np.count_nonzero((labels == k) & (walled != k))) * CELL_MM**3 / 1000
        for k in owners
    }
    tidy(walled, [wall_label[number[name]] for name in structures])
    affine = np.diag([CELL_MM] * 3 + [1.0])
    affine[:3, 3] = origin
    return WalledMap(
        LabelMap(walled.astype(np.uint8), affine),
        Anatomy(names, anatomy.centred_on),
        wall_label,
        {f"{name}_wall": thickness[name] for name in structures},
        carved,
    )


def layered(
    coarse: np.ndarray, strength: Strengths, edge_length_mm: float, walls: dict[int, int]
) -> np.ndarray:
    """Labels (X, Y, Z) of a grid on which every wall is closed, however thin; `interfaces.Choose`.

    walls: label of the wall by label of the blood. A wall has at least one cell between blood and outside,
    or between pools that do not touch in the map; its nodes then move to where the map has its surfaces.
    """
    own = sorted(walls.values())[1:]  # without the myocardium, which is a label
    wall, wall_strength = np.array(own)[coarse[own].argmax(axis=0)], coarse[own].sum(axis=0)
    merged = coarse.copy()
    merged[0] += wall_strength
    merged[own] = -2.0
    labels = merged.argmax(axis=0)
    for _ in range(CLEANING_ROUNDS):
        small = islands(labels)
        if not small.any():
            break
        np.put_along_axis(merged, labels[None], np.where(small, -1.0, merged.max(axis=0))[None], axis=0)
        labels = merged.argmax(axis=0)
    for axis in range(3):  # labels that touch in the grid alone: the cell nearer to a wall becomes one
        step = np.eye(3, dtype=int)[axis]
        one = np.argwhere(np.diff(labels, axis=axis) != 0)
        two = one + step
        pairs = np.stack([labels[tuple(one.T)], labels[tuple(two.T)]], axis=1)
        middle = strength.origin_mm + edge_length_mm * (one + two) / 2
        far = strength.contacts.distance_mm(pairs, middle) > CONTACT_REACH * edge_length_mm
        far &= (pairs > 0).all(axis=1) & ~np.isin(pairs, own).any(axis=1)
        one, two = one[far], two[far]
        weaker = wall_strength[tuple(one.T)] >= wall_strength[tuple(two.T)]
        cells = tuple(np.where(weaker[:, None], one, two).T)
        labels[cells] = wall[cells]
    thick = (labels == 0) & (wall_strength > coarse[0])
    labels[thick] = wall[thick]
    for blood, its_wall in walls.items():
        bare = np.argwhere((labels == 0) & ndimage.binary_dilation(labels == blood, np.ones((3, 3, 3))))
        at = tuple(bare.T)
        pairs = np.tile([0, blood], (len(bare), 1))
        near = strength.contacts.distance_mm(pairs, strength.origin_mm + edge_length_mm * bare)
        closed = (near > CONTACT_REACH * edge_length_mm) | (coarse[0][at] <= wall_strength[at])
        labels[tuple(bare[closed].T)] = its_wall
    tidy(labels, own)
    return labels


def refined(labelmap: LabelMap, blur_mm: float, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels on cells of CELL_MM, the strongest of the blurred masks, and the centre of the first cell."""
    spacing = np.array(labelmap.spacing_mm)
    margin = int(np.ceil((margin_mm + 4 * blur_mm) / spacing.min()))
    used = np.nonzero(labelmap.labels)
    if not used[0].size:
        raise SubjectError("empty mesh domain", "the label map has no label")
    low = np.array([along.min() for along in used])
    box = tuple(slice(a, along.max() + 1) for a, along in zip(low, used, strict=True))
    labels = np.pad(labelmap.labels[box], margin)
    # cells fill the voxels: none has its centre between two of them, where labels would be equally strong
    shape = tuple(np.floor(np.array(labels.shape) * spacing / CELL_MM + 1e-9).astype(int))
    first = (CELL_MM - spacing) / 2
    best, strongest = np.zeros(shape, dtype=np.uint8), np.full(shape, -1.0, dtype=np.float32)
    for k in range(labels.max() + 1):
        blurred = ndimage.gaussian_filter((labels == k).astype(np.float32), blur_mm / spacing)
        fine = ndimage.affine_transform(
            blurred, CELL_MM / spacing, first / spacing, shape, order=1, mode="nearest"
        )
        best[fine > strongest] = k
        np.maximum(strongest, fine, out=strongest)
    return best, labelmap.affine[:3, 3] + (low - margin) * spacing + first


def touching(labels: np.ndarray, one: int, two: int) -> np.ndarray:
    """(X, Y, Z) cells of `one` that share a face with a cell of `two`."""
    return (labels == one) & ndimage.binary_dilation(labels == two)


def cut_ends(vessel: np.ndarray, root: np.ndarray) -> np.ndarray:
    """(X, Y, Z) cells of a vessel where it ends: from its root, it hardly runs on beyond them.

    The way from the root goes inside the vessel, on every second cell.
    """
    half = tuple(slice(None, None, 2) for _ in range(3))
    coarse = vessel[half]
    index = np.full(coarse.shape, -1)
    n = np.count_nonzero(coarse)
    index[coarse] = np.arange(n)
    near_root = ndimage.binary_dilation(root, iterations=2)[half] & coarse
    if not near_root.any():
        return np.zeros(vessel.shape, dtype=bool)
    cells = np.argwhere(coarse)
    links, lengths = [], []
    for shift in np.ndindex(3, 3, 3):
        step = np.array(shift) - 1
        if tuple(step) > (0, 0, 0):
            other = cells + step
            ok = ((other >= 0) & (other < coarse.shape)).all(axis=1)
            to = np.full(n, -1)
            to[ok] = index[tuple(other[ok].T)]
            rows = np.flatnonzero(to >= 0)
            links.append(np.stack([rows, to[rows]]))
            lengths.append(np.full(len(rows), 2 * CELL_MM * np.linalg.norm(step)))
    graph = sparse.coo_array((np.concatenate(lengths), np.concatenate(links, axis=1)), shape=(n, n)).tocsr()
    length = dijkstra(graph, directed=False, indices=index[near_root], min_only=True)
    length[~np.isfinite(length)] = -1.0
    coarse_way = np.full(coarse.shape, -1.0)
    coarse_way[coarse] = length
    reach = int(TIP_REACH_MM / (2 * CELL_MM))
    ahead = ndimage.maximum_filter(coarse_way, size=2 * reach + 1, mode="constant", cval=-1.0)
    end = coarse & (ahead - coarse_way < TIP_MM) & (coarse_way > TIP_SHARE * length.max())
    _, nearest = ndimage.distance_transform_edt(~coarse, return_indices=True)
    fine = end[tuple(nearest)].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return fine[tuple(map(slice, vessel.shape))] & vessel


def tidy(labels: np.ndarray, walls: list[int]) -> None:
    """Join smaller pieces of each wall, in place, to the wall that they share most faces with, if any."""
    loose = np.zeros(labels.shape, dtype=bool)
    for wall in walls:
        piece, count = ndimage.label(labels == wall)
        if count > 1:
            size = np.bincount(piece.ravel())[1:]
            loose |= (piece > 0) & (piece != size.argmax() + 1)
    pieces, _ = ndimage.label(loose)
    for number, box in enumerate(ndimage.find_objects(pieces), 1):
        around = tuple(slice(max(along.start - 1, 0), along.stop + 1) for along in box)
        piece, there = pieces[around] == number, labels[around]
        rim = ndimage.binary_dilation(piece) & ~piece & ~loose[around]
        cells = np.bincount(there[rim], minlength=max(walls) + 1)[walls]
        if cells.any():
            there[piece] = walls[cells.argmax()]
