"""Fibres on meshes: the Laplace problems, the ellipsoid, settings."""

from dataclasses import asdict

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve

from cardiocohort.microstructure.fibres import FibreAngles, add_fibres, frames_within
from cardiocohort.microstructure.laplace import Elements, to_nodes
from cardiocohort.runtime.errors import InputError, SubjectError
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
    elements = Elements(model.points_mm, model.tets)
    (field,) = elements.solve([held])
    assert np.allclose(field, exact, atol=1e-6)
    assert np.allclose(elements.gradients(field[None])[0], slope, atol=1e-5)


def test_a_flat_field_has_no_direction():
    """Not one of rounding: where all nodes of a tet are held at one value, a length must not follow noise."""
    model = box()
    elements = Elements(model.points_mm, model.tets)
    assert not elements.directions(np.full(len(model.points_mm), 0.1)).any()


def test_laplace_problems_solved_at_once_are_as_one_by_one(ventricle):
    """Five, more than one batch; each as near to an independent direct solution as its tolerance."""
    walls = [ventricle.nodes_of(tag) for tag in ("lv_endo", "epi", "base")]
    problems = [
        {0.0: walls[a], v: walls[b]} for a, b, v in ((0, 1, 1.0), (1, 0, 2.0), (2, 0, 1.0), (0, 2, -1.0))
    ]
    problems.append({0.0: walls[0][:1], 1.0: walls[2]})
    elements = Elements(ventricle.points_mm, ventricle.tets)
    fields = elements.solve(problems)
    local = elements.volume[:, None, None] * np.einsum("mai,mbi->mab", elements.hats, elements.hats)
    tets, n = ventricle.tets, len(ventricle.points_mm)
    rows, columns = np.repeat(tets, 4, axis=1).ravel(), np.tile(tets, 4).ravel()
    matrix = sparse.coo_array((local.ravel(), (rows, columns)), shape=(n, n)).tocsc()
    for field, problem in zip(fields, problems, strict=True):
        exact, free = np.zeros(n), np.ones(n, dtype=bool)
        for value, nodes in problem.items():
            exact[nodes], free[nodes] = value, False
        exact[free] = spsolve(matrix[free][:, free], -(matrix @ exact)[free])
        assert np.abs(field - exact).max() < 1e-6
        assert np.allclose(elements.solve([problem])[0], field, atol=1e-7)


def test_a_node_without_a_tet_is_refused():
    model = box()
    with pytest.raises(ValueError, match="1 nodes are in no tetrahedron"):
        Elements(np.vstack([model.points_mm, [[0, 0, 99]]]), model.tets)


def test_a_laplace_problem_without_a_solution_is_said_so():
    model = box()
    points = model.points_mm.copy()
    points[0] = np.nan
    with pytest.raises(SubjectError, match="no solution after"):
        Elements(points, model.tets).solve([{0.0: np.array([1]), 1.0: np.array([2])}])


def test_node_averages_keep_a_constant():
    model = box()
    values = np.tile([1.0, -2.0, 3.0], (len(model.tets), 1))
    averaged = to_nodes(model.tets, model.tet_volumes_mm3, values, len(model.points_mm))
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
    elements = Elements(model.points_mm, model.tets)
    fields = elements.solve([{0.0: walls[0], 1.0: walls[1]}])
    depth = fields[0][model.tets].mean(axis=1)
    centroids = model.points_mm[model.tets].mean(axis=1)
    polar = np.degrees(np.arctan2(np.linalg.norm(centroids[:, :2], axis=1) / 25, -centroids[:, 2] / 45))
    away = (polar > 35) & (polar < 95)
    around, along = local_frame(centroids, elements.gradients(fields)[0])
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
    elements = Elements(model.points_mm, model.tets)
    fields = elements.solve([{0.0: walls[0], 1.0: walls[1]}])
    slope = elements.gradients(fields)[0]
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
