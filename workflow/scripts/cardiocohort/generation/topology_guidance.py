"""Topology guidance: what the gate asks for, while a sample is drawn and after it (generation stage).

While a rejected sample is restarted, `lacking` steers it: rules whose kind is in `WHILE_DRAWN`, on the clean
estimate. Before that, a few steps are made on the clean latent of a sample that the gate rejects.

The gate's own table steers. For these steps, a rule whose kind is in `TERMS` has a differentiable counterpart
on the soft occupancy of the cells, so that a new row of such a kind both judges and guides. The steps stop as
soon as the gate accepts; the sample's own moments are held. Only the decoder is differentiated, not the
denoiser.

Two neighbouring cells u, v touch by the product p_a(u) p_b(v) of the probabilities of two structures. Where
that is below `UNSURE`, the label map that is decoded has no contact there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage

from .. import topology
from ..anatomy.moments import Moments, measure, of_each
from ..diffusion.bundle import Prior
from ..diffusion.networks import REFINEMENT
from ..topology import measures
from ..topology.rules import Rule, Rules
from ..topology.scene import Scene

UNSURE = 0.2  # product of probabilities below which neighbouring cells do not touch
UNIT = 0.25  # excess of a product that counts as 1
SURE_AREA = 2.0  # soft contact area that is pushed for, as a share of the least that a rule asks for
HOLD = 5.0  # weight of a change of the moments beside the terms of the rules
HELD_SHARE = 0.01  # relative change of a volume that counts as 1
HELD_MM = 0.5  # change of a centroid that counts as 1
STEP_FRACTION = 2.0  # of the Polyak step: terms need not vanish for the gate to accept
MARGIN = 1.5  # of the least volume or contact, below which a sample is steered while it is drawn
DETACHED_ML = 0.5  # of a structure, apart from where it ends, that counts as 1
LOG_UNIT = 0.25  # log of a volume or area over its margin that counts as 1
LONGEST_STEP = 1.5  # norm, in standard deviations of a latent's entry


@dataclass(frozen=True)
class Soft:
    """Probabilities (K+1, n, n, n) of a sample's labels in cells of `cell_mm`, and its decoded map."""

    occupancy: torch.Tensor
    cell_mm: float
    scene: Scene

    def of(self, labels: tuple[int, ...]) -> torch.Tensor:
        return self.occupancy[list(labels)].sum(0)

    @cached_property
    def labels(self) -> np.ndarray:
        return self.occupancy.detach().argmax(0).cpu().numpy()

    def breaches(self, rule: Rule) -> torch.Tensor:
        """1 for cells at the voxels that the rule `breach` counts, else 0."""
        mask = np.zeros(self.scene.labels.shape, bool)
        box, found = measures.breach_voxels(self.scene, rule)
        mask[box] = found
        n = self.occupancy.shape[1]
        cells = ndimage.binary_dilation(mask).reshape(n, REFINEMENT, n, REFINEMENT, n, REFINEMENT)
        return torch.as_tensor(cells.any((1, 3, 5)), dtype=torch.float32, device=self.occupancy.device)

    def away(self, rule: Rule) -> torch.Tensor:
        """1 for cells farther than `openings_mm` from where the structure meets the openings, else 0."""
        inside = np.isin(self.labels, rule.structure)
        at_opening = inside & ndimage.binary_dilation(np.isin(self.labels, rule.openings))
        if not at_opening.any():
            return torch.ones_like(self.occupancy[0])
        distance = ndimage.distance_transform_edt(~at_opening, self.cell_mm)
        return torch.as_tensor(distance > rule.openings_mm, dtype=torch.float32, device=self.occupancy.device)


def _faces(a: torch.Tensor, b: torch.Tensor) -> Iterator[torch.Tensor]:
    """Products of `a` (..., n, n, n) in a cell and `b` in its neighbour, for the six directions."""
    for axis in (-3, -2, -1):
        n = a.shape[axis] - 1
        yield a.narrow(axis, 0, n) * b.narrow(axis, 1, n)
        yield a.narrow(axis, 1, n) * b.narrow(axis, 0, n)


def _touching(a: torch.Tensor, b: torch.Tensor, unsure: float = UNSURE) -> torch.Tensor:
    """Sum over pairs of neighbouring cells, of fields (..., n, n, n)."""
    return sum(_summed(((face - unsure).clamp_min(0) / UNIT).square()) for face in _faces(a, b))


def _summed(field: torch.Tensor) -> torch.Tensor:
    """(...,) of (..., n, n, n)."""
    return field.sum((-3, -2, -1))


