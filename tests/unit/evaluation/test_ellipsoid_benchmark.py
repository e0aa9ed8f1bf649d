"""Hearts whose moments are known: formulas against voxels, the grid of targets, errors against exact ones."""

from pathlib import Path

import numpy as np
import pytest

from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.anatomy.labels import Grid
from cardiocohort.evaluation.ellipsoid_benchmark import grid as ellipsoid_grid
from cardiocohort.evaluation.ellipsoid_benchmark import hearts as ellipsoid_hearts
from cardiocohort.topology import load_rules

RULES = Path(__file__).resolve().parents[3] / "resources/topology/ellipsoids.tsv"
FINE = Grid((96, 96, 96), 1.5)
LABELS = [(1,), (2,), (3,)]


@pytest.mark.parametrize("seed", range(4))
def test_moments_are_those_of_the_voxels(seed):
    heart = ellipsoid_hearts.draw(np.random.default_rng(seed))
    exact = ellipsoid_hearts.moments_of(heart)
    measured = moments.measure_labels(ellipsoid_hearts.labels_of(heart, FINE), LABELS, FINE.axes_mm())
    assert measured.volume_ml == pytest.approx(exact.volume_ml, rel=0.01)
    assert measured.centroid_mm == pytest.approx(exact.centroid_mm, abs=0.1)
    assert measured.shape == pytest.approx(exact.shape, abs=0.004)
    assert measured.scale_mm2 == pytest.approx(exact.scale_mm2, rel=0.01)


def test_hearts_pass_their_gate_and_fit_the_field():
    rules = load_rules(RULES, ellipsoid_hearts.ANATOMY)
    for seed in range(20):
        labels = ellipsoid_hearts.labels_of(ellipsoid_hearts.draw(np.random.default_rng([1, seed])))
        assert topology.examine(
            labels, ellipsoid_hearts.GRID.spacing_mm, ellipsoid_hearts.ANATOMY, rules
        ).accepted
        edges = np.concatenate([np.take(labels, [0, -1], axis).ravel() for axis in range(3)])
        assert not edges.any()
    labels[labels == ellipsoid_hearts.ANATOMY.label("wall")] = 0
    assert not topology.examine(
        labels, ellipsoid_hearts.GRID.spacing_mm, ellipsoid_hearts.ANATOMY, rules
    ).accepted


def test_targets_differ_from_the_mean_as_their_place_says():
    points = ellipsoid_grid.places(5, 4.0)
    assert len(points) == 2 * 25
    wanted = dict(zip(points, ellipsoid_grid.targets(points), strict=True))

    def cavity(plane, first, second):
        rows = wanted[ellipsoid_grid.Place(plane, first, second)]
        assert list(rows["constrained"]) == ["", "size,position,shape", ""]
        return moments.from_columns(rows)[1]

    mean, moved = cavity("size and place", 0.0, 0.0), cavity("size and place", 2.0, -4.0)
    assert np.log(moved.volume_ml / mean.volume_ml) == pytest.approx(
        2 * np.sqrt(3) * ellipsoid_hearts.LOG_SPREAD
    )
    assert moved.centroid_mm - mean.centroid_mm == pytest.approx([-4 * ellipsoid_hearts.PLACE_MM, 0, 0])
    assert moved.shape == pytest.approx(mean.shape)
    longer = cavity("size and elongation", 0.0, 4.0)
    assert longer.volume_ml == pytest.approx(mean.volume_ml)
    ratio = longer.covariance_mm2[0, 0] / mean.covariance_mm2[0, 0]
    assert np.log(ratio) == pytest.approx(2 * 4 * ellipsoid_hearts.LOG_SPREAD)


def test_the_unit_of_size_is_the_spread_of_training():
    volumes = [
        ellipsoid_hearts.moments_of(ellipsoid_hearts.draw(np.random.default_rng(seed))).volume_ml[1]
        for seed in range(1500)
    ]
    assert np.std(np.log(volumes)) == pytest.approx(np.sqrt(3) * ellipsoid_hearts.LOG_SPREAD, rel=0.06)


def test_errors_are_measured_against_the_exact_target():
    """A record whose cavity is a tenth larger and 5 mm off; one without a cavity; one that was refused."""
    points = ellipsoid_grid.places(2, 1.0)[:3]
    wanted = ellipsoid_grid.targets(points)
    columns = {name: wanted[0][name].to_numpy().copy() for name in moments.MOMENT_COLUMNS}
    columns["volume_ml"][1] *= 1.1
    columns["centroid_y_mm"][1] += 5
    gone = {name: values.copy() for name, values in columns.items()}
    gone["volume_ml"][1] = 0.0
    plain = {"verdict": "generated", "reason": "", "residuals": {"cavity.size": 0.6, "cavity.position": 2.0}}
    records = [
        plain | {"moments": columns, "reasons": []},
        plain | {"moments": gone, "reasons": ["components.cavity: 0, min 1"]},
        {"verdict": "failed", "reason": "target outside the prior", "detail": "cavity, volume"},
    ]
    found = ellipsoid_grid.table(points, records, wanted)
    columns = ["volume_error_percent", "centroid_error_mm", "shape_error", "residual_sd"]
    assert found.loc[0, columns].tolist() == pytest.approx([10, 5, 0, 2.0], abs=1e-9)
    assert found.loc[1:, ["volume_error_percent", "centroid_error_mm"]].isna().all(axis=None)
    assert found["gate"].tolist()[:2] == ["", "components.cavity: 0, min 1"]
    assert found["ended"].tolist() == ["", "", "target outside the prior: cavity, volume"]
