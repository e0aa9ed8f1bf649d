"""A folder of label maps: which files are read, as whom, and what is said of the others."""

import nibabel as nib
import nrrd
import numpy as np
import pytest

from cardiocohort.label_maps import cases
from cardiocohort.label_maps.folder import find_label_maps, ignored, subject_of
from cardiocohort.label_maps.reading import read_heart
from cardiocohort.runtime.errors import InputError
from heart_anatomy import CONVENTION, HEART
from workflow_runs import REPOSITORY


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_every_format_is_a_subject_in_any_case_of_letters(tmp_path):
    make(
        tmp_path, "cases.tsv", "covariates.tsv", "pictures/a.png"
    )  # as the target `label_maps` leaves a folder
    make(tmp_path, "a.nii.gz", "b.nrrd", "c.NII.GZ", "d.Mha", "e.seg.nrrd", "f.1.Nii")
    found = find_label_maps(tmp_path)
    assert list(found) == ["a", "b", "c", "d", "e", "f.1"]
    assert [subject_of(path) for path in found.values()] == list(found)
    assert ignored(tmp_path) == ""


def test_what_is_not_read_is_counted_and_named(tmp_path):
    make(tmp_path, "a.nii.gz", "x.mhd", "x.raw", "notes.txt", "z.nii.gz.part", ".DS_Store")
    make(tmp_path, "sub/f.nii.gz", "g.nii.gz/h")
    assert list(find_label_maps(tmp_path)) == ["a"]
    said = ignored(tmp_path)
    assert "4 files (notes.txt, x.mhd, x.raw, ...) and 2 folders (g.nii.gz, sub)" in said
    assert "\n" not in said
    assert ".DS_Store" not in said


def test_a_folder_of_nothing_else_says_what_it_holds(tmp_path):
    make(tmp_path, "x.mhd", "sub/f.nii.gz")
    with pytest.raises(InputError, match=r"no label maps here.* 1 file \(x.mhd\) and 1 folder \(sub\)"):
        find_label_maps(tmp_path)


@pytest.mark.parametrize("names", [("a.nii", "a.nrrd"), ("A.nii.gz", "a.NII"), ("a.seg.nrrd", "a.nrrd")])
def test_two_files_of_one_subject_are_refused(tmp_path, names):
    with pytest.raises(InputError, match="a second label map of subject 'a'"):
        find_label_maps(make(tmp_path, *names))


def test_volumes_beside_the_cases_are_named(tmp_path):
    make(tmp_path, "s1/aorta.nii.gz", "people.tsv", "s2.NII.gz")
    assert "1 file (s2.NII.gz)" in cases.ignored(tmp_path, [])
    assert cases.ignored(tmp_path, [tmp_path / "s2.NII.gz"]) == ""
    (tmp_path / "s2.NII.gz").unlink()
    assert cases.ignored(tmp_path, []) == ""


def save(path, labels, affine):
    """A label map along LPS+ in the format that the suffix of `path` names, by pynrrd and nibabel."""
    lps = np.diag([-1, -1, 1, 1]) @ affine
    if path.name.endswith("nrrd"):
        header = {"space": "LPS", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3]}
        nrrd.write(str(path), labels, header)
    elif path.suffix == ".mha":
        matrix, step = np.sign(lps[:3, :3]).T.ravel(), np.abs(lps[:3, :3]).max(axis=0)
        fields = {
            "NDims": [3], "DimSize": labels.shape, "ElementSpacing": step, "TransformMatrix": matrix,
            "Offset": lps[:3, 3], "ElementType": ["MET_UCHAR"], "ElementDataFile": ["LOCAL"],
        }  # fmt: skip
        head = "".join(f"{name} = {' '.join(map(str, values))}\n" for name, values in fields.items())
        path.write_bytes(head.encode() + labels.tobytes(order="F"))
    else:
        nib.save(nib.Nifti1Image(labels, affine), path.with_name("x.nii.gz"))
        path.with_name("x.nii.gz").rename(path)
    return path


@pytest.mark.parametrize("name", ["a.NII.GZ", "a.nrrd", "a.seg.nrrd", "a.mha"])
def test_a_heart_is_the_same_in_every_format_on_every_route(tmp_path, name):
    """`read_heart` is what cohorts, priors, evaluations and bases of siblings read with."""
    image = nib.load(sorted((REPOSITORY / "resources/templates").glob("T2*.nii.gz"))[0])
    labels = np.asarray(image.dataobj)[::-1].copy()  # stored from left to right
    affine = image.affine @ np.array(
        [[-1, 0, 0, labels.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    (path,) = find_label_maps(save(tmp_path / name, labels, affine).parent).values()
    read, remarks = read_heart(path, HEART, CONVENTION)
    np.testing.assert_array_equal(read.labels, np.asarray(image.dataobj))
    np.testing.assert_allclose(read.affine, image.affine, atol=1e-4)
    assert remarks == ()
