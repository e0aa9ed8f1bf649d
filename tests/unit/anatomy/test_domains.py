"""Domains against bodies whose parts are known exactly; errors before any work."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy import domains
from cardiocohort.anatomy.domains import Domain
from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.anatomy.moments import measure
from cardiocohort.cohort.grammar import parse_edits
from cardiocohort.diffusion.networks import REFINEMENT
from cardiocohort.generation.guidance import Within
from cardiocohort.runtime.errors import InputError

GRID = Grid((48, 48, 48), 2.0)
AXES = GRID.axes_mm()
ANATOMY = Anatomy(("body", "mark"), ("body",))
X, Y, Z = np.meshgrid(*AXES, indexing="ij")
POINTS = np.stack([X, Y, Z], axis=-1)
BALL_MM = 36.0
BALL = (X**2 + Y**2 + Z**2 < BALL_MM**2).astype(float)


def placed(**keys) -> domains.Placed:
    return domains.place(Domain(frame="heart", **keys), domains.HEART, GRID)


def part(occupancy: np.ndarray, domain: domains.Placed):
    return measure(occupancy * domain.weights(AXES), AXES)


def unit(x, y, z) -> np.ndarray:
    return np.array([x, y, z]) / np.linalg.norm([x, y, z])


def cylinder(way: np.ndarray, radius: float, half_length: float) -> np.ndarray:
    along = POINTS @ way
    across = np.linalg.norm(POINTS - along[..., None] * way, axis=-1)
    return (across < radius) & (np.abs(along) < half_length)


FORMS = {
    "slab": {"axis": [1, 2, 3], "low": -4, "high": 8},
    "half_space": {"axis": [0, 1, 0], "high": 8},
    "box": {"centre": [1, 2, 3], "size": [9, 8, 7]},
    "sphere": {"centre": [1, 2, 3], "radius": 9},
    "cylinder": {"axis": [1, 0, 1], "centre": [1, 2, 3], "radius": 9, "length": 8},
}


def grown(keys: dict, mm: float) -> dict:
    by = {"low": -mm, "high": mm, "radius": mm, "length": 2 * mm}
    larger = {name: value + by[name] if name in by else value for name, value in keys.items()}
    return larger | ({"size": [edge + 2 * mm for edge in keys["size"]]} if "size" in keys else {})


DIRECTION = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


@settings(max_examples=10, deadline=None)
@given(DIRECTION)
def test_half_a_ball(way):
    """Half of its volume, and its centroid 3/8 of the radius from the cut, which way ever it is cut."""
    half = part(BALL, placed(form="half_space", axis=list(way), low=0.0))
    whole = measure(BALL, AXES)
    assert half.volume_ml == pytest.approx(whole.volume_ml / 2, rel=0.002)
    away = half.centroid_mm @ unit(*way)
    # the edge of one cell, h, takes part of the other half: by h^2 / 24 over the mean depth of a ball's half
    assert away == pytest.approx(3 / 8 * BALL_MM, abs=0.25)
    assert np.linalg.norm(half.centroid_mm - away * unit(*way)) < 0.2


@settings(max_examples=10, deadline=None)
@given(DIRECTION, st.floats(-12, 12), st.floats(4, 14))
def test_a_slab_of_a_cylinder_has_its_cross_section(way, middle, thickness):
    way, radius = unit(*way), 14.0
    body = cylinder(way, radius, 30.0).astype(float)
    slab = placed(form="slab", axis=way.tolist(), low=middle - thickness / 2, high=middle + thickness / 2)
    assert slab.thickness_mm == pytest.approx(thickness)
    area = 1000 * part(body, slab).volume_ml / slab.thickness_mm
    assert area == pytest.approx(np.pi * radius**2, rel=0.03)


@pytest.mark.parametrize(
    ("domain", "volume_ml"),
    [
        # a soft mantle adds edge^2 / 12 to the radius's square (cylinder), r edge^2 / 4 to its cube (ball)
        (placed(form="sphere", centre=[3, -4, 5], radius=16), 4 / 3 * np.pi * (16**3 + 16 * 4**2 / 4) / 1e3),
        (
            placed(form="cylinder", centre=[1, 2, 3], axis=[1, 2, -1], radius=12, length=25),
            np.pi * (12**2 + 4**2 / 12) * 25 / 1e3,
        ),
        (placed(form="box", centre=[0, 3, 1], size=[22, 15, 31]), 22 * 15 * 31 / 1e3),
    ],
    ids=["sphere", "cylinder", "box"],
)
def test_forms_have_their_volumes(domain, volume_ml):
    everywhere = np.ones(GRID.shape)
    assert part(everywhere, domain).volume_ml == pytest.approx(volume_ml, rel=0.003)


@pytest.mark.parametrize("form", FORMS)
def test_what_lies_outside_is_what_a_domain_leaves_that_is_8_mm_larger(form):
    """Two cells of 4 mm between a domain and the rest, which a change of the domain has to fade out in."""
    small, large = placed(form=form, **FORMS[form]), placed(form=form, **grown(FORMS[form], 8.0))
    rest = domains.replace(small, outside=True)
    np.testing.assert_allclose(rest.weights(AXES), 1.0 - large.weights(AXES), atol=1e-12)
    assert not (rest.weights(AXES) * small.weights(AXES)).any()
    assert rest.thickness_mm is None


@pytest.mark.parametrize("form", FORMS)
def test_a_placed_domain_survives_its_table(form):
    one = placed(form=form, **FORMS[form])
    again = domains.from_text(domains.to_text(one))
    assert again == one
    np.testing.assert_array_equal(again.weights(AXES), one.weights(AXES))


def test_cells_of_guidance_measure_what_voxels_do():
    """Apart from cells that both the surface and a face of the domain cut, where shares do not multiply."""
    slab = placed(form="slab", axis=[2, 1, -1], low=-7, high=6)
    within = Within(torch.tensor(slab.weights(AXES))[None])
    cells = torch.nn.functional.avg_pool3d(torch.tensor(BALL)[None, None], REFINEMENT)[0, 0]
    axes = tuple(torch.tensor(a) for a in GRID.axes_mm(REFINEMENT))
    coarse, fine = measure(cells * within.on_cells(REFINEMENT)[0], axes, REFINEMENT), part(BALL, slab)
    assert float(coarse.volume_ml) == pytest.approx(float(fine.volume_ml), rel=4e-3)
    assert np.allclose(coarse.centroid_mm, fine.centroid_mm, atol=0.05)
    assert np.allclose(coarse.covariance_mm2, fine.covariance_mm2, rtol=0.02, atol=1.0)
    assert within.on_cells(1) is within.weights


# ---- a structure's own frame


def turned(rotation: Rotation) -> tuple[np.ndarray, np.ndarray]:
    """A rod 64 mm long with a mark beyond its end, turned; and the way from its far end to the mark."""
    way, side = rotation.apply([0.0, 0.0, 1.0]), rotation.apply([1.0, 0.0, 0.0])
    labels = np.where(cylinder(way, 12.0, 32.0) & (np.abs(POINTS @ side) < 7.0), 1, 0)
    labels[np.linalg.norm(POINTS - 40.0 * way, axis=-1) < 5.0] = 2
    return labels.astype(np.uint8), way


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_shares_of_the_length_turn_with_the_structure(seed):
    """The third that is away from `towards` is that third, however the heart lies."""
    labels, way = turned(Rotation.random(random_state=seed))
    own = {
        "third": Domain(form="half_space", towards="mark", high=1 / 3),
        "middle": Domain(form="slab", towards="mark", low=0.4, high=0.6),
    }
    third, middle, outside = (
        domains.measure_parts(
            labels, [name], [domains.place_on(labels, name, own, ANATOMY, GRID).weights(AXES)], ANATOMY, GRID
        )[0]
        for name in ("body@third", "body@middle", "body@outside_middle")
    )
    volume = np.count_nonzero(labels == 1) * GRID.voxel_volume_ml
    assert third.volume_ml == pytest.approx(volume / 3, rel=0.06)
    assert third.centroid_mm @ way == pytest.approx(-64 / 3, abs=1.0)
    assert middle.volume_ml == pytest.approx(volume / 5, rel=0.06)
    # 12.8 mm and 8 mm on both sides of it are in no other part
    assert outside.volume_ml == pytest.approx(volume * (1 - 28.8 / 64), rel=0.08)
    frame = domains.own_frame(labels == 1, 40.0 * way, GRID)
    np.testing.assert_allclose(frame.axes @ frame.axes.T, np.eye(3), atol=1e-12)
    assert frame.axes[0] @ way > 0.99
    assert frame.unit_mm == pytest.approx(64, abs=4.5)


def halves(way: np.ndarray, offset_mm: float = 0.0) -> np.ndarray:
    """A ball in two halves, body and mark, that share a disc across `way`; the mark lies along it."""
    along = POINTS @ way - offset_mm
    return np.where(np.linalg.norm(POINTS, axis=-1) < 30.0, np.where(along < 0, 1, 2), 0).astype(np.uint8)


VALVE = {"form": "sphere", "frame": "contact", "of": "body", "towards": "mark", "centre": [0, 0, 0]}


@settings(max_examples=8, deadline=None)
@given(DIRECTION, st.floats(-10, 10))
def test_the_frame_of_a_contact_is_that_of_its_plane(way, offset):
    """Its normal points to `towards`; the way between the two parts of a ball about it is that normal."""
    way = unit(*way)
    # a plane that is turned by less is one step of voxels: a label map cannot hold its direction
    tilt = np.degrees(np.arccos(min(1.0, np.abs(way).max())))
    assume(tilt == 0 or tilt > 3)
    labels = halves(way, offset)
    frame = domains.contact_frame(labels == 1, labels == 2, GRID)
    assert frame.axes[0] @ way > np.cos(np.radians(3.0))  # the rim of the disc has steps of voxels
    np.testing.assert_allclose(frame.axes @ frame.axes.T, np.eye(3), atol=1e-12)
    assert frame.origin == pytest.approx(offset * way, abs=1.2)
    assert frame.unit_mm == 1.0
    own = domains.read_domains({"valve": VALVE | {"radius": 14}}, ANATOMY, GRID)
    body, mark = (
        domains.measure_parts(
            labels, [name], [domains.place_on(labels, name, own, ANATOMY, GRID).weights(AXES)], ANATOMY, GRID
        )[0].centroid_mm
        for name in ("body@valve", "mark@valve")
    )
    assert unit(*(mark - body)) @ way > np.cos(np.radians(4.0))
    assert np.linalg.norm(mark - body) == pytest.approx(2 * 3 / 8 * 14, abs=1.0)


def test_a_contact_that_has_no_normal():
    with pytest.raises(InputError, match="do not touch"):
        domains.contact_frame(X < -10, X > 10, GRID)
    ball = BALL > 0
    with pytest.raises(InputError, match="closes around the other"):
        domains.contact_frame(ball, ~ball, GRID)


def test_the_second_axis_points_to_a_structure():
    labels, way = turned(Rotation.identity())
    labels[np.linalg.norm(POINTS - [20.0, 30.0, 10.0], axis=-1) < 5.0] = 3
    anatomy = Anatomy(("body", "mark", "side"), ("body",))
    keys = {"form": "box", "towards": "mark", "across": "side", "centre": [0.5, 0, 0], "size": [0.9, 2, 2]}
    own = domains.read_domains({"d": keys, "e": keys | {"of": "body"}}, anatomy, GRID)
    box = domains.place_on(labels, "body@d", own, anatomy, GRID)
    normals = np.array([normal for normal, _, _ in box.layers])
    np.testing.assert_allclose(normals[0], way, atol=0.02)
    np.testing.assert_allclose(normals[1], unit(20, 30, 0), atol=0.02)
    # parts of several structures in one place
    assert domains.place_on(labels, "side@e", own, anatomy, GRID) == box
    with pytest.raises(InputError, match="'across' lies along its first axis"):
        domains.own_frame(labels == 1, 40.0 * way, GRID, 50.0 * way)


def test_rows_are_measured_in_their_domains():
    labels, _ = turned(Rotation.identity())
    own = {"third": Domain(form="half_space", towards="mark", high=1 / 3)}
    text = domains.to_text(domains.place_on(labels, "body@third", own, ANATOMY, GRID))
    rows = pd.DataFrame({"structure": ["body", "body@third"], "domain": ["", text]})
    found = domains.measure_rows(labels, rows, ANATOMY, GRID)
    assert found.volume_ml[1] == pytest.approx(found.volume_ml[0] / 3, rel=0.05)
    whole, third = domains.masks_of(labels, rows, ANATOMY, GRID)
    assert whole.sum() == np.count_nonzero(labels == 1)
    assert 0 < third.sum() < whole.sum() / 2


# ---- mistakes

MM = {"frame": "heart", "form": "slab", "axis": [0, 0, 1]}
OWN = {"towards": "mark"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (MM | {"low": 5, "high": 5}, "it is empty, since low"),
        (OWN | {"form": "slab", "low": 0.5, "high": 0.4}, "it is empty, since low"),
        (MM | {"low": 5, "high": 7}, "2.0 mm thick, thinner than a cell, 4 mm"),
        (MM | {"low": 90, "high": 99}, "outside the field, 96 x 96 x 96 mm"),
        (OWN | {"form": "slab", "low": 1.0, "high": 1.2}, "outside its structure, whose long axis"),
        (OWN | {"form": "half_space", "high": -0.1}, "outside its structure"),
        (OWN | {"form": "half_space", "low": 0.2, "high": 0.5}, "either 'low' or 'high'"),
        ({"form": "slab", "low": 0.2, "high": 0.5}, r"\.towards': in the frame 'structure'"),
        (MM | OWN | {"low": 0, "high": 9}, r"\.towards': in the frame 'heart' it is left out"),
        (MM | {"of": "body", "low": 0, "high": 9}, r"\.of': in the frame 'heart' it is left out"),
        (OWN | {"across": "nose", "low": 0, "high": 1}, r"\.across': the anatomy has no 'nose'"),
        (VALVE | {"radius": 1.5}, "3.0 mm thick, thinner than a cell"),
        ({"frame": "contact", "form": "slab", "low": 0, "high": 9}, r"\.towards': in the frame 'contact'"),
        (
            {"towards": "heart", "low": 0, "high": 1},
            r"\.towards': the anatomy has no 'heart'; it has",
        ),
        (MM | {"axis": [0, 0, 0], "low": 0, "high": 9}, "has no direction"),
        ({"frame": "heart", "low": 0, "high": 9}, "in the frame 'heart' needs 'axis'"),
        (OWN | {"form": "sphere", "centre": [0, 0, 0]}, "sphere in the frame 'structure' needs 'radius'"),
        (OWN | {"form": "sphere", "radius": 1, "centre": [0, 0, 0], "size": [1, 1, 1]}, "sphere has no size"),
        (OWN | {"form": "box", "centre": [0, 0, 0], "size": [1, 0, 1]}, "is empty; all three edges"),
        (OWN | {"of": "mark", "low": 0, "high": 1}, "'towards' is mark, whose frame it is"),
    ],
)
def test_a_domain_that_cannot_be_is_an_error_of_its_key(values, message):
    with pytest.raises(InputError, match=rf"(?s)config key 'domains\.d.*{message}"):
        domains.read_domains({"d": values}, ANATOMY, GRID)


def test_what_a_heart_must_have_is_said():
    labels, _ = turned(Rotation.identity())

    def place(values, map_=labels):
        own = domains.read_domains({"d": values}, ANATOMY, GRID)
        return domains.place_on(map_, "body@d", own, ANATOMY, GRID)

    with pytest.raises(InputError, match=r"3\.2 mm thick, thinner than a cell"):
        place(OWN | {"low": 0.5, "high": 0.55})
    with pytest.raises(InputError, match=r"0\.00 mL of body in it"):
        place({"frame": "heart", "form": "sphere", "centre": [40, 0, 0], "radius": 5})
    with pytest.raises(InputError, match=r"all of body lies in it, 0\.00 mL.* shares of the length of body"):
        place(OWN | {"form": "sphere", "centre": [0.5, 0, 0], "radius": 3})
    with pytest.raises(InputError, match=r"all of body lies in it, 0\.00 mL beyond; make it smaller$"):
        place({"frame": "heart", "form": "box", "centre": [0, 0, 0], "size": [90, 90, 90]})
    with pytest.raises(InputError, match="the heart has no mark"):
        place(OWN | {"low": 0.5, "high": 0.8}, np.where(labels == 2, 0, labels))
    with pytest.raises(InputError, match="the structure is empty"):
        place(OWN | {"low": 0.5, "high": 0.8}, np.where(labels == 1, 0, labels))
    aside = np.where(labels == 2, 0, labels)
    aside[np.linalg.norm(POINTS - [40.0, 0.0, 0.0], axis=-1) < 5.0] = 2
    with pytest.raises(InputError, match="ends cannot be told apart; name another structure"):
        place(OWN | {"low": 0.5, "high": 0.8}, aside)


@pytest.mark.parametrize("key", ["towards", "across"])
@pytest.mark.parametrize("frame", ["structure", "contact"])
def test_a_frame_does_not_point_from_a_structure_to_itself(key, frame):
    values = {"frame": frame, "form": "sphere", "centre": [0, 0, 0], "radius": 0.5} | OWN
    values |= {"radius": 9.0} if frame == "contact" else {}
    own = domains.read_domains({"d": values | {key: "body"}}, ANATOMY, GRID)
    assert f"'{key}' is body, whose frame it is" in domains.points_to_itself("body", own["d"])
    with pytest.raises(InputError, match=rf"'body@d': config key 'domains\.d': '{key}' is body"):
        parse_edits("body@d.volume: x0.5", ANATOMY, own)


def test_a_usual_heart_shows_what_is_out_of_place():
    labels, _ = turned(Rotation.identity())
    whole = domains.measure_parts(labels, ["body", "mark"], [None, None], ANATOMY, GRID)

    def problem(values, name="body@d", names=("body", "mark")):
        own = domains.read_domains({"d": values}, ANATOMY, GRID)
        return domains.place_usual(name, own, (whole, names), GRID)

    assert problem(OWN | {"low": 0.3, "high": 0.6}) == ""
    assert problem(MM | {"low": 0, "high": 9}) == ""
    assert "thinner than a cell" in problem(OWN | {"low": 0.5, "high": 0.52})
    assert problem({"frame": "heart", "form": "sphere", "centre": [40, 0, 0], "radius": 8}) == (
        "it lies outside body; move or enlarge it"
    )
    assert problem(MM | {"low": 0, "high": 9}, names=("other", "mark")) == ""
