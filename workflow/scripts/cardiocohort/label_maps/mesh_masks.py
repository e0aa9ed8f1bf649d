"""Blood pools and walls of a tagged four-chamber mesh, as masks. Of hearts only. Owned by segmentations.

All tissue is voxelised (voxel centre in tetrahedron, by barycentric coordinates). A blood pool is the space
that walls and lids enclose. A vessel's open end, and a chamber of a mesh without lids, ends where half of all
directions meet no wall: at a plane opening that is the plane through its rim.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from ..anatomy.labels import Anatomy
from ..runtime.errors import InputError
from .mesh_files import TaggedMesh, points_mm, read_mesh
from .mesh_tags import Tag
from .volumes import Mask

STEP_MM = 0.5  # walls of public meshes are 1.5 mm thick at least
PAD = 3
OFF_PLANES = (
    0.37  # of a voxel: no centre lies on the faces of a mesh that is made of voxels, which are tissue
)
CHUNK = 4_000_000  # points tested at a time
SAMPLES = 3  # per voxel along a triangle's edge; two leave no way through
LEAST_POOL_ML = 0.5
SHARED = 0.15  # of a space's walls: those of a chamber without a space of its own mean that both are one
LEAST_OPENING_MM2 = 20.0
MAX_OPENINGS = 6  # a blood pool's: a valve, four veins, an appendage
OPEN_SHARE = 0.35  # of a pool's surface; a cup of half a sphere has 0.33
HALF = 0.5 - 1e-6
# Lebedev's quadrature of 26 points on the sphere (exact to degree 7): weight by number of nonzero components
WEIGHTS = {1: 1 / 21, 2: 4 / 105, 3: 9 / 280}
DIRECTIONS = [d for d in product((-1, 0, 1), repeat=3) if any(d)]
ENDS = (slice(None, -1), slice(1, None))
CUBE = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class MeshRoute:
    """How the mesh of every case is read; the config section `segmentations.mesh` and its table of tags."""

    file: str
    tags: tuple[Tag, ...]
    arrays: tuple[str, ...] = ()
    unit: str = "auto"
    axes: str = "RAS"


@dataclass(frozen=True)
class Opening:
    """A place where a pool has no wall: its area, mm^2, and centre (3,), mm in RAS+."""

    area_mm2: float
    centre_mm: np.ndarray

    def __str__(self) -> str:
        x, y, z = np.round(self.centre_mm).astype(int)
        return f"{self.area_mm2 / 100:.1f} cm2 at ({x}, {y}, {z})"


def masks_of_mesh(
    path: Path, route: MeshRoute, anatomy: Anatomy
) -> tuple[dict[str, Mask], tuple[str, ...], tuple[str, ...]]:
    """Masks by structure, in mm and RAS+; remarks; and a reason for each chamber that is not closed.

    Such a chamber has no mask.

    Raises InputError for a file that cannot be read, a tag without a row in the table, and a wrong unit.
    """
    mesh = read_mesh(path, list(route.arrays))
    known = {tag.tag: k for k, tag in enumerate(route.tags, 1)}
    unknown = sorted(set(np.unique(mesh.tags).tolist()) - known.keys())
    if unknown:
        raise InputError(
            f"{path}: the tag {unknown[0]} of {np.count_nonzero(mesh.tags == unknown[0])} tetrahedra is not "
            f"in the table of tags; allowed: {', '.join(map(str, known))} "
            "(config key 'segmentations.mesh.tags')"
        )
    points, unit = points_mm(mesh, path, route.unit, route.axes)
    solid, origin = voxelised(points, mesh, known, {t.tag for t in route.tags if t.role == "lid"})
    lids = np.array([False, *(tag.role == "lid" for tag in route.tags)])
    pools, notes, reasons = _pools(solid, ndimage.binary_dilation(lids[solid], CUBE), origin, route, anatomy)
    unit_note = f"mesh in {unit}" + (", by the heart's size" if route.unit == "auto" else "")
    remarks = (unit_note, *notes)
    masks = {}
    for k, name in enumerate(anatomy.structures, 1):
        tissue = np.array([False, *(tag.tissue == name for tag in route.tags)])
        where = (pools == k) | tissue[solid]
        box = ndimage.find_objects(where.astype(np.uint8))
        if not box:
            continue
        affine = np.diag([STEP_MM] * 3 + [1.0])
        affine[:3, 3] = origin + STEP_MM * np.array([s.start for s in box[0]])
        masks[name] = Mask(where[box[0]].copy(), affine, ())
    return masks, remarks, reasons


# ---- voxels


def voxelised(
    points: np.ndarray, mesh: TaggedMesh, index: dict[int, int], lids: Collection[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The index of the tag at each voxel (X, Y, Z) int16, 0 without tissue, and the first voxel's centre.

    points (N, 3) in mm. Triangles are used where their tag is one of `lids`, and are one voxel thick.
    """
    used = points[np.unique(mesh.tets)]
    origin = used.min(axis=0) - (PAD + OFF_PLANES) * STEP_MM
    shape = np.ceil((used.max(axis=0) - origin) / STEP_MM).astype(int) + PAD + 1
    solid = np.zeros(shape, np.int16)
    scaled = (points - origin) / STEP_MM
    lookup = np.vectorize(index.get, otypes=[np.int16])
    for values, voxels in _in_tets(scaled[mesh.tets], lookup(mesh.tags)):
        solid[tuple(voxels.T)] = values
    listed = np.isin(mesh.triangle_tags, list(lids))
    if listed.any():
        values = lookup(mesh.triangle_tags[listed])
        for corners, value in zip(scaled[mesh.triangles[listed]], values, strict=True):
            voxels = _on_triangle(corners)
            voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
            free = solid[tuple(voxels.T)] == 0
            solid[tuple(voxels[free].T)] = value
    return solid, origin


