"""Hearts whose moments are known exactly: ellipsoids, drawn at random (evaluation stage).

A cavity, the wall around it, and an atrium above: solid ellipsoids and the shell between two, all turned
alike, with moments in closed form. A prior of such hearts shows control alone: its targets have no error.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ...anatomy.labels import Anatomy, Grid
from ...anatomy.moments import Moments, from_ellipsoid, of_each

ANATOMY = Anatomy(("wall", "cavity", "atrium"), ("wall", "cavity"))
GRID = Grid((48, 48, 48), 3.0)
CAVITY_MM, WALL_MM, ATRIUM_MM = (24.0, 20.0, 18.0), 9.0, (15.0, 15.0, 12.0)
GAP_MM = 4.0  # no voxel of the one has a face of the other
LOG_SPREAD, PLACE_MM, TURN_RAD = 0.1, 2.0, 0.2


@dataclass(frozen=True)
class Known:
    """One heart: the cavity's centre (3,), semi-axes of cavity and atrium (3,), wall, turn; mm, rad."""

    centre_mm: np.ndarray
    cavity_mm: np.ndarray
    wall_mm: float
    atrium_mm: np.ndarray
    turn_rad: np.ndarray

    @property
    def rotation(self) -> np.ndarray:
        """Columns are the axes, (3, 3)."""
        return Rotation.from_rotvec(self.turn_rad).as_matrix()

    @property
    def atrium_centre_mm(self) -> np.ndarray:
        above = self.cavity_mm[2] + self.wall_mm + GAP_MM + self.atrium_mm[2]
        return self.centre_mm + above * self.rotation[:, 2]


def draw(rng: np.random.Generator) -> Known:
    """A random heart: log-normal lengths, normal turn and place of the common centre of wall and cavity."""
    return Known(
        PLACE_MM * rng.standard_normal(3),
        np.array(CAVITY_MM) * np.exp(LOG_SPREAD * rng.standard_normal(3)),
        float(WALL_MM * np.exp(LOG_SPREAD * rng.standard_normal())),
        np.array(ATRIUM_MM) * np.exp(LOG_SPREAD * rng.standard_normal(3)),
        TURN_RAD * rng.standard_normal(3),
    )


def moments_of(heart: Known) -> Moments:
    """Exact moments (3,) of wall, cavity and atrium.

    Of the shell: volume and second moments of the outer solid minus those of the cavity.
    """
    r = heart.rotation
    cavity = from_ellipsoid(heart.centre_mm, heart.cavity_mm, r)
    outer = from_ellipsoid(heart.centre_mm, heart.cavity_mm + heart.wall_mm, r)
    atrium = from_ellipsoid(heart.atrium_centre_mm, heart.atrium_mm, r)
    volume = outer.volume_ml - cavity.volume_ml
    weighed = outer.volume_ml * outer.covariance_mm2 - cavity.volume_ml * cavity.covariance_mm2
    wall = Moments(volume, outer.centroid_mm, weighed / volume)
    return of_each(lambda *of: np.stack(of), wall, cavity, atrium)


def labels_of(heart: Known, grid: Grid = GRID) -> np.ndarray:
    """Label map (X, Y, Z) uint8: a voxel has the label of what its centre lies in."""
    points = np.stack(np.meshgrid(*grid.axes_mm(), indexing="ij"), axis=-1)
    turned = (points - heart.centre_mm) @ heart.rotation
    above = (points - heart.atrium_centre_mm) @ heart.rotation
    labels = np.zeros(grid.shape, np.uint8)
    labels[((turned / (heart.cavity_mm + heart.wall_mm)) ** 2).sum(-1) < 1] = ANATOMY.label("wall")
    labels[((turned / heart.cavity_mm) ** 2).sum(-1) < 1] = ANATOMY.label("cavity")
    labels[((above / heart.atrium_mm) ** 2).sum(-1) < 1] = ANATOMY.label("atrium")
    return labels
