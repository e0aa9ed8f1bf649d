"""The bars of a prior: met, not met, or not measured, by the figures of the tables alone."""

import pandas as pd
import pytest

from cardiocohort.evaluation.acceptance_criteria import BARS, COPY_MARGIN, criteria, read_figures

REALISM = pd.DataFrame(
    [
        {"method": "unguided", "constrained_structures": 0, "one_nna": 0.6, "reference": "reference"},
        {"method": "unguided", "constrained_structures": 0, "one_nna": 1.0, "reference": "left_out"},
        {"method": "polyak", "constrained_structures": 6, "one_nna": 0.9, "reference": "reference"},
    ]
)
PASSED = {"rule": "all rules", "strength": 1.0}
WHOLE = {
    "accepted": 18,
    "n": 20,
    "dice.left_ventricle": 0.93,
    "dice.right_ventricle": 0.92,
    "dice.left_atrium": 0.9,
    "dice.right_atrium": 0.88,
    "dice.myocardium": 0.84,
    "dice.aorta": 0.8,
    "dice.pulmonary_artery": 0.8,
    "distance_mm.left_ventricle": 1.5,
    "distance_mm.right_ventricle": 1.2,
}


def met(bar, tables, card=None):
    """What is said of the one bar whose text begins so."""
    rows = [row for row in criteria({"realism": REALISM} | tables, card) if row["bar"].startswith(bar)]
    assert len(rows) == 1, [row["bar"] for row in rows]
    return rows[0]["met"], rows[0]["found"]


def whole(**changes):
    others = [{"heart": "all", "method": "nearest", **WHOLE, "accepted": 1}]
    others += [{"heart": "s03", "method": "guided", **WHOLE, "accepted": 1}]
    return {"whole_hearts": pd.DataFrame([{"heart": "all", "method": "guided", **WHOLE} | changes, *others])}


def test_every_bar_is_not_measured_without_its_table():
    rows = criteria({"realism": REALISM.drop(columns="one_nna")})[-len(BARS) :]
    assert {row["met"] for row in rows} == {None}
    assert {row["found"] for row in rows} == {""}
    tables = {
        name: pd.DataFrame() for name in ("coupling", "topology", "fidelity", "variety", "whole_hearts")
    }
    assert len(criteria({"realism": REALISM} | tables, {})) == len(rows) + 1 + 1


def test_the_bar_of_1_nna_is_that_of_held_out_hearts():
    assert met("unguided: 1-NNA", {}) == (True, "0.6")
    worse = REALISM.assign(one_nna=REALISM["one_nna"] + 0.001)
    assert met("unguided: 1-NNA", {"realism": worse})[0] is False


@pytest.mark.parametrize(("unguided", "guided"), [(0.85, 0.93), (0.845, 0.925)])
def test_the_share_that_passes_is_of_all_rules_at_full_strength(unguided, guided):
    rows = [
        {"method": "unguided", "constrained_structures": 0, "share": unguided, **PASSED},
        {"method": "unguided", "constrained_structures": 0, "share": 0.1, **PASSED, "rule": "holes.wall"},
        {"method": "polyak", "constrained_structures": 6, "share": guided, **PASSED},
        {"method": "polyak", "constrained_structures": 6, "share": 0.1, **PASSED, "strength": 2.0},
        {"method": "polyak", "constrained_structures": 3, "share": 0.1, **PASSED},
    ]
    tables = {"topology": pd.DataFrame(rows)}
    expected = unguided == 0.85
    assert met("unguided: pass", tables) == (expected, f"{100 * unguided:.3g} %")
    assert met("polyak, 6 structures: pass", tables) == (expected, f"{100 * guided:.3g} %")


