"""Latents to occupancies at full resolution, differentiable (generation stage; rule `dps`)."""

import torch

from ..diffusion.bundle import Prior
from ..diffusion.device import autocast
from ..diffusion.networks import CERTAIN, REFINEMENT


def full_occupancy(prior: Prior, z: torch.Tensor) -> torch.Tensor:
    """Probabilities (B, K+1, X, Y, Z) of the labels of every voxel, of clean latents z (B, L, m, m, m).

    As `Prior.labels` decodes: the detail head separates the voxels of cells that are not certain. Those of
    certain cells have the cell's probabilities. The argmax is that label map.
    """
    network = prior.autoencoder
    with autocast(prior.device):
        logits, features = network.decode_with_features(z * prior.spread + prior.mean)
        probability = logits.softmax(1)
        cells = torch.where(probability.detach().amax(1) < CERTAIN)
        fine = network.detail(features, logits, cells).float().softmax(2) if len(cells[0]) else None
    r = REFINEMENT
    b, c, x, y, z_edge = probability.shape
    # (B, x, y, z, R^3, C): one row of voxels per cell, so that refined cells can be put in place
    blocks = probability.permute(0, 2, 3, 4, 1)[:, :, :, :, None, :].expand(-1, -1, -1, -1, r**3, -1)
    if fine is not None:
        blocks = blocks.index_put(cells, fine)
    blocks = blocks.reshape(b, x, y, z_edge, r, r, r, c).permute(0, 7, 1, 4, 2, 5, 3, 6)
    return blocks.reshape(b, c, r * x, r * y, r * z_edge)


def full_axes_mm(prior: Prior) -> tuple[torch.Tensor, ...]:
    """Coordinates of the voxels' centres, float32 tensors on the device."""
    return tuple(torch.tensor(a, dtype=torch.float32, device=prior.device) for a in prior.grid.axes_mm())
