"""Where on the right ventricle's free wall a point lies, before there is a mesh. Owned by the meshing stage.

The nine segments: three sectors, inferior, lateral and anterior, at three levels, as in "Noninvasive
delineation of normal right ventricular contractile motion with magnetic resonance imaging myocardial
tagging", Ann Biomed Eng 26:756 (1998), doi:10.1114/1.75. Levels and sectors are thirds of the two coordinates
of the finished mesh (`microstructure.coordinates`), here on the surface of the blood: from the tip of the
septum to the base, and from the posterior junction of the ventricles over the free wall to the anterior one.
"""

from dataclasses import dataclass

import numpy as np
import pyvista
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from ..mesh.tetrahedron_geometry import row_keys
from ..runtime.errors import SubjectError
from .settings import SECTORS
from .signed_distance import Field

REASON = "no segments of the RV wall"
# Thickness changes within this share of the wall on either side of a border: 1/6 of a segment, 4 to 6 mm.
# With 1/4 of it the median of a segment, which is gated, would miss 12 % of the step to its neighbours.
BORDER = 1 / 18
TIP = 1 / 18  # below this share of the height the sectors, which meet at the tip, go to their mean
SIDEWAYS = 0.01  # weight of what a length may change across its direction, as in `microstructure.laplace`
# of points on a surface, asked for many others: half the time of a balanced tree with smaller leaves
QUICK_TREE = {"leafsize": 32, "balanced_tree": False, "compact_nodes": False}
LEAST_MM2 = 1e-3  # area of a triangle, so that the slivers of an isosurface stay harmless


@dataclass(frozen=True)
class FreeWall:
    """Points (N, 3), mm, of the free wall's endocardium, and where they are.

    rise (N,): 0 at the tip of the septum, 1 at the base. turn (N,): 0 at the posterior junction, 1 at the
    anterior one.
    """

    points_mm: np.ndarray
    rise: np.ndarray
    turn: np.ndarray

    def at(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rise and turn (n,) of the nearest point of the wall, for points (n, 3)."""
        nearest = cKDTree(self.points_mm).query(points_mm)[1]
        return self.rise[nearest], self.turn[nearest]

    def segments(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index (n,) into LEVELS and into SECTORS, for points (n, 3)."""
        rise, turn = self.at(points_mm)
        return _third(1 - rise), _third(1 - turn)

    def thickness_mm(self, points_mm: np.ndarray, walls_mm: np.ndarray) -> np.ndarray:
        """Thickness (n,) beside points (n, 3), from that of the segments (levels, sectors).

        It is the segment's but near a border, where it goes smoothly to the neighbour's.
        """
        rise, turn = self.at(points_mm)
        level, sector = _weights(1 - rise), _weights(1 - turn)
        apart = _smooth_step(rise / TIP)[:, None]
        sector = apart * sector + (1 - apart) / len(SECTORS)
        return np.einsum("nl,ns,ls->n", level, sector, walls_mm)


def _third(share: np.ndarray) -> np.ndarray:
    return np.clip((3 * share).astype(int), 0, 2)


def _weights(share: np.ndarray) -> np.ndarray:
    """(n, 3) weights of the thirds at shares (n,) of a length; they add up to 1."""
    beyond = [_smooth_step((share - border + BORDER) / (2 * BORDER)) for border in (1 / 3, 2 / 3)]
    return np.stack([1 - beyond[0], beyond[0] - beyond[1], beyond[1]], axis=1)


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def free_wall(outer: Field, lv: Field, rv: Field, base: Field) -> FreeWall:
    """The free wall of a heart's fields, negative inside (`domain.Domain`).

    It is where the epicardium is nearer to the RV's endocardium than the LV's is. SubjectError where it has
    no border with the septum on both sides.
    """
    rv_points, triangles = _contour(rv, base)
    outside, inside = _contour(outer, base)[0], _contour(lv, base)[0]
    near, far = (cKDTree(wall, **QUICK_TREE).query(rv_points)[0] for wall in (outside, inside))
    free = near < far
    edges = _edges(triangles)
    wall = _largest_piece(free, edges)
    mixed = wall[edges[:, 0]] != wall[edges[:, 1]]
    border = np.unique(edges[mixed])
    border = border[wall[border]]
    if not len(border):
        raise SubjectError(REASON, "the right ventricle's free wall does not meet the septum")
    septum = rv_points[~wall].mean(axis=0)
    side = (rv_points[border] - septum) @ _anterior(inside, lv, base, rv_points)
    triangles = triangles[wall[triangles].all(axis=1)]
    triangles = triangles[_largest_piece(wall, _edges(triangles))[triangles[:, 0]]]
    kept, compact = np.unique(triangles, return_inverse=True)
    points, triangles = rv_points[kept], compact.reshape(-1, 3)
    anterior, posterior = (np.flatnonzero(np.isin(kept, border[s])) for s in (side > 0, side <= 0))
    basal = np.flatnonzero(base(points) > -1.5 * base.spacing_mm)
    if not (len(anterior) and len(posterior) and len(basal)):
        raise SubjectError(REASON, "a border of its free wall is missing: anterior, posterior or the base")
    tip = _tip(points, triangles, anterior, posterior)
    shape = _hats(points, triangles)
    rise = _share(points, triangles, shape, tip, basal)
    turn = _share(points, triangles, shape, posterior, anterior)
    if not (np.isfinite(rise).all() and np.isfinite(turn).all()):
        raise SubjectError(REASON, "the coordinates on its free wall could not be solved for")
    return FreeWall(points, rise, turn)


def _contour(field: Field, base: Field) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) and triangles (M, 3) of a field's zero level below the base; every point is in one."""
    image = pyvista.ImageData(
        dimensions=field.values.shape, spacing=(field.spacing_mm,) * 3, origin=field.origin_mm
    )
    image.point_data["value"] = field.values.ravel(order="F")
    surface = image.contour([0.0], "value", method="flying_edges").clean()
    triangles = np.zeros((0, 3), dtype=int)
    if surface.n_cells:
        points, triangles = np.asarray(surface.points, dtype=float), surface.regular_faces
        triangles = triangles[(base(points) < 0)[triangles].all(axis=1)]
    if not len(triangles):
        raise SubjectError(REASON, "a wall has no part below the valve planes")
    kept, compact = np.unique(triangles, return_inverse=True)
    return points[kept], compact.reshape(-1, 3)


