"""Meshes of whole label maps: every label a region, every interface there once, nothing between."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort import mesh_subject
from cardiocohort.anatomy.label_map import LabelMap, read_label_map
from cardiocohort.anatomy.labels import Anatomy
from cardiocohort.mesh.label_model import LabelModel, wrong_facets
from cardiocohort.mesh.storage import read_model, write_surface, write_volume
from cardiocohort.mesh.tetrahedron_geometry import scaled_jacobian, z_order
from cardiocohort.meshing import label_regions
from cardiocohort.meshing.interfaces import (
    Nodes,
    Strengths,
    crossings,
    folds,
    interfaces,
    needles,
    region_measures,
    separate,
    surface_nets,
)
from cardiocohort.meshing.label_regions import build_labels, check_contacts, failures, pieces, volume_errors
from cardiocohort.meshing.settings import MeshSettings
from cardiocohort.microstructure.label_fibres import add_label_fibres
from cardiocohort.microstructure.settings import FibreAngles
from cardiocohort.runtime.errors import SubjectError
from heart_anatomy import HEART

TEMPLATES = sorted((Path(__file__).resolve().parents[3] / "resources/templates").glob("T*.nii.gz"))
COARSE = MeshSettings(domain="labels", edge_length_mm=4.0)
PARTS = Anatomy(("shell", "core", "left", "right"), ("core",))


def map_of(labels):
    return LabelMap(labels.astype(np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]))


def analytic_map():
    """A ball (radius 10 mm) in a shell (18 mm), on a slab of two halves: three labels meet along lines."""
    x, y, z = (2.0 * a - 40.0 for a in np.indices((41, 41, 41)))
    radius = np.sqrt(x**2 + y**2 + z**2)
    labels = np.zeros(x.shape)
    slab = (np.abs(x) < 25) & (np.abs(y) < 15) & (z > -29) & (z < 0)
    labels[slab] = np.where(x[slab] < 0, 3, 4)
    labels[radius < 18] = 1
    labels[radius < 10] = 2
    return map_of(labels)


@pytest.fixture(scope="module")
def analytic():
    return build_labels(analytic_map(), PARTS, COARSE)


def test_every_gate_holds_on_the_analytic_map(analytic):
    model, figures = analytic
    assert list(failures(model, analytic_map(), figures, COARSE)) == []
    assert figures["regions"] == 4
    assert figures["n_tets"] == len(model.tets)
    assert figures["min_scaled_jacobian"] == scaled_jacobian(model.points_mm[model.tets]).min() > 0.05


def test_regions_lie_where_the_labels_are(analytic):
    """Volumes to 2 %, the ball's surface to half a voxel, and each centroid in its own label."""
    model, _ = analytic
    assert np.abs(volume_errors(model, analytic_map())).max() < 0.02
    core = np.unique(model.surface_of(2))
    assert np.abs(np.linalg.norm(model.points_mm[core] - 40.0, axis=1) - 10.0).max() < 1.0
    labels = analytic_map().labels
    at = np.rint(model.points_mm[model.tets].mean(axis=1) / 2).astype(int)
    assert (labels[tuple(at.T)] == model.region).mean() > 0.9
    assert [len(pieces(model, label)) for label in (1, 2, 3, 4)] == [1, 1, 1, 1]


def test_interfaces_are_those_of_the_labels(analytic):
    """The core touches the shell alone; halves, shell and outside meet along curves that they share."""
    model, _ = analytic
    interfaces = model.interfaces()
    assert set(interfaces) == {
        "shell-outside", "shell-core", "shell-left", "shell-right", "left-outside", "right-outside",
        "left-right",
    }  # fmt: skip
    assert sum(map(len, interfaces.values())) == len(model.facets)
    line = np.intersect1d(interfaces["left-right"], interfaces["shell-left"])
    assert len(line) > 5
    assert np.isin(line, interfaces["shell-right"]).all()
    # turned outward of the first: the core is inside the shell's inner surface
    _, area = region_measures(model.points_mm, model.facets, model.sides, 5)
    assert area[2] == pytest.approx(4 * np.pi * 10**2, rel=0.05)


def test_each_closed_surface_holds_its_regions_volume(analytic):
    """Divergence theorem on the facets, apart from the tetrahedra."""
    model, _ = analytic
    for label in (1, 2, 3, 4):
        a, b, c = (model.points_mm[model.surface_of(label)[:, i]] for i in range(3))
        volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
        assert volume == pytest.approx(model.volumes_mm3[label - 1], rel=1e-9)


def moved_label(model):
    region = model.region.copy()
    region[0] = region[0] % 4 + 1
    return replace(model, region=region)


def twice(rows):
    return np.concatenate([rows[:1], rows])