def contact(soft: Soft, rule: Rule) -> torch.Tensor:
    """What must not touch, beyond the area that the rule allows; and what must be joined, below its area."""
    a, b = soft.of(rule.structure), soft.of(rule.other)
    area = sum(face.sum() for face in _faces(a, b)) * soft.cell_mm**2
    total = area.new_zeros(())
    if np.isfinite(rule.maximum):
        beyond = float((1.0 - rule.maximum / area.detach().clamp_min(1e-6)).clamp_min(0))
        total = total + beyond * _touching(a, b)
    if measures.contact(soft.scene, rule) < rule.minimum:  # the soft area counts unlikely cells as well
        total = total + ((1.0 - area / (SURE_AREA * rule.minimum)).clamp_min(0) / UNIT).square()
    return total


def enclosure(soft: Soft, rule: Rule) -> torch.Tensor:
    """The structure against what is neither itself nor its wall, away from the openings."""
    blood = soft.of(rule.structure)
    outside = (1.0 - blood - soft.of(rule.other)).clamp_min(0)
    return _touching(blood * soft.away(rule), outside)


def breach(soft: Soft, rule: Rule) -> torch.Tensor:
    """The structure against what is neither wall nor opening, at the holes that the decoded map has.

    Such a hole may be a voxel wide, so that every probability counts.
    """
    blood = soft.of(rule.structure)
    outside = (1.0 - blood - soft.of(rule.other + rule.openings)).clamp_min(0)
    return _touching(blood * soft.breaches(rule), outside, 0.0)


def exposure(soft: Soft, rule: Rule) -> torch.Tensor:
    """The structure against what is neither wall nor opening, beyond the share that the rule allows."""
    share = measures.exposure(soft.scene, rule)  # that of the gate: soft borders would count as bare
    if not share > rule.maximum:
        return soft.occupancy.new_zeros(())
    outside = (1.0 - soft.of(rule.structure + rule.other + rule.openings)).clamp_min(0)
    return (1.0 - rule.maximum / share) * _touching(soft.of(rule.structure), outside)


TERMS: dict[str, Callable[[Soft, Rule], torch.Tensor]] = {
    "contact": contact,
    "exposure": exposure,
    "leak": enclosure,
    "breach": breach,
    "wall_thickness": enclosure,
}

# violations that steps can remove, a second hole by the terms of the wall; another attempt is cheaper for a
# vessel that is missing
TREATED = frozenset((*TERMS, "holes"))


def _steering(rules: Rules, terms: Mapping[str, Callable]) -> Iterator[Rule]:
    """The rules that one of the `terms` counts; of rows that steer alike, such as the two of the wall's
    thickness, the first."""
    seen = set()
    for rule in rules.checks:
        if rule.kind not in terms or (rule.kind == "wall_thickness" and not np.isfinite(rule.minimum)):
            continue  # a wall that is too thick alone is not steered
        bounds = (rule.minimum, rule.maximum) if rule.kind in ("contact", "exposure", "volume") else ()
        key = (terms[rule.kind], rule.structure, rule.other, rule.openings, rule.openings_mm, bounds)
        if key not in seen:
            seen.add(key)
            yield rule


def topology_loss(occupancy: torch.Tensor, labels: np.ndarray, prior: Prior, rules: Rules) -> torch.Tensor:
    """Sum of the terms of `rules` on a sample's occupancy (K+1, n, n, n), whose map is `labels` (X, Y, Z).

    0 where all are kept.
    """
    h = prior.grid.spacing_mm
    soft = Soft(occupancy, h * REFINEMENT, Scene(labels, (h, h, h), prior.anatomy))
    total = occupancy.new_zeros(())
    for rule in _steering(rules, TERMS):
        total = total + TERMS[rule.kind](soft, rule)
    return total


@dataclass(frozen=True)
class Estimate:
    """Occupancies (B, K+1, n, n, n) in cells of `cell_mm` of samples that are being drawn."""

    occupancy: torch.Tensor
    cell_mm: float

    def of(self, labels: tuple[int, ...]) -> torch.Tensor:
        return self.occupancy[:, list(labels)].sum(1)

    @cached_property
    def labels(self) -> np.ndarray:
        return self.occupancy.detach().argmax(1).cpu().numpy()


def _short(found: torch.Tensor, least: float) -> torch.Tensor:
    """How far (B,) volumes or areas are below `MARGIN` times the least."""
    if not 0 < least < np.inf:
        return torch.zeros_like(found)
    return ((MARGIN * least / found.clamp_min(1e-3)).log().clamp_min(0) / LOG_UNIT).square()


