"""Where on the RV's free wall a point lies: flat walls, a symmetric heart; thickness beside borders."""

import numpy as np
import pytest

from cardiocohort.meshing import free_wall as walls
from cardiocohort.meshing.free_wall import BORDER, FreeWall, free_wall
from cardiocohort.meshing.settings import LEVELS, SECTORS
from cardiocohort.meshing.signed_distance import Field
from cardiocohort.runtime.errors import SubjectError

SPACING = 1.5


def test_on_a_flat_wall_shares_are_those_of_its_length():
    """A trapezium whose sides are straight: along each line from bottom to top the share is the height."""
    n = 15
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, 30, n), np.linspace(0, 20, n), indexing="ij"))
    points = np.stack([x, y, 0.3 * x], axis=1)  # turned in space
    corner = np.arange(n * n).reshape(n, n)
    a, b, c, d = (corner[i : n - 1 + i, j : n - 1 + j].ravel() for i in (0, 1) for j in (0, 1))
    triangles = np.concatenate([np.stack(t, axis=1) for t in ((a, c, b), (b, c, d))])
    share = walls._share(points, triangles, walls._hats(points, triangles), corner[:, 0], corner[:, -1])
    np.testing.assert_allclose(share, y / 20, atol=1e-6)


def test_weights_add_up_and_change_only_beside_the_borders():
    share = np.linspace(0, 1, 601)
    weights = walls._weights(share)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    far = (np.abs(share - 1 / 3) > BORDER) & (np.abs(share - 2 / 3) > BORDER)
    assert ((weights[far] == 0) | (weights[far] == 1)).all()
    np.testing.assert_allclose(walls._weights(np.array([1 / 3, 2 / 3])), [[0.5, 0.5, 0], [0, 0.5, 0.5]])
    steps = np.abs(np.diff(weights, axis=0)).max()
    assert steps < 1.6 * (share[1] - share[0]) / (2 * BORDER)  # a smooth step's slope is at most 3/2


@pytest.mark.parametrize("thick", [5.0, 12.0])
def test_the_median_of_one_segment_is_what_is_set(thick):
    rise, turn = (a.ravel() for a in np.meshgrid(*2 * [np.linspace(0.002, 0.998, 250)], indexing="ij"))
    points = np.stack([rise, turn, 0 * turn], axis=1)
    wall = FreeWall(points, rise, turn)
    for level in range(3):
        for sector in range(3):
            wanted = np.full((3, 3), 4.0)
            wanted[level, sector] = thick
            found = wall.thickness_mm(points, wanted)
            assert found.min() >= 4 - 1e-9
            assert found.max() <= thick + 1e-9
            inside = wall.segments(points)
            medians = [
                np.median(found[(inside[0] == i) & (inside[1] == k)]) for i in range(3) for k in range(3)
            ]
            assert medians == pytest.approx(wanted.ravel(), abs=0.03 * (thick - 4)), (level, sector)


def test_sectors_go_to_their_mean_where_they_meet():
    turn = np.linspace(0, 1, 11)
    points = np.stack([turn, 0 * turn, 0 * turn], axis=1)
    wall = FreeWall(points, np.zeros(11), turn)
    wanted = np.array([[9.0, 9, 9], [9, 9, 9], [3, 4, 8]])
    np.testing.assert_allclose(wall.thickness_mm(points, wanted), 5)


def ventricles(apart_mm=27.0):
    """Fields of two balls of blood side by side, the right one around the left one's wall; base at z = 10."""
    axis = np.arange(-36.0, 66.0, SPACING)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    left = np.sqrt(x**2 + y**2 + z**2)
    epicardium = left - 25
    rv = np.maximum(np.sqrt((x - apart_mm) ** 2 + y**2 + z**2) - 25, -epicardium)
    outer = np.minimum(epicardium, rv - 4)
    return (Field(values, np.full(3, -36.0), SPACING) for values in (outer, left - 15, rv, z - 10))


def test_a_symmetric_heart_has_symmetric_segments():
    """The RV lies towards x, anterior is y: halves mirror each other, and height follows z."""
    wall = free_wall(*ventricles())
    mirrored = wall.points_mm * [1, -1, 1]
    rise, turn = wall.at(mirrored)
    assert np.abs(turn - (1 - wall.turn)).mean() < 0.02
    assert np.abs(rise - wall.rise).mean() < 0.02
    assert (wall.turn[wall.points_mm[:, 1] > 8] > 0.5).all()
    assert np.corrcoef(wall.rise, wall.points_mm[:, 2])[0, 1] > 0.9
    level, sector = wall.segments(wall.points_mm)
    assert len(np.unique(3 * level + sector)) == len(LEVELS) * len(SECTORS)
    middle = (np.abs(wall.points_mm[:, 1]) < 2) & (wall.rise > 0.2)
    assert (sector[middle] == SECTORS.index("lateral")).all()


def test_a_right_ventricle_that_meets_no_septum_has_no_segments():
    with pytest.raises(SubjectError, match="does not meet the septum") as caught:
        free_wall(*ventricles(apart_mm=70.0))
    assert caught.value.reason == walls.REASON
