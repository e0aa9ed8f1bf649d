"""Digital siblings: targets, what is held, verdicts of rejected bases. On real hearts: test_shipped_prior."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.label_map import write_label_map
from cardiocohort.cohort.grammar import parse_edits
from cardiocohort.cohort.table import Arm, read_cohort
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.diffusion.networks import to_blocks, to_occupancy
from cardiocohort.generation import anatomies, siblings
from cardiocohort.generation.constraints import make_constraints
from cardiocohort.generation.guidance import guided
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.label_maps import sibling_base
from cardiocohort.label_maps.reading import Convention
from cardiocohort.label_maps.sibling_base import read_base_map
from cardiocohort.population.siblings import bases_of_map, default_constraints, sibling_targets
from cardiocohort.runtime.errors import InputError, SubjectError
from heart_anatomy import CONVENTION, HEART, HEART_GRID
from tiny_prior import ANATOMY, GRID, LENIENT, write_tiny_bundle

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = sorted((ROOT / "resources/templates").glob("*.nii.gz"))
HEADER = "arm\tn\tsex\tcondition\tage\tbsa\tseed\tconstraints\tedits\tbase"


def arm(edits, anatomy=HEART, base="base.nii.gz") -> Arm:
    return Arm("small", 1, {}, None, (), parse_edits(edits, anatomy), base)


def tiny_heart() -> np.ndarray:
    """A shell about a ball on the tiny grid, off centre by two voxels."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    r = np.sqrt((x - 8) ** 2 + y**2 + z**2)
    return np.where(r < 20, 2, np.where(r < 36, 1, 0)).astype(np.uint8)


def targets_of(labels, own: Arm, anatomy, grid) -> pd.DataFrame:
    return sibling_targets(own, [0], 1, bases_of_map([0], labels, anatomy, grid), None)


# the table


def write_table(path, *rows):
    path.write_text("\n".join([HEADER, *("\t".join(row) for row in rows)]) + "\n")
    return path


def row(name, n="2", edits="", base="", sex=""):
    return (name, n, sex, "", "", "", "", "", edits, base)


HALF = "right_ventricle.volume: x0.5"


def test_a_base_is_an_arm_or_a_label_map(tmp_path):
    path = write_table(
        tmp_path / "t.tsv", row("a"), row("b", "1", HALF, "a"), row("c", "3", HALF, "x/h.nii.gz")
    )
    read = {own.name: own for own in read_cohort(path, HEART)}
    assert (read["a"].base_arm, read["b"].base_arm, read["c"].base_arm) == (None, "a", None)
    assert Arm.from_dict(read["c"].to_dict()) == dataclasses.replace(read["c"], n=None)


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        ([row("a"), row("b", edits=HALF, base="nobody")], "base", "no arm of this table"),
        ([row("a"), row("b", edits=HALF, base="some map")], "base", "neither the name of an arm"),
        ([row("a"), row("b", "3", HALF, "a")], "n", "2 subjects of 'a'"),
        ([row("a"), row("b", edits=HALF, base="a", sex="female")], "sex", "who their base is"),
        ([row("a"), row("b", base="a")], "edits", "at least one"),
        ([row("a", edits=HALF, base="b"), row("b", edits=HALF, base="a")], "base", "each other's base"),
        ([row("a", edits=HALF, base="a")], "base", "each other's base"),
    ],
)
def test_bases_that_cannot_be(tmp_path, rows, column, message):
    with pytest.raises(InputError, match=f"column '{column}'.*{message}"):
        read_cohort(write_table(tmp_path / "t.tsv", *rows), HEART)


# targets


