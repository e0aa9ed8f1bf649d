"""The fibre rule's own mathematics, without mesh or solver."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cardiocohort.microstructure import ldrb

UP, OUT = np.array([[0.0, 0.0, 1.0]]), np.array([[1.0, 0.0, 0.0]])
components = arrays(float, (5, 4), elements=st.floats(-1, 1)).filter(
    lambda a: np.linalg.norm(a, axis=1).min() > 0.1
)


def unit(quaternions):
    return quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)


def same_line(a, b, tolerance=1e-9):
    return np.abs(np.abs(np.sum(a * b, axis=-1)) - 1) < tolerance


def wall(epi, angles, n=1):
    """Frames in a flat free wall: depth `epi`, longitudinal z, outward x."""
    epi = np.full(n, float(epi))
    return ldrb.frames(1 - epi, 0 * epi, epi, -OUT, 0 * OUT, OUT, UP, angles)


@given(components)
def test_quaternions_and_matrices_are_inverse(q):
    q = unit(q)
    rotation = ldrb.to_matrix(q)
    assert np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(rotation), 1)
    assert same_line(ldrb.to_quaternion(rotation), q).all()


@given(components)
def test_half_turns_are_about_the_frames_own_axes(q):
    q = unit(q)
    for axis, turned in enumerate(ldrb.half_turned(q)):
        keeps = np.where(np.arange(3) == axis - 1, 1.0, -1.0) if axis else np.ones(3)
        assert np.allclose(ldrb.to_matrix(turned.T), ldrb.to_matrix(q) * keeps, atol=1e-12)


@given(st.floats(0, 1), st.floats(0.01, 3.0))
def test_slerp_turns_at_constant_speed(t, angle):
    ends = np.array([[1.0, 0, 0, 0], [np.cos(angle / 2), 0, 0, np.sin(angle / 2)]])
    expected = [np.cos(t * angle / 2), 0, 0, np.sin(t * angle / 2)]
    assert np.allclose(ldrb.slerp(ends[:1], ends[1:], np.array([t])), expected)


@given(components, components, st.integers(0, 3), st.floats(0, 1))
def test_bislerp_does_not_see_half_turns(p, q, turn, t):
    """Fibres are lines: a frame and its half turns are the same microstructure."""
    p, q, t = unit(p), unit(q), np.full(5, t)
    dots = np.sort(np.abs(np.einsum("kin,ni->nk", ldrb.half_turned(p), q)))
    decided = dots[:, -1] - dots[:, -2] > 1e-6  # no tie between two half turns
    plain = ldrb.to_matrix(ldrb.bislerp(p, q, t))
    turned = ldrb.to_matrix(ldrb.bislerp(ldrb.half_turned(p)[turn].T, q, t))
    for column in range(3):
        assert same_line(plain[decided, :, column], turned[decided, :, column], 1e-6).all()


def test_axis_is_right_handed_and_keeps_its_direction():
    rng = np.random.default_rng(1)
    longitudinal, transmural = rng.normal(size=(2, 100, 3))
    frame = ldrb.axis(longitudinal, transmural)
    assert np.allclose(np.linalg.det(frame), 1)
    assert np.allclose(frame[..., 1], unit(longitudinal))
    assert (np.sum(frame[..., 2] * transmural, axis=1) > 0).all()


def test_degenerate_directions_give_frames_all_the_same():
    zero = np.zeros((1, 3))
    for longitudinal, transmural in ((zero, OUT), (UP, zero), (UP, 2 * UP), (zero, zero)):
        frame = ldrb.axis(longitudinal, transmural)
        assert np.allclose(frame.transpose(0, 2, 1) @ frame, np.eye(3))


@pytest.mark.parametrize("depth", [0.0, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("endo", "epi"), [(60, -60), (40, -50), (0, 0), (0, -60), (-30, 80)])
def test_the_helix_angle_is_linear_through_a_flat_wall(depth, endo, epi):
    fibre = wall(depth, ldrb.Angles(endo, epi, 0, 0))[0, :, 0]
    angle = np.radians(endo * (1 - depth) + epi * depth)
    circumferential = np.cross(UP, OUT)[0]
    assert same_line(fibre, np.cos(angle) * circumferential + np.sin(angle) * UP[0])


def test_without_a_sheet_angle_the_sheet_is_transmural():
    frame = wall(0.3, ldrb.Angles(60, -60, 0, 0))[0]
    assert same_line(frame[:, 1], OUT[0])
    assert np.linalg.det(frame) == pytest.approx(1)


@pytest.mark.parametrize("sheet", [-65.0, 25.0])
def test_the_sheet_angle_is_from_the_transmural_direction(sheet):
    frame = wall(0.3, ldrb.Angles(60, -60, sheet, sheet))[0]
    assert abs(frame[:, 1] @ OUT[0]) == pytest.approx(np.cos(np.radians(sheet)))


def septum(depth, angles):
    """Frames in a flat septum from the LV (0) to the RV (1), both gradients along x."""
    depth = np.asarray(depth, dtype=float)
    ones = np.ones((len(depth), 1))
    return ldrb.frames(1 - depth, depth, 0 * depth, -OUT * ones, OUT * ones, OUT * 0, UP * ones, angles)


def test_the_helix_turns_evenly_across_the_septum_without_flips():
    depth = np.linspace(0, 1, 101)
    fibre = septum(depth, ldrb.Angles(60, -60, -65, 25))[..., 0]
    step = np.degrees(np.arccos(np.clip(np.abs(np.sum(fibre[1:] * fibre[:-1], axis=1)), 0, 1)))
    assert step.max() < 1.3  # 120 degrees in 100 steps
    assert step.sum() == pytest.approx(120, abs=0.5)


def test_the_right_wall_mirrors_the_left():
    """An RV free wall has the helix of an LV one: seen from outside, from +60 inside to -60 outside."""
    angles = ldrb.Angles(60, -60, 0, 0)
    for epi in (0.0, 0.3, 1.0):
        e = np.array([epi])
        right = ldrb.frames(0 * e, 1 - e, e, 0 * OUT, -OUT, OUT, UP, angles)
        assert same_line(right[0, :, 0], wall(epi, angles)[0, :, 0])


def test_muscle_between_two_faces_of_one_wall_has_a_frame_that_rounding_does_not_turn():
    """Where all nodes nearby are on the RV's endocardium its field is flat but for what the solver leaves."""
    angles, ones, zero = ldrb.Angles(60, -60, -65, 25), np.ones(20), np.zeros((20, 3))
    noise = np.random.default_rng(0).normal(size=(3, 20, 3)) * 1e-9
    up = np.tile([0.0, 0.0, 3e-4], (20, 1))
    flat = ldrb.frames(0 * ones, ones, 0 * ones, zero, zero, zero, up, angles)
    assert np.allclose(ldrb.frames(0 * ones, ones, 0 * ones, *noise, up, angles), flat)
    assert np.allclose(flat.swapaxes(1, 2) @ flat, np.eye(3))
