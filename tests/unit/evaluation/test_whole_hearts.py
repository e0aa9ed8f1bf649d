"""The best fit of an atlas to a heart that it has not seen: near as the modes allow, in its pose."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy.label_map import read_label_map, write_label_map
from cardiocohort.atlas import model
from cardiocohort.atlas.flow import Lattice
from cardiocohort.atlas.hearts import turned_labels
from cardiocohort.atlas.registration import CELL
from cardiocohort.evaluation import whole_hearts
from cardiocohort.label_maps.reading import Convention
from cardiocohort.metrics.overlap import dice
from tiny_prior import ANATOMY, GRID, write_tiny_bundle

RULES = """rule\tkind\tscope\tstructure\tother\topenings\topenings_mm\tpercentile\tmin\tmax\tunit\treason
components\tcomponents\tany\twall,cavity\t\t\t\t\t1\t1\tcount\tone piece
"""
GROWTHS = (-0.2, -0.1, 0.0, 0.1, 0.2)  # of the atlas's hearts: log of their length over the template's
TILT = Rotation.from_euler("xyz", [0, 15, 25], degrees=True).as_matrix()


def heart(length_mm: float = 44.0, width_mm: float = 32.0) -> np.ndarray:
    """A body of revolution about x whose cavity lies off its middle: two centroids define its pose."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    r = np.hypot(y, z)
    labels = ((x / length_mm) ** 2 + (r / width_mm) ** 2 <= 1).astype(np.uint8)
    labels[((x - 10) / 24) ** 2 + (r / 18) ** 2 <= 1] = 2
    return labels


def velocity(growth: float) -> np.ndarray:
    """That of a heart exp(growth) times as large as the template."""
    return -growth * Lattice.of(GRID, CELL).centres_mm.numpy().astype(np.float64)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A bundle of random weights, and an atlas of five hearts that differ in size alone."""
    folder = tmp_path_factory.mktemp("whole_hearts")
    (folder / "rules.tsv").write_text(RULES)
    fields = np.stack([velocity(growth) for growth in GROWTHS])
    shape = model.fit(fields, heart(), np.stack([np.eye(3)] * len(fields)), GRID, CELL)
    model.save(shape, folder / "atlas.safetensors", ANATOMY, GRID, {"name": "sizes"})
    bundle = write_tiny_bundle(folder / "bundle")
    atlas = str(folder / "atlas.safetensors")
    given = (str(bundle), str(folder / "rules.tsv"), {}, 1, "cpu", Convention(), atlas, {})
    return whole_hearts.open_all(*given), shape


def fitted(opened, labels: np.ndarray, folder) -> tuple[np.ndarray, np.ndarray, dict]:
    """The heart as it is read, the atlas's best fit to it, and the record."""
    source, made = folder / "heart.nii.gz", folder / "fitted.nii.gz"
    write_label_map(source, labels, GRID)
    record = whole_hearts.work(opened, made, (str(source), whole_hearts.ATLAS, 0))
    prior = opened.sampler.prior
    own = whole_hearts.read(source, prior.anatomy, prior.grid, opened.sampler.rules, opened.convention)
    return own, read_label_map(made, ANATOMY).labels, record


@pytest.mark.parametrize("growth", [-0.15, 0.15])
def test_a_tilted_heart_of_a_size_within_the_atlas_is_fitted_in_its_own_pose(opened, tmp_path, growth):
    worker, shape = opened
    drawn = model.Drawer(shape, ANATOMY, GRID).labels(shape.coefficients(velocity(growth)))
    own, made, record = fitted(worker, turned_labels(drawn, TILT, GRID, ANATOMY), tmp_path)
    overlap = dice(made, own, ANATOMY)
    np.testing.assert_allclose(record["dice"], overlap)
    assert overlap.min() > 0.93
    assert dice(shape.template, own, ANATOMY).max() < 0.85
    assert dice(drawn, own, ANATOMY).max() < overlap.min()  # the same form, upright, lies elsewhere


def test_a_form_that_no_mode_has_is_not_fitted(opened, tmp_path):
    """A slender heart: the registration reaches it, the modes of size alone do not."""
    worker, _ = opened
    slender = heart(length_mm=52.0, width_mm=24.0)
    own, made, _ = fitted(worker, slender, tmp_path)
    assert dice(made, own, ANATOMY)[0] < 0.85
