"""The closed, tagged triangle surface of the muscle. Owned by the meshing stage.

Marching cubes on the combined field, uniform remeshing by clustering (ACVD: Valette, Chassery and
Prost, IEEE TVCG 2008), tags by the field that is active at a facet, then every node is moved onto the
field of its tag and rim nodes onto both of theirs, which sharpens the rims that both steps bevel. Where
that goes too far the bevel stays, near the base.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyacvd
import pyvista
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ..mesh.model import FACETS
from ..mesh.tetrahedron_geometry import row_keys
from ..runtime.errors import SubjectError
from .domain import Domain
from .signed_distance import Field

# points a cluster: of fewer, clusters touch at points and the remeshed surface is not closed; then so many
FEWEST_POINTS, MANY_POINTS = 3.5, 10.0
BASE_REFINEMENT = 0.7  # edges at the base over edges elsewhere
REACH = 0.7  # edge lengths a node may move to sharpen a rim
WIDENED_REACH = 3.0  # times REACH, where facets got another tag
FIT_ROUNDS = 12  # of relaxing and projecting; the surface has settled to 0.05 mm well before
FAR_FROM_BASE_MM = 0.4  # what a rim node may be off the base
BASE_ROUNDS = 2  # each leaves a tenth of the distance (`project`)


Size = Callable[[np.ndarray], np.ndarray]  # aimed edge length (N,) in mm at points (N, 3)


@dataclass(frozen=True)
class TaggedSurface:
    """points_mm (N, 3), facets (F, 3) with normals outward, tag (F,) as in `model.FACETS`.

    start_mm (N, 3): the points before they moved onto the fields of their tags.
    """

    points_mm: np.ndarray
    facets: np.ndarray
    tag: np.ndarray
    start_mm: np.ndarray


def surface(domain: Domain, size_mm: Size) -> TaggedSurface:
    """The boundary of the domain with triangles of edges `size_mm`; SubjectError if not closed."""
    fields = boundary_fields(domain)
    start, facets = remesh(isosurface(domain.muscle), domain.base, size_mm)
    raw_tag = tag_facets(start, facets, fields)
    tag = clean_tags(facets, raw_tag)
    reach = REACH * size_mm(start)
    # a strip one facet wide was widened down the wall: its rim has to come all the way back
    reach[np.unique(facets[tag != raw_tag])] *= WIDENED_REACH
    points = fit(start, facets, tag, fields, reach[:, None])
    return TaggedSurface(points, facets, tag, start)


def boundary_fields(domain: Domain) -> dict[int, Field]:
    """For every facet tag the field whose zero level it lies on, negative on the muscle's side."""
    return {
        FACETS["epi"]: domain.outer,
        FACETS["base"]: domain.base,
        FACETS["lv_endo"]: domain.lv.like(-domain.lv.values),
        FACETS["rv_endo"]: domain.rv.like(-domain.rv.values),
    }


def isosurface(muscle: Field) -> pyvista.PolyData:
    """Zero level of the field as a closed surface of small triangles, normals outward."""
    # a value of exactly zero at a grid point would give degenerate triangles
    values = np.where(np.abs(muscle.values) < 1e-6, 1e-6, muscle.values)
    image = pyvista.ImageData(
        dimensions=values.shape, spacing=[muscle.spacing_mm] * 3, origin=muscle.origin_mm
    )
    image.point_data["d"] = values.ravel(order="F")
    fine = image.contour([0.0], "d", method="flying_edges")
    if fine.n_cells == 0:
        raise SubjectError("empty mesh domain", "the muscle field has no zero level")
    return fine.extract_largest()


