"""Tension, cavities, circulation and beats: derivatives, closed forms, conservation, a small heart."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ngsolve as ng
import numpy as np
import pandas as pd
import pytest
import pyvista
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.mechanics.settings import Guccione, Mechanics
from cardiocohort.mesh.second_order import second_order
from cardiocohort.microstructure.coordinates import add_coordinates
from cardiocohort.microstructure.fibres import FibreAngles, add_fibres
from cardiocohort.runtime.artifacts import NO_FILE
from cardiocohort.runtime.errors import InputError
from cardiocohort.simulation import beat_output, beats, materials, measures, subject, wall_motion
from cardiocohort.simulation.active import VOLUME_KPA, Contracting, modified_tensors
from cardiocohort.simulation.beat import Heart, Moment
from cardiocohort.simulation.beats import closed_outlets, next_loop, repeats
from cardiocohort.simulation.circulation import (
    MMHG,
    P_AR_PUL,
    P_AR_SYS,
    Q_AR_SYS,
    Q_VEN_PUL,
    START,
    V_LA,
    V_LV,
    V_RA,
    V_RV,
    Chamber,
    Circulation,
    Course,
    Followed,
)  # fmt: skip
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.cycle import Cycle
from cardiocohort.simulation.newton import TIGHT, Diverged, Tangent, equilibrium
from cardiocohort.simulation.problem import problem
from cardiocohort.simulation.settings import SimulationSettings
from decks import block
from simulated import listed, simulate
from small_meshes import biventricle, box

ng.SetNumThreads(1)

COURSE = Course(0.8, 0.0, 0.2, 0.25)
VENTRICLES = (Chamber(0.0107, 0.3666, 5.0, COURSE), Chamber(0.0067, 0.0733, 10.0, COURSE))
STIFF = Mechanics(material="guccione", guccione=Guccione(c_kpa=4.0), base="robin")


@pytest.fixture(scope="module")
def limit_cycle():
    circulation = Circulation()
    return circulation, circulation.limit_cycle(START, VENTRICLES)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 20), min_size=2, max_size=2), st.floats(1e-4, 0.02), st.floats(0, 0.8))
def test_a_step_of_the_circulation_keeps_the_blood_and_has_its_slopes(pressures, dt, time):
    circulation, pressures = Circulation(), np.array(pressures)
    new, slopes = circulation.step(START, time, dt, pressures)
    assert circulation.volume(new) == pytest.approx(circulation.volume(START), abs=1e-8)
    assert np.diag(slopes).max() < 0  # a higher pressure lets less in
    for ventricle in range(2):
        change = 1e-6 * np.eye(2)[ventricle]
        ends = [circulation.step(START, time, dt, pressures + sign * change)[0] for sign in (1, -1)]
        found = (ends[0] - ends[1])[[V_LV, V_RV]] / 2e-6
        assert slopes[:, ventricle] == pytest.approx(found, rel=1e-3, abs=1e-6)


def test_the_circulation_alone_has_a_limit_cycle_of_a_healthy_heart(limit_cycle):
    circulation, start = limit_cycle
    states, pressures = circulation.beat(start, VENTRICLES, 160)
    assert np.abs(states[-1] - states[0])[:8].max() < 0.5
    blood = [circulation.volume(state) for state in states]
    assert np.ptp(blood) < 1e-8
    strokes = np.ptp(states[:, [V_LV, V_RV]], axis=0)
    assert strokes[0] == pytest.approx(strokes[1], rel=0.01)
    assert 10 < pressures[:, 0].max() < 20
    assert 2 < pressures[:, 1].max() < 6
    assert 0.45 < strokes[0] / states[:, V_LV].max() < 0.7


@pytest.mark.parametrize("size", [0.7, 1.3])
def test_bodies_of_another_size_have_the_same_pressures(limit_cycle, size):
    """All volumes and flows scale with the body, in vessels and chambers alike; pressures do not."""
    circulation, start = limit_cycle
    other, volumes = circulation.of_size(size), [V_LA, V_LV, V_RA, V_RV, *range(Q_AR_SYS, Q_VEN_PUL + 1)]
    ventricles = tuple(
        replace(v, passive=v.passive / size, active=v.active / size, unstressed=v.unstressed * size)
        for v in VENTRICLES
    )
    states, pressures = circulation.beat(start, VENTRICLES, 80)
    begin = start.copy()
    begin[volumes] *= size
    found, found_pressures = other.beat(begin, ventricles, 80)
    states[:, volumes] *= size
    assert found == pytest.approx(states, rel=1e-6, abs=1e-6)
    assert found_pressures == pytest.approx(pressures, rel=1e-6, abs=1e-8)


def test_the_size_of_a_body_is_its_surface_over_the_stated_one():
    stated = Cycle(reference_bsa_m2=1.6)
    assert stated.body_size(1.8) == pytest.approx(1.125)
    assert stated.body_size(float("nan")) == 1.0
    assert Cycle().body_size(1.8) == 1.0
    with pytest.raises(InputError, match=r"reference_bsa_m2: 0.1 m2 .* 0.2 to 4, and 0"):
        Cycle(reference_bsa_m2=0.1)


def beat_of(circulation, start, chambers, steps=80):
    """Moments of a beat of chambers from `start`, whose tension rises and falls as their elastance."""
    states, pressures = circulation.beat(start, chambers, steps)
    times = np.linspace(0, circulation.period, steps + 1)
    return [
        Moment(time, np.zeros(1), p, state[[V_LV, V_RV]], state, 60 * COURSE(time))
        for time, p, state in zip(times, pressures, states, strict=True)
    ]


def test_ventricles_fitted_to_a_beat_repeat_it(limit_cycle):
    circulation, start = limit_cycle
    moments = beat_of(circulation, start, VENTRICLES)
    assert repeats(moments, 0.01)
    found = next_loop(circulation, moments, 80, start[V_LV])
    assert found[[V_LV, V_RV]] == pytest.approx(start[[V_LV, V_RV]], rel=0.005)
    # a heart that is to be fuller or emptier at end-diastole gets more or less blood, in a cycle that repeats
    for factor in (0.85, 1.2):
        found = next_loop(circulation, moments, 80, factor * start[V_LV])
        assert found[V_LV] == pytest.approx(factor * start[V_LV], rel=0.001)
        assert (factor - 1) * (circulation.volume(found) - circulation.volume(start)) > 0


def regulated(circulation, start, wanted_kpa, beats_of=6):
    """Resistances of beats whose ventricles are elastances, and the last beat's moments."""
    cycle = Cycle(arterial_mean_kpa=wanted_kpa)
    heart = SimpleNamespace(
        cycle=cycle, circulation=circulation, stated_resistance=circulation.resistances[0]
    )
    found, loop = [circulation.resistances[0]], start
    for _ in range(beats_of):
        loop = heart.circulation.limit_cycle(loop, VENTRICLES)
        moments = beat_of(heart.circulation, loop, VENTRICLES)
        if beats.holds_pressure(heart, moments):
            break
        found.append(beats.next_resistance(heart, moments))
        heart.circulation = heart.circulation.with_systemic_resistance(found[-1])
    return found, heart, moments


