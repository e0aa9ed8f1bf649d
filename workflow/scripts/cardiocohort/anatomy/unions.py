"""Moments of unions of structures, from the moments of their parts. Owned by the population stage.

Labels are disjoint, so volumes add, and centroid and covariance follow exactly (parallel axes).
"""

import numpy as np

from .moments import Moments, of_each


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
    places = [
        [names.index(part) for part in ([name] if name in names else name.split("+"))] for name in wanted
    ]
    chosen = [_take(moments, own[0]) if len(own) == 1 else combine(_take(moments, own)) for own in places]
    axis = np.ndim(moments.volume_ml) - 1
    return of_each(lambda *values: np.stack(values, axis=axis), *chosen)


def _take(moments: Moments, structures: int | list[int]) -> Moments:
    leading = (slice(None),) * (np.ndim(moments.volume_ml) - 1)
    return moments[(*leading, structures)]
