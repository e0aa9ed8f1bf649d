"""Registration of label maps: a diffeomorphism that brings a template onto a heart (atlas stage).

The map is the exponential of a stationary velocity, found by Gauss-Newton steps in the log domain: in a window
around every cell the soft labels of the moved template are matched to the heart's by least squares (Lucas and Kanade
1981), and the step is added to the velocity (Vercauteren et al., MICCAI 2008). From coarse to fine.
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
BORDER_VOXELS = 2  # where vessels end at the field's border there is nothing to match
STEP_SIGMA, VELOCITY_SIGMA = 0.6, 0.45  # cells
LEAST_JACOBIAN = 0.1  # below it the velocity is smoothed more
MORE_SIGMA = 0.15


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
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Velocity (3, X, Y, Z) mm on cells of two voxels, whose exponential u brings template(y + u(y)) to heart(y).

    weights (K + 1,): of every label in the match, background included. `start`: a velocity to begin with.
    """
    lattice = Lattice.of(grid, CELL)
    velocity = torch.zeros(3, *lattice.shape) if start is None else start
    sigma = VELOCITY_SIGMA
    for level in levels:
        key = (level.factor, level.blur_voxels)
        fixed, moving, force = heart.soft[key], template.soft[key], Lattice.of(grid, level.factor)
        for _ in range(level.steps):
            displacement = flow.exponential(velocity, lattice)
            if float(flow.jacobian(displacement, lattice).min()) < LEAST_JACOBIAN:
                sigma += MORE_SIGMA
                velocity = flow.smoothed(velocity, sigma)
                displacement = flow.exponential(velocity, lattice)
            at = force.centres_mm + flow.upsampled(displacement, force.shape)
            moved = flow.sample(moving, at, force)
            moved[0] += 1.0 - moved.sum(0)  # beyond the field is background
            step = _step(moved, fixed, weights, force, level.window_mm)
            step = torch.nn.functional.interpolate(
                step[None], size=lattice.shape, mode="trilinear", align_corners=False
            )[0]
            velocity = flow.smoothed(velocity + flow.smoothed(step, STEP_SIGMA), sigma)
    return velocity


def _step(moved, fixed, weights, force: Lattice, window_mm: float) -> torch.Tensor:
    """Displacement (3, X, Y, Z) mm of every force cell that matches `moved` to `fixed` best in its window."""
    normal = torch.zeros(6, *force.shape)
    right = torch.zeros(3, *force.shape)
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    inner = tuple(slice(BORDER_VOXELS, -BORDER_VOXELS) for _ in range(3))
    for weight, p, q in zip(weights, moved, fixed, strict=True):
        gradient = torch.stack(torch.gradient((p + q) / 2, spacing=force.spacing_mm))
        residual = q - p
        for k, (i, j) in enumerate(pairs):
            normal[k][inner] += (weight * gradient[i] * gradient[j])[inner]
        for i in range(3):
            right[i][inner] += (weight * residual * gradient[i])[inner]
    both = flow.smoothed(torch.cat([normal, right]), window_mm / force.spacing_mm)
    a, b, c, d, e, f = both[:6]
    trace = a + b + c
    ridge = RIDGE * float(torch.quantile(trace[::2, ::2, ::2].reshape(-1), 0.95)) + 1e-12
    a, b, c = a + ridge, b + ridge, c + ridge
    # the inverse of symmetric [[a, d, e], [d, b, f], [e, f, c]] by cofactors
    x, y, z = both[6:]
    aa, bb, cc = b * c - f * f, a * c - e * e, a * b - d * d
    dd, ee, ff = e * f - d * c, d * f - e * b, d * e - a * f
    determinant = a * aa + d * dd + e * ee
    step = torch.stack([aa * x + dd * y + ee * z, dd * x + bb * y + ff * z, ee * x + ff * y + cc * z]) / determinant
    length = step.norm(dim=0).clamp_min(1e-6)
    return step * (MAX_STEP_MM / length).clamp_max(1.0)


def warped(template: torch.Tensor, velocity: torch.Tensor, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) uint8 of soft template labels (K + 1, X, Y, Z) moved by a velocity's exponential."""
    displacement = flow.exponential(velocity, Lattice.of(grid, CELL))
    voxels = Lattice.of(grid, 1)
    values = flow.sample(template, voxels.centres_mm + flow.upsampled(displacement, voxels.shape), voxels)
    values[0] += 1.0 - values.sum(0)
    return values.argmax(0).to(torch.uint8).numpy()
