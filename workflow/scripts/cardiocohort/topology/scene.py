"""A label map as the gate sees it: what several rules share is computed once. Owned by the topology stage."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from ..anatomy.contacts import contact_areas
from ..anatomy.labels import Anatomy
from .betti import FOREGROUND, Betti, betti


@dataclass(frozen=True)
class Scene:
    """labels (X, Y, Z) uint8, spacing (3,) mm, and the anatomy that names the labels.

    `span`: voxels along an axis that one voxel of the map's source takes up, where it was coarser.
    """

    labels: np.ndarray
    spacing_mm: tuple[float, float, float]
    anatomy: Anatomy
    span: int = 1

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000.0

    @cached_property
    def voxels(self) -> np.ndarray:
        """Voxels per label, (K + 1,)."""
        return np.bincount(self.labels.ravel(), minlength=self.anatomy.n_channels)

    @cached_property
    def faces_mm2(self) -> np.ndarray:
        """Area of the voxel faces that two labels share, (K + 1, K + 1), symmetric, diagonal 0."""
        return contact_areas(self.labels, self.spacing_mm, self.anatomy.n_channels)

    @cached_property
    def _boxes(self) -> list:
        return ndimage.find_objects(self.labels, self.anatomy.n_channels - 1)

    @cached_property
    def _found(self) -> dict:
        return {}

    def once(self, key: tuple, compute: Callable):
        """What `compute()` gave when it was first needed under this key."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    def box(self, labels: tuple[int, ...], margin: int = 0) -> tuple[slice, slice, slice]:
        """Smallest box that holds `labels`, widened by `margin` voxels inside the array; empty if none."""
        boxes = [self._boxes[k - 1] for k in labels if self._boxes[k - 1] is not None]
        if not boxes:
            return (slice(0, 0),) * 3
        return tuple(
            slice(max(min(b[i].start for b in boxes) - margin, 0), max(b[i].stop for b in boxes) + margin)
            for i in range(3)
        )

    def mask(self, labels: tuple[int, ...]) -> np.ndarray:
        """Mask of `labels`, cropped to their box."""
        return np.isin(self.labels[self.box(labels)], labels)

    def betti(self, labels: tuple[int, ...]) -> Betti:
        return self.once(("betti", labels), lambda: betti(self.mask(labels)))

    def pieces(self, labels: tuple[int, ...], margin: int = 0) -> tuple[np.ndarray, int, tuple]:
        """26-connected pieces of `labels`: numbers 1..n in their box, n, and the box."""
        box = self.box(labels, margin)
        return *ndimage.label(np.isin(self.labels[box], labels), FOREGROUND), box
