"""How the inflation is solved; what is solved is `mechanics.settings`. Owned by the simulation stage."""

from dataclasses import dataclass, fields

from ..runtime.errors import InputError

WHOLE = ("batch_size", "max_steps", "max_iterations", "max_halvings")


@dataclass(frozen=True)
class SimulationSettings:
    """
    batch_size      subjects of a simulation job; simulations have batches of their own
    pericardium_kpa_per_mm   springs on the epicardium along its normal; 0 leaves it free, as the decks do
    max_steps       converged load steps after which a run ends unfinished
    max_iterations  Newton iterations of a load step, after which the step is halved
    max_halvings    halvings of a load step in a row, after which a run ends unfinished
    """

    batch_size: int = 1
    pericardium_kpa_per_mm: float = 0.0
    max_steps: int = 200
    max_iterations: int = 12
    max_halvings: int = 8

    def __post_init__(self):
        for name in WHOLE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"simulation.{name}: {value!r} is not a whole number above 0")
        stiffness = self.pericardium_kpa_per_mm
        if isinstance(stiffness, bool) or not isinstance(stiffness, int | float):
            raise InputError(f"simulation.pericardium_kpa_per_mm: {stiffness!r} is not a number")
        if not 0 <= stiffness < float("inf"):
            raise InputError(f"simulation.pericardium_kpa_per_mm: {stiffness!r} is not a number >= 0")

    @classmethod
    def of(cls, values: dict) -> "SimulationSettings":
        """From the config's mapping; InputError naming a key that does not exist or cannot be."""
        allowed = [f.name for f in fields(cls)]
        unknown = [name for name in values if name not in allowed]
        if unknown:
            raise InputError(f"simulation.{unknown[0]}: no such setting; allowed: {', '.join(allowed)}")
        return cls(**values)
