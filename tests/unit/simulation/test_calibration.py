"""Calibration: factors of known models, targets out of reach, failing runs, mean heart, files, settings."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from cardiocohort.mechanics.settings import Guccione, HolzapfelOgden, Mechanics, NeoHooke
from cardiocohort.microstructure.fibres import FibreAngles, add_fibres
from cardiocohort.runtime.errors import InputError
from cardiocohort.simulation import calibrating, calibration, fitting, subject
from cardiocohort.simulation.calibration import FAILED, NOT_REACHED, REACHED, Run
from cardiocohort.simulation.circulation import P_AR_SYS, START, V_LV, Chamber, Circulation, Course
from cardiocohort.simulation.cycle import Cycle
from cardiocohort.simulation.scaling import LEAST, MOST, Scaling, check_range
from cardiocohort.simulation.settings import SimulationSettings
from cardiocohort.simulation.targets import ANSWERED_BY, SCALARS, Calibrate
from simulated import mesh_row
from small_meshes import biventricle

BEATING = Cycle(beats=5)


def end_systole(scaling: Scaling, ees=2.0, load=1.2) -> dict[str, float]:
    """A ventricle and its arteries as two elastances (mmHg/mL), in closed form: stroke volume over filling is
    Ees / (Ees + Ea). The unloaded volume grows with the stiffness."""
    ees, ea = ees * scaling.tension, load * scaling.resistance
    full, unloaded = 140.0, 70.0 * scaling.stiffness**0.25
    stroke = (full - unloaded / 2) * ees / (ees + ea)
    pressure = 0.1333 * ea * stroke
    return {
        "lv_ef": stroke / full, "lv_stroke_ml": stroke, "arterial_mean_kpa": 0.9 * pressure,
        "lv_peak_kpa": pressure, "lv_unloaded_ml": unloaded,
    }  # fmt: skip


def model(heart: str, scaling: Scaling, figures=end_systole, **more) -> Run:
    return Run(heart, scaling, figures(scaling, **more), True, "", 1.0)


def fitted(targets: dict, simulate=model, hearts=("h",), **settings):
    return calibrating.calibrate("arm", list(hearts), Calibrate(**targets, **settings), simulate)


@pytest.mark.parametrize("factors", [(1.0, 1.7, 1.0), (1.0, 0.6, 1.3), (1.5, 1.3, 0.7), (0.7, 2.5, 2.0)])
@pytest.mark.parametrize(
    "wanted", [["lv_ef"], ["lv_ef", "lv_peak_kpa"], ["lv_ef", "arterial_mean_kpa", "lv_unloaded_ml"]]
)
def test_factors_that_made_the_targets_are_found_in_few_runs(factors, wanted):
    scalars = [ANSWERED_BY[name] for name in wanted]
    truth = Scaling(**{name: value for name, value in zip(SCALARS, factors, strict=True) if name in scalars})
    made = end_systole(truth)
    found = fitted({name: made[name] for name in wanted}, tolerance=0.01)
    assert found.verdict == REACHED
    assert not found.warning
    assert len(found.runs) <= 3 + 2 * len(wanted)
    for name in wanted:
        assert found.reached[name] == pytest.approx(made[name], rel=0.01)
    for name in SCALARS:
        assert getattr(found.scaling, name) == pytest.approx(getattr(truth, name), rel=0.06)
    untouched = set(SCALARS) - set(scalars)
    assert all(getattr(run.scaling, name) == 1 for run in found.runs for name in untouched)


def circulating(heart: str, scaling: Scaling) -> Run:
    """Elastances in the ventricles' place, in the closed circulation: a beat that is solved."""
    course = Course(0.8, 0.0, 0.2, 0.25)
    active = 0.3 * scaling.tension
    ventricles = (
        Chamber(0.0107, active, 5.0, course),
        Chamber(0.0067, 0.0733 * scaling.tension, 10.0, course),
    )
    systemic, *others = Circulation.resistances
    loop = Circulation(resistances=(systemic * scaling.resistance, *others))
    start = loop.limit_cycle(START, ventricles, 40)
    states, pressures = loop.beat(start, ventricles, 40)
    volumes = states[:, V_LV]
    figures = {
        "lv_ef": np.ptp(volumes) / volumes.max(), "lv_peak_kpa": pressures[:, 0].max(),
        "arterial_mean_kpa": states[:, P_AR_SYS].mean(),
    }  # fmt: skip
    return Run(heart, scaling, {name: float(value) for name, value in figures.items()}, True, "", 1.0)


