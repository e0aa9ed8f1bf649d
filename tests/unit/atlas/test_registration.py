"""Registration: known flows are found again, nothing folds, what is not matched does not move."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cardiocohort.anatomy.label_map import write_label_map
from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.atlas import flow, registering, registration
from cardiocohort.atlas.flow import Lattice
from cardiocohort.atlas.registration import CELL, Level
from cardiocohort.atlas.template import SoftTemplate
from cardiocohort.metrics.overlap import dice, surface_distance_mm
from cardiocohort.runtime.errors import SubjectError

GRID = Grid((40, 40, 40), 4.0)
CELLS = Lattice.of(GRID, CELL)
ANATOMY = Anatomy(("wall", "blood", "vessel"), ("wall", "blood"))
LEVELS = (Level(2, 1.4, 32.0, 6), Level(2, 1.4, 20.0, 8), Level(1, 0.8, 12.0, 5), Level(1, 0.8, 8.0, 5))
WEIGHTS = torch.ones(4)


def heart(radii=(44.0, 36.0, 40.0), wall_mm=12.0, vessel_at=(0.0, 0.0)) -> np.ndarray:
    """An ellipsoid of blood in a wall, and a vessel that leaves it upwards."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    outer = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 <= 1
    a, b, c = (r - wall_mm for r in radii)
    inner = (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 <= 1
    vessel = ((x - vessel_at[0]) ** 2 + (y - vessel_at[1]) ** 2 <= 14**2) & (z > 0) & (z < 64)
    return np.where(inner, 2, np.where(outer, 1, np.where(vessel, 3, 0))).astype(np.uint8)


def registered(template: np.ndarray, other: np.ndarray, cared=None) -> tuple[np.ndarray, torch.Tensor]:
    soft = (registration.soft_labels(labels, ANATOMY, LEVELS) for labels in (template, other))
    velocity = registration.register(*soft, GRID, WEIGHTS, LEVELS, cared)
    displacement = flow.exponential(velocity, CELLS)
    return SoftTemplate.of(template, ANATOMY, GRID).labels(displacement), displacement


@pytest.mark.parametrize("radii", [(52.0, 36.0, 34.0), (36.0, 42.0, 48.0)])
def test_an_ellipsoid_is_brought_onto_another(radii):
    template, other = heart(), heart(radii)
    warped, displacement = registered(template, other)
    assert dice(template, other, ANATOMY)[0] < 0.8
    assert dice(warped, other, ANATOMY).min() > 0.93
    assert np.nanmax(surface_distance_mm(warped, other, ANATOMY, GRID.spacing_mm)) < 0.8
    assert float(flow.jacobian(displacement, CELLS).min()) > 0


def test_a_heart_that_a_random_flow_has_moved_is_matched():
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.standard_normal((3, *CELLS.shape))).float() * 120
    true = flow.exponential(flow.smoothed(noise, 3.0), CELLS)
    template = heart()
    other = SoftTemplate.of(template, ANATOMY, GRID).labels(true)
    assert dice(template, other, ANATOMY).min() < 0.85
    warped, displacement = registered(template, other)
    assert dice(warped, other, ANATOMY).min() > 0.93
    assert float(flow.jacobian(displacement, CELLS).min()) > 0


def test_the_same_heart_does_not_move():
    _, displacement = registered(heart(), heart())
    assert float(displacement.norm(dim=0).max()) < 0.5


def test_registration_is_deterministic():
    template, other = heart(), heart((48.0, 36.0, 36.0))
    first, second = (registered(template, other)[1] for _ in range(2))
    assert torch.equal(first, second)


def test_far_hearts_do_not_fold():
    """The step would fold the map; the velocity is smoothed where it does."""
    _, displacement = registered(heart((60.0, 30.0, 30.0), 8.0), heart((28.0, 60.0, 44.0), 14.0))
    assert float(flow.jacobian(displacement, CELLS).min()) > 0


def test_what_is_not_matched_does_not_pull():
    """A vessel that goes on in one heart and not in the other."""
    template, other = heart(), heart()
    short = np.where((other == 3) & (GRID.axes_mm()[2] > 48), 0, other).astype(np.uint8)
    cared = np.broadcast_to(GRID.axes_mm()[2] < 44, short.shape)
    _, pulled = registered(template, short)
    _, free = registered(template, short, cared)
    assert float(free.norm(dim=0).max()) < 1.0 < float(pulled.norm(dim=0).max())


