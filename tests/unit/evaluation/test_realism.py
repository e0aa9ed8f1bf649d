"""Figures of realism, on distributions whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy.label_map import write_label_map
from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.anatomy.moments import Moments, from_ellipsoid
from cardiocohort.evaluation import chamfer, features, intervals, realism, realism_table
from cardiocohort.evaluation.samples import Hearts
from cardiocohort.runtime.artifacts import sha256

SPHERES = Anatomy(("left", "right"), ("left", "right"))
GRID = Grid((40, 40, 40), 2.0)


def gaussians(n, seed=0):
    """Samples of two Gaussians in three dimensions that do not commute, and their exact distance."""
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((3, 3)) for _ in range(2))
    c1, c2, shift = a @ a.T + np.eye(3), b @ b.T + np.eye(3), np.array([1.0, -2.0, 0.5])
    exact = shift @ shift + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    return rng.multivariate_normal(np.zeros(3), c1, n), rng.multivariate_normal(shift, c2, n), exact


def test_frechet_distance_of_two_gaussians():
    samples, real, exact = gaussians(200_000)
    assert realism.frechet_distance(samples, real) == pytest.approx(exact, rel=0.01)


def test_frechet_distance_has_the_closed_form_in_one_dimension():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 2, (50, 1)), rng.normal(3, 5, (70, 1))
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert realism.frechet_distance(x, y) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_frechet_distance_is_symmetric_and_blind_to_rotations(seed):
    """With more dimensions than samples too, where covariances are singular."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((6, 9)), 0.3 + 2 * rng.standard_normal((7, 9))
    turn = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    found = realism.frechet_distance(x, y)
    assert found == pytest.approx(realism.frechet_distance(y, x), rel=1e-6)
    assert found == pytest.approx(realism.frechet_distance(x @ turn, y @ turn), rel=1e-6)
    assert realism.frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


def figures(samples, real):
    cross = cdist(samples, real)
    own, theirs = cdist(samples, samples), cdist(real, real)
    return {
        "precision": realism.precision(cross, theirs),
        "recall": realism.recall(cross, own),
        "mmd": realism.minimum_matching_distance(cross),
        "coverage": realism.coverage(cross),
        "one_nna": realism.one_nna(own, cross, theirs),
    }


def test_a_set_against_itself():
    """Copies: every one in the manifold and matched at no distance; 1-NNA reveals the copying."""
    real = np.random.default_rng(0).standard_normal((60, 4))
    assert figures(real, real) == {"precision": 1, "recall": 1, "mmd": 0, "coverage": 1, "one_nna": 0}


def test_sets_that_are_apart():
    rng = np.random.default_rng(0)
    found = figures(rng.standard_normal((50, 4)) + 100, rng.standard_normal((50, 4)))
    assert found["mmd"] == pytest.approx(200, rel=0.05)
    assert found["coverage"] <= 4 / 50
    assert (found["precision"], found["recall"], found["one_nna"]) == (0, 0, 1)


