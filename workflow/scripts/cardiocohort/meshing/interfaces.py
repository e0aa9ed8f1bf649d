"""The surfaces between the labels of a label map, as one complex of shared triangles. Owned by meshing.

Surface nets (Frisken, J. Computer Graphics Techniques 2022; VTK's vtkSurfaceNets3D) on the labels, resampled
at the edge length of the mesh. A triangle between two labels is there once, and where three labels meet they
share its edges. Then every node moves to where the blurred labels of its cell are equally strong, which
removes the steps of the voxels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyvista
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from ..anatomy.label_map import LabelMap
from ..runtime.errors import SubjectError
from .crossings import REASON, crossings
from .surface import edges_of

BLUR = 0.75  # of the smoothing: two blurs of this width, along each axis, come close to it
ROUNDS = 30  # of moving nodes; volumes have settled to 0.1 % before
REACH = 0.6  # edge lengths that a node may move along each axis; its cell ends at 0.5
# A wall thinner than an edge has one cell at least, up to a cell's diagonal where it lies across the grid.
WALL_REACH = 1.3
# A wall's volume may differ so much from its label's: where it ends it is rounded off, and what it loses
# there it would gain in thickness, which is what is set.
WALL_SLACK, FADE = 0.1, 0.8
# Where facets crossed, nodes stay back. From there they move again, as far as nothing crosses: most arrive.
CLOSER, CLOSER_ROUNDS = 2, 2
ISLAND_CELLS, CLEANING_ROUNDS = 27, 8
CONTACT_REACH = 1.5  # edge lengths from a contact of the label map within which the mesh may have it
# of what nodes near a crossing have moved; after the halvings they go all the way back
HALVINGS, OPENING_ROUNDS = 6, 12
SLOPE = 0.5  # of a strength at an interface, per voxel; only the speed of the offsets depends on it
NEEDLE, FOLD_DEGREES = 0.2, 25.0  # facets worse than these make flat tetrahedra
MOST_FACETS_AT_AN_EDGE = 4  # of surface nets: a face of the grid has four labels at most
DAMPING = 0.02  # of the squared slope: where two interfaces are nearly parallel, nodes move little


@dataclass(frozen=True)
class Interfaces:
    """points_mm (N, 3); facets (F, 3); sides (F, 2): the label behind each facet's normal and before it.

    The normal points from the first label to the second; 0 is outside. moved_back: number of nodes that
    did not get to where their labels are equally strong, so that no facets cross. contacts: where labels
    touch in the label map. added: number of cells of the grid by label, where pieces of it were joined.
    """

    points_mm: np.ndarray
    facets: np.ndarray
    sides: np.ndarray
    moved_back: int
    contacts: "Contacts"
    added: dict[int, int]


def interfaces(
    labelmap: LabelMap,
    edge_length_mm: float,
    smoothing_mm: float,
    choose: "Choose | None" = None,
    walls: Sequence[int] = (),
    outside: "PartialCells | None" = None,
) -> Interfaces:
    """Interfaces of all labels of a label map with edges of about `edge_length_mm`.

    Volumes of the regions come to those of the labels. choose: how cells of the grid get their labels, the
    strongest if None. walls: labels of a set thickness, not volume, that may be thinner than an edge, and
    `outside` the cells at their outer faces. SubjectError if there is no label, or if facets cross.
    """
    strength = Strengths.of(labelmap, BLUR * smoothing_mm, outside)
    start, facets, sides, added = surface_nets(strength, edge_length_mm, choose or strongest)
    nodes = Nodes(start, facets, sides, strength, edge_length_mm, walls)
    points, back = separate(nodes.settle(start, ROUNDS), start, facets)
    for _ in range(CLOSER if walls else 0):
        if not back.any():
            break
        try:
            points, back = separate(nodes.settle(points, CLOSER_ROUNDS), points, facets)
        except SubjectError:  # they stay where they are
            break
    return Interfaces(points, facets, sides, int(back.sum()), strength.contacts, added)


@dataclass(frozen=True)
class Contacts:
    """Where labels of a map touch, also at edges and corners of voxels: points (mm) by pair of labels."""

    trees: dict[tuple[int, int], cKDTree]

    @classmethod
    def of(cls, labels: np.ndarray, origin_mm: np.ndarray, spacing_mm: np.ndarray) -> "Contacts":
        pairs, points = [], []
        for shift in product((-1, 0, 1), repeat=3):
            if shift > (0, 0, 0):  # each direction once
                one = tuple(
                    slice(max(-s, 0), n - max(s, 0)) for s, n in zip(shift, labels.shape, strict=True)
                )
                two = tuple(
                    slice(max(s, 0), n - max(-s, 0)) for s, n in zip(shift, labels.shape, strict=True)
                )
                cells = np.argwhere(labels[one] != labels[two])
                first = cells + [part.start for part in one]
                second = first + shift
                pairs.append(np.sort([labels[tuple(first.T)], labels[tuple(second.T)]], axis=0).T)
                points.append(origin_mm + spacing_mm * (first + second) / 2)
        pairs, points = np.concatenate(pairs), np.concatenate(points)
        return cls(
            {
                (a, b): cKDTree(points[(pairs == (a, b)).all(axis=1)])
                for a, b in np.unique(pairs, axis=0).tolist()
            }
        )

    def distance_mm(self, pairs: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
        """(K,) distance of points (K, 3) to the nearest contact of their pairs (K, 2); infinite without."""
        distance = np.full(len(points_mm), np.inf)
        pairs = np.sort(pairs, axis=1)
        for pair in np.unique(pairs, axis=0).tolist():
            if tree := self.trees.get(tuple(pair)):
                rows = (pairs == pair).all(axis=1)
                distance[rows] = tree.query(points_mm[rows])[0]
        return distance


@dataclass(frozen=True)
class PartialCells:
    """Cells of a label map (X, Y, Z) shared by a label and the outside: the label, 0 elsewhere; its share."""

    label: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class Strengths:
    """The blurred mask of each label, and what they were before.

    values (K + 1, X, Y, Z), 0 first; volumes_mm3 (K + 1,) and contacts of the labels.
    """

    values: np.ndarray
    origin_mm: np.ndarray
    spacing_mm: np.ndarray
    volumes_mm3: np.ndarray
    contacts: Contacts

    @classmethod
    def of(cls, labelmap: LabelMap, blur_mm: float, outside: PartialCells | None = None) -> "Strengths":
        spacing = np.array(labelmap.spacing_mm)
        margin = int(np.ceil((4 * blur_mm + 6.0) / spacing.min())) + 1
        used = np.nonzero(labelmap.labels if outside is None else labelmap.labels | outside.label)
        if not used[0].size:
            raise SubjectError("empty mesh domain", "the label map has no label")
        low = np.array([along.min() for along in used])
        high = np.array([along.max() + 1 for along in used])
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        labels = np.pad(labelmap.labels[box], margin)
        partial = outside and PartialCells(
            *(np.pad(one[box], margin) for one in (outside.label, outside.share))
        )
        masks = (mask(labels, k, partial) for k in range(labels.max() + 1))
        values = np.stack([ndimage.gaussian_filter(one, blur_mm / spacing, mode="nearest") for one in masks])
        volumes = np.bincount(labels.ravel(), minlength=len(values)) * spacing.prod()
        origin = labelmap.affine[:3, 3] + (low - margin) * spacing
        return cls(values, origin, spacing, volumes, Contacts.of(labels, origin, spacing))

    def lacks_contact(
        self, pairs: np.ndarray, cells: np.ndarray, others: np.ndarray, edge_length_mm: float
    ) -> np.ndarray:
        """(K,) whether labels (K, 2) touch nowhere in the map near the faces of neighbouring cells.

        cells, others (K, 3): of a grid of edges that begins where the map does. A label touches itself.
        """
        middle = self.origin_mm + edge_length_mm * (cells + others) / 2
        far = self.contacts.distance_mm(pairs, middle) > CONTACT_REACH * edge_length_mm
        return far & (pairs[:, 0] != pairs[:, 1])

    def __call__(self, label: int, points_mm: np.ndarray) -> np.ndarray:
        index = (points_mm - self.origin_mm) / self.spacing_mm
        return ndimage.map_coordinates(self.values[label], index.T, order=1, mode="nearest")


def mask(labels: np.ndarray, label: int, partial: PartialCells | None) -> np.ndarray:
    """(X, Y, Z) share of each cell that a label has; without partial cells none or all."""
    whole = (labels == label).astype(np.float32)
    if partial is None:
        return whole
    here = partial.label > 0 if label == 0 else partial.label == label
    return np.where(here, 1 - partial.share if label == 0 else partial.share, whole)


# (strengths on a grid (K + 1, X, Y, Z), those of the map, edge length in mm) -> labels (X, Y, Z), and number
# of cells by label that were added to join its pieces
Choose = Callable[[np.ndarray, Strengths, float], tuple[np.ndarray, dict[int, int]]]


def strongest(
    coarse: np.ndarray, strength: Strengths, edge_length_mm: float
) -> tuple[np.ndarray, dict[int, int]]:
    """The strongest label of each cell, without islands and contacts that the label map lacks; `Choose`."""
    labels = coarse.argmax(axis=0)
    for _ in range(CLEANING_ROUNDS):
        removed = remove_islands(labels, coarse)
        parted = part_false_contacts(labels, coarse, strength, edge_length_mm)
        if not (removed or parted):
            break
    return labels, {}


def surface_nets(strength: Strengths, edge_length_mm: float, choose: Choose = strongest):
    """Points at the middle of their cells, facets, sides and added cells of what `choose` gives a grid."""
    extent = (np.array(strength.values.shape[1:]) - 1) * strength.spacing_mm
    shape = tuple(np.floor(extent / edge_length_mm).astype(int) + 1)
    scale = edge_length_mm / strength.spacing_mm
    coarse = np.stack(
        [ndimage.affine_transform(one, scale, output_shape=shape, order=1) for one in strength.values]
    )
    coarse[strength.volumes_mm3 == 0] = -2.0  # never chosen, though all others may be out
    labels, added = choose(coarse, strength, edge_length_mm)
    labels = labels.astype(np.uint8)
    image = pyvista.ImageData(
        dimensions=shape, spacing=[edge_length_mm] * 3, origin=tuple(strength.origin_mm)
    )
    image.point_data["label"] = labels.ravel(order="F")
    net = image.contour_labels(
        "all", scalars="label", smoothing=False, pad_background=False, output_mesh_type="triangles",
        simplify_output=False,
    )  # fmt: skip
    # VTK doubles a point where a label touches itself at an edge or corner only, which opens other labels
    cell, merged = np.unique(
        np.rint(2 * (np.asarray(net.points) - strength.origin_mm) / edge_length_mm).astype(int),
        axis=0, return_inverse=True,
    )  # fmt: skip
    points = strength.origin_mm + cell * edge_length_mm / 2
    facets = merged.ravel()[net.regular_faces]
    return points, facets, np.asarray(net.cell_data["boundary_labels"], dtype=np.int64), added


def islands(labels: np.ndarray) -> np.ndarray:
    """(X, Y, Z) whether a cell is of a piece of fewer than ISLAND_CELLS cells, outside included.

    The largest piece of each label is none, however small.
    """
    found = np.zeros(labels.shape, dtype=bool)
    for label in np.unique(labels):
        piece, _ = ndimage.label(labels == label)
        size = np.bincount(piece.ravel())[1:]
        small = (size < ISLAND_CELLS) & (np.arange(len(size)) != size.argmax())
        found |= np.isin(piece, np.flatnonzero(small) + 1)
    return found


def remove_islands(labels: np.ndarray, coarse: np.ndarray) -> bool:
    """Give the cells of islands to their next label, in place; whether any was given."""
    small = islands(labels)
    np.put_along_axis(coarse, labels[None], np.where(small, -1.0, coarse.max(axis=0))[None], axis=0)
    small &= coarse.max(axis=0) > 0  # else no other label is there
    labels[small] = coarse.argmax(axis=0)[small]
    return bool(small.any())


def part_false_contacts(
    labels: np.ndarray, coarse: np.ndarray, strength: Strengths, edge_length_mm: float
) -> bool:
    """Put a third label between cells whose labels do not touch in the label map, in place; whether any was.

    One of both cells gets a label that it has a share of, and that leaves it fewer such contacts. One that
    goes on into a cell beside it comes first: else it would be an island. Of several the strongest.
    """
    changed = False
    for pair in false_contacts(labels, strength, edge_length_mm):
        options = []
        for cell in pair:
            around = np.array(cell) + np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
            around = around[((around >= 0) & (around < labels.shape)).all(axis=1)]
            beside = labels[tuple(around.T)]
            own, shares = labels[cell], coarse[(slice(None), *cell)]

            def count(label, cell=cell, around=around, beside=beside):
                pairs = np.stack([np.full_like(beside, label), beside], axis=1)
                return strength.lacks_contact(pairs, np.array(cell), around, edge_length_mm).sum()

            thirds = [k for k in np.flatnonzero(shares > 0).tolist() if k not in [labels[c] for c in pair]]
            for third in thirds:
                if (fewer := count(third) - count(own)) < 0:
                    options.append((third not in beside, fewer, shares[own] - shares[third], cell, third))
        if options:
            *_, cell, third = min(options)
            labels[cell], changed = third, True
    return changed


def false_contacts(labels: np.ndarray, strength: Strengths, edge_length_mm: float):
    """Pairs of neighbouring cells, as tuples, whose labels do not touch in the label map near there."""
    for step in np.eye(3, dtype=int):
        cells = np.argwhere(np.diff(labels, axis=step.argmax()) != 0)
        pairs = np.stack([labels[tuple(cells.T)], labels[tuple((cells + step).T)]], axis=1)
        far = strength.lacks_contact(pairs, cells, cells + step, edge_length_mm)
        for cell in cells[far]:
            yield tuple(cell.tolist()), tuple((cell + step).tolist())


class Nodes:
    """The nodes of surface nets, which move to where the labels around them are equally strong.

    A node is relaxed towards those neighbours that have all of its labels: along its surface, or along the
    curve where several meet. Each label gets an offset of its strength, such that its volume is kept, that of
    `walls` within WALL_SLACK. A node stays near its start (N, 3): within REACH edge lengths along each axis,
    at the outer face of a wall within WALL_REACH.
    """

    def __init__(
        self,
        start: np.ndarray,
        facets: np.ndarray,
        sides: np.ndarray,
        strength: Strengths,
        edge_length_mm: float,
        walls: Sequence[int] = (),
    ):
        n, k = len(start), len(strength.values)
        self.start, self.facets, self.sides, self.strength = start, facets, sides, strength
        self.member = np.zeros((n, k), dtype=bool)  # labels around each node
        for column in range(3):
            for side in range(2):
                self.member[facets[:, column], sides[:, side]] = True
        self.slack = np.where(np.isin(np.arange(k), walls), WALL_SLACK, 0.0)
        outer = self.member[:, 0] & self.member[:, self.slack > 0].any(axis=1)
        self.reach_mm = edge_length_mm * np.where(outer, WALL_REACH, REACH)[:, None]
        edges = np.unique(edges_of(facets)[0], axis=0)
        edges = np.concatenate([edges, edges[:, ::-1]])
        along = edges[(self.member[edges[:, 1]] | ~self.member[edges[:, 0]]).all(axis=1)]
        self.sum = sparse.csr_array((np.ones(len(along)), along.T), shape=(n, n))
        self.degree = self.sum.sum(axis=1)[:, None]
        self.offset = np.zeros(k)

    def settle(self, points: np.ndarray, rounds: int) -> np.ndarray:
        """Points (N, 3), evenly spaced, after some rounds from `points`; offsets are kept for the next."""
        for _ in range(rounds):
            mean = np.divide(self.sum @ points, self.degree, out=points.copy(), where=self.degree > 0)
            moved = _equalise((points + mean) / 2, self.member, self.strength, self.offset) - self.start
            points = self.start + np.clip(moved, -self.reach_mm, self.reach_mm)
            step = _offset_step(points, self.facets, self.sides, self.strength, self.slack)
            # a wall whose volume is near enough needs no offset, though earlier rounds may have left one
            faded = np.where((self.slack[1:] > 0) & (step == 0), FADE, 1.0)
            self.offset[1:] = faded * self.offset[1:] + step
        return points


def _equalise(points: np.ndarray, member: np.ndarray, strength: Strengths, offset: np.ndarray) -> np.ndarray:
    """One damped Newton step of least length to where the labels of each node's row of `member` are equal."""
    n, k = member.shape
    h = strength.spacing_mm.min() / 2
    values, slopes = np.zeros((n, k)), np.zeros((n, k, 3))
    for label in range(k):
        rows = np.flatnonzero(member[:, label])
        at = points[rows]
        values[rows, label] = strength(label, at) + offset[label]
        steps = np.eye(3) * h
        slopes[rows, label] = np.stack([strength(label, at + s) - strength(label, at - s) for s in steps], 1)
    slopes /= 2 * h
    # of each node's labels, the differences from their mean
    count = member.sum(axis=1)[:, None]
    values = np.where(member, values - values.sum(axis=1, keepdims=True) / count, 0.0)
    slopes = np.where(member[..., None], slopes - slopes.sum(axis=1, keepdims=True) / count[..., None], 0.0)
    normal = np.einsum("nki,nkj->nij", slopes, slopes)
    damp = DAMPING * np.trace(normal, axis1=1, axis2=2) + 1e-9
    normal += damp[:, None, None] * np.eye(3)
    step = -np.linalg.solve(normal, np.einsum("nki,nk->ni", slopes, values)[..., None])[..., 0]
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return points + step * np.minimum(1.0, 2 * h / np.maximum(length, 1e-12))