def test_the_resistance_is_adjusted_to_a_mean_arterial_pressure(limit_cycle):
    """Lower, equal and higher than with the stated one; the blood is the same."""
    circulation, start = limit_cycle
    mean = beats.arterial_mean(beat_of(circulation, start, VENTRICLES))
    for factor in (0.9, 1.0, 1.15):
        found, heart, moments = regulated(circulation, start, factor * mean)
        assert beats.arterial_mean(moments) == pytest.approx(factor * mean, rel=0.02)
        assert not beats.unheld_pressure(heart, moments)
        assert len(found) <= 5
        assert (found[-1] - found[0]) * (factor - 1) >= 0
    assert regulated(circulation, start, mean)[0] == [circulation.resistances[0]]


def test_a_mean_arterial_pressure_out_of_reach_ends_at_twice_the_resistance_and_is_named(limit_cycle):
    circulation, start = limit_cycle
    found, heart, moments = regulated(circulation, start, 30.0)
    assert found[-1] == pytest.approx(2 * found[0])
    said = beats.unheld_pressure(heart, moments)
    assert re.search(r"mean arterial pressure is \d+\.\d\d kPa for 30 .*, with 2 of the stated", said)
    assert not beats.unheld_pressure(SimpleNamespace(cycle=Cycle()), moments)


