"""Resampling of masks: volumes and places survive it in any orientation and at any voxel size."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.processing import resample_from_to
from scipy.spatial.transform import Rotation

from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.label_maps import reading
from cardiocohort.label_maps.cases import Source
from cardiocohort.label_maps.resample import occupancy, overlaps, to_labels
from cardiocohort.label_maps.scans import Standard, make_label_map
from cardiocohort.label_maps.volumes import Volume, mask_of

GRID = Grid((64, 64, 64), 2.0)
AXES_MM = np.array([34.0, 26.0, 21.0])
TURN = Rotation.from_euler("xyz", [25, -40, 70], degrees=True).as_matrix()
CENTRE = np.array([13.0, -207.0, 411.0])  # in the scanner's coordinates


def scan(directions, spacing, inside, reach_mm=45.0, labels=(1,)):
    """A volume around CENTRE whose axes have `directions` (columns), label k where inside[k](x - CENTRE)."""
    shape = np.ceil(2 * reach_mm / np.asarray(spacing)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((shape - 1) / 2) + [0.3, -0.2, 0.45]
    points = np.einsum("ij,jxyz->xyzi", affine[:3, :3], np.indices(shape)) + affine[:3, 3] - CENTRE
    values = np.zeros(tuple(shape), np.uint8)
    for label, function in zip(labels, inside, strict=True):
        values[function(points)] = label
    return Volume(values, affine)


def ellipsoid(points, offset=(4.3, -2.1, 0.7)):
    return (((points - offset) @ TURN / AXES_MM) ** 2).sum(axis=-1) <= 1


OBLIQUE = Rotation.from_euler("zyx", [12, -28, 33], degrees=True).as_matrix()
FORMS = {
    "RAS": (np.eye(3), (1.5, 1.5, 1.5)),
    "LPS": (np.diag([-1.0, -1, 1]), (1.5, 1.5, 1.5)),
    "axes exchanged": (np.eye(3)[:, [2, 0, 1]] * [-1, 1, 1], (1.2, 1.6, 1.4)),
    "oblique": (OBLIQUE, (1.5, 1.5, 1.5)),
    "oblique, left-handed": (OBLIQUE * [1, 1, -1], (1.3, 1.3, 2.0)),
    "thick slices": (np.eye(3), (0.8, 0.8, 4.5)),
    "oblique, thick slices": (OBLIQUE, (0.8, 0.8, 4.5)),
    "fine": (OBLIQUE, (0.45, 0.45, 0.6)),
    "coarser than the grid": (OBLIQUE, (2.6, 2.6, 2.6)),
}


@pytest.mark.parametrize(("directions", "spacing"), FORMS.values(), ids=FORMS)
def test_volume_place_and_shape_of_an_ellipsoid_survive(directions, spacing):
    mask = mask_of(scan(directions, spacing, [ellipsoid]), ())
    labels = to_labels([occupancy(mask, GRID, CENTRE)])
    found = moments.measure_labels(labels, [(1,)], GRID.axes_mm())
    truth = moments.from_ellipsoid([4.3, -2.1, 0.7], AXES_MM, TURN)
    assert found.volume_ml[0] == pytest.approx(truth.volume_ml, rel=0.01)
    np.testing.assert_allclose(found.centroid_mm[0], truth.centroid_mm, atol=0.3)
    np.testing.assert_allclose(found.shape[0], truth.shape, atol=0.01)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.0, 1.0, 4.0)])
def test_a_volume_parallel_to_the_grid_moves_as_a_whole(spacing):
    """Its outlines fall on the same side of half everywhere, so places are right relative to each other."""

    def upper(points):
        return ((points - (2, 3, 20.4)) ** 2).sum(-1) <= 18**2

    def lower(points):
        return ((points - (-7, 5, -21.7)) ** 2).sum(-1) <= 16**2

    volume = scan(np.eye(3), spacing, [upper, lower], labels=(1, 2))
    labels = to_labels([occupancy(mask_of(volume, (k,)), GRID, CENTRE) for k in (1, 2)])
    found = moments.measure_labels(labels, [(1,), (2,)], GRID.axes_mm())
    np.testing.assert_allclose(found.centroid_mm[0] - found.centroid_mm[1], (9, -2, 42.1), atol=0.3)
    np.testing.assert_allclose(found.centroid_mm[0], (2, 3, 20.4), atol=1.0)
    truth = [4 / 3 * np.pi * r**3 / 1000 for r in (18, 16)]
    np.testing.assert_allclose(found.volume_ml, truth, rtol=0.02)


def test_a_thin_plate_keeps_its_thickness_in_the_shares():
    """3 mm thick, oblique to a 2 mm grid: the nearest voxel would make it 2 to 4 mm."""
    normal = OBLIQUE @ [0, 0, 1]

    def plate(points):
        across = points - (points @ normal)[..., None] * normal
        return (np.abs(points @ normal - 0.37) <= 1.5) & (np.linalg.norm(across, axis=-1) <= 30)

    share = occupancy(mask_of(scan(np.eye(3), (0.5, 0.5, 0.5), [plate]), ()), GRID, CENTRE)
    assert share.sum() * 8 == pytest.approx(np.pi * 30**2 * 3, rel=0.01)
    assert share.min() >= 0
    assert share.max() <= 1


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(0.7, 3.0)] * 3),
    st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_shares_add_up_to_the_masks_volume_on_any_grid(angles, spacing, shift):
    directions = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    mask = mask_of(scan(directions, spacing, [ellipsoid]), ())
    share = occupancy(mask, GRID, CENTRE + shift)
    assert share.sum(dtype=np.float64) * 8 / 1000 == pytest.approx(mask.volume_ml, rel=5e-3)
    found = moments.measure(share.astype(float), GRID.axes_mm())
    np.testing.assert_allclose(found.centroid_mm, mask.centroid_mm - CENTRE - shift, atol=0.05)


def test_only_what_lies_outside_the_grid_is_lost():
    mask = mask_of(scan(np.eye(3), (1.5, 1.5, 1.5), [ellipsoid]), ())
    whole = occupancy(mask, GRID, CENTRE)
    moved = occupancy(mask, GRID, CENTRE + np.array([60.0, 0, 0]))  # 30 voxels
    np.testing.assert_allclose(moved[:-30], whole[30:], atol=1e-5)
    assert not occupancy(mask, GRID, CENTRE + np.array([500.0, 0, 0])).any()


def test_neighbours_from_different_volumes_meet_without_a_crack():
    def left(points):
        return ellipsoid(points) & (points[..., 0] < 0.7)

    def right(points):
        return ellipsoid(points) & (points[..., 0] >= 0.7)

    first = mask_of(scan(OBLIQUE, (1.5, 1.5, 1.5), [left]), ())
    second = mask_of(scan(np.eye(3), (0.9, 0.9, 2.0), [right]), ())
    labels = to_labels([occupancy(m, GRID, CENTRE) for m in (first, second)])
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    deep = (((np.stack([x, y, z], -1) - (4.3, -2.1, 0.7)) @ TURN / (AXES_MM - 4)) ** 2).sum(-1) <= 1
    assert (labels[deep] > 0).all()
    assert (labels[deep & (x < -2)] == 1).all()
    assert (labels[deep & (x > 3)] == 2).all()


def test_the_lower_label_has_what_two_masks_claim():
    mask = mask_of(scan(OBLIQUE, (1.5, 1.5, 1.5), [ellipsoid]), ())
    share = occupancy(mask, GRID, CENTRE)
    labels = to_labels([np.zeros_like(share), share, share])
    assert set(np.unique(labels)) == {0, 2}


def test_what_two_balls_both_claim_is_their_lens_and_is_shared_out():
    """Radii 20 and 15 mm, 25 mm apart, from volumes that lie differently; the lens by its formula."""

    def ball(points):
        return ((points - (25, 0, 0)) ** 2).sum(-1) <= 15**2

    first = mask_of(scan(OBLIQUE, (1.5, 1.5, 1.5), [lambda p: (p**2).sum(-1) <= 20**2]), ())
    second = mask_of(
        scan(np.eye(3), (1.1, 0.9, 1.2), [lambda p: ((p - (25, 0, 0)) ** 2).sum(-1) <= 15**2]), ()
    )
    shares = [occupancy(m, GRID, CENTRE) for m in (first, second)]
    ((pair, (total, one, other)),) = overlaps(shares, to_labels(shares)).items()
    d, r, s = 25.0, 20.0, 15.0
    lens = np.pi * (r + s - d) ** 2 * (d**2 + 2 * d * (r + s) - 3 * (r - s) ** 2) / (12 * d)
    assert pair == (1, 2)
    assert total * 8 == pytest.approx(lens, rel=0.05)
    assert one + other == pytest.approx(total)
    assert one > other > 0  # where both fill a voxel the lower label has it


def test_neighbours_claim_nothing_together():
    volume = halves(OBLIQUE, (1.5, 1.5, 1.5))
    shares = [occupancy(mask_of(volume, (k,)), GRID, CENTRE) for k in (1, 2)]
    assert all(total < 1e-3 for total, _, _ in overlaps(shares, to_labels(shares)).values())


def halves(directions, spacing):
    """An ellipsoid in two parts, labels 1 and 2."""

    def upper(points):
        return ellipsoid(points) & (points @ (0.36, 0.48, 0.8) >= 0.4)

    def lower(points):
        return ellipsoid(points) & (points @ (0.36, 0.48, 0.8) < 0.4)

    return scan(directions, spacing, [upper, lower], labels=(1, 2))


BODY = Standard(
    Anatomy(("upper", "lower"), ("upper", "lower")), GRID, topology.Rules((), ()), (), reading.Convention()
)


# with the least Dice: voxels as long as the grid's, half a voxel beside its own, are averaged over two
PLACED = {name: (*form, 0.96) for name, form in FORMS.items() if "fine" not in name}
PLACED["LPS, as coarse as the grid"] = (np.diag([-1.0, -1, 1]), (2.0, 2.0, 2.0), 0.93)


@pytest.mark.parametrize(("directions", "spacing", "least"), PLACED.values(), ids=PLACED)
def test_a_written_map_lies_on_its_scan(tmp_path, directions, spacing, least):
    """As another reader sees it in the scan's own voxels: the way back to the scanner is kept."""
    volume = halves(directions, spacing)
    (tmp_path / "case").mkdir()
    nib.save(nib.Nifti1Image(volume.values, volume.affine), tmp_path / "case/scan.nii")
    sources = {name: (Source("scan.nii", (k,)),) for k, name in enumerate(BODY.anatomy.structures, 1)}
    (tmp_path / "maps/pictures").mkdir(parents=True)
    record = make_label_map(BODY, tmp_path / "maps/pictures/case.png", (tmp_path / "case", sources, ()))
    assert record["verdict"] == "accepted", record["reason"]
    written = nib.load(tmp_path / "maps/case.nii.gz")
    seen = resample_from_to(written, (volume.values.shape, volume.affine), order=0).get_fdata()
    for k in (1, 2):
        ours, theirs = seen == k, volume.values == k
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) >= least
    whole = mask_of(Volume(np.asarray(written.dataobj), written.affine), (1, 2))
    np.testing.assert_allclose(whole.centroid_mm, mask_of(volume, (1, 2)).centroid_mm, atol=0.1)
    middle = written.affine @ [*((np.array(GRID.shape) - 1) / 2), 1]
    np.testing.assert_allclose(middle[:3], record["origin_mm"], atol=1e-3)


def test_turning_the_storage_changes_nothing():
    volume = scan(OBLIQUE, (1.5, 1.2, 1.9), [ellipsoid])
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, volume.values.shape[0] - 1
    turned = Volume(volume.values[::-1].transpose(2, 0, 1), volume.affine @ flip @ np.eye(4)[:, [2, 0, 1, 3]])
    shares = [occupancy(mask_of(v, ()), GRID, CENTRE) for v in (volume, turned)]
    np.testing.assert_allclose(*shares, atol=1e-4)
