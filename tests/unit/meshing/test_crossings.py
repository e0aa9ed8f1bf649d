"""Surfaces that cross themselves: found, as VTK finds them, and opened."""

import numpy as np
import pytest
import pyvista
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation
from vtkmodules.vtkCommonDataModel import vtkTriangle

from cardiocohort.mesh.model import FACETS
from cardiocohort.meshing import build
from cardiocohort.meshing.crossings import REASON, check_crossings, crossings, open_crossings
from cardiocohort.meshing.domain import Domain
from cardiocohort.meshing.signed_distance import Field
from cardiocohort.meshing.surface import TaggedSurface
from cardiocohort.meshing.tetrahedra import tetrahedralize
from cardiocohort.runtime.errors import SubjectError

EDGES = {"lv": 3.0, "rv": 2.0, "septum": 4.0}


def ball(nsub=2):
    sphere = pyvista.Icosphere(radius=10, nsub=nsub)
    return np.asarray(sphere.points, dtype=float), sphere.regular_faces.astype(int)


def muscle():
    """Epicardium farthest for x < -5, blood of the LV for x > 5, of the RV between; base at z = 12."""
    axis = np.arange(-20.0, 21.0)
    x, _, z = np.meshgrid(axis, axis, axis, indexing="ij")
    origin = np.full(3, -20.0)
    outer, lv, rv = (Field(v, origin, 1.0) for v in (np.minimum(x, 0), np.maximum(x, 0), np.full_like(x, 5)))
    return Domain(outer, lv, rv, Field(z - 12, origin, 1.0), None, (0.0, 0.0), 0.0)


def pushed(seed):
    """A ball with one node pushed through its centre and out of the other side, and the ball it was."""
    points, facets = ball()
    node = np.random.default_rng(seed).integers(len(points))
    moved = points.copy()
    moved[node] = -1.3 * points[node] + [0.4, 0.3, 0.2]  # not through a node
    tag = np.where(points[facets].mean(axis=1)[:, 2] > 0, FACETS["base"], FACETS["epi"])
    return TaggedSurface(moved, facets, tag, points)


def test_a_ball_does_not_cross_itself():
    for nsub in (1, 2, 3):
        assert not len(crossings(*ball(nsub)))


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_crossing_facets_are_those_that_vtk_finds(seed):
    """Random triangles without common nodes; whatever their pose, order and turn."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-1, 1, (30, 3, 3)) + rng.uniform(-1.5, 1.5, (30, 1, 3))
    facets = np.arange(90).reshape(30, 3)
    expected = {
        (i, j)
        for i in range(30)
        for j in range(i + 1, 30)
        if vtkTriangle.TrianglesIntersect(*corners[i].tolist(), *corners[j].tolist())
    }
    assert {tuple(sorted(pair)) for pair in crossings(corners.reshape(-1, 3), facets).tolist()} == expected
    turned = corners.reshape(-1, 3) @ Rotation.random(rng=rng).as_matrix().T + 7.0
    found = crossings(turned, facets[:, ::-1])
    assert {tuple(sorted(pair)) for pair in found.tolist()} == expected


def test_neighbours_that_share_a_node_can_cross():
    """An edge of the one passes through the other, away from their common node."""
    points = np.array([[0, 0, 0], [4, -2, 0], [4, 2, 0], [2, 0, -1], [2, 0, 1.0]])
    facets = np.array([[0, 1, 2], [0, 3, 4]])
    assert len(crossings(points, facets)) == 1
    points[3:, 1] = 5  # past the other
    assert not len(crossings(points, facets))


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_a_flat_patch_does_not_cross_itself(seed):
    """Facets in one plane, tilted so that rounding puts nodes on either side of it."""
    rng = np.random.default_rng(seed)
    flat = np.c_[rng.uniform(0, 30, (60, 2)), np.zeros(60)]
    facets = Delaunay(flat[:, :2]).simplices
    tilted = flat @ Rotation.random(rng=rng).as_matrix().T + rng.uniform(-100, 100, 3)
    assert not len(crossings(tilted, facets))


@pytest.mark.parametrize("seed", range(4))
def test_a_crossing_is_opened_near_it_only(seed):
    skin = pushed(seed)
    assert len(crossings(skin.points_mm, skin.facets))
    opened, change = open_crossings(skin, muscle(), EDGES)
    assert not len(crossings(opened.points_mm, opened.facets))
    assert change.startswith("surface crossed itself")
    moved = (opened.points_mm != skin.points_mm).any(axis=1)
    assert moved.sum() == 1  # the others were where they began
    assert tetrahedralize(opened.points_mm, opened.facets, 3.0, 60, 8000)[1].size
    again, change = open_crossings(opened, muscle(), EDGES)
    assert change == ""
    assert np.array_equal(again.points_mm, opened.points_mm)


def test_a_surface_that_crossed_from_the_start_says_where_and_what_to_set():
    """Two balls that overlap, one all epicardium, the other endocardium."""
    points, facets = ball()
    crossed = np.concatenate([points, points + np.array([0.5, 0.3, 12.0])])
    tag = np.repeat([FACETS["epi"], FACETS["rv_endo"]], len(facets))
    skin = TaggedSurface(crossed, np.concatenate([facets, facets + len(points)]), tag, crossed)
    for cure in (check_crossings, open_crossings):
        with pytest.raises(SubjectError) as caught:
            cure(skin, muscle(), EDGES)
        assert caught.value.reason == REASON
        for said in (" mm (epi and rv_endo, ", " mm below the base)", "meshing.", "_edge_length_mm below"):
            assert said in str(caught.value)
        # each place lies where both balls are
        x, y, z = map(float, str(caught.value).split("(")[1].split(")")[0].split(","))
        assert np.linalg.norm([x, y, z]) == pytest.approx(10, abs=1.5)
        assert np.linalg.norm([x - 0.5, y - 0.3, z - 12]) == pytest.approx(10, abs=1.5)


def attempts(monkeypatch, *reasons):
    """(smoothing, cure) of each attempt of `build` that ends for these reasons."""
    found, ends = [], iter(reasons)

    def attempt(labelmap, anatomy, settings, cure):
        found.append((settings.smoothing_mm, cure))
        raise SubjectError(next(ends))

    monkeypatch.setattr(build, "_build", attempt)
    monkeypatch.setattr(build, "smoothing_mm", lambda labelmap, settings: 1.0)
    with pytest.raises(SubjectError) as caught:
        build.build(None, None, build.MeshSettings())
    assert caught.value.reason == reasons[0]
    return found


def test_crossings_are_opened_where_smoothing_did_not_help(monkeypatch):
    found = attempts(monkeypatch, REASON, "thin", REASON, "flat", REASON)
    assert found == [
        (1.0, check_crossings), (1.5, check_crossings), (2.0, check_crossings),
        (1.0, open_crossings), (2.0, open_crossings),
    ]  # fmt: skip
