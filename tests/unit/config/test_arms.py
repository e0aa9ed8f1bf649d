"""Settings of single arms: what they override, and what is checked before any job."""

import pytest

from cardiocohort.config import arms
from cardiocohort.config.check import complete
from cardiocohort.runtime.errors import InputError

NAMES = ("healthy", "ph")


def settings(own: dict, **config) -> dict:
    return complete(config | {"arms": own})


def test_an_arm_has_the_cohorts_settings_and_its_own_in_their_place():
    own = {"ph": {"meshing": {"rv_wall_mm": 6}, "mechanics": {"guccione": {"c_kpa": 9.0}}}}
    whole = settings(own, meshing={"edge_length_mm": 2.5}, mechanics={"guccione": {"b_f": 20.0}})
    arms.check_arms(whole, NAMES)
    meshing = arms.section_of(whole, "ph", "meshing")
    assert (meshing["rv_wall_mm"], meshing["edge_length_mm"]) == (6, 2.5)
    assert arms.section_of(whole, "ph", "mechanics")["guccione"] == whole["mechanics"]["guccione"] | {
        "c_kpa": 9.0
    }
    for section in arms.SECTIONS:
        assert arms.section_of(whole, "healthy", section) == whole[section]
    assert list(meshing) == list(whole["meshing"])  # digests depend on what is in it, not on who gave it


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"hp": {"meshing": {}}}, r"'arms.hp': the cohort table has no arm 'hp'; allowed: healthy, ph"),
        ({"ph": {"meshing": {"rv_wall_mm": 2.0}}}, r"'arms.ph': together .*edge_length_mm.*must be less"),
        ({"ph": {"meshing": {"frame": "scanner"}}}, r"'arms.ph'.meshing.frame"),
        ({"ph": {"meshing": {"domain": "labels"}}}, r"'arms.ph'.meshing.domain: all arms have the domain"),
        ({"ph": {"mechanics": {"lv_pressure_kpa": 0, "rv_pressure_kpa": 0}}}, r"'arms.ph': .*both are 0"),
    ],
)
def test_what_cannot_be_is_an_error_before_any_job(own, said):
    with pytest.raises(InputError, match=said):
        arms.check_arms(settings(own), NAMES)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"ph": {"guidance": {}}}, "'arms.ph.guidance' is unknown"),
        ({"ph": {"meshing": {"rv_wal_mm": 6}}}, "did you mean rv_wall_mm"),
        ({"ph": {"meshing": {"rv_wall_mm": 60}}}, "'arms.ph.meshing.rv_wall_mm'"),
    ],
)
def test_keys_and_bounds_are_those_of_the_sections(own, said):
    with pytest.raises(InputError, match=said):
        settings(own)


def test_a_refinement_study_must_fit_in_every_arms_wall():
    thin = settings({"ph": {"meshing": {"rv_wall_mm": 3.0}}})
    arms.check_arms(thin, NAMES, [2.8])
    with pytest.raises(InputError, match=r"'arms.ph': with 3.4 of 'refinement.edge_lengths_mm'"):
        arms.check_arms(thin, NAMES, [2.8, 3.4])


def test_label_maps_have_no_arms():
    with pytest.raises(InputError, match="label maps of your own have no arms"):
        arms.check_arms(settings({"ph": {}}), ())
