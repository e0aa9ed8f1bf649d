"""Mean thickness of a wall against plates and shells of known thickness, and against distances on voxels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cardiocohort.anatomy import domains
from cardiocohort.anatomy.domains import Domain
from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.anatomy.moments import measure
from cardiocohort.anatomy.thickness import cut_off, mean_thickness_mm, measured_in, opposed
from cardiocohort.diffusion.networks import REFINEMENT
from cardiocohort.runtime.errors import InputError
from wall_distances import mean_by_distances

GRID = Grid((64, 64, 64), 2.0)
AXES = GRID.axes_mm()
X, Y, Z = np.meshgrid(*AXES, indexing="ij")
POINTS = np.stack([X, Y, Z], axis=-1)
DIRECTION = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)
EVERYWHERE = np.ones(GRID.shape)


def shell(inner_mm: float, thickness_mm: float, centre=(0.0, 0.0, 0.0)) -> np.ndarray:
    r = np.linalg.norm(POINTS - np.array(centre), axis=-1)
    return (r >= inner_mm) & (r < inner_mm + thickness_mm)


def of_shell(inner_mm: float, thickness_mm: float) -> float:
    """2 V / S of a whole shell."""
    a, b = inner_mm, inner_mm + thickness_mm
    return 2.0 / 3.0 * (b**3 - a**3) / (a**2 + b**2)


def measured(wall: np.ndarray, weights: np.ndarray) -> float:
    return measured_in(wall, weights, GRID.spacing_mm, REFINEMENT)


def on_cells(field: np.ndarray) -> np.ndarray:
    n = np.array(field.shape) // REFINEMENT
    blocks = field.astype(float).reshape(n[0], REFINEMENT, n[1], REFINEMENT, n[2], REFINEMENT)
    return blocks.mean(axis=(1, 3, 5))


@settings(max_examples=6, deadline=None)
@given(DIRECTION, st.floats(8, 20), st.floats(-3, 3))
def test_a_plate_which_way_ever_it_lies(way, thickness, offset):
    """Its ends lie outside the domain, whose faces are no sides of it."""
    way = np.array(way) / np.linalg.norm(way)
    # shares of voxels, since voxels themselves would put a side off by up to half of one
    plate = np.clip(0.5 + (thickness / 2 - np.abs(POINTS @ way - offset)) / GRID.spacing_mm, 0.0, 1.0)
    r = 26.0
    ball = domains.place(
        Domain(frame="heart", form="sphere", centre=[0, 0, 0], radius=r), domains.HEART, GRID
    )
    # of a ball that a plate cuts: it weighs the middle of the plate more than its sides
    volume = r**2 * thickness - thickness**3 / 12 - offset**2 * thickness
    exact = volume / (r**2 - thickness**2 / 4 - offset**2)
    # two cells thick and across their diagonal, where the sides come closest, it is 9 % too thick
    assert measured(plate, ball.weights(AXES)) == pytest.approx(exact, rel=0.1)


@settings(max_examples=6, deadline=None)
@given(st.floats(14, 30), st.floats(8, 20), st.tuples(*[st.floats(-2, 2)] * 3))
def test_a_shell_wherever_it_lies(inner, thickness, centre):
    wall = shell(inner, thickness, centre)
    assert measured(wall, EVERYWHERE) == pytest.approx(of_shell(inner, thickness), rel=0.03)


@pytest.mark.parametrize("thickness", [8.0, 12.0, 18.0])
def test_distances_on_voxels_agree(thickness):
    """In a box that holds part of the shell, as the septum's."""
    wall = shell(24.0, thickness)
    box = Domain(frame="heart", form="box", centre=[24 + thickness / 2, 0, 0], size=[40, 30, 34])
    weights = domains.place(box, domains.HEART, GRID).weights(AXES)
    found = measured(wall, weights)
    r = np.linalg.norm(POINTS, axis=-1)
    distances = mean_by_distances(wall, (r < 24.0, r >= 24.0 + thickness), weights, GRID.spacing_mm)
    assert distances == pytest.approx(thickness, abs=0.4)
    assert found == pytest.approx(thickness, abs=0.5)


def test_a_wall_that_varies_has_its_mean():
    """A plate of 8 mm, of 16 mm in half of the domain: 12 mm on average over its area."""
    plate = np.abs(X) < np.where(Y < 0, 4, 8)
    box = Domain(frame="heart", form="box", centre=[0, 0, 0], size=[60, 60, 60])
    weights = domains.place(box, domains.HEART, GRID).weights(AXES)
    step = 60 * 8 / (2 * 60 * 60)  # the step between the halves is area too
    assert measured(plate, weights) == pytest.approx(12 / (1 + step), rel=0.04)


