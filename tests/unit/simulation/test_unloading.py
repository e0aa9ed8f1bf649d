"""The stress-free geometry: its inflation is the image, in closed form and by the inflation's own route."""

from dataclasses import replace

import ngsolve as ng
import numpy as np
import pytest

from cardiocohort.mechanics.settings import Guccione, HolzapfelOgden, Mechanics
from cardiocohort.mesh.storage import read_model
from cardiocohort.runtime.errors import InputError
from cardiocohort.simulation import measures, subject
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.settings import SimulationSettings
from cardiocohort.simulation.unloading import stress_free, unload
from decks import block
from simulated import simulate, ventricle

SETTINGS = SimulationSettings(curve_points=2, reference="unloaded")
FIBRES = Mechanics(material="guccione", guccione=Guccione(), lv_pressure_kpa=1.0)

ng.SetNumThreads(1)


def inflated(model, mechanics):
    """Deformed corners (N, 3), the run and the problem, of an ordinary inflation of a model."""
    stated, _, _ = subject.state_heart(model, mechanics, SETTINGS)
    ended = inflate(stated, SETTINGS, lambda step: None)
    return model.points_mm + measures.corner_displacements(stated), ended, stated


@pytest.mark.parametrize(
    "mechanics",
    [
        FIBRES,
        pytest.param(
            Mechanics(lv_pressure_kpa=0.3, holzapfel_ogden=HolzapfelOgden(a_kpa=0.5)), marks=pytest.mark.long
        ),
        Mechanics(material="neo_hooke", base="robin", lv_pressure_kpa=1.5),
    ],
    ids=lambda mechanics: mechanics.material,
)
def test_the_unloaded_heart_inflates_to_the_image_at_the_cost_of_a_few_inflations(mechanics):
    image = ventricle((3, 7, 12))
    stated, _, _ = subject.state_heart(image, mechanics, SETTINGS)
    found = unload(stated, SETTINGS)
    assert found.complete
    model = stress_free(image, found.shift)
    moved, ended, _ = inflated(model, mechanics)
    assert ended.complete
    assert np.linalg.norm(moved - image.points_mm, axis=1).max() < 0.1
    assert model.cavity_volume_ml("lv") < 0.95 * image.cavity_volume_ml("lv")
    assert found.factorisations <= 6 * ended.factorisations


def test_fibres_lie_in_the_loaded_heart_as_in_the_image():
    image = ventricle((3, 7, 12))
    stated, _, _ = subject.state_heart(image, FIBRES, SETTINGS)
    model = stress_free(image, unload(stated, SETTINGS).shift)
    edges = [p[model.tets[:, 1:]] - p[model.tets[:, :1]] for p in (model.points_mm, image.points_mm)]
    gradient = (np.linalg.inv(edges[0]) @ edges[1]).swapaxes(1, 2)
    back = np.einsum("mij,mj->mi", gradient, model.microstructure.f0)
    along = (back * image.microstructure.f0).sum(axis=1) / np.linalg.norm(back, axis=1)
    assert along == pytest.approx(1)
    frames = [getattr(model.microstructure, name) for name in ("f0", "s0", "n0")]
    assert np.einsum("aij,bij->iab", frames, frames) == pytest.approx(np.tile(np.eye(3), (len(along), 1, 1)))


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


def test_a_heart_that_cannot_be_unloaded_is_named_with_what_was_reached(tmp_path):
    """Soft walls under a large pressure have no stress-free geometry of their own volume."""
    record = simulate(ventricle((3, 7, 12)), tmp_path, replace(FIBRES, lv_pressure_kpa=40.0), SETTINGS)
    assert (record["verdict"], record["reason"]) == ("failed", subject.NOT_UNLOADED)
    assert 0 < record["load_share"] < 1
    assert "of the load" in record["detail"]
    assert record["image_residual_mm"] < 0.1


def test_another_reference_is_refused():
    with pytest.raises(InputError, match=r"simulation\.reference.*image, unloaded"):
        SimulationSettings(reference="diastole")
