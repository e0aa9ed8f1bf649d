"""A template's soft labels and their pull through a displacement (atlas stage)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import avg_pool3d, max_pool3d

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
        """Of cells (C, x, y, z) that come from y + offset(y), offset (3, x, y, z) mm.

        Where there can be no structure it is 0 in every channel, as it is beyond the template: background.
        """
        cells, at = self.cells, self.cells.centres_mm + offset
        last = torch.tensor([n - 1 for n in cells.shape])[:, None, None, None]
        nearest = (at / cells.spacing_mm + last / 2).round().clamp(min=0).minimum(last).long()
        there = self._about_structures[*nearest]
        out = torch.zeros(len(self.coarse), *cells.shape)
        out[:, there] = flow.sample(self.coarse, at[:, there][:, :, None, None], cells)[..., 0, 0]
        return out

    @cached_property
    def _about_structures(self) -> torch.Tensor:
        """Cells (x, y, z) bool with a structure in them or in a neighbour.

        Interpolation between cells never looks farther than the neighbours of the nearest one.
        """
        structures = (self.coarse[1:] > 0).any(0).float()
        return max_pool3d(structures[None], 3, 1, 1)[0] > 0

    def labels(self, offset: torch.Tensor, occupancy: torch.Tensor | None = None) -> np.ndarray:
        """Labels (X, Y, Z) uint8 of the template pulled back through an offset (3, x, y, z) mm.

        Only voxels of cells that are not all of one label are looked up. `occupancy` saves its computation.
        """
        cells, voxels = self.cells, Lattice.of(self.grid, 1)
        occupancy = (self.occupancy(offset) if occupancy is None else occupancy)[: len(self.one_hot)]
        # beyond the template every channel is zero: background
        structures = occupancy[1:].amax(0)
        mixed = (structures > 1 - CERTAIN) & (structures < CERTAIN)
        # where a cell is certain, one channel is above a half
        of_cell = torch.zeros(cells.shape, dtype=torch.uint8)
        for k, channel in enumerate(occupancy[1:], start=1):
            of_cell.masked_fill_(channel > 0.5, k)
        labels = of_cell.numpy().repeat(CELL, 0).repeat(CELL, 1).repeat(CELL, 2)
        if not mixed.any():
            return labels
        box = _box_around(mixed)
        mixed = mixed[box]
        fine = mixed.numpy().repeat(CELL, 0).repeat(CELL, 1).repeat(CELL, 2)
        finer = tuple(slice(CELL * part.start, CELL * part.stop) for part in box)
        # trilinear values of a part are those of the whole, a cell from where it was cut
        at = flow.upsampled(offset[:, *box], fine.shape) + voxels.centres_mm[:, *finer]
        values = flow.sample(self.one_hot, at[:, torch.from_numpy(fine)][:, :, None, None], voxels)
        labels[finer][fine] = flow.largest(values[..., 0, 0]).numpy()
        return labels


def _box_around(chosen: torch.Tensor) -> tuple[slice, slice, slice]:
    """Of the chosen cells (x, y, z) and one more on every side, inside the field."""
    ends = []
    for axis, n in enumerate(chosen.shape):
        others = tuple(other for other in range(3) if other != axis)
        places = chosen.numpy().any(axis=others).nonzero()[0]
        ends.append(slice(max(int(places[0]) - 1, 0), min(int(places[-1]) + 2, n)))
    return tuple(ends)
