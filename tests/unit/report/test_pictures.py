"""Pictures: the z-buffer, surfaces of labels, ellipsoids, and which side is which."""

import numpy as np
import pandas as pd
import pytest

from cardiocohort.anatomy.label_map import LabelMap, read_label_map
from cardiocohort.anatomy.moments import from_ellipsoid, to_columns
from cardiocohort.mesh.model import FACETS, REGIONS, BiventricularModel, Microstructure
from cardiocohort.mesh.tetrahedron_geometry import boundary_facets
from cardiocohort.plotting import palette, render
from cardiocohort.plotting.render import ANTERIOR, POSTERIOR, Frame, Layer, Surface
from cardiocohort.report import charts, heart_mesh, portraits, shapes
from heart_anatomy import HEART
from report_cohort import TEMPLATES

RED, BLUE = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


def ball(centre_mm, radius_mm, label=2, n=60, spacing=2.0) -> LabelMap:
    axis = (np.arange(n) - (n - 1) / 2) * spacing
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = axis[0]
    inside = np.linalg.norm(grid - np.asarray(centre_mm), axis=-1) < radius_mm
    return LabelMap((inside * label).astype(np.uint8), affine)


def frame(view=ANTERIOR, n=200, pixel_mm=0.6):
    return Frame(view, (0.0, 0.0, 0.0), (n, n), pixel_mm)


@pytest.mark.parametrize("seed", range(4))
def test_the_z_buffer_agrees_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-8, 48, (60, 3))
    triangles = rng.permuted(np.tile(np.arange(60), (40, 1)), axis=1)[:, :3]
    # a few small ones too, and one that covers the picture
    points = np.concatenate(
        [points, points[:30] + rng.normal(0, 1.5, (30, 3)), [[-99, -99, -50], [0, 300, -50], [300, 0, -50]]]
    )
    triangles = np.concatenate(
        [triangles, np.stack([np.arange(30), np.arange(60, 90), np.arange(1, 31)], 1), [[90, 91, 92]]]
    )
    depth, index = render.visible(points, triangles, (40, 41))
    rows, columns = np.mgrid[:40, :41].astype(float)
    expected = np.full((40, 41), -np.inf)
    for a, b, c in points[triangles]:
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area >= 0:
            continue
        s = ((columns - a[0]) * (c[1] - a[1]) - (rows - a[1]) * (c[0] - a[0])) / area
        t = ((rows - a[1]) * (b[0] - a[0]) - (columns - a[0]) * (b[1] - a[1])) / area
        z = np.where(
            (s >= 0) & (t >= 0) & (s + t <= 1), a[2] + s * (b[2] - a[2]) + t * (c[2] - a[2]), -np.inf
        )
        expected = np.maximum(expected, z)
    assert np.isfinite(expected).mean() > 0.5
    agree = np.isclose(depth, expected, atol=1e-3) | (depth == expected)
    assert agree.mean() > 0.998  # a pixel exactly on an edge may fall either way in float32
    assert ((index >= 0) == np.isfinite(depth)).all()


def test_a_ball_is_drawn_as_a_disc_of_its_radius_at_its_depth():
    surface = shapes.label_surface(ball((0, 0, 0), 30.0), 2, "#ff0000")
    layer = render.draw(surface, frame())
    radius = np.sqrt(layer.covered.sum() * 0.6**2 / np.pi)
    assert radius == pytest.approx(30.0, abs=0.6)
    assert layer.depth[100, 100] == pytest.approx(30.0, abs=0.6)
    # lit from the upper left: brighter there than at the lower right
    assert layer.rgb[75, 75, 0] > layer.rgb[125, 125, 0] + 0.2


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_label_surfaces_are_closed_outward_and_well_placed(spacing):
    surface = shapes.label_surface(
        ball((8, -6, 4), 22.0, n=int(120 / spacing), spacing=spacing), 2, "#ff0000"
    )
    p = surface.points_mm[surface.triangles]
    volume = np.einsum("ni,ni->n", p[:, 0], np.cross(p[:, 1], p[:, 2])).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi * 22.0**3, rel=0.04)
    away = surface.points_mm - [8, -6, 4]
    assert np.abs(np.linalg.norm(away, axis=1) - 22.0).max() < 1.0
    cosine = np.einsum("ni,ni->n", away, surface.normals) / np.linalg.norm(away, axis=1)
    assert cosine.min() > 0.95


