"""Digital siblings: a base's latent, what of it is held, and how guidance starts from it (generation stage).

The base's label map is encoded, noised to an intermediate level and steered from there to its own moments
with the edit applied. Latent cells out of reach of the edit keep the base's values throughout: known
regions of inpainting with a diffusion model, cf. Lugmayr et al., RePaint, CVPR 2022; in the
probability-flow ODE they stay at latent + sigma * noise by themselves. Structures without contact to
an edited one are held by their overlap with the base's reconstruction as well: moments alone let them
grow into what the edit left, and come back in another form. Where a part of a structure is edited, what of it
lies beyond that part and its neighbourhood is held likewise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from ..anatomy.moments import Moments
from ..diffusion.bundle import Prior
from ..diffusion.device import autocast
from ..diffusion.networks import CERTAIN, REFINEMENT, to_blocks, to_occupancy

FIT_STEPS = 12  # of Adam on the latent; the encoder's own estimate loses a tenth of a thin vein
FIT_RATES = (0.08, 0.04, 0.04)  # of each round of steps, in standard deviations of the latents
FIT_WITHIN = 0.015  # relative error of every volume of the decoded map, at which no further round is made
FIT_VOLUMES = 3.0  # weight of the squared errors of log volumes
OVERLAP_UNIT = 0.05  # loss of Dice overlap that counts as much as a residual of one standard deviation


@dataclass(frozen=True)
class Base:
    """Bases of B siblings.

    latent (B, L, m, m, m); free (B, 1, m, m, m), 1 where a latent cell may change, else 0; occupancy
    (B, K+1, n, n, n), what the latent decodes to; held (B, K+1, 1, 1, 1) or (B, K+1, n, n, n), 1 where a
    structure is to be held as it is.
    """

    latent: torch.Tensor
    free: torch.Tensor
    occupancy: torch.Tensor
    held: torch.Tensor

    def keep(self, estimate: torch.Tensor) -> torch.Tensor:
        """A clean estimate with the base's values in held cells."""
        return self.free * estimate + (1.0 - self.free) * self.latent

    def base_deviation(self, occupancy: torch.Tensor) -> torch.Tensor:
        """How far what is held is from the base's, (B,): 1 for each structure whose Dice is 0.95.

        The squared distance of two occupancies by the square of one of them is twice what Dice lacks of 1.
        """
        squared = (self.held * (occupancy - self.occupancy) ** 2).sum((2, 3, 4))
        share = squared / (self.held * self.occupancy**2).sum((2, 3, 4)).clamp_min(1e-6)
        return share.sum(1) / (2.0 * OVERLAP_UNIT)


def make_base(
    prior: Prior,
    labels: np.ndarray,
    edited: list[tuple[np.ndarray, float]],
    reach_mm: float,
    rest: Sequence[tuple[tuple[int, ...], np.ndarray]] = (),
) -> Base:
    """The base of one sibling from its label map (X, Y, Z); `edited` and `reach_mm` as for `free_cells`.

    rest: of structures of which a part is edited, their labels and weights (X, Y, Z) of where they are held.
    """
    latent = fit_latent(prior, labels)
    with torch.no_grad():
        occupancy = prior.logits(latent).softmax(1)
    whole = apart(labels, [mask for mask, _ in edited], prior.anatomy.n_channels)
    held = torch.tensor(whole, dtype=torch.float32, device=prior.device)[None, :, None, None, None]
    if rest:
        held = held.repeat(1, 1, *occupancy.shape[2:])
    for group, weights in rest:
        voxels = torch.tensor(weights, dtype=torch.float32, device=prior.device)[None, None]
        held[:, list(group)] = F.avg_pool3d(voxels, REFINEMENT)
    return Base(latent, free_cells(edited, prior, reach_mm), occupancy, held)


def join(bases: list[Base]) -> Base:
    """Several subjects' bases as one batch."""
    return Base(*(torch.cat([getattr(b, part.name) for b in bases]) for part in fields(Base)))


