"""Walls outside blood pools: volumes of spheres, valves, open ends, and defects that gates see."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from ball_heart import CENTRES, RADIUS_MM, TUBES, heart
from cardiocohort import mesh_subject
from cardiocohort.anatomy.labels import Anatomy
from cardiocohort.mesh.label_model import wrong_facets
from cardiocohort.mesh.tetrahedron_geometry import scaled_jacobian
from cardiocohort.meshing.four_chamber import (
    build_four_chamber,
    failures,
    valve_facets,
    without_blood,
)
from cardiocohort.meshing.label_regions import BIT_OF_A_WALL, changes, pieces, volume_errors
from cardiocohort.meshing.settings import MeshSettings, RvWallSegments
from cardiocohort.meshing.surface import patch_of
from cardiocohort.meshing.walls import VEINS, add_walls, ahead_of, bridges, cut_ends, join_pieces
from cardiocohort.microstructure.label_fibres import add_label_fibres
from cardiocohort.microstructure.settings import FibreAngles
from cardiocohort.runtime.errors import InputError, SubjectError
from heart_anatomy import HEART

SETTINGS = MeshSettings(domain="four_chamber", edge_length_mm=3.6, atrial_wall_mm=3.6, artery_wall_mm=3.6)


@pytest.fixture(scope="module")
def walled():
    return add_walls(heart(), HEART, SETTINGS)


def share_of(walled, one, two):
    """Faces of cells (mm2) between two labels of the map."""
    a, b = ((0 if n == "outside" else walled.anatomy.label(n)) for n in (one, two))
    labels = walled.labelmap.labels
    return sum(
        np.count_nonzero((np.minimum(p, q) == min(a, b)) & (np.maximum(p, q) == max(a, b)))
        for p, q in (
            (labels[1:], labels[:-1]),
            (labels[:, 1:], labels[:, :-1]),
            (labels[..., 1:], labels[..., :-1]),
        )
    )


def test_valves_stay_open_and_nothing_else_is_bare(walled):
    """Blood meets blood at the four valves, and the outside at the cut ends of the tubes alone."""
    for one, two in (("left_ventricle", "left_atrium"), ("right_ventricle", "right_atrium")):
        assert share_of(walled, one, two) > 50
    for name in CENTRES:
        assert share_of(walled, name, "outside") == 0
    for name in TUBES:  # all of the last layer is open, and nothing beside it
        cells = walled.labelmap.labels == walled.anatomy.label(name)
        layers = np.flatnonzero(cells.any(axis=(0, 1)))
        assert share_of(walled, name, "outside") == np.count_nonzero(cells[..., layers[-1]])
    assert share_of(walled, "aorta", "pulmonary_artery") == 0
    assert share_of(walled, "left_atrium", "aorta") == 0


@pytest.mark.parametrize(("width", "layers"), [(1, 1), (2, 1), (6, 1), (6, 2)])
def test_what_lies_ahead_of_a_cut_end_is_beyond_its_plane(width, layers):
    """Beside the vessel nothing does, and a bit of a cell or two is no end."""
    vessel, ends = np.zeros((2, 16, 16, 16), dtype=bool)
    vessel[5:11, 5:11, :8] = True
    ends[5 : 5 + width, 5:11, 8 - layers : 8] = width > 2
    ends[5 : 5 + width, 5, 7] = True
    ahead = ahead_of(ends, vessel)
    assert not ahead[..., :8].any()
    assert ahead[5:11, 5:11, 8:].all() == (width > 2)


def test_a_vein_that_the_map_lacks_has_no_wall():
    walled = add_walls(heart(), HEART, replace(SETTINGS, vein_wall_mm=3.6))
    veins = [walled.anatomy.label(f"{name}_wall") for name in VEINS]
    assert not np.isin(walled.labelmap.labels, veins).any()
    assert (walled.labelmap.labels == walled.anatomy.label("left_atrium_wall")).any()


def test_a_wall_has_the_volume_of_its_shell(walled):
    """Of the right atrium's ball, the part of the shell beyond a plane where nothing else is near."""
    wall = np.argwhere(walled.labelmap.labels == walled.anatomy.label("right_atrium_wall"))
    plane = 8.0
    free = walled.labelmap.affine[0, 3] + wall[:, 0] - CENTRES["right_atrium"][0] > plane
    outer, inner = (
        np.pi * (2 * r**3 / 3 - r**2 * plane + plane**3 / 3)
        for r in (RADIUS_MM + SETTINGS.atrial_wall_mm, RADIUS_MM)
    )
    assert np.count_nonzero(free) == pytest.approx(outer - inner, rel=0.1)


