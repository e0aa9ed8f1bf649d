"""Settings of single arms: what they override, and what is checked before any job."""

import pytest

from cardiocohort.config import arms
from cardiocohort.config.check import complete
from cardiocohort.meshing.settings import MeshSettings
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


def test_an_arm_may_have_its_own_segments_of_the_rv_wall():
    """A segment of the arm goes before its third, which goes before the whole wall; the rest stays."""
    own = {"ph": {"meshing": {"rv_wall_basal_mm": 6, "rv_wall_segments_mm": {"basal_anterior": 8}}}}
    cohort = {"meshing": {"rv_wall_segments_mm": {"mid_lateral": 5}}}
    whole = settings(own, **cohort)
    arms.check_arms(whole, NAMES)
    walls = {arm: MeshSettings.of(arms.section_of(whole, arm, "meshing")).rv_segments_mm for arm in NAMES}
    assert list(walls["healthy"].values()) == [3.5] * 4 + [5] + [3.5] * 4
    assert list(walls["ph"].values()) == [8, 6, 6, 3.5, 5, 3.5, 3.5, 3.5, 3.5]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"hp": {"meshing": {}}}, r"'arms.hp': the cohort table has no arm 'hp'; allowed: healthy, ph"),
        ({"ph": {"meshing": {"rv_wall_mm": 2.0}}}, r"'arms.ph': together .*edge_length_mm.*must be less"),
        (
            {"ph": {"meshing": {"rv_wall_segments_mm": {"apical_inferior": 2.0}}}},
            r"'arms.ph': together .*2\.8 must be less than rv_wall_segments_mm\.apical_inferior, 2",
        ),
        ({"ph": {"meshing": {"frame": "scanner"}}}, r"'arms.ph'.meshing.frame"),
        ({"ph": {"meshing": {"domain": "labels"}}}, r"'arms.ph'.meshing.domain: all arms have the domain"),
        ({"ph": {"mechanics": {"lv_pressure_kpa": 0, "rv_pressure_kpa": 0}}}, r"'arms.ph': .*both are 0"),
        ({"ph": {"simulation": {"calibrate": {"lv_ef": 0.5}}}}, r"'arms.ph': .*simulation.cycle.beats is 0"),
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
        (
            {"ph": {"meshing": {"rv_wall_segments_mm": {"mid_latera": 6}}}},
            "'arms.ph.meshing.rv_wall_segments_mm.mid_latera' is unknown; did you mean mid_lateral",
        ),
        (
            {"ph": {"meshing": {"rv_wall_segments_mm": {"mid_lateral": 60}}}},
            "'arms.ph.meshing.rv_wall_segments_mm.mid_lateral': 60 is greater than",
        ),
        (
            {"ph": {"simulation": {"curve_points": 2}}},
            "'arms.ph.simulation.curve_points' is unknown; allowed here: cycle, calibrate",
        ),
        ({"ph": {"simulation": {"calibrate": {"lv_eff": 0.5}}}}, "did you mean lv_ef"),
        (
            {"ph": {"simulation": {"calibrate": {"lv_ef": 50}}}},
            r"calibrate.lv_ef': 50 is greater than .*0\.9",
        ),
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


def beating(own: dict, calibrate: dict | None = None, **cycle) -> dict:
    return settings(own, simulation={"cycle": {"beats": 5} | cycle, "calibrate": calibrate or {}})


def own_targets(**targets) -> dict:
    return {"simulation": {"calibrate": targets}}


SIBLINGS = {"smaller": "healthy", "smaller_still": "smaller"}


def test_an_arm_has_targets_of_its_own_or_those_of_all():
    whole = beating({"ph": own_targets(lv_ef=0.35)}, {"lv_ef": 0.6, "arterial_mean_kpa": 12.0})
    arms.check_arms(whole, NAMES)
    found = [arms.section_of(whole, arm, "simulation")["calibrate"] for arm in NAMES]
    assert [(own["lv_ef"], own["arterial_mean_kpa"]) for own in found] == [(0.6, 12.0), (0.35, 12.0)]
    assert [arms.calibrated_as(whole, arm, {}) for arm in NAMES] == list(NAMES)
    none = beating({"ph": own_targets(lv_ef=None)}, {"lv_ef": 0.6})
    assert [arms.calibrated_as(none, arm, {}) for arm in NAMES] == ["healthy", None]
    assert arms.calibrated_as(beating({}), "ph", {}) is None