def test_a_ventricle_too_large_for_its_circulation_finds_its_volume_in_one_step():
    """It takes no pressure up to 140 mL: chords through its points are too soft, and leave 2.5 mL."""
    circulation, times = Circulation(), np.linspace(0, 0.8, 161)
    active = np.array([0.06 * COURSE(time) for time in times])
    stiffness = 0.03 + active
    rest = (0.03 * 140.0 + active * 30.0) / stiffness
    chambers = (VENTRICLES[0], Followed(0.8, times, np.zeros(161), rest, stiffness))
    limit = circulation.limit_cycle(START, chambers)
    loop = limit.copy()
    loop[V_RV] += 40.0
    loop = next_loop(circulation, beat_of(circulation, loop, chambers), 80, limit[V_LV])
    assert loop[V_LV] == pytest.approx(limit[V_LV], rel=0.002)
    again = beat_of(circulation, loop, chambers)
    changes = np.abs(again[-1].loop - again[0].loop)[[V_LV, V_RV]]
    assert changes.max() < 1.0


@pytest.mark.parametrize("length", [0.0, 1.5])
def test_tension_and_viscosity_have_their_tangent(length):
    rng = np.random.default_rng(1)
    c = np.repeat([[1.0], [1.0], [1.0], [0], [0], [0]], 8, axis=1) + rng.normal(scale=0.05, size=(6, 8))
    before = rng.normal(scale=0.05, size=(6, 2, 4)) + np.array([1, 1, 1, 0, 0, 0])[:, None, None]
    passive = materials.law(Mechanics(material="guccione"))
    law = Contracting(passive, np.array([30.0, 60.0]), 0.2, length, 0.1, 0.01, before)
    some = law.at(slice(1, 2))
    for of, of_some in ((law, some), (law.direct, some.direct)):
        _, stiffness = of(c)
        assert of_some(c[:, 4:])[0] == pytest.approx(of(c)[0][:, 4:])
        for row, (i, j) in enumerate(materials.PAIRS):
            change = np.zeros((6, 1))
            change[row] = 1e-6 if i == j else 5e-7
            slope = (of(c + change)[0] - of(c - change)[0]) / 2e-6
            assert stiffness[:, row] == pytest.approx(2 * slope, rel=1e-5, abs=1e-4)


def test_tension_alone_leaves_the_volume_of_a_free_block_nearly_as_it_is():
    """Neo-Hooke along x at stretch l with kappa: three balances of principal stresses.

    sigma_x = T l^2 / J + mu J^(-5/3) (l^2 - I1 / 3) + p = 0, and sideways without T, where
    p = kappa (J - 1) + volume_kpa (1 - 1 / J). Their mean: p = -T l^2 / (3 J).
    """
    model, tension, kappa = block((2, 2, 2), side=side), 12.0, 100.0
    mechanics = Mechanics(material="neo_hooke", bulk_modulus_kpa=kappa)
    moved, volume, _ = pulled(model, mechanics, tension)
    stretch = 1 + moved[:, 0].min() / model.points_mm[:, 0].max()
    pressure = kappa * (volume - 1) + VOLUME_KPA * (1 - 1 / volume)
    assert pressure == pytest.approx(-tension * stretch**2 / (3 * volume), abs=0.01)
    assert 0.97 < volume < 0.99


def side(normal):
    return {(-1, 0, 0): 2, (0, -1, 0): 3, (0, 0, -1): 4}.get(normal, 1)


