"""A heart's label map with the walls that labels lack: right ventricle, atria, vessels. Owned by meshing.

Labels of blood have no wall of their own. Each structure gets a shell outside its blood; none lies across a
valve or a vein's opening, since there the blood of both sides touches, and none closes a vessel's cut end.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..runtime.errors import InputError, SubjectError
from .chambers import CHAMBERS, LV, MYOCARDIUM, OPENINGS, VALVES
from .domain import VOXEL_SMOOTHING
from .interfaces import CLEANING_ROUNDS, PartialCells, Strengths, remove_islands
from .settings import MeshSettings
from .signed_distance import redistance_near

CELL_MM = 1.0  # of the map with walls
REFINING_BLUR = 0.3  # of the smoothing: the interfaces are smoothed later, more would shrink small pools
# where blood of a vessel comes from; its other end is where it was cut
ROOTS = {b: a for a, b in (*VALVES.values(), *OPENINGS) if b not in ("left_atrium", "right_atrium")}
ARTERIES = ("aorta", "pulmonary_artery")
VEINS = tuple(vein for _, vein in OPENINGS)
VESSEL_MM = 6.0  # width of the average of a vessel's direction: half of a great artery's diameter
FACING = 0.6  # cosine between vessel and normal of a cut end: planes of up to 53 degrees from straight
FLAT = 0.6  # cosine to its commonest normal; at a bend the vessel's outer side faces along the way, too
SHARP = 8  # power of cosines in the vote for that normal: cells whose normals differ by 23 degrees count half
RIM_CELLS = 3  # of 2 mm, by which a cut end grows as far as it is flat: the way meets its near rim slantwise
TIP_MM, TIP_REACH_MM = 2.0, 5.0  # within 5 mm of a cut end the vessel runs on for less than 2 mm
TIP_SHARE = 0.5  # of a vessel's length, beyond which a cut end is looked for
PLANE_ROUNDS, OFF_PLANE_CELLS = 4, 1.5  # of fitting a plane to a cut end
LEAST_GROWTH = 0.01  # of a pool's volume: what it lacks beside its label, so that it grows elsewhere
CLEAR_CELLS = 3  # between such growth and other labels
SMALLEST_END_MM2 = 20.0  # smaller patches are steps of the voxels


@dataclass(frozen=True)
class WalledMap:
    """labelmap, on cells of CELL_MM: the anatomy's labels, then those of the walls, as `anatomy` names them.

    outside: how much of the cells at the outer faces of added walls is wall. open: by label of the blood the
    cells (X, Y, Z) that stay without wall, at cut ends and where veins were. walls: label of the wall by
    label of the blood; that of the left ventricle is the myocardium. wanted_mm: thickness by name of the
    added wall. blood_ml: volume of the labels by chamber and artery. carved_ml: blood by structure that gave
    way to a wall between two pools which touch but are not connected. closed: vessels without a cut end.
    """

    labelmap: LabelMap
    anatomy: Anatomy
    outside: PartialCells
    open: dict[int, np.ndarray]
    walls: dict[int, int]
    wanted_mm: dict[str, float]
    blood_ml: dict[str, float]
    carved_ml: dict[str, float]
    closed: tuple[str, ...]

    def is_open(self, blood: int, points_mm: np.ndarray) -> np.ndarray:
        """(K,) whether the cell at each point (K, 3) stays without wall of a label of blood."""
        cells = np.rint((points_mm - self.labelmap.affine[:3, 3]) / CELL_MM).astype(int)
        return self.open[blood][tuple(np.clip(cells, 0, np.array(self.open[blood].shape) - 1).T)]


def check_anatomy(anatomy: Anatomy) -> None:
    """InputError if the anatomy is not a heart with four chambers and both arteries."""
    if missing := sorted(CHAMBERS - set(anatomy.structures)):
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
    for valve, (a, b) in VALVES.items():
        if not touching(labels, number[a], number[b]).any():
            raise SubjectError(f"no {valve} valve", f"{a} and {b} do not touch in the label map")
    pools = Pools.of(
        labelmap, anatomy, settings.min_lv_wall_mm, {name: thickness[name] for name in structures}
    )
    around = surroundings(labels, pools)
    owner = owners_of(labels, pools, around)
    if lacking := pools.lacking(labels, owner):
        labels, around = grown(labels, lacking, around)
        owner = owners_of(labels, pools, around)

    names = (*anatomy.structures, *(f"{name}_wall" for name in structures))
    wall_label = {number[name]: len(anatomy.structures) + 1 + i for i, name in enumerate(structures)}
    wall_label[number[LV]] = number[MYOCARDIUM]
    walled = np.where(np.isin(labels, pools.removed), 0, labels)
    for k in pools.walls_mm:
        walled[owner == k] = wall_label[k]
    carved = {
        anatomy.structures[k - 1]: float(np.count_nonzero((labels == k) & (walled != k))) * CELL_MM**3 / 1000
        for k in pools.walls_mm
    }
    tidy(walled, [wall_label[number[name]] for name in structures])
    beyond = {
        wall_label[number[name]]: around.distance[number[name]] - thickness[name] for name in structures
    }
    affine = np.diag([CELL_MM] * 3 + [1.0])
    affine[:3, 3] = origin
    return WalledMap(
        LabelMap(walled.astype(np.uint8), affine),
        Anatomy(names, anatomy.centred_on),
        outer_faces(walled, beyond),
        around.openings,
        wall_label,
        {f"{name}_wall": thickness[name] for name in structures},
        {name: pools.wanted_mm3[number[name]] / 1000 for name in (LV, *structures) if name not in VEINS},
        carved,
        tuple(anatomy.structures[k - 1] for k in around.closed),
    )


@dataclass(frozen=True)
class Pools:
    """What is known of the blood before it has walls, by labels.

    walls_mm: thickness of the wall around each pool that gets one, first the left ventricle's, then in the
    order of `wall_thicknesses_mm`. wanted_mm3: volumes in the label map. connected: pairs that are open to
    each other. roots: where the blood of a vessel comes from. removed: veins that are left out. even_cells:
    width of a Gaussian without which a wall would go around the outermost points of the voxels.
    """

    walls_mm: dict[int, float]
    wanted_mm3: np.ndarray
    connected: frozenset[frozenset[int]]
    roots: dict[int, int]
    removed: tuple[int, ...]
    even_cells: float

    @classmethod
    def of(cls, labelmap: LabelMap, anatomy: Anatomy, lv_wall_mm: float, added_mm: dict[str, float]):
        number = {name: anatomy.label(name) for name in anatomy.structures}
        voxels = np.bincount(labelmap.labels.ravel(), minlength=len(number) + 1)
        pairs = (pair for pair in (*VALVES.values(), *OPENINGS) if set(pair) <= set(number))
        return cls(
            {number[name]: mm for name, mm in ({LV: lv_wall_mm} | added_mm).items()},
            voxels * float(np.prod(labelmap.spacing_mm)),
            frozenset(frozenset(number[name] for name in pair) for pair in pairs),
            {number[a]: number[b] for a, b in ROOTS.items() if {a, b} <= set(number)},
            # without walls, veins are left out: room for others' walls, and an opening of their own atrium
            tuple(number[name] for name in VEINS if name in number and name not in added_mm),
            max(CELL_MM, VOXEL_SMOOTHING * max(labelmap.spacing_mm)) / CELL_MM,
        )

    def are_connected(self, one: int, two: int) -> bool:
        return frozenset((one, two)) in self.connected

    def lacking(self, labels: np.ndarray, owner: np.ndarray) -> dict[int, int]:
        """Cells that pools lack of their volume, by label, where that is more than LEAST_GROWTH of it."""
        left = np.bincount(labels[owner == 0], minlength=len(self.wanted_mm3)) * CELL_MM**3
        missing = {k: self.wanted_mm3[k] - left[k] for k in self.walls_mm}
        return {
            k: round(mm3 / CELL_MM**3)
            for k, mm3 in missing.items()
            if mm3 > LEAST_GROWTH * self.wanted_mm3[k]
        }


@dataclass(frozen=True)
class Surroundings:
    """By pool the distance (mm) of cells (X, Y, Z) from its even surface, and the cells that stay open.

    closed: vessels without a cut end.
    """

    distance: dict[int, np.ndarray]
    openings: dict[int, np.ndarray]
    closed: tuple[int, ...]


def surroundings(labels: np.ndarray, pools: Pools) -> Surroundings:
    """Those of the pools in labels (X, Y, Z), on cells of CELL_MM."""
    distance, openings, closed = {}, {}, []
    for k, wall_mm in pools.walls_mm.items():
        openings[k] = np.isin(labels, [j for j in pools.removed if pools.are_connected(j, k)])
        inside = labels == k
        if not (cells := np.count_nonzero(inside)):  # a vein that the map lacks has no wall
            distance[k] = np.full(labels.shape, np.inf)
            continue
        share = ndimage.gaussian_filter(inside.astype(np.float32), pools.even_cells)
        # the level that keeps the volume: at one half a small pool would shrink
        level = np.partition(share.ravel(), -cells)[-cells] - share
        distance[k] = redistance_near(level, CELL_MM, wall_mm + 2.0)
        if k in pools.roots:
            ends = cut_ends(inside, touching(labels, k, pools.roots[k]))
            openings[k] |= ahead_of(ends, inside)
            if not ends.any():
                closed.append(k)
    return Surroundings(distance, openings, tuple(closed))


def owners_of(labels: np.ndarray, pools: Pools, around: Surroundings) -> np.ndarray:
    """(X, Y, Z) label of the pool whose wall a cell is; 0 for none."""
    owners, distance = list(pools.walls_mm), around.distance
    free = (labels == 0) | np.isin(labels, pools.removed)
    claims, ratio = {}, {}
    for at, (k, wall_mm) in enumerate(pools.walls_mm.items()):
        # at a sharp tip of the blood, which the even surface cuts off, at least the cells beside it
        beside = ndimage.binary_dilation(labels == k, np.ones((3, 3, 3)))
        claim = free & ~around.openings[k] & ((distance[k] < wall_mm) | beside)
        for j in owners:  # half of the wall from each side where pools touch
            if j == k or pools.are_connected(j, k):
                continue
            claim |= (labels == j) & (distance[k] < wall_mm / 2)
            if j in owners[at:]:
                claim |= (labels == k) & (distance[j] < wall_mm / 2)
        claims[k], ratio[k] = claim, np.where(claim, distance[k] / wall_mm, np.inf)
    stack = np.stack(list(ratio.values()))
    owner = np.where(np.isfinite(stack.min(axis=0)), np.array(owners)[stack.argmin(axis=0)], 0)
    for one, two in combinations(owners, 2):
        if not pools.are_connected(one, two):
            owner[(owner == two) & claims[one]] = one
    return owner


def grown(
    labels: np.ndarray, lacking: dict[int, int], around: Surroundings
) -> tuple[np.ndarray, Surroundings]:
    """Labels (X, Y, Z) whose pools have `lacking` cells more, by label, and what is around them then.

    A pool grows by one layer of cells at most. Its even surface moves out by one length, which fades towards
    other labels, where walls take cells. Openings stay.
    """
    out, distance = labels.copy(), dict(around.distance)
    for k, count in lacking.items():
        inside = labels == k
        clear = ~ndimage.binary_dilation((labels > 0) & ~inside, np.ones((3, 3, 3)), CLEAR_CELLS)
        room = ndimage.binary_dilation(inside, np.ones((3, 3, 3))) & (out == 0) & clear & ~around.openings[k]
        part = ndimage.gaussian_filter(clear.astype(np.float32), CLEAR_CELLS)
        cells = np.flatnonzero(room)
        if not len(cells):
            continue
        length = distance[k].flat[cells] / part.flat[cells]  # of the growth that reaches a cell
        order = np.argsort(length, kind="stable")[:count]
        out.flat[cells[order]] = k
        distance[k] = distance[k] - max(length[order[-1]], 0.0) * part
    return out, replace(around, distance=distance)


def outer_faces(labels: np.ndarray, beyond_mm: dict[int, np.ndarray]) -> PartialCells:
    """Cells that the outer face of a wall passes through, and how much of each is wall.

    beyond_mm: by wall the distance from its outer face, negative in the wall. Whole cells would make a wall
    thicker or thinner by up to half a cell. Where a wall ends otherwise, as at a cut end, cells stay whole.
    """
    wall, share = np.zeros(labels.shape, dtype=np.uint8), np.zeros(labels.shape, dtype=np.float32)
    touches_outside = ndimage.binary_dilation(labels == 0, np.ones((3, 3, 3)))
    nearest = np.full(labels.shape, np.inf)
    for label, beyond in beyond_mm.items():
        own = labels == label
        inside = own & touches_outside
        outside = ndimage.binary_dilation(own, np.ones((3, 3, 3))) & (labels == 0)
        outside &= (beyond >= 0) & (beyond < nearest)
        nearest[outside] = beyond[outside]
        part = np.clip(0.5 - beyond / CELL_MM, 0.0, 1.0)
        wall[inside | outside] = label
        share[inside], share[outside] = np.maximum(part[inside], 0.5), part[outside]
    return PartialCells(wall, share)


def layered(
    coarse: np.ndarray, strength: Strengths, edge_length_mm: float, walled: WalledMap
) -> tuple[np.ndarray, dict[int, int]]:
    """Labels (X, Y, Z) of a grid on which every wall is closed, however thin; `interfaces.Choose`.

    A wall has at least one cell between blood and outside, or between pools that do not touch in the map; its
    nodes then move to where the map has its surfaces. Added walls are one piece each where one more cell can
    join their pieces (`join_pieces`).
    """
    walls = walled.walls
    own = sorted(walls.values())[1:]  # without the myocardium, which is a label
    wall, wall_strength = np.array(own)[coarse[own].argmax(axis=0)], coarse[own].sum(axis=0)
    merged = coarse.copy()
    merged[0] += wall_strength
    merged[own] = -2.0
    labels = merged.argmax(axis=0)
    for _ in range(CLEANING_ROUNDS):
        if not remove_islands(labels, merged):
            break
    for axis in range(3):  # labels that touch in the grid alone: the cell nearer to a wall becomes one
        step = np.eye(3, dtype=int)[axis]
        one = np.argwhere(np.diff(labels, axis=axis) != 0)
        two = one + step
        pairs = np.stack([labels[tuple(one.T)], labels[tuple(two.T)]], axis=1)
        far = strength.lacks_contact(pairs, one, two, edge_length_mm)
        far &= (pairs > 0).all(axis=1) & ~np.isin(pairs, own).any(axis=1)
        one, two = one[far], two[far]
        weaker = wall_strength[tuple(one.T)] >= wall_strength[tuple(two.T)]
        cells = tuple(np.where(weaker[:, None], one, two).T)
        labels[cells] = wall[cells]
    thick = (labels == 0) & (wall_strength > coarse[0])
    labels[thick] = wall[thick]
    for blood, its_wall in walls.items():
        bare = np.argwhere((labels == 0) & ndimage.binary_dilation(labels == blood, np.ones((3, 3, 3))))
        closed = ~walled.is_open(blood, strength.origin_mm + edge_length_mm * bare)
        closed |= coarse[0][tuple(bare.T)] <= wall_strength[tuple(bare.T)]
        labels[tuple(bare[closed].T)] = its_wall
    tidy(labels, own)
    return labels, join_pieces(labels, wall_strength, own)


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
    """(X, Y, Z) cells of a vessel where it ends: its surface that faces along it, with nothing ahead.

    The way from the root goes inside the vessel, on every second cell. Its slope, averaged over the width of
    the vessel, is where the vessel leads. A patch that faces so is an end unless the vessel runs on beside
    it, as at a bend or where it divides.
    """
    coarse = vessel[tuple(slice(None, None, 2) for _ in range(3))]
    way = way_from(root, coarse)
    if way is None:
        return np.zeros(vessel.shape, dtype=bool)
    leads, inside = np.zeros((3, *coarse.shape)), np.zeros((3, *coarse.shape))
    for axis in range(3):
        one, two = (tuple(part if k == axis else slice(None) for k in range(3))
                    for part in (slice(None, -1), slice(1, None)))  # fmt: skip
        both = coarse[one] & coarse[two]
        step = np.where(both, way[two] - way[one], 0.0)
        for cells in (one, two):
            leads[axis][cells] += step
            inside[axis][cells] += both
    width = VESSEL_MM / (2 * CELL_MM)
    leads, inside = (
        np.stack([ndimage.gaussian_filter(one, width) for one in of_axes]) for of_axes in (leads, inside)
    )
    leads /= np.maximum(inside, 1e-6)
    outward = -np.array(np.gradient(ndimage.gaussian_filter(coarse.astype(float), 1.0)))
    leads, outward = (one / np.maximum(np.linalg.norm(one, axis=0), 1e-12) for one in (leads, outward))
    surface = coarse & ~ndimage.binary_erosion(coarse, np.ones((3, 3, 3)))
    facing = (leads * outward).sum(axis=0)
    patch, count = ndimage.label(surface & (facing > FACING), np.ones((3, 3, 3)))
    each = np.arange(count + 1)
    farthest = ndimage.maximum(way, patch, each)
    reach = 2 * int(TIP_REACH_MM / (2 * CELL_MM)) + 1
    ahead = ndimage.maximum_filter(way, size=reach, mode="constant", cval=-1.0)
    ends = (farthest > TIP_SHARE * way.max()) & (ndimage.maximum(ahead, patch, each) - farthest < TIP_MM)
    end = np.zeros(coarse.shape, dtype=bool)
    for k in np.flatnonzero(ends[1:]) + 1:
        normals = outward[:, patch == k]
        alike = (np.clip(normals.T @ normals, 0, 1) ** SHARP).sum(axis=1)
        plane = normals[:, (alike * facing[patch == k] ** SHARP).argmax()]
        flat = surface & (np.tensordot(plane, outward, 1) > FLAT)
        cells = ndimage.binary_dilation(flat & (patch == k), np.ones((3, 3, 3)), RIM_CELLS, mask=flat)
        if np.count_nonzero(cells) * (2 * CELL_MM) ** 2 >= SMALLEST_END_MM2:
            end |= cells
    _, nearest = ndimage.distance_transform_edt(~coarse, return_indices=True)
    fine = end[tuple(nearest)].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return fine[tuple(map(slice, vessel.shape))] & vessel


def ahead_of(ends: np.ndarray, vessel: np.ndarray) -> np.ndarray:
    """(X, Y, Z) cells outside a vessel beyond the planes of its cut `ends`, next to these and their rims."""
    found = np.zeros(ends.shape, dtype=bool)
    nearest = ndimage.distance_transform_edt(~vessel, return_distances=False, return_indices=True)
    patches, count = ndimage.label(ends, np.ones((3, 3, 3)))
    for patch in range(1, count + 1):
        end = patches == patch
        cells = np.argwhere(end)
        if len(cells) * CELL_MM**2 < SMALLEST_END_MM2:  # a bit of an end has no plane of its own
            continue
        for _ in range(PLANE_ROUNDS):  # without the cells that are off the plane, down the vessel's side
            middle = cells.mean(axis=0)
            normal = np.linalg.eigh((cells - middle).T @ (cells - middle))[1][:, 0]  # of the least spread
            height = (cells - middle) @ normal
            cells = cells[np.abs(height - np.median(height)) <= OFF_PLANE_CELLS]
        rim = ndimage.binary_dilation(end, np.ones((3, 3, 3)), RIM_CELLS, mask=vessel)
        around = np.argwhere(rim[tuple(nearest)] & ~vessel)
        upward = normal if ((np.argwhere(rim) - middle) @ normal).sum() < 0 else -normal
        # ends are found on every second cell and may be two cells thick: beyond the outer one
        top = np.quantile((cells - middle) @ upward, 0.75) + 0.25
        found[tuple(around[(around - middle) @ upward > top].T)] = True
    return found


def way_from(root: np.ndarray, coarse: np.ndarray) -> np.ndarray | None:
    """Way (mm) from cells of `root` to each cell inside `coarse`, every second one; -1 where there is none.

    None where the vessel does not begin at its root.
    """
    index = np.full(coarse.shape, -1)
    n = np.count_nonzero(coarse)
    index[coarse] = np.arange(n)
    near_root = (
        ndimage.binary_dilation(root, iterations=2)[tuple(slice(None, None, 2) for _ in range(3))] & coarse
    )
    if not near_root.any():
        return None
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
    way = np.full(coarse.shape, -1.0)
    way[coarse] = np.where(np.isfinite(length), length, -1.0)
    return way


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


def join_pieces(labels: np.ndarray, wall_strength: np.ndarray, walls: list[int]) -> dict[int, int]:
    """Add cells to walls, in place, so that each wall is one piece; number of added cells by wall.

    A wall of one cell's thickness may meet itself at edges of cells only: beside an open end, and between two
    pools. A cell beside two of its pieces joins them. It comes from outside or, where there is none such,
    from blood, and leaves no part of that cut off; of several, that where the map's walls are strongest.
    """
    added = {}
    for wall in walls:
        own = labels == wall
        if not own.any():
            continue
        box = tuple(slice(max(int(along.min()) - 1, 0), int(along.max()) + 2) for along in np.nonzero(own))
        there, strength = labels[box], wall_strength[box]
        while (found := ndimage.label(there == wall))[1] > 1:
            cells = bridges(found[0], np.isin(there, walls))
            order = np.lexsort([-strength[tuple(cells.T)], there[tuple(cells.T)] > 0])
            joins = next((tuple(cell) for cell in cells[order] if not cuts(there, cell)), None)
            if joins is None:
                break
            there[joins] = wall
            added[wall] = added.get(wall, 0) + 1
    return added


def bridges(piece: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """(K, 3) cells that share faces with two pieces at least, without cells that are `taken`.

    piece (X, Y, Z): number of the piece of each cell, 0 if it is of none.
    """
    padded = np.pad(piece, 1)
    beside = np.stack(
        [np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1] for axis in range(3) for step in (-1, 1)]
    )
    least = np.where(beside > 0, beside, beside.max() + 1).min(axis=0)
    return np.argwhere((piece == 0) & ~taken & (beside.max(axis=0) > least))


def cuts(labels: np.ndarray, cell: np.ndarray) -> bool:
    """Whether neighbours of a cell with its label, by faces, hang together without it no longer.

    Looked at are the 26 cells around it, so that a way round that is longer counts as none.
    """
    around = np.pad(labels, 1, constant_values=0)[tuple(slice(i, i + 3) for i in cell)]
    same = around == around[1, 1, 1]
    same[1, 1, 1] = False
    part, _ = ndimage.label(same)
    faces = part[ndimage.generate_binary_structure(3, 1)]
    return len(np.unique(faces[faces > 0])) > 1