def test_a_closed_circulation_reaches_ejection_fraction_and_pressure():
    before = circulating("h", Scaling()).figures
    targets = {"lv_ef": 0.5, "arterial_mean_kpa": 12.5}
    assert all(abs(before[name] / wanted - 1) > 0.05 for name, wanted in targets.items())
    found = fitted(targets, circulating)
    assert found.verdict == REACHED
    again = circulating("h", found.scaling).figures
    for name, wanted in targets.items():
        assert again[name] == pytest.approx(wanted, rel=0.02)
    assert found.reached == {name: again[name] for name in targets}


def test_a_target_out_of_reach_ends_with_the_best_run_and_says_so():
    """With four times the tension this ventricle ejects 65 %."""
    most = end_systole(Scaling(tension=MOST))["lv_ef"]
    found = fitted({"lv_ef": 0.9})
    assert found.verdict == NOT_REACHED
    assert found.scaling.tension == MOST
    assert found.reached["lv_ef"] == pytest.approx(most)
    assert len(found.runs) < Calibrate().max_runs
    for words in (
        "Arm arm",
        f"lv_ef is {most:.4g} for 0.9",
        "factor of the tension is 4, the largest that is tried",
    ):
        assert words in found.warning
    least = fitted({"lv_peak_kpa": 1.0})
    assert (least.verdict, least.scaling.resistance) == (NOT_REACHED, LEAST)
    assert "0.25, the least that is tried" in least.detail


def test_of_two_targets_the_one_in_reach_is_not_named():
    def saturated(scaling):
        figures = end_systole(scaling)
        return figures | {"lv_unloaded_ml": 70.0}

    found = fitted({"lv_ef": 0.5, "lv_unloaded_ml": 90.0}, partial(model, figures=saturated))
    assert found.verdict == NOT_REACHED
    assert "lv_unloaded_ml is 70 for 90" in found.detail
    assert "lv_ef is" not in found.detail
    assert found.reached["lv_ef"] == pytest.approx(0.5, rel=0.02)


def test_the_search_ends_after_its_runs():
    found = fitted({"lv_ef": 0.62}, max_runs=1)
    assert (found.verdict, len(found.runs), found.scaling) == (NOT_REACHED, 1, Scaling())
    assert "ended after 1 runs (max_runs)" in found.detail


def fails_above(most: float, heart: str, scaling: Scaling) -> Run:
    if scaling.tension > most:
        return Run(heart, scaling, {}, False, "beat did not converge: at 0.12 s", 1.0)
    return model(heart, scaling)


def test_a_run_that_fails_is_stepped_back_from():
    target = end_systole(Scaling(tension=1.3))["lv_ef"]
    found = fitted({"lv_ef": target}, partial(fails_above, 1.32), tolerance=0.005)
    assert found.verdict == REACHED
    far = fitted({"lv_ef": 0.6}, partial(fails_above, 1.32))
    assert far.verdict == NOT_REACHED
    assert 1.0 < far.scaling.tension <= 1.32
    assert any(not run.figures for run in far.runs)


def test_where_the_mean_heart_does_not_beat_the_next_one_is_taken(caplog):
    def simulate(heart, scaling):
        return fails_above(0.0 if heart == "a-1" else MOST, heart, scaling)

    found = fitted({"lv_ef": 0.5}, simulate, ["a-1", "a-2", "a-3"])
    assert (found.verdict, found.heart) == (REACHED, "a-2")
    assert found.runs[0].heart == "a-1"
    assert "a-1 does not beat" in caplog.text
    none = fitted({"lv_ef": 0.5}, partial(fails_above, 0.0), ["a-1", "a-2", "a-3", "a-4"])
    assert (none.verdict, none.heart, none.scaling, len(none.runs)) == (FAILED, "", Scaling(), 3)
    assert "a-3: beat did not converge: at 0.12 s" in none.warning
    assert "no heart of the arm has a mesh" in fitted({"lv_ef": 0.5}, hearts=[]).warning


def test_a_beat_that_does_not_repeat_itself_has_reached_nothing():
    found = fitted(
        {"lv_ef": end_systole(Scaling())["lv_ef"]}, lambda *run: replace(model(*run), periodic=False)
    )
    assert (found.verdict, len(found.runs)) == (NOT_REACHED, 1)
    assert "does not repeat the one before" in found.warning


