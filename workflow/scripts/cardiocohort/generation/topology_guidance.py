"""Topology guidance: what the gate asks for, while a sample is drawn and after it (generation stage).

While a rejected sample is restarted, `lacking` steers it by the terms `WHILE_DRAWN`, on the clean estimate.
Before that, a few steps are made on the clean latent of a sample that the gate rejects, by the terms `TERMS`.

The gate's own table steers. A term belongs to a bound, the minimum or the maximum of a kind of rule, and is
its differentiable counterpart on the soft occupancy of the cells. So a new row with such a bound both judges
and guides; `topology.guided` lists these bounds for a dry run. The steps stop as soon as the gate accepts;
the sample's own moments are held. Only the decoder is differentiated, not the denoiser.

Two cells u, v touch by the product p_a(u) p_b(v) of the probabilities of two structures. Where that is below
`UNSURE`, the label map that is decoded has no contact there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from scipy import ndimage

from .. import topology
from ..anatomy.moments import Moments, measure, of_each
from ..diffusion.bundle import Prior
from ..diffusion.networks import REFINEMENT
from ..topology import measures
from ..topology.guided import Bound, stepped
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
SPARE = 0.25  # cells, half a voxel: what a wall is pushed beyond its least thickness
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
        return self._field(self._cells(ndimage.binary_dilation(mask)))

    def _cells(self, voxels: np.ndarray) -> np.ndarray:
        """Mask (n, n, n) of the cells that have a voxel of a mask."""
        n = self.occupancy.shape[1]
        return voxels.reshape(n, REFINEMENT, n, REFINEMENT, n, REFINEMENT).any((1, 3, 5))

    def _field(self, cells: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(cells, dtype=torch.float32, device=self.occupancy.device)

    def judged(self, rule: Rule) -> torch.Tensor:
        """0 for cells at voxels of the wall that are thinner than what a `wall_thickness` measures."""
        box, surface, thickness = measures.thickness_map(self.scene, rule)
        thin = surface & (thickness < measures.wall_thickness(self.scene, rule))
        if not thin.any():
            return torch.ones_like(self.occupancy[0])
        distances = []
        for voxels in (thin, surface & ~thin):
            mask = np.zeros(self.scene.labels.shape, bool)
            mask[box] = voxels
            distances.append(ndimage.distance_transform_edt(~self._cells(mask)))
        return self._field(~(distances[0] < distances[1]))

    def away(self, rule: Rule) -> torch.Tensor:
        """1 for cells farther than `openings_mm` from where the structure meets the openings, else 0."""
        inside = np.isin(self.labels, rule.structure)
        at_opening = inside & ndimage.binary_dilation(np.isin(self.labels, rule.openings))
        if not at_opening.any():
            return torch.ones_like(self.occupancy[0])
        distance = ndimage.distance_transform_edt(~at_opening, self.cell_mm)
        return self._field(distance > rule.openings_mm)


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


def parted(soft: Soft, rule: Rule) -> torch.Tensor:
    """What must not touch, beyond the area that the rule allows."""
    a, b = soft.of(rule.structure), soft.of(rule.other)
    area = sum(face.sum() for face in _faces(a, b)) * soft.cell_mm**2
    return _beyond(float(area.detach()), rule) * _touching(a, b)


def joined(soft: Soft, rule: Rule) -> torch.Tensor:
    """What must be joined, below its area."""
    area = sum(face.sum() for face in _faces(soft.of(rule.structure), soft.of(rule.other))) * soft.cell_mm**2
    if measures.contact(soft.scene, rule) >= rule.minimum:  # the soft area counts unlikely cells as well
        return area.new_zeros(())
    return ((1.0 - area / (SURE_AREA * rule.minimum)).clamp_min(0) / UNIT).square()


def enclosure(soft: Soft, rule: Rule) -> torch.Tensor:
    """The structure against what is neither itself nor its wall, away from the openings.

    Of a rule that allows none, what nearly touches counts as well.
    """
    beyond = 1.0 if rule.maximum == 0 else _beyond(measures.leak(soft.scene, rule), rule)
    blood = soft.of(rule.structure)
    outside = (1.0 - blood - soft.of(rule.other)).clamp_min(0)
    return beyond * _touching(blood * soft.away(rule), outside)


def thickness(soft: Soft, rule: Rule) -> torch.Tensor:
    """The structure against what is neither itself nor its wall, nearer than the least thickness (`_nearer`).

    Away from the openings, while the gate's own measure is below the minimum. Of a wall that need not exceed
    it everywhere, the thinnest places, which the percentile leaves out, stay as they are.
    """
    found = measures.wall_thickness(soft.scene, rule)
    if not found < rule.minimum:
        return soft.occupancy.new_zeros(())
    least_mm = min(rule.minimum, found + soft.cell_mm)  # a cell at a time
    blood = soft.of(rule.structure)
    outside = (1.0 - blood - soft.of(rule.other)).clamp_min(0)
    return _nearer(blood * soft.away(rule) * soft.judged(rule), outside, least_mm, soft.cell_mm)


def breach(soft: Soft, rule: Rule) -> torch.Tensor:
    """The structure against what is neither wall nor opening, at the holes that the decoded map has.

    Such a hole may be a voxel wide, so that every probability counts.
    """
    beyond = 1.0 if rule.maximum == 0 else _beyond(measures.breach(soft.scene, rule), rule)
    blood = soft.of(rule.structure)
    outside = (1.0 - blood - soft.of(rule.other + rule.openings)).clamp_min(0)
    return beyond * _touching(blood * soft.breaches(rule), outside, 0.0)


def exposure(soft: Soft, rule: Rule) -> torch.Tensor:
    """The structure against what is neither wall nor opening, beyond the share that the rule allows."""
    beyond = _beyond(
        measures.exposure(soft.scene, rule), rule
    )  # the gate's: soft borders would count as bare
    outside = (1.0 - soft.of(rule.structure + rule.other + rule.openings)).clamp_min(0)
    return beyond * _touching(soft.of(rule.structure), outside)


def border(soft: Soft, rule: Rule) -> torch.Tensor:
    """The structure in the outermost layer of cells, beyond the area at the border that the rule allows.

    It may touch the border with a voxel or two, so that every probability counts.
    """
    own = soft.of(rule.structure)
    inner = torch.zeros_like(own)
    inner[1:-1, 1:-1, 1:-1] = 1.0
    return _beyond(measures.border(soft.scene, rule), rule) * (own * (1.0 - inner) / UNIT).square().sum()


def _beyond(found: float, rule: Rule) -> float:
    """Share of what was found that exceeds the rule's maximum."""
    return 1.0 - rule.maximum / found if found > rule.maximum else 0.0


