"""The muscle of both ventricles as signed distance fields, from a label map. Owned by meshing.

The label map has no right-ventricular wall and no base. The wall is a shell around the RV blood; the
base lies on two valve planes, one per ventricle, each as far from the apex as its valves permit, blended
across the septum, or on one plane below all valves. In a map of the ventricles alone the left one's largest
bare patches are its valves, and the right one is cut across the same axis, near its top. Every boundary is
smoothed on its own before the fields are combined: smoothing the shell itself would thin it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..anatomy.contacts import opening_patches
from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..runtime.errors import SubjectError
from .free_wall import FreeWall, free_wall
from .settings import LEVELS, SECTORS, MeshSettings
from .signed_distance import Field, smooth_distance, smooth_min

GRID_MM = 1.25  # half an edge; distances on it err by less than 0.1 mm
VOXEL_SMOOTHING = 0.75  # of the voxel size at least, or the steps of the voxels stay
CREASE_MM = 4.0  # rounding where the RV wall meets the LV: a sharp crease makes bad triangles
BLEND_MM = 20.0  # over this difference of the distances to both cavities the valve planes blend
MAX_LOWERING_MM = 20.0
SPECK_MM3 = 20.0  # smaller pieces of an opening are corners of the grid
SLIT_MM = 4.0  # a narrower passage between two openings would not survive the meshing
N_DIRECTIONS = 2000  # on the sphere: 4 degrees apart
SECOND_VALVE = 0.2  # of the larger one's area, where bare patches stand in for valves
TOP_SHARE = 0.03  # of a right ventricle without valves: what lies above its plane
VALVES = {"left_ventricle": ("left_atrium", "aorta"), "right_ventricle": ("right_atrium", "pulmonary_artery")}


@dataclass(frozen=True)
class Plane:
    """Points x with normal . x = offset_mm; the normal points away from the apex."""

    normal: np.ndarray
    offset_mm: float

    def height(self, points_mm: np.ndarray) -> np.ndarray:
        return points_mm @ self.normal - self.offset_mm


@dataclass(frozen=True)
class Domain:
    """Fields, negative inside: `outer` (epicardium), both blood pools, `base` (below the valves).

    `wall`: where on the RV's free wall a point lies, None if that could not be found; `lowered_mm`: by how
    much each valve plane went below its valves; `filled_ml`: pits closed.
    """

    outer: Field
    lv: Field
    rv: Field
    base: Field
    wall: FreeWall | None
    lowered_mm: tuple[float, float]
    filled_ml: float

    def region(self, points_mm: np.ndarray) -> np.ndarray:
        """(N,) names "lv", "rv", "septum": by the wall farthest from each point (N, 3)."""
        walls = {"septum": self.outer, "lv": self.rv, "rv": self.lv}
        farthest = np.argmax([np.abs(field(points_mm)) for field in walls.values()], axis=0)
        return np.array(list(walls))[farthest]

    @property
    def muscle(self) -> Field:
        """Their combination: negative in the muscle that is meshed, its largest piece only."""
        values = np.maximum.reduce([self.outer.values, -self.lv.values, -self.rv.values, self.base.values])
        pieces, n = ndimage.label(values < 0)
        if n == 0:
            raise SubjectError("empty mesh domain", "no muscle lies below the valve planes")
        if n > 1:
            size = np.bincount(pieces.ravel())
            size[0] = 0
            others = (pieces > 0) & (pieces != size.argmax())
            values = np.where(others, GRID_MM, values)
        return self.outer.like(values)


def domain(labelmap: LabelMap, anatomy: Anatomy, settings: MeshSettings) -> Domain:
    """Fields of the muscle; SubjectError where a ventricle is missing or has no valve."""
    labels, axes = labelmap.labels, labelmap.axes_mm
    spacing = np.asarray(labelmap.spacing_mm)
    lv = _largest(labels == anatomy.label("left_ventricle"), "left_ventricle")
    rv = _largest(labels == anatomy.label("right_ventricle"), "right_ventricle")
    myocardium = _largest(labels == anatomy.label("myocardium"), "myocardium")
    if not np.isin(labels, [anatomy.label(name) for names in VALVES.values() for name in names]).any():
        planes = _planes_without_valves(labelmap, anatomy, settings)
    elif settings.base == "one_plane":
        planes = (valve_plane(labelmap, anatomy, tuple(VALVES), settings.valve_clearance),) * 2
    else:
        planes = tuple(valve_plane(labelmap, anatomy, (v,), settings.valve_clearance) for v in VALVES)

    smoothing = smoothing_mm(labelmap, settings)
    margin = max(settings.rv_segments_mm.values()) + settings.min_lv_wall_mm + 6.0
    crop, pad, origin = _crop(lv | rv | myocardium, axes, spacing, margin)

    def distance(mask):
        return smooth_distance(np.pad(mask[crop], pad), origin, spacing, GRID_MM, smoothing)

    blood_lv, blood_rv, lv_epi = distance(lv), distance(rv), distance(lv | myocardium)
    # a septum of at least the smallest wall, whatever the labels leave
    rv_values = np.maximum(blood_rv.values, settings.min_lv_wall_mm - blood_lv.values)
    lv_side = np.minimum(lv_epi.values, blood_lv.values - settings.min_lv_wall_mm)
    like = blood_lv.like
    blood_rv = like(rv_values)
    base, lowered = _single_openings(blood_lv, blood_rv, planes)
    outer = smooth_min(lv_side, rv_values - settings.rv_wall_mm, CREASE_MM)
    wall = _free_wall(like(outer), blood_lv, blood_rv, base, needed=settings.has_regional_walls)
    if settings.has_regional_walls:
        outer = smooth_min(lv_side, rv_values - _rv_wall_mm(settings, wall, blood_rv), CREASE_MM)
    outer, filled = _fill_pockets(outer, base.values)
    filled_ml = float(filled.sum()) * GRID_MM**3 / 1000.0
    return Domain(like(outer), blood_lv, blood_rv, base, wall, lowered, filled_ml)


def smoothing_mm(labelmap: LabelMap, settings: MeshSettings) -> float:
    """Smoothing of the label map's boundaries: as set, but no less than its voxels need."""
    return max(settings.smoothing_mm, VOXEL_SMOOTHING * max(labelmap.spacing_mm))