def test_numpy_and_torch_run_the_same_lines():
    wall = np.stack([on_cells(shell(20.0, thickness)) for thickness in (8.0, 14.0)])
    weights = np.stack([on_cells(EVERYWHERE)] * 2)
    found = mean_thickness_mm(torch.tensor(wall), torch.tensor(weights), 4.0)
    np.testing.assert_allclose(found.numpy(), mean_thickness_mm(wall, weights, 4.0), rtol=1e-9)


def test_a_gradient_step_thickens_the_wall_and_stays_in_the_domain():
    wall = on_cells(shell(24.0, 10.0))
    soft = torch.tensor(ndimage.gaussian_filter(wall, 0.7)).clamp(1e-3, 1 - 1e-3)
    logits = torch.log(soft / (1 - soft)).requires_grad_(True)
    half = domains.place(
        Domain(frame="heart", form="half_space", axis=[1, 0, 0], low=0.0), domains.HEART, GRID
    )
    weights = torch.tensor(on_cells(half.weights(AXES)))
    thickness = mean_thickness_mm(logits.sigmoid(), weights, 4.0)
    (gradient,) = torch.autograd.grad(thickness, logits)
    beyond = torch.tensor(on_cells(half.weights(AXES)) == 0)
    beyond &= torch.roll(beyond, 1, 0) & torch.roll(beyond, -1, 0)
    assert not gradient[beyond].any()
    step = 0.5 / (gradient**2).sum()
    after = mean_thickness_mm((logits + step * gradient).sigmoid(), weights, 4.0)
    assert float((after - thickness).detach()) == pytest.approx(0.5, abs=0.25)


def test_one_wall_is_measured_over_its_domain_alone():
    wall = shell(24.0, 10.0).astype(float)
    box = Domain(frame="heart", form="box", centre=[29, 0, 0], size=[30, 20, 20])
    weights = domains.place(box, domains.HEART, GRID).weights(AXES)
    whole = mean_thickness_mm(on_cells(wall), on_cells(weights), 4.0)
    assert measured(wall, weights) == pytest.approx(float(whole), rel=1e-12)
    assert measured(wall, np.zeros(GRID.shape)) == 0.0


def test_walls_have_opposed_sides_and_solid_bodies_have_not():
    box = Domain(frame="heart", form="box", centre=[0, 0, 0], size=[60, 60, 40])
    weights = domains.place(box, domains.HEART, GRID).weights(AXES)
    rod, ball = np.hypot(X, Y) < 16, np.linalg.norm(POINTS, axis=-1) < 16
    found = [opposed(body, weights, REFINEMENT) for body in (np.abs(X + Y) < 9, rod, ball)]
    assert found == pytest.approx([1.0, 1 / 2, 1 / 3], abs=0.02)
    # as much of a shell as a septum is of the wall about the left ventricle
    part = Domain(frame="heart", form="box", centre=[30, 0, 0], size=[40, 32, 34])
    weights = domains.place(part, domains.HEART, GRID).weights(AXES)
    assert opposed(shell(24.0, 10.0), weights, REFINEMENT) > 0.65


@pytest.mark.parametrize(
    ("centre_mm", "size_mm", "whole"),
    [
        (0, 30, True), (0, 28, True),
        (0, 20, False), (0, 8, False), (-3, 20, False), (-8, 12, False), (9, 30, False),
    ],
)  # fmt: skip
def test_a_wall_has_no_thickness_where_its_domain_does_not_hold_both_sides(centre_mm, size_mm, whole):
    """A plate of 16 mm: what is accepted is measured within 2 %; what is refused is off by 10 % or more."""
    plate, anatomy = (np.abs(X) < 8).astype(np.uint8), Anatomy(("wall",), ("wall",))
    box = Domain(frame="heart", form="box", centre=[centre_mm, 0, 0], size=[size_mm, 30, 30])
    weights = domains.place(box, domains.HEART, GRID).weights(AXES)
    error = abs(measured(plate.astype(float), weights) / 16.0 - 1.0)
    if whole:
        domains.check_wall(plate, "wall@box", weights, anatomy)
        assert error < 0.02
        assert cut_off(plate == 1, weights, REFINEMENT) < 0.01
    else:
        with pytest.raises(InputError, match=r"the domain ends inside wall: .* the most is 20%"):
            domains.check_wall(plate, "wall@box", weights, anatomy)
        assert error > 0.1


def test_rows_with_a_thickness_are_measured_with_one():
    labels, anatomy = shell(24.0, 10.0).astype(np.uint8), Anatomy(("wall",), ("wall",))
    found = domains.measure_parts(
        labels, ["wall", "wall@all"], [None, EVERYWHERE], anatomy, GRID, {"wall@all"}
    )
    assert np.isnan(found.thickness_mm[0])
    assert found.thickness_mm[1] == pytest.approx(of_shell(24.0, 10.0), rel=0.03)
    assert found.volume_ml[1] == pytest.approx(float(measure(labels.astype(float), AXES).volume_ml))
    assert domains.measure_parts(labels, ["wall"], [None], anatomy, GRID).thickness_mm is None
