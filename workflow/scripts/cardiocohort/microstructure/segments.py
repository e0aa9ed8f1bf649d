"""The 17 segments of the left ventricle and nine of the right one's free wall. Owned by meshing.

Left: Cerqueira et al., "Standardized myocardial segmentation and nomenclature for tomographic imaging of
the heart", Circulation 2002. Thirds of the long axis from the end of the cavity to the base, six sectors of
60 degrees or, in the apical third, four of 90; below the end of the cavity lies the apex. The attachments of
the right ventricle part septum and free wall there, so angles about the long axis are stretched until
anterior and inferior attachment lie at +60 and -60 degrees from the middle of the septum; below the mid
third the stretch stays as it is at that level.

Right: no standard numbers segments of its free wall. Here thirds of the apicobasal coordinate by thirds of
the rotational one: three sectors at three levels, as in Ann Biomed Eng 26:756 (1998).
"""

import numpy as np

from ..mesh.model import REGIONS, BiventricularModel
from .junctions import HeartAxes, Junctions

ATTACHMENT_DEG = 60.0
LEVELS = 12  # heights between the apical third and the base at which the attachments are looked up


def segments(
    model: BiventricularModel, axes: HeartAxes, meet: Junctions, apicobasal: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """(M,) number of the segment of every tet (`heart_segments.SEGMENTS`).

    apicobasal (M,): coordinate of the tets; share (M,): how far from posterior to anterior junction, 0 to 1.
    """
    centroids = model.points_mm[model.tets].mean(axis=1)
    height, angle = long_axis_coordinates(centroids, axes)
    left = left_segments(height, sectors(height, angle, *attachments(model, axes, meet)))
    return np.where(meet.sheet == REGIONS["rv"], right_segments(apicobasal, share), left)


def long_axis_coordinates(points_mm: np.ndarray, axes: HeartAxes) -> tuple[np.ndarray, np.ndarray]:
    """Height (n,) on the LV's long axis, 0 at its apex and 1 at the base, and angle (n,) about it.

    The angle is in degrees from the direction of the RV, positive towards anterior, -180 to 180.
    """
    beside = points_mm - axes.apex_mm
    height = beside @ axes.long / ((axes.base_mm - axes.apex_mm) @ axes.long)
    return height, np.degrees(np.arctan2(beside @ axes.anterior, beside @ axes.right))


def attachments(model: BiventricularModel, axes: HeartAxes, meet: Junctions) -> tuple[np.ndarray, ...]:
    """Heights (L,) and the angles (L,) of the anterior and the inferior attachment of the RV there.

    Medians over the nodes that septum and LV free wall share, by level from the apical third to the base.
    """
    septum, free = (model.tets[meet.sheet == REGIONS[name]] for name in ("septum", "lv"))
    shared = np.intersect1d(septum, free)
    edges = np.linspace(1 / 3, 1, LEVELS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    angles = []
    for nodes in (meet.anterior, meet.posterior):
        height, angle = long_axis_coordinates(model.points_mm[np.intersect1d(nodes, shared)], axes)
        level = np.digitize(height, edges) - 1
        medians = [np.median(angle[level == k]) if (level == k).any() else np.nan for k in range(LEVELS)]
        known = np.isfinite(medians)
        default = np.full(LEVELS, np.median(angle))
        angles.append(np.interp(middle, middle[known], np.array(medians)[known]) if known.any() else default)
    return middle, *angles


def sectors(height, angle, levels, anterior, posterior) -> np.ndarray:
    """Angle (n,) from -60 to 300 degrees, stretched so that the attachments lie at +60 and -60."""
    front, back = np.interp(height, levels, anterior), np.interp(height, levels, posterior)
    turned = (angle - back) % 360.0  # 0 at the inferior attachment, over the septum to the anterior one
    septum = front - back
    within = turned <= septum
    half = 2 * ATTACHMENT_DEG
    septal = half * turned / septum
    free = half + (360.0 - half) * (turned - septum) / (360.0 - septum)
    return np.where(within, septal, free) - ATTACHMENT_DEG


def left_segments(height: np.ndarray, sector: np.ndarray) -> np.ndarray:
    """Segments (n,) 1 to 17 from heights and stretched angles (degrees)."""
    six = ((ATTACHMENT_DEG * 2 - sector) // 60).astype(int) % 6  # anterior is 60 to 120 degrees
    four = ((135.0 - sector) // 90).astype(int) % 4
    segment = np.select([height >= 2 / 3, height >= 1 / 3, height >= 0], [1 + six, 7 + six, 13 + four], 17)
    return segment.astype(int)


def right_segments(apicobasal: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Segments (n,) 18 to 26 from the apicobasal coordinate and the share of the way to anterior."""
    level = np.clip(((1 - apicobasal) * 3).astype(int), 0, 2)  # base first
    sector = np.clip(((1 - share) * 3).astype(int), 0, 2)  # anterior first
    return 18 + 3 * level + sector
