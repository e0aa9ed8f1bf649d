"""The stress-free geometry: its inflation is the image, in closed form and by the inflation's own route."""

from dataclasses import replace
from pathlib import Path

import ngsolve as ng
import numpy as np
import pytest

from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.mechanics.settings import Guccione, HolzapfelOgden, Mechanics, NeoHooke
from cardiocohort.mesh.storage import read_model
from cardiocohort.meshing.build import build
from cardiocohort.meshing.settings import MeshSettings
from cardiocohort.microstructure.fibres import FibreAngles, add_fibres
from cardiocohort.runtime.errors import InputError, SubjectError
from cardiocohort.simulation import measures, subject, unloading
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.settings import SimulationSettings
from cardiocohort.simulation.unloading import stress_free, unload
from decks import block
from heart_anatomy import HEART
from simulated import simulate, ventricle
from small_meshes import biventricle, truncated_ellipsoid

RESOURCES = Path(__file__).resolve().parents[3] / "resources"
SETTINGS = SimulationSettings(curve_points=2, reference="unloaded", fibres="elements")
WITHIN = replace(SETTINGS, fibres="points")
FIBRES = Mechanics(material="guccione", guccione=Guccione(), lv_pressure_kpa=1.0)

ng.SetNumThreads(1)


def inflated(model, mechanics, settings=SETTINGS, image=None):
    """Deformed corners (N, 3), the run and the problem, of an ordinary inflation of a model."""
    stated, _, _ = subject.state_heart(model, mechanics, settings, image=image)
    ended = inflate(stated, settings, lambda step: None)
    return model.points_mm + measures.corner_displacements(stated), ended, stated


@pytest.fixture(scope="module")
def guccione_heart():
    return unload_and_inflate(FIBRES)


def unload_and_inflate(mechanics, settings=SETTINGS):
    """The image, its stress-free model, both searches, and the deformed corners of the latter's inflation."""
    image = ventricle((3, 7, 12))
    stated, _, _ = subject.state_heart(image, mechanics, settings)
    found = unload(stated, settings)
    model = stress_free(image, found.shift)
    moved, ended, _ = inflated(model, mechanics, settings)
    return image, model, found, ended, moved


def check(image, model, found, ended, moved):
    assert found.complete
    assert ended.complete
    assert np.linalg.norm(moved - image.points_mm, axis=1).max() < 0.1
    assert model.cavity_volume_ml("lv") < 0.95 * image.cavity_volume_ml("lv")
    assert found.factorisations <= 6 * ended.factorisations


def test_the_unloaded_heart_inflates_to_the_image_at_the_cost_of_a_few_inflations(guccione_heart):
    check(*guccione_heart)


def test_directions_within_tetrahedra_are_pulled_back_with_them():
    """With other directions the stress-free heart would not inflate to the image."""
    image = add_fibres(truncated_ellipsoid(shape=(3, 7, 12), apex_deg=3), FibreAngles())
    stated, _, _ = subject.state_heart(image, FIBRES, WITHIN)
    assert stated.solid.axes.shape[1] == 4
    found = unload(stated, WITHIN)
    model = stress_free(image, found.shift)
    moved, ended, _ = inflated(model, FIBRES, WITHIN, image)
    check(image, model, found, ended, moved)
    assert np.linalg.norm(moved - image.points_mm, axis=1).max() < 1e-3


def test_springs_are_those_of_the_stress_free_heart():
    """Of base and pericardium: their areas and normals there, not in the image, which 0.6 mm hung on."""
    mechanics = replace(FIBRES, base="robin")
    found = unload_and_inflate(mechanics, replace(SETTINGS, pericardium_kpa_per_mm=0.1))
    check(*found)
    image, *_, moved = found
    assert np.linalg.norm(moved - image.points_mm, axis=1).max() < 1e-3


