"""Walls outside blood pools: volumes of spheres, valves, open ends, and defects that gates see."""

from dataclasses import replace

import numpy as np
import pytest

from ball_heart import CENTRES, RADIUS_MM, TUBES, heart
from cardiocohort.anatomy.labels import Anatomy
from cardiocohort.mesh.label_model import wrong_facets
from cardiocohort.meshing.four_chamber import (
    build_four_chamber,
    failures,
    valve_facets,
    without_blood,
)
from cardiocohort.meshing.settings import MeshSettings, RvWallSegments
from cardiocohort.meshing.surface import patch_of
from cardiocohort.meshing.walls import add_walls
from cardiocohort.microstructure.label_fibres import add_label_fibres
from cardiocohort.microstructure.settings import FibreAngles
from cardiocohort.runtime.errors import InputError, SubjectError
from heart_anatomy import HEART

SETTINGS = MeshSettings(domain="four_chamber", edge_length_mm=4.0, atrial_wall_mm=3.6, artery_wall_mm=3.6)


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
    for name in TUBES:
        assert share_of(walled, name, "outside") > 0.8 * np.pi * 7**2
    assert share_of(walled, "aorta", "pulmonary_artery") == 0
    assert share_of(walled, "left_atrium", "aorta") == 0


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
    """Conforming, walls of the set thickness, each valve one patch; walls have the volume of their shells."""
    model, figures = made
    assert wrong_facets(model) == 0
    assert (model.tet_volumes_mm3 > 0).all()
    assert list(failures(model, walled, figures, SETTINGS)) == []
    for name, mm in walled.wanted_mm.items():
        assert figures[f"{name}_mm"] == pytest.approx(mm, rel=0.15)
    assert figures["region_volume_error"] < 0.03


def test_defects_of_walls_and_valves_are_seen(made, walled):
    model, figures = made

    def reasons(model, **changed):
        return [reason for reason, _ in failures(model, walled, figures | changed, SETTINGS)]

    assert reasons(model, right_atrium_wall_mm=2.0) == ["wall thickness"]
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


def test_blood_is_coarser_inside_and_walls_are_not(made):
    """Fewer tetrahedra in blood, some of them larger than any before; surfaces stay as they were."""
    model = made[0]
    coarse, figures = build_four_chamber(heart(), HEART, replace(SETTINGS, blood_edge_length_mm=12.0))
    assert np.array_equal(coarse.facets, model.facets)
    assert figures["region_volume_error"] < 0.03
    blood = [model.structures.index(name) + 1 for name in (*CENTRES, *TUBES)]
    n, n_coarse = (np.isin(m.region, blood).sum() for m in (model, coarse))
    assert n_coarse < 0.8 * n
    largest = [
        [m.tet_volumes_mm3[np.isin(m.region, blood, invert=invert)].max() for m in (model, coarse)]
        for invert in (False, True)
    ]
    assert largest[0][1] > 2 * largest[0][0]
    assert largest[1][1] < 1.05 * largest[1][0]


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