def test_two_sets_of_one_distribution_cannot_be_distinguished():
    rng = np.random.default_rng(0)
    found = [figures(rng.standard_normal((100, 3)), rng.standard_normal((100, 3))) for _ in range(20)]
    assert np.mean([f["one_nna"] for f in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([f["precision"] for f in found]) == pytest.approx(
        np.mean([f["recall"] for f in found]), abs=0.03
    )


def test_precision_and_recall_tell_a_narrow_set_from_a_wide_one():
    """Samples of one of the data's two clusters are all real, and miss half of what is."""
    rng = np.random.default_rng(0)
    real = rng.standard_normal((200, 2)) + np.repeat([[0.0, 0.0], [50.0, 0.0]], 100, axis=0)
    narrow = rng.standard_normal((200, 2))
    found = figures(narrow, real)
    assert found["precision"] > 0.9
    assert found["recall"] == pytest.approx(0.5, abs=0.05)
    turned = figures(real, narrow)
    assert turned["precision"] == found["recall"]


def test_precision_counts_who_lies_in_some_ball():
    """On a line: real 0, 1, 2, 10 with k = 1 have radii 1, 1, 1, 8."""
    real, samples = np.array([[0.0], [1], [2], [10]]), np.array([[-1.5], [-0.9], [2.9], [18.5]])
    cross, within = cdist(samples, real), cdist(real, real)
    assert realism.precision(cross, within, k=1) == 0.5
    with pytest.raises(ValueError, match="neighbour"):
        realism.precision(cross, within, k=4)


def test_sets_of_different_sizes_have_no_one_nna():
    with pytest.raises(ValueError, match="one size"):
        realism.one_nna(np.zeros((3, 3)), np.zeros((3, 4)), np.zeros((4, 4)))


def spheres(radius_left, radius_right, shift=0.0):
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    labels = np.zeros(GRID.shape, np.uint8)
    labels[(x + 18) ** 2 + (y - shift) ** 2 + z**2 < radius_left**2] = 1
    labels[(x - 18) ** 2 + (y - shift) ** 2 + z**2 < radius_right**2] = 2
    return labels


def test_points_lie_on_the_surface_and_all_around_it():
    points = chamfer.surface_points(spheres(15, 10), SPHERES, GRID)
    assert points.shape == (2, chamfer.POINTS, 3)
    for cloud, centre, radius in zip(points, ([-18, 0, 0], [18, 0, 0]), (15, 10), strict=True):
        away = np.linalg.norm(cloud - centre, axis=1)
        assert (radius - 3 < away).all()
        assert (away < radius).all()
        assert np.abs(cloud.mean(axis=0) - centre).max() < 1.0
        # evenly: the widest gap between neighbours is not many times the mean
        gaps = np.sort(cdist(cloud, cloud), axis=1)[:, 1]
        assert gaps.max() < 3 * gaps.mean()


def test_chamfer_distance_of_concentric_spheres():
    small, large = (chamfer.surface_points(spheres(r, 10), SPHERES, GRID, 800)[:1] for r in (10, 16))
    found = chamfer.chamfer(small[None], large[None])[0, 0]
    assert found == pytest.approx(6, abs=0.8)  # points lie some tenths of a millimetre off the radial
    assert chamfer.chamfer(small[None], small[None])[0, 0] == pytest.approx(0, abs=1e-3)


def test_chamfer_distance_is_a_mean_over_structures():
    a = np.array([[[[0.0, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]]])
    b = np.array([[[[0.0, 0, 0], [0, 0, 0]], [[0, 3, 0], [0, 3, 0]]]])
    # first structure: (0 + 1) / 2 there, 0 back; second: 3 there, 3 back
    assert chamfer.chamfer(a, b) == pytest.approx(np.array([[(0.25 + 3) / 2]]), abs=1e-6)
    assert chamfer.chamfer(b, a) == pytest.approx(chamfer.chamfer(a, b).T)


def test_many_clouds_are_compared_as_few_are(monkeypatch):
    a, b = np.random.default_rng(0).normal(0, 20, (2, 7, 2, 16, 3))
    whole = chamfer.chamfer(a, b)
    monkeypatch.setattr(chamfer, "TOGETHER", 3)
    assert chamfer.chamfer(a, b) == pytest.approx(whole)


def test_of_ten_thousand_hearts_the_first_are_compared(tmp_path, monkeypatch):
    """Of the others not even the label maps are opened: there are none."""
    monkeypatch.setattr(realism_table, "MOST", 20)
    path = tmp_path / "heart.nii.gz"
    write_label_map(path, spheres(12, 9), GRID)
    listed = ((str(path), path.stat().st_size, sha256(path)),) * 20 + (("gone.nii.gz", 1, "0"),) * 9_980
    rng = np.random.default_rng(0)

    def hearts():
        found = from_ellipsoid(
            rng.normal(0, 5, (10_000, 2, 3)), rng.uniform(8, 20, (10_000, 2, 3)), np.eye(3)
        )
        return Hearts(found, np.ones(10_000, bool), listed)

    found = realism_table.table({}, {"targets": hearts(), "reference": hearts()}, SPHERES, GRID, 10, 1)
    assert found["n"].tolist() == [20]
    assert np.isfinite(found[["fd", "precision", "one_nna"]].to_numpy()).all()


def test_an_absent_structure_has_no_surface():
    labels = spheres(15, 10)
    labels[labels == 2] = 0
    with pytest.raises(ValueError, match="right"):
        chamfer.surface_points(labels, SPHERES, GRID)


def test_features_are_standardised_and_incomplete_hearts_named():
    rng = np.random.default_rng(0)
    turns = Rotation.from_rotvec(rng.normal(0, 0.3, (40, 2, 3)).reshape(-1, 3)).as_matrix()
    axes = rng.uniform(8, 20, (40, 2, 3))
    hearts = from_ellipsoid(rng.normal(0, 5, (40, 2, 3)), axes, turns.reshape(40, 2, 3, 3))
    own = features.vectors(hearts)
    assert own.shape == (40, 18)
    assert own[:, 0] == pytest.approx(np.log(4 / 3 * np.pi * axes[:, 0].prod(axis=1) / 1000))
    scaled = features.standardise(own, own)
    assert scaled.mean(axis=0) == pytest.approx(0)
    assert scaled.std(axis=0, ddof=1) == pytest.approx(1)
    volume = hearts.volume_ml.copy()
    volume[3, 1] = 0.0
    covariance = hearts.covariance_mm2.copy()
    covariance[5, 0, 2] = covariance[5, 0, :, 2] = 0.0  # a sheet
    broken = features.complete(Moments(volume, hearts.centroid_mm, covariance))
    assert np.flatnonzero(~broken).tolist() == [3, 5]


@pytest.mark.parametrize("kind", ["halves", "bootstrap"])
def test_an_interval_holds_the_truth_nineteen_times_in_twenty(kind):
    """Of a mean: both kinds of resampling, about the estimate; 400 data sets of 60."""
    rng, held = np.random.default_rng(0), 0
    draw = intervals.halves if kind == "halves" else intervals.bootstrap_rows
    for trial in range(400):
        values = rng.exponential(1.0, 60) if trial % 2 else rng.normal(1.0, 2.0, 60)
        means = np.array([values[rows].mean() for rows in draw(60, 300, trial)])
        low, high = intervals.around(values.mean(), means)
        held += low <= 1.0 <= high
    assert 0.90 <= held / 400 <= 0.98


def test_of_the_larger_set_as_many_are_halved_as_are_compared(monkeypatch):
    """Halves of all hundred, cut to eight, would vary as the mean of eight of a hundred does."""
    drawn = []

    def recorded(_, rows, reference):
        drawn.append((rows, reference))
        return np.zeros(len(realism_table.FIGURES))

    monkeypatch.setattr(realism_table, "figures", recorded)
    compared = SimpleNamespace(indices=np.arange(16), real=np.zeros((100, 2)))
    realism_table.resampled(compared, 16, 5, 1)
    whole, *again = drawn
    assert [len(rows) for rows in whole] == [16, 100]  # `figures` cuts them
    for rows, reference in again:
        assert len(set(rows)) == len(set(reference)) == 8
        assert max(reference) < 16


def test_pairs_are_resampled_together():
    a = [rows.tolist() for rows in intervals.halves(20, 5, 3)]
    assert a == [rows.tolist() for rows in intervals.halves(20, 5, 3)]
    assert all(len(set(rows)) == 10 for rows in a)
    assert a != [rows.tolist() for rows in intervals.halves(20, 5, 4)]


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [(0, 10, (0, 0.278)), (10, 10, (0.722, 1)), (5, 10, (0.237, 0.763))],
)
def test_wilson_interval(successes, n, expected):
    """Values of the published formula, to three digits."""
    assert intervals.wilson(successes, n) == pytest.approx(expected, abs=1e-3)


def test_intervals_of_quantiles():
    """Of a normal distribution: standard errors 1.253 and 2.11 / sqrt(n) of median and 95th percentile.
    Quantiles are numpy's, over what is finite.
    """
    widths = []
    for seed in range(20):
        values = np.random.default_rng(seed).normal(3, 1, (1000, 1))
        found, ends = intervals.quantile_intervals(values, (0.5, 0.95), 200, seed=1)
        assert found == pytest.approx([np.median(values), np.quantile(values, 0.95)])
        assert (ends[:, 0] <= found).all()
        assert (ends[:, 1] >= found).all()
        widths.append(np.diff(ends, axis=1)[:, 0])
    expected = 2 * 1.96 / np.sqrt(1000) * np.array([1.253, 2.11])
    assert np.mean(widths, axis=0) == pytest.approx(expected, rel=0.15)
    gaps = np.where(np.random.default_rng(1).random((30, 7)) < 0.3, np.nan, np.arange(210.0).reshape(30, 7))
    gaps[3] = np.nan
    expected = np.nanquantile(gaps[[0, 1, 2, 4]], (0.2, 0.5), axis=1).T
    assert intervals.quantiles(gaps[[0, 1, 2, 4]], (0.2, 0.5)) == pytest.approx(expected)
    assert np.isnan(intervals.quantiles(gaps[[3]], (0.5,))).all()


def test_a_difference_of_shares_is_that_of_pairs():
    """Two arms that fail on the same samples do not differ, however uncertain either share is."""
    a = np.random.default_rng(0).random(50) < 0.6
    assert intervals.difference_interval(a, a, 200, seed=1) == (0, 0)
    low, high = intervals.difference_interval(a, ~a, 200, seed=1)
    assert low < 2 * a.mean() - 1 < high
    assert high - low == pytest.approx(2 * 1.96 * 2 * np.sqrt(a.mean() * (1 - a.mean()) / 50), rel=0.3)


@pytest.mark.parametrize("n", [7, 10, 20, 100])
def test_wilson_interval_holds_the_share_itself(n):
    """To the last bit: charts draw the interval as distances from the share, and refuse negative ones."""
    for successes in range(n + 1):
        low, high = intervals.wilson(successes, n)
        assert 0 <= low <= successes / n <= high <= 1