def _offset_step(
    points: np.ndarray, facets: np.ndarray, sides: np.ndarray, strength: Strengths, slack: np.ndarray
) -> np.ndarray:
    """What to add to the offsets of labels 1..K so that their volumes come nearer to those of the labels, if
    they are farther away than a relative `slack` (K + 1,)."""
    volume, area = region_measures(points, facets, sides, len(strength.values))
    missing = strength.volumes_mm3 - volume
    missing -= np.clip(missing, -slack * strength.volumes_mm3, slack * strength.volumes_mm3)
    lacking = np.where(area > 0, missing / np.maximum(area, 1e-9), 0.0)
    slope = SLOPE / strength.spacing_mm.min()
    return np.clip(0.5 * slope * lacking, -0.1, 0.1)[1:]


def region_measures(points: np.ndarray, facets: np.ndarray, sides: np.ndarray, n_labels: int):
    """Volume (mm3) and surface (mm2) of each label's region, (n_labels,), from its facets."""
    a, b, c = (points[facets[:, i]] - points.mean(axis=0) for i in range(3))
    normal = np.cross(b - a, c - a)
    cone = np.einsum("ij,ij->i", a, normal) / 6
    area = np.linalg.norm(normal, axis=1) / 2
    volume = np.bincount(sides[:, 0], cone, n_labels) - np.bincount(sides[:, 1], cone, n_labels)
    surface = np.bincount(sides[:, 0], area, n_labels) + np.bincount(sides[:, 1], area, n_labels)
    return volume, surface


