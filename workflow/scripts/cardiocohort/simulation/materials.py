"""Isochoric energy densities (kPa) as NGSolve expressions. Owned by the simulation stage.

The laws and their parameters are those of `mechanics.settings`; each is a function of the modified right
Cauchy-Green tensor J^(-2/3) C, a 3 x 3 expression, and of three directions.
"""

from collections.abc import Callable

import ngsolve as ng

from ..mechanics.settings import Guccione, HolzapfelOgden, Mechanics, NeoHooke

Expression = ng.CoefficientFunction
Law = Callable[[Expression], Expression]

# A fibre at rest counts as stretched: its stiffness must be in the first tangent, or the first step runs
# away. This is above the rounding of unit directions and far below any strain of interest.
REST = 1e-9


def law(
    mechanics: Mechanics, directions: tuple[Expression, ...], compressed: Expression | float = 0.0
) -> Law:
    """The energy of `mechanics.material`; directions f0, s0, n0 (unused by neo_hooke).

    compressed: share of their stiffness that fibres and sheets keep where they are shortened, in laws in
    which these resist tension only. The laws are those with 0.
    """
    settings, more = getattr(mechanics, mechanics.material), {}
    if mechanics.material in ONE_SIDED:
        more = {"compressed": compressed}
    return lambda c: _ENERGIES[mechanics.material](settings, c, *directions, **more)


def holzapfel_ogden(
    settings: HolzapfelOgden, c: Expression, f: Expression, s: Expression, n: Expression, compressed=0.0
):
    """Holzapfel & Ogden, Phil Trans R Soc A 367:3445 (2009); fibres and sheets resist tension only."""
    shear = ng.InnerProduct(f, c * s)
    return (
        _exponential(settings.a_kpa, settings.b, ng.Trace(c) - 3)
        + _stretched(settings.a_f_kpa, settings.b_f, ng.InnerProduct(f, c * f) - 1, compressed)
        + _stretched(settings.a_s_kpa, settings.b_s, ng.InnerProduct(s, c * s) - 1, compressed)
        + _exponential(settings.a_fs_kpa, settings.b_fs, shear * shear)
    )


def guccione(settings: Guccione, c: Expression, f: Expression, s: Expression, n: Expression):
    """Guccione et al., J Biomech Eng 113:42 (1991)."""
    e = 0.5 * (c - ng.Id(3))
    ff, ss, nn = (ng.InnerProduct(d, e * d) for d in (f, s, n))
    fs, fn, sn = (ng.InnerProduct(a, e * b) for a, b in ((f, s), (f, n), (s, n)))
    q = (
        settings.b_f * ff * ff
        + settings.b_t * (ss * ss + nn * nn + 2 * sn * sn)
        + 2 * settings.b_fs * (fs * fs + fn * fn)
    )
    return settings.c_kpa / 2 * (ng.exp(q) - 1)


def neo_hooke(settings: NeoHooke, c: Expression, *directions: Expression):
    return settings.mu_kpa / 2 * (ng.Trace(c) - 3)


def _exponential(a: float, b: float, x: Expression) -> Expression:
    return a / (2 * b) * (ng.exp(b * x) - 1)


def _stretched(a: float, b: float, x: Expression, compressed: Expression | float) -> Expression:
    return ng.IfPos(x + REST, 1.0, compressed) * _exponential(a, b, x * x)


ONE_SIDED = ("holzapfel_ogden",)
_ENERGIES = {"holzapfel_ogden": holzapfel_ogden, "guccione": guccione, "neo_hooke": neo_hooke}
