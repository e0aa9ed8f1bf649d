"""Pictures of triangle surfaces without a graphics library. Owned by the report stage.

Orthographic z-buffer in numpy: compute nodes and bare machines have neither a display nor OpenGL
libraries, and a report must not depend on a driver that may crash the interpreter. Shading is Lambert
with a highlight (Blinn, SIGGRAPH 1977); folds are darkened by the unsharp-masked depth buffer (Luft,
Colditz and Deussen, SIGGRAPH 2006).
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

LIGHT = np.array([-0.45, 0.55, 0.70]) / np.linalg.norm([-0.45, 0.55, 0.70])  # right, up, towards the viewer
AMBIENT, DIFFUSE, HIGHLIGHT, SHININESS = 0.38, 0.62, 0.16, 24.0
FOLD_MM, FOLD_DEPTH_MM, FOLD_STRENGTH = 3.0, 14.0, 0.65
CHUNK = 200_000  # pixels tested at once


@dataclass(frozen=True)
class View:
    """Unit vectors of the picture in RAS: to the right, up, and towards the viewer."""

    name: str
    right: tuple[float, float, float]
    up: tuple[float, float, float]
    towards: tuple[float, float, float]


# the patient faces the reader: their right, +x, is on the left of the picture
ANTERIOR = View("anterior", (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
POSTERIOR = View("posterior", (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


@dataclass(frozen=True)
class Frame:
    """The window of a picture: its centre in world mm, its size in pixels, mm a pixel."""

    view: View
    centre_mm: tuple[float, float, float]
    shape: tuple[int, int]  # height, width
    pixel_mm: float

    def project(self, points_mm: np.ndarray) -> np.ndarray:
        """World (..., 3) -> column, row (pixel centres are whole numbers), depth in mm, larger is nearer."""
        p = np.asarray(points_mm, dtype=float) - self.centre_mm
        height, width = self.shape
        u = p @ self.view.right / self.pixel_mm + (width - 1) / 2
        v = (height - 1) / 2 - p @ self.view.up / self.pixel_mm
        return np.stack([u, v, p @ self.view.towards], axis=-1)


@dataclass(frozen=True)
class Surface:
    """points_mm (N, 3), triangles (M, 3) with normals outward, colour RGB in 0..1: (3,) or (M, 3).

    With `normals` (N, 3) the surface is shaded smoothly, without them triangle by triangle.
    """

    points_mm: np.ndarray
    triangles: np.ndarray
    colour: np.ndarray
    normals: np.ndarray | None = None


@dataclass(frozen=True)
class Layer:
    """What one surface shows in every pixel: depth (H, W) in mm (-inf: nothing) and shaded RGB (H, W, 3)."""

    depth: np.ndarray
    rgb: np.ndarray

    @property
    def covered(self) -> np.ndarray:
        return np.isfinite(self.depth)


def visible(projected: np.ndarray, triangles: np.ndarray, shape: tuple[int, int]):
    """Nearest triangle in every pixel: depth (H, W), -inf where none; index (H, W), -1 where none.

    `projected` (N, 3) is column, row, depth. Only outsides of outward-oriented surfaces are drawn: they
    turn clockwise on the picture, whose rows run downwards. Depth is that of the triangle's plane at the
    pixel's centre.
    """
    height, width = shape
    depth = np.full(height * width, -np.inf, dtype=np.float32)
    index = np.full(height * width, -1, dtype=np.int32)
    corners = projected.astype(np.float32)[triangles]
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    low = np.ceil(corners[..., :2].min(axis=1)).clip(0).astype(np.int32)
    high = np.floor(corners[..., :2].max(axis=1)).clip(-1, [width - 1, height - 1]).astype(np.int32)
    extent = (high - low).max(axis=1) + 1
    drawn = (area < 0) & (high >= low).all(axis=1)
    pixels, size = [], 1
    while drawn.any():
        # triangles of like size are tested together, each on a square of `size` pixels
        members = np.flatnonzero(drawn & (extent <= size))
        drawn[members] = False
        for part in np.array_split(members, 1 + len(members) * size**2 // CHUNK):
            pixels.append(_pixels_of(part, size, a, ab, ac, area, low, high, width))
        size = size + 1 if size < 8 else 2 * size
    if pixels:
        where, z, triangle = (np.concatenate(column) for column in zip(*pixels, strict=True))
        np.maximum.at(depth, where, z)
        nearest = depth[where] == z
        index[where[nearest]] = triangle[nearest]
    return depth.reshape(shape), index.reshape(shape)


def _pixels_of(part, size, a, ab, ac, area, low, high, width):
    """Pixel number, depth and triangle wherever a pixel's centre is inside one of the triangles `part`."""
    steps = np.arange(size, dtype=np.int32)
    columns = low[part, 0, None] + steps
    rows = low[part, 1, None] + steps
    du = columns.astype(np.float32) - a[part, 0, None]
    dv = rows.astype(np.float32) - a[part, 1, None]
    abx, aby, acx, acy = (e[part, i, None] / area[part, None] for e in (ab, ac) for i in (0, 1))
    s = (du * acy)[:, None, :] - (dv * acx)[:, :, None]
    t = (dv * abx)[:, :, None] - (du * aby)[:, None, :]
    inside = (s >= 0) & (t >= 0) & (s + t <= 1)
    inside &= (columns <= high[part, 0, None])[:, None, :] & (rows <= high[part, 1, None])[:, :, None]
    k, j, i = np.nonzero(inside)
    triangle = part[k].astype(np.int32)
    z = a[triangle, 2] + s[k, j, i] * ab[triangle, 2] + t[k, j, i] * ac[triangle, 2]
    return rows[k, j] * width + columns[k, i], z, triangle


