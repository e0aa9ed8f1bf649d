"""Keys that another key switches off are named; what acts is not."""

from pathlib import Path

import pytest
import yaml

from cardiocohort.config.check import SCHEMA, complete, exporters
from cardiocohort.config.idle_keys import ACTIVE_FORMATS, SWITCHES, idle_keys

CONFIG = Path(__file__).resolve().parents[3] / "config"
SHIPPED = sorted([*CONFIG.glob("*.yaml"), *CONFIG.glob("experiments/*.yaml")])


def idle(**config):
    return idle_keys(complete(config))


def test_the_defaults_have_none():
    assert idle() == []


@pytest.mark.parametrize(
    ("config", "switch", "key", "needs"),
    [
        (
            {"mechanics": {"guccione": {"c_kpa": 1.0}}},
            {"mechanics": {"material": "guccione"}},
            "mechanics.guccione.c_kpa",
            "mechanics.material: guccione",
        ),
        (
            {"mechanics": {"neo_hooke": {"mu_kpa": 9.0}}},
            {"formats": ["calculix"]},
            "neo_hooke.mu_kpa",
            "calculix",
        ),
        (
            {"mechanics": {"base_stiffness_kpa_per_mm": 2.0}},
            {"mechanics": {"base": "robin"}},
            "mechanics.base_stiffness_kpa_per_mm",
            "mechanics.base: robin",
        ),
        (
            {"simulation": {"cycle": {"tension_kpa": 90.0}}},
            {"simulation": {"cycle": {"beats": 2}}},
            "simulation.cycle.tension_kpa",
            "simulation.cycle.beats above 0",
        ),
        (
            {"simulation": {"cycle": {"contractility": {"dilated": 0.5}}}},
            {"simulation": {"cycle": {"beats": 2}}},
            "simulation.cycle.contractility",
            "beats above 0",
        ),
        (
            {"meshing": {"domain": "four_chamber", "blood": "left_out", "blood_edge_length_mm": 10.0}},
            {"meshing": {"domain": "four_chamber", "blood": "regions"}},
            "meshing.blood_edge_length_mm",
            "meshing.blood other than left_out",
        ),
        (
            {"meshing": {"atrial_wall_mm": 3.0}},
            {"meshing": {"domain": "four_chamber"}},
            "meshing.atrial_wall_mm",
            "meshing.domain: four_chamber",
        ),
        (
            {"meshing": {"domain": "labels", "rv_wall_mm": 6.0}},
            {"meshing": {"domain": "biventricular"}},
            "meshing.rv_wall_mm",
            "biventricular or four_chamber",
        ),
        (
            {"decks": {"active_tension_kpa": 30.0}},
            {"formats": ["fenicsx"]},
            "decks.active_tension_kpa",
            "febio, svmultiphysics, fenicsx",
        ),
        (
            {"decks": {"active_tension_kpa": 30.0}, "formats": ["febio"]},
            {"mechanics": {"material": "guccione"}},
            "decks.active_tension_kpa",
            "holzapfel_ogden febio has no active variant",
        ),
        (
            {
                "decks": {"active_lv_pressure_kpa": 9.0},
                "formats": ["svmultiphysics"],
                "mechanics": {"element_order": 1},
            },
            {"mechanics": {"element_order": 2}},
            "decks.active_lv_pressure_kpa",
            "needs mechanics.element_order: 2",
        ),
        (
            {"label_maps": "maps", "targets_table": "t.tsv"},
            {"label_maps": None},
            "targets_table",
            "hearts that are generated",
        ),
    ],
)
def test_a_key_that_is_switched_off_is_named(config, switch, key, needs):
    (said,) = idle(**config)
    assert key in said
    assert needs in said
    assert idle(**merged(config, switch)) == []


def merged(config, more):
    both = {key: merged(config.get(key, {}), part) for key, part in more.items() if isinstance(part, dict)}
    return {**config, **more, **both}


def test_an_arm_is_judged_by_its_own_settings():
    material = {"material": "guccione", "guccione": {"c_kpa": 1.0}}
    arms = {"stiff": {"mechanics": material}, "odd": {"mechanics": {"guccione": {"c_kpa": 1.0}}}}
    (said,) = idle(arms=arms)
    assert "'arms.odd.mechanics.guccione'" in said


def test_an_arm_with_an_active_variant_uses_its_keys():
    whole = {"formats": ["febio"], "decks": {"active_tension_kpa": 30.0}}
    assert "febio has no active variant" in idle(**whole)[0]
    assert idle(**whole, arms={"x": {"mechanics": {"material": "guccione"}}}) == []


def test_switches_name_keys_and_formats_that_exist():
    assert set(ACTIVE_FORMATS) <= set(exporters())
    for switch in SWITCHES:
        for dotted in switch.keys:
            part = SCHEMA
            for name in dotted.split("."):
                part = part["properties"][name]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_no_key_of_a_shipped_config_is_idle(path):
    assert idle(**yaml.safe_load(path.read_text())) == []