def test_runs_that_are_too_near_say_nothing_about_slopes():
    """Two runs nearer to each other than beats repeat leave the measured slope; far ones replace it."""
    measured, errors = np.array([[0.6]]), [np.array([-0.2]), np.array([-0.19])]
    near = fitting.next_point([np.array([0.0]), np.array([0.003])], errors, measured)
    assert near[0] - 0.003 == pytest.approx(0.19 / 0.6, rel=0.05)
    far = fitting.next_point([np.array([0.0]), np.array([0.1])], errors, measured)
    assert far[0] - 0.1 == pytest.approx(fitting.LARGEST)  # a slope of 0.1 needs more than is allowed


def test_the_mean_heart_is_the_nearest_accepted_one():
    rows = pd.DataFrame(
        {"subject": list("dcba"), "verdict": ["accepted", "accepted", "rejected", "accepted"],
         "lv_cavity_ml": [100.0, 130, np.nan, 170], "rv_cavity_ml": [200.0, 190, np.nan, 180],
         "wall_volume_ml": [150.0, 160, np.nan, 175]}
    )  # fmt: skip
    assert calibrating.nearest_to_mean(rows) == ["c", "d", "a"]
    assert calibrating.nearest_to_mean(rows.iloc[2:3]) == []
    assert calibrating.nearest_to_mean(rows.iloc[:1]) == ["d"]


def test_a_calibration_is_read_as_it_was_written(tmp_path, caplog):
    found = fitted({"lv_ef": 0.9, "lv_peak_kpa": 15.0})
    path = tmp_path / "arm.json"
    calibration.write(path, found)
    assert calibration.read(path) == found
    assert calibration.factors(path) == found.scaling
    assert found.warning in caplog.text
    rows = {row["target"]: row for row in found.rows()}
    assert (rows["lv_ef"]["scalar"], rows["lv_ef"]["wanted"]) == ("tension", 0.9)
    assert rows["lv_peak_kpa"]["factor"] == found.scaling.resistance
    for text in ("", "{}", '{"runs": 3}', path.read_text().replace("scaling", "scalings")):
        path.write_text(text)
        with pytest.raises(InputError, match=r"arm\.json: not a calibration"):
            calibration.read(path)


@pytest.mark.parametrize(
    ("material", "law", "stresses"),
    [
        ("guccione", Guccione(c_kpa=3.0), {"c_kpa": 6.0}),
        ("neo_hooke", NeoHooke(mu_kpa=5.0), {"mu_kpa": 10.0}),
        (
            "holzapfel_ogden",
            HolzapfelOgden(),
            {"a_kpa": 0.118, "a_f_kpa": 36.944, "a_s_kpa": 4.962, "a_fs_kpa": 0.432},
        ),
    ],
)
def test_factors_scale_stresses_tension_and_resistance_alone(material, law, stresses):
    mechanics = Mechanics(material=material, **{material: law})
    settings = SimulationSettings(cycle=replace(BEATING, tension_kpa=80.0, systemic_resistance=1.5))
    scaled, other = Scaling(2.0, 1.5, 0.5).of(mechanics, settings)
    assert getattr(scaled, material) == replace(law, **stresses)
    assert replace(scaled, **{material: law}) == mechanics
    assert (other.cycle.tension_kpa, other.cycle.systemic_resistance) == (120.0, 0.75)
    back = replace(other.cycle, tension_kpa=80.0, systemic_resistance=1.5)
    assert replace(other, cycle=back) == settings
    assert Scaling().of(mechanics, settings) == (mechanics, settings)


def test_a_setting_that_a_factor_takes_beyond_its_bounds_is_found_before():
    strong = SimulationSettings(cycle=replace(BEATING, tension_kpa=300.0))
    with pytest.raises(InputError, match=r"factors up to 4 must be possible.*tension_kpa: 1200"):
        check_range(Mechanics(), strong)


