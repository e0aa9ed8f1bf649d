"""Users' volumes of labels: formats written by other software, orientation, what is refused and why."""

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiocohort.label_maps.volumes import Volume, labelled_volume, mask_of, read_layered, read_volume
from cardiocohort.runtime.errors import InputError

NRRD = Path(__file__).resolve().parents[2] / "data/nrrd"
VALUES = np.load(NRRD / "values.npy")
SLICER = NRRD / "slicer_overlapping.seg.nrrd"
ITK = [f"simpleitk.{suffix}" for suffix in ("nii.gz", "nrrd", "nhdr", "mha", "mhd")]


@pytest.mark.parametrize("name", ["pynrrd_raw.nrrd", "pynrrd_gzip.nrrd", *ITK])
def test_values_of_files_by_other_software(name):
    values = read_volume(NRRD / name).values
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, VALUES)


@pytest.mark.parametrize("name", ITK)
def test_the_affine_is_the_one_that_itk_writes_into_a_nifti_file(name):
    affine = nib.load(NRRD / "simpleitk.nii.gz").affine
    np.testing.assert_allclose(read_volume(NRRD / name).affine, affine, atol=1e-5)


def test_the_space_is_turned_into_ras():
    lps, ras = (read_volume(NRRD / name).affine for name in ("simpleitk.nrrd", "pynrrd_raw.nrrd"))
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ lps, ras, atol=1e-9)


@pytest.mark.parametrize("name", ITK)
def test_suffixes_are_read_in_any_case_of_letters(tmp_path, name):
    path = shutil.copy(NRRD / name, tmp_path / f"X.{name.partition('.')[2].upper()}")
    shutil.copy(NRRD / "simpleitk.raw", tmp_path)
    np.testing.assert_array_equal(read_volume(path).values, VALUES)


def test_segments_of_3d_slicer_by_name():
    """Counts as SimpleITK and the file's own labels give them."""
    layers = read_layered(SLICER)
    found = {
        name: int(mask_of(*labelled_volume(layers, (name,))).voxels.sum())
        for name in ("ribs", "right lung", "overlapping sphere")
    }
    assert found == {"ribs": 8487, "right lung": 34450, "overlapping sphere": 19139}
    both = mask_of(*labelled_volume(layers, ("ribs", "right lung")))
    assert both.voxels.sum() == 8487 + 34450


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (("liver",), "'liver'; its segments: 'ribs', 'cervical vertebral column'"),
        ((), "2 layers"),
        ((1,), "2 layers"),
        (("ribs", "overlapping sphere"), "2 layers"),
        (("ribs", 1), "2 layers"),
    ],
)
def test_what_is_not_one_segment_of_a_file_is_refused(named, told):
    with pytest.raises(InputError, match=told):
        labelled_volume(read_layered(SLICER), named)


RAW = (NRRD / "pynrrd_raw.nrrd").read_bytes()
BROKEN = {
    "not one": (b"NIFTI\n\n", "does not begin with NRRD"),
    "no end": (RAW[:200], "no end"),
    "too short": (RAW[:-1], "truncated"),
    "too long": (RAW + b"\0", "holds more"),
    "no voxels beside it": (RAW.replace(b"sizes", b"data file: x.raw\nsizes"), "'x.raw'"),
    "type": (RAW.replace(b"type: int16", b"type: block"), "'type': 'block'"),
    "size": (RAW.replace(b"sizes: 7 5 6", b"sizes: 7 5 99999999"), "'sizes'"),
    "no number": (RAW.replace(b"sizes: 7 5 6", b"sizes: 7 5 x"), "'sizes'"),
    "endian": (RAW.replace(b"endian: little", b"endian:little"), "'endian'"),
    "encoding": (RAW.replace(b"encoding: raw", b"encoding: hex"), "'encoding': 'hex'"),
    "space": (RAW.replace(b"space: right-anterior-superior", b"space: 3D-right-handed"), "'space'"),
    "origin": (RAW.replace(b"origin: (3.5,", b"origin: (nan,"), "'space origin'"),
}  # fmt: skip