def remesh(fine: pyvista.PolyData, base: Field, size_mm: Size) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) and outward facets (F, 3) of a remeshing with edges `size_mm`, finer at the base.

    The base is a strip as wide as the RV wall, which triangles of the full size would bridge.
    """
    points = np.asarray(fine.points, dtype=float)
    size = size_mm(points)
    at_base = np.abs(base(points)) < size
    size = np.where(at_base, BASE_REFINEMENT, 1.0) * size
    n = fine.area * np.mean(1 / size**2) / (np.sqrt(3) / 2)
    if len(points) < FEWEST_POINTS * n:
        while fine.n_points < MANY_POINTS * n:
            fine = fine.subdivide(1)
        return remesh(fine, base, size_mm)
    # clusters of equal energy: their size goes with the fourth root of the density
    clustering = pyacvd.Clustering(fine, (size / size.max()) ** -4.0)
    for more in (1.0, 1.04, 1.08, 1.12):  # another number of clusters where one leaves a bad edge
        clustering.cluster(round(n * more))
        coarse = clustering.create_mesh(moveclus=False).clean()
        points, facets = np.asarray(coarse.points, dtype=float), coarse.regular_faces.astype(int)
        if is_closed(facets):
            return points, facets if _enclosed_volume(points, facets) > 0 else facets[:, ::-1].copy()
    edges, _ = edges_of(facets)
    _, first, count = np.unique(row_keys(edges, len(points)), return_index=True, return_counts=True)
    places = points[edges[first[count != 2]]].mean(axis=1)
    raise SubjectError(
        "surface not closed",
        f"remeshing left {len(places)} open or non-manifold edges, in the heart frame near "
        f"({', '.join(f'{mm:.0f}' for mm in places[0])}) mm; set another meshing.edge_length_mm, "
        "rv_edge_length_mm or septum_edge_length_mm",
    )


def _enclosed_volume(points: np.ndarray, facets: np.ndarray) -> float:
    a, b, c = (points[facets[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6.0


def edges_of(facets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Undirected edges (3F, 2), sorted nodes, and the facet (3F,) each belongs to."""
    edges = np.sort(np.concatenate([facets[:, [0, 1]], facets[:, [1, 2]], facets[:, [2, 0]]]), axis=1)
    return edges, np.tile(np.arange(len(facets)), 3)


def is_closed(facets: np.ndarray) -> bool:
    """Whether every edge has exactly two facets."""
    _, count = np.unique(row_keys(edges_of(facets)[0], facets.max() + 1), return_counts=True)
    return bool((count == 2).all())