@pytest.mark.parametrize(
    ("targets", "more", "said"),
    [
        ({"lv_ef": 0.6}, {"cycle": Cycle()}, r"lv_ef are targets .*cycle\.beats is 0"),
        ({"lv_ef": 1.2}, {}, r"simulation\.calibrate\.lv_ef: 1\.2 is not at most 0\.9"),
        ({"lv_ef": 0.6, "rv_ef": 0.5}, {}, "more targets than scalars: the tension alone answers lv_ef and"),
        ({"lv_peak_kpa": 16, "arterial_mean_kpa": 12}, {}, "the resistance alone answers lv_peak_kpa and"),
        (
            {"lv_ef": 0.6, "lv_peak_kpa": 16, "lv_edv_ml": 120, "rv_ef": 0.5}, {},
            r"4 targets \(lv_ef, rv_ef, lv_peak_kpa, lv_edv_ml\); at most 3",
        ),
        (
            {"lv_ef": 0.6, "lv_peak_kpa": 16}, {"cycle": replace(BEATING, arterial_mean_kpa=12.0)},
            r"lv_peak_kpa: simulation\.cycle\.arterial_mean_kpa is 12, which sets the resistance",
        ),
        ({"lv_edv_ml": 100, "lv_stroke_ml": 100}, {}, r"lv_stroke_ml: 100 mL is not below lv_edv_ml, 100 mL"),
        ({"lv_edv_ml": 100, "lv_esv_ml": 150}, {}, r"lv_esv_ml: 150 mL is not below lv_edv_ml"),
        (
            {"lv_edv_ml": 60, "cardiac_output_l_min": 4.8}, {},
            r"cardiac_output_l_min: 64 mL a beat at .* 75 is not below lv_edv_ml, 60 mL",
        ),
        ({"lv_unloaded_ml": 80}, {}, r"lv_unloaded_ml: with .*: image .*set reference: unloaded"),
        ({"lv_edv_ml": 80}, {"reference": "unloaded"}, r"lv_edv_ml: with .*: unloaded .*set .*: image"),
        ({"lv_ef": 0.6, "tolerance": 0.005}, {}, r"tolerance: 0\.005 is finer than .*, 0\.01"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_are_refused(targets, more, said):
    with pytest.raises(InputError, match=said):
        SimulationSettings(**{"cycle": BEATING, "calibrate": Calibrate(**targets)} | more)


def test_every_target_has_a_scalar_slopes_and_a_column():
    assert set(Calibrate.__dataclass_fields__) == {*ANSWERED_BY, "tolerance", "max_runs"}
    assert fitting.SLOPES.keys() == ANSWERED_BY.keys() <= set(subject.FIGURES)
    for name, scalar in ANSWERED_BY.items():
        assert abs(fitting.SLOPES[name][SCALARS.index(scalar)]) >= 0.1


def test_finished_runs_of_a_killed_calibration_are_not_repeated(tmp_path, monkeypatch):
    """On a heart of few tetrahedra and one coarse beat: real runs, the second one is cut off."""
    model = biventricle(6, 10, wall=6.5, cavity=24.0, rv_wall=2.7, layers=(1, 2, 3))
    model = add_fibres(replace(model, points_mm=1.57 * model.points_mm), FibreAngles())
    row = mesh_row(model, tmp_path, "a-0")
    mechanics = Mechanics(material="guccione", guccione=Guccione(c_kpa=4.0), base="robin")
    cycle = Cycle(
        beats=1, heart_rate_per_min=250.0, tension_kpa=200.0, contraction_s=0.1, relaxation_s=0.1, steps=10
    )  # enough tension for both ventricles to eject
    settings = SimulationSettings(curve_points=2, cycle=cycle)
    solved, folder = [], tmp_path / "a"

    def simulate_subject(path, payload):
        if len(solved) == 1:
            raise KeyboardInterrupt
        solved.append(payload[3].cycle.tension_kpa)
        return whole(path, payload)

    def start(inputs="one"):
        return calibrating.simulated(folder, {"a-0": (row, tmp_path)}, mechanics, settings, 1, inputs)

    whole = subject.simulate_subject
    monkeypatch.setattr(subject, "simulate_subject", simulate_subject)
    wanted = Calibrate(lv_ef=0.4)
    with pytest.raises(KeyboardInterrupt):
        calibrating.calibrate("a", ["a-0"], wanted, start())
    assert solved == [200.0]
    solved.clear()
    again = start()("a-0", Scaling())
    assert solved == []
    assert 0 < again.figures["lv_ef"] < 1
    assert 0 < again.figures["arterial_mean_kpa"] < again.figures["arterial_peak_kpa"]
    kept = {path.name for path in (folder / "01-a-0").iterdir()}
    assert kept == {"pressure_volume.tsv", "loops.tsv", "beat.png"}
    start("other")
    assert [path.name for path in folder.iterdir()] == ["runs.json"]  # runs of other inputs are gone
