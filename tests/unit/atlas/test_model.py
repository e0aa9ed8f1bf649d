"""The shape model: principal modes, their shrinkage, draws, and the file that it is kept in."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy import ndimage

from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.atlas import model, quality
from cardiocohort.atlas.flow import Lattice
from cardiocohort.atlas.registration import CELL
from cardiocohort.runtime import batch_runner
from cardiocohort.runtime.errors import InputError

GRID = Grid((16, 16, 16), 4.0)
ANATOMY = Anatomy(("wall", "blood"), ("wall", "blood"))
SIZE = Lattice.of(GRID, CELL).shape


def template() -> np.ndarray:
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    return np.where(r < 14, 2, np.where(r < 22, 1, 0)).astype(np.uint8)


def velocities(n: int, seed: int = 0, modes: int = 3) -> np.ndarray:
    """Fields of `modes` random directions with standard deviations 4, 2, 1 ... mm, about a mean."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((modes, 3, *SIZE))
    basis = np.stack([ndimage.gaussian_filter(part, (0, 1.5, 1.5, 1.5)) for part in noise]) * 0.6
    scale = 4.0 / 2.0 ** np.arange(modes)
    return np.tensordot(rng.standard_normal((n, modes)) * scale, basis, 1) + 0.5


def fitted(n: int, cell: int = CELL, **options) -> model.ShapeModel:
    turns = np.stack([np.eye(3)] * n)
    return model.fit(velocities(n, **options), template(), turns, GRID, cell)


@settings(max_examples=10, deadline=None)
@given(st.integers(3, 8), st.integers(0, 1000))
def test_all_modes_together_rebuild_every_heart(n, seed):
    fields, shape = velocities(n, seed), fitted(n, seed=seed)
    for field in fields:
        rebuilt = shape.velocity(shape.coefficients(field))
        np.testing.assert_allclose(rebuilt, field, atol=1e-3)


def test_modes_are_orthonormal_and_their_variances_those_of_the_coefficients():
    fields, shape = velocities(9), fitted(9)
    inner = np.einsum("mixyz,nixyz,xyz->mn", shape.modes, shape.modes, shape.weight)
    np.testing.assert_allclose(inner[:3, :3], np.eye(3), atol=1e-4)
    scores = np.array([shape.coefficients(field) for field in fields])
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(scores.var(axis=0, ddof=1)[:3], shape.variances[:3], rtol=1e-3)
    np.testing.assert_allclose(shape.variances[3:], 0, atol=1e-6)  # three directions, no more


def test_voxels_far_from_the_heart_hardly_count():
    """Two hearts that differ in the corner of the field alone are nearly the same."""
    fields = np.zeros((3, 3, *SIZE))
    near, far = fields.copy(), fields.copy()
    near[0, :, 4, 4, 4] = far[0, :, 0, 0, 0] = 10.0
    of = [model.fit(f, template(), np.stack([np.eye(3)] * 3), GRID, CELL).variances[0] for f in (near, far)]
    assert of[1] == pytest.approx(model.LEAST_WEIGHT * of[0], rel=0.05)


def test_coarser_cells_keep_smooth_velocities():
    axes = Lattice.of(GRID, CELL).centres_mm.numpy()
    fields = np.stack([axes * s for s in (0.1, 0.2, 0.4)])
    shape = model.fit(fields, template(), np.stack([np.eye(3)] * 3), GRID, 2 * CELL)
    assert shape.mean.shape == (3, 4, 4, 4)
    inner = (slice(None), *[slice(2, -2)] * 3)
    for field in fields:
        coefficients = shape.coefficients(
            model.flow.upsampled(model.torch.from_numpy(field), (4, 4, 4)).numpy()
        )
        rebuilt = model.flow.upsampled(model.torch.from_numpy(shape.velocity(coefficients)), SIZE).numpy()
        np.testing.assert_allclose(rebuilt[inner], field[inner], atol=0.05)


