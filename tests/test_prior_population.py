"""The bundled reference population: virtual patients and diffeomorphic deformations of templates."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cardiocohort import moments
from cardiocohort.anatomy import HEART, HEART_GRID
from cardiocohort.labelmap import read_label_map, to_grid
from cardiocohort.prior import deformation, virtual_patients

RESOURCES = Path(__file__).parents[1] / "resources"
VESSELS = tuple(n for n in HEART.structures if n not in virtual_patients.CHAMBERS)


@pytest.fixture(scope="module")
def values():
    return pd.read_csv(RESOURCES / "reference/reference_values.tsv", sep="\t")


@pytest.fixture(scope="module")
def patients(values):
    rng = np.random.default_rng(0)
    return [virtual_patients.draw(rng, values, VESSELS) for _ in range(3000)]


@pytest.fixture(scope="module")
def template():
    labels = read_label_map(RESOURCES / "templates/T2_rodero2021_case01.nii.gz", HEART)
    settings = deformation.DeformationSettings()
    labels = to_grid(labels, HEART_GRID).labels
    return deformation.make_template("T2", labels, HEART, HEART_GRID, settings.smoothing_voxels), labels


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


def test_dilated_ventricles_reach_the_published_mean_and_two_deviations(patients):
    drawn = [p.volumes_ml["left_ventricle"] for p in patients if p.condition == "dilated_cardiomyopathy"]
    assert np.mean(drawn) == pytest.approx(285, rel=0.04)  # ACDC, Bernard 2018
    assert max(drawn) > 285 + 2 * 48


def test_aorta_grows_with_age_and_body_size_as_in_mesa(values, patients):
    """1 mm a decade, 1 mm per 0.23 m2 (Turkbey 2014), by regression within a sex."""
    both = values[values.structure == "ascending_aorta"]["mean"].mean()
    women = [p for p in patients if p.sex == "female"]
    diameter = np.array([np.sqrt(p.vessel_factors["aorta"]) * both for p in women])
    design = np.array([[1, p.age_years, p.bsa_m2] for p in women])
    _, per_year, per_m2 = np.linalg.lstsq(design, diameter, rcond=None)[0]
    assert per_year == pytest.approx(0.1, abs=0.02)
    assert per_m2 == pytest.approx(1 / 0.23, abs=1.2)


def test_growth_reaches_the_volumes_asked_for(template):
    """A dilated ventricle with an unchanged wall: the wall thins, its volume stays."""
    heart, labels = template
    voxel = HEART_GRID.voxel_volume_ml
    own = {k: float(np.sum(labels == k)) * voxel for k in range(1, HEART.n_channels)}
    wanted = own | {HEART.label("left_ventricle"): 280.0}
    still = deformation.DeformationSettings(rotation_deg=0, stretch=0, coarse_mm=0, fine_mm=0)
    out = deformation.deform(heart, wanted, HEART, np.random.default_rng(0), still)
    for k, volume in wanted.items():
        name = HEART.structures[k - 1]
        assert np.sum(out == k) * voxel == pytest.approx(volume, rel=0.03), name


@pytest.mark.parametrize("seed", range(3))
def test_deformed_hearts_are_centred_and_keep_every_structure(template, seed):
    heart, labels = template
    growth = {k: float(np.sum(labels == k)) * HEART_GRID.voxel_volume_ml for k in range(1, 11)}
    rng = np.random.default_rng(seed)
    out = deformation.deform(heart, growth, HEART, rng, deformation.DeformationSettings())
    centre = tuple(HEART.label(n) for n in HEART.centred_on)
    measured = moments.measure_labels(out, [centre], HEART_GRID.axes_mm())
    np.testing.assert_allclose(measured.centroid_mm[0], 0, atol=0.5)
    assert set(np.unique(out)) == set(range(11))
    again = deformation.deform(
        heart, growth, HEART, np.random.default_rng(seed), deformation.DeformationSettings()
    )
    np.testing.assert_array_equal(out, again)


def test_a_folding_map_is_refused(template):
    heart, labels = template
    growth = {k: float(np.sum(labels == k)) * HEART_GRID.voxel_volume_ml for k in range(1, 11)}
    wild = deformation.DeformationSettings(coarse_mm=400.0, fine_mm=400.0)
    with pytest.raises(deformation.SubjectError):
        deformation.deform(heart, growth, HEART, np.random.default_rng(0), wild)


def test_jacobian_of_a_linear_map_is_its_determinant():
    axes = [torch.tensor(a, dtype=torch.float32) for a in HEART_GRID.axes_mm(deformation.FACTOR)]
    cells = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    matrix = torch.tensor([[1.1, 0.2, 0.0], [0.0, 0.9, 0.1], [0.05, 0.0, 1.2]])
    mapped = torch.einsum("ij,jxyz->ixyz", matrix, cells)
    found = deformation._jacobian(mapped, HEART_GRID)
    torch.testing.assert_close(
        found, torch.full_like(found, float(torch.linalg.det(matrix))), rtol=1e-3, atol=0
    )
