"""Restarts of an attempt: who gets one, what is kept, and what they do for a heart with many targets."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.generation import judging, sampling
from cardiocohort.generation.constraints import OUTSIDE, missed
from cardiocohort.generation.judging import Judged, failing, to_restart
from cardiocohort.generation.settings import GuidanceSettings, RestartSettings
from cardiocohort.label_maps.on_grid import read_on_grid
from cardiocohort.metrics.overlap import dice
from heart_anatomy import CONVENTION, HEART, HEART_GRID, RESOURCES
from tiny_prior import write_tiny_bundle

LEAK = topology.Failure("lv_leak", 12.0, "max", 0.0, "mm2")
SOUND, LEAKING = topology.Verdict((), {}), topology.Verdict((LEAK,), {"lv_leak": 12.0})
MISS = missed({"aorta.size": 4.0}, 1.5)
RULES = RESOURCES / "anatomies/heart/topology.tsv"


def judged(verdict, residual=0.0, miss=None):
    return Judged(np.zeros((2, 2, 2), np.uint8), ("speck",), verdict, None, {"wall.size": residual}, miss)


GOOD, FAR, CLOSER = judged(SOUND, 0.1), judged(SOUND, 0.5), judged(SOUND, 0.3)
BROKEN, OFF, DIVERGED = judged(LEAKING), judged(SOUND, 4.0, MISS), judged(None)


def test_what_is_restarted():
    settings = GuidanceSettings()
    wanted = {"good": GOOD, "far": FAR, "broken": BROKEN, "off": OFF, "diverged": DIVERGED}
    assert {name: to_restart(each, settings) for name, each in wanted.items()} == {
        "good": False,
        "far": True,
        "broken": True,
        "off": True,
        "diverged": False,  # there is no latent to start from
    }


def test_a_target_counts_more_than_the_gate_and_the_gate_more_than_residuals():
    ordered = [GOOD, CLOSER, FAR, BROKEN, OFF, DIVERGED]
    assert all(failing(a) < failing(b) for a, b in pairwise(ordered))


@pytest.fixture
def scripted(monkeypatch):
    """`make_samples` of two subjects whose samples are judged as a script says, subject by subject."""

    def run(script, **settings):
        calls = []

        def sampled(g, rows, seeds, bases, edited, again=None, rules=None):
            calls.append(
                (list(rows), [s.spawn_key for s in seeds], None if again is None else again.tolist())
            )
            made = []
            for name in rows:
                turn = sum(name in earlier[0] for earlier in calls) - 1
                latent = torch.full((1,), float(10 * rows.index(name) + turn))
                made.append(
                    sampling.Sampled([float(turn)], latent, script[name][turn].labels, script[name][turn])
                )
            return made

        monkeypatch.setattr(sampling, "_sampled", sampled)
        g = judging.Sampler(None, None, None, GuidanceSettings(**settings))
        seeds = [np.random.SeedSequence(1, spawn_key=(k,)) for k in range(2)]
        return sampling.make_samples(g, ["a", "b"], seeds, [None, None], ()), calls

    return run


def test_only_what_fails_is_restarted_and_the_best_is_kept(scripted):
    (a, b), calls = scripted({"a": [GOOD], "b": [BROKEN, FAR, CLOSER]})
    assert [names for names, *_ in calls] == [["a", "b"], ["b"], ["b"]]
    assert a.judged is GOOD
    assert (a.restarts, b.restarts) == (0, 2)
    assert b.judged.residuals == CLOSER.residuals
    assert b.judged.repairs == ("restart 2", "speck")
    assert b.losses == [0.0, 1.0, 2.0]
    # each has noise of its own, and starts from the best so far
    keys = [key for _, own, _ in calls for key in own]
    assert len(set(keys)) == len(keys)
    assert [again for *_, again in calls] == [None, [10.0], [1.0]]


def test_a_restart_that_is_worse_is_forgotten(scripted):
    (_, b), calls = scripted({"a": [GOOD], "b": [FAR, BROKEN, OFF]})
    assert b.judged is FAR
    assert b.restarts == 0
    assert [again for *_, again in calls] == [None, [10.0], [10.0]]


@pytest.mark.parametrize(
    "settings", [{"restart": RestartSettings(most=0)}, {"method": "dps"}, {"method": "implicit"}]
)
def test_none_are_made_where_none_are_wanted(scripted, settings):
    (_, b), calls = scripted({"a": [GOOD], "b": [BROKEN]}, **settings)
    assert len(calls) == 1
    assert b.judged is BROKEN


@pytest.mark.parametrize(("method", "steps"), [("polyak", 8), ("dps", 0), ("implicit", 0)])
def test_the_published_methods_have_no_topology_steps(monkeypatch, method, steps):
    asked = []

    def topology_steps(prior, z, labels, verdict, rules, most, free):
        asked.append(most)
        return iter([labels] * most)

    monkeypatch.setattr(judging, "topology_steps", topology_steps)
    monkeypatch.setattr(judging, "judge", lambda *args, **absent: GOOD)
    settings = GuidanceSettings(method=method)
    g = judging.Sampler(None, None, topology.Rules((), ()), settings)
    found = judging.improved(g, None, BROKEN, None)
    assert asked == [steps]
    assert found.accepted is (steps > 0)
    assert settings.follows_rules is (steps > 0)


@pytest.mark.parametrize(
    ("settings", "follows"),
    [
        ({"topology_steps": 0}, True),
        ({"topology_from": 0.0}, True),
        ({"topology_steps": 0, "topology_from": 0.0}, False),
        ({"topology_steps": 0, "restart": RestartSettings(most=0)}, False),
    ],
)
def test_rules_steer_by_steps_or_in_restarts(settings, follows):
    assert GuidanceSettings(**settings).follows_rules is follows


def test_a_restart_from_little_noise_changes_little(tmp_path):
    prior = load_prior(write_tiny_bundle(tmp_path / "bundle"), "cpu")
    settings = GuidanceSettings(steps=8)
    seeds = [np.random.SeedSequence(3)]
    before, _, z = sampling.sample_labels(prior, [], seeds, settings)

    def after(sigma, seed):
        changed = replace(settings, restart=RestartSettings(sigma=sigma, steps=4))
        return sampling.sample_labels(prior, [], [np.random.SeedSequence(seed)], changed, again=z)

    little, much, other = after(0.021, 4), after(5.0, 4), after(5.0, 5)
    assert np.mean(little[0] == before) > 0.98
    assert (little[2] - z).std() < 0.1 * (much[2] - z).std()
    assert torch.equal(much[2], after(5.0, 4)[2])
    assert not torch.equal(much[2], other[2])


def test_restarts_meet_the_targets_of_a_whole_heart():
    """A real heart with the moments of all its structures as targets: more than one descent meets."""
    template = next((RESOURCES / "templates").glob("T4*.nii.gz"))
    sampler = judging.open_sampler(str(RESOURCES / "priors/people"), str(RULES), GuidanceSettings(), "cpu")
    rules = topology.load_rules(RULES, HEART)
    heart, _ = read_on_grid(template, HEART, HEART_GRID, rules, CONVENTION)
    own = moments.measure_labels(heart, [(k,) for k in range(1, 11)], HEART_GRID.axes_mm())
    rows = pd.DataFrame(moments.to_columns(own))
    rows = rows.assign(structure=HEART.structures, constrained="size,position,shape")
    found = {}
    for most in (0, 2):
        settings = replace(sampler.settings, restart=RestartSettings(most=most))
        seeds = [np.random.SeedSequence(5)]
        (found[most],) = sampling.make_samples(replace(sampler, settings=settings), [rows], seeds, [None], ())
    plain, better = found[0].judged, found[2].judged
    assert not plain.miss or plain.miss.reason == OUTSIDE
    assert better.verdict.accepted
    rms = {k: np.sqrt(np.mean(np.square(list(f.judged.residuals.values())))) for k, f in found.items()}
    assert rms[2] < 0.6 * rms[0]
    lv = HEART.structures.index("left_ventricle")
    overlap = [dice(each.labels, heart, HEART) for each in (plain, better)]
    assert overlap[1].mean() > overlap[0].mean() + 0.02
    assert overlap[1][lv] > 0.92