def _nearer(blood: torch.Tensor, outside: torch.Tensor, least_mm: float, cell_mm: float) -> torch.Tensor:
    """Sum over pairs of cells (n, n, n) of blood and outside that leave less than `least_mm` between them.

    Neighbours over a face always count, as in `_touching`: bare blood is the limit of a thin wall. Beyond the
    field is outside, as for the gate.
    """
    reach = least_mm / cell_mm + 1.0 + SPARE  # between the centres, in cells
    there = torch.nonzero(blood > UNSURE)
    if not len(there):
        return blood.new_zeros(())
    low, high = there.min(0).values.tolist(), (there.max(0).values + 1).tolist()
    blood = blood[tuple(map(slice, low, high))]
    edge = int(reach)
    outside = torch.nn.functional.pad(outside, (edge,) * 6, value=1.0)
    total = blood.new_zeros(())
    for offset in product(range(2 * edge + 1), repeat=3):
        steps = sum((o - edge) ** 2 for o in offset) ** 0.5
        if 0 < steps < reach:
            behind = outside[tuple(slice(k + o, m + o) for k, m, o in zip(low, high, offset, strict=True))]
            total = total + ((blood * behind - UNSURE).clamp_min(0) / UNIT).square().sum()
    return total


TERMS: dict[Bound, Callable[[Soft, Rule], torch.Tensor]] = {
    ("border", "max"): border,
    ("breach", "max"): breach,
    ("contact", "max"): parted,
    ("contact", "min"): joined,
    ("exposure", "max"): exposure,
    ("leak", "max"): enclosure,
    ("wall_thickness", "min"): thickness,
}


