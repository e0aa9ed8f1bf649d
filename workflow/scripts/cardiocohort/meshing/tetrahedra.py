"""Tetrahedra inside a closed surface, and their improvement. Owned by the meshing stage.

TetGen (Si, ACM TOMS 2015) fills the surface without touching it; what it leaves flat is improved by moving
interior nodes.
"""

import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..mesh.kernels import places
from ..mesh.model import FACETS
from ..mesh.tetrahedron_geometry import (
    EDGES,
    FACES,
    boundary_facets,
    row_keys,
    scaled_jacobian,
    signed_volumes,
    z_order,
)
from ..runtime.errors import KilledError, SubjectError
from . import kernels, tetgen_child
from .surface import Size, edges_of

MIN_RATIO, MIN_DIHEDRAL = 1.4, 15.0  # radius-edge ratio and degrees that TetGen aims at
TIMED_OUT = "tetgen timed out"
VOLUME_FACTOR = 1.3  # of the regular tetrahedron: TetGen halves what is larger
GOOD, BAD = 0.2, 0.12  # scaled Jacobian below which a tet is improved, and with surface nodes too
# signals that come from outside (memory, scancel, Ctrl-C); a crash of TetGen's own has others
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)
ENDOCARDIA = ("lv_endo", "rv_endo")
SPLITTING_ROUNDS = 20  # each takes one of tetrahedra that are neighbours
ROUNDS = 4  # of improvement; most of the gain is in the first two


@dataclass(frozen=True)
class Finer:
    """Regions with shorter edges than the rest: a point (R, 3) in each, mm, and the edge length of all."""

    points_mm: np.ndarray
    edge_length_mm: float


