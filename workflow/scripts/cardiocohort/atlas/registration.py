"""Registration of label maps: a diffeomorphism that brings a template onto a heart (atlas stage).

The map is the exponential of a stationary velocity, found by Gauss-Newton steps in the log domain: in a
window around every cell the soft labels of the moved template are matched to the heart's by least squares
(Lucas and Kanade 1981), and the step is added to the velocity (Vercauteren et al., MICCAI 2008). From coarse
to fine.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..anatomy.labels import Anatomy, Grid
from . import flow
from .flow import Lattice

CELL = 2  # voxels of a cell of the velocity along an axis
RIDGE = 0.02  # of the 95 % quantile of the normal matrices' traces
MAX_STEP_MM = 3.0
BORDER_CELLS = 2  # where vessels end at the field's border there is nothing to match
STEP_SIGMA, VELOCITY_SIGMA = 0.6, 0.45  # cells
LEAST_JACOBIAN = 0.1  # below it the velocity is smoothed about the place
UNFOLDINGS, UNFOLDED_CELLS, UNFOLDING_SIGMA = 5, 2, 0.8


@dataclass(frozen=True)
class Level:
    """Steps at one scale: voxels per force cell, smoothing of the labels (voxels), window (mm), how many."""

    factor: int
    blur_voxels: float
    window_mm: float
    steps: int


LEVELS = (
    Level(2, 1.4, 16.0, 6),
    Level(2, 1.4, 10.0, 8),
    Level(2, 1.4, 7.0, 8),
    Level(1, 0.8, 6.0, 4),
    Level(1, 0.8, 5.0, 5),
    Level(1, 0.8, 4.0, 4),
)


@dataclass(frozen=True)
class Heart:
    """Soft labels of a heart at the two scales that registration uses, by (factor, blur)."""

    soft: dict[tuple[int, float], torch.Tensor]


def soft_labels(labels: np.ndarray, anatomy: Anatomy, levels: tuple[Level, ...] = LEVELS) -> Heart:
    """What `register` compares, of labels (X, Y, Z) on the grid."""
    soft = {}
    for factor, blur in {(level.factor, level.blur_voxels) for level in levels}:
        volume = flow.one_hot(labels, anatomy.n_channels, blur)
        soft[factor, blur] = torch.nn.functional.avg_pool3d(volume, factor) if factor > 1 else volume
    return Heart(soft)


def register(
    template: Heart,
    heart: Heart,
    grid: Grid,
    weights: torch.Tensor,
    levels: tuple[Level, ...] = LEVELS,
    cared: np.ndarray | None = None,
) -> torch.Tensor:
    """Velocity (3, X, Y, Z) mm on cells of two voxels, whose exponential u brings template(y + u(y)) to
    heart(y).

    weights (K + 1,): of every label in the match, background included. cared (X, Y, Z) bool: voxels that are
    matched; all but the field's border if it is not given.
    """
    lattice = Lattice.of(grid, CELL)
    velocity = torch.zeros(3, *lattice.shape)
    for level in levels:
        key = (level.factor, level.blur_voxels)
        fixed, moving, force = heart.soft[key], template.soft[key], Lattice.of(grid, level.factor)
        matched = _matched(cared, force, level.factor)
        for _ in range(level.steps):
            velocity, displacement = _unfolded(velocity, lattice)
            at = force.centres_mm + flow.upsampled(displacement, force.shape)
            moved = flow.sample(moving, at, force)
            moved[0] += 1.0 - moved.sum(0)  # beyond the field is background
            step = _step(moved, fixed, weights, matched, force, level.window_mm)
            step = torch.nn.functional.interpolate(
                step[None], size=lattice.shape, mode="trilinear", align_corners=False
            )[0]
            velocity = flow.smoothed(velocity + flow.smoothed(step, STEP_SIGMA), VELOCITY_SIGMA)
    return _unfolded(velocity, lattice)[0]


def _unfolded(velocity: torch.Tensor, lattice: Lattice) -> tuple[torch.Tensor, torch.Tensor]:
    """The velocity, smoothed about cells where its flow nearly folds, and the flow's displacement."""
    for _ in range(UNFOLDINGS):
        displacement = flow.exponential(velocity, lattice)
        low = flow.jacobian(displacement, lattice) < LEAST_JACOBIAN
        if not low.any():
            break
        about = torch.nn.functional.pad(low.float(), (0, 1) * 3)[None, None]
        about = torch.nn.functional.max_pool3d(about, 2 * UNFOLDED_CELLS + 1, 1, UNFOLDED_CELLS)[0]
        share = flow.smoothed(about, 1.0)
        velocity = velocity + share * (flow.smoothed(velocity, UNFOLDING_SIGMA) - velocity)
    return velocity, displacement


def _matched(cared: np.ndarray | None, force: Lattice, factor: int) -> torch.Tensor:
    """1 in force cells (X, Y, Z) that are matched, else 0."""
    inside = torch.zeros(force.shape)
    inside[(slice(BORDER_CELLS, -BORDER_CELLS),) * 3] = 1.0
    if cared is None:
        return inside
    part = torch.from_numpy(cared.astype(np.float32))[None, None]
    return inside * torch.nn.functional.avg_pool3d(part, factor)[0, 0]


def _step(moved, fixed, weights, matched: torch.Tensor, force: Lattice, window_mm: float) -> torch.Tensor:
    """Displacement (3, X, Y, Z) mm of every force cell that matches `moved` to `fixed` best in its window."""
    normal = torch.zeros(6, *force.shape)
    right = torch.zeros(3, *force.shape)
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    for weight, p, q in zip(weights, moved, fixed, strict=True):
        gradient = torch.stack(torch.gradient((p + q) / 2, spacing=force.spacing_mm))
        residual = q - p
        for k, (i, j) in enumerate(pairs):
            normal[k] += weight * gradient[i] * gradient[j]
        for i in range(3):
            right[i] += weight * residual * gradient[i]
    both = flow.smoothed(torch.cat([normal, right]) * matched, window_mm / force.spacing_mm)
    a, b, c, d, e, f = both[:6]
    trace = a + b + c
    ridge = RIDGE * float(torch.quantile(trace[::2, ::2, ::2].reshape(-1), 0.95)) + 1e-12
    a, b, c = a + ridge, b + ridge, c + ridge
    # the inverse of symmetric [[a, d, e], [d, b, f], [e, f, c]] by cofactors
    x, y, z = both[6:]
    aa, bb, cc = b * c - f * f, a * c - e * e, a * b - d * d
    dd, ee, ff = e * f - d * c, d * f - e * b, d * e - a * f
    determinant = a * aa + d * dd + e * ee
    step = (
        torch.stack([aa * x + dd * y + ee * z, dd * x + bb * y + ff * z, ee * x + ff * y + cc * z])
        / determinant
    )
    length = step.norm(dim=0).clamp_min(1e-6)
    return step * (MAX_STEP_MM / length).clamp_max(1.0)
