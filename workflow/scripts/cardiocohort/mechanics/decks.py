"""Settings of the solver decks beyond the inflation itself. Owned by the inputs stage; light."""

from dataclasses import dataclass

from ..runtime.keys import check, from_section, key

FOLLOW = ("meshes", "simulations")
NOT_UNLOADED = "unloading did not converge"  # reason of a simulation whose stress-free geometry is none


@dataclass(frozen=True)
class DeckSettings:
    """The config section `decks`."""

    follow: str = key(
        "meshes",
        "What decks are made from. `meshes`: the meshes, which count as free of stress. `simulations`: what "
        "`simulate` took, which then runs first. Decks have its stress-free geometry "
        "(`simulation.reference`) and the arm's calibrated stiffness, and each README has its volumes.",
        enum=list(FOLLOW),
    )

    archive: bool = key(
        False,
        "Each deck as README.txt and one compressed archive, 0.35 to 0.8 of the size. Formats that are the "
        "mesh's own files (vtu) stay as they are.",
    )

    active_tension_kpa: float = key(
        60.0,
        "Active variant of febio, svmultiphysics and fenicsx decks: tension along the fibres at its end "
        "(kPa); 0 writes none. With holzapfel_ogden febio has none, and svmultiphysics has none with "
        "`mechanics.element_order: 1`. Default: problem 3 of Land et al., Proc R Soc A 2015.",
        minimum=0,
        maximum=1000,
    )
    active_lv_pressure_kpa: float = key(
        15.0,
        "Active variant: pressure on the left endocardium at its end (kPa). Default: the same problem.",
        minimum=0,
        maximum=100,
    )
    active_rv_pressure_kpa: float = key(
        5.0,
        "Active variant: pressure on the right endocardium at its end (kPa); a third of the left one's.",
        minimum=0,
        maximum=100,
    )

    def __post_init__(self):
        check(self, "decks")

    @classmethod
    def of(cls, values: dict) -> "DeckSettings":
        """From the config's mapping; InputError naming a key that does not exist or cannot be."""
        return from_section(cls, values, "decks")
