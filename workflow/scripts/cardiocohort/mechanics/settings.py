"""What a passive inflation is made of: material, pressures, base, load steps. Owned by the inputs stage.

All solvers are given the same energy, split into an isochoric part of the modified invariants (of
J^(-2/3) C) and U(J) = kappa / 2 (J - 1)^2, as far as the solver has it; docs/solvers.md says where not.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from ..runtime.errors import InputError

MATERIALS = ("holzapfel_ogden", "guccione", "neo_hooke")
BASES = ("fixed", "robin")


@dataclass(frozen=True)
class HolzapfelOgden:
    """W = a/2b (exp(b (I1 - 3)) - 1) + sum over f, s of a_i/2b_i (exp(b_i <I4i - 1>^2) - 1)
    + a_fs/2b_fs (exp(b_fs I8fs^2) - 1); stresses in kPa.

    Defaults: the fit to the simple shear tests of pig myocardium, Holzapfel & Ogden, Phil Trans R Soc A
    367:3445 (2009), table 1.
    """

    a_kpa: float = 0.059
    b: float = 8.023
    a_f_kpa: float = 18.472
    b_f: float = 16.026
    a_s_kpa: float = 2.481
    b_s: float = 11.120
    a_fs_kpa: float = 0.216
    b_fs: float = 11.436


@dataclass(frozen=True)
class Guccione:
    """W = C/2 (exp(Q) - 1), Q = b_f Eff^2 + b_t (Ess^2 + Enn^2 + 2 Esn^2) + 2 b_fs (Efs^2 + Efn^2).

    Form: Guccione et al., J Biomech Eng 113:42 (1991). Defaults: problem 1 of the cardiac mechanics
    benchmark, Land et al., Proc R Soc A 471:20150641 (2015).
    """

    c_kpa: float = 2.0
    b_f: float = 8.0
    b_t: float = 2.0
    b_fs: float = 4.0


@dataclass(frozen=True)
class NeoHooke:
    """W = mu/2 (I1 - 3).

    Default: that of fenicsx-pulse. A wall of this material bears a largest pressure, 1.24 mu t / r for a thin
    sphere: with 5 kPa, what problem 2 of the benchmark (Land et al. 2015) is at small strain, CalculiX needed
    ever smaller load steps on a heart with a right wall of 3.5 mm.
    """

    mu_kpa: float = 15.0


@dataclass(frozen=True)
class Mechanics:
    """Pressures and moduli in kPa.

    material            one of MATERIALS; formats whose solver lacks it say what they take instead
    bulk_modulus_kpa    kappa; the default is that of svMultiPhysics' test of a ventricle with this material
                        (LV_HolzapfelOgden_passive, 1e7 dyn/cm^2) and of fenicsx-pulse
    lv_pressure_kpa, rv_pressure_kpa   end-diastolic pressures on the endocardia, following the surface
    load_steps          equal steps in which the pressures rise from zero
    base                `fixed`: no displacement; `robin`: springs, alike in all directions
    base_stiffness_kpa_per_mm   the default is that of fenicsx-pulse's examples (1e6 Pa/m)
    element_order       of the FEBio and CalculiX meshes: 2 (10 nodes) does not lock where 1 does
    """

    material: str = "holzapfel_ogden"
    holzapfel_ogden: HolzapfelOgden = field(default_factory=HolzapfelOgden)
    guccione: Guccione = field(default_factory=Guccione)
    neo_hooke: NeoHooke = field(default_factory=NeoHooke)
    bulk_modulus_kpa: float = 1000.0
    lv_pressure_kpa: float = 1.5
    rv_pressure_kpa: float = 0.5
    load_steps: int = 15
    base: str = "fixed"
    base_stiffness_kpa_per_mm: float = 1.0
    element_order: int = 2

    def __post_init__(self):
        for name, allowed in (("material", MATERIALS), ("base", BASES), ("element_order", (1, 2))):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"mechanics.{name}: {getattr(self, name)!r} is not one of {', '.join(map(str, allowed))}"
                )
        for part in MATERIALS:
            _check_numbers(f"mechanics.{part}", getattr(self, part), positive=("b", "mu", "c"))
        _check_numbers("mechanics", self, positive=("bulk", "load", "base"))
        if self.lv_pressure_kpa == 0 and self.rv_pressure_kpa == 0:
            raise InputError(
                "mechanics.lv_pressure_kpa, mechanics.rv_pressure_kpa: both are 0, which loads nothing; one "
                "must be above 0"
            )
        if not isinstance(self.load_steps, int):
            raise InputError(f"mechanics.load_steps: {self.load_steps!r} is not a whole number")

    @classmethod
    def of(cls, values: dict) -> "Mechanics":
        """From the config's mapping; InputError naming a key that does not exist or cannot be."""
        values = _known("mechanics", cls, values)
        for name, part in (
            ("holzapfel_ogden", HolzapfelOgden), ("guccione", Guccione), ("neo_hooke", NeoHooke),
        ):  # fmt: skip
            if name in values:
                values[name] = part(**_known(f"mechanics.{name}", part, values[name]))
        return cls(**values)


def _known(where: str, kind: type, values: dict) -> dict:
    allowed = [f.name for f in fields(kind)]
    unknown = [name for name in values if name not in allowed]
    if unknown:
        raise InputError(f"{where}.{unknown[0]}: no such setting; allowed: {', '.join(allowed)}")
    return dict(values)


def _check_numbers(where: str, settings: Any, positive: tuple[str, ...]) -> None:
    """InputError for a number that is negative, or 0 where its name starts with one of `positive`."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.type not in (float, int):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise InputError(f"{where}.{f.name}: {value!r} is not a number >= 0")
        if value == 0 and f.name.startswith(positive):
            raise InputError(f"{where}.{f.name}: must be above 0")
