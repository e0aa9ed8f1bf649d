"""A user's label map: the right heart, or an error that names what the file looks like."""

import itertools
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.label_map import LabelMap, read_label_map
from cardiocohort.label_maps.layout import load_layout, misalignment
from cardiocohort.label_maps.numberings import load_numberings
from cardiocohort.label_maps.reading import open_convention, read_heart
from cardiocohort.runtime.errors import InputError
from heart_anatomy import CONVENTION, CONVENTION_FILES, HEART, RESOURCES
from tiny_prior import ANATOMY as TINY

TEMPLATES = sorted((RESOURCES / "templates").glob("*.nii.gz"))
GROUPS = [(k,) for k in range(1, 11)]
FLIPS = [np.array(signs) for signs in itertools.product((1, -1), repeat=3)]
ORDERS = list(itertools.permutations(range(3)))
SEVEN = range(8, 11)  # labels that a whole-heart map of seven structures lacks
BIVENTRICULAR = range(4, 11)


def heart(index: int = 1, without=()) -> LabelMap:
    template = read_label_map(TEMPLATES[index], HEART)
    return LabelMap(np.where(np.isin(template.labels, without), 0, template.labels), template.affine)


T2 = heart()
CENTROIDS = moments.measure_labels(T2.labels, GROUPS, T2.axes_mm).centroid_mm