def _anterior(lv_points: np.ndarray, lv: Field, base: Field, rv_points: np.ndarray) -> np.ndarray:
    """Unit vector (3,) towards anterior, as `microstructure.junctions.heart_axes` has it."""
    near_base = base(lv_points) > -1.5 * lv.spacing_mm
    if not near_base.any():
        raise SubjectError(REASON, "the left ventricle does not reach its valve plane")
    rim = lv_points[near_base].mean(axis=0)
    apex = lv_points[np.argmax(np.linalg.norm(lv_points - rim, axis=1))]
    long = (rim - apex) / np.linalg.norm(rim - apex)
    across = np.cross(long, rv_points.mean(axis=0) - lv_points.mean(axis=0))
    return across / np.linalg.norm(across)


def _largest_piece(mask: np.ndarray, edges: np.ndarray) -> np.ndarray:
    inside = edges[mask[edges].all(axis=1)]
    n = len(mask)
    graph = sparse.coo_array((np.ones(len(inside)), inside.T), shape=(n, n))
    piece = connected_components(graph, directed=False)[1]
    if not mask.any():
        return mask
    return mask & (piece == np.bincount(piece[mask]).argmax())


def _edges(triangles: np.ndarray) -> np.ndarray:
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    _, first = np.unique(row_keys(edges, edges.max(initial=0) + 1), return_index=True)
    return edges[first]


def _tip(points, triangles, anterior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Nodes of the border where its anterior and posterior half come closest along the wall."""
    edges = _edges(triangles)
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    graph = sparse.coo_array((np.maximum(length, 1e-6), edges.T), shape=(len(points),) * 2).tocsr()
    far = sum(dijkstra(graph, directed=False, indices=half, min_only=True) for half in (anterior, posterior))
    border = np.union1d(anterior, posterior)
    return border[far[border] <= far[border].min() + np.median(length)]


def _hats(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients (M, 3, 3), per mm, of the hat functions of triangles, and their areas (M,), mm2."""
    corners = points[triangles]
    opposite = np.roll(corners, 1, axis=1) - np.roll(corners, -1, axis=1)  # edge opposite to each corner
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.maximum(np.linalg.norm(normal, axis=1), 2 * LEAST_MM2)
    return np.cross((normal / twice[:, None])[:, None], opposite) / twice[:, None, None], twice / 2


def _share(points, triangles, shape, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Share (N,) of the way from nodes `start` to `end` along the gradient of a harmonic field.

    As `microstructure.laplace.share_of_length`, on a surface.
    """
    hats, area = shape
    n = len(points)
    full = np.einsum("mki,mli->mkl", hats, hats)
    harmonic = _held(_assembled(triangles, area[:, None, None] * full, n), np.zeros(n), start, end)
    slope = np.einsum("mki,mk->mi", hats, harmonic[triangles])
    up = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), np.finfo(float).tiny)
    along = np.einsum("mki,mi->mk", hats, up)
    weighted = (1 - SIDEWAYS) * along[:, :, None] * along[:, None, :] + SIDEWAYS * full
    matrix = _assembled(triangles, area[:, None, None] * weighted, n)
    right = np.bincount(triangles.ravel(), (area[:, None] * along).ravel(), minlength=n)
    before = np.maximum(_held(matrix, right, start), 0)
    behind = np.maximum(_held(matrix, -right, end), 0)
    return before / np.maximum(before + behind, np.finfo(float).tiny)


def _assembled(triangles: np.ndarray, local: np.ndarray, n: int) -> sparse.csr_array:
    rows, columns = np.repeat(triangles, 3, axis=1).ravel(), np.tile(triangles, 3).ravel()
    return sparse.coo_array((local.ravel(), (rows, columns)), shape=(n, n)).tocsr()


def _held(matrix, right: np.ndarray, zero: np.ndarray, one: np.ndarray | None = None) -> np.ndarray:
    """Solution (N,) of a system with 0 held at some nodes and 1 at others."""
    field, free = np.zeros(len(right)), np.ones(len(right), dtype=bool)
    if one is not None:
        field[one], free[one] = 1.0, False
    field[zero], free[zero] = 0.0, False
    rest = (right - matrix @ field)[free]
    field[free] = spsolve(matrix[free][:, free].tocsc(), rest)
    return field
