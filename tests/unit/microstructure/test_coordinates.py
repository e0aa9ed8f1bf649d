"""Ventricular coordinates on an analytic biventricular mesh and on a real heart: ranges, order, seams."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.mesh.model import COORDINATES, REGIONS
from cardiocohort.mesh.tetrahedron_geometry import EDGES
from cardiocohort.meshing.build import build
from cardiocohort.meshing.settings import MeshSettings
from cardiocohort.microstructure.coordinates import add_coordinates, rotational_of
from cardiocohort.microstructure.junctions import heart_axes, junctions, sheets
from cardiocohort.microstructure.laplace import Elements
from cardiocohort.microstructure.segments import attachments
from cardiocohort.runtime.errors import SubjectError
from heart_anatomy import HEART
from small_meshes import biventricle, box, truncated_ellipsoid

TEMPLATE = sorted((Path(__file__).resolve().parents[3] / "resources/templates").glob("T*.nii.gz"))[2]


@pytest.fixture(scope="module")
def model():
    return add_coordinates(biventricle())


@pytest.fixture(scope="module")
def heart():
    """Template T3, the thinnest and quickest."""
    return add_coordinates(build(read_label_map(TEMPLATE, HEART), HEART, MeshSettings(edge_length_mm=3.4))[0])


@pytest.fixture(params=["model", "heart"])
def either(request):
    return request.getfixturevalue(request.param)


def turn_between(a, b):
    """Rotational difference, -0.5 to 0.5 of a turn."""
    return (a - b + 0.5) % 1 - 0.5


def azimuth_deg(points):
    return np.degrees(np.arctan2(points[:, 1], points[:, 0]))


def test_a_length_along_straight_lines_is_the_distance():
    block = box((5, 5, 6))
    flat = replace(block, points_mm=np.round(block.points_mm / 1.5) * 1.5)
    start = np.flatnonzero(flat.points_mm[:, 2] == 0)
    up = np.tile([0.0, 0.0, 1.0], (len(flat.tets), 1))
    (found,) = Elements(flat.points_mm, flat.tets).lengths(up, (1.0, start))
    assert np.allclose(found, flat.points_mm[:, 2], atol=1e-5)


def test_a_length_along_radii_is_the_curved_walls_thickness():
    """The ellipsoid of revolution with a wall of 10 mm: at the equator radii are straight lines."""
    shell = truncated_ellipsoid()
    elements = Elements(shell.points_mm, shell.tets)
    (field,) = elements.solve([{0.0: shell.nodes_of("lv_endo"), 1.0: shell.nodes_of("epi")}])
    share, total = elements.share_of_length(field, shell.nodes_of("lv_endo"), shell.nodes_of("epi"))
    equator = np.abs(shell.points_mm[:, 2]) < 2
    assert equator.sum() > 200
    assert np.allclose(total[equator], 10, atol=0.1)
    radius = np.linalg.norm(shell.points_mm[:, :2], axis=1)
    assert np.allclose(share[equator], (radius[equator] - 20) / 10, atol=0.02)


def test_coordinates_keep_their_ranges_and_reach_both_ends(either):
    found = either.coordinates
    for prefix in ("", "node_"):
        for name in COORDINATES[:3]:
            values = getattr(found, prefix + name)
            assert 0 <= values.min() < 0.04
            assert 0.96 < values.max() <= 1
        assert set(np.unique(getattr(found, f"{prefix}transventricular"))) == {0, 1}
        assert getattr(found, f"{prefix}rotational").max() < 1


def test_walls_have_their_values(either):
    found = either.coordinates
    endocardia = [either.nodes_of(tag) for tag in ("lv_endo", "rv_endo")]
    assert np.allclose(found.node_transmural[np.concatenate(endocardia)], 1)
    assert np.allclose(found.node_transmural[either.nodes_of("epi")], 0)
    assert np.allclose(found.node_apicobasal[either.nodes_of("base")], 1)
    assert [set(found.node_transventricular[nodes]) for nodes in endocardia] == [{0}, {1}]
    junction = junctions(either, heart_axes(either))
    above = {n: np.setdiff1d(getattr(junction, n), junction.tip) for n in ("anterior", "posterior")}
    assert np.allclose(found.node_rotational[above["posterior"]], 0)
    assert np.allclose(found.node_rotational[above["anterior"]], 2 / 3)


def test_the_halves_of_the_septum_mirror_each_other(either):
    """The middle of the septum is as deep as the epicardium, and there one ventricle becomes the other."""
    found, septum = either.coordinates, either.region == REGIONS["septum"]
    edges = either.tets[septum][:, EDGES].reshape(-1, 2)
    sides = found.node_transventricular[edges]
    crossing = edges[sides[:, 0] != sides[:, 1]]
    off_base = ~np.isin(crossing, either.nodes_of("base")).any(axis=1)
    assert off_base.sum() > 100
    assert np.quantile(found.node_transmural[crossing[off_base]].min(axis=1), 0.95) < 0.35


def test_transmural_and_apicobasal_have_no_seam(either):
    """Along an edge no coordinate jumps, not even where one ventricle becomes the other."""
    edges = np.unique(np.sort(either.tets[:, EDGES].reshape(-1, 2), axis=1), axis=0)
    length = np.linalg.norm(np.diff(either.points_mm[edges], axis=1)[:, 0], axis=1)
    found = either.coordinates
    climb = np.abs(np.diff(found.node_apicobasal[edges], axis=1)[:, 0]) / length
    assert climb.max() < 0.06  # per mm; from tip to base it is 50 to 110 mm
    assert np.quantile(climb, 0.999) < 0.03
    rise = np.abs(np.diff(found.node_transmural[edges], axis=1)[:, 0]) / length
    inside = ~np.isin(edges, either.nodes_of("base")).any(axis=1)
    assert np.quantile(rise[inside], 0.99) < 0.6  # the thinnest walls are 2 mm


def test_the_rotational_coordinate_has_one_jump(either):
    """Sine and cosine are continuous away from the tip; the plain number jumps at one junction alone."""
    found = either.coordinates
    edges = np.unique(np.sort(either.tets[:, EDGES].reshape(-1, 2), axis=1), axis=0)
    edges = edges[(found.node_apicobasal[edges] > 0.25).all(axis=1)]
    r = found.node_rotational[edges]
    assert np.abs(turn_between(r[:, 0], r[:, 1])).max() < 0.12
    jumps = np.abs(r[:, 0] - r[:, 1]) > 0.5
    assert jumps.any()
    posterior = junctions(either, heart_axes(either)).posterior
    assert np.isin(edges[jumps], posterior).any(axis=1).all()
    named = found.on_nodes()
    turn = np.arctan2(named["rotational_sin"], named["rotational_cos"]) / (2 * np.pi)
    assert np.allclose(turn_between(turn, found.node_rotational), 0, atol=1e-9)


def test_tets_and_nodes_tell_the_same_place(either):
    found, tets = either.coordinates, either.tets
    assert np.allclose(found.apicobasal, found.node_apicobasal[tets].mean(axis=1))
    high = found.apicobasal > 0.25
    off = turn_between(found.node_rotational[tets], found.rotational[:, None])[high]
    assert np.abs(off).max() < 0.1


def test_transmural_rises_along_every_ray_of_the_lateral_wall(model):
    """From epicardium to endocardium, node by node."""
    points, found = model.points_mm, model.coordinates
    lateral = np.flatnonzero((np.abs(azimuth_deg(points)) > 110) & (points[:, 2] < 5))
    radius = np.linalg.norm(points[lateral, :2], axis=1)
    # the depth at which the ellipsoid 20 + depth, 40 + depth passes through the node
    low, high = np.zeros(len(lateral)) - 1, np.zeros(len(lateral)) + 11
    for _ in range(40):
        depth = (low + high) / 2
        outside = (radius / (20 + depth)) ** 2 + (points[lateral, 2] / (40 + depth)) ** 2 > 1
        low, high = np.where(outside, depth, low), np.where(outside, high, depth)
    polar = np.degrees(np.arctan2(radius / (20 + depth), -points[lateral, 2] / (40 + depth)))
    ray = np.round(azimuth_deg(points)[lateral]) * 1000 + np.round(polar * 10)
    order = np.lexsort((depth, ray))
    same = np.diff(ray[order]) == 0
    assert same.sum() > 3000
    assert (np.diff(found.node_transmural[lateral][order])[same] < 0).all()


def test_apicobasal_rises_along_every_meridian(model):
    found, points = model.coordinates, model.points_mm
    epi = model.nodes_of("epi")
    meridian = np.round(azimuth_deg(points[epi]) / 5) % 72
    above = found.node_apicobasal[epi] > 0.3
    for number in range(72):
        own = epi[(meridian == number) & above]
        own = own[np.argsort(points[own, 2])]
        assert len(own) > 8
        assert (np.diff(found.node_apicobasal[own]) > 0).all()


def test_apicobasal_is_the_share_of_the_way_on_the_lateral_wall(model):
    """Equal steps of the coordinate are equal lengths of the meridian, within a twentieth of the way."""
    epi = model.nodes_of("epi")
    points, value = model.points_mm[epi], model.coordinates.node_apicobasal[epi]
    lateral = np.abs(np.abs(azimuth_deg(points)) - 180) < 1
    order = np.argsort(points[lateral, 2])
    way = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points[lateral][order], axis=0), axis=1))]
    value = value[lateral][order]
    upper = value > 0.4
    straight = np.polyval(np.polyfit(way[upper], value[upper], 1), way[upper])
    assert np.abs(value[upper] - straight).max() < 0.05


def test_rotational_is_the_azimuth_between_the_junctions(model):
    """On the free wall of the LV, a body of revolution, the coordinate is linear in the angle."""
    centroids = model.points_mm[model.tets].mean(axis=1)
    angle = azimuth_deg(centroids)
    free = (model.region == REGIONS["lv"]) & (np.abs(centroids[:, 2]) < 6)
    # the junction follows the faces between regions, from cell to cell of 5 degrees
    axes = heart_axes(model)
    level, *edges = attachments(model, axes, junctions(model, axes))
    edge = np.abs(edges)[:, level > 0.6].mean()
    assert 62 < edge < 72
    expected = 2 / 3 * (360 - edge - angle[free] % 360) / (360 - 2 * edge)
    assert np.abs(turn_between(model.coordinates.rotational[free], expected)).max() < 0.025
    lateral = free & (np.abs(np.abs(angle) - 180) < 2)
    assert np.abs(model.coordinates.rotational[lateral] - 1 / 3).max() < 0.012


def test_septum_at_five_sixths_and_right_wall_at_a_third(model):
    centroids = model.points_mm[model.tets].mean(axis=1)
    middle = (np.abs(azimuth_deg(centroids)) < 3) & (centroids[:, 2] > -5)
    for region, expected in (("septum", 5 / 6), ("rv", 1 / 3)):
        own = middle & (model.region == REGIONS[region])
        assert own.sum() > 20
        assert np.abs(model.coordinates.rotational[own] - expected).max() < 0.03


def test_turning_and_shifting_the_heart_changes_nothing(model):
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    moved = replace(model, points_mm=model.points_mm @ turn.T + [30.0, -20.0, 100.0], coordinates=None)
    found = add_coordinates(moved).coordinates
    for name in ("apicobasal", "transmural", "wall_mm", "node_apicobasal", "node_transmural"):
        assert np.allclose(getattr(found, name), getattr(model.coordinates, name), atol=1e-3)
    assert np.abs(turn_between(found.rotational, model.coordinates.rotational)).max() < 1e-3
    assert (found.aha == model.coordinates.aha).mean() > 0.9999


def test_thickness_is_that_of_the_walls(model):
    found = model.coordinates.wall_mm
    centroids = model.points_mm[model.tets].mean(axis=1)
    lateral = (np.abs(azimuth_deg(centroids)) > 110) & (np.abs(centroids[:, 2]) < 6)
    assert np.allclose(found[lateral], 10, atol=0.15)
    middle = (np.abs(azimuth_deg(centroids)) < 8) & (np.abs(centroids[:, 2]) < 5)
    assert np.allclose(found[middle & (model.region == REGIONS["septum"])], 10, atol=0.4)
    assert np.allclose(found[middle & (model.region == REGIONS["rv"])], 4, atol=0.4)


def test_a_stray_piece_of_a_region_is_no_junction(model):
    """A few tets of the lateral wall called septum change nothing there."""
    centroids = model.points_mm[model.tets].mean(axis=1)
    stray = np.linalg.norm(centroids - [-25.0, 0.0, 0.0], axis=1) < 4
    assert stray.sum() > 10
    wrong = replace(model, region=np.where(stray, REGIONS["septum"], model.region), coordinates=None)
    assert (sheets(wrong)[stray] == REGIONS["lv"]).all()
    found = add_coordinates(wrong).coordinates
    assert np.abs(turn_between(found.rotational, model.coordinates.rotational)).max() < 0.02


def test_the_share_becomes_the_rotational_coordinate():
    share = np.array([0.0, 0.5, 1.0, 1.0, 0.5, 0.0])
    septal = np.array([False, False, False, True, True, True])
    assert np.allclose(rotational_of(share, septal), [0, 1 / 3, 2 / 3, 2 / 3, 5 / 6, 0])


def test_a_left_ventricle_alone_has_no_such_coordinates():
    with pytest.raises(SubjectError, match="RV"):
        add_coordinates(truncated_ellipsoid())


def test_the_provenance_names_the_definitions(model):
    assert "Schuler" in model.provenance["coordinates"]