def stored(label_map: LabelMap, order=(0, 1, 2), signs=(1, 1, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Voxels with other axes, and the affine that says so."""
    turn = np.column_stack([order, signs])
    turned = nib.orientations.apply_orientation(label_map.labels, turn)
    return turned, label_map.affine @ nib.orientations.inv_ornt_aff(turn, label_map.labels.shape)


def save(path, labels, sform, qform=None, codes=(1, 1), pixdim=None):
    """A NIfTI file with exactly these forms, codes and voxel sizes, consistent or not."""
    header = nib.Nifti1Header()
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(labels.shape)
    header.set_xyzt_units("mm")
    header.set_qform(sform if qform is None else qform, code=codes[1])  # it sets pixdim too
    header.set_sform(sform, code=codes[0])
    if pixdim is not None:
        header["pixdim"][1:4] = pixdim
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(header.binaryblock + bytes(4) + labels.tobytes(order="F"))
    return path


def same_heart(read: LabelMap, original: LabelMap) -> bool:
    here, there = (moments.measure_labels(m.labels, GROUPS, m.axes_mm) for m in (read, original))
    return bool(
        np.allclose(here.volume_ml, there.volume_ml, rtol=1e-6)
        and np.allclose(here.centroid_mm, there.centroid_mm, atol=1e-3)
    )


def refusal(path, convention=CONVENTION) -> str:
    with pytest.raises(InputError) as error:
        read_heart(path, HEART, convention)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value).removeprefix(f"{path}: ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hearts")


# ---- headers


@settings(max_examples=12, deadline=None)
@given(
    order=st.sampled_from(ORDERS),
    signs=st.sampled_from(FLIPS),
    codes=st.sampled_from([(1, 1), (2, 0), (0, 1), (4, 4)]),
)
def test_any_storage_with_a_true_header_is_the_same_heart(folder, order, signs, codes):
    labels, affine = stored(T2, order, signs)
    read, remarks = read_heart(save(folder / "a.nii", labels, affine, codes=codes), HEART, CONVENTION)
    assert same_heart(read, T2)
    assert remarks == ()


@settings(max_examples=20, deadline=None)
@given(
    order=st.sampled_from(ORDERS), signs=st.sampled_from(FLIPS), scale=st.sampled_from([1.0, 0.5, 0.8, 1.25]),
    shift=st.sampled_from([0.0, 40.0]), codes=st.sampled_from([(1, 1), (2, 1), (1, 0), (0, 1), (0, 0)]),
)  # fmt: skip
def test_contradictory_forms_are_never_a_wrong_heart(folder, order, signs, scale, shift, codes):
    """The qform is true, the sform any other: what is read is the true heart, or a named refusal."""
    _, other = stored(T2, order, signs)
    other[:3] *= scale
    other[:3, 3] += shift
    path = save(folder / "b.nii", T2.labels, other, T2.affine, codes)
    try:
        read, _ = read_heart(path, HEART, CONVENTION)
    except InputError as error:
        message = str(error)
        assert re.search("contradicts itself|does not say how|its heart lies|position: |mirrored", message)
    else:
        true_affine = T2.affine.copy()
        true_affine[:3, 3] += shift * (codes[1] == 0)  # then the sform alone says where it lies
        assert same_heart(read, LabelMap(T2.labels, true_affine))


def test_a_contradiction_shows_both_sizes_and_a_key_says_which_is_right(tmp_path):
    path = save(tmp_path / "x.nii", T2.labels, np.eye(4), T2.affine)
    message = refusal(path)
    assert "sform 1 x 1 x 1 mm" in message
    assert "qform 2 x 2 x 2 mm" in message
    assert "'nifti_geometry'" in message
    read, remarks = read_heart(path, HEART, replace(CONVENTION, geometry="qform"))
    assert same_heart(read, T2)
    assert remarks[0].startswith("header contradicts itself, qform is trusted: sform 1 x 1 x 1 mm")


@pytest.mark.parametrize("size", [1.0, 1.97, 2.03, 3.0])
def test_voxel_sizes_beside_a_form_must_agree(tmp_path, size):
    path = save(tmp_path / "x.nii", T2.labels, T2.affine, codes=(1, 0), pixdim=[2, 2, size])
    assert f"pixdim 2 x 2 x {size:g} mm" in refusal(path)


def test_rounding_of_a_header_is_no_contradiction(tmp_path):
    almost = T2.affine.copy()
    almost[:3, :3] *= 1.001
    read, _ = read_heart(save(tmp_path / "x.nii", T2.labels, T2.affine, almost), HEART, CONVENTION)
    assert same_heart(read, T2)


def test_without_codes_a_form_can_be_named(tmp_path):
    path = save(tmp_path / "x.nii", T2.labels, T2.affine, codes=(0, 0))
    assert "does not say how the volume lies" in refusal(path)
    assert same_heart(read_heart(path, HEART, replace(CONVENTION, geometry="sform"))[0], T2)


# ---- hearts that lie wrongly


@pytest.mark.parametrize(("index", "without"), [(0, ()), (1, SEVEN), (2, ()), (3, SEVEN)])
def test_every_false_storage_is_refused_with_the_axes_that_are_right(tmp_path, index, without):
    original = heart(index, without)
    for order, signs in itertools.product(ORDERS, FLIPS):
        labels, affine = stored(original, order, signs)
        path = save(tmp_path / "x.nii", labels, original.affine)
        if order == (0, 1, 2) and (signs == 1).all():
            read_heart(path, HEART, CONVENTION)
            continue
        message = refusal(path)
        assert f"as if they ran {' '.join(nib.aff2axcodes(affine))};" in message
        assert ("mirrored" in message) == (np.linalg.det(affine[:3, :3]) < 0)


@pytest.mark.parametrize("signs", FLIPS[1:], ids=str)
def test_a_map_of_two_ventricles_shows_how_it_lies(tmp_path, signs):
    """The left ventricle's bare surface stands in for the atrium."""
    original = heart(1, BIVENTRICULAR)
    labels, _ = stored(original, signs=signs)
    message = refusal(save(tmp_path / "x.nii", labels, original.affine))
    assert message.startswith("mirrored" if np.prod(signs) < 0 else "turned by half")


def test_a_mirrored_heart_in_another_pose_is_recognised():
    """Turned by 40 degrees no axis shows it; the arrangement of the structures does."""
    angle = np.radians(40)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    centroids = moments.measure_labels(T2.labels, GROUPS, T2.axes_mm).centroid_mm @ turn.T
    for places, seen in ((centroids, ""), (centroids * [1, -1, 1], "mirrored")):
        by_name = dict(zip(HEART.structures, places, strict=True))
        assert misalignment(by_name, CONVENTION.layout)[:8] == seen


@pytest.mark.parametrize("factor", [0.5, 2.5])
@pytest.mark.parametrize("axis", range(3))
def test_a_wrong_voxel_size_along_one_axis_is_named(tmp_path, axis, factor):
    affine = T2.affine.copy()
    affine[:3, axis] *= factor
    message = refusal(save(tmp_path / "x.nii", T2.labels, affine))
    found = re.match(
        r"stretched: along x, y and z \(RAS\+\) it is ([0-9.]+), ([0-9.]+) and ([0-9.]+) times", message
    )
    lengths = [float(number) for number in found.groups()]
    assert (np.argmin if factor < 1 else np.argmax)(lengths) == axis


def test_the_documents_remedy_corrects_every_false_storage(tmp_path):
    """The lines of docs/own-data.md, run with the axes that the message names."""
    text = (RESOURCES.parent / "docs/own-data.md").read_text()
    lines = re.search(r"(?m)^    import nibabel.*?\n\n", text, re.S).group()
    template = "\n".join(line.removeprefix("    ") for line in lines.splitlines())
    path, corrected = save(tmp_path / "heart.nii", T2.labels, T2.affine), tmp_path / "corrected.nii.gz"
    for order, signs in itertools.product(ORDERS, FLIPS[1::3]):
        labels, _ = stored(T2, order, signs)
        code = template
        axes = re.search("as if they ran (. . .);", refusal(save(path, labels, T2.affine))).group(1)
        for placeholder, value in (
            ('"heart.nii.gz"', str(path)),
            ('"corrected.nii.gz"', str(corrected)),
            ('("L", "A", "S")', tuple(axes.split())),
        ):
            code = code.replace(placeholder, repr(value))
            assert repr(value) in code
        exec(code, {})
        read, _ = read_heart(corrected, HEART, CONVENTION)
        there = moments.measure_labels(read.labels, GROUPS, read.axes_mm).centroid_mm
        np.testing.assert_allclose(there - there[0], CENTROIDS - CENTROIDS[0], atol=1e-3)


# ---- other numberings


def renumbered(numbering: dict[int, str], index: int = 1) -> np.ndarray:
    labels = heart(index).labels
    out = np.zeros(labels.shape, np.int16)
    for value, structure in numbering.items():
        out[labels == HEART.label(structure)] = value
    return out


def test_structures_that_are_needed_are_missed_before_the_heart_is_looked_at(tmp_path):
    """Three labels may look like anything; labels of another numbering are left to that look."""
    needed = ("left_atrium", "aorta")
    part = save(tmp_path / "part.nii", np.where(T2.labels > 3, 0, T2.labels)[::-1], T2.affine)
    with pytest.raises(
        InputError, match=r"part\.nii: it has no left_atrium, aorta\. .*it has 1 myocardium, 2 "
    ):
        read_heart(part, HEART, CONVENTION, needed)
    numbering = next(n for n in CONVENTION.numberings.values() if max(n) > len(HEART.structures))
    other = save(tmp_path / "other.nii", renumbered(numbering), T2.affine)
    with pytest.raises(InputError, match=r"other\.nii: its labels look like the numbering of"):
        read_heart(other, HEART, CONVENTION, needed)
    whole, _ = read_heart(save(tmp_path / "whole.nii", T2.labels, T2.affine), HEART, CONVENTION, needed)
    assert same_heart(whole, T2)


@pytest.mark.parametrize("name", CONVENTION.numberings)
@pytest.mark.parametrize("index", [0, 2])
def test_common_numberings_are_named_with_the_sources_to_paste(tmp_path, name, index):
    numbering = CONVENTION.numberings[name]
    message = refusal(save(tmp_path / "x.nii", renumbered(numbering, index), T2.affine))
    assert f"the numbering of {name}: " in message
    for value, structure in numbering.items():
        assert f'{structure}: ["{{case}}.nii:{value}"]' in message


@settings(max_examples=15, deadline=None)
@example(order=[6, 2, 3, 4, 5, 1, 7, 8, 9, 10], index=0)  # wall and aorta: neighbours touch as they should
@example(order=[2, 1, 3, 4, 5, 6, 7, 8, 9, 10], index=0)  # the first three as in M&Ms
@given(order=st.permutations(range(1, 11)), index=st.integers(0, 3))
def test_any_order_of_the_labels_is_recognised(folder, order, index):
    numbering = dict(zip(order, HEART.structures, strict=True))
    path = save(folder / "c.nii", renumbered(numbering, index), T2.affine)
    if order == list(range(1, 11)):
        read_heart(path, HEART, CONVENTION)
        return
    message = refusal(path)
    assert all(f'{structure}: ["{{case}}.nii:{value}"]' in message for value, structure in numbering.items())


def test_a_further_structure_is_placed_beside_its_neighbour(tmp_path):
    labels = T2.labels.copy()
    atrium = np.argwhere(labels == HEART.label("left_atrium"))
    labels[tuple(atrium[atrium[:, 1] > np.percentile(atrium[:, 1], 90)].T)] = 11
    message = refusal(save(tmp_path / "x.nii", labels, T2.affine))
    assert "are those of the convention, but for more; 11" in message
    assert 'left_atrium: ["{case}.nii:4+11"]' in message


def test_what_is_no_heart_is_left_to_the_gate(tmp_path):
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:9, 5:9, 5:9], labels[9:12, 5:9, 5:9] = 1, 2
    assert read_heart(save(tmp_path / "x.nii", labels, T2.affine), HEART, CONVENTION)[1] == ()


def test_without_tables_nothing_is_compared(tmp_path):
    labels, _ = stored(T2, signs=(-1, 1, 1))
    path = save(tmp_path / "x.nii", labels, T2.affine)
    read, _ = read_heart(path, HEART, open_convention([], HEART))
    np.testing.assert_array_equal(read.labels, labels)


# ---- the tables


@pytest.mark.parametrize(
    ("load", "name", "change", "message"),
    [
        (load_layout, "layout.tsv", ("\t135\t", "\tlarge\t"), "line 2: all but the names must be numbers"),
        (load_layout, "layout.tsv", ("\t0.32\t", "\t-1\t"), "volume, fill and enclosure above 0"),
        (
            load_layout,
            "layout.tsv",
            ("left_ventricle,right", "left_vent,right"),
            "'left_vent' is no structure",
        ),
        (load_numberings, "numberings.tsv", ("\t44\t", "\tx\t"), "column 'label': 'x' is no whole number"),
    ],
)
def test_a_bad_table_is_refused_by_line(tmp_path, load, name, change, message):
    text = (RESOURCES / "anatomies/heart/convention" / name).read_text()
    assert change[0] in text
    (tmp_path / name).write_text(text.replace(*change, 1))
    with pytest.raises(InputError, match=message):
        load(tmp_path / name, HEART)


def test_another_anatomys_tables_are_refused_with_the_key():
    with pytest.raises(InputError, match=r"config key 'convention' \(null checks nothing\).*is no structure"):
        open_convention(CONVENTION_FILES, TINY)
