"""Deterministic EDM sampling (generation stage): probability-flow ODE from noise to a clean latent.

Source: Karras et al., NeurIPS 2022, algorithm 1 without churn. A denoiser is any D(z, sigma); guidance
wraps it, so a sampler knows nothing about it.
"""

from collections.abc import Callable
from itertools import pairwise

import torch


def sample(denoise: Callable, noise: torch.Tensor, sigmas: list[float], order: int = 1) -> torch.Tensor:
    """Integrate from `noise` (B, ...) of unit variance at sigmas[0] down to sigmas[-1].

    `denoise(z, sigma)` takes sigma (B,). order 1 is Euler, order 2 Heun (twice the cost, except the
    step to 0, where Heun has no slope to average with). The state stays in the noise's precision.
    """
    z = noise * sigmas[0]
    for sigma, following in pairwise(sigmas):
        slope = (z - denoise(z, z.new_full((len(z),), sigma))) / sigma
        moved = z + (following - sigma) * slope
        if order == 2 and following > 0:
            slope_there = (moved - denoise(moved, z.new_full((len(z),), following))) / following
            moved = z + (following - sigma) * (slope + slope_there) / 2
        z = moved
    return z