@pytest.fixture(scope="module")
def made():
    return build_four_chamber(heart(), HEART, SETTINGS)


def test_every_gate_holds_on_spheres(made, walled):
    """Conforming, walls of the set thickness, each valve one patch; volumes come from the labels."""
    model, figures = made
    assert wrong_facets(model) == 0
    assert (model.tet_volumes_mm3 > 0).all()
    assert list(failures(model, walled, figures, SETTINGS)) == []
    for name, mm in walled.wanted_mm.items():
        assert figures[f"{name}_mm"] == pytest.approx(mm, rel=0.08)
    assert worst_volume(model, walled, ("myocardium", *CENTRES, *TUBES)) < 0.015
    # what walls lose where they end is not made up for in thickness
    assert worst_volume(model, walled, walled.wanted_mm) < 0.11


def test_blood_keeps_its_volume_where_walls_part_pools(made, walled):
    """Half of a wall between two pools that touch comes from each: up to 0.6 mL of a tube of 5.2 mL."""
    model, _ = made
    assert max(walled.carved_ml.values()) > 0.4
    volumes = dict(zip(model.structures, model.volumes_mm3 / 1000, strict=True))
    for name, wanted in walled.blood_ml.items():
        assert volumes[name] == pytest.approx(wanted, rel=0.015)


def worst_volume(model, walled, names):
    """Largest relative error of a region's volume from its label's."""
    error = dict(zip(model.structures, np.abs(volume_errors(model, walled.labelmap)), strict=True))
    return max(error[name] for name in names)


def test_the_outer_face_of_a_wall_is_even(made, walled):
    """Of the right atrium's ball, where nothing else is near. Cells of the grid would leave steps of 1 mm."""
    model, _ = made
    wall = model.structures.index("right_atrium_wall") + 1
    outer = (model.sides == wall).any(axis=1) & (model.sides == 0).any(axis=1)
    points = model.points_mm[np.unique(model.facets[outer])] - CENTRES["right_atrium"]
    radius = np.linalg.norm(points[points[:, 0] > 8.0], axis=1)
    # the blood that gave way to walls between pools is made up for all around
    growth_mm = 1000 * walled.carved_ml["right_atrium"] / (4 * np.pi * RADIUS_MM**2)
    expected_mm = RADIUS_MM + growth_mm + SETTINGS.atrial_wall_mm
    assert np.median(radius) == pytest.approx(expected_mm, abs=0.15)
    away = np.abs(radius - np.median(radius))
    assert np.quantile(away, 0.95) < 0.3


def test_defects_of_walls_and_valves_are_seen(made, walled):
    model, figures = made

    def reasons(model, **changed):
        return [reason for reason, _ in failures(model, walled, figures | changed, SETTINGS)]

    assert reasons(model, right_atrium_wall_mm=2.0) == ["wall thickness"]
    more = replace(walled, blood_ml=walled.blood_ml | {"aorta": 1.1 * walled.blood_ml["aorta"]})
    ((reason, detail),) = failures(model, more, figures, SETTINGS)
    assert reason == "blood volume"
    assert detail.startswith("aorta: -9.")
    bare = model.sides.copy()
    bare[(model.sides == model.structures.index("right_ventricle_wall") + 1)] = 0
    assert "open wall" in reasons(replace(model, sides=bare))
    closed = model.sides.copy()
    mitral = np.sort([model.structures.index(n) + 1 for n in ("left_ventricle", "left_atrium")])
    closed[(np.sort(closed, axis=1) == mitral).all(axis=1)] = 1, 2
    assert reasons(replace(model, sides=closed)) == ["valve in pieces"]


