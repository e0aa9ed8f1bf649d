"""How the inflation is solved; `mechanics.settings` has what. Owned by the simulation stage; light."""

from dataclasses import dataclass

from ..runtime.keys import check, from_section, key, section
from .cycle import Cycle
from .targets import Calibrate

MUMPS, PARDISO = LIBRARIES = ("mumps", "pardiso")  # that factorise


@dataclass(frozen=True)
class SimulationSettings:
    """The config section `simulation`."""

    batch_size: int = key(
        1,
        "Subjects of a simulation job; simulations have smaller batches of their own.",
        minimum=1,
        maximum=10000,
    )
    reference: str = key(
        "image",
        "Which geometry is free of stress: `image`, the mesh itself, or `unloaded`, the one whose inflation "
        "to the pressures of `mechanics` gives the mesh.",
        enum=["image", "unloaded"],
    )
    fibres: str = key(
        "points",
        "Where fibre directions are evaluated: `points`, at each point of quadrature, by the fibre rule; or "
        "`elements`, once per tetrahedron, as in the mesh and the decks.",
        enum=["points", "elements"],
    )
    solver: str = key(
        MUMPS,
        "Library that factorises the tangents: `mumps`, which is open and in every environment, or `pardiso` "
        "of Intel's MKL, which is faster and uses all of `threads.simulation`. With conda its environment is "
        "envs/simulation_mkl.yaml; else MKL must be installed (`.venv/bin/pip install mkl`).",
        enum=list(LIBRARIES),
    )
    pericardium_kpa_per_mm: float = key(
        0.0,
        "Stiffness of springs on the epicardium along its normal, per area (kPa/mm); 0 leaves it "
        "free. Decks that follow the simulations have them too, except for FEBio.",
        minimum=0,
        maximum=10000,
    )
    valve_plane: str = key(
        "free",
        "What carries the pressure on the planes of the valves: `free`, nothing, or `loaded`, the base, so "
        "that the pressure in a cavity has no resultant.",
        enum=["free", "loaded"],
    )
    max_steps: int = key(
        200,
        "Converged load steps after which a simulation ends as not converged.",
        minimum=1,
        maximum=100000,
    )
    max_iterations: int = key(
        12,
        "Newton iterations after which a load step is halved.",
        minimum=1,
        maximum=1000,
    )
    max_halvings: int = key(
        8,
        "Halvings of a load step in a row after which a simulation ends as not converged.",
        minimum=1,
        maximum=100,
    )

    curve_points: int = key(
        12,
        "Points of the pressure-volume curve, rest and full load included.",
        minimum=2,
        maximum=1000,
    )

    cycle: Cycle = section(Cycle, "Beats in a closed circulation, after the inflation; off by default.")
    calibrate: Calibrate = section(
        Calibrate,
        "At most three targets of a beat, to which factors of stiffness, tension and systemic resistance are "
        "fitted, once per arm (docs/simulation.md). `arms` may give an arm its own targets.",
    )

    def __post_init__(self):
        check(self, "simulation")
        self.calibrate.check_with(self.cycle, self.reference)

    @classmethod
    def of(cls, values: dict) -> "SimulationSettings":
        """From the config's mapping; InputError naming a key that does not exist or cannot be."""
        return from_section(cls, values, "simulation")