def pulled(model, mechanics, tension):
    """Corner displacements, volume over the undeformed one and the state of a block held on three sides."""
    mesh, order = subject.mesh.solver_mesh(model)
    axes = subject.mesh.directions(model, order)
    law = Contracting(materials.law(mechanics), tension)
    held = {"base": "x", "lv_endo": "y", "rv_endo": "z"}
    stated = problem(mesh, law, mechanics.bulk_modulus_kpa, {"epi": 1e-9}, held, axes=axes)
    state, tangent = np.zeros(len(stated.free)), Tangent.of(stated)
    accuracy = replace(TIGHT, residual=np.inf, increment=1e-7)
    state, *_ = equilibrium(replace(stated, pressures_kpa={}), tangent, state, 1.0, 30, accuracy)
    stated.state.vec.FV().NumPy()[:] = state
    moved = measures.corner_displacements(stated)
    sides = np.ptp(model.points_mm + moved, axis=0) / np.ptp(model.points_mm, axis=0)
    return moved, sides.prod(), modified_tensors(stated.solid, state)


def test_a_free_block_shortens_until_passive_stress_balances_the_tension():
    """Incompressible neo-Hooke along x at stretch l: mu (l^2 - 1 / l) + T l^2 = 0."""
    model, tension = block((3, 3, 3), side=side), 12.0
    moved, _, tensors = pulled(model, Mechanics(material="neo_hooke", bulk_modulus_kpa=1e6), tension)
    stretch = 1 + moved[:, 0].min() / model.points_mm[:, 0].max()
    assert 15.0 * (stretch**2 - 1 / stretch) + tension * stretch**2 == pytest.approx(0, abs=0.02)
    assert np.allclose(tensors[0], stretch**2, atol=1e-4)


@pytest.fixture(scope="module")
def small_heart():
    """A heart of few tetrahedra, and its end-diastolic state."""
    model = biventricle(6, 10, wall=6.5, cavity=24.0, rv_wall=2.7, layers=(1, 2, 3))
    model = add_fibres(replace(model, points_mm=1.57 * model.points_mm), FibreAngles())
    stated, order, _ = subject.state_heart(model, STIFF, SimulationSettings())
    assert inflate(stated, SimulationSettings(curve_points=2), lambda step: None).complete
    cycle = Cycle(beats=1, heart_rate_per_min=250.0, contraction_s=0.1, relaxation_s=0.1, steps=10)
    return model, stated, Heart(stated, cycle, np.ones(len(order)))


def test_volumes_of_cavities_have_their_slopes(small_heart):
    model, stated, heart = small_heart
    rng, state = np.random.default_rng(0), stated.state.vec.FV().NumPy().copy()
    volumes, slopes = heart.cavities.volumes(state)
    assert volumes == pytest.approx([measures.cavity_volume_ml(stated, model, v) for v in ("lv", "rv")])
    along = rng.normal(size=state.shape)
    ahead, behind = (heart.cavities.volumes(state + sign * 1e-4 * along)[0] for sign in (1, -1))
    assert slopes @ along == pytest.approx((ahead - behind) / 2e-4, rel=1e-6)


def test_a_killed_beat_goes_on_where_it_was(small_heart, tmp_path, monkeypatch):
    """The beat raises pressures, ejects what the circulation takes, and keeps all blood."""
    monkeypatch.setattr(beats, "CHECKPOINT_STEPS", 3)
    _, stated, heart = small_heart
    state, pressures = stated.state.vec.FV().NumPy().copy(), np.array([1.5, 0.5])
    advance, done, most = heart.advance, [], 5

    def counted(last, dt, guess):
        if len(done) == most:
            raise KeyboardInterrupt
        new, used = advance(last, dt, guess)
        done.append(new.time)
        return new, used

    monkeypatch.setattr(heart, "advance", counted)
    saved = tmp_path / "beat.npz"
    with pytest.raises(KeyboardInterrupt):
        beats.beat_until_periodic(heart, state, pressures, saved, "key")
    before, most = list(done), np.inf
    done.clear()
    beat = beats.beat_until_periodic(heart, state, pressures, saved, "key")
    times = [moment.time for moment in beat.moments]
    assert not beat.reason
    assert not saved.exists()
    assert times[-1] == pytest.approx(heart.circulation.period)
    kept = len(times) - 1 - len(done)
    assert kept in (2, 5)  # moments are saved by threes, the first included
    assert times[1 : kept + 1] == before[:kept]
    assert len(beat.rows) == len(times)
    blood = [heart.circulation.volume(moment.loop) for moment in beat.moments]
    assert np.ptp(blood) < 1e-6
    for moment in beat.moments:
        assert moment.volumes_ml == pytest.approx(moment.loop[[V_LV, V_RV]], abs=0.03)
    assert max(moment.pressures_kpa[0] for moment in beat.moments) > 5


