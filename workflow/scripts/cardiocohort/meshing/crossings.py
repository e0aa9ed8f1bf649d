"""Where a surface crosses itself, and how such places are opened. Owned by the meshing stage.

TetGen refuses a surface that crosses itself. Sharpening the rims (`surface.fit`) can cause it: a rim node
that moves far pushes its facets through the wall next to it. Before it moved, the surface had no crossing.
"""

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from ..mesh.model import FACETS
from ..runtime.errors import SubjectError
from .domain import Domain
from .surface import TaggedSurface

REASON = "surface crosses itself"
ROUNDS = 10  # each halves what the nodes have moved, at last to a thousandth
RINGS = 2  # of facets around a crossing whose nodes go back: fewer leave a step at the next facet
N_PLACES = 3  # that a message names
FLAT = 1e-9  # of the cube of a facet's size: smaller volumes are rounding
USUAL = 0.95  # quantile of the facets' sizes up to which they are searched for together
APART_MM = 10.0  # nearer crossings are one place
REGION_WORDS = {"lv": "free wall of the LV", "rv": "free wall of the RV", "septum": "septum"}


def crossings(points: np.ndarray, facets: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Pairs (K, 2) of facets of which an edge of the one passes through the other, in ascending order.

    points (N, 3), facets (F, 3); among (F,): facets of which each pair has one at least, all if None. Facets
    that share a node are compared by the edges without that node;
    neighbours that share an edge cannot cross. Segment against triangle by the signs of volumes, as in
    Guigue and Devillers (J. Graphics Tools 2003). Facets in one plane do not cross, as on a flat base.
    """
    corners = points[facets]
    low, high = corners.min(axis=1), corners.max(axis=1)
    reach = np.linalg.norm(high - low, axis=1) / 2
    pairs = _neighbours((low + high) / 2, reach, np.ones(len(facets), bool) if among is None else among)
    first, second = pairs.T
    pairs = pairs[((low[first] <= high[second]) & (low[second] <= high[first])).all(axis=1)]
    same = facets[pairs[:, 0]][:, :, None] == facets[pairs[:, 1]][:, None, :]
    crossed = np.zeros(len(pairs), dtype=bool)
    for (one, other), common in ((pairs.T, same.any(axis=2)), (pairs.T[::-1], same.any(axis=1))):
        for edge in ([0, 1], [1, 2], [2, 0]):
            index = np.flatnonzero(~common[:, edge].any(axis=1) & ~crossed)
            ends = points[facets[one[index]][:, edge]]
            crossed[index] = _pierces(ends, corners[other[index]], FLAT * reach.max() ** 3)
    return pairs[crossed]


def _neighbours(middle: np.ndarray, reach: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(K, 2) pairs of balls that may touch, in ascending order, one at least of `among`.

    Few facets are much larger than the rest: with one radius for all there would be ten times the pairs.
    """
    usual = reach <= np.quantile(reach, USUAL)
    found = [np.zeros(0, dtype=np.int64)]
    for one, other in ((usual, usual), (usual, ~usual), (~usual, usual), (~usual, ~usual)):
        first, second = np.flatnonzero(one & among), np.flatnonzero(other)
        if len(first) and len(second):
            trees = cKDTree(middle[first]), cKDTree(middle[second])
            radius = reach[first].max() + reach[second].max()
            near = trees[0].sparse_distance_matrix(trees[1], radius, output_type="ndarray")
            a, b = first[near["i"]], second[near["j"]]
            a, b = np.minimum(a, b), np.maximum(a, b)
            found.append((a * len(middle) + b)[(a < b) & (near["v"] <= reach[a] + reach[b])])
    key = np.unique(np.concatenate(found))
    return np.stack([key // len(middle), key % len(middle)], axis=1)


def _pierces(segments: np.ndarray, triangles: np.ndarray, flat_mm3: float) -> np.ndarray:
    """(K,) whether segments (K, 2, 3) pass through triangles (K, 3, 3), from one side to the other."""
    (p, q), (a, b, c) = np.moveaxis(segments, 1, 0), np.moveaxis(triangles, 1, 0)
    sides = np.stack([_volume(p, q, a, b), _volume(p, q, b, c), _volume(p, q, c, a)])
    inside = (sides >= 0).all(axis=0) | (sides <= 0).all(axis=0)
    ends = np.stack([_volume(p, a, b, c), _volume(q, a, b, c)])
    return inside & (np.abs(ends) > flat_mm3).all(axis=0) & (ends[0] * ends[1] < 0)


def _volume(o: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a - o, np.cross(b - o, c - o))


def open_crossings(
    skin: TaggedSurface, domain: Domain, edges_mm: dict[str, float]
) -> tuple[TaggedSurface, str]:
    """The surface without crossings, and what was done to it.

    Nodes around a crossing go half of the way back to where they were before the rims were sharpened, until
    nothing crosses. The rim stays a bevel there. SubjectError as of `check_crossings` if that does not help.
    """
    points = skin.points_mm
    for _ in range(ROUNDS):
        pairs = crossings(points, skin.facets)
        if not len(pairs):
            break
        near = np.isin(np.arange(len(points)), skin.facets[pairs])
        for _ in range(RINGS - 1):
            near[skin.facets[near[skin.facets].any(axis=1)]] = True
        points = np.where(near[:, None], (points + skin.start_mm) / 2, points)
    opened = replace(skin, points_mm=points)
    check_crossings(opened, domain, edges_mm)
    back_mm = np.linalg.norm(points - skin.points_mm, axis=1)
    if not back_mm.any():
        return opened, ""
    return opened, (
        f"surface crossed itself: {np.count_nonzero(back_mm)} nodes moved by up to {back_mm.max():.1f} mm"
    )


def check_crossings(
    skin: TaggedSurface, domain: Domain, edges_mm: dict[str, float]
) -> tuple[TaggedSurface, str]:
    """The surface as it is, unchanged (""), if it does not cross itself.

    Else SubjectError that says where it does, and which settings to change; edges_mm: edge length by region.
    """
    pairs = crossings(skin.points_mm, skin.facets)
    if not len(pairs):
        return skin, ""
    places = skin.points_mm[skin.facets[pairs]].mean(axis=(1, 2))
    regions = domain.region(places)
    said = []
    for k in _apart(places)[:N_PLACES]:
        walls = " and ".join(name for name, tag in FACETS.items() if tag in skin.tag[pairs[k]])
        at = ", ".join(f"{mm:.0f}" for mm in places[k])
        depth = -float(domain.base(places[k : k + 1])[0])
        said.append(f"({at}) mm ({walls}, {REGION_WORDS[regions[k]]}, {depth:.0f} mm below the base)")
    keys = {"lv": "edge_length_mm", "rv": "rv_edge_length_mm", "septum": "septum_edge_length_mm"}
    advice = " and ".join(
        f"meshing.{keys[region]} below {edges_mm[region]:g}" for region in keys if region in regions
    )
    raise SubjectError(
        REASON,
        f"{len(pairs)} pairs of facets cross, in the heart frame at {'; '.join(said)}; set {advice}, or a "
        "larger meshing.smoothing_mm",
    )


def _apart(places: np.ndarray) -> list[int]:
    """Indices of places (K, 3) that are far from those before them."""
    chosen: list[int] = []
    for k, place in enumerate(places):
        if all(np.linalg.norm(place - places[other]) > APART_MM for other in chosen):
            chosen.append(k)
    return chosen