def test_walls_alone_keep_the_names_of_their_surfaces(made):
    model = without_blood(made[0])
    assert wrong_facets(model) == 0
    assert {model.name(k) for k in np.unique(model.region)} == {
        "myocardium", *(f"{name}_wall" for name in (*CENTRES, *TUBES) if name != "left_ventricle")
    }  # fmt: skip
    assert {"left_atrium-left_atrium_wall", "left_atrium_wall-outside"} <= set(model.interfaces())
    assert len(np.unique(patch_of(valve_facets(made[0], ("left_ventricle", "left_atrium"))))) == 1


def test_the_table_describes_the_mesh_that_is_written(made, monkeypatch):
    monkeypatch.setattr(mesh_subject, "build_four_chamber", lambda *_: (made[0], dict(made[1])))
    model, figures = mesh_subject.mesh_labels(
        heart(), HEART, replace(SETTINGS, blood="left_out"), FibreAngles()
    )
    assert (figures["n_tets"], figures["n_nodes"]) == (len(model.tets), len(model.points_mm))
    assert figures["n_tets"] < len(made[0].tets)
    assert figures["min_scaled_jacobian"] == scaled_jacobian(model.points_mm[model.tets]).min()
    assert (figures["regions"], figures["interfaces"]) == (
        len(np.unique(model.region)),
        len(model.interfaces()),
    )
    assert figures["right_atrium_wall_ml"] == made[1]["right_atrium_wall_ml"]


def test_blood_is_coarser_inside_and_walls_are_not(made, walled):
    """Fewer tetrahedra in blood, some of them larger than any before; surfaces stay as they were."""
    model = made[0]
    coarse, _ = build_four_chamber(heart(), HEART, replace(SETTINGS, blood_edge_length_mm=12.0))
    assert np.array_equal(coarse.facets, model.facets)
    assert worst_volume(coarse, walled, ("myocardium", *CENTRES, *TUBES)) < 0.03
    blood = [model.structures.index(name) + 1 for name in (*CENTRES, *TUBES)]
    n, n_coarse = (np.isin(m.region, blood).sum() for m in (model, coarse))
    assert n_coarse < 0.8 * n
    pools, muscle = (
        [m.tet_volumes_mm3[np.isin(m.region, blood, invert=invert)] for m in (model, coarse)]
        for invert in (False, True)
    )
    assert pools[1].max() > 2 * pools[0].max()
    # one tetrahedron may be larger by chance, as nodes of flat ones are moved
    assert np.quantile(muscle[1], 0.999) < 1.05 * np.quantile(muscle[0], 0.999)
    assert muscle[1].mean() == pytest.approx(muscle[0].mean(), rel=0.02)
    assert np.count_nonzero(muscle[1] > muscle[0].max()) <= 3


def test_both_ventricles_have_fibres_and_nothing_else_has(made):
    """Unit vectors along the wall of both ventricles; the right one's turn from endocardium to epicardium."""
    model = add_label_fibres(made[0], FibreAngles())
    length = np.linalg.norm(model.microstructure.f0, axis=1)
    muscle = np.isin(
        model.region, [model.structures.index(n) + 1 for n in ("myocardium", "right_ventricle_wall")]
    )
    assert length[muscle] == pytest.approx(1.0)
    assert not length[~muscle].any()
    outward = model.points_mm[model.tets].mean(axis=1) - CENTRES["right_ventricle"]
    free = (model.region == model.structures.index("right_ventricle_wall") + 1) & (outward[:, 0] > 5)
    radial = np.einsum(
        "ij,ij->i", model.microstructure.f0, outward / np.linalg.norm(outward, axis=1)[:, None]
    )
    assert np.median(np.abs(radial[free])) < 0.2


def test_a_bit_of_muscle_has_the_directions_of_the_nearest_muscle(made):
    """One more tetrahedron of the right ventricle's wall, alone beside the heart."""
    model = made[0]
    n, label = len(model.points_mm), model.structures.index("right_ventricle_wall") + 1
    corner = model.points_mm.max(axis=0) + 5.0
    bit = replace(
        model,
        points_mm=np.vstack([model.points_mm, corner + np.vstack([np.zeros(3), np.eye(3)])]),
        tets=np.vstack([model.tets, n + np.arange(4)]),
        region=np.append(model.region, label),
        facets=np.vstack([model.facets, n + np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])]),
        sides=np.vstack([model.sides, np.tile([label, 0], (4, 1))]),
    )
    assert wrong_facets(bit) == 0
    made_of_bit, whole = (add_label_fibres(m, FibreAngles()).microstructure for m in (bit, model))
    assert np.array_equal(made_of_bit.f0[:-1], whole.f0)
    near = np.linalg.norm(model.points_mm[model.tets].mean(axis=1) - corner, axis=1)
    near[~whole.f0.any(axis=1)] = np.inf
    assert np.array_equal(made_of_bit.f0[-1], whole.f0[near.argmin()])