def test_a_beat_that_fails_is_named_with_the_last_good_state(small_heart, monkeypatch):
    _, stated, heart = small_heart

    def fails(*arguments):
        raise Diverged("no equilibrium within 12 iterations")

    monkeypatch.setattr(heart, "advance", fails)
    state = stated.state.vec.FV().NumPy().copy()
    ended = beats.beat_until_periodic(heart, state, np.array([1.5, 0.5]))
    assert "no equilibrium" in ended.reason
    assert len(ended.moments) == 1


def test_a_beat_that_creeps_ends_too(small_heart, monkeypatch):
    """Every second time step has a solution: none fails often in a row, and all are as short as can be."""
    _, stated, heart = small_heart
    tried = []

    def every_second(last, dt, guess):
        tried.append(dt)
        if len(tried) % 3 != 0:  # a step has two guesses from the second moment on
            raise Diverged("no equilibrium within 12 iterations")
        return replace(last, time=last.time + dt), 99

    monkeypatch.setattr(heart, "advance", every_second)
    monkeypatch.setattr(heart, "cycle", replace(heart.cycle, max_failures=7))
    state = stated.state.vec.FV().NumPy().copy()
    ended = beats.beat_until_periodic(heart, state, np.array([1.5, 0.5]))
    said = r"at .* s: no equilibrium.*; 7 time steps of the beat had no solution .*max_failures.*"
    assert re.fullmatch(said, ended.reason)
    assert len(ended.moments) > 1
    assert ended.moments[-1].time < heart.circulation.period / 2
    assert Cycle().max_failures == 30


def test_steps_that_failed_before_a_beat_was_killed_count(small_heart, tmp_path, monkeypatch):
    monkeypatch.setattr(beats, "CHECKPOINT_STEPS", 2)
    _, stated, heart = small_heart
    monkeypatch.setattr(heart, "cycle", replace(heart.cycle, max_failures=3))
    saved, tried = tmp_path / "beat.npz", []

    def fails_twice(last, dt, guess):
        tried.append(dt)
        if len(tried) > 3:
            raise KeyboardInterrupt
        if len(tried) < 3:
            raise Diverged("no equilibrium within 12 iterations")
        return replace(last, time=last.time + dt), 99

    def fails(last, dt, guess):
        tried.append(dt)
        raise Diverged("no equilibrium within 12 iterations")

    state, pressures = stated.state.vec.FV().NumPy().copy(), np.array([1.5, 0.5])
    monkeypatch.setattr(heart, "advance", fails_twice)
    with pytest.raises(KeyboardInterrupt):
        beats.beat_until_periodic(heart, state, pressures, saved, "key")
    monkeypatch.setattr(heart, "advance", fails)
    tried.clear()
    ended = beats.beat_until_periodic(heart, state, pressures, saved, "key")
    assert "; 3 time steps of the beat had no solution" in ended.reason
    assert len(tried) == 2  # one step, by both guesses


def test_arterial_pressure_is_a_mean_over_time_of_uneven_steps():
    """A pressure that rises from 8 to 16 kPa and falls again has a mean of 12, however the beat was cut."""
    times = np.array([0.0, 0.05, 0.1, 0.4, 0.65, 0.7, 0.8])
    moments = []
    for time in times:
        loop = START.copy()
        loop[P_AR_SYS] = 16 - 8 * abs(time - 0.4) / 0.4
        loop[V_LV] = 120 - 100 * time
        moments.append(Moment(time, np.zeros(1), np.array([10.0, 3.0]), loop[[V_LV, V_RV]], loop, 0.0))
    found = beats.figures(beats.Beats(moments, [], 1, True, 0, ""), 0.8)
    assert found["arterial_mean_kpa"] == pytest.approx(12.0)
    assert found["arterial_peak_kpa"] == pytest.approx(16.0)
    first = beats.figures(beats.Beats(moments[:1], [], 1, False, 0, "no step"), 0.8)
    assert np.isnan(first["arterial_mean_kpa"])