def _volume(e: Estimate, rule: Rule) -> torch.Tensor:
    return _short(_summed(e.of(rule.structure)) * (e.cell_mm**3 / 1000.0), rule.minimum)


def _contact(e: Estimate, rule: Rule) -> torch.Tensor:
    own, other = e.of(rule.structure), e.of(rule.other)
    area = sum(_summed(face) for face in _faces(own, other)) * e.cell_mm**2
    beyond = (1.0 - rule.maximum / area.detach().clamp_min(1e-6)).clamp_min(0)
    if not beyond.any():
        return _short(area, rule.minimum)
    return _short(area, rule.minimum) + beyond * _touching(own, other)


def _detached(e: Estimate, rule: Rule) -> torch.Tensor:
    """Volume of pieces of the structure that do not reach the other one."""
    masks, touching = [], np.ones((3, 3, 3))
    for labels in e.labels:
        pieces, _ = ndimage.label(np.isin(labels, rule.structure), touching)
        near = ndimage.binary_dilation(np.isin(labels, rule.other), touching)
        masks.append((pieces > 0) & ~np.isin(pieces, np.unique(pieces[near])))
    mask = torch.as_tensor(np.stack(masks), dtype=torch.float32, device=e.occupancy.device)
    return _summed(e.of(rule.structure) * mask) * (e.cell_mm**3 / 1000.0 / DETACHED_ML)


WHILE_DRAWN: dict[str, Callable[[Estimate, Rule], torch.Tensor]] = {
    "volume": _volume,
    "contact": _contact,
    "gap": _detached,
}


def lacking(occupancy: torch.Tensor, cell_mm: float, rules: Rules) -> torch.Tensor:
    """What is about to go wrong with samples that are being drawn, (B,): the sum of the terms of `rules`.

    occupancy (B, K+1, n, n, n) in cells of `cell_mm`. 0 where nothing is. Few rules are about to be broken:
    gradients are kept of their terms alone.
    """
    seen, estimate = Estimate(occupancy.detach(), cell_mm), Estimate(occupancy, cell_mm)
    broken = [r for r in _steering(rules, WHILE_DRAWN) if WHILE_DRAWN[r.kind](seen, r).any()]
    return sum(
        (WHILE_DRAWN[rule.kind](estimate, rule) for rule in broken),
        start=occupancy.new_zeros(len(occupancy)),
    )


def topology_steps(
    prior: Prior,
    z: torch.Tensor,
    labels: np.ndarray,
    verdict: topology.Verdict,
    rules: Rules,
    most: int,
    free: torch.Tensor | None = None,
) -> Iterator[np.ndarray]:
    """Label maps (X, Y, Z) uint8 after each of at most `most` steps from z (1, L, m, m, m), whose `labels`
    are rejected.

    None where the violations of `verdict` are none that steps remove. free (1, 1, m, m, m): 1 where the
    latent may change, else 0; None for everywhere.
    """
    kinds = {rule.id: rule.kind for rule in rules.checks}
    if not {kinds[name] for name in verdict.failed_rules} <= TREATED:
        return
    own = None
    for _ in range(most):
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            occupancy = prior.logits(z).float().softmax(1)
            moments = measure(occupancy[:, 1:], prior.cell_axes_mm, REFINEMENT)
            if own is None:
                own = of_each(torch.Tensor.detach, moments)
            broken = topology_loss(occupancy[0], labels, prior, rules)
            (gradient,) = torch.autograd.grad(broken + HOLD * _moved(moments, own), z)
        gradient = gradient if free is None else gradient * free
        norm, excess = float(gradient.norm()), float(broken.detach())
        if not excess > 0 or norm == 0:
            return
        z = z.detach() - gradient * min(STEP_FRACTION * excess / norm**2, LONGEST_STEP / norm)
        with torch.no_grad():
            labels = prior.labels(z)[0].cpu().numpy()
        yield labels


def _moved(moments: Moments, own: Moments) -> torch.Tensor:
    """Mean square change of volumes and centroids of the structures that the sample has."""
    there = own.volume_ml[0] > 1.0
    volumes = (moments.volume_ml / own.volume_ml.clamp_min(1e-3) - 1.0)[0, there] / HELD_SHARE
    centroids = (moments.centroid_mm - own.centroid_mm)[0, there] / HELD_MM
    return volumes.square().mean() + centroids.square().mean()