@pytest.mark.parametrize(("unguided", "guided"), [(0.92, 0.97), (0.91, 0.96)])
def test_attempts_of_cohorts_have_bars_of_their_own(unguided, guided):
    rows = [
        {"method": "cohort", "constrained_structures": 0, "share": unguided, **PASSED},
        {"method": "cohort", "constrained_structures": 6, "share": guided, **PASSED},
    ]
    tables = {"topology": pd.DataFrame(rows)}
    expected = unguided == 0.92
    assert met("cohort, no structures: pass", tables) == (expected, f"{100 * unguided:.3g} %")
    assert met("cohort, 6 structures: pass", tables) == (expected, f"{100 * guided:.3g} %")


@pytest.mark.parametrize(("low", "expected"), [(0.85, True), (0.95, False), (None, None)])
def test_mended_samples_are_no_farther_from_real_hearts(low, expected):
    own = {"constrained_structures": 6, "one_nna": 0.9, "reference": "reference"}
    rows = [
        own | {"method": "polyak", "fd_ratio": 0.8, "fd_ratio_low": 0.7, "fd_ratio_high": 0.9},
        own | {"method": "cohort", "fd_ratio": 1.0, "fd_ratio_low": low, "fd_ratio_high": 1.2},
    ]
    said, _ = met("cohort, 6 structures: Fréchet", {"realism": pd.DataFrame(rows)})
    assert said is expected


def test_medians_are_of_the_largest_set():
    of_set = {"method": "polyak", "constrained_structures": 6, "strength": 1.0, "arm": "polyak_6"}
    rows = [
        of_set | {"structure": "set_6", "attribute": "size", "median_error": 0.45},
        of_set | {"structure": "set_6", "attribute": "position", "median_error": 0.61},
        of_set | {"structure": "set_1", "attribute": "size", "median_error": 1.5},
    ]
    tables = {"fidelity": pd.DataFrame(rows)}
    assert met("polyak, 6 structures: median error of volumes", tables) == (True, "0.45 %")
    assert met("polyak, 6 structures: median error of centroids", tables) == (False, "0.61 mm")


def test_one_entry_outside_is_a_bar_that_is_not_met():
    rows = pd.DataFrame({"group": ["centroid", "log covariance", "volume"], "within": [True, True, False]})
    assert met("unguided: entries", {"variety": rows}) == (True, "100 %")
    rows.loc[1, "within"] = False
    assert met("unguided: entries", {"variety": rows}) == (False, "50 %")


def test_samples_nearer_to_training_hearts_than_held_out_ones_are_copies():
    card = {"nearest_training_dice_samples": {"q100": 0.85}, "nearest_training_dice_held_out": {"q100": 0.84}}
    assert met("unguided: largest Dice", {}, card)[0] is True
    card["nearest_training_dice_samples"]["q100"] += COPY_MARGIN
    assert met("unguided: largest Dice", {}, card)[0] is False


def test_a_card_of_other_weights_is_not_used(tmp_path, caplog):
    path = tmp_path / "card.json"
    path.write_text('{"weights_sha256": "abc"}')
    assert read_figures(path, "abc") == {"weights_sha256": "abc"}
    assert read_figures(path, "abd") is None
    assert "card.json: of other weights" in caplog.text


@pytest.mark.parametrize(
    ("change", "bar"),
    [
        ({"accepted": 17}, "accepted"),
        ({"dice.left_ventricle": 0.929}, "Dice of the LV"),
        ({"dice.right_ventricle": 0.919}, "Dice of the RV"),
        ({"dice.right_atrium": 0.879}, "Dice of LA, RA"),
        ({"dice.myocardium": 0.839}, "Dice of the myocardium"),
        ({"dice.pulmonary_artery": 0.79}, "Dice of aorta, pulmonary artery"),
        ({"distance_mm.left_ventricle": 1.51}, "surface distance of LV, RV"),
    ],
)
def test_left_out_hearts_are_held_against_every_bar(change, bar):
    bar = f"left-out hearts, own moments: {bar}"
    assert met(bar, whole())[0] is True
    assert met(bar, whole(**change))[0] is False
    unknown = dict.fromkeys(change, float("nan"))
    assert met(bar, whole(**unknown)) == (None, "")
