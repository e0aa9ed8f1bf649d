"""Active tension and viscosity of the muscle, on top of a passive law. Owned by the simulation stage.

Active stress of second Piola-Kirchhoff kind along the fibres, T g(lambda) with g = 1 + length (lambda - 1),
and a share of T along sheets and normals. It is added as it is, as in FEBio, svMultiPhysics and
fenicsx-pulse. In the modified tensor it would lack its mean, which the pressure would have to make up for:
the muscle would swell by 1 to 2 % where it contracts, and cavities would be 4 % larger. Viscous stress,
viscosity times the rate of the strain, is in the modified tensor, as the passive laws are.

The pressure, continuous and linear in each element, keeps volumes on average only. In strong contraction
points of coarse elements went from 0.2 to 2 times their volume, and Newton's method then needed steps of a
millisecond, or none did. So each point has a volumetric energy of its own besides, small beside the bulk
modulus: volume_kpa (J - 1 - ln J).
"""

from dataclasses import dataclass, replace

import numpy as np

from .elements import Solid
from .materials import PAIRS, Law

VOLUME_KPA = 100.0  # a tenth of the default bulk modulus; with 50 single points still lose half their volume


@dataclass(frozen=True)
class Contracting:
    """A law at a moment. tension (kPa): one for all, or one per element (M,).

    before (6, M, Q): modified tensors of the last moment, to which `viscosity` (kPa s) over `dt` pulls;
    None without viscosity. volume_kpa: stiffness of the volume at each point.
    """

    passive: Law
    tension: float | np.ndarray
    across: float = 0.0
    length: float = 0.0
    viscosity: float = 0.0
    dt: float = 1.0
    before: np.ndarray | None = None
    volume_kpa: float = VOLUME_KPA

    def at(self, rows: slice) -> Law:
        """The law of some elements, whose points come element by element."""
        before = None if self.before is None else self.before[:, rows]
        tension = self.tension[rows] if np.ndim(self.tension) else self.tension
        return replace(self, tension=tension, before=before)

    def __call__(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stress, stiffness = self.passive(c)
        if self.before is not None:
            rate = self.viscosity / self.dt
            stress += rate / 2 * (c - self.before.reshape(6, -1))
            stiffness[range(6), range(6)] += rate * np.array([1, 1, 1, 0.5, 0.5, 0.5])[:, None]
        return stress, stiffness

    def direct(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Stress (6, n) and stiffness (6, 6, n) of the tension, by C (6, n) itself."""
        tension = self.tension
        if np.ndim(tension):
            tension = np.repeat(tension, c.shape[1] // len(tension))
        stretch = np.sqrt(np.maximum(c[0], 1e-6))
        factor = 1 + self.length * (stretch - 1)
        pulls = factor > 0
        stress, stiffness = np.zeros_like(c), np.zeros((6, *c.shape))
        stress[0] = tension * factor * pulls
        stiffness[0, 0] = tension * self.length / stretch * pulls
        stress[1:3] = self.across * tension
        return stress, stiffness


def modified_tensors(solid: Solid, state: np.ndarray) -> np.ndarray:
    """(6, M, Q): J^(-2/3) C at all points of a state, in the axes of the fibres."""
    f = solid.deformation(state)
    c = f.swapaxes(-1, -2) @ f
    c /= np.cbrt(np.linalg.det(c))[..., None, None]
    return np.array([c[..., i, j] for i, j in PAIRS])
