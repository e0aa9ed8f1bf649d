"""A template's soft labels and their pull through a displacement (atlas stage)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool3d

from ..anatomy.labels import Anatomy, Grid
from . import flow
from .flow import Lattice
from .registration import CELL

CERTAIN = 0.9999  # occupancy of a cell from which all its voxels have one label


@dataclass(frozen=True)
class SoftTemplate:
    """Soft labels (K + 1, X, Y, Z) on `grid`, and on cells of two voxels (C, x, y, z) with what else is
    pulled along with them.
    """

    one_hot: torch.Tensor
    coarse: torch.Tensor
    grid: Grid

    @classmethod
    def of(cls, labels: np.ndarray, anatomy: Anatomy, grid: Grid) -> "SoftTemplate":
        """From labels (X, Y, Z) on `grid`."""
        one_hot = flow.one_hot(labels, anatomy.n_channels, flow.TEMPLATE_SIGMA)
        return cls(one_hot, avg_pool3d(one_hot, CELL), grid)

    @property
    def cells(self) -> Lattice:
        return Lattice.of(self.grid, CELL)

    def occupancy(self, offset: torch.Tensor) -> torch.Tensor:
        """Of cells (C, x, y, z) that come from y + offset(y), offset (3, x, y, z) mm."""
        return flow.sample(self.coarse, self.cells.centres_mm + offset, self.cells)

    def labels(self, offset: torch.Tensor, occupancy: torch.Tensor | None = None) -> np.ndarray:
        """Labels (X, Y, Z) uint8 of the template pulled back through an offset (3, x, y, z) mm.

        Only voxels of cells that are not all of one label are looked up. `occupancy` saves its computation.
        """
        grid, cells, voxels = self.grid, self.cells, Lattice.of(self.grid, 1)
        occupancy = (self.occupancy(offset) if occupancy is None else occupancy)[: len(self.one_hot)]
        # beyond the template every channel is zero: background
        structures = occupancy[1:].amax(0)
        mixed = (structures > 1 - CERTAIN) & (structures < CERTAIN)
        # where a cell is certain, one channel is above a half; argmax over so few channels is slow
        of_cell = sum(k * (channel > 0.5) for k, channel in enumerate(occupancy))
        labels = of_cell.to(torch.uint8).numpy()
        labels = labels.repeat(CELL, 0).repeat(CELL, 1).repeat(CELL, 2)
        fine = torch.zeros(grid.shape, dtype=torch.bool)
        blocks = fine.reshape(*(n for edge in cells.shape for n in (edge, CELL)))
        blocks[...] = mixed[:, None, :, None, :, None]
        where = (voxels.centres_mm + flow.upsampled(offset, grid.shape))[:, fine]
        values = flow.sample(self.one_hot, where[:, :, None, None], voxels)[..., 0, 0]
        labels[fine.numpy()] = torch.where(values.amax(0) > 0, values.argmax(0), 0).to(torch.uint8).numpy()
        return labels