def test_the_load_on_the_valves_is_that_of_the_stress_free_heart():
    """Without what holds the apex the base's springs alone keep the heart in its place, and carry nothing."""
    mechanics = replace(FIBRES, base="robin", base_stiffness_kpa_per_mm=0.1)
    found = unload_and_inflate(mechanics, replace(SETTINGS, valve_plane="loaded"))
    check(*found)
    _, model, *_, moved = found
    base = model.nodes_of("base")
    shift = (moved - model.points_mm)[base, 2].mean()
    found = unload_and_inflate(mechanics)
    free = (found[4] - found[1].points_mm)[base, 2].mean()
    assert abs(shift) < 0.2 * abs(free)


def test_the_load_on_the_valves_is_spread_over_the_stress_free_base():
    """Over that of the image the two ventricles' heart would hang askew, half a millimetre from the image."""
    heart = biventricle(8, 12, wall=6.5, cavity=24.0, rv_wall=2.7, layers=(1, 2, 3))
    image = add_fibres(heart, FibreAngles())
    mechanics = replace(FIBRES, base="robin", base_stiffness_kpa_per_mm=0.1, guccione=Guccione(c_kpa=4.0))
    settings = replace(SETTINGS, valve_plane="loaded", pericardium_kpa_per_mm=0.05)
    stated, _, _ = subject.state_heart(image, mechanics, settings)
    found = unload(stated, settings)
    moved, ended, _ = inflated(stress_free(image, found.shift), mechanics, settings, image)
    assert found.complete
    assert ended.complete
    assert np.linalg.norm(moved - image.points_mm, axis=1).max() < 0.02


@pytest.mark.long
@pytest.mark.parametrize(
    "mechanics",
    [
        Mechanics(lv_pressure_kpa=0.3, holzapfel_ogden=HolzapfelOgden(a_kpa=0.5)),
        Mechanics(material="neo_hooke", base="robin", lv_pressure_kpa=1.5),
    ],
    ids=lambda mechanics: mechanics.material,
)
def test_other_laws_and_a_base_on_springs_unload_too(mechanics):
    check(*unload_and_inflate(mechanics))


@pytest.mark.long
def test_a_template_unloads():
    labels = read_label_map(RESOURCES / "templates/T2_rodero2021_case01.nii.gz", HEART)
    image, _ = build(labels, HEART, MeshSettings(rv_wall_mm=6.0, edge_length_mm=5.9))
    image = add_fibres(image, FibreAngles())
    mechanics = Mechanics(material="guccione", guccione=Guccione(c_kpa=4.0))
    stated, _, _ = subject.state_heart(image, mechanics, SETTINGS)
    found = unload(stated, SETTINGS)
    model = stress_free(image, found.shift)
    moved, ended, _ = inflated(model, mechanics)
    check(image, model, found, ended, moved)


def test_fibres_lie_in_the_loaded_heart_as_in_the_image(guccione_heart):
    image, model, *_ = guccione_heart
    edges = [p[model.tets[:, 1:]] - p[model.tets[:, :1]] for p in (model.points_mm, image.points_mm)]
    gradient = (np.linalg.inv(edges[0]) @ edges[1]).swapaxes(1, 2)
    back = np.einsum("mij,mj->mi", gradient, model.microstructure.f0)
    along = (back * image.microstructure.f0).sum(axis=1) / np.linalg.norm(back, axis=1)
    assert along == pytest.approx(1)
    frames = np.stack([getattr(model.microstructure, name) for name in ("f0", "s0", "n0")], axis=1)
    assert np.allclose(frames @ frames.swapaxes(1, 2), np.eye(3))


def test_a_deformation_in_closed_form_is_undone():
    """A uniform shift of the corners is a linear map: volumes and directions follow from its determinant."""
    image = block((3, 3, 3))
    matrix = np.array([[0.9, 0.1, 0.0], [0.0, 1.1, 0.05], [0.0, 0.0, 0.8]])
    model = stress_free(image, image.points_mm @ matrix.T - image.points_mm)
    assert model.wall_volume_ml == pytest.approx(np.linalg.det(matrix) * image.wall_volume_ml)
    for prefix in ("", "node_"):
        old, new = (getattr(m.microstructure, prefix + "f0") for m in (image, model))
        mapped = old @ matrix.T
        assert new == pytest.approx(mapped / np.linalg.norm(mapped, axis=1, keepdims=True))


