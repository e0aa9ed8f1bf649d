"""Do samples look like real ones? Distances of two sets of hearts (evaluation stage).

Pure functions of vectors or of matrices of distances; `features` and `chamfer` define a heart's vector and
distance. Set S has n samples, set R has m real ones.
"""

import numpy as np

NEAREST = 3  # neighbours that make a manifold's radius, as in Kynkaanniemi et al.


def frechet_distance(samples: np.ndarray, real: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of the Gaussians with the moments of (n, d) and (m, d).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) (Heusel et al., NeurIPS 2017; Dowson and Landau 1982). With
    C = R^T R, from the QR decomposition of the centred hearts, the trace of the root is the sum of the
    singular values of R1 R2^T: exact for singular covariances, of few hearts, too. Estimates from few hearts
    are too large: compare those of equal n and m only.
    """
    r1, r2 = (np.linalg.qr((x - x.mean(axis=0)) / np.sqrt(len(x) - 1), mode="r") for x in (samples, real))
    shift = samples.mean(axis=0) - real.mean(axis=0)
    root = np.linalg.svd(r1 @ r2.T, compute_uv=False).sum()
    return float(shift @ shift + (r1**2).sum() + (r2**2).sum() - 2 * root)


def precision(cross: np.ndarray, within_real: np.ndarray, k: int = NEAREST) -> float:
    """Share of S inside the manifold of R: within the distance of a real one to its k-th neighbour in R.

    cross (n, m): distances of S to R; within_real (m, m). Improved precision of Kynkaanniemi et al.,
    NeurIPS 2019; recall is the precision of R in the manifold of S.
    """
    return float((cross <= _radii(within_real, k)).any(axis=1).mean())


def recall(cross: np.ndarray, within_samples: np.ndarray, k: int = NEAREST) -> float:
    """Share of R inside the manifold of S; cross (n, m), within_samples (n, n)."""
    return precision(cross.T, within_samples, k)


def _radii(within: np.ndarray, k: int) -> np.ndarray:
    if len(within) <= k:
        raise ValueError(f"{len(within)} hearts have no {k}-th neighbour each; give more than {k}")
    return np.sort(within, axis=1)[:, k]  # entry 0 is the heart itself


def minimum_matching_distance(cross: np.ndarray) -> float:
    """Mean distance of a real one to its nearest sample (Achlioptas et al., ICML 2018); cross (n, m)."""
    return float(cross.min(axis=0).mean())


def coverage(cross: np.ndarray) -> float:
    """Share of R that is nearest to some sample (Achlioptas et al., ICML 2018); cross (n, m)."""
    return len(np.unique(cross.argmin(axis=1))) / cross.shape[1]


def one_nna(within_samples: np.ndarray, cross: np.ndarray, within_real: np.ndarray) -> float:
    """Accuracy of telling S from R by the nearest neighbour, itself left out (Yang et al., ICCV 2019).

    0.5 where the sets are alike, if they are of one size; 1 where they are apart, below 0.5 where samples
    are copies. Raises ValueError for sets of different sizes.
    """
    n, m = cross.shape
    if n != m:
        raise ValueError(f"{n} samples and {m} real ones: sets of one size are needed")
    together = np.block([[within_samples, cross], [cross.T, within_real]]).astype(float)
    np.fill_diagonal(together, np.inf)
    from_samples = together.argmin(axis=1) < n
    return float(np.mean(from_samples == (np.arange(n + m) < n)))