def apart(labels: np.ndarray, edited: list[np.ndarray], channels: int) -> np.ndarray:
    """Which of the map's labels (channels,) are neither edited nor share a voxel face with what is.

    `edited` holds masks (X, Y, Z).

    Background never is, and no label that the map lacks: its overlap would be a share of nothing.
    """
    near = np.bincount(labels.ravel(), minlength=channels) == 0
    near[0] = True
    for mask in edited:
        near[np.unique(labels[ndimage.binary_dilation(mask)])] = True
    return ~near


def fit_latent(prior: Prior, labels: np.ndarray) -> torch.Tensor:
    """Latent (1, L, m, m, m) whose decoding is a label map (X, Y, Z): encoded, then fitted by a few steps.

    The loss is the cross-entropy of the cells that are not all of one label, in them that of every voxel, and
    the squared errors of log volumes. Of the rounds that are made, the one with the least largest error of a
    volume is kept.
    """
    channels, network = prior.anatomy.n_channels, prior.autoencoder
    voxels = to_blocks(torch.from_numpy(np.ascontiguousarray(labels))[None]).to(prior.device)
    target = to_occupancy(voxels, channels)
    mixed = torch.where(target.amax(1) < CERTAIN)
    b, x, y, z = mixed
    fine = voxels[b, :, x, y, z].flatten().long()
    count = torch.bincount(voxels.flatten().long(), minlength=channels).float()
    settled = count - torch.bincount(fine, minlength=channels).float()
    with torch.no_grad(), autocast(prior.device):
        latent = (network.encode(target)[0].float() - prior.mean) / prior.spread
    if not len(fine):
        return latent
    present = count[1:] > 0
    latent.requires_grad_(True)
    optimiser = torch.optim.Adam([latent])
    best, least = latent.detach(), np.inf
    for rate, step in product(FIT_RATES, range(FIT_STEPS)):
        optimiser.param_groups[0]["lr"] = rate * (1.0 - step / FIT_STEPS)
        with torch.enable_grad():
            with autocast(prior.device):
                logits, features = network.decode_with_features(latent * prior.spread + prior.mean)
                detail = network.detail(features, logits, mixed).float().flatten(0, 1)
            coarse = -(target * F.log_softmax(logits, 1)).sum() / len(b)
            # sharpened, so that volumes are those of the argmax
            voxels_of = settled + (4.0 * detail).softmax(1).sum(0)
            volumes = ((voxels_of[1:] / count[1:].clamp_min(1.0))[present].log() ** 2).sum()
            loss = coarse + F.cross_entropy(detail, fine) + FIT_VOLUMES * volumes
            (latent.grad,) = torch.autograd.grad(loss, latent)
        optimiser.step()
        if step == FIT_STEPS - 1:
            with torch.no_grad():
                found = torch.bincount(prior.labels(latent).flatten().long(), minlength=channels).float()
            off = float(((found / count.clamp_min(1.0))[1:][present] - 1.0).abs().max())
            if off < least:
                best, least = latent.detach().clone(), off
            if off <= FIT_WITHIN:
                break
    return best


def free_cells(edited: list[tuple[np.ndarray, float]], prior: Prior, reach_mm: float) -> torch.Tensor:
    """1 for latent cells (1, 1, m, m, m) with a voxel within reach of an edited structure, else 0.

    `edited` holds masks (X, Y, Z) of structures, or of their parts in a domain, and how far beyond itself the
    edit takes each (mm).
    """
    edge = prior.latent_shape[1]
    size = prior.grid.shape[0] // edge
    free = np.zeros((edge,) * 3, dtype=bool)
    for mask, moved in edited:
        distance = ndimage.distance_transform_edt(~mask) * prior.grid.spacing_mm
        nearest = distance.reshape(edge, size, edge, size, edge, size).min((1, 3, 5))
        free |= nearest <= reach_mm + moved
    return torch.tensor(free, dtype=torch.float32, device=prior.device)[None, None]


def moved_mm(before: Moments, after: Moments) -> float:
    """How far an edit takes a structure beyond itself: its shift, and what its longest semi-axis gains."""
    shift = np.linalg.norm(after.centroid_mm - before.centroid_mm)
    longest = [np.sqrt(5.0 * np.linalg.eigvalsh(m.covariance_mm2)[-1]) for m in (before, after)]
    return float(shift + max(longest[1] - longest[0], 0.0))
