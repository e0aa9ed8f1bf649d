"""Isochoric stresses and stiffnesses (kPa) of the material laws. Owned by the simulation stage.

The laws and their parameters are those of `mechanics.settings`. Each is an energy W of the modified right
Cauchy-Green tensor J^(-2/3) C in the axes fibre, sheet, sheet normal. Tensors are arrays (6, n) of their
components PAIRS at n points, fourth-order tensors with both symmetries (6, 6, n).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..mechanics.settings import Guccione, HolzapfelOgden, Mechanics, NeoHooke

PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
# modified tensor (6, n) -> 2 dW/dC (6, n) and 4 d2W/dC2 (6, 6, n)
Law = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# A fibre at rest counts as stretched: its stiffness must be in the first tangent, or the first step runs
# away. This is above the rounding of unit directions and far below any strain of interest.
REST = 1e-9


@dataclass(frozen=True)
class Switch:
    """How fibres and sheets that resist tension only change from slack to taut, by x = I4 - 1.

    The law has the effective strain g = max(x, 0). A switch of some width is a parabola between -width / 2
    and width / 2, and slack fibres keep a share of their stiffness: both are convex and soften the change.
    """

    width: float = 0.0
    share: float = 0.0

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """g and dg/dx at x."""
        if self.width > 0:
            slope = np.clip(x / self.width + 0.5, 0, 1)
            g = np.where(slope < 1, self.width / 2 * slope**2, x)
        else:
            slope = (x + REST > 0).astype(float)
            g = slope * x
        return g + self.share * (x - g), slope + self.share * (1 - slope)


EXACT = Switch()
APPROACH = (Switch(1 / 50, 0.1), Switch(1 / 100, 0.02))


def law(mechanics: Mechanics, switch: Switch = EXACT) -> Law:
    """The law of `mechanics.material`; a `switch` other than EXACT changes laws in ONE_SIDED alone."""
    more = {"switch": switch} if mechanics.material in ONE_SIDED else {}
    return partial(_LAWS[mechanics.material], getattr(mechanics, mechanics.material), **more)


def approach(mechanics: Mechanics) -> tuple[Law, ...]:
    """Laws by which a load is reached before `law` itself is obeyed, ever nearer to it."""
    return tuple(law(mechanics, s) for s in APPROACH) if mechanics.material in ONE_SIDED else ()


def at(law: Law, rows: slice) -> Law:
    """The law of some elements: a law that differs from element to element has a method `at`."""
    return law.at(rows) if hasattr(law, "at") else law


def direct(law: Law, c: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Stress (6, n) and stiffness (6, 6, n) by C (6, n) itself which a law has besides, if it has any."""
    return law.direct(c) if hasattr(law, "direct") else None


def holzapfel_ogden(settings: HolzapfelOgden, c: np.ndarray, switch: Switch = EXACT):
    """Holzapfel & Ogden, Phil Trans R Soc A 367:3445 (2009); fibres and sheets resist tension only."""
    stress, stiffness = np.zeros_like(c), np.zeros((6, *c.shape))
    matrix = settings.a_kpa * np.exp(settings.b * (c[0] + c[1] + c[2] - 3))
    stress[:3] = matrix
    stiffness[:3, :3] = 2 * settings.b * matrix
    for axis, a, b in ((0, settings.a_f_kpa, settings.b_f), (1, settings.a_s_kpa, settings.b_s)):
        g, slope = switch(c[axis] - 1)
        taut = a * np.exp(b * g * g)
        stress[axis] += 2 * taut * g
        stiffness[axis, axis] += 4 * taut * slope * (1 + 2 * b * g * g)
    square = settings.b_fs * c[3] * c[3]
    shear = settings.a_fs_kpa * np.exp(square)
    stress[3] = shear * c[3]
    stiffness[3, 3] = shear * (1 + 2 * square)
    return stress, stiffness


def guccione(settings: Guccione, c: np.ndarray):
    """Guccione et al., J Biomech Eng 113:42 (1991)."""
    weights = np.array([settings.b_f, *[settings.b_t] * 2, *[settings.b_fs] * 2, settings.b_t])[:, None]
    strain = 0.5 * c
    strain[:3] -= 0.5
    slope = 2 * weights * strain  # of the exponent, by the strain
    exponential = settings.c_kpa / 2 * np.exp(0.5 * np.einsum("in,in->n", _TWICE * slope, strain))
    stiffness = slope[:, None] * slope
    stiffness[range(6), range(6)] += 2 * weights / _TWICE
    return exponential * slope, exponential * stiffness


def neo_hooke(settings: NeoHooke, c: np.ndarray):
    stress = np.zeros_like(c)
    stress[:3] = settings.mu_kpa
    return stress, np.zeros((6, *c.shape))


_TWICE = np.array([1.0, 1, 1, 2, 2, 2])[:, None]  # how often a component of PAIRS is in its tensor
ONE_SIDED = ("holzapfel_ogden",)
_LAWS = {"holzapfel_ogden": holzapfel_ogden, "guccione": guccione, "neo_hooke": neo_hooke}
