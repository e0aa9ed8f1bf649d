"""Moments against analytic truths, torch against numpy, round trips of vector, columns, ellipsoid."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy.labels import Grid
from cardiocohort.anatomy.moments import (
    MOMENT_COLUMNS,
    Moments,
    from_columns,
    from_ellipsoid,
    from_vector,
    measure,
    measure_labels,
    to_columns,
    to_ellipsoid,
    to_vector,
)

GRID = Grid((72, 80, 76), 2.0)


def ellipsoid_occupancy(grid: Grid, centre, semi_axes, rotation) -> np.ndarray:
    x = np.stack(np.meshgrid(*grid.axes_mm(), indexing="ij"), axis=-1) - centre
    return (np.sum((x @ rotation / semi_axes) ** 2, axis=-1) <= 1.0).astype(float)


def random_moments(rng: np.random.Generator, shape: tuple[int, ...]) -> Moments:
    root = rng.standard_normal((*shape, 3, 3)) * 10.0
    covariance = root @ np.swapaxes(root, -1, -2) + 5.0 * np.eye(3)
    return Moments(rng.uniform(5.0, 300.0, shape), rng.uniform(-60.0, 60.0, (*shape, 3)), covariance)


def assert_same(a: Moments, b: Moments, rtol=1e-9) -> None:
    np.testing.assert_allclose(a.volume_ml, b.volume_ml, rtol=rtol)
    np.testing.assert_allclose(a.centroid_mm, b.centroid_mm, rtol=rtol, atol=1e-9)
    np.testing.assert_allclose(a.covariance_mm2, b.covariance_mm2, rtol=rtol, atol=1e-8)


@pytest.mark.parametrize("vector_deg", [(0, 0, 0), (40, 0, 0), (25, -50, 110)])
def test_solid_ellipsoid_has_its_analytic_moments(vector_deg):
    centre, semi_axes = np.array([6.3, -8.1, 3.7]), np.array([18.0, 28.0, 42.0])
    rotation = Rotation.from_rotvec(vector_deg, degrees=True).as_matrix()
    expected = from_ellipsoid(centre, semi_axes, rotation)
    measured = measure(ellipsoid_occupancy(GRID, centre, semi_axes, rotation), GRID.axes_mm())
    assert expected.volume_ml == pytest.approx(4 / 3 * np.pi * 18 * 28 * 42 / 1000)
    assert measured.volume_ml == pytest.approx(expected.volume_ml, rel=3e-3)
    np.testing.assert_allclose(measured.centroid_mm, centre, atol=0.05)
    np.testing.assert_allclose(measured.shape, expected.shape, atol=2e-3)
    assert measured.scale_mm2 == pytest.approx(expected.scale_mm2, rel=3e-3)


def test_box_has_the_exact_variance_of_its_voxel_centres():
    occupancy = np.zeros(GRID.shape)
    occupancy[10:20, 30:35, 40:60] = 1.0
    m = measure(occupancy, GRID.axes_mm())
    x, y, z = GRID.axes_mm()
    assert m.volume_ml == pytest.approx(10 * 5 * 20 * 8 / 1000)
    np.testing.assert_allclose(m.centroid_mm, [x[10:20].mean(), y[30:35].mean(), z[40:60].mean()])
    # n equal steps of h have variance h^2 (n^2 - 1) / 12
    np.testing.assert_allclose(
        m.covariance_mm2, np.diag([4 * (n**2 - 1) / 12 for n in (10, 5, 20)]), atol=1e-9
    )


def test_torch_agrees_with_numpy_and_has_the_right_gradient():
    rng = np.random.default_rng(0)
    small = Grid((9, 8, 10), 3.0)
    occupancy = rng.random((2, 3, *small.shape))
    expected = measure(occupancy, small.axes_mm())
    axes = tuple(torch.from_numpy(a) for a in small.axes_mm())
    tensor = torch.from_numpy(occupancy).requires_grad_()
    measured = measure(tensor, axes)
    for field in ("volume_ml", "centroid_mm", "covariance_mm2"):
        np.testing.assert_allclose(
            getattr(measured, field).detach(), getattr(expected, field), rtol=1e-12, atol=1e-12
        )
    one = tensor.detach()[0, 0, :4, :4, :4].clone().requires_grad_()
    short = tuple(a[:4] for a in axes)
    assert torch.autograd.gradcheck(lambda p: measure(p, short).covariance_mm2, (one,))


def test_empty_structure_is_zero_with_finite_gradients():
    occupancy = torch.zeros(GRID.shape, dtype=torch.float64, requires_grad=True)
    m = measure(occupancy, tuple(torch.from_numpy(a) for a in GRID.axes_mm()))
    (m.volume_ml + m.centroid_mm.sum() + m.covariance_mm2.sum()).backward()
    assert m.volume_ml == 0
    assert not m.centroid_mm.any()
    assert not m.covariance_mm2.any()
    assert torch.isfinite(occupancy.grad).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_pooled_grid_agrees_with_the_fine_one(factor):
    """Blocks wholly in or out: with the correction the coarse measurement is exact, without it not."""
    grid = Grid((24, 32, 28), 2.0)
    rng = np.random.default_rng(factor)
    coarse = (rng.random([n // factor for n in grid.shape]) < 0.2).astype(float)
    fine = coarse.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    truth = measure(fine, grid.axes_mm())
    assert_same(measure(coarse, grid.axes_mm(factor), refinement=factor), truth)
    uncorrected = measure(coarse, grid.axes_mm(factor)).covariance_mm2
    missing = np.diag(truth.covariance_mm2 - uncorrected)
    np.testing.assert_allclose(missing, (factor**2 - 1) * 4.0 / 12.0)


def test_measure_labels_takes_structures_and_unions():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[1:4, 1:4, 1:4], labels[5:9, 5:9, 5:9] = 1, 2
    axes = Grid((10, 10, 10), 1.0).axes_mm()
    m = measure_labels(labels, [(1,), (2,), (1, 2)], axes)
    np.testing.assert_allclose(m.volume_ml, [0.027, 0.064, 0.091])
    np.testing.assert_allclose(m.centroid_mm[2], (27 * m.centroid_mm[0] + 64 * m.centroid_mm[1]) / 91)


def test_vector_round_trip():
    m = random_moments(np.random.default_rng(1), (5, 4))
    assert_same(from_vector(to_vector(m)), m)


@given(arrays(float, (3, 10), elements=st.floats(-3.0, 3.0)))
@settings(max_examples=50, deadline=None)
def test_any_vector_is_a_valid_moment_set(vector):
    m = from_vector(vector)
    assert (m.volume_ml > 0).all()
    assert (np.linalg.eigvalsh(m.covariance_mm2) > 0).all()
    np.testing.assert_allclose(to_vector(m), vector, atol=1e-6)


def test_vector_separates_scale_from_form():
    """Scaling S moves log tr S alone; turning S leaves log V, C and log tr S alone."""
    m = random_moments(np.random.default_rng(2), ())
    v = to_vector(m)
    scaled = to_vector(Moments(m.volume_ml, m.centroid_mm, m.covariance_mm2 * 2.5))
    np.testing.assert_allclose(scaled - v, np.eye(10)[4] * np.log(2.5), atol=1e-9)
    r = Rotation.from_rotvec([0.3, -0.4, 0.9]).as_matrix()
    turned = to_vector(Moments(m.volume_ml, m.centroid_mm, r @ m.covariance_mm2 @ r.T))
    np.testing.assert_allclose(turned[:5], v[:5], atol=1e-9)
    assert np.abs(turned[5:] - v[5:]).max() > 0.01


def test_columns_round_trip_and_have_the_contract_names():
    m = random_moments(np.random.default_rng(3), (7,))
    columns = to_columns(m)
    assert tuple(columns) == MOMENT_COLUMNS
    np.testing.assert_array_equal(columns["covariance_xz_mm2"], m.covariance_mm2[:, 0, 2])
    assert_same(from_columns(columns), m, rtol=1e-15)


def test_ellipsoid_round_trip():
    rng = np.random.default_rng(4)
    semi_axes = np.sort(rng.uniform(10.0, 50.0, (6, 3)), axis=-1)
    rotation = Rotation.random(6, rng=5).as_matrix()
    m = from_ellipsoid(rng.uniform(-20, 20, (6, 3)), semi_axes, rotation)
    centre, axes, frame = to_ellipsoid(m)
    np.testing.assert_allclose(axes, semi_axes)
    np.testing.assert_allclose(np.linalg.det(frame), 1.0)
    assert_same(from_ellipsoid(centre, axes, frame), m)
