"""Maps of space as displacements on a lattice: sampling, composition, exponential, Jacobian (atlas stage).

A field is (3, X, Y, Z) float32 in mm at the centres of a lattice's cells. A map X(y) = y + u(y) says where,
in the template, the material now at y came from. Beyond the field a displacement keeps its value at the
border.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch.nn.functional import conv3d, grid_sample, interpolate, pad

from ..anatomy.labels import Grid

TEMPLATE_SIGMA = 0.8  # voxels: labels are smoothed so far before they are moved
MAX_STEP_CELLS = 0.25  # of the first step of an exponential, which is invertible


@dataclass(frozen=True)
class Lattice:
    """Cells of `spacing_mm` that span the field of a grid, centred on the origin."""

    shape: tuple[int, int, int]
    spacing_mm: float

    @classmethod
    @cache
    def of(cls, grid: Grid, factor: int) -> "Lattice":
        """The lattice whose cells are `factor` voxels long; the same object for the same grid."""
        return cls(tuple(n // factor for n in grid.shape), grid.spacing_mm * factor)

    @cached_property
    def centres_mm(self) -> torch.Tensor:
        """(3, X, Y, Z)."""
        axes = ((torch.arange(n) - (n - 1) / 2) * self.spacing_mm for n in self.shape)
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def sample(volume: torch.Tensor, position_mm: torch.Tensor, lattice: Lattice, border: bool = False):
    """Trilinear values (C, ...) of volume (C, X, Y, Z), which spans the field of `lattice`, at (3, ...) mm.

    Beyond the field they are 0, or those of the border.
    """
    half = torch.tensor([n * lattice.spacing_mm / 2 for n in lattice.shape])
    unit = position_mm / half[:, None, None, None]
    # grid_sample wants the last axis first
    where = unit.flip(0).permute(1, 2, 3, 0)[None]
    padding = "border" if border else "zeros"
    return grid_sample(volume[None], where, mode="bilinear", padding_mode=padding, align_corners=False)[0]


def exponential(velocity: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """Displacement of the flow of a stationary velocity (3, X, Y, Z) mm after unit time.

    Scaling and squaring (Arsigny et al., MICCAI 2006); exponential(-v) inverts it. The exact flow never
    folds. Sampled, it may where the velocity is steep: callers check `jacobian`.
    """
    longest = max(float(velocity.abs().max()), 1e-6)
    squarings = max(2, math.ceil(math.log2(longest / (MAX_STEP_CELLS * lattice.spacing_mm))))
    step = velocity / 2**squarings
    for _ in range(squarings):
        step = step + sample(step, lattice.centres_mm + step, lattice, border=True)
    return step


def jacobian(displacement: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """det d(y + u(y))/dy (X-1, Y-1, Z-1), by forward differences."""
    corner = displacement[:, :-1, :-1, :-1]
    columns = [
        displacement[:, 1:, :-1, :-1] - corner,
        displacement[:, :-1, 1:, :-1] - corner,
        displacement[:, :-1, :-1, 1:] - corner,
    ]
    a, b, c = (column / lattice.spacing_mm for column in columns)
    a, b, c = (
        torch.stack([part[i] + (1.0 if i == axis else 0.0) for i in range(3)])
        for axis, part in enumerate((a, b, c))
    )
    return (a * torch.linalg.cross(b, c, dim=0)).sum(0)


def upsampled(field: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """A field (C, X, Y, Z) on another lattice of the same extent, trilinearly."""
    return interpolate(field[None], size=shape, mode="trilinear", align_corners=False)[0]


def smoothed(field: torch.Tensor, sigma_cells: float) -> torch.Tensor:
    """Every channel of (C, X, Y, Z) convolved with a Gaussian; border values continue beyond the field."""
    if sigma_cells <= 0:
        return field
    radius = max(1, math.ceil(3 * sigma_cells))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma_cells) ** 2)
    kernel = kernel / kernel.sum()
    out = field[:, None]
    for axis in range(3):
        size, width = [1, 1, 1], [0] * 6
        size[axis] = len(kernel)
        width[2 * (2 - axis)] = width[2 * (2 - axis) + 1] = radius
        out = conv3d(pad(out, width, mode="replicate"), kernel.reshape(1, 1, *size))
    return out[:, 0]


def one_hot(labels: np.ndarray, n_channels: int, sigma_voxels: float) -> torch.Tensor:
    """Soft labels (K + 1, X, Y, Z) float32 of labels (X, Y, Z), smoothed by a Gaussian."""
    volume = torch.from_numpy(np.stack([labels == k for k in range(n_channels)]).astype(np.float32))
    return smoothed(volume, sigma_voxels)


def largest(soft: torch.Tensor) -> torch.Tensor:
    """The channel (...) uint8 with the largest value of soft labels (C, ...), the first of equal ones.

    As `argmax`, which is an order of magnitude slower over so few channels.
    """
    best, labels = soft[0], torch.zeros(soft.shape[1:], dtype=torch.uint8)
    for k, channel in enumerate(soft[1:], start=1):
        labels.masked_fill_(channel > best, k)
        best = torch.maximum(best, channel)
    return labels