# ---- the work on one heart of an atlas


def work(tmp_path: Path, template: np.ndarray, other: np.ndarray, least_overlap=0.85) -> dict:
    for name, labels in (("template", template), ("heart", other)):
        write_label_map(tmp_path / f"{name}.nii.gz", labels, GRID)
    target = registering.open_target(
        str(tmp_path / "template.nii.gz"), ANATOMY, GRID, LEVELS, {"wall": 1.2}, 14.0, least_overlap
    )
    payload = (str(tmp_path / "heart.nii.gz"), np.eye(3).tolist(), False)
    return registering.work(target, tmp_path / "heart.safetensors", payload)


def test_a_heart_that_does_not_register_ends_itself_with_its_overlap(tmp_path):
    elsewhere = np.roll(heart((24.0, 24.0, 24.0), 8.0), 14, axis=0)
    with pytest.raises(SubjectError) as error:
        work(tmp_path, heart(), elsewhere, least_overlap=0.99)
    assert error.value.reason == "does not register"
    assert "least allowed 0.99" in str(error.value)
    assert not (tmp_path / "heart.safetensors").exists()


def test_a_structure_that_lies_elsewhere_is_not_matched_and_pulls_nothing(tmp_path):
    template = heart()
    template[(template == 3)] = 0
    other = template.copy()
    template[4:7, 18:22, 30:36] = 3
    other[33:36, 18:22, 4:10] = 3
    record = work(tmp_path, template, other)
    assert record["not_matched"] == ["vessel"]
    assert np.isnan(record["dice"]["vessel"])
    assert record["largest_velocity_mm"] < 1.0


def test_the_template_is_moved_and_stays_centred():
    labels = heart()
    velocity = np.zeros((3, *CELLS.shape), np.float32)
    velocity[0] = 8.0  # a shift is undone: the heart's centre is the origin
    moved = registering.moved(labels, velocity, ANATOMY, GRID)
    assert dice(moved, labels, ANATOMY).min() > 0.97


def test_the_mean_of_velocities_is_read_one_heart_at_a_time(tmp_path):
    fields = torch.randn(5, 3, *CELLS.shape, generator=torch.Generator().manual_seed(0)).half()
    paths = [tmp_path / f"{i}.safetensors" for i in range(5)]
    for field, path in zip(fields, paths, strict=True):
        save_file({"velocity": field}, path)
    np.testing.assert_array_equal(registering.mean_velocity(paths), fields.float().numpy().mean(axis=0))


def test_the_channel_of_the_largest_value_is_the_first_of_equal_ones():
    soft = torch.randint(0, 4, (11, 6, 5, 4), generator=torch.Generator().manual_seed(0)).float()
    np.testing.assert_array_equal(flow.largest(soft).numpy(), soft.argmax(0).numpy())
    assert flow.largest(torch.zeros(3, 2)).tolist() == [0, 0]


def test_surface_distance_of_concentric_spheres_is_that_of_their_radii():
    x, y, z = np.meshgrid(*[np.arange(60) - 29.5] * 3, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    small, large = ((r <= radius).astype(np.uint8) for radius in (16, 20))
    one = Anatomy(("ball", "none"), ("ball",))
    distance = surface_distance_mm(small, large, one, 0.5)
    assert distance[0] == pytest.approx(2.0, abs=0.15)
    assert np.isnan(distance[1])


@pytest.mark.parametrize("seed", range(3))
def test_only_mixed_cells_are_looked_up_and_the_labels_are_the_same(seed):
    """Against the pull of every voxel."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.standard_normal((3, *CELLS.shape))).float() * 80
    offset = flow.exponential(flow.smoothed(noise, 2.0), CELLS)
    template, voxels = SoftTemplate.of(heart(), ANATOMY, GRID), Lattice.of(GRID, 1)
    every = voxels.centres_mm + flow.upsampled(offset, voxels.shape)
    values = flow.sample(template.one_hot, every, voxels)
    whole = torch.where(values.amax(0) > 0, values.argmax(0), 0).numpy()
    np.testing.assert_array_equal(template.labels(offset), whole)
    occupancy = flow.sample(template.coarse, CELLS.centres_mm + offset, CELLS)
    np.testing.assert_array_equal(template.occupancy(offset)[1:], occupancy[1:])
