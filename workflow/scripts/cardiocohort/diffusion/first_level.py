"""Where sampling starts: noisy latents of the population at the first noise level (prior, generation stages).

At level sigma they are distributed as the population's latents plus N(0, sigma^2). Noise alone is that only
where sigma is far above all that latents span. It is not: in the prior `people` their mean lies 89 from zero,
their first mode has a standard deviation of 28, and sampling starts at 30. The denoiser has not seen such
latents, and what it makes of them is too wide and often broken (docs/validation/generation.md). A Gaussian
with the mean and the first modes of the population has no such gap: the noise hides what is not Gaussian.
"""

from dataclasses import dataclass

import torch

MODES = 32  # the variance of further ones is small beside that of the noise
MOST = 2000  # latents that a fit takes, evenly spaced among more


@dataclass(frozen=True)
class LatentGaussian:
    """Mean (L, m, m, m) and principal modes (K, L, m, m, m) of clean latents; a mode's norm is its SD."""

    mean: torch.Tensor
    modes: torch.Tensor

    def start(self, noise: torch.Tensor, sigma: float) -> torch.Tensor:
        """Noise (B, L, m, m, m) of unit variance -> noisy latents at `sigma`, in units of `sigma`."""
        modes = self.modes.flatten(1).double()
        sd = modes.norm(dim=1)
        directions = modes / sd[:, None]
        wider = (1 + (sd / sigma) ** 2).sqrt() - 1
        # one by one: the products of a batch are rounded otherwise, and a subject may not depend on others
        offsets = [((directions @ z.flatten().double()) * wider) @ directions for z in noise]
        return noise + torch.stack(offsets).reshape(noise.shape).to(noise.dtype) + self.mean / sigma


def fit(latents: torch.Tensor) -> LatentGaussian:
    """Mean and first modes of latents (N, L, m, m, m); fewer modes where there are fewer latents."""
    latents = latents[:: -(-len(latents) // MOST)]
    mean = latents.mean(0)
    rows = (latents - mean).flatten(1).double()
    variances, vectors = torch.linalg.eigh(rows @ rows.T / max(len(rows) - 1, 1))
    order = torch.argsort(variances, descending=True)[:MODES]
    kept = order[variances[order] > 1e-6 * variances.max().clamp(min=1e-12)]
    # rows.T @ vector has the norm sqrt(variance (N - 1))
    modes = (rows.T @ vectors[:, kept]).T / max(len(rows) - 1, 1) ** 0.5
    return LatentGaussian(mean, modes.float().reshape(-1, *latents.shape[1:]).contiguous())
