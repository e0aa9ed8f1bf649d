"""Moments of unions of structures, from the moments of their parts. Owned by the population stage.

Labels are disjoint, so volumes add, and centroid and covariance follow exactly (parallel axes).
"""

import numpy as np

from .moments import Moments


def combine(parts: Moments) -> Moments:
    """Moments (...) of the union of disjoint parts (..., P)."""
    volume = np.sum(parts.volume_ml, axis=-1)
    weight = parts.volume_ml / volume[..., None]
    centroid = np.einsum("...p,...pi->...i", weight, parts.centroid_mm)
    offset = parts.centroid_mm - centroid[..., None, :]
    spread = parts.covariance_mm2 + offset[..., :, None] * offset[..., None, :]
    return Moments(volume, centroid, np.einsum("...p,...pij->...ij", weight, spread))


def select(moments: Moments, names: tuple[str, ...], wanted: tuple[str, ...]) -> Moments:
    """Moments (..., len(wanted)) of structures or unions `a+b`, from those of `names` (..., K).

    A union that has a name of its own is taken as it is. ValueError if a part is missing.
    """
    parts = [[name] if name in names else name.split("+") for name in wanted]
    chosen = [combine(_take(moments, [names.index(part) for part in group])) for group in parts]
    return Moments(
        np.stack([m.volume_ml for m in chosen], axis=-1),
        np.stack([m.centroid_mm for m in chosen], axis=-2),
        np.stack([m.covariance_mm2 for m in chosen], axis=-3),
    )


def _take(moments: Moments, structures: list[int]) -> Moments:
    return Moments(
        moments.volume_ml[..., structures],
        moments.centroid_mm[..., structures, :],
        moments.covariance_mm2[..., structures, :, :],
    )