def _steering(rules: Rules, terms: Mapping[Bound, Callable]) -> Iterator[tuple[Callable, Rule]]:
    """The term and the rule of each bound that one of the `terms` counts."""
    for rule in rules.checks:
        for side in rule.sides:
            if (rule.kind, side) in terms:
                yield terms[rule.kind, side], rule


def topology_loss(occupancy: torch.Tensor, labels: np.ndarray, prior: Prior, rules: Rules) -> torch.Tensor:
    """Sum of the terms of `rules` on a sample's occupancy (K+1, n, n, n), whose map is `labels` (X, Y, Z).

    0 where all are kept.
    """
    h = prior.grid.spacing_mm
    soft = Soft(occupancy, h * REFINEMENT, Scene(labels, (h, h, h), prior.anatomy))
    total = occupancy.new_zeros(())
    for term, rule in _steering(rules, TERMS):
        total = total + term(soft, rule)
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


def _small(e: Estimate, rule: Rule) -> torch.Tensor:
    return _short(_volume_ml(e, rule), rule.minimum)


def _large(e: Estimate, rule: Rule) -> torch.Tensor:
    """How far volumes are above the largest. Without a margin: most samples would be within it."""
    return ((_volume_ml(e, rule) / max(rule.maximum, 1e-3)).log().clamp_min(0) / LOG_UNIT).square()


def _volume_ml(e: Estimate, rule: Rule) -> torch.Tensor:
    return _summed(e.of(rule.structure)) * (e.cell_mm**3 / 1000.0)


def _apart(e: Estimate, rule: Rule) -> torch.Tensor:
    own, other = e.of(rule.structure), e.of(rule.other)
    beyond = (1.0 - rule.maximum / _contact_mm2(own, other, e).detach().clamp_min(1e-6)).clamp_min(0)
    return beyond * _touching(own, other)


def _meeting(e: Estimate, rule: Rule) -> torch.Tensor:
    return _short(_contact_mm2(e.of(rule.structure), e.of(rule.other), e), rule.minimum)


def _contact_mm2(own: torch.Tensor, other: torch.Tensor, e: Estimate) -> torch.Tensor:
    return sum(_summed(face) for face in _faces(own, other)) * e.cell_mm**2


def _detached(e: Estimate, rule: Rule) -> torch.Tensor:
    """Volume of pieces of the structure that do not come as near the other one as the rule asks."""
    masks, touching = [], np.ones((3, 3, 3))
    cells = max(1, round(rule.maximum / e.cell_mm))
    for labels in e.labels:
        pieces, _ = ndimage.label(np.isin(labels, rule.structure), touching)
        near = ndimage.binary_dilation(np.isin(labels, rule.other), touching, cells)
        masks.append((pieces > 0) & ~np.isin(pieces, np.unique(pieces[near])))
    mask = torch.as_tensor(np.stack(masks), dtype=torch.float32, device=e.occupancy.device)
    return _summed(e.of(rule.structure) * mask) * (e.cell_mm**3 / 1000.0 / DETACHED_ML)


WHILE_DRAWN: dict[Bound, Callable[[Estimate, Rule], torch.Tensor]] = {
    ("contact", "max"): _apart,
    ("contact", "min"): _meeting,
    ("gap", "max"): _detached,
    ("volume", "max"): _large,
    ("volume", "min"): _small,
}


def lacking(occupancy: torch.Tensor, cell_mm: float, rules: Rules) -> torch.Tensor:
    """What is about to go wrong with samples that are being drawn, (B,): the sum of the terms of `rules`.

    occupancy (B, K+1, n, n, n) in cells of `cell_mm`. 0 where nothing is. Few rules are about to be broken:
    gradients are kept of their terms alone.
    """
    seen, estimate = Estimate(occupancy.detach(), cell_mm), Estimate(occupancy, cell_mm)
    broken = [(term, rule) for term, rule in _steering(rules, WHILE_DRAWN) if term(seen, rule).any()]
    return sum(
        (term(estimate, rule) for term, rule in broken),
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
    # another attempt is cheaper for a vessel that is missing
    by_id = {rule.id: rule for rule in rules.checks}
    if not all(stepped(by_id[failure.rule], failure.side, rules) for failure in verdict.failures):
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