def test_targets_are_the_bases_moments_with_the_edit():
    labels = read_base_map(TEMPLATES[3], HEART, HEART_GRID, CONVENTION)
    found = targets_of(
        labels, arm("right_ventricle.volume: x0.5; aorta.centroid_x: +4 mm"), HEART, HEART_GRID
    )
    rows = found.set_index("structure")
    base = moments.measure_labels(labels, [(k,) for k in range(1, 11)], HEART_GRID.axes_mm())
    made = moments.from_columns(found)
    factor, shift = np.ones(10), np.zeros((10, 3))
    factor[2], shift[5, 0] = 0.5, 4.0
    np.testing.assert_allclose(made.volume_ml, base.volume_ml * factor)
    np.testing.assert_allclose(made.centroid_mm, base.centroid_mm + shift, atol=1e-9)
    assert rows.loc["right_ventricle", "constrained"] == "size"
    assert rows.loc["aorta", "constrained"] == "size,position"
    assert set(rows["constrained"].drop(["right_ventricle", "aorta"])) == {"size,position,shape"}


def test_what_an_edit_leaves_of_its_structure():
    edits = parse_edits("aorta.rotation_z: +10 deg; left_atrium.scale: x1.2; left_atrium.volume: x1.1", HEART)
    kept = dict(default_constraints(edits, HEART.structures))
    assert kept["aorta"] == ("size", "position", "shape")
    assert kept["left_atrium"] == ("size", "position", "scale", "orientation", "aspect")


def test_a_base_map_is_centred_by_whole_voxels_and_must_be_whole(tmp_path):
    labels = tiny_heart()
    write_label_map(tmp_path / "heart.nii.gz", labels, GRID)
    centred = read_base_map(tmp_path / "heart.nii.gz", ANATOMY, GRID, Convention())
    np.testing.assert_array_equal(centred, np.roll(labels, -2, 0))
    write_label_map(tmp_path / "part.nii.gz", np.where(labels == 2, 0, labels), GRID)
    with pytest.raises(InputError, match=r"part\.nii\.gz: it has no cavity"):
        read_base_map(tmp_path / "part.nii.gz", ANATOMY, GRID, Convention())


# what is held


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundle"))
    return bundle, load_prior(bundle, "cpu")


def test_a_fitted_latent_decodes_nearer_than_the_encoders(tiny):
    _, prior = tiny
    labels = tiny_heart()
    fitted = siblings.fit_latent(prior, labels)
    assert fitted.shape == (1, *prior.latent_shape)
    occupancy = to_occupancy(to_blocks(torch.from_numpy(labels)[None]), 3)
    with torch.no_grad():
        plain = (prior.autoencoder.encode(occupancy)[0] - prior.mean) / prior.spread

    def wrong(latent):
        return -(occupancy * prior.logits(latent).log_softmax(1)).sum().item()

    assert wrong(fitted) < wrong(plain)


def test_cells_within_reach_are_free_and_no_others(tiny):
    _, prior = tiny
    labels = tiny_heart()
    edge, size = prior.latent_shape[1], 32 // prior.latent_shape[1]
    distance = ndimage.distance_transform_edt(labels != 2) * GRID.spacing_mm
    free = siblings.free_cells([(labels == 2, 3.0)], prior, 5.0)[0, 0].numpy()
    for cell in np.ndindex(edge, edge, edge):
        block = distance[tuple(slice(size * i, size * (i + 1)) for i in cell)]
        assert free[cell] == (block.min() <= 8.0)
    assert 0 < free.sum() < free.size


def test_held_cells_keep_the_base_at_every_level(tiny):
    bundle, prior = tiny
    rows = targets_of(tiny_heart(), arm("cavity.volume: x0.5", ANATOMY), ANATOMY, GRID)
    constraints = make_constraints([rows], prior, bundle)
    latent = torch.randn(1, *prior.latent_shape, generator=torch.Generator().manual_seed(0))
    free = torch.zeros(1, 1, *prior.latent_shape[1:])
    free[..., :2] = 1.0
    occupancy = prior.logits(latent).softmax(1)
    base, sigmas = (
        siblings.Base(latent, free, occupancy, torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1, 1)),
        [1.0, 0.5, 0.1, 0.0],
    )
    denoise = guided(prior, constraints, GuidanceSettings(guide_every=1), sigmas, base=base)
    z = latent + torch.randn(latent.shape)
    for sigma, following in pairwise(sigmas):
        clean = denoise(z, torch.tensor([sigma]))
        torch.testing.assert_close(clean[..., 2:], latent[..., 2:])
        assert not torch.equal(clean[..., :2], latent[..., :2])
        z = z + (following - sigma) * (z - clean) / sigma
    torch.testing.assert_close(z[..., 2:], latent[..., 2:], rtol=0, atol=1e-5)


