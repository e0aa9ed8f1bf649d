"""Moment guidance: a denoiser whose clean estimate is steered towards target moments (generation stage).

The loss compares the moments of the decoded clean estimate with the targets; every sample's loss is
its own, so that the gradient of sample i never depends on sample j. Two rules:

* `dps`, the paper's: D - sigma^2 w grad_z L, with L in the unit cube (Kadry et al., ICLR 2026);
* `fast`: the latent itself is moved by a Polyak step, fraction * L / |grad L|^2 * grad L, never further
  than `trust` noise standard deviations. Residuals are in units of the moment's spread in the
  reference population, so the step finds its own length and no weight needs tuning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..anatomy import ATTRIBUTES
from ..moments import Moments, measure
from ..prior.bundle import Prior
from ..prior.networks import REFINEMENT


@dataclass(frozen=True)
class GuidanceSettings:
    """How sampling is steered; `weight` is the paper's w (rule `dps` only).

    lambda_*: weights of the attributes. fraction, trust, every, sigma_from, sigma_to: rule `fast`;
    guidance acts on every `every`-th level, counted back from the last, with sigma_to <= sigma <= sigma_from.
    """

    method: str = "fast"
    steps: int = 30
    sigma_max: float = 30.0
    sigma_min: float = 0.02
    weight: float = 1.0
    lambda_size: float = 1.0
    lambda_position: float = 1.0
    lambda_shape: float = 1.0
    fraction: float = 1.0
    trust: float = 0.1
    every: int = 2
    sigma_from: float = 30.0
    sigma_to: float = 0.02


@dataclass(frozen=True)
class Constraint:
    """Targets of one structure or union for a batch of B samples.

    moments: torch tensors (B,), (B, 3), (B, 3, 3); active (B, 3) says which of size, position, shape
    count; spread: SDs of log volume, centroid (mm) and S^n entries in the reference population.
    """

    labels: tuple[int, ...]
    moments: Moments
    active: torch.Tensor
    spread: dict[str, float]


@dataclass(frozen=True)
class Step:
    """One guided evaluation, for the record: noise level, loss and gradient norm per sample."""

    sigma: float
    loss: torch.Tensor
    gradient: torch.Tensor


def unit_cube_loss(prior: Prior, z: torch.Tensor, constraints: list[Constraint], s: GuidanceSettings):
    """The paper's loss per sample (B,): MSE of volume fraction, centroid in the unit cube, S^n."""
    edge = prior.grid.spacing_mm * prior.grid.shape[0]

    def residuals(found: Moments, wanted: Moments, _spread):
        return (
            (found.volume_ml - wanted.volume_ml) / (edge**3 / 1000.0),
            (found.centroid_mm - wanted.centroid_mm) / edge,
            found.shape - wanted.shape,
        )

    return _loss(prior, z, constraints, s, residuals)


def standardised_loss(prior: Prior, z: torch.Tensor, constraints: list[Constraint], s: GuidanceSettings):
    """Loss per sample (B,) with residuals in reference standard deviations; volumes by logarithm."""

    def residuals(found: Moments, wanted: Moments, spread):
        ratio = found.volume_ml.clamp_min(1e-3) / wanted.volume_ml
        return (
            ratio.log() / spread["log_volume"],
            (found.centroid_mm - wanted.centroid_mm) / spread["centroid_mm"],
            (found.shape - wanted.shape) / spread["shape"],
        )

    return _loss(prior, z, constraints, s, residuals)


def _loss(prior, z, constraints, s, residuals):
    occupancy = prior.logits(z).softmax(1)
    weights = z.new_tensor([getattr(s, f"lambda_{name}") for name in ATTRIBUTES])
    total = z.new_zeros(len(z))
    for c in constraints:
        union = occupancy[:, list(c.labels)].sum(1)
        found = measure(union, prior.cell_axes_mm, REFINEMENT)
        squares = [(r**2).reshape(len(z), -1).mean(1) for r in residuals(found, c.moments, c.spread)]
        total = total + (torch.stack(squares, 1) * weights * c.active).sum(1)
    return total / max(len(constraints), 1)


def guided(
    prior: Prior,
    constraints: list[Constraint],
    s: GuidanceSettings,
    sigmas: list[float],
    on_step: Callable[[Step], None] = lambda step: None,
) -> Callable:
    """The prior's denoiser, steered; without any constraint it is the denoiser itself.

    `sigmas` is the schedule the denoiser is called on (rule `fast` needs the level that follows).
    """
    if not constraints:

        def unguided(z, sigma):
            with torch.no_grad():
                return prior.denoise(z, sigma)

        return unguided
    following = dict(pairwise(sigmas))
    acting = {level for level in sigmas[-2 :: -s.every] if s.sigma_to <= level <= s.sigma_from}
    loss_of = unit_cube_loss if s.method == "dps" else standardised_loss

    def denoise(z, sigma):
        level = float(sigma[0])
        level = min(following, key=lambda known: abs(known - level))  # float32 round-off of the schedule
        if s.method == "fast" and level not in acting:
            with torch.no_grad():
                return prior.denoise(z, sigma)
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            clean = prior.denoise(z, sigma)
            loss = loss_of(prior, clean, constraints, s)
            gradient = torch.autograd.grad(loss.sum(), z)[0]
        clean = clean.detach()
        length = gradient.flatten(1).norm(dim=1)
        on_step(Step(level, loss.detach(), length))
        if s.method == "dps":
            return clean - level**2 * s.weight * gradient
        cap = s.trust * level * z[0].numel() ** 0.5
        step = torch.minimum(
            s.fraction * loss.detach() / length.clamp_min(1e-20), torch.full_like(length, cap)
        )
        shift = gradient * (step / length.clamp_min(1e-20)).reshape(-1, *[1] * (z.ndim - 1))
        # written as a change of the clean estimate that moves the next latent by exactly -shift
        return clean - shift * level / (level - following[level])

    return denoise