def _free_wall(outer: Field, lv: Field, rv: Field, base: Field, needed: bool) -> FreeWall | None:
    """The RV's free wall; without one a heart whose wall is uniform can still be meshed."""
    try:
        return free_wall(outer, lv, rv, base)
    except SubjectError:
        if needed:
            raise
        return None


def _rv_wall_mm(settings: MeshSettings, wall: FreeWall, rv: Field) -> np.ndarray:
    """Set thickness of the RV's wall at every point of the grid that may lie near its outside."""
    walls_mm = np.array(list(settings.rv_segments_mm.values())).reshape(len(LEVELS), len(SECTORS))
    near = (rv.values > -GRID_MM) & (rv.values < walls_mm.max() + CREASE_MM + 2 * GRID_MM)
    thickness = np.full(rv.values.shape, settings.rv_wall_mm)
    thickness[near] = wall.thickness_mm(rv.points()[near], walls_mm)
    return thickness


def _single_openings(lv: Field, rv: Field, planes: tuple[Plane, Plane]) -> tuple[Field, tuple[float, float]]:
    """The blended base field, each plane lowered until its cavity has one opening, and by how much.

    Where the crest between two valves reaches above the plane, the muscle there would bridge the
    opening, and the surface would no longer be that of a ball.
    """
    points = lv.points()
    weight = np.clip(0.5 + (rv.values - lv.values) / (2 * BLEND_MM), 0.0, 1.0)
    heights = [plane.height(points) for plane in planes]
    lowered = [0.0, 0.0]
    while max(lowered) <= MAX_LOWERING_MM:
        base = weight * (heights[0] + lowered[0]) + (1 - weight) * (heights[1] + lowered[1])
        several = [n_openings(blood.values, base) > 1 for blood in (lv, rv)]
        if not any(several):
            return lv.like(base), tuple(lowered)
        if planes[0] is planes[1]:
            several = [True, True]  # one plane stays one
        lowered = [mm + 1.0 * more for mm, more in zip(lowered, several, strict=True)]
    raise SubjectError(
        "cavity has several openings",
        f"a crest between the valves stays above planes lowered by {MAX_LOWERING_MM:g} mm",
    )


def n_openings(blood: np.ndarray, base: np.ndarray) -> int:
    """Separate openings of a cavity in the grid layers just below the base.

    Counted on blood a little off the wall, so that openings joined by a slit count as two.
    """
    pieces, _ = ndimage.label((blood < -SLIT_MM / 2) & (base < 0) & (base > -2 * GRID_MM))
    return int((np.bincount(pieces.ravel())[1:] * GRID_MM**3 > SPECK_MM3).sum())


