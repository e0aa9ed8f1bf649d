"""Motion of walls against closed forms: spherical shells that contract, turn and swing."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cardiocohort.simulation import wall_motion

BASE_DEG = 110.0  # of the sphere's opening, from the apex
INNER, OUTER, RIGHT = 25.0, 35.0, 32.0  # mm: endocardium, epicardium, right endocardium on the septum
END = 18.0  # mm, of the endocardium at end-systole
ROWS, AROUND = 48, 95  # nodes of a whole patch; none at 60 degrees from the right ventricle


def contracted(radius):
    """Where a shell of an incompressible sphere lies at end-systole."""
    return np.cbrt(radius**3 - INNER**3 + END**3)


def patch(radius, polar_deg, azimuth_deg=(-180.0, 180.0), n=(ROWS, AROUND)):
    """Points and triangles of a patch of a sphere around the origin, apex at -z; normals inward."""
    whole = azimuth_deg == (-180.0, 180.0)
    polar = np.radians(np.linspace(*polar_deg, n[0]))
    azimuth = np.radians(np.linspace(*azimuth_deg, n[1], endpoint=not whole))
    p, a = (grid.ravel() for grid in np.meshgrid(polar, azimuth, indexing="ij"))
    points = radius * np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), -np.cos(p)], axis=1)
    node = np.arange(n[0] * n[1]).reshape(n)
    node = np.concatenate([node, node[:, :1]], axis=1) if whole else node
    if polar_deg[0] == 0:  # one apex
        node[0] = 0
    a, b, c, d = (part.ravel() for part in (node[:-1, :-1], node[:-1, 1:], node[1:, :-1], node[1:, 1:]))
    facets = np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])
    return points, facets[(facets[:, 0] != facets[:, 1]) & (facets[:, 1] != facets[:, 2])]


def heart(right_polar=(20.0, BASE_DEG)):
    """Points at end-diastole and facets by surface; the right ventricle lies at +x."""
    parts = {
        "lv_endo": patch(INNER, (0.0, BASE_DEG)),
        "rv_endo": patch(RIGHT, right_polar, (-50.0, 50.0), (40, 40)),
        "epi": patch(OUTER, (0.0, BASE_DEG)),
    }
    points, facets = [], {}
    for name, (places, triangles) in parts.items():
        facets[name] = triangles + sum(map(len, points))
        points.append(places)
    return np.concatenate(points), facets


def end_systole(points):
    radius = np.linalg.norm(points, axis=1, keepdims=True)
    return points * contracted(radius) / radius


def measured(frames, facets):
    lengths = wall_motion.lengths(np.stack(frames), facets, wall_motion.walls(frames[0], facets))
    return lengths, {name: values[-1] for name, values in wall_motion.motion(lengths).items()}


def test_a_sphere_that_contracts_moves_and_thickens_as_it_contracts():
    points, facets = heart()
    lengths, found = measured([points, end_systole(points)], facets)
    opening = 1 - np.cos(np.radians(BASE_DEG))  # the axis over the radius
    assert lengths["lv_long_axis_mm"] == pytest.approx([INNER * opening, END * opening])
    assert found["lv_long_axis_shortening"] == pytest.approx(1 - END / INNER)
    # the middle third of the axis, by rows of the same polar angle
    polar = np.radians(np.linspace(0, BASE_DEG, ROWS))
    height = (np.cos(polar) - np.cos(np.radians(BASE_DEG))) / opening
    radius = np.sin(polar[(height > 1 / 3) & (height < 2 / 3)]).mean()
    for wall in ("septal", "lv_free_wall"):
        assert lengths[f"{wall}_radius_mm"] == pytest.approx([INNER * radius, END * radius])
        assert found[f"{wall}_inward_motion_mm"] == pytest.approx((INNER - END) * radius)
    # flat triangles are a little inside of the sphere
    for wall, outside in (("septal", RIGHT), ("lv_free_wall", OUTER)):
        thickness = [outside - INNER, contracted(outside) - END]
        assert lengths[f"{wall}_thickness_mm"] == pytest.approx(thickness, abs=0.03)
        assert found[f"{wall}_thickening"] == pytest.approx(thickness[1] / thickness[0] - 1, abs=0.01)
    assert found["septal_thickening"] > found["lv_free_wall_thickening"] + 0.05  # nearer to the cavity


@pytest.mark.parametrize("turn", [(0.0, 0.0, 40.0), (15.0, -10.0, 0.0), (120.0, 70.0, -30.0)])
def test_a_heart_that_swings_as_a_whole_has_no_motion_of_its_own(turn):
    points, facets = heart()

    def swung(places):
        return Rotation.from_euler("xyz", turn, degrees=True).apply(places) + np.array([8.0, -3.0, 12.0])

    _, still = measured([points, swung(points)], facets)
    assert list(still.values()) == pytest.approx([0.0] * len(wall_motion.MOTION), abs=1e-4)
    _, beating = measured([points, end_systole(points)], facets)
    _, both = measured([points, swung(end_systole(points))], facets)
    assert both == pytest.approx(beating, abs=1e-4)


def test_a_septum_that_moves_away_from_the_axis_has_negative_motion_and_the_free_wall_its_own():
    points, facets = heart()
    polar = np.degrees(np.arccos(-points[:, 2] / np.linalg.norm(points, axis=1)))
    bulge = (points[:, 0] > 0) & (polar > 40) & (polar < 100)  # neither apex nor rim
    bulged = points * np.where(bulge[:, None], [1.1, 1.1, 1.0], 1.0)
    lengths, found = measured([points, bulged], facets)
    assert found["septal_inward_motion_mm"] == pytest.approx(-0.1 * lengths["septal_radius_mm"][0], rel=1e-6)
    assert found["lv_free_wall_inward_motion_mm"] == pytest.approx(0, abs=1e-9)
    assert found["lv_free_wall_thickening"] == pytest.approx(0, abs=1e-6)


def test_the_septum_is_as_thick_as_where_the_right_ventricle_lies_across_it():
    """A short right ventricle: below it the nearest part of its endocardium is its edge, and farther away."""
    points, facets = heart(right_polar=(78.0, BASE_DEG))
    where = wall_motion.walls(points, facets)
    assert 0 < len(where.spanned) < len(where.septum)
    right = points[np.unique(facets["rv_endo"])]
    away = np.linalg.norm(points[where.septum][:, None] - right, axis=2).min(axis=1)
    lengths, _ = measured([points, points], facets)
    thickness, across = lengths["septal_thickness_mm"][0], RIGHT - INNER
    assert away.mean() > 1.2 * across  # of all of it
    assert across < thickness < across / wall_motion.ACROSS


def test_walls_that_a_heart_lacks_are_not_a_number():
    points, facets = heart()
    nothing = np.zeros((0, 3), dtype=int)
    _, found = measured([points, end_systole(points)], facets | {"epi": nothing})
    assert np.isnan(found.pop("lv_free_wall_thickening"))
    assert np.isfinite(list(found.values())).all()
    _, found = measured([points, end_systole(points)], facets | {"rv_endo": nothing})
    assert found.pop("lv_long_axis_shortening") == pytest.approx(1 - END / INNER)
    assert np.isnan(list(found.values())).all()
    both_sides = np.concatenate([facets["lv_endo"], facets["lv_endo"][:, ::-1]])
    _, found = measured([points, end_systole(points)], facets | {"lv_endo": both_sides})
    assert np.isnan(list(found.values())).all()  # no opening, so no axis


def test_end_systole_is_the_frame_that_is_nearest():
    rows = [{"time_s": t} | dict.fromkeys(wall_motion.MOTION, 10 * t) for t in (0.0, 0.1, 0.2)]
    assert set(wall_motion.end_systolic(rows, 0.13).values()) == {1.0}
    assert list(wall_motion.end_systolic(rows, 0.16)) == list(wall_motion.MOTION)
