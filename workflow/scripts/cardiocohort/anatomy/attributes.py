"""Attributes of structures that can be constrained, and errors of achieved moments. Owned by no stage.

Written on the array API, so that guidance (torch) and measurement (numpy) run the same lines. The
definitions are those of `moments`: size is V, position C, shape S^n = S / tr S (Kadry et al.,
CardioComposer, ICLR 2026); scale is tr S, aspect the eigenvalues of S^n, orientation its eigenvectors.
Thickness is the mean thickness of a wall in a domain (`thickness`), area the volume of a slab over its
thickness, which is fixed once the slab is placed: areas differ by logarithm as volumes do.
A relation `a/b` is of a to b: V_a / V_b, |C_a - C_b|, and the unit vector from C_b to C_a.
"""

import numpy as np
from array_api_compat import array_namespace

from .moments import Array, Moments

SMALLEST_SCALE_MM2 = 1e-6  # keeps S / tr S, and its gradient, finite for a structure that has vanished
SMALLEST_VOLUME_ML = 1e-3
SMALLEST_THICKNESS_MM = 1e-3
PAIRS = ((0, 1), (0, 2), (1, 2))
SEPARATE = 1.5  # ratio of eigenvalues from which principal axes have directions to speak of


def differences(attribute: str, achieved: tuple[Moments, ...], target: tuple[Moments, ...]) -> Array:
    """Achieved minus target of one attribute, (..., m); zero where, and only where, it is met.

    `achieved` and `target` hold one structure's moments (...), or two's for a relation. Volumes, their
    ratios, scales and thicknesses differ by logarithm, positions and distances in mm, the others by numbers
    without unit.
    """
    return _DIFFERENCES[attribute](*achieved, *target)


def shape(m: Moments) -> Array:
    """S^n (..., 3, 3), finite for an empty structure too."""
    xp = array_namespace(m.covariance_mm2)
    return m.covariance_mm2 / xp.clip(m.scale_mm2, min=SMALLEST_SCALE_MM2)[..., None, None]


def orientation_angles(achieved: Moments, target: Moments) -> Array:
    """Angles (..., 3), radians, by which the achieved axes are turned in each plane of two target axes.

    Seen in the target axes, half the angle of (S_ii - S_jj, 2 S_ij): zero where both have the same
    eigenvectors in the same order, blind to any stretch along the target axes, never beyond 90 degrees.
    """
    xp = array_namespace(achieved.covariance_mm2)
    axes = _axes(target)
    seen = _matmul(_matmul(_transpose(axes), shape(achieved)), axes)
    angles = [
        xp.atan2(2.0 * seen[..., i, j], seen[..., j, j] - seen[..., i, i] + 1e-9) / 2.0 for i, j in PAIRS
    ]
    return xp.stack(angles, axis=-1)


def _orientation(achieved: Moments, target: Moments) -> Array:
    # a turn in a plane matters as much as the target axes in it differ: none where they are equal. To first
    # order these are the entries of S^n off the target axes, so that they are in the units of shape
    xp = array_namespace(achieved.covariance_mm2)
    values = xp.linalg.eigvalsh(shape(target))
    gaps = xp.stack([values[..., j] - values[..., i] for i, j in PAIRS], axis=-1)
    return gaps * orientation_angles(achieved, target)


def _aspect(achieved: Moments, target: Moments) -> Array:
    xp = array_namespace(achieved.covariance_mm2)
    return xp.linalg.eigvalsh(shape(achieved)) - xp.linalg.eigvalsh(shape(target))


def _shape(achieved: Moments, target: Moments) -> Array:
    difference = shape(achieved) - shape(target)
    xp = array_namespace(difference)
    return xp.reshape(difference, (*difference.shape[:-2], 9))


def _log_volume(m: Moments) -> Array:
    xp = array_namespace(m.volume_ml)
    return xp.log(xp.clip(m.volume_ml, min=SMALLEST_VOLUME_ML))


def _log_scale(m: Moments) -> Array:
    xp = array_namespace(m.covariance_mm2)
    return xp.log(xp.clip(m.scale_mm2, min=SMALLEST_SCALE_MM2))


def _log_thickness(m: Moments) -> Array:
    xp = array_namespace(m.thickness_mm)
    return xp.log(xp.clip(m.thickness_mm, min=SMALLEST_THICKNESS_MM))