def _fill_pockets(outer: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`outer` without pits that are open to the base only (the aortic root's), and where they were."""
    pieces, _ = ndimage.label((outer > 0) & (base < 0))
    rim = [np.take(pieces, i, axis) for axis in range(3) for i in (0, -1)]
    outside = np.unique(np.concatenate([face.ravel() for face in rim]))
    pits = (pieces > 0) & ~np.isin(pieces, outside)
    # some layers above the base too, so that the lid's facets see the base as the active field
    lids = ndimage.binary_dilation(pits, iterations=3, mask=outer > 0) if pits.any() else pits
    return np.where(lids, -np.maximum(outer, GRID_MM), outer), pits


def valve_plane(labelmap: LabelMap, anatomy: Anatomy, ventricles: tuple[str, ...], clearance: float) -> Plane:
    """The plane below the valves of one or both ventricles under which most of their blood lies.

    At most the share `clearance` of each valve's contact area lies below the plane. Found among
    directions spread evenly over the half sphere towards the valves. SubjectError without a valve.
    """
    axes = labelmap.axes_mm
    valves = []
    for ventricle in ventricles:
        cavity = labelmap.labels == anatomy.label(ventricle)
        met = [contact_points(cavity, labelmap.labels == anatomy.label(n), axes) for n in VALVES[ventricle]]
        if not any(map(len, met)):
            reason = f"{ventricle} has no valve"
            raise SubjectError(reason, f"no contact with {' or '.join(VALVES[ventricle])}")
        valves += [points for points in met if len(points)]
    blood = np.isin(labelmap.labels, [anatomy.label(ventricle) for ventricle in ventricles])
    return _plane_below(valves, _voxel_points(blood, axes), clearance)


def _planes_without_valves(
    labelmap: LabelMap, anatomy: Anatomy, settings: MeshSettings
) -> tuple[Plane, Plane]:
    """Planes of a map that has neither atria nor great arteries.

    The left ventricle's valves are the patches of its surface that no myocardium covers (`opening_patches`; a
    small second one is none). The right ventricle has no wall in the map, so that its opening cannot be seen:
    its plane is across the left one's axis.
    """
    labels, axes = labelmap.labels, labelmap.axes_mm
    lv, rv, wall = (
        labels == anatomy.label(name) for name in ("left_ventricle", "right_ventricle", "myocardium")
    )
    met = [_voxel_points(patch, axes) for patch in opening_patches(lv, wall, labelmap.spacing_mm)]
    if not met:
        raise SubjectError("left_ventricle has no valve", "the myocardium covers all of it")
    met = [points for points in met if len(points) >= SECOND_VALVE * len(met[0])]
    left = _plane_below(met, _voxel_points(lv, axes), settings.valve_clearance)
    heights = _voxel_points(rv, axes) @ left.normal
    right = Plane(left.normal, float(np.quantile(heights, 1.0 - TOP_SHARE)))
    if settings.base == "one_plane":
        left = right = Plane(left.normal, min(left.offset_mm, right.offset_mm))
    return left, right


def _plane_below(valves: list[np.ndarray], blood_points: np.ndarray, clearance: float) -> Plane:
    """The plane below valves (N, 3) mm each, as `valve_plane` describes it, of blood (N, 3) mm."""
    centre = blood_points.mean(axis=0)
    towards = np.concatenate(valves).mean(axis=0) - centre
    directions = _fibonacci_sphere(N_DIRECTIONS)
    directions = directions[directions @ towards > 0.3 * np.linalg.norm(towards)]
    offsets = np.min([np.quantile((p - centre) @ directions.T, clearance, axis=0) for p in valves], axis=0)
    sample = blood_points[:: max(1, len(blood_points) // 5000)] - centre
    kept = (sample @ directions.T < offsets).mean(axis=0)
    # among the directions that keep as much (within 0.5 %), their mean: less at the mercy of single voxels
    near = directions[kept >= kept.max() - 0.005]
    normal = near.mean(axis=0) / np.linalg.norm(near.mean(axis=0))
    offset = min(np.quantile(p @ normal, clearance) for p in valves)
    return Plane(normal, float(offset))


def contact_points(a: np.ndarray, b: np.ndarray, axes_mm) -> np.ndarray:
    """Centres (N, 3), in mm, of the voxel faces that the masks share."""
    per_axis = []
    for axis in range(3):
        low = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        high = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        index = np.argwhere((a[low] & b[high]) | (b[low] & a[high])).astype(float)
        index[:, axis] += 0.5
        per_axis.append(index)
    index = np.concatenate(per_axis)
    return np.stack([np.interp(index[:, i], np.arange(len(x)), x) for i, x in enumerate(axes_mm)], axis=1)


def _voxel_points(mask: np.ndarray, axes_mm) -> np.ndarray:
    index = np.argwhere(mask)
    return np.stack([x[index[:, i]] for i, x in enumerate(axes_mm)], axis=1)


def _fibonacci_sphere(n: int) -> np.ndarray:
    i = np.arange(n)
    z = 1 - (2 * i + 1) / n
    turn = i * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], axis=1)


def _largest(mask: np.ndarray, name: str) -> np.ndarray:
    if not mask.any():
        raise SubjectError(f"{name} is missing", "the label map has no voxel of it")
    pieces, n = ndimage.label(mask, np.ones((3, 3, 3)))
    if n == 1:
        return mask
    size = np.bincount(pieces.ravel())
    size[0] = 0
    return pieces == size.argmax()


def _crop(mask: np.ndarray, axes_mm, spacing: np.ndarray, margin_mm: float):
    """Slices of the box around `mask` with a margin, zeros to pad where the margin leaves the map."""
    index = np.argwhere(mask)
    margin = np.ceil(margin_mm / spacing).astype(int)
    low, high = index.min(axis=0) - margin, index.max(axis=0) + 1 + margin
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, mask.shape)
    crop = tuple(slice(a, b) for a, b in zip(inside_low, inside_high, strict=True))
    pad = [
        (int(a - lo), int(hi - b)) for lo, hi, a, b in zip(low, high, inside_low, inside_high, strict=True)
    ]
    origin = np.array([axis[0] for axis in axes_mm]) + low * spacing
    return crop, pad, origin
