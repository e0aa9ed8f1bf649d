"""Universal ventricular coordinates, at places where their definition says what they are."""

from dataclasses import replace

import numpy as np
import pytest

from cardiocohort.exporters._uvc import angle, uvc
from small_meshes import box

# Cobiveco's rotational coordinate, left or right ventricle, phi of UVC
PLACES = {
    "middle of the septum": (5 / 6, True, 0.0),
    "anterior junction": (2 / 3, True, np.pi / 2),
    "anterior junction, right": (2 / 3, False, np.pi / 2),
    "posterior junction": (0.0, True, -np.pi / 2),
    "posterior junction, right": (0.0, False, -np.pi / 2),
    "left free wall": (1 / 3, True, np.pi),
    "right free wall": (1 / 3, False, 0.0),
    "anterior of the left free wall": (1 / 2, True, 3 * np.pi / 4),
    "posterior of the left free wall": (1 / 6, True, -3 * np.pi / 4),
}


@pytest.mark.parametrize(("rotational", "left", "phi"), PLACES.values(), ids=PLACES)
def test_phi_at_the_landmarks(rotational, left, phi):
    (found,) = angle(np.array([rotational]), np.array([left]))
    assert np.exp(1j * found) == pytest.approx(np.exp(1j * phi), abs=1e-12)


def test_phi_goes_once_round_the_left_ventricle_without_a_jump():
    turns = np.linspace(0, 1, 1001)
    phi = angle(turns, np.ones(len(turns), bool))
    steps = (np.diff(phi) + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(steps).max() < 0.011
    assert steps.sum() == pytest.approx(-2 * np.pi)


def test_rho_crosses_the_septum_from_left_to_right():
    model = box((3, 3, 3))
    n = len(model.points_mm)
    fields = replace(
        model.coordinates,
        node_transmural=np.linspace(0, 1, n),
        node_transventricular=np.arange(n) % 2,
    )
    for tag, expected in (
        (3, np.where(np.arange(n) % 2, 1 + np.linspace(0, 1, n), 1 - np.linspace(0, 1, n)) / 2),
        (1, 1 - np.linspace(0, 1, n)),
        (2, 1 - np.linspace(0, 1, n)),
    ):
        found = uvc(replace(model, region=np.full(len(model.tets), tag), coordinates=fields))
        assert np.allclose(found["rho"], expected)
        assert set(found["ven"]) == {1 if tag == 2 else -1}
        assert np.array_equal(found["z"], fields.node_apicobasal)
