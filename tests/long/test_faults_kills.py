"""Kills at random moments of the whole workflow: of all of it, of Snakemake, of scripts, of their children.

The suite makes a handful; `KILLS=50 python -m pytest tests/test_faults_kills.py` (half an hour) makes fifty,
each at a moment and of a victim that its seed decides.
"""

import os
from collections import Counter

import numpy as np
import pytest

import killed_runs

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("KILLS_SEED", "1"))
SHARE = {"tiny": 0.8, "heart": 0.2}  # of the kills


@pytest.mark.long
@pytest.mark.parametrize("name", SHARE)
def test_a_trial_killed_at_random_ends_as_undisturbed(name, tmp_path):
    wanted, seconds = killed_runs.undisturbed(tmp_path / "undisturbed", name)
    rng = np.random.default_rng([SEED, *name.encode()])
    kills, projects = [], 0
    while len(kills) < round(KILLS * SHARE[name]):
        project = killed_runs.MAKERS[name](tmp_path / f"project{projects}")
        most = round(KILLS * SHARE[name]) - len(kills)
        kills += killed_runs.kill_until_it_ends(project, name, seconds, rng, wanted, most)
        projects += 1
        assert killed_runs.tiny_cohort.results(project) == wanted
    print(f"\n{len(kills)} kills of {projects} runs of {name}, {seconds:.0f} s each undisturbed")
    print("victims:", dict(Counter(kill.victim for kill in kills)))
    print("rules at work:", dict(Counter(kill.rule or "none" for kill in kills)))
