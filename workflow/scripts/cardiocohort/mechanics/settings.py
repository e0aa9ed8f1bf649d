"""What a passive inflation is made of: material, pressures, base, load steps. Owned by the inputs stage.

All solvers are given the same energy, split into an isochoric part of the modified invariants (of
J^(-2/3) C) and U(J) = kappa / 2 (J - 1)^2, as far as the solver has it; docs/solvers.md says where not.
"""

from dataclasses import dataclass

from ..runtime.errors import InputError
from ..runtime.keys import check, from_section, key, section

MATERIALS = ("holzapfel_ogden", "guccione", "neo_hooke")
BASES = ("fixed", "robin")


@dataclass(frozen=True)
class HolzapfelOgden:
    """W = a/2b (exp(b (I1 - 3)) - 1) + sum over f, s of a_i/2b_i (exp(b_i <I4i - 1>^2) - 1)
    + a_fs/2b_fs (exp(b_fs I8fs^2) - 1); stresses in kPa.

    Defaults: the fit to the simple shear tests of pig myocardium, Holzapfel & Ogden, Phil Trans R Soc A
    367:3445 (2009), table 1.
    """

    a_kpa: float = key(0.059, "Stress-like parameter of the matrix (kPa).", minimum=0, maximum=10000)
    b: float = key(8.023, "Exponent of the matrix.", exclusiveMinimum=0, maximum=1000)
    a_f_kpa: float = key(18.472, "Stress-like parameter of the fibres (kPa).", minimum=0, maximum=10000)
    b_f: float = key(16.026, "Exponent of the fibres.", exclusiveMinimum=0, maximum=1000)
    a_s_kpa: float = key(2.481, "Stress-like parameter of the sheets (kPa).", minimum=0, maximum=10000)
    b_s: float = key(11.12, "Exponent of the sheets.", exclusiveMinimum=0, maximum=1000)
    a_fs_kpa: float = key(
        0.216, "Stress-like parameter of the fibre-sheet shear (kPa).", minimum=0, maximum=10000
    )
    b_fs: float = key(11.436, "Exponent of the fibre-sheet shear.", exclusiveMinimum=0, maximum=1000)


@dataclass(frozen=True)
class Guccione:
    """W = C/2 (exp(Q) - 1), Q = b_f Eff^2 + b_t (Ess^2 + Enn^2 + 2 Esn^2) + 2 b_fs (Efs^2 + Efn^2).

    Form: Guccione et al., J Biomech Eng 113:42 (1991). Defaults: problem 1 of the cardiac mechanics
    benchmark, Land et al., Proc R Soc A 471:20150641 (2015).
    """

    c_kpa: float = key(2.0, "Stress-like parameter C (kPa).", exclusiveMinimum=0, maximum=10000)
    b_f: float = key(8.0, "Exponent along the fibres.", exclusiveMinimum=0, maximum=1000)
    b_t: float = key(2.0, "Exponent across the fibres.", exclusiveMinimum=0, maximum=1000)
    b_fs: float = key(4.0, "Exponent of shear with the fibres.", exclusiveMinimum=0, maximum=1000)


@dataclass(frozen=True)
class NeoHooke:
    """W = mu/2 (I1 - 3).

    Default: that of fenicsx-pulse. A wall of this material holds a limited pressure, for a thin sphere
    1.24 mu t / r. With 5 kPa, the small-strain stiffness of problem 2 of Land et al. (2015), CalculiX needed
    ever smaller load steps on a heart with a right wall of 3.5 mm.
    """

    mu_kpa: float = key(15.0, "Shear modulus (kPa).", exclusiveMinimum=0, maximum=10000)


@dataclass(frozen=True)
class Mechanics:
    """Pressures and moduli in kPa.

    bulk_modulus_kpa: svMultiPhysics' test of a ventricle with this material (LV_HolzapfelOgden_passive,
    1e7 dyn/cm^2) and fenicsx-pulse have the default. base_stiffness_kpa_per_mm: fenicsx-pulse's examples
    have 1e6 Pa/m.
    """

    material: str = key(
        "holzapfel_ogden",
        "Passive material; CalculiX, which lacks the fibre laws, always takes neo_hooke.",
        enum=list(MATERIALS),
    )
    holzapfel_ogden: HolzapfelOgden = section(
        HolzapfelOgden,
        "W = a/2b (exp(b (I1-3)) - 1) + sum a_i/2b_i (exp(b_i <I4i-1>^2) - 1) + a_fs/2b_fs "
        "(exp(b_fs I8fs^2) - 1). Defaults from Holzapfel and Ogden, Phil Trans R Soc A 2009, "
        "table 1.",
    )
    guccione: Guccione = section(
        Guccione,
        "W = C/2 (exp(b_f Eff^2 + b_t (Ess^2 + Enn^2 + 2 Esn^2) + 2 b_fs (Efs^2 + Efn^2)) - 1). "
        "Defaults from problem 1 of Land et al., Proc R Soc A 2015.",
    )
    neo_hooke: NeoHooke = section(
        NeoHooke, "W = mu/2 (I1-3). Default as in fenicsx-pulse; softer thin walls have a limit load."
    )
    bulk_modulus_kpa: float = key(
        1000.0,
        "kappa of the volumetric energy kappa/2 (J-1)^2 (kPa); larger is less compressible and "
        "harder to solve. The default is that of svMultiPhysics' test of a passive ventricle.",
        exclusiveMinimum=0,
        maximum=10000000.0,
    )
    lv_pressure_kpa: float = key(
        1.5,
        "Pressure on the left endocardium at the last load step (kPa); about end-diastolic.",
        minimum=0,
        maximum=100,
    )
    rv_pressure_kpa: float = key(
        0.5,
        "Pressure on the right endocardium at the last load step (kPa); about end-diastolic.",
        minimum=0,
        maximum=100,
    )
    load_steps: int = key(
        15,
        "Equal steps in which the pressures rise from zero; more, and small ones first, for holzapfel_ogden "
        "in febio and svmultiphysics.",
        minimum=1,
        maximum=10000,
    )
    base: str = key(
        "fixed",
        "`fixed`: the base does not move; `robin`: springs hold it, alike in all directions.",
        enum=list(BASES),
    )
    base_stiffness_kpa_per_mm: float = key(
        1.0,
        "Stiffness of the springs of `robin` per area (kPa/mm); default as in fenicsx-pulse's examples.",
        exclusiveMinimum=0,
        maximum=10000,
    )
    element_order: int = key(
        2,
        "Of FEBio, svMultiPhysics and CalculiX meshes; 2 has ten nodes a tetrahedron and does not lock as "
        "1 does.",
        enum=[1, 2],
    )

    def __post_init__(self):
        check(self, "mechanics")
        if self.lv_pressure_kpa == 0 and self.rv_pressure_kpa == 0:
            raise InputError(
                "mechanics.lv_pressure_kpa, mechanics.rv_pressure_kpa: both are 0, which loads nothing; one "
                "must be above 0"
            )

    @classmethod
    def of(cls, values: dict) -> "Mechanics":
        """From the config's mapping; InputError naming a key that does not exist or cannot be."""
        return from_section(cls, values, "mechanics")
