"""Keys that were set and that another key switches off: the user is told before any work.

Owned by no stage; light, since the Snakefile imports it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..mechanics.settings import MATERIALS
from ..meshing.settings import FOUR_CHAMBER_KEYS
from .arms import SECTIONS, section_of
from .check import SCHEMA

ACTIVE_FORMATS = ("febio", "svmultiphysics", "fenicsx")  # those with an active variant


def _mechanics(settings: Mapping) -> list[dict]:
    """The section of the cohort, and those of its arms."""
    return [settings["mechanics"], *(section_of(settings, arm, "mechanics") for arm in settings["arms"])]


def _with_active_variant(mechanics: Mapping) -> set[str]:
    """Those of ACTIVE_FORMATS whose decks have a contraction of this material."""
    slack = mechanics["material"] == "holzapfel_ogden"
    without = {"febio"} if slack else set()
    if slack and mechanics["element_order"] == 1:
        without.add("svmultiphysics")
    return {*ACTIVE_FORMATS} - without


@dataclass(frozen=True)
class Switch:
    """`keys` act only where `acts(settings)`, which `needs` says in words.

    Keys are dotted; a section stands for all of its keys.
    """

    keys: tuple[str, ...]
    acts: Callable[[Mapping], bool]
    needs: str


def _material(name: str) -> Switch:
    # CalculiX has none of the other laws
    also = " or the format calculix" if name == "neo_hooke" else ""
    return Switch(
        (f"mechanics.{name}",),
        lambda s: s["mechanics"]["material"] == name or (bool(also) and "calculix" in s["formats"]),
        f"mechanics.material: {name}{also}",
    )


def _domains(*domains: str) -> tuple[Callable[[Mapping], bool], str]:
    return lambda s: s["meshing"]["domain"] in domains, f"meshing.domain: {' or '.join(domains)}"


SWITCHES = (
    *map(_material, MATERIALS),
    Switch(
        ("mechanics.base_stiffness_kpa_per_mm",),
        lambda s: s["mechanics"]["base"] == "robin",
        "mechanics.base: robin",
    ),
    Switch(
        ("simulation.cycle",),
        lambda s: s["simulation"]["cycle"]["beats"] > 0,
        "simulation.cycle.beats above 0",
    ),
    Switch(
        tuple(f"meshing.{name}" for name in FOUR_CHAMBER_KEYS),
        *_domains("four_chamber"),
    ),
    Switch(
        ("meshing.rv_wall_mm", "meshing.rv_wall_tolerance", "meshing.min_lv_wall_mm"),
        *_domains("biventricular", "four_chamber"),
    ),
    Switch(
        tuple(
            f"meshing.{name}"
            for name in (
                "rv_wall_basal_mm",
                "rv_wall_apical_mm",
                "rv_wall_segments_mm",
                "septum_edge_length_mm",
                "rv_edge_length_mm",
                "base",
                "valve_clearance",
                "min_volume_kept",
            )
        ),
        *_domains("biventricular"),
    ),
    Switch(
        ("meshing.blood_edge_length_mm",),
        lambda s: s["meshing"]["domain"] != "four_chamber" or s["meshing"]["blood"] != "left_out",
        "meshing.blood other than left_out",
    ),
    Switch(("meshing.region_volume_tolerance",), *_domains("labels", "four_chamber")),
    Switch(
        ("decks.active_tension_kpa", "decks.active_lv_pressure_kpa", "decks.active_rv_pressure_kpa"),
        lambda s: any(_with_active_variant(one) & {*s["formats"]} for one in _mechanics(s)),
        f"one of the formats {', '.join(ACTIVE_FORMATS)}; with mechanics.material: holzapfel_ogden febio has "
        "no active variant, and svmultiphysics needs mechanics.element_order: 2",
    ),
    Switch(
        ("cohort_table", "targets_table", "reference_table", "reference_parts", "truncation"),
        lambda s: not s["label_maps"],
        "hearts that are generated; `label_maps` replaces them",
    ),
)


def idle_keys(settings: Mapping) -> list[str]:
    """A sentence for each switch that idles keys which differ from their defaults; arms' own keys too."""
    found = list(_idle(settings, dict(_changed(settings, SCHEMA)), ""))
    for arm, own in settings["arms"].items():
        whole = {**settings, **{section: section_of(settings, arm, section) for section in SECTIONS}}
        given = {f"{section}.{key}": value for section, keys in own.items() for key, value in keys.items()}
        found += _idle(whole, given, f"arms.{arm}.")
    return found


def _idle(settings: Mapping, given: Mapping, prefix: str) -> Iterator[str]:
    for switch in SWITCHES:
        if switch.acts(settings):
            continue
        names = [name for name in given if any(f"{name}.".startswith(f"{key}.") for key in switch.keys)]
        if names:
            keys = "keys" if len(names) > 1 else "key"
            listed = ", ".join(repr(prefix + name) for name in names)
            yield f"config {keys} {listed}: without effect, needs {switch.needs}"


def _changed(values: Mapping, schema: Mapping, above: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys whose values are not the defaults."""
    for key, part in schema["properties"].items():
        if "properties" in part:
            yield from _changed(values[key], part, f"{above}{key}.")
        elif values[key] != part["default"]:
            yield f"{above}{key}", values[key]
