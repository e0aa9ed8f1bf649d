"""Attributes and relations of moments: what each sees, what it is blind to, exact values and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy import attributes
from cardiocohort.anatomy.labels import ATTRIBUTES, FURTHER_ATTRIBUTES, RELATIONS
from cardiocohort.anatomy.moments import Moments, from_ellipsoid, measure

OWN = (*ATTRIBUTES, *FURTHER_ATTRIBUTES)
AXES = np.array([12.0, 17.0, 26.0])
TURN = Rotation.from_euler("xyz", [20.0, -35.0, 50.0], degrees=True).as_matrix()


def heart(centre=(3.0, -2.0, 5.0), axes=AXES, turn=TURN):
    return from_ellipsoid(np.array(centre), np.array(axes), turn)


def seen(found, wanted):
    """Attributes that tell the two apart."""
    return {a for a in OWN if np.abs(attributes.differences(a, (found,), (wanted,))).max() > 1e-7}


def test_each_attribute_sees_its_own_change_only():
    assert seen(heart(), heart()) == set()
    assert seen(heart(centre=(4.0, -2.0, 5.0)), heart()) == {"position"}
    assert seen(heart(axes=1.2 * AXES), heart()) == {"size", "scale"}
    m = heart()
    assert seen(Moments(1.2 * m.volume_ml, m.centroid_mm, m.covariance_mm2), m) == {"size"}
    assert seen(Moments(m.volume_ml, m.centroid_mm, 1.2 * m.covariance_mm2), m) == {"scale"}


def test_orientation_sees_a_rotation_and_aspect_a_stretch():
    turned = heart(turn=Rotation.from_rotvec([0.1, 0.2, -0.15]).as_matrix() @ TURN)
    assert seen(turned, heart()) == {"shape", "orientation"}
    longer = heart(axes=AXES * [1.0, 1.0, 1.3])
    assert seen(longer, heart()) == {"shape", "aspect", "size", "scale"}


@pytest.mark.parametrize("degrees", [-60.0, -10.0, 0.5, 30.0, 80.0])
def test_orientation_angle_is_the_angle_turned_about_an_axis(degrees):
    """Whatever the stretch along the axes; other planes are still, as far as the order of the axes holds."""
    for plane, (i, j) in enumerate(attributes.PAIRS):
        axis = TURN[:, 3 - i - j] * np.sign(np.linalg.det(TURN))
        turn = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix() @ TURN
        for stretch in ([1.0, 1.0, 1.0], [0.9, 1.05, 1.2]):
            found = heart(axes=AXES * stretch, turn=turn)
            angles = np.degrees(attributes.orientation_angles(found, heart()))
            assert abs(angles[plane]) == pytest.approx(abs(degrees), abs=1e-4)
            if abs(degrees) <= 10.0:
                np.testing.assert_allclose(np.delete(angles, plane), 0.0, atol=1e-4)


def test_axes_that_are_equal_have_no_orientation():
    """A disc turned about its own axis is the same disc; a ball has no orientation at all."""
    turn = Rotation.from_rotvec(0.7 * TURN[:, 2]).as_matrix() @ TURN
    disc = heart(axes=[15.0, 15.0, 26.0])
    for found, wanted in (
        (heart(axes=[15.0, 15.0, 26.0], turn=turn), disc),
        (heart(), heart(axes=[15.0] * 3)),
    ):
        assert np.abs(attributes.differences("orientation", (found,), (wanted,))).max() < 1e-6


def test_relations_are_exact():
    a, b = heart(centre=(3.0, 4.0, 12.0), axes=AXES * 0.5), heart(centre=(0.0, 0.0, 0.0))
    assert attributes.volume_ratio(a, b) == pytest.approx(1 / 8)
    assert attributes.distance_mm(a, b) == pytest.approx(13.0)
    np.testing.assert_allclose(attributes.direction(a, b), np.array([3.0, 4.0, 12.0]) / 13.0)
    np.testing.assert_allclose(attributes.direction(b, a), -attributes.direction(a, b))


@given(st.floats(0.2, 5.0), st.lists(st.floats(-40, 40), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_relations_are_blind_to_what_moves_and_grows_both(factor, shift):
    a, b = heart(), heart(centre=(-20.0, 8.0, -15.0), axes=AXES[::-1])

    def both(m):
        return Moments(m.volume_ml * factor, m.centroid_mm + np.array(shift), m.covariance_mm2)

    for name in RELATIONS:
        differs = attributes.differences(name, (both(a), both(b)), (a, b))
        np.testing.assert_allclose(differs, 0.0, atol=1e-6)


@pytest.mark.parametrize("name", [*OWN, *RELATIONS])
def test_gradients_agree_with_finite_differences(name):
    """Of the squared differences with respect to the occupancy of every cell, in double precision."""
    torch.manual_seed(0)
    axes = tuple((torch.arange(4, dtype=torch.float64) - 1.5) * 8.0 for _ in range(3))
    occupancy = torch.rand(2, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 4, 4, 4, dtype=torch.float64)
    count = 2 if name in RELATIONS else 1

    def loss(p):
        found = tuple(measure(p[i], axes, 2) for i in range(count))
        wanted = tuple(measure(target[i], axes, 2) for i in range(count))
        return (attributes.differences(name, found, wanted) ** 2).sum()

    assert loss(occupancy).item() > 0
    assert torch.autograd.gradcheck(loss, (occupancy,), eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", [*OWN, *RELATIONS])
def test_a_vanished_structure_has_finite_gradients(name):
    axes = tuple((torch.arange(4, dtype=torch.float32) - 1.5) * 8.0 for _ in range(3))
    occupancy = torch.zeros(4, 4, 4, requires_grad=True)
    full = measure(torch.rand(4, 4, 4), axes, 2)
    count = 2 if name in RELATIONS else 1
    empty = measure(occupancy, axes, 2)
    differs = attributes.differences(name, (empty,) * count, (full,) * count)
    gradient = torch.autograd.grad((differs**2).sum(), occupancy, allow_unused=True)[0]
    assert torch.isfinite(differs).all()
    assert gradient is None or torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", [*OWN, *RELATIONS])
def test_numpy_and_torch_agree(name):
    count = 2 if name in RELATIONS else 1
    found = (heart(), heart(centre=(9.0, 0.0, -8.0)))[:count]
    wanted = (heart(axes=AXES[[1, 0, 2]] * 1.1), heart(turn=np.eye(3)))[:count]

    def as_torch(m):
        return Moments(*(torch.tensor(np.asarray(v)) for v in (m.volume_ml, m.centroid_mm, m.covariance_mm2)))

    here = attributes.differences(name, found, wanted)
    there = attributes.differences(name, tuple(map(as_torch, found)), tuple(map(as_torch, wanted)))
    np.testing.assert_allclose(there.numpy(), here, atol=1e-12)


def test_spread_is_the_standard_deviation_of_the_feature():
    rng = np.random.default_rng(0)
    n = 4000
    size, angle = rng.normal(0.0, 0.3, n), rng.normal(0.0, 0.05, n)
    turns = Rotation.from_rotvec(angle[:, None] * np.array([0.0, 0.0, 1.0])).as_matrix()
    axes = AXES * np.exp(size[:, None] / 3)
    a = from_ellipsoid(rng.normal(0.0, 4.0, (n, 3)), axes, turns)
    b = from_ellipsoid(
        np.tile([0.0, 0.0, 50.0], (n, 1)), np.tile(AXES, (n, 1)), np.tile(np.eye(3), (n, 1, 1))
    )
    assert attributes.spread("size", (a,)) == pytest.approx(0.3, rel=0.05)
    assert attributes.spread("position", (a,)) == pytest.approx(4.0, rel=0.05)
    assert attributes.spread("scale", (a,)) == pytest.approx(0.2, rel=0.05)
    assert attributes.spread("volume_ratio", (a, b)) == pytest.approx(0.3, rel=0.05)
    assert attributes.spread("distance", (a, b)) == pytest.approx(4.0, rel=0.1)
    assert attributes.spread("aspect", (a,)) < 1e-9
    gap = (AXES[1] ** 2 - AXES[0] ** 2) / np.sum(AXES**2)
    assert attributes.spread("orientation", (a,)) == pytest.approx(0.05 * gap / np.sqrt(3), rel=0.1)
