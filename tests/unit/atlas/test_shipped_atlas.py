"""The shipped atlas of 22 hearts: it loads, its template and random hearts pass the gate, nothing folds."""

import numpy as np
import pytest

from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.atlas import flow, model
from heart_anatomy import HEART, HEART_GRID, RESOURCES

RULES = topology.load_rules(RESOURCES / "anatomies/heart/topology.tsv", HEART)
FILE = RESOURCES / "atlas/heart.safetensors"


@pytest.fixture(scope="module")
def shipped():
    return model.load(FILE, HEART, HEART_GRID)


def test_it_is_small_and_says_whose_hearts_it_is_made_of(shipped):
    shape, card = shipped
    assert FILE.stat().st_size < 4e6
    assert len(card["hearts"]) == 22
    assert len(shape.variances) == 21
    assert "T2_rodero2021_case01" not in card["hearts"]  # the same person as s00


def test_its_template_passes_the_gate(shipped):
    shape, _ = shipped
    assert topology.examine(shape.template, HEART_GRID.spacing_mm, HEART, RULES).reasons == ()
    measured = moments.measure_labels(shape.template, [tuple(range(1, 6))], HEART_GRID.axes_mm())
    assert np.abs(measured.centroid_mm).max() < 1.0


def test_random_hearts_do_not_fold_and_are_hearts(shipped):
    """As users' maps: a vessel that runs into the field's border is no fault here."""
    shape, _ = shipped
    drawer, cells = model.Drawer(shape, HEART, HEART_GRID), flow.Lattice.of(HEART_GRID, 2)
    rules = RULES.for_scans(range(1, 11))
    accepted = 0
    for seed in range(8):
        coefficients = shape.draw(np.random.default_rng(seed))
        assert float(flow.jacobian(shape.displacement(coefficients, HEART_GRID), cells).min()) > 0
        labels = drawer.labels(coefficients)
        accepted += topology.judge(labels, HEART_GRID.spacing_mm, HEART, rules)[2].accepted
    assert accepted >= 6
