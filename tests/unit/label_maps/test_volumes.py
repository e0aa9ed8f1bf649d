"""Users' volumes of labels: NRRD written by other software, orientation, what is refused and why."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiocohort.label_maps.nrrd import read_nrrd
from cardiocohort.label_maps.volumes import Volume, mask_of, read_volume
from cardiocohort.runtime.errors import InputError

NRRD = Path(__file__).resolve().parents[2] / "data/nrrd"
VALUES = np.load(NRRD / "values.npy")


@pytest.mark.parametrize("name", ["pynrrd_raw.nrrd", "pynrrd_gzip.nrrd", "simpleitk.nrrd"])
def test_values_of_files_by_other_software(name):
    values, _ = read_nrrd(NRRD / name)
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, VALUES)


def test_the_affine_is_the_one_that_itk_writes_into_a_nifti_file():
    _, affine = read_nrrd(NRRD / "simpleitk.nrrd")
    np.testing.assert_allclose(affine, nib.load(NRRD / "simpleitk.nii.gz").affine, atol=1e-5)


def test_the_space_is_turned_into_ras():
    _, lps = read_nrrd(NRRD / "simpleitk.nrrd")
    _, ras = read_nrrd(NRRD / "pynrrd_raw.nrrd")
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ lps, ras, atol=1e-9)


RAW = (NRRD / "pynrrd_raw.nrrd").read_bytes()
BROKEN = {
    "not one": (b"NIFTI\n\n", "does not begin with NRRD"),
    "no end": (RAW[:200], "no end"),
    "too short": (RAW[:-1], "truncated"),
    "too long": (RAW + b"\0", "holds more"),
    "type": (RAW.replace(b"type: int16", b"type: block"), "'type': 'block'"),
    "size": (RAW.replace(b"sizes: 7 5 6", b"sizes: 7 5 99999999"), "'sizes'"),
    "no number": (RAW.replace(b"sizes: 7 5 6", b"sizes: 7 5 x"), "'sizes'"),
    "endian": (RAW.replace(b"endian: little", b"endian:little"), "'endian'"),
    "encoding": (RAW.replace(b"encoding: raw", b"encoding: hex"), "'encoding': 'hex'"),
    "detached": (RAW.replace(b"encoding: raw", b"data file: x\nencoding: raw"), "'data file'"),
    "space": (RAW.replace(b"space: right-anterior-superior", b"space: 3D-right-handed"), "'space'"),
    "origin": (RAW.replace(b"origin: (3.5,", b"origin: (nan,"), "'space origin'"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "told"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_told_with_the_field(tmp_path, content, told):
    path = tmp_path / "x.nrrd"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"), [("pynrrd_layers.nrrd", "'dimension': '4'"), ("pynrrd_unoriented.nrrd", "'space'")]
)
def test_forms_that_are_not_read_say_so(name, told):
    with pytest.raises(InputError, match=told):
        read_volume(NRRD / name)


def test_a_corrupt_gzip_stream_is_told(tmp_path):
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
        (np.full((3, 4, 5), 0.5, np.float32), 1, "whole numbers"),
        (np.full((3, 4, 5), np.nan, np.float32), 1, "whole numbers"),
    ],
)
def test_nifti_files_that_are_no_labels(tmp_path, values, code, told):
    path = save(tmp_path / "x.nii.gz", values, np.eye(4), code)
    with pytest.raises(InputError, match=told) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)


def test_a_truncated_nifti_file_is_told(tmp_path):
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