def test_what_cannot_be_is_refused_before_work():
    with pytest.raises(InputError, match=r"'meshing.domain': four_chamber needs aorta.*; set labels"):
        add_walls(heart(), Anatomy(("myocardium", "left_ventricle"), ("myocardium",)), SETTINGS)
    with pytest.raises(
        InputError, match=r"'meshing.atrial_wall_mm': 1 must be at least 0\.7 of edge_length_mm"
    ):
        MeshSettings(domain="four_chamber", edge_length_mm=2.8, atrial_wall_mm=1.0)
    with pytest.raises(InputError, match=r"'meshing.rv_wall_basal_mm': .* one thickness per wall"):
        MeshSettings(domain="four_chamber", rv_wall_basal_mm=4.0)
    with pytest.raises(InputError, match=r"'meshing.rv_wall_segments_mm.mid_lateral': .* one thickness per"):
        MeshSettings(domain="four_chamber", rv_wall_segments_mm=RvWallSegments(mid_lateral=4.0))
    with pytest.raises(
        InputError, match=r"'meshing.blood_edge_length_mm': 2 must be at least edge_length_mm"
    ):
        MeshSettings(domain="four_chamber", blood_edge_length_mm=2.0)
    apart = heart()
    labels = np.where(apart.labels == HEART.label("left_atrium"), 0, apart.labels)
    with pytest.raises(SubjectError) as caught:
        add_walls(replace(apart, labels=labels), HEART, SETTINGS)
    assert caught.value.reason == "no mitral valve"


def tube(ways, radius=9.0, plane=None, shape=(80, 80, 70)):
    """Cells (1 mm) within `radius` of polylines `ways`, before planes (point, normal)."""
    at = np.stack(np.indices(shape), axis=-1).astype(float)
    inside = np.zeros(shape, dtype=bool)
    for way in ways:
        for start, end in pairwise(way):
            start, along = np.array(start, float), np.subtract(end, start)
            share = np.clip((at - start) @ along / (along @ along), 0, 1)
            inside |= np.linalg.norm(at - start - share[..., None] * along, axis=-1) < radius
    for point, normal in plane or ():
        inside &= (at - point) @ np.array(normal, float) < 0
    return inside


def cut_share(vessel, point, normal):
    """Share of the cells along a plane that are a cut end, and number of end cells elsewhere."""
    ends = cut_ends(vessel, vessel & (np.indices(vessel.shape)[2] < 2))
    depth = (np.stack(np.indices(vessel.shape), axis=-1) - point) @ np.array(normal, float)
    surface = vessel & ~ndimage.binary_erosion(vessel)
    face = surface & (depth > -1.3)
    near = surface & (depth > -4.0)
    return (ends & face).sum() / face.sum(), (ends & surface & ~near).sum()


ANGLE = np.radians([0, 25, 40])


@pytest.mark.parametrize("normal", [(np.sin(a), 0, np.cos(a)) for a in ANGLE])
def test_a_cut_across_a_tube_is_open_all_over(normal):
    """Also where the plane is not straight across, so that one side of the cut is nearer to the root."""
    vessel = tube([[(40, 40, -20), (40, 40, 90)]], plane=[((40, 40, 50), normal)])
    share, elsewhere = cut_share(vessel, (40, 40, 50), normal)
    assert share > 0.8
    assert elsewhere == 0


