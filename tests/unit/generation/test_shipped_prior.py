"""The bundle that ships: whole, small, and steerable to targets on the written label maps."""

import json
from pathlib import Path

import numpy as np
import pytest

from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.cohort.table import read_cohort
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.generation import anatomies
from cardiocohort.population.plausibility import population_for
from cardiocohort.population.reference import read_reference
from cardiocohort.population.targets import drawn_targets
from cardiocohort.runtime import batch_runner
from heart_anatomy import HEART, HEART_GRID

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "resources/priors/small"
RULES = ROOT / "resources/topology/heart.tsv"


@pytest.fixture(scope="module")
def targets():
    """Two subjects of each arm of the demo."""
    reference = read_reference(BUNDLE / "reference_moments.parquet", HEART)
    frames = {}
    for arm in read_cohort(ROOT / "config/cohort.tsv", HEART):
        drawn = drawn_targets(arm, range(2), 1, population_for(arm, reference), 0.95)
        frames |= dict(iter(drawn.groupby("subject", sort=False)))
    return frames


def tasks_of(targets, names):
    return [
        batch_runner.Task(
            name,
            f"{name}.nii.gz",
            name,
            (targets[name].to_dict("records"), 1, *anatomies.arm_and_index(name), None),
        )
        for name in names
    ]


def generate(folder, targets, names, threads=1, steps=30, attempts=1):
    return batch_runner.run_batch(
        folder,
        tasks_of(targets, names),
        anatomies.work,
        threads,
        initializer=anatomies.open_generator,
        initargs=(str(BUNDLE), str(RULES), {"steps": steps}, attempts, "cpu"),
        group=anatomies.GROUP["cpu"],
    )


def test_the_bundle_is_whole_small_and_of_the_heart():
    assert sum(f.stat().st_size for f in BUNDLE.iterdir()) < 30e6
    prior = load_prior(BUNDLE, "cpu")
    assert (prior.anatomy, prior.grid) == (HEART, HEART_GRID)


def test_the_card_states_the_figures_of_these_weights():
    card = (BUNDLE / "CARD.md").read_text()
    figures = json.loads((BUNDLE / "card.json").read_text())
    assert json.loads((BUNDLE / "bundle.json").read_text())["weights_sha256"] == figures["weights_sha256"]
    for key in (key for key in figures if key.startswith("reconstruction_dice")):
        for structure, value in figures[key].items():
            row = next(line for line in card.splitlines() if line.startswith(f"| {structure} |"))
            assert f"{value:.3f}" in row
    assert f"{100 * figures['unguided_pass_share_after_repairs']:.0f} %" in card


def test_a_subject_does_not_depend_on_others_or_on_threads(tmp_path, targets):
    names = list(targets)
    alone = generate(tmp_path / "alone", targets, names[1:2], steps=6)
    among = generate(tmp_path / "among", targets, [names[2], names[1], names[0]], threads=2, steps=6)
    assert alone[0]["sha256"] == among[1]["sha256"]


@pytest.mark.long
def test_targets_are_met_on_the_written_label_maps(tmp_path, targets):
    """Bars of the first release: median volume error 5 %, centroid 1.5 mm, over constrained structures."""
    records = generate(tmp_path / "cohort", targets, list(targets), threads=2, attempts=3)
    volume, centroid, accepted = [], [], []
    rules = topology.load_rules(RULES, HEART)
    ventricle = {}
    for record in records:
        labels = read_label_map(tmp_path / "cohort" / record["file"], HEART).labels
        rows = targets[record["subject"]]
        rows = rows[rows["constrained"] != ""]
        wanted = moments.from_columns(rows)
        groups = [HEART.labels_of(name) for name in rows["structure"]]
        found = moments.measure_labels(labels, groups, HEART_GRID.axes_mm())
        volume.append(np.abs(found.volume_ml / wanted.volume_ml - 1))
        centroid.append(np.linalg.norm(found.centroid_mm - wanted.centroid_mm, axis=1))
        accepted.append(topology.examine(labels, 2.0, HEART, rules).accepted)
        own = found.volume_ml[list(rows["structure"]).index("left_ventricle")]
        ventricle.setdefault(record["subject"].rpartition("-")[0], []).append(own)
    assert np.median(volume) <= 0.05
    assert np.median(centroid) <= 1.5
    assert sum(accepted) >= 3
    assert 1.4 < np.mean(ventricle["dilated_cardiomyopathy"]) / np.mean(ventricle["healthy_women"]) < 3
