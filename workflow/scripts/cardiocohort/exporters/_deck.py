"""What the decks of several solvers share. Owned by the inputs stage."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..mechanics.decks import NOT_UNLOADED, DeckSettings
from ..mechanics.settings import Mechanics
from ..mesh.model import FACETS, BiventricularModel
from ..mesh.second_order import second_order
from ..mesh.tetrahedron_geometry import FACES, row_keys
from ..runtime.artifacts import listed_file
from ..runtime.errors import SubjectError

Listed = tuple[str, int, str]  # path, size and sha256 of a file
ENDOCARDIA = ("lv_endo", "rv_endo")
VENTRICLES = ("lv", "rv")
# Fibres that resist tension only are slack at rest: Newton's method of FEBio and svMultiPhysics fails in a
# first step of a fifteenth of the load, and FEBio's in a step from 0.001 to 0.005 of it.
SLACK_AT_REST = {"holzapfel_ogden"}
SLACK_POWER = 3  # of the load over time


@dataclass(frozen=True)
class Simulated:
    """What `simulate` found for the heart of a deck.

    reference: the geometry that counts as free of stress, "image" or "unloaded". at_rest_ml, at_load_ml:
    volumes by ventricle, those at load empty where the full load was not reached; reason: why not.
    seconds: its time, the curve included. fibres: where it had directions, "points" or "elements"
    (`simulation.settings`); decks have the latter.
    """

    reference: str
    at_rest_ml: dict[str, float]
    at_load_ml: dict[str, float]
    reason: str = ""
    seconds: float = 0.0
    fibres: str = "elements"

    @classmethod
    def of(cls, row: dict, reference: str, fibres: str) -> "Simulated":
        """From a row of the simulation table."""
        at_rest, at_load = (
            {v: float(row[f"{v}_{name}_ml"]) for v in VENTRICLES if np.isfinite(row[f"{v}_{name}_ml"])}
            for name in ("unloaded", "loaded")
        )
        if row["load_share"] >= 1 and row["reason"] != NOT_UNLOADED:
            return cls(reference, at_rest, at_load, "", float(row["seconds"]), fibres)
        reason = ": ".join(filter(None, (row["reason"], row["detail"])))
        return cls(reference, at_rest, {}, reason)

    def geometry(self, mesh: tuple[Listed, Listed], row: dict, folder: Path) -> tuple[Listed, Listed] | None:
        """Volume and surface file of the stress-free geometry: the `mesh`'s, or those of a row in `folder`.

        None where no stress-free geometry was found.
        """
        if self.reference == "image":
            return mesh
        return (listed_file(row, folder, "unloaded_"), mesh[1]) if self.at_load_ml else None


@dataclass(frozen=True)
class Deck:
    """What a deck is beyond mesh and inflation; simulated: None where decks do not follow the simulations.

    pericardium_kpa_per_mm: springs along the epicardium's undeformed normal, per undeformed area, as
    `simulate` has them; 0 without.
    """

    simulated: Simulated | None = None
    settings: DeckSettings = field(default_factory=DeckSettings)
    pericardium_kpa_per_mm: float = 0.0

    def pericardium(self, lacking: str = "") -> str:
        """The README's paragraph on the springs; lacking: why this deck has none."""
        if not self.pericardium_kpa_per_mm:
            return ""
        stiffness = f"{self.pericardium_kpa_per_mm:g} kPa/mm"
        if lacking:
            return f"The epicardium is free: springs of {stiffness} held it in `simulate`.\n{lacking}\n"
        return f"Springs of {stiffness} along the undeformed normal hold the epicardium, as in `simulate`.\n"

    def contracts(self, model: BiventricularModel) -> bool:
        """Whether there is an active variant: a tension is set, and the model has fibres that it pulls on."""
        return self.settings.active_tension_kpa > 0 and model.microstructure is not None

    def active_pressures_kpa(self) -> dict[str, float]:
        """Pressures of the active variant by facet tag."""
        settings = self.settings
        both = (settings.active_lv_pressure_kpa, settings.active_rv_pressure_kpa)
        return dict(zip(ENDOCARDIA, both, strict=True))

    def contraction(
        self, files: str, run: str = "It was checked against the reader's rules, not run."
    ) -> str:
        """The README's paragraph on the active variant in `files`; run: what of it was."""
        kpa = ", ".join(
            f"{name[:2].upper()} {kpa:g} kPa" for name, kpa in self.active_pressures_kpa().items()
        )
        return (
            f"Active variant, {files}: from rest, tension along the fibres rises to\n"
            f"{self.settings.active_tension_kpa:g} kPa together with the pressures ({kpa}), as in\n"
            "problem 3 of Land et al. (2015). No volumes are stated: `simulate` does not solve this state.\n"
            f"{run}\n"
        )


PLAIN = Deck()  # the image's geometry, nothing simulated


def pressures_kpa(mechanics: Mechanics) -> dict[str, float]:
    """Cavity pressure by the facet tag that it acts on."""
    return dict(zip(ENDOCARDIA, (mechanics.lv_pressure_kpa, mechanics.rv_pressure_kpa), strict=True))


def is_ramp(mechanics: Mechanics) -> bool:
    """Whether the load rises in equal steps; else it rises as a power of time."""
    return mechanics.material not in SLACK_AT_REST


