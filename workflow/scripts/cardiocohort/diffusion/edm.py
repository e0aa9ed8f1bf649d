"""The EDM design of diffusion models: schedule, preconditioning, loss (prior and generation stages).

Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022,
with data standardised to unit variance (sigma_data = 1).
"""

from collections.abc import Callable

import torch

NOISE_MEAN, NOISE_SD = -0.4, 1.4  # of log sigma in training


def schedule(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """Decreasing noise levels, `steps` of them and a final 0 (Karras et al., eq. 5)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [*((high + ramp * (low - high)) ** rho).tolist(), 0.0]


def precondition(network: Callable) -> Callable:
    """D(z, sigma) from the raw network (Karras et al., table 1): z (B, ...), sigma (B,) -> clean estimate."""

    def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s = sigma.reshape(-1, *([1] * (z.ndim - 1)))
        total = (1 + s**2).sqrt()
        return z / total**2 + s / total * network(z / total, sigma.log() / 4)

    return denoise


def loss(denoise: Callable, clean: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Weighted squared error of the clean estimate, (B,) (Karras et al., eq. 2 with lambda of table 1)."""
    s = sigma.reshape(-1, *([1] * (clean.ndim - 1)))
    weight = (1 + s**2) / s**2
    return (weight * (denoise(clean + s * noise, sigma) - clean) ** 2).flatten(1).mean(1)
