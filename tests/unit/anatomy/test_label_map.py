"""Label maps: round trips, reorientation, and every kind of file that must be refused by name."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.anatomy.label_map import LabelMap, read_label_map, to_grid, write_label_map, write_volume
from cardiocohort.anatomy.labels import Grid
from cardiocohort.label_maps.importing import ORIGIN_COLUMNS, anatomies_table, import_label_map
from cardiocohort.runtime.errors import InputError, SubjectError
from cardiocohort.topology import load_rules
from heart_anatomy import CONVENTION, HEART, HEART_GRID

TEMPLATES = Path(__file__).resolve().parents[3] / "resources/templates"
GRID = Grid((12, 10, 8), 2.0)


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 11, GRID.shape).astype(np.uint8)


def save(path, data, affine=None, dtype=None):
    image = nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine, dtype=dtype)
    nib.save(image, path)
    return path


def test_round_trip_through_nibabel_and_back(tmp_path, labels):
    write_label_map(tmp_path / "a.nii.gz", labels, GRID)
    other = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(other.dataobj), labels)
    assert nib.aff2axcodes(other.affine) == ("R", "A", "S")
    # the middle of the field is the origin of the world
    np.testing.assert_allclose(other.affine @ [*(np.array(GRID.shape) - 1) / 2, 1], [0, 0, 0, 1])
    own = read_label_map(tmp_path / "a.nii.gz", HEART)
    np.testing.assert_array_equal(own.labels, labels)
    np.testing.assert_allclose(own.axes_mm[0], GRID.axes_mm()[0])


def test_the_same_labels_are_the_same_bytes(tmp_path, labels):
    for name in ("a", "b"):
        write_label_map(tmp_path / f"{name}.nii.gz", labels, GRID)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_flipped_and_permuted_axes_come_back_as_ras(tmp_path, labels):
    """The same voxels stored left-posterior-superior and with axes in another order."""
    ras = GRID.affine()
    stored = labels[::-1, ::-1].transpose(2, 0, 1)
    turn = np.zeros((4, 4))
    turn[0, 1], turn[1, 2], turn[2, 0], turn[3, 3] = -1, -1, 1, 1
    turn[0, 3], turn[1, 3] = labels.shape[0] - 1, labels.shape[1] - 1
    got = read_label_map(save(tmp_path / "lps.nii.gz", stored, ras @ turn), HEART)
    np.testing.assert_array_equal(got.labels, labels)
    np.testing.assert_allclose(got.affine, ras)


def with_affine_row(path, data, row):
    """A file whose header holds a first row of the affine that nibabel would not write itself."""
    image = nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header["srow_x"] = row
    content = bytearray(image.to_bytes())
    content[280:296] = np.asarray(row, dtype="<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p, x: save(p, np.where(x == 3, 57, x).astype(np.uint8)), "label 57 is not in the anatomy"),
        (lambda p, x: save(p, np.where(x == 3, -1, x.astype(np.int16))), "label -1 is not in the anatomy"),
        (lambda p, x: save(p, x + np.float32(0.5)), "not whole numbers"),
        (lambda p, x: save(p, np.where(x == 3, np.nan, x).astype(np.float32)), "not finite"),
        (lambda p, x: save(p, np.stack([x, x], -1)), "three dimensions"),
        (lambda p, x: with_affine_row(p, x, np.full(4, np.nan)), "affine is not an invertible matrix"),
        (lambda p, x: with_affine_row(p, x, np.zeros(4)), "affine is not an invertible matrix"),
        (lambda p, x: p.write_bytes(b"no NIfTI at all"), "truncated or corrupt"),
        (lambda p, x: p.write_bytes(gzip.compress(b"short")), "truncated or corrupt"),
        (lambda p, x: None, "no such label map"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path, labels, make, message):
    path = tmp_path / "bad.nii.gz"
    make(path, labels)
    with pytest.raises(InputError, match=message) as error:
        read_label_map(path, HEART)
    assert "bad.nii.gz" in str(error.value)


def test_an_oblique_volume_is_refused(tmp_path, labels):
    angle = np.radians(10)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:2, :2] = 2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    with pytest.raises(InputError, match="oblique"):
        read_label_map(save(tmp_path / "bad.nii.gz", labels, affine), HEART)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path_factory, data):
    """Any truncation or any damaged byte: whole labels, or an InputError that names the file."""
    path = tmp_path_factory.mktemp("fuzz") / "damaged.nii.gz"
    labels = np.random.default_rng(0).integers(0, 11, GRID.shape).astype(np.uint8)
    write_label_map(path, labels, GRID)
    packed = data.draw(st.booleans())
    content = bytearray(path.read_bytes() if packed else gzip.decompress(path.read_bytes()))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content) if packed else gzip.compress(bytes(content)))
    message = ""
    try:
        read_label_map(path, HEART)
    except InputError as error:
        message = str(error)
    assert message == "" or "damaged.nii.gz" in message


def test_padding_to_the_grid_keeps_the_heart_centred():
    template = read_label_map(TEMPLATES / "T1_totalsegmentator_s0327.nii.gz", HEART)
    padded = to_grid(template, HEART_GRID)
    assert padded.labels.shape == HEART_GRID.shape
    np.testing.assert_array_equal(padded.labels[8:-8, 8:-8, 8:-8], template.labels)


def test_an_imported_map_tells_where_its_origin_was(tmp_path):
    """What was added to a scan's origin comes back in the table: meshes can be put over the scan again."""
    source = TEMPLATES / "T1_totalsegmentator_s0327.nii.gz"
    heart = read_label_map(source, HEART)
    rules = load_rules(TEMPLATES.parent / "anatomies/heart/topology.tsv", HEART)
    origins = []
    for shift in ([0.0, 0.0, 0.0], [31.5, -120.25, 7.0]):
        affine = heart.affine.copy()
        affine[:3, 3] += shift
        write_volume(tmp_path / "moved.nii.gz", LabelMap(heart.labels, affine))
        record = import_label_map(
            tmp_path / "in.nii.gz", (str(tmp_path / "moved.nii.gz"), HEART, HEART_GRID, rules, CONVENTION)
        )
        origins.append(record["origin_mm"])
    np.testing.assert_allclose(np.subtract(*reversed(origins)), [31.5, -120.25, 7.0], atol=1e-4)
    frame = anatomies_table([record | {"subject": "a", "file": "a", "size": 1, "sha256": ""}], "arm", HEART)
    np.testing.assert_allclose(frame[list(ORIGIN_COLUMNS)].iloc[0], origins[1])


