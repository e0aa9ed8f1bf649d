"""The morphological feature space: log volumes, centroids and shapes of all structures (evaluation stage)."""

import numpy as np

from ..anatomy.moments import Moments, to_vector

# of `moments.to_vector`: the total scale is left out, which volume and shape nearly tell
ENTRIES = (0, 1, 2, 3, 5, 6, 7, 8, 9)


def complete(moments: Moments) -> np.ndarray:
    """Which of N hearts (N, K) have all structures, each with an extent in all directions: (N,) bool."""
    least = np.linalg.eigvalsh(np.asarray(moments.covariance_mm2)).min(axis=-1)
    return ((np.asarray(moments.volume_ml) > 0) & (least > 0)).all(axis=-1)


def vectors(moments: Moments) -> np.ndarray:
    """Features (N, 9 K) of N complete hearts (N, K): log V, C (mm), trace-free log S, of every structure."""
    vectors = to_vector(moments)[..., ENTRIES]
    return vectors.reshape(len(vectors), -1)


def standardise(features: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Features (N, D) in standard deviations of the real hearts (m, D) from their mean.

    An entry that does not vary among the real hearts stays as it is, from their mean.
    """
    spread = real.std(axis=0, ddof=1)
    return (features - real.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