MHA = (NRRD / "simpleitk.mha").read_bytes()
BROKEN_METAIMAGES = {
    "no end": (MHA[:200], "no line 'ElementDataFile"),
    "too short": (MHA[:-9], "truncated"),
    "type": (MHA.replace(b"MET_SHORT", b"MET_STRING"), "'elementtype': 'met_string'"),
    "size": (MHA.replace(b"DimSize = 7", b"DimSize = 7777777"), "'dimsize'"),
    "too many": (MHA.replace(b"DimSize = 7 5 6", b"DimSize = 99999 999 99"), "too many"),
    "promise": (MHA.replace(b"DimSize = 7 5 6", b"DimSize = 700 500 600"), "can hold"),
    "channels": (MHA.replace(b"NDims", b"ElementNumberOfChannels = 3\nNDims"), "'elementnumberofchannels'"),
    "text": (MHA.replace(b"BinaryData = True", b"BinaryData = False"), "'binarydata'"),
    "orientation": (MHA.replace(b"TransformMatrix", b"Matrix"), "'transformmatrix': ''"),
    "spacing": (MHA.replace(b"Spacing = 0.8", b"Spacing = -0.8"), "'elementspacing'"),
    "list": (MHA.replace(b"LOCAL", b"LIST"), "'LIST'"),
    "one file": (MHA.replace(b"LOCAL", b"x.raw"), "'x.raw'"),
}


@pytest.mark.parametrize(
    ("suffix", "content", "told"),
    [
        *(("nrrd", *broken) for broken in BROKEN.values()),
        *(("mha", *broken) for broken in BROKEN_METAIMAGES.values()),
    ],
    ids=[*BROKEN, *(f"mha {name}" for name in BROKEN_METAIMAGES)],
)
def test_errors_of_broken_files_name_the_field(tmp_path, suffix, content, told):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["simpleitk.nhdr", "simpleitk.mhd"])
@pytest.mark.parametrize("away", ["../x/simpleitk.raw", "/etc/passwd", "..", "sub/simpleitk.raw", "%d.raw"])
def test_voxels_outside_the_folder_are_never_read(tmp_path, name, away):
    for folder in ("x", "x/sub"):
        (tmp_path / folder).mkdir()
        shutil.copy(NRRD / "simpleitk.raw", tmp_path / folder)
    content = (NRRD / name).read_bytes()
    assert content.count(b"simpleitk.raw") == 1
    (tmp_path / "x" / name).write_bytes(content.replace(b"simpleitk.raw", away.encode()))
    with pytest.raises(InputError, match="its voxels are in"):
        read_volume(tmp_path / "x" / name)


@pytest.mark.parametrize(
    ("name", "told"), [("pynrrd_layers.nrrd", "2 layers"), ("pynrrd_unoriented.nrrd", "'space'")]
)
def test_forms_that_are_not_read_say_so(name, told):
    with pytest.raises(InputError, match=told):
        read_volume(NRRD / name)


def test_a_corrupt_gzip_stream_is_refused(tmp_path):
    whole = (NRRD / "pynrrd_gzip.nrrd").read_bytes()
    (tmp_path / "x.nrrd").write_bytes(whole[:-12] + bytes(12))
    with pytest.raises(InputError, match="truncated or corrupt"):
        read_volume(tmp_path / "x.nrrd")


def save(path, values, affine, code=1):
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("values", "code", "told"),
    [
        (np.zeros((3, 4), np.uint8), 1, "three dimensions"),
        (np.zeros((3, 4, 5, 2), np.uint8), 1, "three dimensions"),
        (np.zeros((3, 4, 5), np.uint8), 0, "how the volume lies in the body"),
        (np.full((3, 4, 5), 0.5, np.float32), 1, r"whole numbers \(0.5\).* probabilities"),
        (np.full((3, 4, 5), 1e12, np.float32), 1, "whole numbers"),
        (np.full((3, 4, 5), np.nan, np.float32), 1, "whole numbers"),
    ],
)
def test_nifti_files_that_are_no_labels(tmp_path, values, code, told):
    path = save(tmp_path / "x.nii.gz", values, np.eye(4), code)
    with pytest.raises(InputError, match=told) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)