def test_velocities_that_are_read_on_the_models_cells_make_the_same_model():
    """Of many hearts the fine fields are not kept."""
    fields = velocities(5).astype(np.float32)
    turns = np.stack([np.eye(3)] * 5)
    coarse = np.stack([model.flow.upsampled(model.torch.from_numpy(f), (4, 4, 4)).numpy() for f in fields])
    shapes = [model.fit(given, template(), turns, GRID, 2 * CELL) for given in (fields, coarse)]
    for name in ("mean", "modes", "variances"):
        np.testing.assert_array_equal(*(getattr(shape, name) for shape in shapes))


def gram(n: int, spectrum: np.ndarray, seed: int) -> np.ndarray:
    scores = np.random.default_rng(seed).standard_normal((n, len(spectrum))) * np.sqrt(spectrum)
    scores -= scores.mean(axis=0)
    return scores @ scores.T


def test_equal_variances_are_shrunk_and_few_large_ones_are_not():
    """15 directions of one variance: the spread of measured variances is all noise."""
    flat = [model.cross_validated_shrinkage(gram(12, np.ones(15), seed)) for seed in range(10)]
    steep = [model.cross_validated_shrinkage(gram(12, 0.3 ** np.arange(6.0), seed)) for seed in range(10)]
    assert np.median(flat) >= 0.8
    assert np.median(steep) <= 0.2


def test_draws_stay_within_their_deviations_and_have_them():
    shape = fitted(6)
    drawn = np.array([shape.draw(np.random.default_rng(seed)) for seed in range(2000)])
    within = shape.deviations[:3]
    assert (np.abs(drawn[:, :3]) <= model.MAX_SD * within).all()
    # a normal distribution cut at 2.5 standard deviations has 0.955 of its spread
    np.testing.assert_allclose(drawn[:, :3].std(axis=0), 0.955 * within, rtol=0.05)


def test_turns_have_the_spread_of_the_poses():
    angles = np.radians([-10.0, 10.0, 10.0])
    turns = [np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) for a in angles]
    shape = model.fit(velocities(3), template(), np.stack(turns), GRID, CELL)
    assert shape.turn_sd_deg == pytest.approx(10.0 / np.sqrt(3), rel=1e-3)


def test_a_model_comes_back_from_its_file(tmp_path):
    shape = fitted(5)
    path = tmp_path / "atlas.safetensors"
    model.save(shape, path, ANATOMY, GRID, {"name": "five"})
    read, card = model.load(path, ANATOMY, GRID)
    assert card["name"] == "five"
    np.testing.assert_array_equal(read.template, shape.template)
    np.testing.assert_allclose(read.modes, shape.modes, atol=2e-4)
    np.testing.assert_allclose(read.deviations, shape.deviations)
    model.save(shape, tmp_path / "again.safetensors", ANATOMY, GRID, {"name": "five"})
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("anatomy", "grid", "says"),
    [
        (Anatomy(("wall", "lumen"), ("wall",)), GRID, "structures wall, blood; the anatomy has wall, lumen"),
        (ANATOMY, Grid((16, 16, 16), 2.0), "16 voxels of 4 mm|4 mm; the anatomy's grid"),
        (ANATOMY, Grid((24, 16, 16), 4.0), "the anatomy's grid has"),
    ],
)
def test_an_atlas_of_another_anatomy_or_grid_is_refused(tmp_path, anatomy, grid, says):
    model.save(fitted(3), tmp_path / "atlas.safetensors", ANATOMY, GRID, {})
    with pytest.raises(InputError, match=says):
        model.load(tmp_path / "atlas.safetensors", anatomy, grid)


@pytest.mark.parametrize("kind", ["text", "cut", "other", "no header"])
def test_a_file_that_is_no_atlas_is_refused(tmp_path, kind):
    path = tmp_path / "atlas.safetensors"
    model.save(fitted(3), path, ANATOMY, GRID, {})
    if kind == "text":
        path.write_text("subject\tuse\n")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-400])
    elif kind == "other":
        save_file({"weights": np.zeros(3)}, path, {"atlas": json.dumps({"structures": []})})
    else:
        save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(InputError, match=r"no atlas of hearts.*snakemake atlas"):
        model.load(path, ANATOMY, GRID)