def test_structures_apart_touch_no_edited_one():
    labels = read_base_map(TEMPLATES[0], HEART, HEART_GRID, CONVENTION)
    ventricle, cava = (HEART.label(name) for name in ("right_ventricle", "superior_vena_cava"))
    both = siblings.apart(labels, [labels == ventricle, labels == cava], 11)
    one = siblings.apart(labels, [labels == ventricle], 11)
    assert not both[[0, ventricle, cava]].any()
    assert one[cava]
    for k in set(range(1, 11)) - {ventricle}:
        faces = sum(
            np.count_nonzero((a == ventricle) & (b == k)) + np.count_nonzero((a == k) & (b == ventricle))
            for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]),
                         (labels[..., 1:], labels[..., :-1]))
        )  # fmt: skip
        assert one[k] == (faces == 0)


def test_labels_that_the_base_lacks_are_not_held():
    """An overlap with nothing would outweigh every moment: a base without veins got 5 % more wall."""
    labels = read_base_map(TEMPLATES[0], HEART, HEART_GRID, CONVENTION)
    vein, ventricle = HEART.label("pulmonary_vein"), HEART.label("right_ventricle")
    assert siblings.apart(labels, [labels == ventricle], 11)[vein]
    assert not siblings.apart(np.where(labels == vein, 0, labels), [labels == ventricle], 11)[vein]


def test_a_structure_strays_by_what_its_dice_lacks():
    """20 cells moved by one have Dice 0.95, 5 cells 0.8; only structures held whole count."""
    at = torch.zeros(1, 3, 40, 1, 1)
    at[:, 1, :20] = at[:, 2, 5:10] = 1.0
    moved = at.roll(1, 2)
    anything = torch.zeros(1, 1, 1, 1, 1)
    for mask, expected in (([0, 1, 0], 1.0), ([0, 0, 1], 4.0), ([0, 1, 1], 5.0), ([0, 0, 0], 0.0)):
        held = torch.tensor(mask, dtype=torch.float32).reshape(1, 3, 1, 1, 1)
        base = siblings.Base(anything, anything, at, held)
        assert float(base.base_deviation(moved)) == pytest.approx(expected)
        assert float(base.base_deviation(at)) == 0.0


# verdicts


def of_table(verdict):
    listed = {"file": "a-00000.nii.gz", "size": 3, "sha256": "x", "reason": ""}
    made = pd.DataFrame([{"subject": "a-00000", **listed}])
    judged = {"subject": "a-00000", "verdict": verdict, "reasons": "speck.aorta: 1 mL, max 0.1"}
    own = arm(HALF, base="a").to_dict()
    return sibling_base.of_table(own, 0, made, pd.DataFrame([judged]), Path("folder"))


def test_a_rejected_base_is_a_status_of_its_own(tiny, tmp_path):
    bundle, _ = tiny
    assert of_table("accepted")["refused"] == ""
    assert of_table("accepted")["edited"] == ["right_ventricle"]
    rules = tmp_path / "rules.tsv"
    rules.write_text(LENIENT)
    generator = anatomies.open_generator(str(bundle), str(rules), {}, 1, "cpu")
    rows = targets_of(tiny_heart(), arm("cavity.volume: x0.5", ANATOMY), ANATOMY, GRID)
    payload = (rows.to_dict("records"), 1, "small", 0, of_table("rejected"))
    (result,) = anatomies.work(generator, [tmp_path / "small-00000.nii.gz"], [payload])
    assert isinstance(result, SubjectError)
    assert result.ending.outcome == "base_rejected"
    assert result.ending.text == "base rejected: a-00000, speck.aorta: 1 mL, max 0.1"
    assert not (tmp_path / "small-00000.nii.gz").exists()