def test_a_truncated_nifti_file_is_refused(tmp_path):
    path = save(
        tmp_path / "x.nii.gz", np.random.default_rng(0).integers(0, 9, (20, 20, 20), np.uint8), np.eye(4)
    )
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="truncated or corrupt"):
        read_volume(path)
    (tmp_path / "y.nii.gz").write_bytes(gzip.compress(b"no volume"))
    with pytest.raises(InputError, match="truncated or corrupt"):
        read_volume(tmp_path / "y.nii.gz")


def test_a_series_of_one_and_whole_numbers_in_floats_are_labels(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    read = read_volume(save(tmp_path / "x.nii", values, np.diag([1.0, 2, 3, 1])))
    np.testing.assert_array_equal(read.values, values[..., 0])


def ball(shape=(40, 40, 40), centre=(20, 20, 20), radius=12.0):
    distance = np.linalg.norm(np.indices(shape) - np.reshape(centre, (3, 1, 1, 1)), axis=0)
    return np.where(distance <= radius, 3, 0).astype(np.uint8)


def test_a_mask_knows_its_volume_and_place():
    affine = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -5], [0, 0, 1, 7], [0, 0, 0, 1]])
    mask = mask_of(Volume(ball(), affine), (3, 9))
    assert mask.volume_ml == pytest.approx(4 / 3 * np.pi * 12**3 * 3e-3, rel=0.02)
    np.testing.assert_allclose(mask.centroid_mm, [-40 + 30, 30 - 5, 27])
    assert mask.cut == ()
    assert mask_of(Volume(ball(), affine), (9,)) is None
    assert mask_of(Volume(ball(), affine), ()).voxels.sum() == mask.voxels.sum()


@pytest.mark.parametrize(
    ("centre", "side"),
    [
        ((5, 20, 20), "right"),
        ((34, 20, 20), "left"),
        ((20, 5, 20), "posterior"),
        ((20, 34, 20), "anterior"),
        ((20, 20, 5), "inferior"),
        ((20, 20, 34), "superior"),
    ],
)
def test_a_cut_by_the_field_is_seen_on_every_side(centre, side):
    assert mask_of(Volume(ball(centre=centre), np.diag([-1.0, 1, 1, 1])), ()).cut == (side,)


def test_a_flat_end_before_the_field_is_a_cut_a_round_one_not():
    values = ball(centre=(20, 20, 32))  # would reach beyond the field at 39
    values[:, :, 39:] = 0
    assert mask_of(Volume(values, np.eye(4)), ()).cut == ("superior",)
    assert mask_of(Volume(ball(centre=(20, 20, 26)), np.eye(4)), ()).cut == ()  # ends one voxel before it


def masks(background, foreground, dtype=np.int16):
    return Volume(np.where(ball() > 0, foreground, background).astype(dtype), np.diag([2.0, 2, 2, 1]))


@pytest.mark.parametrize(
    ("background", "foreground", "remark"),
    [(0, 1, ""), (0, 255, ""), (-1024, 1, "background -1024 read as 0"), (-1, 7, "background -1 read as 0")],
)
def test_a_mask_on_any_background_is_its_structure(background, foreground, remark):
    mask = mask_of(masks(background, foreground), ())
    assert mask.voxels.sum() == (ball() > 0).sum()
    assert mask.remark == remark


@pytest.mark.parametrize("background", [0, -1024])
def test_a_mask_of_background_alone_holds_nothing(background):
    assert mask_of(masks(background, background), ()) is None


@pytest.mark.parametrize(
    ("volume", "told"),
    [
        (masks(1, 2), "values 1, 2.*'file:1'"),
        (masks(-1024, 0), "values -1024, 0"),
        (masks(0, -3), "values -3, 0"),
        (masks(255, 255), "values 255"),
        (masks(1, 0), "value 1 fills most of the volume's border"),
        (masks(1, -1024), "value 1 fills most"),
        (Volume(np.arange(60).reshape(3, 4, 5), np.eye(4)), "values 0, 1, 2, 3, 4, 5, 6, 7, ..."),
    ],
)
def test_a_mask_that_may_be_another_is_refused_with_its_values(volume, told):
    with pytest.raises(InputError, match=told):
        mask_of(volume, ())