def test_an_arm_beats_at_its_own_rate():
    whole = beating({"ph": {"simulation": {"cycle": {"heart_rate_per_min": 100, "tension_kpa": 80}}}})
    arms.check_arms(whole, NAMES)
    healthy, ph = (arms.section_of(whole, arm, "simulation")["cycle"] for arm in NAMES)
    assert ph == healthy | {"heart_rate_per_min": 100, "tension_kpa": 80}
    assert arms.check_contractions(whole, {"healthy": ("healthy",), "ph": ("infarct",)}, {}) == []
    (said,) = arms.unlike_bases(whole, {"ph": "healthy"})
    assert "differ: simulation.cycle.heart_rate_per_min, simulation.cycle.tension_kpa." in said
    whole["simulation"]["cycle"]["beats"] = 0
    assert arms.unlike_bases(whole, {"ph": "healthy"}) == []


@pytest.mark.parametrize("key", ["beats", "contractility", "reference_bsa_m2", "rate"])
def test_what_an_arm_cannot_have_of_its_own_in_a_beat(key):
    with pytest.raises(InputError, match=rf"key .arms.ph.simulation.cycle.{key}. is unknown"):
        beating({"ph": {"simulation": {"cycle": {key: 1}}}})


def test_an_arms_rate_leaves_time_for_its_contraction():
    fast = beating({"ph": {"simulation": {"cycle": {"heart_rate_per_min": 160}}}})
    with pytest.raises(InputError, match=r"'arms.ph': together with .*less than a beat, 0.375 s"):
        arms.check_arms(fast, NAMES)


def test_siblings_have_the_factors_of_the_hearts_that_they_were_made_from():
    whole = beating({}, {"lv_ef": 0.6})
    for arm in ("healthy", *SIBLINGS):
        assert arms.calibrated_as(whole, arm, SIBLINGS) == "healthy"
    own = beating({"smaller": own_targets(lv_ef=0.5)}, {"lv_ef": 0.6})
    assert arms.calibrated_as(own, "smaller_still", SIBLINGS) == "smaller"
    alone = beating({"smaller": own_targets(lv_ef=0.5)})
    found = [arms.calibrated_as(alone, arm, SIBLINGS) for arm in ("healthy", *SIBLINGS)]
    assert found == [None, "smaller", "smaller"]
    closer = beating({"smaller": own_targets(tolerance=0.01)}, {"lv_ef": 0.6})
    assert arms.calibrated_as(closer, "smaller", SIBLINGS) == "healthy"
    (said,) = arms.unlike_bases(closer, {"smaller": "healthy"})
    assert "simulation.calibrate.tolerance without effect" in said


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (beating({}, {"lv_ef": 0.6}, contractility={"ph": 0.5}), r"lv_ef': .*would undo .*'ph', 0\.5"),
        (
            beating({"ph": {"simulation": {"cycle": {"tension_kpa": 50}}}}, {"lv_ef": 0.6}, tension_kpa=200),
            r"lv_ef': .*would undo .*'ph', 0\.25",
        ),
        (beating({}, {"lv_ef": 0.6}, tension_kpa=0), r"calibrate.lv_ef': the tension of arm 'healthy' is 0"),
        (beating({}, {"lv_peak_kpa": 15}, tension_kpa=300), r"'healthy': .*up to 4 .*tension_kpa: 1200"),
    ],
)  # fmt: skip
def test_what_no_calibration_can_do_is_an_error_before_any_job(whole, said):
    with pytest.raises(InputError, match=said):
        arms.check_calibrations(whole, NAMES, {})