def volume_ratio(a: Moments, b: Moments) -> Array:
    """V_a / V_b, (...)."""
    xp = array_namespace(a.volume_ml)
    return xp.exp(_log_volume(a) - _log_volume(b))


def distance_mm(a: Moments, b: Moments) -> Array:
    """|C_a - C_b|, (...); its gradient is finite where they coincide."""
    xp = array_namespace(a.centroid_mm)
    return xp.sqrt(xp.sum((a.centroid_mm - b.centroid_mm) ** 2, axis=-1) + 1e-12)


def direction(a: Moments, b: Moments) -> Array:
    """Unit vector (..., 3) from b to a."""
    return (a.centroid_mm - b.centroid_mm) / distance_mm(a, b)[..., None]


def principal_axis_degrees(achieved: Moments, target: Moments) -> np.ndarray:
    """Angles (..., 3) between achieved and target principal axes, the shortest first, up to 90 degrees.

    For numpy arrays. NaN for an axis without a direction to speak of: another target eigenvalue is closer to
    its own than SEPARATE to 1.
    """
    values, axes = np.linalg.eigh(target.covariance_mm2)
    cosine = np.abs(np.einsum("...ik,...ik->...k", axes, np.linalg.eigh(achieved.covariance_mm2)[1]))
    apart = values[..., 1:] >= SEPARATE * values[..., :-1]
    ends = np.ones_like(apart[..., :1])
    has_direction = np.concatenate([ends, apart], -1) & np.concatenate([apart, ends], -1)
    return np.where(has_direction, np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0))), np.nan)


def _axes(m: Moments) -> Array:
    """Eigenvectors (columns) of S^n by ascending eigenvalue; never differentiated."""
    xp = array_namespace(m.covariance_mm2)
    return xp.linalg.eigh(shape(m))[1]


def _matmul(a: Array, b: Array) -> Array:
    return array_namespace(a).matmul(a, b)


def _transpose(a: Array) -> Array:
    return array_namespace(a).matrix_transpose(a)


_DIFFERENCES = {
    "size": lambda achieved, target: (_log_volume(achieved) - _log_volume(target))[..., None],
    "position": lambda achieved, target: achieved.centroid_mm - target.centroid_mm,
    "shape": _shape,
    "scale": lambda achieved, target: (_log_scale(achieved) - _log_scale(target))[..., None],
    "orientation": _orientation,
    "aspect": _aspect,
    "area": lambda achieved, target: (_log_volume(achieved) - _log_volume(target))[..., None],
    "thickness": lambda achieved, target: (_log_thickness(achieved) - _log_thickness(target))[..., None],
    "volume_ratio": lambda a, b, target_a, target_b: (
        _log_volume(a) - _log_volume(b) - _log_volume(target_a) + _log_volume(target_b)
    )[..., None],
    "distance": lambda a, b, target_a, target_b: (distance_mm(a, b) - distance_mm(target_a, target_b))[
        ..., None
    ],
    "direction": lambda a, b, target_a, target_b: direction(a, b) - direction(target_a, target_b),
}


def spread(attribute: str, reference: tuple[Moments, ...]) -> float:
    """Standard deviation of an attribute over N reference hearts (N,): root mean square over its entries.

    Differences are taken from the mean of the feature; for orientation from the axes of the mean S^n.
    """
    differs = differences(attribute, reference, tuple(_typical(m) for m in reference))
    if attribute != "orientation":
        differs = differs - differs.mean(axis=0)
    return float(np.sqrt(np.mean(np.asarray(differs) ** 2)))


def _typical(m: Moments) -> Moments:
    """Mean volume, centroid and thickness, and the mean S^n, of N hearts, as one heart (1,)."""

    def mean(values: Array) -> np.ndarray:
        return np.mean(np.asarray(values), axis=0)[None]

    thickness = None if m.thickness_mm is None else mean(m.thickness_mm)
    return Moments(mean(m.volume_ml), mean(m.centroid_mm), mean(m.shape), thickness)


def split(word: str) -> tuple[str, str | None]:
    """A word of the column `constrained`: "size" -> ("size", None), "distance/b" -> ("distance", "b")."""
    attribute, slash, other = word.partition("/")
    return attribute, other if slash else None
