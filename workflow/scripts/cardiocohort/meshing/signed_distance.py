"""Signed distance fields on a regular grid. Owned by the meshing stage.

A field is negative inside. Combining fields by min and max (constructive solid geometry) keeps the
thickness of shells and gives closed surfaces, which clipping a surface does not.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from . import kernels

ROUND_MM = 1.5  # sharper edges would fold triangles of 2 to 3 mm


@dataclass(frozen=True)
class Field:
    """values (X, Y, Z) in mm on points origin_mm + index * spacing_mm; trilinear in between."""

    values: np.ndarray
    origin_mm: np.ndarray
    spacing_mm: float

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Value at points (N, 3); beyond the grid the nearest value."""
        index = (np.asarray(points_mm) - self.origin_mm) / self.spacing_mm
        return ndimage.map_coordinates(self.values, index.T, order=1, mode="nearest")

    def gradient(self, points_mm: np.ndarray) -> np.ndarray:
        """Central differences over one grid spacing, (N, 3)."""
        steps = np.eye(3) * self.spacing_mm / 2
        return np.stack([self(points_mm + s) - self(points_mm - s) for s in steps], 1) / self.spacing_mm

    def like(self, values: np.ndarray) -> "Field":
        return Field(values, self.origin_mm, self.spacing_mm)

    def points(self) -> np.ndarray:
        """All grid points, (X, Y, Z, 3)."""
        axes = [
            o + self.spacing_mm * np.arange(n) for o, n in zip(self.origin_mm, self.values.shape, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def smooth_distance(
    mask: np.ndarray, origin_mm, mask_spacing_mm, spacing_mm: float, smoothing_mm: float
) -> Field:
    """Signed distance (mm) to the smoothed surface of a voxel mask, on a grid of `spacing_mm`.

    The mask is refined as a blurred indicator, not as labels, which turns its steps into slopes; the
    distance to it is smoothed once more and edges sharper than ROUND_MM are rounded. The level is
    chosen so that the volume of the mask is kept.
    """
    spacing = np.asarray(mask_spacing_mm, dtype=float)
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), 0.5 * smoothing_mm / spacing, mode="nearest")
    extent = (np.array(mask.shape) - 1) * spacing
    shape = np.floor(extent / spacing_mm + 1e-9).astype(int) + 1
    fine = ndimage.affine_transform(blurred, spacing_mm / spacing, output_shape=tuple(shape), order=1)
    target = mask.sum() * np.prod(spacing) / spacing_mm**3  # fine cells
    # the blur below reaches four widths, the offsets of round_edges another few millimetres
    rough = redistance_near(_level(-fine, target), spacing_mm, 4 * smoothing_mm + 4 * ROUND_MM)
    smooth = ndimage.gaussian_filter(rough, smoothing_mm / spacing_mm, mode="nearest")
    rounded = round_edges(_level(smooth, target), ROUND_MM, spacing_mm)
    # offsets leave ripples of a tenth of a voxel, which a surface shows
    even = ndimage.gaussian_filter(rounded, 0.75 * smoothing_mm / spacing_mm, mode="nearest")
    return Field(_level(even, target), np.asarray(origin_mm, dtype=float), spacing_mm)


def round_edges(values: np.ndarray, radius_mm: float, spacing_mm: float) -> np.ndarray:
    """Signed distance to the zero level of `values` without edges, ridges or crevices below a radius.

    Closing, then opening with a ball: offsets of the distance, there and back, both ways.
    """
    distance = redistance_near(values, spacing_mm, 4 * radius_mm)
    for offset in (-radius_mm, 2 * radius_mm):
        distance = redistance_near(distance + offset, spacing_mm, 4 * radius_mm)
    return redistance(distance - radius_mm, spacing_mm)


def _level(values: np.ndarray, n_inside: float) -> np.ndarray:
    """`values` shifted so that about `n_inside` of them are negative."""
    flat = values.ravel()
    k = int(np.clip(round(n_inside), 1, flat.size - 1))
    low, high = np.partition(flat, [k - 1, k])[[k - 1, k]]
    return values - (low + high) / 2


def redistance(values: np.ndarray, spacing_mm: float, reach: int | None = None) -> np.ndarray:
    """Signed distance (mm) to the zero level of `values`, accurate to about a tenth of a voxel.

    Beside the surface it is value over gradient; elsewhere the distance to the surface point under the
    nearest voxel of the other side, a point that the same two tell. Where `reach` is given and no voxel of
    the other side is within so many voxels, it is that reach. ValueError for a grid of a single layer.
    """
    if min(values.shape) < 2:
        raise ValueError(f"a grid of {values.shape} voxels has no slopes")
    values = np.ascontiguousarray(values, dtype=np.float32)  # microns, at half the memory traffic
    distance = np.empty_like(values)
    kernels.redistance(values, np.float32(spacing_mm), reach or sum(values.shape), distance)
    return distance


def redistance_near(values: np.ndarray, spacing_mm: float, reach_mm: float) -> np.ndarray:
    """As `redistance` within `reach_mm` of the surface and two voxels more, inside and outside.

    Farther away it is that reach, and outside a box around the inside what the faces of the box have.
    """
    inside = np.nonzero(values < 0)
    margin = int(np.ceil(reach_mm / spacing_mm)) + 2
    if not inside[0].size:
        return redistance(values, spacing_mm)
    low = [max(along.min() - margin, 0) for along in inside]
    high = [min(along.max() + margin + 1, n) for along, n in zip(inside, values.shape, strict=True)]
    distance = redistance(values[tuple(map(slice, low, high))], spacing_mm, margin)
    beyond = [(first, n - last) for first, last, n in zip(low, high, values.shape, strict=True)]
    return np.pad(distance, beyond, mode="edge")


def smooth_min(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """min(a, b) with a rounded crease where the two differ by less than `width_mm`."""
    overlap = np.maximum(width_mm - np.abs(a - b), 0.0)
    return np.minimum(a, b) - overlap**2 / (4.0 * width_mm)
