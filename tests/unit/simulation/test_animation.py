"""The animated picture of a beat: what is cut, where the points are, what the file holds."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cardiocohort.mesh.second_order import second_order
from cardiocohort.microstructure.fibres import FibreAngles, add_fibres
from cardiocohort.plotting import render
from cardiocohort.simulation import animation, beat_output
from small_meshes import biventricle

TIMES = np.linspace(0, 0.8, 9)
PEAKS = {"lv": 1.0, "rv": 0.3}


@pytest.fixture(scope="module")
def heart():
    model = biventricle(6, 10, wall=6.5, cavity=24.0, rv_wall=2.7, layers=(1, 2, 3))
    return add_fibres(replace(model, points_mm=1.57 * model.points_mm), FibreAngles())


def motion(model, factors):
    """Displacements of ten-node tets, of bodies that are larger by these factors."""
    points = second_order(model.points_mm, model.tets, model.facets)[0]
    return [(factor - 1) * points for factor in factors]


def beat(n=81):
    """Rows of a beat before, which is not drawn, and of the last one."""
    rows = []
    for number in (1, 2):
        for t in np.linspace(0, 0.8, n):
            wave = np.sin(np.pi * t / 0.8)
            volumes = {f"{v}_volume_ml": number * (100 - 50 * wave) for v in PEAKS}
            pressures = {f"{v}_pressure_kpa": peak * (1 + 10 * wave**2) for v, peak in PEAKS.items()}
            rows.append({"beat": number, "time_s": t} | volumes | pressures)
    return rows


def volume(points, triangles):
    p = points[triangles]
    return np.einsum("fi,fi->", p[:, 0], np.cross(p[:, 1], p[:, 2])) / 6


def test_the_cut_is_closed_and_half_of_the_heart(heart):
    moved = motion(heart, [1.0, 0.9])
    view, through = animation.four_chamber_view(heart, heart.points_mm)
    axes = np.array([view.right, view.up, view.towards])
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)  # seen from the front: not a mirror image
    assert view.towards[1] > 0
    values = heart.points_mm[None, :, 2] * np.array([[1.0], [-2.0]])
    places, triangles, cut = animation.cut_open(heart, moved, view, through, values)
    assert ((places[0] - through) @ view.towards).max() < 1e-3
    assert places[1] == pytest.approx(0.9 * places[0], abs=1e-3)
    # closed and facing outward, both halves have positive volumes, which add up
    other = render.View("behind", *(tuple(sign * v for v in axes[k]) for k, sign in enumerate((-1, 1, -1))))
    behind, facets, none = animation.cut_open(heart, moved, other, through)
    halves = [volume(places[0], triangles), volume(behind[0], facets)]
    whole = heart.tet_volumes_mm3.sum()
    assert sum(halves) == pytest.approx(whole, rel=1e-4)
    assert min(halves) > 0.45 * whole
    assert none is None
    assert cut[0] == pytest.approx(places[0, :, 2], abs=1e-3)  # a linear field stays what it is
    assert cut[1] == pytest.approx(-2 * places[0, :, 2], abs=1e-3)


def test_strain_is_zero_at_first_and_that_of_the_shrinking_later(heart):
    strain = animation.fibre_strain(heart, motion(heart, [1.1, 0.9 * 1.1]))
    assert np.abs(strain[0]).max() == 0
    assert strain[1] == pytest.approx(np.full(len(heart.tets), (0.9**2 - 1) / 2), abs=1e-6)
    assert animation.fibre_strain(replace(heart, microstructure=None), motion(heart, [1.0])) is None


def test_values_at_nodes_are_means_by_volume(heart):
    even = animation.at_nodes(heart, np.full((1, len(heart.tets)), 0.3))
    assert even == pytest.approx(np.full((1, len(heart.points_mm)), 0.3))
    own = np.arange(len(heart.tets), dtype=float)
    (found,) = animation.at_nodes(heart, own[None])
    node = 17
    around = (heart.tets == node).any(axis=1)
    assert found[node] == pytest.approx(np.average(own[around], weights=heart.tet_volumes_mm3[around]))


@pytest.mark.parametrize("fibres", [True, False])
def test_the_file_moves_and_is_small(heart, tmp_path, fibres):
    model = heart if fibres else replace(heart, microstructure=None)
    shrunk = 1 - 0.1 * np.sin(np.pi * TIMES / 0.8)
    drawn = animation.pictures(model, motion(model, shrunk), TIMES, beat())
    assert len(drawn) == len(TIMES)
    path = tmp_path / beat_output.ANIMATION
    animation.write(path, drawn, TIMES)
    assert path.stat().st_size < 1e6
    with Image.open(path) as frames:
        # the last frame is the first one again
        assert (frames.n_frames, frames.size) == (len(TIMES) - 1, animation.SIZE_PX)
        frames.load()
        assert frames.info["duration"] == pytest.approx(animation.SLOWER * 100, abs=1)
    first, middle = (np.asarray(drawn[k], dtype=int) for k in (0, 4))
    heart_side = slice(0, animation.HEART_PX)
    assert (np.abs(first - middle)[:, heart_side].max(axis=2) > 60).sum() > 500
    # at rest without strain: grey; shorter fibres are blue
    blue = [picture[60:, heart_side, 2] - picture[60:, heart_side, 0] for picture in (first, middle)]
    if fibres:
        assert (blue[0] > 40).sum() < 50 < 2000 < (blue[1] > 40).sum()


def test_a_point_is_where_the_loop_is_at_that_time(heart, monkeypatch):
    marked = []
    real = animation._mark

    def mark(picture, rows, time, to_pixel):
        marked.append((to_pixel, rows))
        real(picture, rows, time, to_pixel)

    monkeypatch.setattr(animation, "_mark", mark)
    (picture,) = animation.pictures(heart, motion(heart, [1.0]), TIMES[4:5], beat())
    to_pixel, rows = marked[0]
    assert set(rows["beat"]) == {2}
    x, y = to_pixel(100.0, 11.0)  # of the left ventricle at 0.4 s
    pixel = picture.getpixel((round(x), round(y)))
    assert pixel == pytest.approx(tuple(int(animation.LEFT[k : k + 2], 16) for k in (1, 3, 5)), abs=12)
