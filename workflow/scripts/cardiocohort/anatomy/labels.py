"""What the labels of a label map mean and on which grid it lies. Owned by no stage; used by all.

An anatomy is a folder (`anatomy_folder`), whose labels a bundle repeats, so that another anatomy is another
folder and bundle. The heart's labels are the eleven channels of Kadry et al., CardioComposer (ICLR 2026).
"""

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from ..runtime.errors import InputError

ATTRIBUTES = ("size", "position", "shape")  # volume, centroid, S / tr S: the paper's
FURTHER_ATTRIBUTES = ("scale", "orientation", "aspect")  # tr S; eigenvectors and eigenvalues of S / tr S
SLAB_ATTRIBUTES = ("area",)  # of a slab of a structure: its volume over the thickness of the slab
WALL_ATTRIBUTES = ("thickness",)  # of a wall in a domain
# every order and sign of three axes, (3, 3) each, that of RAS+ first: rows of centroids times one of them
ARRANGEMENTS = tuple(
    np.diag(signs) @ np.eye(3)[list(order)]
    for order in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
)
RELATIONS = ("volume_ratio", "distance", "direction")  # of one structure to another, written `a/b`


@dataclass(frozen=True)
class Grid:
    """A cubic-voxel grid whose world origin is the centre of its field, RAS+."""

    shape: tuple[int, int, int]
    spacing_mm: float

    @property
    def voxel_volume_ml(self) -> float:
        return self.spacing_mm**3 / 1000.0

    def axes_mm(self, factor: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World coordinates (mm) of the voxel centres along x, y, z; of `factor`^3 cells if > 1."""
        spacing = self.spacing_mm * factor
        return tuple((np.arange(n // factor) - (n // factor - 1) / 2) * spacing for n in self.shape)

    def affine(self) -> np.ndarray:
        """Voxel index -> mm, (4, 4)."""
        affine = np.diag([self.spacing_mm] * 3 + [1.0])
        affine[:3, 3] = [axis[0] for axis in self.axes_mm()]
        return affine


@dataclass(frozen=True)
class Anatomy:
    """Names of the labels 1..K in order; `centred_on` are the structures that define the origin.

    shown: structures of charts and tables of volumes, in their order; none stands for all. colours: (name,
    #rrggbb) of structures in figures; a bundle has neither.
    """

    structures: tuple[str, ...]
    centred_on: tuple[str, ...]
    shown: tuple[str, ...] = ()
    colours: tuple[tuple[str, str], ...] = ()

    @property
    def n_channels(self) -> int:
        """Labels including background 0."""
        return len(self.structures) + 1

    def label(self, structure: str) -> int:
        """Label of a structure; InputError for one that the anatomy does not have."""
        if structure not in self.structures:
            raise InputError(f"the anatomy has no {structure!r}; it has {', '.join(self.structures)}")
        return self.structures.index(structure) + 1

    def labels_of(self, name: str) -> tuple[int, ...]:
        """Labels of a structure or of a union written `a+b`.

        Raises InputError for a name the anatomy does not have, or one named twice.
        """
        parts = [part.strip() for part in name.split("+")]
        unknown = [part for part in parts if part not in self.structures]
        if unknown:
            raise InputError(
                f"unknown structure {unknown[0]!r} in {name!r}; allowed: "
                f"{', '.join(self.structures)}, and unions of them written 'a+b'"
            )
        if len(set(parts)) < len(parts):
            raise InputError(f"structure named twice in the union {name!r}")
        return tuple(self.label(part) for part in parts)