def test_files_and_figures_of_an_unloaded_subject(tmp_path):
    image = ventricle((3, 7, 12))
    record = simulate(image, tmp_path, FIBRES, SETTINGS)
    assert (record["verdict"], record["load_share"]) == ("accepted", 1.0)
    assert record["image_residual_mm"] < 0.1
    assert record["lv_loaded_ml"] == pytest.approx(image.cavity_volume_ml("lv"), rel=0.03)
    row = subject.table_row(record)
    assert row["unloaded_file"] == "s/unloaded.vtu"
    stored = read_model(tmp_path / "out/s/unloaded.vtu", tmp_path / "s.surface.vtp")
    assert stored.cavity_volume_ml("lv") < image.cavity_volume_ml("lv")


def test_a_heart_that_is_unloaded_in_part_is_named_with_what_was_reached(tmp_path, monkeypatch):
    """The files hold the geometry that unloads half the load, and its inflation to that."""

    def half(stated, settings):
        surface = replace(stated.surface, pressure_kpa=stated.surface.pressure_kpa / 2)
        found = unload(replace(stated, surface=surface), settings)
        return replace(found, complete=False, share=0.5, reason="the unloaded geometry folds")

    monkeypatch.setattr(subject, "unload", half)
    record = simulate(ventricle((2, 6, 10)), tmp_path, FIBRES, SETTINGS)
    assert (record["verdict"], record["reason"]) == ("failed", subject.NOT_UNLOADED)
    assert record["load_share"] == 0.5
    assert (
        record["detail"]
        == "the unloaded geometry folds; the files hold the geometry that unloads 0.5 of the load"
    )
    assert record["image_residual_mm"] < 0.1


def soft(mu_kpa):
    return Mechanics(material="neo_hooke", neo_hooke=NeoHooke(mu_kpa=mu_kpa), lv_pressure_kpa=4.0)


def test_the_largest_share_that_a_soft_heart_gives_is_soon_known():
    stated, _, _ = subject.state_heart(ventricle((2, 6, 10)), soft(2.0), SETTINGS)
    found = unload(stated, SETTINGS)
    assert not found.complete
    assert 0.5 < found.share < 1
    assert found.halvings < 15


def test_a_heart_whose_cavity_would_have_no_volume_is_named():
    with pytest.raises(SubjectError, match=r"LV's cavity of [0-9.]+ mL would have 0\.[0-9]+ mL") as caught:
        subject.unloaded(ventricle((2, 6, 10)), soft(3.0), SETTINGS)
    assert caught.value.ending.reason == subject.NOT_UNLOADED


def test_a_heart_whose_inflation_does_not_end_at_the_image_fails(tmp_path, monkeypatch):
    """A soft heart has several equilibria; with no bound on its cavity, the inflation takes another one."""
    monkeypatch.setattr(subject, "LEAST_VOLUME_RATIO", 0.0)
    record = simulate(ventricle((2, 6, 10)), tmp_path, soft(3.0), SETTINGS)
    assert (record["verdict"], record["reason"]) == ("failed", subject.NOT_UNLOADED)
    assert record["image_residual_mm"] > subject.MOST_FROM_IMAGE_MM
    assert f"{record['image_residual_mm']:.3g} mm from the image; 0.1 is allowed" in record["detail"]


def test_a_heart_that_is_not_unloaded_at_all_is_named(monkeypatch):
    monkeypatch.setattr(unloading, "ITERATIONS", 1)
    settings = replace(SETTINGS, max_halvings=1)
    with pytest.raises(SubjectError, match=r"no stress-free geometry within 1 iterations") as caught:
        subject.unloaded(ventricle((2, 6, 10)), FIBRES, settings)
    assert caught.value.ending.reason == subject.NOT_UNLOADED


def test_another_reference_is_refused():
    with pytest.raises(InputError, match=r"simulation\.reference.*image, unloaded"):
        SimulationSettings(reference="diastole")
