"""Fibres on meshes: the Laplace problems, the ellipsoid, settings."""

from dataclasses import asdict

import numpy as np
import pytest

from cardiocohort.microstructure import laplace
from cardiocohort.microstructure.fibres import FibreAngles, add_fibres, frames_within
from cardiocohort.runtime.errors import InputError
from small_meshes import box, truncated_ellipsoid


@pytest.fixture(scope="module")
def ventricle():
    return truncated_ellipsoid()


@pytest.fixture(scope="module")
def with_fibres(ventricle):
    return add_fibres(ventricle, FibreAngles())


def test_laplace_reproduces_a_linear_field_and_its_gradient():
    model = box()
    slope = np.array([0.3, -0.2, 0.5])
    exact = model.points_mm @ slope
    held = {value: np.flatnonzero(exact == value) for value in exact[np.unique(model.facets)]}
    (field,) = laplace.solve(model.points_mm, model.tets, [held])
    assert np.allclose(field, exact, atol=1e-6)
    assert np.allclose(laplace.gradients(model.points_mm, model.tets, field[None])[0], slope, atol=1e-5)


def test_node_averages_keep_a_constant():
    model = box()
    values = np.tile([1.0, -2.0, 3.0], (len(model.tets), 1))
    averaged = laplace.to_nodes(model.tets, model.tet_volumes_mm3, values, len(model.points_mm))
    assert np.allclose(averaged, [1.0, -2.0, 3.0])


def local_frame(points, field_gradient):
    """Circumferential and longitudinal unit vectors of the ellipsoid at points (n, 3)."""
    around = np.stack([-points[:, 1], points[:, 0], np.zeros(len(points))], 1)
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    out = field_gradient / np.linalg.norm(field_gradient, axis=1, keepdims=True)
    return around, np.cross(out, around)


@pytest.mark.parametrize(("endo", "epi"), [(60, -60), (0, -50)])
def test_helix_angle_is_linear_in_the_transmural_field(ventricle, endo, epi):
    model = add_fibres(ventricle, FibreAngles(endo, epi, 0, 0))
    base = model.nodes_of("base")
    walls = [np.setdiff1d(model.nodes_of(tag), base) for tag in ("lv_endo", "epi")]
    fields = laplace.solve(model.points_mm, model.tets, [{0.0: walls[0], 1.0: walls[1]}])
    depth = fields[0][model.tets].mean(axis=1)
    centroids = model.points_mm[model.tets].mean(axis=1)
    polar = np.degrees(np.arctan2(np.linalg.norm(centroids[:, :2], axis=1) / 25, -centroids[:, 2] / 45))
    away = (polar > 35) & (polar < 95)
    around, along = local_frame(centroids, laplace.gradients(model.points_mm, model.tets, fields)[0])
    fibre = model.microstructure.f0
    angle = np.degrees(np.arctan(np.sum(fibre * along, 1) / np.sum(fibre * around, 1)))
    error = np.abs(angle - (endo * (1 - depth) + epi * depth))[away]
    assert away.sum() > 20_000
    assert error.max() < 2.0


def test_helix_angle_is_linear_within_coarse_tets():
    """Two layers across the wall: a tet has one direction up to 27 degrees from those at its points."""
    angles = FibreAngles(60, -60, 0, 0)
    model = add_fibres(truncated_ellipsoid((3, 33, 48)), angles)
    middle = frames_within(model, angles, np.full((1, 4), 0.25))[:, 0, :, 0]
    assert np.allclose(np.abs(np.sum(middle * model.microstructure.f0, axis=1)), 1)
    weights = np.full((4, 4), 0.1) + 0.6 * np.eye(4)
    found = frames_within(model, angles, weights)
    assert np.allclose(found.swapaxes(2, 3) @ found, np.eye(3))
    base = model.nodes_of("base")
    walls = [np.setdiff1d(model.nodes_of(tag), base) for tag in ("lv_endo", "epi")]
    fields = laplace.solve(model.points_mm, model.tets, [{0.0: walls[0], 1.0: walls[1]}])
    slope = laplace.gradients(model.points_mm, model.tets, fields)[0]
    centroids = model.points_mm[model.tets].mean(axis=1)
    polar = np.degrees(np.arctan2(np.linalg.norm(centroids[:, :2], axis=1) / 25, -centroids[:, 2] / 45))
    away = (polar > 35) & (polar < 95)
    around, along = local_frame(centroids, slope)
    depth = fields[0][model.tets] @ weights.T
    fibre = found[..., 0]

    def helix(directions):
        parts = (np.einsum("mqi,mi->mq", directions, axis) for axis in (along, around))
        return np.degrees(np.arctan(np.divide(*parts)))

    wanted = (60 - 120 * depth)[away]
    assert np.abs(helix(fibre)[away] - wanted).max() < 2.0
    assert np.abs(helix(model.microstructure.f0[:, None])[away] - wanted).max() > 15.0


def test_directions_are_orthonormal_on_tets_and_nodes(with_fibres):
    micro = with_fibres.microstructure
    for prefix in ("", "node_"):
        frame = np.stack([getattr(micro, prefix + name) for name in ("f0", "s0", "n0")], -1)
        assert np.abs(frame.transpose(0, 2, 1) @ frame - np.eye(3)).max() < 1e-6
        assert np.allclose(np.linalg.det(frame), 1)


def test_tets_and_nodes_tell_the_same_fibres(with_fibres):
    micro, tets = with_fibres.microstructure, with_fibres.tets
    lines = np.abs(np.einsum("mi,mki->mk", micro.f0, micro.node_f0[tets])).max(axis=1)
    assert np.quantile(lines, 0.02) > np.cos(np.radians(15))


def test_the_angles_are_in_the_provenance(with_fibres):
    assert with_fibres.provenance["microstructure"] == asdict(FibreAngles())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"fibre_endo": 60}, "fibre_endo"),
        ({"fibre_epi_deg": "60"}, "fibre_epi_deg"),
        ({"sheet_epi_deg": 200}, "180"),
    ],
)
def test_wrong_angles_are_named(values, named):
    with pytest.raises(InputError, match=named):
        FibreAngles.of(values)


def test_zero_degrees_is_an_angle():
    assert FibreAngles.of({"fibre_endo_deg": 0}).fibre_endo_deg == 0