@pytest.mark.parametrize(
    ("ventricle", "volume", "artery", "said"),
    [
        (0, V_LV, P_AR_SYS, "the aortic valve never opens: the left ventricle reaches"),
        (1, V_RV, P_AR_PUL, "the pulmonary valve never opens: the right ventricle reaches"),
    ],
)
def test_a_ventricle_that_never_opens_its_outlet_valve_is_named(ventricle, volume, artery, said, limit_cycle):
    """Weak elastances against a healthy heart's arteries."""
    circulation, start = limit_cycle

    def beat(chambers):
        states, pressures = circulation.beat(start, chambers, 80)
        return [
            Moment(0.01 * i, np.zeros(1), pressure, state[[V_LV, V_RV]], state, 0.0)
            for i, (pressure, state) in enumerate(zip(pressures, states, strict=True))
        ]

    assert not closed_outlets(beat(VENTRICLES))
    chambers = list(VENTRICLES)
    chambers[ventricle] = replace(chambers[ventricle], active=0.1 * chambers[ventricle].active)
    moments = beat(tuple(chambers))
    peak = max(moment.pressures_kpa[ventricle] for moment in moments)
    least = min(moment.loop[artery] for moment in moments)
    assert peak < least
    found = f"{said} {peak:.2f} kPa, the arteries have at least {least:.2f} kPa"
    assert closed_outlets(moments) == found
    # a difference of volumes is no ejection: the ventricle fills
    assert np.ptp([moment.loop[volume] for moment in moments]) > 30


def test_a_heart_that_does_not_eject_ends_with_that_reason(tmp_path):
    """Its beat is complete, and its volumes differ: they would pass for an ejection fraction."""
    model = biventricle(6, 10, wall=6.5, cavity=24.0, rv_wall=2.7, layers=(1, 2, 3))
    model = add_fibres(replace(model, points_mm=1.57 * model.points_mm), FibreAngles())
    cycle = Cycle(
        beats=1, heart_rate_per_min=250.0, contraction_s=0.1, relaxation_s=0.1, steps=10, tension_kpa=5.0
    )
    settings = SimulationSettings(curve_points=2, cycle=replace(cycle, reference_bsa_m2=1.7))
    record = simulate(add_coordinates(model), tmp_path, STIFF, settings)
    row = subject.table_row(record)
    assert (row["verdict"], row["reason"]) == ("failed", "a ventricle does not eject")
    assert "in all of beat 1 the aortic valve never opens: the left ventricle reaches" in row["detail"]
    assert "simulation.cycle.tension_kpa" in row["detail"]
    # the test's subject has no table that its body surface would be in
    assert "body-surface area is not known: its circulation is that of 1.7 m2" in row["detail"]
    assert row["body_size"] == 1
    assert row["systemic_resistance_kpa_s_ml"] == pytest.approx(0.8 * MMHG)
    loops = pd.read_csv(tmp_path / "out/s/loops.tsv", sep="\t")
    assert (loops["lv_pressure_kpa"] <= loops["systemic_arteries_kpa"]).all()
    assert row["lv_stroke_ml"] == pytest.approx(np.ptp(loops["lv_volume_ml"]), abs=1e-3)  # of the file


