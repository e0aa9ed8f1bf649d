"""Angles of the rule-based fibres: the config section `microstructure`. Owned by the meshing stage; light."""

from dataclasses import dataclass

from ..runtime.keys import check, from_section, key


@dataclass(frozen=True)
class FibreAngles:
    """Degrees, from the circumferential direction; 0 is an angle like any other.

    +60/-60 is common in mechanics (Streeter et al., Circ Res 1969 measured about that); the sheet angles
    are those of Bayer et al. 2012, whose own fibre example is +40/-50.
    """

    fibre_endo_deg: float = key(60, "Fibre (helix) angle at the endocardium.", minimum=-180, maximum=180)
    fibre_epi_deg: float = key(-60, "Fibre (helix) angle at the epicardium.", minimum=-180, maximum=180)
    sheet_endo_deg: float = key(-65, "Sheet angle at the endocardium.", minimum=-180, maximum=180)
    sheet_epi_deg: float = key(25, "Sheet angle at the epicardium.", minimum=-180, maximum=180)

    def __post_init__(self):
        check(self, "microstructure")

    @classmethod
    def of(cls, values: dict) -> "FibreAngles":
        """From the config's mapping; InputError naming a key that does not exist."""
        return from_section(cls, values, "microstructure")
