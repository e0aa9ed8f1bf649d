"""Implicit conditioning: moments are an input of the denoiser, as heat maps (prior stage).

The paper's strongest baseline (Kadry et al., CardioComposer, ICLR 2026), kept for comparison with guidance.
One channel per structure holds the Gaussian of its centroid and covariance, concatenated to the latent. Its
height carries the volume: the map is the density of a Gaussian body of the structure's volume, and sums to
it. In training, structures are left out at random, so that any subset can be constrained.
"""

import math

import numpy as np
import torch

from ..anatomy.labels import Grid
from ..anatomy.moments import Moments
from .networks import REFINEMENT

LATENT_CELL = 4 * REFINEMENT  # voxels of a latent cell's edge
SAMPLES = 2  # points a latent cell and axis: small structures are narrower than a cell


def heat_maps(wanted: Moments, grid: Grid) -> torch.Tensor:
    """Maps (..., m, m, m) float32 of moments (...), of numpy arrays or tensors, m the latent's edge.

    A map is V N(x; C, S), the share of a place that a Gaussian body of volume V takes up; about 3 in the
    middle of a solid ellipsoid. Structures of no volume have a map of zeros.
    """
    volume, centroid, covariance = (
        # a copy: tables give arrays that are read-only
        torch.as_tensor(value if torch.is_tensor(value) else np.array(value), dtype=torch.float64)
        for value in (wanted.volume_ml, wanted.centroid_mm, wanted.covariance_mm2)
    )
    there = volume > 0
    unit = torch.eye(3, dtype=torch.float64, device=covariance.device)
    safe = torch.where(there[..., None, None], covariance, unit)
    axes = [torch.as_tensor(axis, device=unit.device) for axis in grid.axes_mm(LATENT_CELL // SAMPLES)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (p, p, p, 3)
    away = places - centroid[..., None, None, None, :]
    solved = torch.einsum("...xyzi,...ij->...xyzj", away, torch.linalg.inv(safe))
    density = torch.exp(-0.5 * (solved * away).sum(-1))
    height = 1000.0 * volume / (math.tau**1.5 * torch.linalg.det(safe).sqrt())
    density = density * torch.where(there, height, 0.0)[..., None, None, None]
    shape, m = density.shape[:-3], density.shape[-1] // SAMPLES
    cells = density.reshape(*shape, m, SAMPLES, m, SAMPLES, m, SAMPLES)
    return cells.mean(dim=(-5, -3, -1)).float()


def draw_kept(rng: np.random.Generator, batch: int, structures: int) -> torch.Tensor:
    """Which structures' heat maps a training sample gets, (B, K, 1, 1, 1) of 0 and 1.

    Every number of structures, none and all included, is as probable as any other.
    """
    share = rng.random((batch, 1))
    kept = rng.random((batch, structures)) < share
    return torch.from_numpy(kept.astype(np.float32))[..., None, None, None]
