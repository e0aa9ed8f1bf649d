"""Who is in an atlas, and how hearts are turned onto it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy.contacts import contact_areas
from cardiocohort.anatomy.label_map import read_label_map, to_grid
from cardiocohort.anatomy.labels import Anatomy
from cardiocohort.atlas import building, hearts
from cardiocohort.metrics.overlap import dice
from cardiocohort.runtime.errors import InputError
from cardiocohort.topology import load_rules
from heart_anatomy import CONVENTION, HEART, HEART_GRID, RESOURCES

ANATOMY = Anatomy(("wall", "blood", "vein"), ("wall", "blood"))
TEMPLATE = RESOURCES / "templates/T2_rodero2021_case01.nii.gz"


def record(subject: str, volumes_ml=(100.0, 120.0, 20.0), verdict="accepted", reason="") -> dict:
    return {"subject": subject, "verdict": verdict, "reason": reason, "volume_ml": list(volumes_ml),
            "file": f"{subject}.nii.gz", "size": 1, "sha256": "0"}  # fmt: skip


def test_hearts_that_lack_what_most_have_are_left_out():
    volumes = [[100, 120, 20], [90, 110, 10], [95, 100, 0], [90, 80, 30]]
    reasons = hearts.lacking(np.array(volumes), ANATOMY)
    assert [bool(reason) for reason in reasons] == [False, False, True, False]
    assert reasons[2] == "lacks vein, which most of the hearts have"


def test_what_most_lack_is_asked_of_nobody():
    volumes = [[100, 120, 0], [90, 110, 0], [95, 100, 0], [90, 80, 30]]
    assert not any(hearts.lacking(np.array(volumes), ANATOMY))


def test_the_table_says_what_every_heart_is_used_for():
    records = [record(name) for name in "abcd"]
    records += [record("e", (90, 100, 0)), record("f", verdict="failed", reason="cannot be read")]
    rows = hearts.table(records, ANATOMY, ["b"], ["c"]).set_index("subject")
    assert rows["use"].tolist() == ["atlas", "left_out", "atlas", "atlas", "", ""]
    assert "lacks vein" in rows.loc["e", "reason"]
    assert "cannot be read" in rows.loc["f", "reason"]
    assert rows["cut_vessels"].to_dict()["c"]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_hearts_are_refused_with_the_reasons(n):
    records = [record(name) for name in "abc"[:n]] + [record("bad", verdict="failed", reason="no heart")]
    with pytest.raises(InputError, match=rf"{n} of {n + 1} label maps can be in an atlas.*bad: .*no heart"):
        hearts.table(records, ANATOMY, [], [])


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(*[st.floats(-90, 90)] * 3),
    st.lists(st.tuples(*[st.floats(-60, 60)] * 3), min_size=4, max_size=10, unique=True),
)
def test_a_turned_heart_is_turned_back(angles, centroids):
    reference = np.array(centroids)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    found = hearts.pose(reference @ rotation, reference, np.ones(len(reference)))
    assert np.linalg.det(found) == pytest.approx(1.0)
    np.testing.assert_allclose(reference @ rotation @ found.T, reference, atol=1e-6)


def test_a_mirrored_heart_is_never_mirrored_back():
    reference = np.random.default_rng(0).standard_normal((6, 3)) * 40
    assert np.linalg.det(hearts.pose(reference * [-1, 1, 1], reference, np.ones(6))) == pytest.approx(1.0)


def test_the_medoid_is_the_middle_heart_of_those_that_are_whole():
    centroids = np.zeros((5, 2, 3))
    centroids[:, 0, 0] = [0.0, 1.0, 2.0, 3.0, 50.0]
    volumes = np.full((5, 2), 100.0)
    whole = np.array([True, True, False, True, True])
    assert hearts.medoid(centroids, volumes, np.ones(5, bool)) == 2
    assert hearts.medoid(centroids, volumes, whole) in (1, 3)


def test_labels_turned_there_and_back_are_the_same():
    labels = to_grid(read_label_map(TEMPLATE, HEART), HEART_GRID).labels
    rotation = Rotation.from_euler("xyz", (8, -5, 10), degrees=True).as_matrix()
    turned = hearts.turned_labels(labels, rotation, HEART_GRID, HEART)
    back = hearts.turned_labels(turned, rotation.T, HEART_GRID, HEART)
    assert dice(turned, labels, HEART)[:5].max() < 0.95
    assert dice(back, labels, HEART)[:7].min() > 0.95


def test_a_real_heart_is_prepared_and_what_is_not_whole_is_said(tmp_path):
    source = hearts.open_source(HEART, HEART_GRID, RESOURCES / "anatomies/heart/topology.tsv", CONVENTION)
    made = hearts.prepare(source, tmp_path / "T2.nii.gz", (str(TEMPLATE),))
    labels = hearts.read_prepared(tmp_path / "T2.nii.gz", HEART)
    assert made["volume_ml"][1] == pytest.approx(np.sum(labels == 2) * HEART_GRID.voxel_volume_ml)
    assert made["not_whole"] == []


def test_pores_beside_the_valves_are_closed_in_the_template():
    labels = to_grid(read_label_map(TEMPLATE, HEART), HEART_GRID).labels
    rules = load_rules(RESOURCES / "anatomies/heart/topology.tsv", HEART)
    sealed = building.sealed(labels, HEART, HEART_GRID, rules)
    changed = sealed != labels
    assert (sealed[changed] == HEART.label("myocardium")).all()
    assert (labels[changed] == 0).all()
    assert changed.sum() * HEART_GRID.voxel_volume_ml < 5
    np.testing.assert_array_equal(building.sealed(sealed, HEART, HEART_GRID, rules), sealed)


def test_neighbours_of_the_template_touch_no_more_than_they_usually_do():
    """A heart whose left atrium was grown against the cava, among hearts in which they hardly touch."""
    labels = to_grid(read_label_map(TEMPLATE, HEART), HEART_GRID).labels
    rules = load_rules(RESOURCES / "anatomies/heart/topology.tsv", HEART)
    atrium, cava = HEART.label("left_atrium"), HEART.label("superior_vena_cava")
    grown = labels.copy()
    near = ndimage.binary_dilation(labels == cava, iterations=4) & (labels == 0)
    grown[near & ndimage.binary_dilation(labels == atrium, iterations=8)] = atrium

    def contact(of: np.ndarray) -> float:
        return contact_areas(of, (2.0, 2.0, 2.0), HEART.n_channels)[atrium, cava]

    usual = contact(labels)
    assert contact(grown) > 3 * max(usual, 20)
    contacts_mm2 = np.stack([building.contacts_of(labels, HEART, HEART_GRID)] * 3)
    parted = building.parted(grown, contacts_mm2, HEART, HEART_GRID, rules)
    assert contact(parted) <= usual
    changed = parted != grown
    assert (parted[changed] == 0).all()
    for label in np.unique(grown[changed]):  # two voxels deep where structures touch, nowhere else
        others = ndimage.binary_dilation((grown > 0) & (grown != label), iterations=2)
        assert others[changed & (grown == label)].all()
    np.testing.assert_array_equal(building.parted(labels, contacts_mm2, HEART, HEART_GRID, rules), labels)
