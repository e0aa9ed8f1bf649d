"""A folder of label maps: which files are read, as whom, and what is said of the others."""

import pytest

from cardiocohort.label_maps import cases
from cardiocohort.label_maps.folder import find_label_maps, ignored
from cardiocohort.runtime.errors import InputError


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
    assert list(find_label_maps(tmp_path)) == ["a", "b", "c", "d", "e", "f.1"]
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
    assert "1 file (s2.NII.gz)" in cases.ignored(tmp_path)
    (tmp_path / "s2.NII.gz").unlink()
    assert cases.ignored(tmp_path) == ""
