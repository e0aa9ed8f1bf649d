"""The mesh of a whole label map: every label a region of tetrahedra. Owned by the meshing stage."""

from dataclasses import dataclass, field

import numpy as np

from .model import Microstructure, check_directions, check_mesh
from .tetrahedron_geometry import FACES, row_keys, signed_volumes

OUTSIDE = "outside"


@dataclass(frozen=True)
class LabelModel:
    """Tetrahedra of all labels, whose regions share their nodes where they meet.

    points_mm (N, 3) float64, RAS+, in `frame` ("heart" or "scanner", `mesh.frames`); tets (M, 4), positively
    oriented; region (M,), the label, 1..K; facets (F, 3), every triangle between two regions or between a
    region and the outside, once; sides (F, 2), the labels behind the facet's normal and before it, 0 is
    outside, and a region that was left out keeps its label; structures, the names of labels 1..K.
    microstructure: zero vectors where there are no fibres.
    Raises ValueError naming the block whose shape, index or value does not fit.
    """

    points_mm: np.ndarray
    tets: np.ndarray
    region: np.ndarray
    facets: np.ndarray
    sides: np.ndarray
    structures: tuple[str, ...]
    microstructure: Microstructure | None = None
    provenance: dict = field(default_factory=dict)
    units: str = "mm"
    world_from_heart: np.ndarray | None = None
    frame: str = "heart"

    def __post_init__(self):
        check_mesh(self, {"region": (len(self.tets),), "sides": (len(self.facets), 2)})
        for name, least in (("region", 1), ("sides", 0)):
            labels = getattr(self, name)
            if labels.size and not (labels.min() >= least and labels.max() <= len(self.structures)):
                raise ValueError(f"{name}: labels outside {least}..{len(self.structures)}")
        check_directions(self)

    @property
    def tet_volumes_mm3(self) -> np.ndarray:
        """(M,) signed volumes."""
        return signed_volumes(self.points_mm, self.tets)

    @property
    def volumes_mm3(self) -> np.ndarray:
        """(K,) volume of each structure's region."""
        return np.bincount(self.region, self.tet_volumes_mm3, len(self.structures) + 1)[1:]

    def name(self, label: int) -> str:
        return OUTSIDE if label == 0 else self.structures[label - 1]

    def interfaces(self) -> dict[str, np.ndarray]:
        """Facets (F, 3) by interface, `structure-structure` or `structure-outside`.

        They are turned outward of the structure named first, which has the smaller label.
        """
        inner, outer = (self.sides == 0).argmin(axis=1), (self.sides == 0).argmax(axis=1)
        no_outside = (self.sides > 0).all(axis=1)
        first = np.where(no_outside, self.sides.argmin(axis=1), inner)
        second = np.where(no_outside, self.sides.argmax(axis=1), outer)
        rows = np.arange(len(self.sides))
        pairs = np.stack([self.sides[rows, first], self.sides[rows, second]], axis=1)
        turned = np.where((first == 1)[:, None], self.facets[:, ::-1], self.facets)
        return {
            f"{self.name(a)}-{self.name(b)}": turned[(pairs == (a, b)).all(axis=1)]
            for a, b in np.unique(pairs, axis=0).tolist()
        }

    def surface_of(self, label: int) -> np.ndarray:
        """Facets (F, 3) around a label's region, normals outward."""
        behind, before = self.facets[self.sides[:, 0] == label], self.facets[self.sides[:, 1] == label]
        return np.concatenate([behind, before[:, ::-1]])


def wrong_facets(model: LabelModel) -> int:
    """Facets that do not conform: the number of faces of tets for which facets and regions disagree.

    Between two tets of different regions, and before a tet that has no neighbour, there must be exactly one
    facet, with these regions on these sides. Anywhere else there must be none, and no face has three tets.
    A side may have the label of a region that was left out, of which the mesh has no tets.
    """
    n = len(model.points_mm)
    faces = model.tets[:, FACES].reshape(-1, 3)
    key = row_keys(np.sort(faces, axis=1), n)
    _, first, at, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    # labels on both sides of each face, as seen by the turn of its first tet
    region = np.repeat(model.region, 4)
    is_first = np.zeros(len(key), dtype=bool)
    is_first[first] = True
    sides = np.zeros((len(first), 2), dtype=np.int64)
    sides[:, 0] = region[first]
    sides[at[~is_first], 1] = region[~is_first]
    wall = sides[:, 0] != sides[:, 1]
    expected = _turned_rows(faces[first[wall]], sides[wall], n)
    sides_there = np.where(np.isin(model.sides, model.region), model.sides, 0)
    given = _turned_rows(model.facets, sides_there, n)
    return int((count > 2).sum() + (len(given) - len(np.unique(given)))) + len(np.setxor1d(expected, given))


def _turned_rows(facets: np.ndarray, sides: np.ndarray, n: int) -> np.ndarray:
    """Facets with their sides as rows to compare, the same for both turns of a facet."""
    smallest = facets.argmin(axis=1)[:, None]
    a, b, c = (np.take_along_axis(facets, (smallest + k) % 3, axis=1)[:, 0] for k in range(3))
    turn = b > c
    ordered = np.stack([a, np.where(turn, c, b), np.where(turn, b, c)], axis=1)
    labels = np.where(turn[:, None], sides[:, ::-1], sides)
    rows = np.stack([row_keys(ordered, n), labels[:, 0], labels[:, 1]], axis=1)
    return np.ascontiguousarray(rows).view([("facet", "i8"), ("behind", "i8"), ("before", "i8")]).ravel()