def turned_sides(model):
    return replace(model, sides=np.concatenate([model.sides[:1, ::-1], model.sides[1:]]))


DEFECTS = {
    "a facet is missing": lambda model: replace(model, facets=model.facets[1:], sides=model.sides[1:]),
    "a facet is there twice": lambda model: replace(
        model, facets=twice(model.facets), sides=twice(model.sides)
    ),
    "sides are exchanged": turned_sides,
    "a tetrahedron has another label": moved_label,
    "a tetrahedron is missing": lambda model: replace(model, tets=model.tets[1:], region=model.region[1:]),
    "a tetrahedron is there twice": lambda model: replace(
        model, tets=twice(model.tets), region=twice(model.region)
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_defect_of_conformity_is_seen(analytic, defect):
    model, figures = analytic
    assert wrong_facets(model) == 0
    spoilt = DEFECTS[defect](model)
    assert wrong_facets(spoilt) > 0
    reasons = [reason for reason, _ in failures(spoilt, analytic_map(), figures, COARSE)]
    assert label_regions.NOT_CONFORMING in reasons


def test_a_model_comes_back_from_its_files(analytic, tmp_path):
    model, _ = analytic
    write_volume(tmp_path / "m.vtu", model)
    write_surface(tmp_path / "m.vtp", model)
    back = read_model(tmp_path / "m.vtu", tmp_path / "m.vtp")
    assert isinstance(back, LabelModel)
    assert (back.structures, back.provenance) == (model.structures, model.provenance)
    for name in ("points_mm", "tets", "region", "facets", "sides"):
        assert np.array_equal(getattr(back, name), getattr(model, name))


def test_neighbours_follow_each_other(analytic):
    model, _ = analytic
    along = z_order(model.points_mm[model.tets].mean(axis=1))
    assert np.array_equal(along, np.arange(len(model.tets)))


def plate():
    """Two blocks with a plate of one voxel between them."""
    labels = np.zeros((24, 24, 24))
    labels[4:20, 4:20, 4:20] = 2
    labels[4:20, 4:20, 12:20] = 3
    labels[4:20, 4:20, 11] = 1
    return map_of(labels)


def test_a_wall_thinner_than_an_edge_stays_whole():
    """A plate of 2 mm, cells of 6 mm: it keeps its blocks apart, with the volume of its label."""
    model, figures = build_labels(plate(), PARTS, replace(COARSE, edge_length_mm=6.0))
    assert "core-left" not in model.interfaces()
    assert figures["region_volume_error"] < 0.03


def test_a_wall_with_a_thin_place_keeps_what_it_parts_apart():
    """A pit of 14 mm leaves one voxel of a wall: most of a cell there is outside, and its label an island."""
    labels = np.zeros((30, 30, 24))
    labels[4:26, 4:26, 4:20] = 1
    labels[8:22, 8:22, 8:14] = 2
    x, y = np.indices((30, 30)) * 2.0 - 30.0
    labels[np.hypot(x, y) < 7, 15:] = 0
    check_contacts(interfaces(map_of(labels), 4.0, 1.5), PARTS, 4.0)
    model, figures = build_labels(map_of(labels), PARTS, COARSE)
    assert figures["smoothing_mm"] == 1.5
    assert "core-outside" not in model.interfaces()


def test_a_contact_that_the_labels_lack_is_refused():
    """One pair of facets of the plate gone: the blocks would touch there."""
    skin = interfaces(plate(), 6.0, 1.5)
    check_contacts(skin, PARTS, 6.0)
    sides = skin.sides.copy()
    sides[np.flatnonzero((np.sort(sides) == (1, 2)).all(axis=1))[0]] = 2, 3
    with pytest.raises(
        SubjectError, match=r"left touches core near .* mm, .*edge_length_mm below 6"
    ) as caught:
        check_contacts(replace(skin, sides=sides), PARTS, 6.0)
    assert caught.value.reason == "false contact"


def test_a_piece_of_a_label_does_not_vanish_unseen():
    """A cube apart has a region; one below 27 cells is named, or the mesh is refused where it is much."""

    def with_cube(size):
        labels = analytic_map().labels.copy()
        labels[2 : 2 + size, 2 : 2 + size, 2 : 2 + size] = 3
        return build_labels(map_of(labels), PARTS, replace(COARSE, p1_scaled_jacobian=0.05))

    model, figures = with_cube(6)
    assert len(pieces(model, 3)) == 2
    assert "left out" not in figures["changes"]
    model, figures = with_cube(3)
    assert len(pieces(model, 3)) == 1
    share = 27 / (27 + np.count_nonzero(analytic_map().labels == 3))
    assert f"left: 1 of its pieces left out, {100 * share:.2g} % of its label" in figures["changes"]
    with pytest.raises(SubjectError, match="left: 1 pieces, its label has 2") as caught:
        with_cube(5)
    assert caught.value.reason == "region in pieces"


def test_an_empty_map_is_refused():
    with pytest.raises(SubjectError, match="no label"):
        build_labels(map_of(np.zeros((8, 8, 8))), PARTS, COARSE)


CHAMBERS = Anatomy(("myocardium", "left_ventricle", "right_ventricle", "left_atrium"), ("myocardium",))


def chambers(with_atrium):
    """A shell of myocardium around a ball of blood, cut by an atrium above; right ventricle at its side."""
    x, y, z = (2.0 * a - 40.0 for a in np.indices((41, 41, 41)))
    radius = np.sqrt(x**2 + y**2 + z**2)
    labels = np.zeros(x.shape)
    labels[np.sqrt((x - 20) ** 2 + y**2 + z**2) < 14] = 3
    labels[radius < 18] = 1
    labels[radius < 10] = 2
    if with_atrium:
        labels[(radius < 18) & (z > 6)] = 4
    return map_of(labels)


def test_fibres_are_in_the_myocardium_alone():
    """Unit vectors along the wall there, turning from endocardium to epicardium; elsewhere zero vectors."""
    model, figures = mesh_subject.mesh_labels(chambers(True), CHAMBERS, COARSE, FibreAngles())
    assert "no fibres" not in figures["changes"]
    muscle, f0 = model.region == 1, model.microstructure.f0
    assert np.linalg.norm(f0[muscle], axis=1) == pytest.approx(1.0)
    assert not f0[~muscle].any()
    outward = model.points_mm[model.tets].mean(axis=1) - 40.0
    radius = np.linalg.norm(outward, axis=1)
    free = muscle & (outward[:, 0] < 0) & (np.abs(outward[:, 2]) < 6)
    radial = np.einsum("ij,ij->i", f0, outward / radius[:, None])[free]
    assert np.median(np.abs(radial)) < 0.15
    around = np.cross([0.0, 0.0, 1.0], outward)[free]
    helix = np.sign(np.einsum("ij,ij->i", f0[free], around)) * f0[free, 2]
    inner, outer = radius[free] < 12.5, radius[free] > 15.5
    assert np.median(helix[inner]) * np.median(helix[outer]) < 0


def test_a_heart_without_a_base_has_a_mesh_without_fibres():
    model, figures = mesh_subject.mesh_labels(chambers(False), CHAMBERS, COARSE, FibreAngles())
    assert model.microstructure is None
    assert "no fibres: the myocardium has no surface base" in figures["changes"]


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_interfaces_of_any_labels_are_closed_and_do_not_cross(seed, n_labels):
    """Random blobs: around each label the facets close, none cross or fold, volumes come from the labels."""
    random = np.random.default_rng(seed)
    centres, index = random.uniform(5, 15, (3 * n_labels, 3)), np.indices((20, 20, 20)).reshape(3, -1).T
    near = np.linalg.norm(index[:, None] - centres, axis=2)
    labels = np.where(near.min(axis=1) < 4, near.argmin(axis=1) % n_labels + 1, 0).reshape(20, 20, 20)
    strength = Strengths.of(map_of(labels), 1.1)
    start, facets, sides, _ = surface_nets(strength, 3.0)
    points, _ = separate(Nodes(start, facets, sides, strength, 3.0).settle(start, 30), start, facets)
    assert not len(crossings(points, facets))
    assert not len(folds(points, facets))
    assert not needles(points, facets).any()
    for label in range(n_labels + 1):
        around = np.concatenate([facets[sides[:, 0] == label], facets[sides[:, 1] == label][:, ::-1]])
        directed = np.concatenate([around[:, [0, 1]], around[:, [1, 2]], around[:, [2, 0]]])
        ends = np.sort(directed, axis=1)
        edges, at = np.unique(ends, axis=0, return_inverse=True)
        forward = np.where(directed[:, 0] < directed[:, 1], 1, -1)
        assert not np.bincount(at.ravel(), forward, len(edges)).any()


@pytest.mark.long
def test_a_heart_becomes_regions_with_fibres_in_its_myocardium():
    """T3: every gate, ten regions, unit fibres in the myocardium and zero vectors elsewhere."""
    labelmap = read_label_map(TEMPLATES[2], HEART)
    model, figures = build_labels(labelmap, HEART, COARSE)
    assert list(failures(model, labelmap, figures, COARSE)) == []
    assert figures["regions"] == len(HEART.structures)
    assert figures["region_volume_error"] < 0.02
    model = add_label_fibres(model, FibreAngles())
    length = np.linalg.norm(model.microstructure.f0, axis=1)
    muscle = model.region == HEART.label("myocardium")
    assert length[muscle] == pytest.approx(1.0)
    assert not length[~muscle].any()