def test_a_scan_that_is_finer_than_what_is_drawn_stays_in_place():
    labels = np.zeros((120, 120, 120), np.uint8)
    labels[37:77, 31:71, 51:91] = 2
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = [-30, -20, -10]
    surface = shapes.label_surface(LabelMap(labels, affine), 2, "#ff0000")
    centre = np.array([56.5, 50.5, 70.5]) * 0.5 + affine[:3, 3]
    middle = (surface.points_mm.min(0) + surface.points_mm.max(0)) / 2
    np.testing.assert_allclose(middle, centre, atol=0.5)


def test_an_absent_label_has_no_surface_and_a_thin_one_has():
    labels = ball((0, 0, 0), 20.0).labels
    labels[5, 5, 5:9] = 7
    label_map = LabelMap(labels, ball((0, 0, 0), 20.0).affine)
    assert shapes.label_surface(label_map, 3, "#ff0000") is None
    assert shapes.label_surface(label_map, 9, "#ff0000") is None
    assert len(shapes.label_surface(label_map, 7, "#ff0000").triangles) > 10


@pytest.mark.parametrize(("view", "left"), [(ANTERIOR, True), (POSTERIOR, False)])
def test_the_patients_right_is_on_the_left_seen_from_the_front(view, left):
    layer = render.draw(shapes.label_surface(ball((30, 0, 20), 12.0), 2, "#ff0000"), frame(view))
    rows, columns = np.nonzero(layer.covered)
    assert (columns.mean() < 99.5) == left
    assert rows.mean() < 99.5  # towards the head is up


@pytest.mark.parametrize("view", [ANTERIOR, POSTERIOR, *(s[0] for s in portraits.SLICES)])
def test_views_are_right_handed(view):
    np.testing.assert_array_equal(np.cross(view.right, view.up), view.towards)


def test_what_is_in_front_hides_what_is_behind():
    near = render.draw(Surface(*_square(y=10.0), RED), frame())
    far = render.draw(Surface(*_square(y=-10.0), BLUE), frame())
    for layers in ([near, far], [far, near]):
        picture = render.opaque(layers, 0.6).rgb[100, 100]
        assert picture[0] > 0.4
        assert picture[0] > 2 * picture[2]
    behind = render.opaque([render.draw(Surface(*_square(y=10.0), RED), frame(POSTERIOR))], 0.6)
    assert not behind.covered.any()  # its back is turned


def _square(y):
    points = np.array([[-20, y, -20], [20, y, -20], [20, y, 20], [-20, y, 20]], dtype=float)
    return points, np.array([[0, 2, 1], [0, 3, 2]])


def test_translucent_layers_are_mixed_from_back_to_front():
    def layer(depth, colour):
        return Layer(np.full((1, 1), depth, dtype=np.float32), np.full((1, 1, 3), colour, dtype=np.float32))

    layers = [layer(1.0, RED), layer(5.0, BLUE), layer(-np.inf, (0, 1, 0))]
    expected = 0.5 * BLUE + 0.5 * (0.25 * RED + 0.75 * np.ones(3))
    np.testing.assert_allclose(render.translucent(layers, [0.25, 0.5, 0.9])[0, 0], expected, rtol=1e-6)


def _ellipsoid(seed):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return rng.normal(0, 10, 3), rng.uniform(8, 40, 3), rotation


def _form(points, centre, semi_axes, rotation):
    return np.linalg.norm((points - centre) @ rotation / semi_axes, axis=-1)


