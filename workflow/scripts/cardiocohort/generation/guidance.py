"""Moment guidance: a denoiser whose clean estimate is steered towards target moments (generation stage).

The loss compares the moments of the decoded clean estimate with the targets; every sample's loss is
its own, so that the gradient of sample i never depends on sample j. Two rules:

* `dps`, the paper's: D - sigma^2 w grad_z L, with L in the unit cube and moments of the label map as it is
  decoded in full (Kadry et al., ICLR 2026);
* `polyak`: the latent itself is moved by a Polyak step, fraction * L / |grad L|^2 * grad L, never further
  than `trust_radius` noise standard deviations. Residuals are in units of the attribute's spread in the
  reference population, so the step finds its own length and no weight needs tuning. With `momentum` the
  directions of the steps before are kept in part (heavy ball; Polyak, USSR Comput. Math. 1964). Soft
  occupancies and the label map differ by a few per cent; the last steps remove that (`label_moments`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch.nn import functional as F

from ..anatomy import attributes
from ..anatomy.moments import Moments, measure
from ..anatomy.thickness import mean_thickness_mm
from ..diffusion.bundle import Prior
from ..diffusion.networks import REFINEMENT
from .decoding import full_axes_mm, full_occupancy
from .settings import GuidanceSettings
from .siblings import Base

SPECK_ML = 0.01  # a structure of less counts as empty
SHORTER, LONGER = 0.5, 1.25  # steps after a gradient that turned back, and after one that did not


@dataclass(frozen=True)
class Constraint:
    """One attribute of a structure, or one relation of two, for a batch of B samples.

    labels, wanted and within hold one entry per structure: its labels, its target moments as torch tensors
    (B,), (B, 3), (B, 3, 3), and its domain, None for the whole. active (B,) is 1 for the samples that are to
    meet it, else 0. spread: the attribute's standard deviation in the reference population
    (`attributes.spread`). weight: in the loss of `polyak`, beside the attribute's lambda.
    """

    attribute: str
    labels: tuple[tuple[int, ...], ...]
    wanted: tuple[Moments, ...]
    active: torch.Tensor
    spread: float
    weight: float = 1.0
    within: tuple["Within | None", ...] = (None, None)

    @property
    def measured(self) -> tuple[tuple, ...]:
        """What it needs measured: (labels, domain) of each structure."""
        return tuple(zip(self.labels, self.within, strict=False))


@dataclass(frozen=True, eq=False)
class Within:
    """A domain of B samples, fixed while they are sampled: weights (B, X, Y, Z) of the voxels."""

    weights: torch.Tensor

    def on_cells(self, refinement: int) -> torch.Tensor:
        """Weights of cells of `refinement`^3 voxels: means over their voxels."""
        if refinement == 1:
            return self.weights
        return F.avg_pool3d(self.weights[:, None], refinement)[:, 0]


@dataclass(frozen=True)
class Step:
    """One guided evaluation, for the record: noise level, loss and gradient norm per sample."""

    sigma: float
    loss: torch.Tensor
    gradient: torch.Tensor


def unit_cube_loss(prior: Prior, z: torch.Tensor, constraints: list[Constraint], s: GuidanceSettings):
    """The paper's loss per sample (B,): sum over attributes of lambda times the mean squared error in the
    unit cube, over the structures that constrain the attribute. Volumes are shares of the field, lengths
    shares of its edge. The paper has size, position and shape; the others follow its units.
    """
    edge = prior.grid.spacing_mm * prior.grid.shape[0]
    measured = _measured(full_occupancy(prior, z), full_axes_mm(prior), 1, constraints)
    total = z.new_zeros(len(z))
    for attribute in dict.fromkeys(c.attribute for c in constraints):
        alike = [c for c in constraints if c.attribute == attribute]
        errors = [(_in_unit_cube(c, measured, edge) ** 2).mean(1) * c.active for c in alike]
        active = sum(c.active for c in alike).clamp_min(1.0)
        total = total + s.dps.weight_of(attribute) * sum(errors) / active
    return total


def _in_unit_cube(c: Constraint, measured: dict, edge: float) -> torch.Tensor:
    achieved = tuple(measured[part] for part in c.measured)
    if c.attribute in ("size", "area"):
        return (achieved[0].volume_ml - c.wanted[0].volume_ml)[:, None] / (edge**3 / 1000.0)
    if c.attribute == "scale":
        return (achieved[0].scale_mm2 - c.wanted[0].scale_mm2)[:, None] / edge**2
    if c.attribute == "volume_ratio":
        return (attributes.volume_ratio(*achieved) - attributes.volume_ratio(*c.wanted))[:, None]
    if c.attribute == "thickness":
        return (achieved[0].thickness_mm - c.wanted[0].thickness_mm)[:, None] / edge
    differs = attributes.differences(c.attribute, achieved, c.wanted)
    return differs / edge if c.attribute in ("position", "distance") else differs


def standardised_loss(
    prior: Prior,
    z: torch.Tensor,
    constraints: list[Constraint],
    s: GuidanceSettings,
    base: Base | None = None,
    lacking: Callable[[torch.Tensor], torch.Tensor] | None = None,
    of_labels: dict | None = None,
):
    """Mean over a sample's constraints of lambda times the mean squared residual, (B,).

    Residuals are in standard deviations of the reference population; moments are those of the 4 mm cells.
    With `of_labels` (`label_moments`), their values are those of the label map; gradients remain the cells'.
    With a `base`, the deviation of its siblings from it counts beside the residuals. lacking: what else
    counts, of the occupancies (`topology_guidance.lacking`).
    """
    occupancy = prior.logits(z).softmax(1)
    measured = _measured(occupancy, prior.cell_axes_mm, REFINEMENT, constraints)
    if of_labels is not None:
        measured = {part: _as_labels(measured[part], of_labels[part]) for part in measured}
    total = base.base_deviation(occupancy) if base else z.new_zeros(len(z))
    for c in constraints:
        achieved = tuple(measured[part] for part in c.measured)
        residual = attributes.differences(c.attribute, achieved, c.wanted) / c.spread
        total = total + s.weight_of(c.attribute) * c.weight * c.active * (residual**2).mean(1)
    if constraints:
        total = total / sum(c.active for c in constraints).clamp_min(1.0)
    return total + lacking(occupancy) if lacking else total


def label_moments(prior: Prior, z: torch.Tensor, constraints: list[Constraint]) -> dict:
    """Moments of the label maps that clean latents z decode to, as `_measured` has them."""
    with torch.no_grad():
        labels = prior.labels(z).long()
        parts, members = _membership(constraints, prior.anatomy.n_channels, z.device)
        return _measure_parts(members.T[labels].movedim(-1, 1), parts, full_axes_mm(prior), 1, constraints)


def _as_labels(soft: Moments, labels: Moments) -> Moments:
    """The values of `labels` with the gradients of `soft`: a straight-through estimate.

    A volume is scaled, since its logarithm is compared; a structure that is empty in either stays as it is.
    """
    there = (soft.volume_ml > SPECK_ML) & (labels.volume_ml > SPECK_ML)

    def values_of(own, other):
        if own is None:
            return None
        known = there.reshape(there.shape + (1,) * (own.ndim - there.ndim))
        return own + torch.where(known, other - own, torch.zeros_like(own)).detach()

    ratio = torch.where(there, labels.volume_ml / soft.volume_ml.clamp_min(SPECK_ML), 1.0).detach()
    others = ("centroid_mm", "covariance_mm2", "thickness_mm")
    changed = {name: values_of(getattr(soft, name), getattr(labels, name)) for name in others}
    return Moments(soft.volume_ml * ratio, **changed)


def _measured(occupancy, axes_mm, refinement: int, constraints: list[Constraint]) -> dict:
    """Moments by labels and domain of what the constraints need, from occupancies (B, K+1, X, Y, Z)."""
    parts, members = _membership(constraints, occupancy.shape[1], occupancy.device)
    rows = torch.einsum("gk,bkxyz->bgxyz", members, occupancy)
    return _measure_parts(rows, parts, axes_mm, refinement, constraints)


def _membership(constraints: list[Constraint], n_channels: int, device) -> tuple[list, torch.Tensor]:
    """Parts (labels, domain) that constraints need, each once; which channels are in each (G, K+1)."""
    parts = list(dict.fromkeys(part for c in constraints for part in c.measured))
    members = torch.zeros(len(parts), n_channels, device=device)
    for row, (group, _) in zip(members, parts, strict=True):
        row[list(group)] = 1.0
    return parts, members


def _measure_parts(
    rows: torch.Tensor, parts: list[tuple], axes_mm, refinement: int, constraints: list[Constraint]
) -> dict:
    """Moments of rows (B, G, X, Y, Z) by part; a part in a domain is a row that is weighted.

    Those whose thickness is constrained have one. All together: with one structure at a time, the gradient
    would be summed over as many fields of zeros.
    """
    domains = [within for _, within in parts]
    whole = rows
    if any(domains):
        weights = torch.stack(
            [w.on_cells(refinement) if w else torch.ones_like(rows[:, 0]) for w in domains], dim=1
        )
        rows = rows * weights
    measured = measure(rows, axes_mm, refinement)
    found = {part: measured[:, i] for i, part in enumerate(parts)}
    for part in {c.measured[0] for c in constraints if c.attribute == "thickness"}:
        i, cell_mm = parts.index(part), float(axes_mm[0][1] - axes_mm[0][0])
        pair = whole[:, i], weights[:, i]
        if refinement == 1:  # thickness is defined on cells
            pair, cell_mm = [F.avg_pool3d(f[:, None], REFINEMENT)[:, 0] for f in pair], cell_mm * REFINEMENT
        found[part] = replace(found[part], thickness_mm=mean_thickness_mm(*pair, cell_mm))
    return found


def guided(
    prior: Prior,
    constraints: list[Constraint],
    s: GuidanceSettings,
    sigmas: list[float],
    on_step: Callable[[Step], None] = lambda step: None,
    base: Base | None = None,
    lacking: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Callable:
    """The prior's denoiser, steered; without any constraint and `lacking` it is the denoiser itself.

    `sigmas` is the schedule the denoiser is called on (rule `polyak` needs the level that follows). With a
    `base`, cells that it holds keep its values, and only free ones are steered. lacking: loss (B,) of the
    occupancies that `polyak` counts beside constraints from the level `topology_from` on.
    """

    def estimate(z, sigma):
        clean = prior.denoise(z, sigma)
        return base.keep(clean) if base else clean

    def unguided(z, sigma):
        with torch.no_grad():
            return estimate(z, sigma)

    if s.method == "dps":
        lacking = None  # as published
    if not constraints and lacking is None:
        return unguided
    following = dict(pairwise(sigmas))
    every, fraction, momentum = s.guide_every, s.step_fraction, s.momentum
    if base:  # a sibling has few levels and has to keep close
        every, fraction, momentum = 1, s.sibling.step_fraction, 0.0
    acting = {level for level in sigmas[-2::-every] if s.sigma_to <= level <= s.sigma_from}
    by_labels = set(sorted(acting)[: s.label_levels])
    before, lacked = None, False
    share = torch.ones(1, device=prior.device)

    def denoise(z, sigma):
        nonlocal before, lacked, share
        level = float(sigma[0])
        level = min(following, key=lambda known: abs(known - level))  # float32 round-off of the schedule
        also = lacking if level <= s.topology_from else None
        if (not constraints and also is None) or (s.method == "polyak" and level not in acting):
            return unguided(z, sigma)
        if not constraints and not lacked:  # most samples lack nothing: found out without gradients
            clean = unguided(z, sigma)
            with torch.no_grad():
                if not standardised_loss(prior, clean, [], s, base, also).any():
                    return clean
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            clean = estimate(z, sigma)
            if s.method == "dps":
                loss = unit_cube_loss(prior, clean, constraints, s)
            else:
                by_map = constraints and level in by_labels
                of_labels = label_moments(prior, clean.detach(), constraints) if by_map else None
                loss = standardised_loss(prior, clean, constraints, s, base, also, of_labels)
            if not constraints:
                lacked = bool(loss.any())
                if not lacked:
                    return clean.detach()
            gradient = torch.autograd.grad(loss.sum(), z)[0]
        clean = clean.detach()
        gradient = gradient * base.free if base else gradient
        length = gradient.flatten(1).norm(dim=1)
        if constraints:
            on_step(Step(level, loss.detach(), length))
        if s.method == "dps":
            return clean - level**2 * s.dps.weight * gradient
        direction, slope = gradient, length
        if momentum and before is not None:
            direction, slope = with_momentum(gradient, length, before, momentum)
        if base and before is not None:
            share = damped(share, gradient, before)
        before = direction
        # at the last levels the noise is small against what remains to be corrected
        cap = s.trust_radius * max(level, s.trust_from) * z[0].numel() ** 0.5
        step = share * (fraction * loss.detach() / slope.clamp_min(1e-20)).clamp_max(cap)
        norm = direction.flatten(1).norm(dim=1).clamp_min(1e-20)
        shift = direction * (step / norm).reshape(-1, *[1] * (z.ndim - 1))
        # written as a change of the clean estimate that moves the next latent by exactly -shift
        return clean - shift * level / (level - following[level])

    return denoise


def damped(share: torch.Tensor, gradient: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """The share (B,) of a step to be taken, from that of the step before and both gradients (B, ...).

    Polyak's step is right where the least loss is zero. What a sibling holds keeps its loss above, so near
    the least whole steps go too far, back and forth. Shares fall and rise as the steps of Rprop do
    (Riedmiller and Braun, IEEE ICNN 1993), at most to 1.
    """
    turned = (gradient * before).flatten(1).sum(1) < 0
    return torch.where(turned, SHORTER * share, (LONGER * share).clamp_max(1.0))


def with_momentum(
    gradient: torch.Tensor, length: torch.Tensor, before: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient (B, ...) plus `share` of its length (B,) along the direction before; and the slope (B,).

    The slope is that of the loss along the sum. It is positive, since `share` is below 1: at least
    sqrt(1 - share^2) of the gradient's length.
    """
    shape = (-1, *[1] * (gradient.ndim - 1))
    past = before.flatten(1).norm(dim=1).clamp_min(1e-20)
    direction = gradient + before * (share * length / past).reshape(shape)
    norm = direction.flatten(1).norm(dim=1).clamp_min(1e-20)
    return direction, (direction * gradient).flatten(1).sum(1) / norm
