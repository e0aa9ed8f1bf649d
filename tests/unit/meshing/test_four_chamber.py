"""Walls outside blood pools: volumes of spheres, valves, open ends, and defects that gates see."""

from dataclasses import replace

import numpy as np
import pytest

from cardiocohort.anatomy.label_map import LabelMap
from cardiocohort.anatomy.labels import Anatomy
from cardiocohort.mesh.label_model import wrong_facets
from cardiocohort.meshing.four_chamber import (
    build_four_chamber,
    failures,
    patches,
    valve_facets,
    without_blood,
)
from cardiocohort.meshing.settings import MeshSettings, RvWallSegments
from cardiocohort.meshing.walls import add_walls
from cardiocohort.runtime.errors import InputError, SubjectError
from heart_anatomy import HEART

SETTINGS = MeshSettings(domain="four_chamber", edge_length_mm=4.0, atrial_wall_mm=3.6, artery_wall_mm=3.6)
SHAPE = np.array([56, 44, 64])
CENTRES = {
    "left_ventricle": (-18.0, 0.0, -12.0),
    "right_ventricle": (20.0, 0.0, -12.0),
    "left_atrium": (-24.0, 0.0, 16.0),
    "right_atrium": (26.0, 0.0, 16.0),
}
RADIUS_MM, MUSCLE_MM = 15.0, 8.0
TUBES = {"aorta": -8.0, "pulmonary_artery": 8.0}  # x of their axes, upward, cut flat


def heart():
    """Four balls of blood, the left ventricle in muscle, and two upright tubes."""
    index = np.indices(SHAPE).reshape(3, -1).T.reshape(*SHAPE, 3)
    at = 2.0 * (index - (SHAPE - 1) / 2)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    distance = {name: np.linalg.norm(at - centre, axis=-1) for name, centre in CENTRES.items()}
    labels[distance["left_ventricle"] < RADIUS_MM + MUSCLE_MM] = HEART.label("myocardium")
    for name, x in TUBES.items():
        tube = (np.hypot(at[..., 0] - x, at[..., 1]) < 7) & (at[..., 2] > -4) & (at[..., 2] < 45)
        labels[tube] = HEART.label(name)
    for name in reversed(CENTRES):
        labels[distance[name] < RADIUS_MM] = HEART.label(name)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = at[0, 0, 0]
    return LabelMap(labels, affine)


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
    assert patches(valve_facets(made[0], ("left_ventricle", "left_atrium"))) == 1


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
    apart = heart()
    labels = np.where(apart.labels == HEART.label("left_atrium"), 0, apart.labels)
    with pytest.raises(SubjectError) as caught:
        add_walls(replace(apart, labels=labels), HEART, SETTINGS)
    assert caught.value.reason == "no mitral valve"
