"""Orientation, ends of vessels, sources, covariates: what is done to a case before the gate sees it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.anatomy.label_map import read_label_map, to_grid
from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.cohort import covariates
from cardiocohort.label_maps.cases import Source, find_cases, parse_source, parse_sources, source_files
from cardiocohort.label_maps.covariates import known_of_all, read_covariates
from cardiocohort.label_maps.positions import load_positions, misplaced
from cardiocohort.label_maps.scans import drop_strays
from cardiocohort.label_maps.vessels import Vessel, load_vessels, shorten
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART, HEART_GRID

RESOURCES = Path(__file__).resolve().parents[3] / "resources"
TEMPLATES = sorted((RESOURCES / "templates").glob("*.nii.gz"))
POSITIONS = load_positions(RESOURCES / "anatomies/heart/convention/positions.tsv", HEART)
VESSELS = load_vessels(RESOURCES / "segmentations/heart_vessels.tsv", HEART)
RULES = topology.load_rules(RESOURCES / "anatomies/heart/topology.tsv", HEART)


def template(path):
    return to_grid(read_label_map(path, HEART), HEART_GRID).labels


def centroids(path):
    groups = [(k,) for k in range(1, 11)]
    measured = moments.measure_labels(template(path), groups, HEART_GRID.axes_mm())
    return dict(zip(HEART.structures, measured.centroid_mm, strict=True))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_every_mirror_image_and_half_turn_of_a_heart_is_told(path):
    upright = centroids(path)
    assert misplaced(upright, POSITIONS) == ()
    for signs in np.ndindex(2, 2, 2):
        flips = 1 - 2 * np.array(signs)
        reasons = misplaced({name: c * flips for name, c in upright.items()}, POSITIONS)
        if any(signs):
            kind = "mirrored" if sum(signs) % 2 else "turned by half"
            assert len(reasons) == 1
            assert reasons[0].startswith(kind)
            assert ("left and right" in reasons[0]) == bool(signs[0])


def test_exchanged_axes_are_told_with_the_structures():
    turned = {name: c[[1, 2, 0]] for name, c in centroids(TEMPLATES[0]).items()}
    reasons = misplaced(turned, POSITIONS)
    assert reasons
    assert all(r.startswith(("position: ", "mirrored", "turned")) for r in reasons)


def test_structures_that_are_missing_are_not_asked_for():
    few = {name: c for name, c in centroids(TEMPLATES[0]).items() if name in ("aorta", "left_ventricle")}
    assert misplaced(few, POSITIONS) == ()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_the_templates_vessels_have_the_length_that_is_kept(path):
    """So that users' vessels end as the bundled population's do: at most 3 % of a vessel is cut off."""
    labels = template(path)
    short, _ = shorten(labels, 2.0, HEART, VESSELS)
    assert ((short == labels) | (short == 0)).all()
    for k in range(1, 11):
        assert (short == k).sum() >= (0.97 if k >= 6 else 1) * (labels == k).sum()


TUBES = Anatomy(("chamber", "vessel"), ("chamber",))
TUBE_GRID = Grid((80, 80, 80), 2.0)


def chamber_with_tube(path_points, radius_mm=9.0):
    """A ball of 24 mm at the origin and a tube along a polygon that begins in it."""
    points = np.stack(np.meshgrid(*TUBE_GRID.axes_mm(), indexing="ij"), axis=-1)
    distance = np.full(TUBE_GRID.shape, np.inf)
    for a, b in pairwise(path_points):
        a, b = np.array(a, float), np.array(b, float)
        t = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(points - a - t[..., None] * (b - a), axis=-1))
    labels = np.where(distance <= radius_mm, 2, 0).astype(np.uint8)
    labels[np.linalg.norm(points, axis=-1) <= 24] = 1
    return labels


def test_a_straight_vessel_keeps_its_length():
    labels = chamber_with_tube([(0, 0, 0), (0, 0, 75)], radius_mm=6)
    short, done = shorten(labels, 2.0, TUBES, (Vessel("vessel", "chamber", 30),))
    top = TUBE_GRID.axes_mm()[2][np.argwhere(short == 2)[:, 2].max()]
    assert top == pytest.approx(24 + 4 + 30, abs=3)  # chamber, mouth, length
    assert len(done) == 1
    np.testing.assert_array_equal(short == 1, labels == 1)


def test_the_length_is_measured_inside_the_vessel():
    """An arch that comes back beside its chamber, as the aorta does, is not kept for being near."""
    labels = chamber_with_tube([(0, 0, 0), (0, 0, 62), (50, 0, 62), (50, 0, -70)], radius_mm=7)
    short, _ = shorten(labels, 2.0, TUBES, (Vessel("vessel", "chamber", 60),))
    x = TUBE_GRID.axes_mm()[0][np.argwhere(short == 2)[:, 0]]
    assert x.max() < 43  # where the descending limb begins, 19 mm from the chamber
    assert x.max() > 12  # the arch has begun


def test_pieces_apart_and_the_fields_border_are_left_out():
    labels = chamber_with_tube([(0, 0, 0), (0, 0, 79)], radius_mm=6)
    labels[10:14, 10:14, 10:14] = 2
    short, _ = shorten(labels, 2.0, TUBES, (Vessel("vessel", "chamber", 500),))
    assert not short[10:14, 10:14, 10:14].any()
    assert not (short[:, :, -1] == 2).any()
    assert (short[:, :, -2] == 2).any()


def test_a_vessel_that_joins_nothing_is_left_to_the_gate():
    labels = chamber_with_tube([(0, 0, 0), (0, 0, 70)], radius_mm=6)
    labels[:, :, 50:58][labels[:, :, 50:58] == 2] = 0
    labels[:, :, :50][labels[:, :, :50] == 2] = 0
    short, done = shorten(labels, 2.0, TUBES, (Vessel("vessel", "chamber", 30),))
    np.testing.assert_array_equal(short, labels)
    assert done == ()


def test_stray_pieces_go_and_large_ones_stay():
    labels = template(TEMPLATES[0])
    noisy = labels.copy()
    noisy[2:8, 2:8, 2:8] = 1  # 1.7 mL of 156 mL
    cleaned, done = drop_strays(noisy, HEART_GRID, HEART, RULES)
    np.testing.assert_array_equal(cleaned, labels)
    assert len(done) == 1
    assert "myocardium" in done[0]
    noisy[2:14, 2:14, 2:14] = 1  # 14 mL
    kept, done = drop_strays(noisy, HEART_GRID, HEART, RULES)
    np.testing.assert_array_equal(kept, noisy)
    assert done == ()
    assert "components.myocardium" in "".join(topology.examine(kept, 2.0, HEART, RULES).reasons)


def test_sources():
    assert parse_source("a/b.nii.gz") == Source("a/b.nii.gz")
    assert parse_source("labels.nrrd:7+12") == Source("labels.nrrd", (7, 12))
    assert parse_source("{case}.nii:3").path(Path("x/s1")) == Path("x/s1/s1.nii")
    assert parse_source("A.SEG.NRRD:Left ventricle+7") == Source("A.SEG.NRRD", ("Left ventricle", 7))
    assert str(parse_source("a.nhdr:wall, 2nd part")) == "a.nhdr:wall, 2nd part"
    for text in (
        "a.nii:0", "a.nii:x", "a.png", "../a.nii", "/a.nii", "a.nii:3+", "", "a:b.nii", "a.mha:x",
        "a.nrrd:07", "a.nrrd:x+", "a.nrrd: x", "a.nrrd:",
    ):  # fmt: skip
        with pytest.raises(InputError, match="is not a source"):
            parse_source(text)
    table = {"vessel": ["v.nii"], "chamber": ["c.nii", "all.nrrd:4"]}
    assert list(parse_sources(table, TUBES.structures)) == ["chamber", "vessel"]
    for wrong, told in (
        (table | {"wall": ["w.nii"]}, "'wall' is no structure"),
        ({"chamber": ["c.nii"]}, "'vessel' has no source"),
        (table | {"vessel": ["v.txt"]}, "'vessel': 'v.txt'"),
    ):
        with pytest.raises(InputError, match=told):
            parse_sources(wrong, TUBES.structures)


def test_the_files_of_a_case_are_those_of_its_sources_with_the_voxels_of_headers(tmp_path):
    header = "NRRD0004\ntype: uchar\ndata file: "
    (tmp_path / "a.nhdr").write_text(header + "a.raw\n")
    (tmp_path / "b.NHDR").write_text(header + "../b.raw\n")  # refused when it is read
    (tmp_path / "c.mhd").write_text("NDims = 3\nElementDataFile = c.raw\n")
    for name in ("a.raw", "c.raw", "d.nii", "e.nii"):
        (tmp_path / name).touch()
    sources = {"all": tuple(map(Source, ("a.nhdr", "b.NHDR", "c.mhd", "d.nii", "f.nii")))}
    found = [path.name for path in source_files(tmp_path, sources)]
    assert found == ["a.nhdr", "b.NHDR", "c.mhd", "d.nii", "a.raw", "c.raw"]


def test_cases_are_the_folders(tmp_path):
    with pytest.raises(InputError, match="no case here"):
        find_cases(tmp_path)
    for name in ("b", "a1", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_cases(tmp_path)] == ["a1", "b"]
    (tmp_path / "c d").mkdir()
    with pytest.raises(InputError, match="cannot name a case"):
        find_cases(tmp_path)


VESSEL_HEADER = "vessel\tjoins\tlength_mm\treason\n"
POSITION_HEADER = "structure\tside\tother\treason\n"


@pytest.mark.parametrize(
    ("reader", "text", "told"),
    [
        (load_vessels, "vessel\tjoins\n", "columns"),
        (load_vessels, VESSEL_HEADER + "aorta\tliver\t30\t\n", "line 2, column 'joins': 'liver'"),
        (load_vessels, VESSEL_HEADER + "aorta\tleft_ventricle\tx\t\n", "column 'length_mm': 'x'"),
        (load_vessels, VESSEL_HEADER + "aorta\tleft_ventricle\t-1\t\n", "column 'length_mm': '-1'"),
        (load_positions, POSITION_HEADER + "aorta\tup\tleft_ventricle\t\n", "column 'side': 'up'"),
    ],
)
def test_tables_of_rules_are_checked(tmp_path, reader, text, told):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        reader(tmp_path / "t.tsv", HEART)
    assert "t.tsv" in str(caught.value)


def test_covariates(tmp_path):
    path = tmp_path / "people.tsv"
    path.write_text("case\tage_years\tsex\ncase7\t61\tfemale\n007\t\tmale\n")
    read = read_covariates(path, covariates.known())
    assert list(read.columns) == ["case", "sex", "age_years"]
    assert list(read["case"]) == ["case7", "007"]
    assert read["age_years"].isna().tolist() == [False, True]
    known, left_out = known_of_all(read, covariates.known())
    assert left_out == ("age_years",)
    assert known.to_dict("list") == {"subject": ["case7", "007"], "sex": ["female", "male"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subject\tsex\na\tmale\n", "unknown column 'subject'"),
        ("sex\nmale\n", "'case' is missing"),
        ("case\tsex\na\tM\n", "row 2, column 'sex': 'M'"),
        ("case\tage_years\na\t1\nb\t400\n", "row 3, column 'age_years': '400'"),
        ("case\tage_years\na\told\n", "row 2, column 'age_years': 'old'"),
        ("case\tcondition\na\tx y\n", "row 2, column 'condition'"),
        ("case\tsex\na\tmale\na\tmale\n", "row 3, column 'case': 'a'"),
    ],
)
def test_mistakes_in_covariates_are_told_with_row_and_column(tmp_path, text, told):
    (tmp_path / "people.tsv").write_text(text)
    with pytest.raises(InputError, match=told):
        read_covariates(tmp_path / "people.tsv", covariates.known())
