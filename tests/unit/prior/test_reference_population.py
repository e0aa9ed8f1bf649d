"""The bundled reference population: virtual patients and diffeomorphic deformations of templates."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.label_map import LabelMap, centred, read_label_map, to_grid, write_volume
from cardiocohort.atlas import flow, registration
from cardiocohort.atlas import model as atlas_model
from cardiocohort.cohort.covariates import known
from cardiocohort.prior import deformation, reference_population, virtual_patients
from cardiocohort.runtime.errors import InputError, SubjectError
from heart_anatomy import CONVENTION, HEART, HEART_GRID
from resampled import resample

RESOURCES = Path(__file__).resolve().parents[3] / "resources"
VESSELS = tuple(n for n in HEART.structures if n not in virtual_patients.CHAMBERS)


@pytest.fixture(scope="module")
def published():
    return virtual_patients.read_published(RESOURCES / "reference/reference_values.tsv")


@pytest.fixture(scope="module")
def patients(published):
    rng = np.random.default_rng(0)
    return [virtual_patients.draw(rng, published, VESSELS) for _ in range(3000)]


@pytest.fixture(scope="module")
def template():
    labels = read_label_map(RESOURCES / "templates/T2_rodero2021_case01.nii.gz", HEART)
    labels = to_grid(labels, HEART_GRID).labels
    return deformation.make_template("T2", labels, HEART, HEART_GRID), labels


def volumes_of(labels: np.ndarray) -> dict[int, float]:
    return {k: float(np.sum(labels == k)) * HEART_GRID.voxel_volume_ml for k in range(1, HEART.n_channels)}


@pytest.mark.parametrize(
    ("structure", "condition", "sex", "mean", "sd"),
    [
        ("left_ventricle", "healthy", "female", 132, 23),  # Kawel-Boehm 2015
        ("right_ventricle", "healthy", "male", 190, 33),  # Hudsmith 2005
        ("left_atrium", "healthy", "female", 89, 21),  # Hudsmith 2005
        ("myocardium", "healthy", "male", 134 / 1.05, 21 / 1.05),  # Kawel-Boehm 2015, g to mL
    ],
)
def test_healthy_volumes_follow_the_published_means(patients, structure, condition, sex, mean, sd):
    drawn = [p.volumes_ml[structure] for p in patients if (p.condition, p.sex) == (condition, sex)]
    # cutting at two standard deviations narrows a normal distribution to 0.88 of its spread
    assert np.mean(drawn) == pytest.approx(mean, rel=0.04)
    assert 0.75 * sd < np.std(drawn) < 1.1 * sd


def test_dilated_ventricles_reach_the_published_distribution(patients):
    drawn = [p.volumes_ml["left_ventricle"] for p in patients if p.condition == "dilated_cardiomyopathy"]
    assert np.mean(drawn) == pytest.approx(285, rel=0.04)  # ACDC, Bernard 2018
    assert max(drawn) > 285 + 2 * 48


def test_aorta_grows_with_age_and_body_size_as_in_mesa(published, patients):
    """1 mm per decade, 1 mm per 0.23 m2 (Turkbey 2014), by regression within a sex."""
    women = [p for p in patients if p.sex == "female"]
    diameter = np.array([np.sqrt(p.vessel_factors["aorta"]) * published.aorta_of_both_mm for p in women])
    design = np.array([[1, p.age_years, p.bsa_m2] for p in women])
    _, per_year, per_m2 = np.linalg.lstsq(design, diameter, rcond=None)[0]
    assert per_year == pytest.approx(0.1, abs=0.02)
    assert per_m2 == pytest.approx(1 / 0.23, abs=1.2)


def test_growth_reaches_the_target_volumes(template):
    """A dilated ventricle with an unchanged wall: the wall thins, its volume stays."""
    heart, labels = template
    wanted = volumes_of(labels) | {HEART.label("left_ventricle"): 280.0}
    still = deformation.DeformationSettings(turn_sd_deg=0, stretch=0, coarse_mm=0, fine_mm=0, growth_steps=8)
    growth = deformation.Growth(wanted, {})
    out = deformation.deform(heart, growth, HEART, np.random.default_rng(0), still)
    for k, volume in wanted.items():
        name = HEART.structures[k - 1]
        assert np.sum(out == k) * HEART_GRID.voxel_volume_ml == pytest.approx(volume, rel=0.03), name


def test_factors_grow_what_the_drawn_shape_has(template):
    heart, labels = template
    aorta = HEART.label("aorta")
    still = deformation.DeformationSettings(turn_sd_deg=0, stretch=0, coarse_mm=0, fine_mm=0)
    growth = deformation.Growth({}, {aorta: 1.3})
    out = deformation.deform(heart, growth, HEART, np.random.default_rng(0), still)
    assert np.sum(out == aorta) / np.sum(labels == aorta) == pytest.approx(1.3, rel=0.05)


def test_the_septum_grows_apart_from_the_free_wall(template):
    """Septal hypertrophy: the wall's volume is the target's, the septum's share of it is what grew."""
    heart, labels = template
    wall = HEART.label("myocardium")
    wanted = volumes_of(labels) | {wall: 180.0}
    still = deformation.DeformationSettings(turn_sd_deg=0, stretch=0, coarse_mm=0, fine_mm=0)
    shares = []
    for septal_growth in (1.0, 1.7):
        growth = deformation.Growth(wanted, {}, septal_growth)
        out = deformation.deform(heart, growth, HEART, np.random.default_rng(0), still)
        assert np.sum(out == wall) * HEART_GRID.voxel_volume_ml == pytest.approx(180, rel=0.04)
        septum = deformation.septum_of(out, HEART) & (out == wall)
        shares.append(septum.sum() / np.sum(out == wall))
    septum = deformation.septum_of(labels, HEART) & (labels == wall)
    share = septum.sum() / np.sum(labels == wall)
    assert 0.2 < share < 0.45
    assert shares[0] == pytest.approx(share, abs=0.03)
    assert shares[1] / (1 - shares[1]) == pytest.approx(1.7 * share / (1 - share), rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_deformed_hearts_are_centred_and_keep_every_structure(template, seed):
    heart, labels = template
    growth = deformation.Growth(volumes_of(labels), {})
    rng = np.random.default_rng(seed)
    out = deformation.deform(heart, growth, HEART, rng, deformation.OF_ONE_HEART)
    centre = tuple(HEART.label(n) for n in HEART.centred_on)
    measured = moments.measure_labels(out, [centre], HEART_GRID.axes_mm())
    np.testing.assert_allclose(measured.centroid_mm[0], 0, atol=0.5)
    assert set(np.unique(out)) == set(range(11))
    again = deformation.deform(heart, growth, HEART, np.random.default_rng(seed), deformation.OF_ONE_HEART)
    np.testing.assert_array_equal(out, again)


def test_vessels_end_before_the_border_of_the_field(template):
    heart, _ = template
    longer = deformation.Growth({}, {HEART.label("aorta"): 3.0})
    out = deformation.deform(
        heart, longer, HEART, np.random.default_rng(0), deformation.DeformationSettings()
    )
    inner = (slice(deformation.BORDER_VOXELS, -deformation.BORDER_VOXELS),) * 3
    assert out[inner].sum() == out.sum()


def test_a_folding_map_is_refused(template):
    heart, labels = template
    wild = deformation.DeformationSettings(coarse_mm=400.0, fine_mm=400.0)
    growth = deformation.Growth(volumes_of(labels), {})
    with pytest.raises(deformation.SubjectError):
        deformation.deform(heart, growth, HEART, np.random.default_rng(0), wild)


def test_a_heart_without_modes_is_the_template_of_its_atlas(template):
    """An atlas whose hearts are all the same draws its template, sealed or not."""
    heart, labels = template
    cells = flow.Lattice.of(HEART_GRID, registration.CELL)
    none = np.zeros((3, 3, *cells.shape), np.float32)
    shape = atlas_model.fit(none, labels, np.stack([np.eye(3)] * 3), HEART_GRID, 4)
    drawn = deformation.make_template("atlas", labels, HEART, HEART_GRID, shape)
    still = deformation.DeformationSettings(turn_sd_deg=0, stretch=0, coarse_mm=0, fine_mm=0)
    growth = deformation.Growth({}, {})
    one, other = (
        deformation.deform(t, growth, HEART, np.random.default_rng(0), still) for t in (heart, drawn)
    )
    assert np.count_nonzero(one != other) < 50


# ---- a folder of label maps


@pytest.fixture
def source():
    rules, values = (
        RESOURCES / name for name in ("anatomies/heart/topology.tsv", "reference/reference_values.tsv")
    )
    return reference_population.open_source(HEART, HEART_GRID, rules, {}, values, 0, CONVENTION)


@pytest.mark.parametrize("spacing_mm", [1.0, 1.5, 2.0, 3.0])
def test_a_map_of_any_voxels_anywhere_is_brought_onto_the_grid(source, tmp_path, spacing_mm):
    """The heart's centre at the origin, as a cohort asks of its reference population; nothing else moves."""
    own = read_label_map(RESOURCES / "templates/T2_rodero2021_case01.nii.gz", HEART)
    other = own if spacing_mm == 2.0 else resample(own, spacing_mm)
    moved = np.pad(other.labels, ((30, 0), (0, 45), (3, 0)))  # the field is not about the heart
    write_volume(tmp_path / "T2.nii.gz", LabelMap(moved, other.affine))
    record = reference_population.work_folder(source, tmp_path / "in.nii.gz", (str(tmp_path / "T2.nii.gz"),))
    read = read_label_map(tmp_path / "in.nii.gz", HEART)
    assert read.labels.shape == HEART_GRID.shape
    heart = [HEART.label(name) for name in HEART.centred_on]
    centre = moments.measure_labels(read.labels, [tuple(heart)], read.axes_mm).centroid_mm[0]
    assert np.abs(centre).max() <= (1.0 if spacing_mm >= 2.0 else 0.2)  # whole voxels, or resampled
    wanted = centred(own, HEART, HEART_GRID)
    volumes, expected = (np.bincount(x.ravel(), minlength=11)[1:] for x in (read.labels, wanted))
    np.testing.assert_allclose(volumes, expected, rtol=0.0 if spacing_mm == 2.0 else 0.08)
    if spacing_mm == 2.0:
        np.testing.assert_array_equal(read.labels, wanted)
    assert any("mm to 2" in change for change in record["repairs"]) == (spacing_mm != 2.0)


def test_a_map_that_cannot_be_trained_on_ends_itself_alone(source, tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"no NIfTI")
    with pytest.raises(SubjectError, match="readable NIfTI"):
        reference_population.work_folder(source, tmp_path / "in.nii.gz", (str(tmp_path / "x.nii.gz"),))
    away = np.zeros((9, 9, 9), np.uint8)
    away[4, 4, 4] = HEART.label("aorta")
    write_volume(tmp_path / "aorta.nii.gz", LabelMap(away, np.diag([2.0, 2.0, 2.0, 1.0])))
    with pytest.raises(SubjectError, match="none of the structures"):
        reference_population.work_folder(source, tmp_path / "in.nii.gz", (str(tmp_path / "aorta.nii.gz"),))


REFERENCE = pd.DataFrame({"subject": ["a", "a", "b"], "structure": ["x", "y", "x"], "volume_ml": 1.0})


def write_people(tmp_path, *lines):
    path = tmp_path / "people.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_map_that_is_trained_on_has_its_covariates(tmp_path, caplog):
    path = write_people(tmp_path, "subject\tsex\tnote", "b\tmale\t-", "a\tfemale\t-", "c\tmale\t-")
    found = reference_population.with_covariates(REFERENCE, path, known())
    assert found["sex"].tolist() == ["female", "female", "male"]
    assert "note" not in found
    assert "columns note are not used" in caplog.text
    path = write_people(tmp_path, "subject\tsex", "b\tmale")
    with pytest.raises(InputError, match=r"people.tsv, column 'subject': no row of a "):
        reference_population.with_covariates(REFERENCE, path, known())


def test_a_covariate_of_the_users_table_enters_the_reference_table(tmp_path, caplog):
    own = tmp_path / "own.tsv"
    own.write_text("column\tkind\tlow\thigh\ngradient\tnumeric\t0\t300\n")
    path = write_people(tmp_path, "subject\tgradient\theight_cm", "a\t40\t170", "b\t2.5\t181")
    found = reference_population.with_covariates(REFERENCE, path, known(own))
    assert found["gradient"].tolist() == [40.0, 40.0, 2.5]
    assert found["height_cm"].tolist() == [170.0, 170.0, 181.0]
    assert not caplog.text
    path = write_people(tmp_path, "subject\tgradient", "a\t40", "b\t301")
    with pytest.raises(InputError, match=r"people\.tsv, row 3, column 'gradient': 301.* is not in the range"):
        reference_population.with_covariates(REFERENCE, path, known(own))


def test_a_gap_names_the_users_file_and_row(tmp_path):
    lines = ["subject\tsex\theight_cm", "c\t\t", "a\tmale\t170", "b\tmale\t"]
    path = write_people(tmp_path, *lines)
    with pytest.raises(
        InputError, match=r"people\.tsv, row 4, column 'height_cm': the cell is empty; 1 of 2"
    ):
        reference_population.with_covariates(REFERENCE, path, known())
    lines[-1] += "181"  # c, which nothing is trained on, may have gaps
    found = reference_population.with_covariates(REFERENCE, write_people(tmp_path, *lines), known())
    assert found["height_cm"].tolist() == [170.0, 170.0, 181.0]


def test_two_values_of_one_subject_are_an_error(tmp_path):
    path = write_people(tmp_path, "subject\tsex", "a\tmale", "b\tmale", "a\tfemale")
    with pytest.raises(InputError, match=r"people\.tsv, row 4, column 'sex': 'female' is not what"):
        reference_population.with_covariates(REFERENCE, path, known())