def test_strains_and_motion_of_a_uniform_deformation(tmp_path):
    """Directions are orthonormal, so that a segment's three strains add up to the tensor's trace."""
    model = box((3, 3, 4))
    points, _, _ = second_order(model.points_mm, model.tets, model.facets)
    rest, change = np.array([[0.1, 0, 0.2], [0, 0, 0.1], [0, 0.1, 0]]), np.diag([0.2, -0.1, 0.05])
    start, end = np.eye(3) + rest, (np.eye(3) + change) @ (np.eye(3) + rest)
    moved = [points @ (matrix - np.eye(3)).T for matrix in (start, end)]
    rows = pd.DataFrame(beat_output.strains(model, moved, np.array([0.0, 0.3])))
    names = ["longitudinal", "radial", "circumferential"]
    assert np.abs(rows.query("time_s == 0")[names]).to_numpy().max() < 1e-9
    trace = np.trace(((np.eye(3) + change).T @ (np.eye(3) + change) - np.eye(3)) / 2)
    assert rows.query("time_s > 0")[names].sum(axis=1).to_numpy() == pytest.approx(trace)
    assert set(rows["aha"]) == set(np.unique(model.coordinates.aha))
    # the whole wall's mean is that of its segments, by their muscle: of all tets with directions
    left = rows[rows["aha"] <= 17].query("time_s > 0")
    wall = model.tet_volumes_mm3[model.coordinates.aha <= 17].sum() / 1000
    assert left["muscle_ml"].sum() == pytest.approx(wall)
    for systole, sum_of_strains in ((0.2, trace), (0.1, 0.0)):
        found = beat_output.end_systolic(rows.to_dict("records"), systole)
        assert sum(found.values()) == pytest.approx(sum_of_strains, abs=1e-9)
    expected = (left["longitudinal"] * left["muscle_ml"]).sum() / wall
    found = beat_output.end_systolic(rows.to_dict("records"), 0.25)["lv_longitudinal_strain"]
    assert found == pytest.approx(expected)
    assert np.isnan(beat_output.end_systolic([], 0.1)["lv_radial_strain"])
    beat_output.write_motion(tmp_path / "motion.vtu", model, moved, np.array([0.0, 0.3]))
    grid = pyvista.read(tmp_path / "motion.vtu")
    assert grid.point_data["displacement_01"] == pytest.approx(moved[1], abs=1e-5)
    assert grid.field_data["time_s"].tolist() == [0.0, 0.3]
    assert beat_output.frames(np.linspace(0, 0.8, 101))[[0, -1]].tolist() == [0, 100]


def test_strains_of_the_table_follow_from_the_files(tmp_path):
    """Means of a whole wall from displacement.vtu, and from strains.tsv at the least volume of loops.tsv."""
    model = biventricle(6, 10, wall=6.5, cavity=24.0, rv_wall=2.7, layers=(1, 2, 3))
    model = add_fibres(replace(model, points_mm=1.57 * model.points_mm), FibreAngles())
    cycle = Cycle(beats=1, heart_rate_per_min=120.0, contraction_s=0.15, relaxation_s=0.15, steps=10)
    record = simulate(
        add_coordinates(model), tmp_path, STIFF, SimulationSettings(curve_points=2, cycle=cycle)
    )
    row, files = subject.table_row(record), tmp_path / "out/s"
    assert row["verdict"] == "accepted"
    field = pyvista.read(files / "displacement.vtu")
    volume, aha = model.tet_volumes_mm3, field.cell_data["aha"]
    for side, inside in (("lv", aha <= 17), ("rv", aha > 17)):
        mean = np.average(field.cell_data["E_ff"][inside], weights=volume[inside])
        assert row[f"{side}_fibre_strain"] == pytest.approx(mean, rel=1e-5)
        assert mean > 0  # the filled heart is longer along its fibres
    loops, strains = (pd.read_csv(files / name, sep="\t") for name in ("loops.tsv", "strains.tsv"))
    least, stroke = loops["lv_volume_ml"].min(), np.ptp(loops["lv_volume_ml"])
    systole = loops.loc[loops["lv_volume_ml"] <= least + 1e-3 * stroke, "time_s"].iloc[0]
    assert 0.1 < systole < 0.25
    times = strains["time_s"].unique()
    shown = strains[strains["time_s"] == times[np.abs(times - systole).argmin()]].query("aha <= 17")
    for name in beat_output.DIRECTIONS:
        mean = np.average(shown[name], weights=shown["muscle_ml"])
        assert row[f"lv_{name}_strain"] == pytest.approx(mean, rel=1e-4, abs=1e-6)
    assert row["lv_circumferential_strain"] < 0 < row["lv_radial_strain"]
    assert _listed(row, files, "wall_motion.tsv")
    walls = pd.read_csv(files / "wall_motion.tsv", sep="\t")
    assert walls["time_s"].to_numpy() == pytest.approx(times)
    shown = walls.loc[np.abs(walls["time_s"] - systole).idxmin()]
    for name in wall_motion.MOTION:
        assert walls.loc[0, name] == 0  # from end-diastole
        assert row[name] == pytest.approx(shown[name], rel=1e-4)
    grid, frame = pyvista.read(files / "motion.vtu"), shown.name
    moved = [grid.point_data[f"displacement_{place:02d}"] for place in (0, frame)]
    found = wall_motion.rows(model, moved, times[[0, frame]])[-1]
    assert found == pytest.approx(shown.to_dict(), rel=1e-3, abs=1e-5)
    assert row["lv_free_wall_inward_motion_mm"] > 1


