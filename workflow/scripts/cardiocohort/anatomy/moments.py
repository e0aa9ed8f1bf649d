"""Geometric moments of structures: the one definition that measurement and guidance share.

Owned by no stage. Written on the array API (numpy arrays and torch tensors run the same lines).
Volume V = sum p * voxel volume (mL), centroid C (mm), covariance S = sum p (x-C)(x-C)^T / sum p
(mm^2), with p the occupancy in [0, 1] and x the voxel centres. The paper's shape is S^n = S / tr S.
Source: Kadry et al., CardioComposer, ICLR 2026 (moments); Arsigny et al. 2006 (log-Euclidean S).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from array_api_compat import array_namespace

Array = Any  # numpy.ndarray or torch.Tensor

VECTOR_ENTRIES = ("log_volume", "x", "y", "z", "log_scale", "l_xx", "l_yy", "l_xy", "l_xz", "l_yz")
COVARIANCE_ENTRIES = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
MOMENT_COLUMNS = (
    "volume_ml",
    *(f"centroid_{axis}_mm" for axis in "xyz"),
    *(f"covariance_{entry}_mm2" for entry in COVARIANCE_ENTRIES),
)
THICKNESS = "thickness_mm"  # one more column, where an arm names the thickness of a wall in a domain


@dataclass(frozen=True)
class Moments:
    """Moments of any number of structures: volume (...), centroid (..., 3), covariance (..., 3, 3).

    thickness_mm (...): of walls in a domain (`thickness`), NaN for other structures; None where none has one.
    """

    volume_ml: Array
    centroid_mm: Array
    covariance_mm2: Array
    thickness_mm: Array | None = None

    @property
    def scale_mm2(self) -> Array:
        """Total scale tr S, (...)."""
        s = self.covariance_mm2
        return s[..., 0, 0] + s[..., 1, 1] + s[..., 2, 2]

    @property
    def shape(self) -> Array:
        """The paper's S^n = S / tr S, (..., 3, 3)."""
        return self.covariance_mm2 / self.scale_mm2[..., None, None]

    def __getitem__(self, index) -> "Moments":
        """Part of the leading axes; `index` has no ellipsis."""
        return of_each(lambda values: values[index], self)


def of_each(function: Callable[..., Array], *moments: Moments) -> Moments:
    """Moments whose entries are `function` of those of `moments`; a thickness that some lack is NaN."""
    own = [[getattr(m, f.name) for f in fields(m)] for m in moments]
    if any(entries[-1] is not None for entries in own):
        for entries in own:
            entries[-1] = entries[-1] if entries[-1] is not None else np.full(np.shape(entries[0]), np.nan)
    return Moments(*(None if of[0] is None else function(*of) for of in zip(*own, strict=True)))


def measure(occupancy: Array, axes_mm: tuple, refinement: int = 1) -> Moments:
    """Moments of occupancies (..., X, Y, Z) on a grid whose cell centres are `axes_mm`.

    With cells of `refinement`^3 fine voxels, the spread of the fine voxel centres inside a cell,
    (h^2 - h_fine^2) / 12 per axis, is added to the variances, so that a measurement on pooled
    occupancies agrees with the one on the fine grid. An empty structure has volume 0, centroid 0
    and covariance 0 (torch then still has finite gradients).
    """
    xp = array_namespace(occupancy)
    x, y, z = axes_mm
    spacing = [float(axis[1] - axis[0]) for axis in (x, y, z)]
    cell_ml = spacing[0] * spacing[1] * spacing[2] / 1000.0

    m_xy = xp.sum(occupancy, axis=-1)
    m_xz = xp.sum(occupancy, axis=-2)
    m_yz = xp.sum(occupancy, axis=-3)
    m_x, m_y, m_z = xp.sum(m_xy, axis=-1), xp.sum(m_xy, axis=-2), xp.sum(m_xz, axis=-2)
    cells = xp.sum(m_x, axis=-1)
    mass = xp.where(cells > 0, cells, xp.ones_like(cells))

    centroid = [xp.sum(m * a, axis=-1) / mass for m, a in ((m_x, x), (m_y, y), (m_z, z))]
    dx, dy, dz = (a - c[..., None] for a, c in zip((x, y, z), centroid, strict=True))
    within = [h**2 * (1.0 - 1.0 / refinement**2) / 12.0 * (cells > 0) for h in spacing]
    variances = [
        xp.sum(m * d * d, axis=-1) / mass + w
        for m, d, w in zip((m_x, m_y, m_z), (dx, dy, dz), within, strict=True)
    ]

    def cross(m, a, b):
        return xp.sum(xp.sum(m * b[..., None, :], axis=-1) * a, axis=-1) / mass

    xx, yy, zz = variances
    xy, xz, yz = cross(m_xy, dx, dy), cross(m_xz, dx, dz), cross(m_yz, dy, dz)
    rows = [xp.stack(row, axis=-1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))]
    return Moments(cells * cell_ml, xp.stack(centroid, axis=-1), xp.stack(rows, axis=-2))


