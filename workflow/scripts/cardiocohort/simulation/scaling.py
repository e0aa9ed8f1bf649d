"""The factors of a calibration, and settings with them. Owned by the simulation stage; light."""

from dataclasses import dataclass, fields, replace

from ..mechanics.settings import Mechanics
from ..runtime.errors import InputError
from .settings import SimulationSettings

LEAST, MOST = 0.25, 4.0  # of a factor


@dataclass(frozen=True)
class Scaling:
    """Factors of the material's stresses, of the largest active tension and of the systemic resistance."""

    stiffness: float = 1.0
    tension: float = 1.0
    resistance: float = 1.0

    def of(self, mechanics: Mechanics, settings: SimulationSettings) -> tuple[Mechanics, SimulationSettings]:
        """Settings with the factors; InputError where a scaled value breaks its key's bounds."""
        law = getattr(mechanics, mechanics.material)
        stresses = {
            f.name: self.stiffness * getattr(law, f.name) for f in fields(law) if f.name.endswith("_kpa")
        }
        cycle = replace(
            settings.cycle,
            tension_kpa=self.tension * settings.cycle.tension_kpa,
            systemic_resistance=self.resistance * settings.cycle.systemic_resistance,
        )
        scaled = replace(mechanics, **{mechanics.material: replace(law, **stresses)})
        return scaled, replace(settings, cycle=cycle)


def check_range(mechanics: Mechanics, settings: SimulationSettings) -> None:
    """InputError where a setting with a factor of MOST breaks its key's bounds."""
    try:
        Scaling(MOST, MOST, MOST).of(mechanics, settings)
    except InputError as error:
        raise InputError(
            f"simulation.calibrate: factors up to {MOST:g} must be possible; with that, {error}"
        ) from None