def facet_pairs(facets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (E, 2) of facets that share an edge of a closed surface, and that edge's nodes (E, 2)."""
    edges, owner = edges_of(facets)
    order = np.lexsort(edges.T)
    return owner[order].reshape(-1, 2), edges[order][::2]


def tag_facets(points: np.ndarray, facets: np.ndarray, fields: dict[int, Field]) -> np.ndarray:
    """The tag (F,) of the field that is active, largest, at each facet's centroid."""
    centroids = points[facets].mean(axis=1)
    tags = np.array(list(fields))
    return tags[np.argmax([field(centroids) for field in fields.values()], axis=0)]


def clean_tags(facets: np.ndarray, tag: np.ndarray) -> np.ndarray:
    """Tags without islands or ears: one patch a tag, and no facet with two neighbours of one other tag.

    Ears are corners that tagging by centroids leaves on a rim; such a facet would have all its nodes
    on the rim and become flat there.
    """
    pairs, _ = facet_pairs(facets)
    neighbours = _neighbours(pairs, len(facets))
    tag = tag.copy()
    for value in np.unique(tag):
        for island in patches(facets, tag, value)[1:]:
            around = tag[neighbours[island]]
            tag[island] = np.bincount(around[around != value]).argmax()
    tag = widen_base(facets, tag)
    waiting = np.flatnonzero((tag[neighbours] != tag[:, None]).any(axis=1)).tolist()
    while waiting:
        facet = waiting.pop()
        values, count = np.unique(tag[neighbours[facet]], return_counts=True)
        ear = values[(count >= 2) & (values != tag[facet])]
        if ear.size:  # ends: every flip shortens the rims
            tag[facet] = ear[0]
            waiting.extend(neighbours[facet].tolist())
    return tag


def widen_base(facets: np.ndarray, tag: np.ndarray) -> np.ndarray:
    """Tags in which no node lies on two of epicardium and endocardia: around such a node all is base."""
    member = node_tags(facets, tag)
    member[:, FACETS["base"]] = False
    return np.where((member.sum(axis=1) > 1)[facets].any(axis=1), FACETS["base"], tag)


def node_tags(facets: np.ndarray, tag: np.ndarray) -> np.ndarray:
    """(N, tags + 1) bool: whether a node has a facet with that tag."""
    member = np.zeros((facets.max() + 1, max(FACETS.values()) + 1), dtype=bool)
    for column in range(3):
        member[facets[:, column], tag] = True
    return member


def _neighbours(pairs: np.ndarray, n: int) -> np.ndarray:
    """(n, 3) facets beside each facet of a closed surface."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    return both[np.argsort(both[:, 0], kind="stable"), 1].reshape(n, 3)


def patches(facets: np.ndarray, tag: np.ndarray, value: int) -> list[np.ndarray]:
    """Edge-connected patches of facets with a tag, largest first, as facet indices."""
    index = np.flatnonzero(tag == value)
    pairs, _ = facet_pairs(facets)
    inside = (tag[pairs] == value).all(axis=1)
    graph = sparse.coo_array((np.ones(inside.sum()), pairs[inside].T), shape=(len(facets),) * 2)
    _, component = connected_components(graph, directed=False)
    groups = [index[component[index] == c] for c in np.unique(component[index])]
    return sorted(groups, key=lambda g: (-len(g), g[0]))


def patch_of(facets: np.ndarray) -> np.ndarray:
    """(F,) number of the patch that each facet is in; facets of a patch are joined by edges, however many."""
    edges, owner = edges_of(facets)
    order = np.lexsort(edges.T)
    edges, owner = edges[order], owner[order]
    same = np.flatnonzero((edges[1:] == edges[:-1]).all(axis=1))
    links = np.stack([owner[same], owner[same + 1]])
    graph = sparse.coo_array((np.ones(links.shape[1]), links), shape=(len(facets),) * 2)
    return connected_components(graph, directed=False)[1]


def fit(
    points: np.ndarray, facets: np.ndarray, tag: np.ndarray, fields: dict[int, Field], reach_mm: np.ndarray
) -> np.ndarray:
    """Points moved onto the zero level of their tags' fields, at most `reach_mm` (N, 1), relaxed along them.

    A node inside a patch goes to one field, a node of a rim to both fields that meet there, and is
    relaxed along the rim only. Relaxing keeps the triangles even while the bevel is pulled out.
    """
    n = len(points)
    member = node_tags(facets, tag)
    on_rim = member.sum(axis=1) > 1
    edges = np.unique(edges_of(facets)[0], axis=0)
    pairs, pair_edges = facet_pairs(facets)
    rim = pair_edges[tag[pairs[:, 0]] != tag[pairs[:, 1]]]
    along = np.concatenate([edges[~on_rim[edges].any(axis=1)], rim])
    across = edges[on_rim[edges].sum(axis=1) == 1]  # pulls the patch's node only
    source = np.concatenate([along, along[:, ::-1], _patch_first(across, on_rim)])
    average = sparse.csr_array((np.ones(len(source)), source.T), shape=(n, n))
    degree = np.maximum(average.sum(axis=1), 1)[:, None]

    start, alone = points, np.asarray(average.sum(axis=1)).ravel() == 0
    for _ in range(FIT_ROUNDS):
        pull = np.where(alone[:, None], 0.0, average @ points / degree - points)
        moved = project(points + 0.5 * pull, member, fields) - start
        # where the base grazes a wall their rim is a knife's edge far away: there a bevel is better
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        points = start + moved * np.minimum(1.0, reach_mm / np.maximum(length, 1e-12))
    # a bevel that is far from the base comes back to it, which is what was chosen, and leaves the wall
    # instead; to move every rim node so folds coarse surfaces
    base = FACETS["base"]
    slope = np.linalg.norm(fields[base].gradient(points), axis=1)
    far = on_rim & member[:, base] & (np.abs(fields[base](points)) > FAR_FROM_BASE_MM * slope)
    on_base = far[:, None] & (np.arange(member.shape[1]) == base)
    for _ in range(BASE_ROUNDS):
        points = project(points, on_base, fields)
    return points


def _patch_first(edges: np.ndarray, on_rim: np.ndarray) -> np.ndarray:
    flip = on_rim[edges[:, 0]]
    return np.where(flip[:, None], edges[:, ::-1], edges)


def project(points: np.ndarray, member: np.ndarray, fields: dict[int, Field]) -> np.ndarray:
    """One Newton step, of least length, towards the zero levels of every node's fields.

    points (N, 3); member (N, tags) says which. Steps are at most one grid spacing.
    """
    rows = np.zeros((len(points), len(fields), 3))
    values = np.zeros((len(points), len(fields)))
    for k, (tag, field) in enumerate(fields.items()):
        index = np.flatnonzero(member[:, tag])
        rows[index, k] = field.gradient(points[index])
        values[index, k] = field(points[index])
    # least-norm solution of rows @ step = -values, damped where two fields are nearly parallel
    gram = rows @ rows.transpose(0, 2, 1) + 0.1 * np.eye(len(fields))
    step = -np.einsum("nki,nk->ni", rows, np.linalg.solve(gram, values[..., None])[..., 0])
    length = np.linalg.norm(step, axis=1, keepdims=True)
    limit = next(iter(fields.values())).spacing_mm
    return points + step * np.minimum(1.0, limit / np.maximum(length, 1e-12))