def test_a_weaker_arm_with_its_own_target_or_none_is_calibrated():
    for own in (0.35, None):
        whole = beating({"ph": own_targets(lv_ef=own)}, {"lv_ef": 0.6}, contractility={"ph": 0.5})
        arms.check_calibrations(whole, NAMES, {})
        assert arms.calibrated_as(whole, "ph", {}) == (own and "ph")
    resisting = beating({}, {"lv_peak_kpa": 15.0}, contractility={"ph": 0.5})
    arms.check_calibrations(resisting, NAMES, {})


@pytest.mark.parametrize(
    ("whole", "levels"),
    [
        (beating({}, contractility={"ph": 1.0}), ("dilated_cardiomyopathy",)),
        (beating({}), ("healthy",)),
        (beating({}, {"lv_ef": 0.4}), ("dilated_cardiomyopathy",)),
        (beating({"ph": own_targets(lv_ef=0.4)}), ("dilated_cardiomyopathy",)),
        (settings({}), ("dilated_cardiomyopathy",)),  # no beats
    ],
)
def test_conditions_whose_contraction_is_stated_fitted_or_not_simulated(whole, levels):
    assert arms.check_contractions(whole, {"healthy": ("healthy",), "ph": levels}, {}) == []


def test_people_of_any_condition_contract_alike_which_is_said():
    (said,) = arms.check_contractions(beating({}), {"ph": ()}, {})
    assert "'ph'" in said
    assert "any condition" in said
    for whole in (beating({}, contractility={"ph": 1}), settings({})):
        assert arms.check_contractions(whole, {"ph": ()}, {}) == []


def test_siblings_contract_as_the_calibration_of_their_base_fits():
    """Their own merged targets do not count: they have the factors of their base."""
    named, bases = {"ill": ("infarct",), "sibling": ("infarct",)}, {"sibling": "ill"}
    fitted = complete({"arms": {"ill": own_targets(lv_ef=0.35)}, "simulation": {"cycle": {"beats": 5}}})
    assert arms.check_contractions(fitted, named, bases) == []
    whole = {"cycle": {"beats": 5, "contractility": {"ill": 0.5}}, "calibrate": {"lv_ef": 0.6}}
    not_fitted = complete({"arms": {"ill": own_targets(lv_ef=None)}, "simulation": whole})
    with pytest.raises(InputError, match="arm 'sibling' has the condition infarct"):
        arms.check_contractions(not_fitted, named, bases)


@pytest.mark.parametrize(
    "whole",
    [
        beating({}),
        beating({}, contractility={"healthy": 0.5}),
        beating({}, {"arterial_mean_kpa": 12.0}),  # the resistance answers it, not the tension
        beating({"ph": own_targets(lv_ef=None)}, {"lv_ef": 0.6}),
    ],
)
def test_a_condition_does_not_contract_as_healthy_hearts_do_without_a_word(whole):
    named = {"healthy": ("healthy",), "ph": ("healthy", "heart_failure")}
    said = r"contractility': arm 'ph' has the condition heart_failure, .*ph: 1}"
    with pytest.raises(InputError, match=said):
        arms.check_contractions(whole, named, {})


def test_siblings_whose_settings_are_not_their_bases_are_named():
    """A base's wall, pressure or tension is not its siblings'; targets of a calibration are, so they are not
    named."""
    own = {
        "women": {
            "meshing": {"rv_wall_mm": 6},
            "mechanics": {"rv_pressure_kpa": 3},
            "simulation": {"calibrate": {"lv_ef": 0.5}},
        }
    }
    bases = {"small_rv": "women", "large_rv": "women"}
    cycle = {"cycle": {"beats": 5, "contractility": {"women": 0.5, "large_rv": 0.5}}}
    small, large = arms.unlike_bases(settings(own, simulation=cycle), bases)
    for key in ("meshing.rv_wall_mm", "mechanics.rv_pressure_kpa", "'small_rv'", "'women'"):
        assert key in small
    assert "contractility" in small
    assert "contractility" not in large
    assert "calibrate" not in small + large
    alike = dict.fromkeys(("women", "small_rv"), own["women"])
    assert arms.unlike_bases(settings(alike), {"small_rv": "women"}) == []