def load_shares(mechanics: Mechanics, slack_steps: int) -> np.ndarray:
    """(n + 1,) shares of the full load from 0 to 1, at even times.

    slack_steps: of a law that is slack at rest, for each step of another.
    """
    if is_ramp(mechanics):
        return np.linspace(0, 1, mechanics.load_steps + 1)
    return slow_shares(slack_steps * mechanics.load_steps)


def slow_shares(steps: int) -> np.ndarray:
    """(steps + 1,) shares from 0 to 1, of which the first steps are small."""
    return np.linspace(0, 1, steps + 1) ** SLACK_POWER


def need_fibres(model: BiventricularModel, mechanics: Mechanics) -> None:
    """SubjectError if the material has directions that the model lacks."""
    if mechanics.material != "neo_hooke" and model.microstructure is None:
        raise SubjectError(
            "no fibres", f"material {mechanics.material} needs fibre and sheet directions, the mesh has none"
        )


@lru_cache(maxsize=1)  # three formats ask for it
def mesh_of_order(model: BiventricularModel, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, tets and facets of the model with corner nodes only (1) or midside nodes too (2)."""
    if order == 2:
        return second_order(model.points_mm, model.tets, model.facets)
    return model.points_mm, model.tets, model.facets


@lru_cache(maxsize=1)
def behind_facets(model: BiventricularModel) -> tuple[np.ndarray, np.ndarray]:
    """Index of the tetrahedron behind each facet of the model, and which node (0..3) of it lies opposite."""
    n = len(model.points_mm)
    keys = row_keys(np.sort(model.tets[:, FACES].reshape(-1, 3), axis=1), n)
    order = np.argsort(keys)
    wanted = row_keys(np.sort(model.facets, axis=1), n)
    face = order[np.searchsorted(keys, wanted, sorter=order)]
    return face // 4, face % 4


def patches(model: BiventricularModel, facets: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of `facets`, which go with the model's, by tag; tags without facets are left out."""
    by_tag = {name: facets[model.facet_tag == tag] for name, tag in FACETS.items()}
    return {name: part for name, part in by_tag.items() if len(part)}


def expected(
    model: BiventricularModel,
    mechanics: Mechanics,
    deck: Deck,
    tolerance: str,
    material: str = "",
    pericardium: bool = True,
) -> str:
    """The README's paragraph on volumes, by which a run can be judged.

    tolerance: how near this format's solver comes to them. material: the deck's, if it is not the setting.
    pericardium: whether the format has the deck's springs on the epicardium.
    """
    present = {
        name[:2]: kpa
        for name, kpa in pressures_kpa(mechanics).items()
        if (model.facet_tag == FACETS[name]).any()
    }
    full = ", ".join(f"{name.upper()} {kpa:g} kPa" for name, kpa in present.items())
    head = at_rest(model, deck)
    if deck.simulated is None:
        return (
            f"{head}Cavities at full load ({full}): the target `simulate` with the material\n"
            f"{material or mechanics.material} writes them for this mesh in simulations/<batch>.tsv\n"
            "(lv_loaded_ml, rv_loaded_ml), and as a curve in the pressure_volume.tsv of each subject.\n"
            "Decks with `decks: {follow: simulations}` state them here.\n"
            f"Tolerance: {tolerance}.\n"
        )
    freed = deck.pericardium_kpa_per_mm > 0 and not pericardium
    return head + _at_load(deck.simulated, full, tolerance, mechanics.material, material, freed)


def at_rest(model: BiventricularModel, deck: Deck) -> str:
    """The README's lines on which geometry the deck has, and on its volumes."""
    present = [name for name in VENTRICLES if (model.facet_tag == FACETS[f"{name}_endo"]).any()]
    cavities = _volumes({name: model.cavity_volume_ml(name) for name in present})
    return (
        f"Geometry: {_GEOMETRY[deck.simulated.reference if deck.simulated else 'image']}.\n"
        f"Cavities at rest, closed by a fan from the middle of the rim: {cavities}.\n"
        "A plane lid over a curved rim may differ by 0.5 %; more means another mesh, unit or tag.\n"
        f"Wall at rest: {model.wall_volume_ml:.2f} mL.\n"
    )


_GEOMETRY = {
    "image": "that of the image, taken as free of stress",
    "unloaded": "the stress-free one, whose inflation to the full load gives the image",
}


def _at_load(simulated: Simulated, full: str, tolerance: str, solved: str, material: str, freed: bool) -> str:
    if simulated.reason:
        return f"`simulate` did not reach the full load ({full}) of this heart:\n{simulated.reason}.\n"
    found = _volumes(simulated.at_load_ml)
    text = f"Cavities at full load ({full}), of `simulate` with {solved}: {found}.\n"
    if material not in ("", solved):
        text += f"This deck has another material, {material}: do not expect these volumes of it.\n"
    elif freed:
        text += "There, springs held the epicardium, which is free in this deck: expect larger volumes.\n"
    elif simulated.fibres == "points" and solved != "neo_hooke":
        text += (
            "There, fibre directions turned within each tetrahedron; this deck has one per tetrahedron.\n"
            "Expect volumes that differ a little. Those of this deck's problem are found with\n"
            f"`simulation: {{fibres: elements}}`. Tolerance with these: {tolerance}.\n"
        )
    else:
        text += f"Tolerance: {tolerance}.\n"
    return f"{text}`simulate` took {simulated.seconds:.0f} s, the pressure-volume curve included.\n"


def _volumes(ml: dict[str, float]) -> str:
    return ", ".join(f"{name.upper()} {volume:.2f} mL" for name, volume in ml.items())