@pytest.mark.parametrize("straight_mm", [10, 20])
@pytest.mark.parametrize("degrees", [50, 90])
def test_a_cut_behind_a_bend_is_open_all_over(degrees, straight_mm):
    """The bend's outer side is farther from the root than its inner one, and the way leads into it."""
    turn = np.linspace(0, np.radians(degrees), 14)
    arch = np.stack([55 - 35 * np.cos(turn), 0 * turn + 40, 20 + 35 * np.sin(turn)], axis=1)
    along = np.array([np.sin(turn[-1]), 0, np.cos(turn[-1])])
    cut = arch[-1] + straight_mm * along
    vessel = tube([[(20, 40, -20), *arch, cut + 40 * along]], plane=[(cut, along)], shape=(100, 80, 90))
    share, elsewhere = cut_share(vessel, cut, along)
    assert share > 0.7
    assert elsewhere == 0


def test_a_vessel_that_divides_is_open_at_both_ends_and_not_where_it_divides():
    vessel = tube(
        [[(40, 40, -20), (40, 40, 40)], [(-20, 40, 40), (99, 40, 40)]],
        radius=7.0,
        plane=[((70, 40, 40), (1, 0, 0)), ((10, 40, 40), (-1, 0, 0))],
    )
    ends = cut_ends(vessel, vessel & (np.indices(vessel.shape)[2] < 2))
    x = np.nonzero(ends)[0]
    assert ndimage.label(ends, np.ones((3, 3, 3)))[1] == 2
    assert ((x > 64) | (x < 16)).all()


def stepped_wall():
    """Blood below a wall of one cell whose height steps: its halves meet at edges of cells only."""
    labels = np.zeros((12, 8, 8), dtype=int)
    labels[:6, :, :4], labels[6:, :, :5] = 1, 1
    labels[:6, :, 4], labels[6:, :, 5] = 2, 2
    return labels


def test_pieces_of_a_wall_that_meet_at_edges_are_joined_and_counted():
    """The seeded defect: two halves share no face. The strongest cell outside joins them."""
    labels, strength = stepped_wall(), np.zeros((12, 8, 8))
    assert ndimage.label(labels == 2)[1] == 2
    strength[5, 3, 5] = 0.4
    before = labels.copy()
    assert join_pieces(labels, strength, [2]) == {2: 1}
    assert ndimage.label(labels == 2)[1] == 1
    assert np.argwhere(labels != before).tolist() == [[5, 3, 5]]
    assert join_pieces(labels, strength, [2]) == {}


def test_a_wall_between_two_pools_is_joined_without_cutting_one():
    """No cell is outside. Of the lower pool only a canal is left below the step: it stays whole."""
    labels = stepped_wall()
    labels[labels == 0] = 3
    labels[6, :, 4] = 2  # whole again but for the row of the canal
    labels[6, 3, 4] = 1
    labels[5:, :, :4][:, [2, 4]] = 2
    labels[:, :2, :6] = labels[:, 5:, :6] = 0
    found = ndimage.label(labels == 2)[0]
    for cell in bridges(found, labels == 2):
        assert labels[tuple(cell)] != 2
    n_pools = [ndimage.label(labels == k)[1] for k in (1, 3)]
    join_pieces(labels, np.ones(labels.shape), [2])
    assert [ndimage.label(labels == k)[1] for k in (1, 3)] == n_pools
    assert ndimage.label(labels == 2)[1] == 1


def test_what_is_joined_or_left_of_walls_is_recorded(made, walled):
    """A bit of a wall that shares no face with the rest is no failure, but it is named."""
    model = made[0]
    wall = model.structures.index("aorta_wall") + 1
    assert len(pieces(model, wall)) == 1
    rows = np.flatnonzero(model.region == wall)
    cut = model.region.copy()
    one = rows[0]
    beside = (np.isin(model.tets, model.tets[one]).sum(axis=1) == 3) & (cut == wall)
    cut[beside] = model.structures.index("aorta") + 1
    parted = replace(model, region=cut)
    share = pieces(parted, wall)
    assert share.min() < BIT_OF_A_WALL
    skin = type("Skin", (), {"moved_back": 0, "added": {wall: 3}})
    said = list(changes(parted, walled.labelmap, skin, list(walled.walls.values())))
    assert said[0] == "cells added that join pieces of walls: aorta_wall 3"
    assert said[1].startswith(f"aorta_wall: {(share < BIT_OF_A_WALL).sum()} bits apart, ")