def draw(surface: Surface, frame: Frame) -> Layer:
    """The surface as seen in the frame."""
    projected = frame.project(surface.points_mm)
    depth, index = visible(projected, surface.triangles, frame.shape)
    rgb = np.ones((*frame.shape, 3), dtype=np.float32)
    hit = index >= 0
    if hit.any():
        triangle = index[hit]
        corners = surface.triangles[triangle]
        if surface.normals is None:
            p = surface.points_mm[corners]
            normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        else:
            rows, columns = np.nonzero(hit)
            weights = _barycentric(projected[corners][..., :2], np.stack([columns, rows], -1))
            normal = np.einsum("nk,nki->ni", weights, surface.normals[corners])
        colour = surface.colour if surface.colour.ndim == 1 else surface.colour[triangle]
        rgb[hit] = shade(normal, colour, frame.view)
    return Layer(depth, rgb)


def _barycentric(corners: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d = pixel - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    s = (d[:, 0] * ac[:, 1] - d[:, 1] * ac[:, 0]) / area
    t = (d[:, 1] * ab[:, 0] - d[:, 0] * ab[:, 1]) / area
    return np.stack([1.0 - s - t, s, t], axis=-1)


def shade(normal: np.ndarray, colour: np.ndarray, view: View) -> np.ndarray:
    """RGB (n, 3) of points with these normals (n, 3; any length), lit from the upper left in front."""
    axes = np.array([view.right, view.up, view.towards])
    n = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12) @ axes.T
    half = LIGHT + np.array([0.0, 0.0, 1.0])
    bright = AMBIENT + DIFFUSE * np.maximum(n @ LIGHT, 0.0)
    glint = HIGHLIGHT * np.maximum(n @ (half / np.linalg.norm(half)), 0.0) ** SHININESS
    return np.clip(colour * bright[:, None] + glint[:, None], 0.0, 1.0)


def opaque(layers: list[Layer], pixel_mm: float) -> Layer:
    """All layers together, the nearest one in front, with folds darkened."""
    depth, rgb = layers[0].depth.copy(), layers[0].rgb.copy()
    for layer in layers[1:]:
        nearer = layer.depth > depth
        depth[nearer], rgb[nearer] = layer.depth[nearer], layer.rgb[nearer]
    covered = np.isfinite(depth)
    rgb[covered] *= (1.0 - FOLD_STRENGTH * _fold(depth, FOLD_MM / pixel_mm))[covered][:, None]
    return Layer(depth, rgb)


def _fold(depth: np.ndarray, sigma: float) -> np.ndarray:
    """0..0.6 (H, W): how far a pixel lies behind the mean of its neighbourhood."""
    covered = np.isfinite(depth)
    weight = gaussian_filter(covered.astype(np.float32), sigma, truncate=2.5)
    mean = gaussian_filter(np.where(covered, depth, 0.0), sigma, truncate=2.5) / np.maximum(weight, 1e-6)
    return np.clip(np.where(covered, mean - depth, 0.0) / FOLD_DEPTH_MM, 0.0, 0.6)


def translucent(layers: list[Layer], opacity: list[float]) -> np.ndarray:
    """RGB (H, W, 3) of the layers' front faces over white, from the farthest to the nearest."""
    out = np.ones(layers[0].rgb.shape, dtype=np.float32)
    covered = np.any([layer.covered for layer in layers], axis=0)
    depth = np.stack([layer.depth[covered] for layer in layers])
    rgb = np.stack([layer.rgb[covered] for layer in layers])
    alpha = np.array(opacity, dtype=np.float32)[:, None] * np.isfinite(depth)
    mixed, pixel = out[covered], np.arange(depth.shape[1])
    for which in depth.argsort(axis=0):
        mixed += alpha[which, pixel][:, None] * (rgb[which, pixel] - mixed)
    out[covered] = mixed
    return out