# ---- how good it is


def test_hearts_of_a_family_are_rebuilt_from_the_others_and_strangers_are_not():
    """One direction of growth: the others have it. A heart that differs otherwise is not in their span."""
    axes = Lattice.of(GRID, CELL).centres_mm.numpy().astype(np.float64)
    family = np.stack([axes * s for s in (-0.2, -0.1, 0.0, 0.1, 0.2)])
    stranger = np.zeros_like(axes)
    stranger[0] = 6.0
    turns = np.stack([np.eye(3)] * 6)
    fields = np.concatenate([family, stranger[None]])
    shape = model.fit(fields, template(), turns, GRID, CELL)
    hearts = [model.Drawer(shape, ANATOMY, GRID).labels(shape.coefficients(field)) for field in fields]
    rated = quality.Rated(shape, fields, dict(enumerate(hearts)), ANATOMY, GRID)
    found = pd.DataFrame([row for i, name in enumerate("abcdef") for row in quality.rebuilt(rated, i, name)])
    last = found[(found["modes"] == 4) & (found["structure"] == "wall")].set_index("subject")["dice"]
    assert min(last["b"], last["d"]) > 0.97
    assert last["f"] < 0.8
    none = found[(found["modes"] == 0) & (found["structure"] == "wall")].set_index("subject")["dice"]
    assert none["a"] < last["a"]


def test_specificity_is_small_where_samples_resemble_the_hearts():
    shape = fitted(5)
    heart = model.Drawer(shape, ANATOMY, GRID).labels(np.zeros(4))
    near, far = (
        pd.DataFrame([row for sample in range(3) for row in quality.drawn(rated, sample, 0)])
        for rated in (
            quality.Rated(shape, velocities(5), {0: one}, ANATOMY, GRID)
            for one in (heart, np.roll(heart, 4, axis=0))
        )
    )
    assert near["nearest_mm"].max() < 4.0 < far["nearest_mm"].min()
    assert (near["least_jacobian"] > 0).all()


def test_a_killed_rating_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Left-out and random hearts that are finished are kept, and the tables are those of one run."""
    shape = fitted(4)
    hearts = dict.fromkeys(range(4), model.Drawer(shape, ANATOMY, GRID).labels(np.zeros(3)))
    parts = (shape, velocities(4), hearts, ANATOMY, GRID)
    tasks = quality.tasks(list("abcd"), 2, 0, "inputs")
    assert [task.subject for task in tasks] == [
        *(f"left_out-{name}" for name in "abcd"),
        "sample-0000",
        "sample-0001",
    ]
    whole = batch_runner.run_batch(tmp_path / "one", tasks, quality.work, 1, quality.open_rated, parts)

    batch_runner.run_batch(tmp_path / "two", tasks[:5], quality.work, 1, quality.open_rated, parts)
    made = []
    monkeypatch.setattr(quality, "rebuilt", lambda *given: made.append(given))
    again = batch_runner.run_batch(tmp_path / "two", tasks, quality.work, 1, quality.open_rated, parts)
    assert not made
    for name, table in quality.tables(whole).items():
        pd.testing.assert_frame_equal(table, quality.tables(again)[name])
        assert list(table.columns) == list(quality.COLUMNS[name])
        assert len(table) > 0


def test_of_many_hearts_some_spread_over_the_list_are_left_out():
    tasks = quality.tasks([f"h{i}" for i in range(100)], 0, 0, "inputs")
    indices = [task.payload[1] for task in tasks]
    assert len(indices) == quality.MOST_HEARTS
    assert (indices[0], indices[-1]) == (0, 99)


def test_compactness_sums_to_one():
    table = quality.compactness(fitted(6))
    assert table["cumulative"].iloc[-1] == pytest.approx(1.0)
    assert (table["share"].diff().dropna() <= 1e-9).all()