def _in_tets(corners: np.ndarray, values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Voxels (n, 3) whose centres lie in tets (M, 4, 3), with the tets' values (n,), in portions."""
    edges = corners[:, 1:] - corners[:, :1]
    low = np.ceil(corners.min(axis=1) - 1e-9).astype(int)
    size = np.floor(corners.max(axis=1) + 1e-9).astype(int) - low + 1
    flat = np.abs(np.linalg.det(edges)) < 1e-12
    sizes, group = np.unique(np.where(flat[:, None], 0, size), axis=0, return_inverse=True)
    for k, box in enumerate(sizes):
        if (box <= 0).any():
            continue
        offsets = np.indices(box).reshape(3, -1).T
        members = np.flatnonzero(group.ravel() == k)
        for part in np.array_split(members, -(-len(members) * len(offsets) // CHUNK)):
            to_barycentric = np.linalg.inv(edges[part])
            weights = (low[part] - corners[part, 0])[:, None] + offsets
            weights = weights @ to_barycentric
            inside = (weights >= -1e-9).all(axis=2) & (weights.sum(axis=2) <= 1 + 1e-9)
            tet, offset = np.nonzero(inside)
            yield values[part[tet]], low[part[tet]] + offsets[offset]


def _on_triangle(corners: np.ndarray) -> np.ndarray:
    """Voxels (n, 3) that a triangle (3, 3) goes through: no way of face neighbours leads across it."""
    n = int(np.ceil(SAMPLES * np.linalg.norm(np.roll(corners, 1, axis=0) - corners, axis=1).max())) + 1
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    i, j = i[i + j <= n], j[i + j <= n]
    samples = np.column_stack([n - i - j, i, j]) @ corners / n
    return np.unique(np.rint(samples).astype(int), axis=0)


# ---- pools


def _pools(
    solid: np.ndarray, shut: np.ndarray, origin: np.ndarray, route: MeshRoute, anatomy: Anatomy
) -> tuple[np.ndarray, list[str], tuple[str, ...]]:
    """The structure whose blood is at each voxel (X, Y, Z), remarks, and reasons."""
    there = {route.tags[k - 1] for k in np.unique(solid) if k}
    rows = {
        name: [t for t in route.tags if name in t.structures and t in there] for name in anatomy.structures
    }
    rows = {name: tags for name, tags in rows.items() if any(tag.role != "lid" for tag in tags)}
    empty = (solid == 0) & ~shut
    spaces, count = ndimage.label(empty)
    walls = {name: _where(solid, tags, route, ("wall", "tube")) for name, tags in rows.items()}
    contact = np.array([_contacts(spaces, wall, count) for wall in walls.values()])  # (structures, spaces)
    contact[:, 0] = contact[:, spaces[0, 0, 0]] = 0
    contact[:, np.bincount(spaces.ravel(), minlength=count + 1) * STEP_MM**3 < LEAST_POOL_ML * 1000] = 0
    owner = contact.argmax(axis=0)
    homeless = [k for k in range(len(rows)) if not (contact[k, owner == k] > 0).any()]
    shared = (contact[homeless] > SHARED * np.maximum(contact.sum(axis=0), 1)).any(axis=0)
    pools, notes, reasons = np.zeros(solid.shape, np.uint8), [], []
    claimed_twice = np.zeros(solid.shape, bool)
    for k, (name, tags) in enumerate(rows.items()):
        own = np.flatnonzero((owner == k) & (contact[k] > 0) & ~shared)
        if own.size:
            pools[np.isin(spaces, own) & (pools == 0)] = anatomy.label(name)
            continue
        barrier = walls[name] | _where(solid, tags, route, ("lid",))
        pool, openings, open_share = capped(barrier, empty)
        places = ", ".join(map(str, _placed(openings, origin)))
        lids = [str(tag) for tag in tags if tag.role == "lid"]
        tube = any(tag.role == "tube" for tag in tags)
        closable = open_share <= OPEN_SHARE and 0 < len(openings) <= MAX_OPENINGS and not _small(pool)
        if tube and not closable:
            notes.append(f"{name} left out: its wall is too short to enclose blood")
        elif lids and not tube:
            by = f"its walls and {', '.join(lids)}"
            reasons.append(f"open: {name} is not closed by {by}; open in {places or 'many places'}")
        elif not closable:
            reasons.append(f"open: {name} has no closed space; open in {places or 'many places'}")
        else:
            claimed_twice |= pool & (pools > 0)
            pools[pool] = anatomy.label(name)
            notes.append(f"{name} closed by planes: {places}")
    pools[claimed_twice] = 0
    _share_out(pools, claimed_twice, pools > 0)
    # a lid is half of each side's: of a pool, or of what lies outside
    lid = (solid == 0) & shut | _where(solid, list(route.tags), route, ("lid",))
    _share_out(pools, lid & (pools == 0), ~lid & (solid == 0))
    return pools, notes, (*reasons, *_lids_elsewhere(solid, pools, route, anatomy))


def _share_out(pools: np.ndarray, where: np.ndarray, sides: np.ndarray) -> None:
    """Give the voxels `where` to what is beside them in `sides`, both (X, Y, Z) bool, in place.

    Step by step from all sides: the nearest voxel may lie behind a wall.
    """
    if not where.any():
        return
    beside = ndimage.binary_dilation(where) & ~where & sides
    grown = watershed(np.zeros(where.shape, np.uint8), np.where(beside, pools + 1, 0), mask=where | beside)
    pools[where] = np.maximum(grown[where], 1) - 1


def _small(pool: np.ndarray) -> bool:
    return np.count_nonzero(pool) * STEP_MM**3 < LEAST_POOL_ML * 1000


def _where(solid: np.ndarray, tags: list[Tag], route: MeshRoute, roles: tuple[str, ...]) -> np.ndarray:
    return np.array([False, *(tag in tags and tag.role in roles for tag in route.tags)])[solid]


def _contacts(spaces: np.ndarray, wall: np.ndarray, count: int) -> np.ndarray:
    """How many faces each of the spaces 0 to `count` shares with a wall."""
    faces = np.zeros(count + 1, np.int64)
    for axis in range(3):
        lower, upper = (tuple(part if a == axis else slice(None) for a in range(3)) for part in ENDS)
        for space, beside in ((lower, upper), (upper, lower)):
            faces += np.bincount(spaces[space][wall[beside]], minlength=count + 1)
    return faces


def blocked(barrier: np.ndarray) -> np.ndarray:
    """The share of all directions in which a barrier (X, Y, Z) is met, (X, Y, Z) float32."""
    share = np.zeros(barrier.shape, np.float32)
    for direction in DIRECTIONS:
        met = barrier.copy()
        along = int(np.flatnonzero(direction)[0])
        rest = [d for axis, d in enumerate(direction) if axis != along]
        order = range(met.shape[along])
        planes = np.moveaxis(met, along, 0)
        for i in reversed(order) if direction[along] > 0 else order:
            j = i + direction[along]
            if 0 <= j < len(planes):
                here, there = zip(
                    *(_overlap(n, d) for n, d in zip(planes.shape[1:], rest, strict=True)), strict=True
                )
                planes[i][here] |= planes[j][there]
        share += np.float32(WEIGHTS[np.count_nonzero(direction)]) * met
    return share


def _overlap(n: int, shift: int) -> tuple[slice, slice]:
    return slice(max(0, -shift), n - max(0, shift)), slice(max(0, shift), n + min(0, shift))


def capped(barrier: np.ndarray, empty: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], float]:
    """The pool inside a barrier (X, Y, Z) that has openings, the openings' voxels, largest first, and the
    share of the pool's surface that is open."""
    pool = np.zeros(barrier.shape, bool)
    found = ndimage.find_objects(barrier.astype(np.uint8))
    if not found:
        return pool, [], 1.0
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in found[0])
    free, share = empty[box], blocked(barrier[box])
    spaces, count = ndimage.label(free & (share >= HALF))
    if not count:
        return pool, [], 1.0
    enclosed = ndimage.sum_labels(share - HALF, spaces, np.arange(1, count + 1))
    inside = spaces == 1 + int(np.argmax(enclosed))
    pool[box] = inside
    around = ndimage.binary_dilation(inside) & ~inside
    patches, count = ndimage.label(around & free, CUBE)
    corner = np.array([s.start for s in box])
    openings = [np.argwhere(patches == k) + corner for k in range(1, count + 1)]
    large = [patch for patch in openings if len(patch) * STEP_MM**2 >= LEAST_OPENING_MM2]
    open_share = sum(map(len, openings)) / max(np.count_nonzero(around), 1)
    return pool, sorted(large, key=len, reverse=True), open_share


def _placed(openings: list[np.ndarray], origin: np.ndarray) -> list[Opening]:
    return [
        Opening(len(voxels) * STEP_MM**2, origin + STEP_MM * voxels.mean(axis=0))
        for voxels in openings[:MAX_OPENINGS]
    ]


def _lids_elsewhere(
    solid: np.ndarray, pools: np.ndarray, route: MeshRoute, anatomy: Anatomy
) -> tuple[str, ...]:
    """Reasons where a lid does not touch a pool that it should close: the table is another numbering's."""
    reasons = []
    found = ndimage.find_objects(solid)
    for k, (tag, box) in enumerate(zip(route.tags, [*found, *[None] * len(route.tags)], strict=False), 1):
        if tag.role != "lid" or box is None:
            continue
        box = tuple(slice(max(s.start - 4, 0), s.stop + 4) for s in box)
        near = ndimage.binary_dilation(solid[box] == k, CUBE, iterations=3)
        beside = set(np.unique(pools[box][near]).tolist())
        for name in tag.structures:
            label = anatomy.label(name)
            if label not in beside and (pools == label).any():
                reasons.append(f"{tag} does not touch {name}: is it the right table of tags?")
    return tuple(reasons)
