"""Lids over the rims of the endocardia: closed, turned as the endocardium, of least area."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiocohort.mesh.lids import fill, lids, rim_loops
from cardiocohort.mesh.model import FACETS, rim_edges
from decks import many, models
from small_meshes import truncated_ellipsoid


def area(points, facets):
    a, b, c = (points[facets[:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


@many
@given(model=models)
def test_endocardium_and_lid_have_no_border(model):
    for name, lid in lids(model).items():
        wall = model.facets[model.facet_tag == FACETS[f"{name}_endo"]]
        assert len(rim_edges(wall)), "a closed endocardium has no lid"
        edges = np.concatenate([part[:, pair] for part in (wall, lid) for pair in ([0, 1], [1, 2], [2, 0])])
        ahead, back = (np.unique(rows, axis=0, return_counts=True) for rows in (edges, edges[:, ::-1]))
        assert np.array_equal(ahead[0], back[0])
        assert np.array_equal(ahead[1], back[1])
        assert set(lid.ravel()) <= set(rim_edges(wall).ravel()), "a lid moves with the mesh"


def test_plane_lids_enclose_what_fans_from_their_middles_do():
    """An ellipsoid open at the base, with a pinhole at the apex."""
    model = truncated_ellipsoid()
    wall = model.facets[model.facet_tag == FACETS["lv_endo"]]

    def inside_ml(triangles):
        a, b, c = (triangles[:, i] for i in range(3))
        return -np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6000

    loops = rim_loops(wall)
    assert len(loops) == 2
    fans = []
    for loop in loops:
        corners = model.points_mm[loop]
        middle = np.broadcast_to(corners.mean(axis=0), corners.shape)
        fans.append(np.stack([middle, corners, np.roll(corners, -1, axis=0)], axis=1))
    expected = inside_ml(np.concatenate([model.points_mm[wall], *fans]))
    closed = np.concatenate([wall, lids(model)["lv"]])
    assert inside_ml(model.points_mm[closed]) == pytest.approx(expected, rel=1e-9)
    assert expected > 10


@many
@given(st.integers(3, 40), st.integers(0, 2**32 - 1))
def test_a_star_shaped_rim_is_filled_with_its_own_area(n, seed):
    """Rims are not convex: the right ventricle's is a crescent."""
    rng = np.random.default_rng(seed)
    radius = rng.uniform(0.3, 1.0, n)
    turn = 2 * np.pi * np.arange(n) / n
    polygon = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.zeros(n)], axis=1)
    triangles = fill(polygon)
    assert triangles.shape == (n - 2, 3)
    x, y = polygon[:, 0], polygon[:, 1]
    shoelace = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    assert area(polygon, triangles) == pytest.approx(abs(shoelace), rel=1e-9)


def test_nodes_on_a_line_give_no_flat_triangle():
    square = np.array(
        [[x, y, 0.0] for x, y in ((0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
    )
    for a, b, c in square[fill(square)]:
        assert np.linalg.norm(np.cross(b - a, c - a)) > 0.1


def test_rims_that_touch_are_loops_of_their_own():
    # two triangles that share a corner
    loops = rim_loops(np.array([[0, 1, 2], [2, 3, 4]]))
    assert sorted(sorted(loop.tolist()) for loop in loops) == [[0, 1, 2], [2, 3, 4]]