def test_a_heart_whose_beat_fails_ends_failed_with_the_states_before(tmp_path, monkeypatch):
    advance = Heart.advance

    def until(self, last, dt, guess):
        if last.time > 0.04:
            raise Diverged("no equilibrium within 12 iterations")
        return advance(self, last, dt, guess)

    monkeypatch.setattr(Heart, "advance", until)
    model = biventricle(6, 10, wall=6.5, cavity=24.0, rv_wall=2.7, layers=(1, 2, 3))
    model = add_fibres(replace(model, points_mm=1.57 * model.points_mm), FibreAngles())
    cycle = Cycle(beats=2, heart_rate_per_min=120.0, contraction_s=0.15, relaxation_s=0.15, steps=10)
    record = simulate(model, tmp_path, STIFF, SimulationSettings(curve_points=2, cycle=cycle))
    row, files = subject.table_row(record), tmp_path / "out/s"
    assert (row["verdict"], row["reason"]) == ("failed", subject.NO_BEAT)
    said = r"beat 1, at 0\.05\d* s: no equilibrium within 12 iterations; the files hold the states before"
    assert re.fullmatch(said, row["detail"])
    assert row["load_share"] == 1
    times = pd.read_csv(files / "loops.tsv", sep="\t")["time_s"]
    assert times.iloc[0] == 0
    assert times.iloc[-1] == pytest.approx(0.05)
    for name in subject.BEAT_FILES:
        assert (files / name).is_file()
        assert f"s/{name}" in [row[f"{part}_file"] for part in subject.BESIDE]
    assert not (files / subject.CHECKPOINT).exists()


def _listed(row, folder, name):
    """Whether the table's row lists the file as it is."""
    part = Path(name).stem
    found = (f"{folder.name}/{name}", *listed(folder / name)[1:])
    return tuple(row[f"{part}_{key}"] for key in NO_FILE) == found


def test_end_systole_is_where_ejection_ends_not_where_valves_leak_least():
    """The volume hardly changes while the muscle relaxes: rounding must not choose the moment."""
    times = np.arange(8) / 10
    volumes = np.array([100, 100, 80, 60, 60 - 1e-6, 60 - 2e-6, 75, 100])
    for change in (1, -1):
        leaking = np.where(volumes < 60.5, 60 + change * (volumes - 60), volumes)
        assert beat_output.end_systole(times, leaking) == pytest.approx(0.3)
    assert beat_output.end_systole(times, np.full(8, 90.0)) == 0.0


@pytest.mark.parametrize(
    ("rate", "up", "down"), [(20, 0.2, 0.2), (75, 0.04, 0.3), (60, 0.6, 0.05), (60, 0.02, 0.02)]
)
def test_enough_time_steps_have_the_largest_tension_among_them(rate, up, down):
    def cycle(steps):
        return Cycle(heart_rate_per_min=rate, contraction_s=up, relaxation_s=down, steps=steps)

    enough = cycle(10_000).steps_needed
    for steps in range(enough, enough + 50):
        assert cycle(steps).steps == steps


def test_a_beat_longer_than_its_period_is_refused():
    with pytest.raises(InputError, match=r"contraction_s, relaxation_s.*less than a beat"):
        Cycle(heart_rate_per_min=200.0)
    with pytest.raises(InputError, match=r"contractility\.dilated"):
        Cycle(contractility={"dilated": "weak"})
    with pytest.raises(InputError, match=r"steps: the 10 .* of 3 s miss .* 50% of it .* at least 53"):
        Cycle(heart_rate_per_min=20.0, steps=10)
    assert Cycle(contractility={"dilated": 0.5}).of_arm("dilated").tension_kpa == 0.5 * Cycle().tension_kpa
