"""Surfaces of labels and outlines of ellipsoids, ready to be drawn. Owned by the report stage."""

import numpy as np
import pyvista
from scipy.ndimage import find_objects, gaussian_filter

from ..anatomy.label_map import LabelMap
from ..plotting.render import Surface

SMOOTHING_MM = 2.2  # Gaussian on the voxels: about the size of the steps that it takes away
DRAWN_MM = 1.5  # finer scans are pooled to about this before they are drawn


def rgb(colour: str) -> np.ndarray:
    """`#rrggbb` as RGB in 0..1, (3,)."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0


def label_surface(label_map: LabelMap, label: int, colour: str) -> Surface | None:
    """Smooth surface of one label in world mm; None if the label map has none of it.

    For the eye only: smoothing rounds edges and thins what is less than two voxels across.
    """
    where = find_objects(label_map.labels, label)[label - 1]
    if where is None:
        return None
    factor = [max(1, round(DRAWN_MM / h)) for h in label_map.spacing_mm]
    starts = [s.start for s in where]
    mask = _pooled(label_map.labels[where] == label, factor)
    spacing = np.array(label_map.spacing_mm) * factor
    sigma = SMOOTHING_MM / spacing
    pad = [int(np.ceil(3 * s)) + 1 for s in sigma]
    field = gaussian_filter(np.pad(mask, [(p, p) for p in pad]), sigma)
    first = [axis[i] for axis, i in zip(label_map.axes_mm, starts, strict=True)]
    first = np.array(first) + (np.array(factor) - 1) / 2 * label_map.spacing_mm - np.array(pad) * spacing
    image = pyvista.ImageData(dimensions=field.shape, spacing=spacing, origin=first)
    image.point_data["field"] = field.ravel(order="F")
    level = min(0.5, 0.5 * float(field.max()))  # something thin must not vanish
    mesh = image.contour([level], scalars="field", method="flying_edges", compute_normals=True)
    triangles = mesh.regular_faces
    points, normals = (
        np.asarray(mesh.points, dtype=float),
        np.asarray(mesh.point_data["Normals"], dtype=float),
    )
    corners = points[triangles]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if (flat * normals[triangles[:, 0]]).sum() < 0:
        triangles = triangles[:, ::-1]
    return Surface(points, triangles, rgb(colour), normals)


def _pooled(mask: np.ndarray, factor: list[int]) -> np.ndarray:
    """Mean of `mask` over blocks of `factor` voxels, padded with background to whole blocks."""
    mask = np.pad(mask.astype(np.float32), [(0, -n % f) for n, f in zip(mask.shape, factor, strict=True)])
    for axis, f in enumerate(factor):
        shape = (*mask.shape[:axis], mask.shape[axis] // f, f, *mask.shape[axis + 1 :])
        mask = mask.reshape(shape).mean(axis=axis + 1)
    return mask


def principal_ellipses(centre, semi_axes, rotation, n: int = 97) -> list[np.ndarray]:
    """Three closed lines (n, 3): the ellipsoid cut by each plane of two of its axes."""
    flat = np.insert(_circle(n), 2, 0.0, axis=1)
    return [centre + (np.roll(flat, shift, axis=1) * semi_axes) @ rotation.T for shift in range(3)]


def ellipsoid_silhouette(centre, semi_axes, rotation, towards: np.ndarray, n: int = 97) -> np.ndarray:
    """The closed line (n, 3) where a viewer in the direction `towards` sees the ellipsoid's edge."""
    # on the unit sphere that the ellipsoid is the image of, the edge is the great circle around this pole
    pole = (towards @ rotation) / semi_axes
    plane = np.linalg.svd(pole[None])[2][1:]
    return centre + (_circle(n) @ plane * semi_axes) @ rotation.T


def _circle(n: int) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def ellipsoid_section(centre, semi_axes, rotation, axis: int, level: float, n: int = 97) -> np.ndarray | None:
    """The closed line (n, 2) in which an ellipsoid meets the plane x_axis = level; None if it does not.

    Columns are the two other coordinates in their order.
    """
    form = rotation @ np.diag(1.0 / np.asarray(semi_axes) ** 2) @ rotation.T
    plane = [i for i in range(3) if i != axis]
    inner, mixed = form[np.ix_(plane, plane)], form[plane, axis]
    offset = level - centre[axis]
    shift = -np.linalg.solve(inner, mixed) * offset
    left = 1.0 - offset**2 * (form[axis, axis] - mixed @ np.linalg.solve(inner, mixed))
    if left <= 0:
        return None
    values, axes = np.linalg.eigh(inner)
    return np.asarray(centre)[plane] + shift + np.sqrt(left) * (_circle(n) / np.sqrt(values)) @ axes.T
