"""AHA segments: the angles and heights of the standard, and where they lie in a heart."""

import numpy as np
import pytest

from cardiocohort.anatomy.aha_segments import LEFT, RIGHT, SEGMENTS, WALL_COLUMNS
from cardiocohort.mesh.model import REGIONS
from cardiocohort.microstructure.coordinates import add_coordinates
from cardiocohort.microstructure.junctions import sheets
from cardiocohort.microstructure.segments import left_segments, right_segments, sectors
from cardiocohort.microstructure.thickness import segment_thickness
from small_meshes import biventricle


@pytest.fixture(scope="module")
def model():
    return add_coordinates(biventricle())


def test_there_are_seventeen_and_nine():
    assert list(LEFT) == list(range(1, 18))
    assert list(RIGHT) == list(range(18, 27))
    assert len(set(SEGMENTS.values())) == 26
    assert WALL_COLUMNS[7] == "wall_mm_aha_07"


def at(height, angle):
    """Segments at angles whose attachments lie at +60 and -60 degrees."""
    angle = np.asarray(angle, dtype=float)
    height = np.full(len(angle), float(height))
    ends = np.array([0.5]), np.array([60.0]), np.array([-60.0])
    return left_segments(height, sectors(height, angle, *ends))


@pytest.mark.parametrize(("height", "first"), [(0.9, 1), (0.5, 7)])
def test_six_sectors_run_from_anterior_over_the_septum(height, first):
    """Angles run from the middle of the septum (0) to anterior (90), lateral (180) and inferior (-90)."""
    middle = np.array([90, 30, -30, -90, -150, 150])
    assert at(height, middle).tolist() == list(range(first, first + 6))
    angles = np.arange(-180, 180) + 0.5
    found = at(height, angles)
    assert (np.bincount(found)[first:] == 60).all()
    for k, centre in enumerate(middle):
        own = (angles[found == first + k] - centre + 180) % 360 - 180
        assert np.abs(own).max() == 29.5


def test_the_apical_third_has_four_sectors_and_one_apex():
    middle = np.array([90, 0, -90, 180])
    assert at(0.2, middle).tolist() == [13, 14, 15, 16]
    angles = np.arange(-180, 180) + 0.5
    found = at(0.2, angles)
    assert (np.bincount(found)[13:] == 90).all()
    assert np.abs(angles[found == 14]).max() == 44.5
    assert set(at(-0.02, angles)) == {17}


def test_attachments_part_septum_and_free_wall_wherever_they_lie():
    height, ends = np.full(4, 0.9), (np.array([0.9]), np.array([80.0]), np.array([-40.0]))
    assert left_segments(height, sectors(height, np.array([79.0, 81, -39, -41]), *ends)).tolist() == [
        2,
        1,
        3,
        4,
    ]
    assert left_segments(height, sectors(height, np.array([21.0, 19, 199, 201]), *ends)).tolist() == [
        2,
        3,
        6,
        5,
    ]


def test_the_right_wall_has_three_by_three():
    levels, shares = np.meshgrid([0.9, 0.5, 0.1], [0.9, 0.5, 0.1], indexing="ij")
    assert right_segments(levels.ravel(), shares.ravel()).tolist() == list(range(18, 27))
    assert right_segments(np.array([1.0, 0.0]), np.array([1.0, 0.0])).tolist() == [18, 26]


def test_segments_lie_where_their_names_say(model):
    """+y is anterior, +x the side of the RV, z upwards to the base."""
    centroids, aha = model.points_mm[model.tets].mean(axis=1), model.coordinates.aha
    centre = {k: centroids[aha == k].mean(axis=0) for k in SEGMENTS}
    for base, mid, apical in ((1, 7, 13), (4, 10, 15)):
        assert centre[base][2] > centre[mid][2] > centre[apical][2] > centre[17][2]
    for anterior, inferior in ((1, 4), (2, 3), (6, 5), (7, 10), (13, 15), (18, 20), (24, 26)):
        assert centre[anterior][1] > 3
        assert centre[inferior][1] < -3
    for septal, lateral in ((2, 6), (3, 5), (8, 12), (14, 16)):
        assert centre[septal][0] > 0 > centre[lateral][0]
    assert np.array_equal(aha > 17, sheets(model) == REGIONS["rv"])


@pytest.mark.parametrize("level", [(1, 4, 5, 6), (7, 10, 11, 12)])
def test_segments_of_the_free_wall_are_alike(model, level):
    """The lattice has a node every 5 degrees, a twelfth of a sector to either side."""
    volumes = np.bincount(model.coordinates.aha, model.tet_volumes_mm3)[list(level)]
    assert volumes.max() / volumes.min() < 1.25


def test_thirds_of_the_long_axis(model):
    """From the end of the cavity (z = -40) to the base."""
    top = model.points_mm[model.nodes_of("base"), 2].max()
    z, aha = model.points_mm[model.tets].mean(axis=1)[:, 2], model.coordinates.aha
    rim = model.points_mm[np.intersect1d(model.nodes_of("base"), model.nodes_of("lv_endo")), 2].mean()
    assert top > rim > 0
    cuts = [-40 + (rim + 40) * share for share in (0, 1 / 3, 2 / 3)]
    lateral = np.isin(aha, (5, 6, 11, 12, 16, 17))
    for low, high, allowed in (
        (-99, cuts[0], (17,)), (cuts[0], cuts[1], (16,)), (cuts[1], cuts[2], (11, 12)), (cuts[2], 99, (5, 6)),
    ):  # fmt: skip
        own = lateral & (z > low + 0.5) & (z < high - 0.5)
        assert own.sum() > 50
        assert np.isin(aha[own], allowed).all()


def test_thickness_of_a_segment_is_that_of_its_wall(model):
    found = segment_thickness(model, SEGMENTS)
    for number in (5, 6, 11, 12):
        assert found[number] == pytest.approx(10, abs=0.25)
    assert 2.5 < found[19] < 4.1
    assert np.isfinite(list(found.values())).all()


def test_an_empty_segment_has_no_thickness(model):
    assert np.isnan(segment_thickness(model, [1, 40])[40])