@pytest.mark.parametrize("seed", range(5))
def test_lines_of_an_ellipsoid_lie_on_it(seed):
    ellipsoid = _ellipsoid(seed)
    for line in shapes.principal_ellipses(*ellipsoid):
        np.testing.assert_allclose(_form(line, *ellipsoid), 1.0)
    centre, semi_axes, rotation = ellipsoid
    towards = np.array([0.0, 1.0, 0.0])
    edge = shapes.ellipsoid_silhouette(*ellipsoid, towards)
    np.testing.assert_allclose(_form(edge, *ellipsoid), 1.0)
    normals = (edge - centre) @ rotation / semi_axes**2 @ rotation.T
    np.testing.assert_allclose(normals @ towards, 0.0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sections_of_an_ellipsoid(seed, axis):
    centre, semi_axes, rotation = ellipsoid = _ellipsoid(seed)
    reach = np.sqrt((rotation**2 @ semi_axes**2)[axis])
    level = centre[axis] + 0.6 * reach
    line = np.insert(shapes.ellipsoid_section(*ellipsoid, axis, level), axis, level, axis=1)
    np.testing.assert_allclose(_form(line, *ellipsoid), 1.0)
    np.testing.assert_allclose(line[0], line[-1])
    assert shapes.ellipsoid_section(*ellipsoid, axis, centre[axis] - 1.01 * reach) is None


def test_slices_show_the_voxels_on_the_side_where_they_are():
    label_map = ball((30, 0, 0), 12.0)  # to the patient's right
    window = portraits.Window((0.0, 0.0, 0.0), 120.0)
    solid = portraits.surfaces(label_map, HEART)
    pictures = portraits.label_map_pictures(label_map, HEART, solid, [], window)
    picture = np.asarray(pictures["slices"], dtype=float)
    n = portraits.SIZE_PX
    assert picture.shape == (n, 3 * n, 3)
    coloured = np.abs(picture - picture.mean(axis=-1, keepdims=True)).max(axis=-1) > 30
    for k in (0, 1):  # axial, coronal
        columns = np.nonzero(coloured[:, k * n : (k + 1) * n])[1]
        assert columns.size * (120 / n) ** 2 == pytest.approx(np.pi * 12.0**2, rel=0.12)
        assert columns.mean() == pytest.approx(n / 2 - 30 / 120 * n, abs=2)
    assert not coloured[:, 2 * n :].any()  # the sagittal plane x = 0 does not meet it


def test_the_window_holds_every_heart():
    boxes = [portraits.extent(ball(centre, 10.0)) for centre in ((20, 0, 0), (-30, 5, 0))]
    window = portraits.window_around(boxes)
    np.testing.assert_allclose(window.centre_mm, [-5, 2.5, 0], atol=1.1)
    assert window.size_mm == pytest.approx(70 + 2 * portraits.MARGIN_MM, abs=3)


def test_a_real_heart_shows_its_right_side_in_front():
    """Anterior view of every template: RV most of the middle, RA to its left, LV muscle to its right."""
    colours = palette.colours(HEART.structures, HEART.colours)
    for path in TEMPLATES:
        label_map = read_label_map(path, HEART)
        window = portraits.window_around([portraits.extent(label_map)])
        seen = window.frame(ANTERIOR)
        layers = {
            name: render.draw(
                shapes.label_surface(label_map, HEART.label(name), colours[HEART.label(name) - 1]), seen
            )
            for name in ("right_ventricle", "right_atrium", "myocardium", "left_atrium")
        }
        depth = np.stack([layer.depth for layer in layers.values()])
        nearest = np.where(np.isfinite(depth.max(0)), depth.argmax(0), -1)
        share = {name: (nearest == k).sum() for k, name in enumerate(layers)}
        column = {name: np.nonzero(nearest == k)[1].mean() for k, name in enumerate(layers)}
        assert share["right_ventricle"] == max(share.values())
        assert column["right_atrium"] < column["right_ventricle"] < column["myocardium"]
        assert share["left_atrium"] < 0.25 * share["right_ventricle"]


def block_of_tets() -> BiventricularModel:
    """A bar of four cubes in tets, along x: RV, septum, LV, LV; its front tagged epi, the rest base."""
    points, tets, region = [], [], []
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    five = [[0, 1, 2, 4], [3, 1, 7, 2], [5, 1, 4, 7], [6, 2, 7, 4], [1, 2, 4, 7]]
    for cube, name in enumerate(("lv", "lv", "septum", "rv")):
        for tet in five:
            corner = corners[tet] + [cube, 0, 0]
            volume = np.linalg.det(corner[1:] - corner[0])
            corner = corner if volume > 0 else corner[[0, 2, 1, 3]]
            tets.append(range(len(points), len(points) + 4))
            points += (20.0 * corner - [40, 10, 10]).tolist()
            region.append(REGIONS[name])
    unique, inverse = np.unique(np.array(points), axis=0, return_inverse=True)
    tets = inverse.reshape(-1)[np.array(tets)]
    facets, _ = boundary_facets(tets)
    front = (unique[facets][:, :, 1] == unique[:, 1].max()).all(axis=1)
    f0 = np.array([0.0, 0.0, 1.0])
    micro = Microstructure(
        *(np.tile(f0, (len(tets), 1)) for _ in "fsn"), *(np.tile(f0, (len(unique), 1)) for _ in "fsn")
    )
    tags = np.where(front, FACETS["epi"], FACETS["base"])
    return BiventricularModel(unique, tets, np.array(region), facets, tags, micro)


def test_the_mesh_has_its_regions_and_fibres_in_place():
    model = block_of_tets()
    picture = np.asarray(portraits.mesh_picture(model, portraits.Window((0.0, 0.0, 0.0), 100.0)), dtype=float)
    n = portraits.SIZE_PX

    def hue(x_mm):
        """Of the picture's middle row, at a world x; the brightest pixels are not fibres."""
        column = round(n / 2 - x_mm / 100 * n)
        patch = picture[n // 2 - 12 : n // 2 + 12, column - 5 : column + 5].reshape(-1, 3)
        colour = patch[patch.sum(axis=1).argmax()]
        return colour / np.linalg.norm(colour)

    for x, name in ((-30, "lv"), (-10, "lv"), (10, "septum"), (30, "rv")):
        expected = shapes.rgb(heart_mesh.REGION_COLOURS[name])
        np.testing.assert_allclose(hue(x), expected / np.linalg.norm(expected), atol=0.06, err_msg=name)
    dark = picture.sum(axis=-1) < 200
    rows, columns = np.nonzero(dark[: int(0.85 * n)])  # the scale bar is below
    assert np.ptp(rows[np.abs(columns - n / 2) < 8]) > 15  # a fibre runs up and down


def test_a_mesh_without_fibres_is_drawn_without_their_lines():
    model = block_of_tets()
    bare = BiventricularModel(model.points_mm, model.tets, model.region, model.facets, model.facet_tag)
    window = portraits.Window((0.0, 0.0, 0.0), 100.0)
    with_lines, without = (np.asarray(portraits.mesh_picture(m, window), float) for m in (model, bare))
    changed = np.abs(with_lines - without).max(axis=-1) > 8
    assert 0 < changed.mean() < 0.2
    assert with_lines[changed].mean() < without[changed].mean()


def test_a_part_has_the_colour_of_its_structure_and_is_never_cut():
    """Structures beyond the twelfth are left out of the errors; parts are what an arm is about."""
    names = [*HEART.structures, "aorta+left_atrium", "myocardium+aorta", "aorta@root"]
    errors = dict.fromkeys(("volume_error_percent", "centroid_error_mm", "shape_error"), 1.0)
    rows = pd.DataFrame({"structure": names, "constrained": "size,position,shape", **errors})
    rows = rows.assign(target_volume_ml=20.0, achieved_volume_ml=21.0)
    figure = charts.targets_and_achieved(rows, HEART)
    first = figure.axes[2].get_yticklabels()[0].get_text()
    assert first.replace("\n", " ") == "aorta @ root"
    legend = dict(zip(*reversed(legend_of(figure)), strict=True))
    assert legend["aorta @ root"] == legend["aorta"] == dict(HEART.colours)["aorta"]

    moments = to_columns(from_ellipsoid(np.zeros((1, 3)), np.full((1, 3), 9.0), np.eye(3)[None]))
    (outline,) = portraits.outlines(
        pd.DataFrame({"structure": ["aorta@root"], "constrained": ["size"], **moments}), HEART
    )
    assert (outline.structure, outline.colour) == ("aorta", dict(HEART.colours)["aorta"])


def legend_of(figure) -> tuple[list[str], list[str]]:
    """Colours and words of a figure's legend."""
    (legend,) = figure.legends
    colours = [handle.get_color() for handle in legend.legend_handles]
    return colours, [text.get_text() for text in legend.get_texts()]