def test_a_map_that_cannot_be_used_ends_itself_alone(tmp_path):
    rules = load_rules(TEMPLATES.parent / "anatomies/heart/topology.tsv", HEART)
    source = tmp_path / "cut.nii.gz"
    source.write_bytes((TEMPLATES / "T1_totalsegmentator_s0327.nii.gz").read_bytes()[:5000])
    with pytest.raises(SubjectError, match="truncated or corrupt") as caught:
        import_label_map(tmp_path / "in.nii.gz", (str(source), HEART, HEART_GRID, rules, CONVENTION))
    failed = {"subject": "b", "verdict": "failed", "reason": caught.value.reason, "detail": str(caught.value)}
    frame = anatomies_table([failed | {"file": "", "size": None, "sha256": ""}], "arm", HEART)
    assert set(frame["status"]) == {"failed"}
    assert frame["volume_ml"].isna().all()
    assert "cannot be used: not a readable NIfTI file" in frame["reason"][0]


# Linux alone has a file that every user, root too, fails to read
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file at hand that fails to be read")
def test_a_map_that_the_file_system_withholds_ends_the_job(tmp_path):
    rules = load_rules(TEMPLATES.parent / "anatomies/heart/topology.tsv", HEART)
    (tmp_path / "x.nii").symlink_to("/proc/self/mem")  # its first page: input/output error
    with pytest.raises(InputError, match="Input/output error"):
        import_label_map(
            tmp_path / "in.nii.gz", (str(tmp_path / "x.nii"), HEART, HEART_GRID, rules, CONVENTION)
        )
