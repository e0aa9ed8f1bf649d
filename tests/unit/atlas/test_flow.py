"""Flows on a lattice: against maps that are known in closed form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.anatomy.labels import Grid
from cardiocohort.atlas import flow
from cardiocohort.atlas.flow import Lattice

GRID = Grid((32, 32, 32), 2.0)
CELLS = Lattice.of(GRID, 2)
INNER = (slice(None), *[slice(4, -4)] * 3)


def linear(matrix: np.ndarray) -> torch.Tensor:
    """The velocity x -> matrix x."""
    return torch.einsum("ij,jxyz->ixyz", torch.from_numpy(matrix).float(), CELLS.centres_mm)


def random_velocity(seed: int, spread_mm: float) -> torch.Tensor:
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, *CELLS.shape))).float()
    return flow.smoothed(noise * spread_mm, 2.5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-0.15, 0.15), min_size=9, max_size=9))
def test_the_flow_of_a_linear_velocity_is_its_matrix_exponential(entries):
    matrix = np.array(entries).reshape(3, 3)
    moved = CELLS.centres_mm + flow.exponential(linear(matrix), CELLS)
    exact = torch.matrix_exp(torch.from_numpy(matrix)).float()
    expected = torch.einsum("ij,jxyz->ixyz", exact, CELLS.centres_mm)
    assert float((moved - expected)[INNER].abs().max()) < 0.35  # mm, of 12 mm from the centre


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_flows_of_opposite_velocities_undo_each_other(seed):
    velocity = random_velocity(seed, 60)
    there, back = flow.exponential(velocity, CELLS), flow.exponential(-velocity, CELLS)
    both = there + flow.sample(back, CELLS.centres_mm + there, CELLS, border=True)
    assert float(there.norm(dim=0).max()) > 2.0
    assert float(both[INNER].norm(dim=0).max()) < 0.2 * CELLS.spacing_mm  # what trilinear samples lose


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_flows_do_not_fold(seed):
    """Of velocities half as steep as above, where 3 % of the sampled flows fold: callers check that."""
    there = flow.exponential(random_velocity(seed, 25), CELLS)
    assert float(flow.jacobian(there, CELLS).min()) > 0


def test_the_jacobian_of_a_linear_map_is_its_determinant():
    matrix = np.array([[0.1, 0.2, 0.0], [0.0, -0.1, 0.1], [0.05, 0.0, 0.2]])
    found = flow.jacobian(linear(matrix), CELLS)
    expected = np.linalg.det(np.eye(3) + matrix)
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=1e-3, atol=0)


def test_a_fold_has_a_negative_jacobian():
    assert float(flow.jacobian(linear(np.diag([-2.0, 0.0, 0.0])), CELLS).max()) < 0


def test_samples_at_the_cells_are_the_values_of_the_cells():
    volume = torch.randn(3, *CELLS.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(flow.sample(volume, CELLS.centres_mm, CELLS), volume, rtol=0, atol=1e-4)


def test_smoothing_keeps_constants_and_the_sum_of_a_point():
    constant = torch.full((2, *CELLS.shape), 3.0)
    torch.testing.assert_close(flow.smoothed(constant, 1.5), constant)
    point = torch.zeros(1, *CELLS.shape)
    point[0, 8, 8, 8] = 1.0
    assert float(flow.smoothed(point, 1.0).sum()) == pytest.approx(1.0, rel=1e-4)