def separate(points: np.ndarray, before: np.ndarray, facets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of which no facets cross, fold or are needles, and which (N,) went back towards `before`.

    Nothing is wrong there: where surface nets start, every facet is half of a square, and facets meet at
    right angles.
    """
    back = np.zeros(len(points), dtype=bool)
    changed = np.ones(len(facets), dtype=bool)
    for step in range(OPENING_ROUNDS):
        wrong = needles(points, facets)
        wrong[folds(points, facets)] = True
        wrong[crossings(points, facets, changed)] = True
        if not wrong.any():
            return points, back
        near = np.isin(np.arange(len(points)), facets[wrong])
        points = np.where(near[:, None], (points + before) / 2 if step < HALVINGS else before, points)
        back, changed = back | near, near[facets].any(axis=1)
    raise SubjectError(
        REASON,
        f"{np.count_nonzero(wrong)} facets between labels cross or fold; set another meshing.edge_length_mm, "
        "or a larger meshing.smoothing_mm",
    )


def needles(points: np.ndarray, facets: np.ndarray) -> np.ndarray:
    """(F,) whether a facet is flat: its area over that of a regular triangle with edges as long."""
    corners = points[facets]
    edges = corners - np.roll(corners, 1, axis=1)
    twice_area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    return 2 * np.sqrt(3) * twice_area < NEEDLE * (edges**2).sum(axis=(1, 2))


def folds(points: np.ndarray, facets: np.ndarray) -> np.ndarray:
    """Pairs (K, 2) of facets that share an edge and enclose less than FOLD_DEGREES there."""
    edges, owner = edges_of(facets)
    opposite = facets[:, [2, 0, 1]].T.ravel()
    order = np.lexsort(edges.T)
    edges, owner, opposite = edges[order], owner[order], opposite[order]
    along = _unit(points[edges[:, 1]] - points[edges[:, 0]])
    across = points[opposite] - points[edges[:, 0]]
    across = _unit(across - np.einsum("ij,ij->i", across, along)[:, None] * along)
    found = []
    for ahead in range(1, MOST_FACETS_AT_AN_EDGE):
        same = (edges[ahead:] == edges[:-ahead]).all(axis=1)
        cosine = np.einsum("ij,ij->i", across[ahead:], across[:-ahead])
        k = np.flatnonzero(same & (cosine > np.cos(np.radians(FOLD_DEGREES))))
        found.append(np.stack([owner[k], owner[k + ahead]], axis=1))
    return np.concatenate(found)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