def tetrahedralize(
    points_mm: np.ndarray,
    facets: np.ndarray,
    edge_length_mm: float,
    seconds: float,
    megabytes: float,
    finer: Finer | None = None,
):
    """Points (N', 3) and tets (M, 4) inside a closed surface whose points come first, unmoved.

    Runs in a process of its own; SubjectError if TetGen refuses, crashes or exceeds `seconds` or
    `megabytes`, KilledError if it is ended from outside or cannot be run at all.
    """
    with tempfile.TemporaryDirectory(prefix="tetgen-") as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(
            source,
            points=points_mm,
            facets=facets,
            min_ratio=MIN_RATIO,
            min_dihedral=MIN_DIHEDRAL,
            max_volume=max_volume_mm3(edge_length_mm),
            megabytes=megabytes,
            fine=np.column_stack(
                [finer.points_mm, np.full(len(finer.points_mm), max_volume_mm3(finer.edge_length_mm))]
            )
            if finer
            else np.zeros((0, 4)),
        )
        try:
            done = subprocess.run(
                [sys.executable, tetgen_child.__file__, str(source), str(target)],
                capture_output=True, text=True, timeout=seconds, check=False,
                cwd=folder,  # TetGen drops files where it runs
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise SubjectError(TIMED_OUT, f"no result within {seconds:g} s") from error
        if -done.returncode in FROM_OUTSIDE:
            raise KilledError(
                f"TetGen was ended by {signal.Signals(-done.returncode).name}, often for lack of memory; run "
                "the same command again, with more memory (mem_mb) or fewer threads"
            )
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if done.returncode < 0 or done.returncode == tetgen_child.REFUSED:
            more = (
                "meshing.tetgen_mb" if "emory" in last else "meshing.smoothing_mm, or another edge_length_mm"
            )
            raise SubjectError(
                "tetgen failed", f"exit status {done.returncode}: {last.rstrip('.')}; set a larger {more}"
            )
        if done.returncode != 0 or not target.is_file():
            raise KilledError(
                f"TetGen could not be run: {last}; the heart is not the cause: repair the installation or "
                "the disk and run the same command again"
            )
        with np.load(target) as mesh:
            return mesh["points"].astype(float), mesh["tets"].astype(np.int64)


def max_volume_mm3(edge_length_mm):
    """Volume beyond which a tetrahedron is halved, of an edge length or an array of them."""
    return VOLUME_FACTOR * edge_length_mm**3 / (6 * np.sqrt(2))


def split_large(points: np.ndarray, tets: np.ndarray, size_mm: Size):
    """Points and tets with those halved that are too large for the edge length at their centroid.

    TetGen knows one size, the largest; where less is asked for its surface makes it finer nearby only.
    """
    for _ in range(SPLITTING_ROUNDS):
        large = signed_volumes(points, tets) > max_volume_mm3(size_mm(points[tets].mean(axis=1)))
        points, tets, n = bisect(points, tets, large)
        if n == 0:
            break
    return points, tets


def refine(points: np.ndarray, tets: np.ndarray, facets: np.ndarray, tag: np.ndarray, reach_mm: float):
    """Points, tets, facets and tags of the improved mesh: no tet clamped to one surface, no flat ones.

    Flat tets with two facets on one patch are peeled off, those that span the wall from surface to
    surface get a node inside, and nodes of poor tets are moved, those of the surface by no more than
    `reach_mm`.
    """
    anchor = points
    for _ in range(ROUNDS):
        tets, facets, tag = peel(points, tets, facets, tag)
        on_surface = np.isin(tets, facets).all(axis=1)
        flat = on_surface & (scaled_jacobian(points[tets]) < GOOD)
        points, tets, _ = bisect(points, tets, flat | clamped(tets, facets, tag, ENDOCARDIA), facets)
        points = improve(points, tets, anchor, reach_mm, surface=facets)
    while (bad := clamped(tets, facets, tag)).any():
        first = len(points)
        points, tets, n = bisect(points, tets, bad, facets)
        if n == 0:  # all their edges are on the surface
            points, tets = split_at_centroid(points, tets, bad)
        # improving all again would raise the worst tets and make more of them poor
        near = np.unique(tets[(tets >= first).any(axis=1)])
        points = improve(points, tets, anchor, reach_mm, near, facets)
    tets = tets[z_order(points[tets].mean(axis=1))]  # neighbours after each other: smaller files
    outward, _ = boundary_facets(tets)  # clustering leaves a facet the wrong way round now and then
    return points, tets, outward, _tags_of(outward, facets, tag, len(points))


def _tags_of(faces: np.ndarray, facets: np.ndarray, tag: np.ndarray, n: int) -> np.ndarray:
    """Tags of `faces`, which are `facets` in another order and other turns."""
    key = row_keys(np.sort(facets, axis=1), n)
    order = np.argsort(key)
    return tag[order[np.searchsorted(key[order], row_keys(np.sort(faces, axis=1), n))]]


def clamped(tets: np.ndarray, facets: np.ndarray, tag: np.ndarray, surfaces=tuple(FACETS)) -> np.ndarray:
    """(M,) whether all nodes of a tet lie on one of the `surfaces`, whose conditions would hold it whole."""
    on = [np.isin(tets, facets[tag == FACETS[name]]).all(axis=1) for name in surfaces]
    return np.any(on, axis=0)


def peel(points: np.ndarray, tets: np.ndarray, facets: np.ndarray, tag: np.ndarray):
    """Tets, facets and tags without the flat tets that have two facets on one patch.

    Such a tet is two triangles of the surface over two others; taking it off swaps the pair's diagonal.
    """
    faces, owner = boundary_facets(tets)
    tag_of = _tags_of(faces, facets, tag, len(points))
    surface_edges = np.unique(row_keys(edges_of(facets)[0], len(points)))
    uses = np.bincount(tets.ravel(), minlength=len(points))
    poor = (scaled_jacobian(points[tets]) < GOOD) & (np.bincount(owner, minlength=len(tets)) == 2)
    taken = np.zeros(len(points), dtype=bool)
    gone, old, new, new_tag = [], [], [], []
    for tet in np.flatnonzero(poor):
        pair = np.flatnonzero(owner == tet)
        shared = np.intersect1d(faces[pair[0]], faces[pair[1]])
        opposite = np.setdiff1d(tets[tet], shared)
        key = row_keys(opposite[None], len(points))[0]
        at = min(np.searchsorted(surface_edges, key), len(surface_edges) - 1)
        on_surface = surface_edges[at] == key
        one_tag = tag_of[pair[0]] == tag_of[pair[1]]
        if not one_tag or on_surface or taken[tets[tet]].any() or uses[shared].min() < 2:
            continue
        taken[tets[tet]] = True
        gone.append(tet)
        old.extend(row_keys(np.sort(faces[pair], axis=1), len(points)))
        inner = [face for face in tets[tet][FACES] if not np.isin(shared, face).all()]
        new.extend(face[::-1] for face in inner)  # outward of the tet that stays
        new_tag.extend([tag_of[pair[0]]] * 2)
    if not gone:
        return tets, facets, tag
    kept = ~np.isin(row_keys(np.sort(facets, axis=1), len(points)), old)
    return (
        np.delete(tets, gone, axis=0),
        np.concatenate([facets[kept], new]),
        np.concatenate([tag[kept], new_tag]),
    )


def bisect(points: np.ndarray, tets: np.ndarray, chosen: np.ndarray, surface: np.ndarray | None = None):
    """Points and tets with the longest interior edge of `chosen` tets (M,) halved, and how many were.

    An edge is halved in all tets around it; of chosen tets that share neighbours one is left for later.
    `surface`: the boundary's facets (F, 3) in any order, if known.
    """
    facets = boundary_facets(tets)[0] if surface is None else surface
    surface_edges = np.unique(row_keys(edges_of(facets)[0], len(points)))
    around = _around(tets, len(points))
    busy = np.zeros(len(tets), dtype=bool)
    edges = np.sort(tets[chosen][:, EDGES], axis=2)
    length = np.linalg.norm(points[edges[..., 0]] - points[edges[..., 1]], axis=2)
    inner = ~np.isin(row_keys(edges.reshape(-1, 2), len(points)), surface_edges).reshape(length.shape)
    longest = np.where(inner, length, -1.0).argmax(axis=1)
    middles, children = [], []
    for a, b in edges[np.arange(len(edges)), longest][inner.any(axis=1)]:
        ring = np.intersect1d(around(a), around(b), assume_unique=True)
        if not busy[ring].any():
            busy[ring] = True
            middle = len(points) + len(middles)
            middles.append((points[a] + points[b]) / 2)
            children += [np.where(tets[ring] == end, middle, tets[ring]) for end in (a, b)]
    if not middles:
        return points, tets, 0
    return np.vstack([points, middles]), np.concatenate([tets[~busy], *children]), len(middles)


def split_at_centroid(points: np.ndarray, tets: np.ndarray, chosen: np.ndarray):
    """Points and tets with a node at the centroid of each of the `chosen` tets (M,), which become four."""
    middle = len(points) + np.arange(chosen.sum())
    children = np.repeat(tets[chosen][:, None], 4, axis=1)
    children[:, range(4), range(4)] = middle[:, None]
    return (
        np.vstack([points, points[tets[chosen]].mean(axis=1)]),
        np.concatenate([tets[~chosen], children.reshape(-1, 4)]),
    )


def improve(
    points: np.ndarray,
    tets: np.ndarray,
    anchor: np.ndarray,
    reach_mm: float,
    among: np.ndarray | None = None,
    surface: np.ndarray | None = None,
) -> np.ndarray:
    """Points with the nodes of poor tets moved to where their worst tet is best.

    Each node in turn tries the middle of its neighbours and steps of shrinking length along a fixed
    set of directions; a move counts only if the worst scaled Jacobian around the node grows. Interior
    nodes of tets below GOOD move freely; nodes of the surface, the first of `points`, only for tets
    below BAD and only within `reach_mm` of their place in `anchor` (S, 3). `among`: the only nodes to move.
    `surface`: its facets (F, 3) in any order, if known or more than the boundary.
    """
    points, tets = np.array(points, dtype=float, order="C"), np.ascontiguousarray(tets)
    on_surface = np.zeros(len(points), dtype=bool)
    on_surface[boundary_facets(tets)[0] if surface is None else surface] = True
    directions = np.concatenate([np.eye(3), -np.eye(3), _corners()])
    order, start = places(tets, len(points))
    quality, changed = np.empty(len(tets)), np.ones(len(tets), dtype=bool)
    for step in 0.3 * 0.5 ** np.arange(4):
        quality[changed] = scaled_jacobian(points[tets[changed]])
        inner, outer = np.unique(tets[quality < GOOD]), np.unique(tets[quality < BAD])
        moved = np.concatenate([inner[~on_surface[inner]], outer[on_surface[outer]]])
        nodes = moved if among is None else moved[np.isin(moved, among)]
        kernels.move_nodes(
            points, tets, FACES, nodes, order, start, anchor, on_surface, reach_mm, step, directions
        )
        changed = _has(tets, nodes, len(points))
    return points


def _has(tets: np.ndarray, nodes: np.ndarray, n: int) -> np.ndarray:
    """(M, 4) -> (M,) whether a tet has any of some nodes, of n."""
    chosen = np.zeros(n, dtype=bool)
    chosen[nodes] = True
    return chosen[tets].any(axis=1)


def _around(tets: np.ndarray, n: int):
    """A function node -> sorted indices of the tets that have it."""
    order, start = places(np.ascontiguousarray(tets), n)
    return lambda node: order[start[node] : start[node + 1]] // 4


def _corners() -> np.ndarray:
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    return signs / np.sqrt(3)