def measure_labels(labels: np.ndarray, groups: list[tuple[int, ...]], axes_mm: tuple) -> Moments:
    """Moments of each group of labels in a label map (X, Y, Z): (len(groups),) moments, float64."""
    per_group = [measure(np.isin(labels, group).astype(np.float64), axes_mm) for group in groups]
    return Moments(
        np.stack([m.volume_ml for m in per_group]),
        np.stack([m.centroid_mm for m in per_group]),
        np.stack([m.covariance_mm2 for m in per_group]),
    )


def to_vector(moments: Moments) -> np.ndarray:
    """Population vector (..., 10): log V, C, log tr S, five entries of the trace-free log S."""
    values, axes = np.linalg.eigh(np.asarray(moments.covariance_mm2))
    log_s = np.einsum("...ij,...j,...kj->...ik", axes, np.log(values), axes)
    free = log_s - np.eye(3) * np.trace(log_s, axis1=-2, axis2=-1)[..., None, None] / 3
    return np.concatenate(
        [
            np.log(np.asarray(moments.volume_ml))[..., None],
            np.asarray(moments.centroid_mm),
            np.log(np.asarray(moments.scale_mm2))[..., None],
            np.stack([free[..., i, j] for i, j in ((0, 0), (1, 1), (0, 1), (0, 2), (1, 2))], -1),
        ],
        axis=-1,
    )


def from_vector(vector: np.ndarray) -> Moments:
    """Inverse of `to_vector`; any real vector gives a valid (positive definite) moment set."""
    v = np.asarray(vector, dtype=np.float64)
    l_xx, l_yy, l_xy, l_xz, l_yz = np.moveaxis(v[..., 5:10], -1, 0)
    rows = [[l_xx, l_xy, l_xz], [l_xy, l_yy, l_yz], [l_xz, l_yz, -l_xx - l_yy]]
    free = np.stack([np.stack(row, -1) for row in rows], -2)
    values, axes = np.linalg.eigh(free)
    shape = np.einsum("...ij,...j,...kj->...ik", axes, np.exp(values), axes)
    trace = np.trace(shape, axis1=-2, axis2=-1)
    covariance = shape * (np.exp(v[..., 4]) / trace)[..., None, None]
    return Moments(np.exp(v[..., 0]), v[..., 1:4], covariance)


def from_ellipsoid(centre_mm, semi_axes_mm, rotation) -> Moments:
    """Moments of a solid ellipsoid: V = 4/3 pi abc, S = R diag(a^2) R^T / 5; columns of R are axes."""
    a = np.asarray(semi_axes_mm, dtype=np.float64)
    r = np.asarray(rotation, dtype=np.float64)
    covariance = np.einsum("...ij,...j,...kj->...ik", r, a**2 / 5.0, r)
    volume = 4.0 / 3.0 * np.pi * np.prod(a, axis=-1) / 1000.0
    return Moments(volume, np.asarray(centre_mm, dtype=np.float64), covariance)


def to_ellipsoid(moments: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre (..., 3), semi-axes (..., 3) ascending and rotation (..., 3, 3) with the same C and S.

    The ellipsoid has the covariance of the structure; its volume equals V only for a solid one
    (a shell such as the myocardium is drawn by where its mass lies).
    """
    values, axes = np.linalg.eigh(np.asarray(moments.covariance_mm2))
    flip = np.linalg.det(axes) < 0
    axes = np.where(flip[..., None, None], -axes, axes)
    return np.asarray(moments.centroid_mm), np.sqrt(5.0 * np.maximum(values, 0.0)), axes


def to_columns(moments: Moments) -> dict[str, np.ndarray]:
    """The ten columns of the results contract (`MOMENT_COLUMNS`), each an array (...)."""
    columns = {"volume_ml": np.asarray(moments.volume_ml)}
    for i, axis in enumerate("xyz"):
        columns[f"centroid_{axis}_mm"] = np.asarray(moments.centroid_mm)[..., i]
    for entry, (i, j) in COVARIANCE_ENTRIES.items():
        columns[f"covariance_{entry}_mm2"] = np.asarray(moments.covariance_mm2)[..., i, j]
    if moments.thickness_mm is not None:
        columns[THICKNESS] = np.asarray(moments.thickness_mm)
    return columns


def from_columns(columns) -> Moments:
    """Inverse of `to_columns`, from a DataFrame or a mapping of arrays."""
    c = {name: np.asarray(columns[name], dtype=np.float64) for name in MOMENT_COLUMNS}
    centroid = np.stack([c[f"centroid_{axis}_mm"] for axis in "xyz"], axis=-1)
    covariance = np.zeros((*centroid.shape, 3))
    for entry, (i, j) in COVARIANCE_ENTRIES.items():
        covariance[..., i, j] = covariance[..., j, i] = c[f"covariance_{entry}_mm2"]
    thickness = np.asarray(columns[THICKNESS], dtype=np.float64) if THICKNESS in columns else None
    return Moments(c["volume_ml"], centroid, covariance, thickness)
