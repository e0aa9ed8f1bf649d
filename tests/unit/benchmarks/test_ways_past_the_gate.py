"""Ways past the gate: what the table counts, and that each way begins with the same sample."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ways_past_the_gate as gate_ways
from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.generation.judging import Judged
from cardiocohort.generation.sampling import Sampled
from cardiocohort.generation.settings import GuidanceSettings

LEAK = topology.Failure("lv_leak", 12.0, "max", 0.0, "mm2")
SOUND, LEAKING = topology.Verdict((), {}), topology.Verdict((LEAK,), {"lv_leak": 12.0})
NOWHERE = moments.Moments(np.ones(1), np.zeros((1, 3)), np.eye(3)[None])


def judged(verdict):
    return Judged(np.zeros((2, 2, 2), np.uint8), (), verdict, NOWHERE, {}, None)


@pytest.fixture
def rejected_once(monkeypatch):
    """A first sample that the gate rejects and that steps do not mend; the second attempt passes."""
    drawn = []

    def make_samples(g, rows, seeds, bases, edited):
        assert (g.settings.topology_steps, g.settings.restart.most) == (0, 0)
        drawn.append(seeds[0].spawn_key)
        return [Sampled([], None, np.zeros((2, 2, 2), np.uint8), judged(SOUND if drawn[1:] else LEAKING))]

    def restarted(g, samples, rows, seeds, bases, edited):
        assert g.settings.restart.most > 0
        assert samples[0].judged.verdict is LEAKING
        return [replace(samples[0], judged=judged(SOUND))]

    monkeypatch.setattr(gate_ways, "make_samples", make_samples)
    monkeypatch.setattr(gate_ways, "restarted", restarted)
    monkeypatch.setattr(gate_ways, "improved", lambda g, rows, judged, latent: judged)
    monkeypatch.setattr(gate_ways, "in_the_loop", lambda g, rows, seed: judged(SOUND))
    monkeypatch.setattr(gate_ways, "judge", lambda g, rows, labels: judged(LEAKING))
    monkeypatch.setattr(gate_ways, "with_larger_repairs", lambda g, factor: g)
    return drawn


def test_each_way_begins_with_the_first_sample(rejected_once):
    rows = pd.DataFrame({"subject": ["arm-00003"], "constrained": [""]})
    sampler = gate_ways.Sampler(None, None, None, GuidanceSettings())
    found = pd.DataFrame(gate_ways.ways(sampler, rows, seed=7)).set_index("way")
    assert found["passes"].to_dict() == {
        "repairs": False, "repairs x4": False, "repairs x16": False, "repairs x64": False,
        "attempts": True, "steps": False, "restarts": True, "loop": True,
    }  # fmt: skip
    assert len(rejected_once) == 2 == len(set(rejected_once)), "the third attempt was not needed"
    costs = found["cpu_seconds"]
    assert costs["repairs"] == costs["repairs x64"]
    assert costs[["attempts", "steps", "restarts"]].min() >= costs["repairs"]


def test_the_table_has_shares_intervals_and_costs_over_a_sample_alone():
    samples = pd.DataFrame(
        {
            "arm": "six", "subject": ["a", "b"] * 2, "way": ["repairs"] * 2 + ["restarts"] * 2,
            "passes": [True, False, True, True], "cpu_seconds": [4.0, 4.0, 4.0, 8.0],
            "volume": [1.0, 50.0, 1.0, 3.0], "centroid": [0.1, 9.0, 0.1, 0.3],
        }
    )  # fmt: skip
    table = gate_ways.summary(samples).set_index("way")
    assert table["share"].to_dict() == {"repairs": 0.5, "restarts": 1.0}
    assert table["cost"].to_dict() == {"repairs": 1.0, "restarts": 1.5}
    assert table.loc["repairs", "volume_percent"] == 1.0, "errors are of samples that pass"
    assert table.loc["restarts", "centroid_mm"] == pytest.approx(0.2)
    low, high = table.loc["restarts", ["low", "high"]]
    assert low < 0.5 < high == 1.0
    assert len(gate_ways.figure(table.reset_index()).axes) == 1
