"""The report's 3-D view: what the page's data hold, and what a browser draws of them."""

import base64
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import pyvista
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import Normalize

from cardiocohort.anatomy.aha_segments import LEFT, SEGMENTS
from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.mesh.model import FACETS, REGIONS, Microstructure
from cardiocohort.mesh.tetrahedron_geometry import boundary_facets
from cardiocohort.plotting import pages, palette, render
from cardiocohort.report import bullseye, page, portraits, shapes, viewer
from cardiocohort.report.charts import words
from cardiocohort.report.motion import MOST_FRAMES, Motion
from cardiocohort.report.portraits import Outline
from headless_chromium import NO_GL, SOFTWARE_GL, Chromium, needs_chromium
from heart_anatomy import HEART
from report_cohort import TEMPLATES
from small_meshes import biventricle, box, two_labels
from workflow_runs import REPOSITORY

LIBRARY = REPOSITORY / "resources/viewer"
KINDS = {16: "<u2", 32: "<u4"}
SCALE = Normalize(4.0, 12.0)


def array(text, kind):
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def points_of(part):
    return array(part["points"], "<u2").reshape(-1, 3) * part["step_mm"] + part["origin_mm"]


def indices_of(part, name="triangles"):
    return array(part[name], KINDS[part[f"{name}_bits"]])


def surface_of(part):
    return points_of(part), indices_of(part).reshape(-1, 3)


def volume(points, triangles):
    p = points[triangles]
    return np.einsum("ni,ni->n", p[:, 0], np.cross(p[:, 1], p[:, 2])).sum() / 6


@given(arrays(float, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(-600, 600)))
def test_points_come_back_within_half_a_step(points):
    part = viewer.quantised(points)
    assert part["step_mm"] <= max(np.ptp(points, axis=0).max(), 0.1) / 65535 * 1.05 + 2e-6
    assert np.abs(points_of(part) - points).max() <= part["step_mm"] / 2 + 1e-9


@pytest.mark.parametrize(("n_points", "bits"), [(3, 16), (65536, 16), (65537, 32)])
def test_indices_have_the_bits_that_they_need(n_points, bits):
    rows = np.array([[0, 1, n_points - 1]])
    part = viewer.indices("triangles", rows, n_points)
    assert part["triangles_bits"] == bits
    np.testing.assert_array_equal(indices_of(part), rows[0])


@pytest.fixture(scope="module")
def solids():
    return portraits.surfaces(read_label_map(TEMPLATES[1], HEART), HEART)


def test_thinned_surfaces_stay_where_they_were_and_face_outward(solids):
    """Every structure of a real heart: few triangles, the same volume, and within a voxel everywhere."""
    for name, surface in solids.items():
        points, triangles = surface_of(viewer.solid(surface))
        n = len(surface.triangles)
        assert len(triangles) <= max(viewer.FEWEST, n / 8) + 2
        wanted = volume(surface.points_mm, surface.triangles)
        assert volume(points, triangles) == pytest.approx(wanted, rel=0.01), name
        thin = pyvista.PolyData.from_regular_faces(points, triangles)
        apart = pyvista.PolyData(surface.points_mm[::7]).compute_implicit_distance(thin)["implicit_distance"]
        assert np.quantile(np.abs(apart), 0.95) < 0.25, name
        assert np.abs(apart).max() < 1.5, name


@pytest.fixture(scope="module")
def ventricles():
    """Both ventricles, with fibres around the z axis."""
    model = biventricle()

    def around(points):
        along = np.cross([0.0, 0.0, 1.0], points)
        return along / np.linalg.norm(along, axis=1, keepdims=True)

    directions = [around(p) for p in (model.points_mm[model.tets].mean(axis=1), model.points_mm)]
    return replace(model, microstructure=Microstructure(*(d for d in directions for _ in range(3))))


def test_the_same_heart_has_the_same_data(solids, ventricles):
    some = {name: solids[name] for name in ("left_ventricle", "aorta")}
    first, again = (json.dumps(viewer.scene(some, [], ventricles, SCALE), allow_nan=False) for _ in range(2))
    assert first == again
    moving = json.dumps(viewer.scene(some, [], ventricles, SCALE, beating(ventricles)), allow_nan=False)
    for text, facets in ((first, viewer.MOST_FACETS), (moving, viewer.MOST_MOVING)):
        share = max(facets / len(ventricles.facets), 1.0)
        most = share * len(text) + 10 * 1.34 * viewer.MOST * 9
        assert 8 * most < 13e6  # meshes as fine and structures as large as can be: leaves two for the rest


def beating(model, n=MOST_FRAMES):
    """A motion that widens along x and shortens along z, with strains from none to 20 percent."""
    along = 0.2 * np.sin(np.linspace(0, np.pi, n))
    places = np.stack([model.points_mm * [1 + a, 1.0, 1 - a] for a in along])
    strain = np.repeat(along[:, None], len(model.tets), axis=1)
    return Motion([f"{k} of {n}" for k in range(n)], places, strain)


@pytest.mark.parametrize("most", [10**6, 3000])
def test_a_moving_mesh_has_its_places_strains_and_fibres(monkeypatch, ventricles, most):
    """Whole, and thinned: points keep within the step, and turn with the tets."""
    monkeypatch.setattr(viewer, "MOST_MOVING", most)
    moved = beating(ventricles)
    part = viewer.mesh(ventricles, SCALE, moved)
    points, triangles = surface_of(part)
    steps = array(part["motion"]["steps"], "i1").reshape(MOST_FRAMES, -1, 3) * part["motion"]["move_mm"]
    wanted = np.stack([points * (p[0] / ventricles.points_mm[0] - 1) for p in moved.places_mm])
    # thinned points lie between nodes: they move as the nearest one does
    assert np.abs(steps - wanted).max() <= part["motion"]["move_mm"] / 2 + (1e-2 if most > 1e5 else 1.0)
    strain = array(part["paints"]["strain"], "i1").reshape(MOST_FRAMES, len(triangles)) * viewer.STRAIN_UNIT
    np.testing.assert_allclose(strain, moved.strain[:, :1].repeat(len(triangles), 1), atol=0.0026)
    along = array(part["fibres"]["along"], "i1").reshape(MOST_FRAMES, -1, 3) / 127
    np.testing.assert_allclose(np.linalg.norm(along, axis=-1), 1.0, atol=0.02)
    stretch = moved.places_mm[6][0] / ventricles.points_mm[0]
    carried = along[0] * stretch
    carried /= np.linalg.norm(carried, axis=-1, keepdims=True)
    np.testing.assert_allclose(along[6], carried, atol=0.03)


def test_a_mesh_of_all_labels_has_the_closed_surface_of_each_region():
    model = two_labels(HEART.structures)
    node = np.where(model.points_mm[:, 2:] <= 10, [1.0, 0, 0], 0.0)  # of the interface too
    micro = replace(
        model.microstructure, node_f0=node, node_s0=node[:, [1, 0, 2]], node_n0=node[:, [2, 1, 0]]
    )
    model = replace(model, microstructure=micro)
    part = viewer.scene({}, [], model, SCALE)["mesh"]
    points, triangles = surface_of(part)
    number = array(part["paints"]["structures"], "u1")
    for k, expected in enumerate(model.volumes_mm3):
        assert volume(points, triangles[number == k]) == pytest.approx(expected, rel=1e-3)
    along = array(part["fibres"]["along"], "i1").reshape(-1, 3)
    rooted = indices_of(part["fibres"], "nodes")
    np.testing.assert_array_equal(along, [[127, 0, 0]] * 8)
    assert set(rooted) <= set(triangles[number == 0].ravel())  # once: not on the upper region's interface
    outside = portraits.outside(model)
    assert volume(outside.points_mm, outside.triangles) == pytest.approx(model.volumes_mm3.sum())
    assert len(np.unique(outside.colour, axis=0)) == 2
    drawn = np.asarray(
        portraits.mesh_picture(model, portraits.Window((5, 5, 10), 40.0), HEART.colours), dtype=int
    )
    coloured = np.ptp(drawn, axis=-1) > 60
    # from the front the box is 10 mm wide and 20 mm high
    assert coloured.sum() * (40 / portraits.SIZE_PX) ** 2 == pytest.approx(200, rel=0.05)


def test_ellipsoids_are_given_by_their_half_axes():
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    outline = Outline(np.array([1.0, 2, 3]), np.array([30.0, 20, 10]), rotation, "#e15759", "left_ventricle")
    (found,) = viewer.scene({}, [outline], None, SCALE)["ellipsoids"]
    axes = np.array(found["axes"])
    np.testing.assert_allclose(np.linalg.norm(axes, axis=0), [30, 20, 10], atol=2e-3)
    for line in shapes.principal_ellipses(outline.centre, outline.semi_axes, rotation):
        back = np.linalg.solve(axes, (line - found["centre"]).T)
        np.testing.assert_allclose(np.linalg.norm(back, axis=0), 1.0, atol=1e-3)


def test_facets_have_the_colours_of_the_muscle_behind_them():
    model = box()
    paints = viewer.facet_paints(model, SCALE)
    shared = viewer.settings(HEART, portraits.Window((0, 0, 0), 100.0), SCALE)["paints"]
    facets, owner = boundary_facets(model.tets)
    order = {tuple(sorted(f)): o for f, o in zip(facets.tolist(), owner, strict=True)}
    regions = {number: name for name, number in REGIONS.items()}
    long = {"lv": "left ventricle", "rv": "right ventricle", "septum": "septum"}
    for k, (facet, tag) in enumerate(zip(model.facets.tolist(), model.facet_tag, strict=True)):
        tet = order[tuple(sorted(facet))]
        name = {FACETS["base"]: "base", FACETS["epi"]: long[regions[model.region[tet]]]}.get(
            tag, "endocardium"
        )
        assert shared["regions"]["legend"][paints["regions"][k]] == name
        segment = model.coordinates.aha[tet]
        assert shared["segments"]["legend"][paints["segments"][k]] == f"{segment} {SEGMENTS[segment]}"
        wall = np.clip((model.coordinates.wall_mm[tet] - 4.0) / 8.0, 0, 1)
        assert paints["thickness"][k] == pytest.approx(255 * wall, abs=0.51)


@pytest.mark.parametrize("most", [10**6, 3000])
def test_the_mesh_keeps_place_colours_and_fibres(monkeypatch, ventricles, most):
    """Whole, and thinned."""
    monkeypatch.setattr(viewer, "MOST_FACETS", most)
    part = viewer.mesh(ventricles, SCALE)
    points, triangles = surface_of(part)
    assert part["facets"] == len(ventricles.facets)
    assert len(triangles) == pytest.approx(min(most, len(ventricles.facets)), rel=0.02)
    assert volume(points, triangles) / 1000 == pytest.approx(ventricles.wall_volume_ml, rel=0.02)
    regions = array(part["paints"]["regions"], "u1")
    before = ventricles.points_mm[ventricles.facets], viewer.facet_paints(ventricles, SCALE)["regions"]
    for number in np.unique(before[1]):
        (area, middle), (wanted_area, wanted_middle) = (
            area_and_middle(corners[colour == number])
            for corners, colour in ((points[triangles], regions), before)
        )
        assert area == pytest.approx(wanted_area, rel=0.05)
        np.testing.assert_allclose(middle, wanted_middle, atol=1.0)
    along = array(part["fibres"]["along"], "i1").reshape(-1, 3) / 127
    places = points[indices_of(part["fibres"], "nodes")]
    wanted = np.cross([0.0, 0.0, 1.0], places)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert len(places) > 500
    assert np.quantile(np.einsum("ni,ni->n", along, wanted), 0.05) > 0.99


def area_and_middle(corners):
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    return area.sum(), area @ corners.mean(axis=1) / area.sum()


def test_neighbouring_segments_differ_in_colour():
    wedges = bullseye.wedges()
    for a in LEFT:
        for b in LEFT:
            (inner, _, low, high), (inner_b, outer_b, low_b, high_b) = wedges[a], wedges[b]
            in_ring = inner == inner_b and (low - high_b) % 360 in (0, 360 - (high - low) - (high_b - low_b))
            turn = ((low + high) / 2 - (low_b + high_b) / 2 + 180) % 360 - 180
            above = inner == outer_b and abs(turn) < (high - low + high_b - low_b) / 2
            if a != b and (in_ring or above):
                assert viewer.segment_colour(a) != viewer.segment_colour(b), (a, b)
    for ring in (18, 21, 24):
        for a, b in ((ring, ring + 1), (ring + 1, ring + 2), *([(ring, ring + 3)] if ring < 24 else [])):
            assert viewer.segment_colour(a) != viewer.segment_colour(b), (a, b)
    assert set(viewer.MIXED) <= {*dict(HEART.colours).values(), *palette.OTHERS}


def test_the_library_is_what_its_provenance_says():
    script = (LIBRARY / "three.min.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() in (LIBRARY / "PROVENANCE.md").read_text()
    assert len(script) < 800_000
    assert b"</script" not in script.lower()
    assert "MIT License" in (LIBRARY / "LICENSE.three").read_text()


# ---- in a browser

RING = 4  # px
PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{% include "cohort_style.html.j2" %}
</head><body>{% include "cohort_viewer.html.j2" %}
<article><button type="button" data-turn="block" hidden>Turn this heart</button></article></body></html>"""


def block():
    return box((5, 6, 7), spacing=14.0)


@pytest.fixture(scope="module")
def window(solids):
    points = np.concatenate([s.points_mm for s in solids.values()])
    return portraits.window_around([np.array([points.min(axis=0), points.max(axis=0)])])


@pytest.fixture(scope="module")
def file(tmp_path_factory, solids, window):
    """A page with a real heart that has a target ellipsoid, and a block that has a mesh."""
    centre = solids["left_ventricle"].points_mm.mean(axis=0)
    target = Outline(centre, np.array([50.0, 55.0, 65.0]), np.eye(3), "#e15759", "left_ventricle")
    scenes = {
        "heart": viewer.scene(solids, [target], None, SCALE),
        "block": viewer.scene({"aorta": solids["aorta"]}, [], block(), SCALE),
        "beating": viewer.scene({"aorta": solids["aorta"]}, [], block(), SCALE, beating(block())),
        "labels": viewer.scene({"aorta": solids["aorta"]}, [], two_labels(HEART.structures), SCALE),
    }
    environment = pages.environment(page.TEMPLATE)
    environment.filters["words"] = words
    library = (LIBRARY / "three.min.js").read_text(encoding="utf-8")
    text = environment.from_string(PAGE).render(
        one="heart",
        many="hearts",
        portraits=[{"row": {"subject": name}, "scene": scene} for name, scene in scenes.items()],
        viewer={
            "shared": viewer.settings(HEART, window, SCALE),
            "scripts": [library, page.VIEWER.read_text(encoding="utf-8")],
        },
        legend=list(zip(HEART.structures, palette.colours(HEART.structures, HEART.colours), strict=True)),
    )
    path = tmp_path_factory.mktemp("viewer") / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile"), *SOFTWARE_GL) as browser:
        yield browser


@pytest.fixture
def opened(browser, file):
    """The page, just opened; in the end without an error, and without a request for another file."""
    browser.errors.clear()
    browser.requests.clear()
    browser.open(file, 800, 480)
    yield browser
    assert browser.errors == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {file.as_uri()}


def seen(browser):
    """The view without the ring that shows the keyboard's focus, RGB as floats (H, W, 3)."""
    return browser.picture("#viewer-canvas")[RING:-RING, RING:-RING].astype(float)


def changed(before, after):
    """Share of the view that is another colour."""
    return (np.abs(after - before).max(axis=-1) > 25).mean()


def use(browser, element, value=None):
    """Click on an element, or give an input a value."""
    found = f"document.querySelector('{element}')"
    given = f"{found}.value = '{value}'; {found}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    browser.run(f"{found}.click()" if value is None else given)
    browser.settle()


@needs_chromium
@pytest.mark.parametrize("view", [render.ANTERIOR, render.POSTERIOR], ids=lambda view: view.name)
def test_the_view_is_that_of_the_pictures(opened, solids, window, view):
    """Compared with the rasteriser: the same outline and the same colours, so the same side to the left."""
    use(opened, f"[data-view={'front' if view is render.ANTERIOR else 'back'}]")
    picture = seen(opened)
    height, width, _ = picture.shape
    frame = render.Frame(view, window.centre_mm, (height, width), 1.02 * window.size_mm / (height + 2 * RING))
    expected = render.opaque([render.draw(s, frame) for s in solids.values()], frame.pixel_mm)
    inside = np.ptp(picture, axis=-1) > 40
    both, either = (inside & expected.covered).sum(), (inside | expected.covered).sum()
    assert both / either > 0.95
    common = inside & expected.covered
    hue, wanted = (c[common] / c[common].sum(axis=-1, keepdims=True) for c in (picture, expected.rgb))
    assert (np.abs(hue - wanted).max(axis=-1) < 0.08).mean() > 0.93
    sides = "RL" if view is render.ANTERIOR else "LR"
    assert opened.run(
        "['west', 'east'].map((side) => document.getElementById('viewer-' + side).textContent)"
    ) == (list(sides))


@needs_chromium
def test_keys_and_fingers_turn_the_heart(opened):
    first = seen(opened)
    opened.run("document.querySelector('#viewer-canvas').focus()")
    for key, back in (("ArrowRight", "ArrowLeft"), ("ArrowUp", "ArrowDown"), ("+", "0")):
        opened.press(key)
        assert changed(first, seen(opened)) > 0.02, key
        opened.press(back)
        assert changed(first, seen(opened)) < 0.001, back
    x, y, high = opened.run(
        "(() => { const b = document.querySelector('#viewer-canvas').getBoundingClientRect(); "
        "return [b.x + b.width / 2, b.y + b.height / 2, b.height]; })()"
    )
    opened.drag((x, y), (x + high / 6, y))
    dragged = seen(opened)
    opened.press("0")
    for _ in range(6):
        opened.press("ArrowRight")
    # 60 degrees: a turn of 360 is as long as the view is high
    assert changed(first, dragged) > 0.05
    assert changed(dragged, seen(opened)) < 0.001


@needs_chromium
def test_structures_opacity_cut_and_ellipsoids_change_the_view(opened):
    first = seen(opened)
    for element, value, back in (
        ("[data-structure=right_ventricle]", None, None),
        ("#viewer-opacity", 30, 100),
        ("#viewer-cut", 50, 0),
        ("#viewer-ellipsoids", None, None),
    ):
        use(opened, element, value)
        assert changed(first, seen(opened)) > 0.002, element
        use(opened, element, back)
        assert changed(first, seen(opened)) < 0.001, element
    use(opened, "[data-all=off]")
    assert (np.ptp(seen(opened), axis=-1) > 40).sum() == 0


@needs_chromium
def test_a_mesh_has_colours_edges_and_fibres(opened):
    assert opened.run("document.querySelector('#viewer-mesh').disabled")  # the first heart has none
    use(opened, "[data-turn=block]")
    assert opened.run("document.querySelector('#viewer-heart').value") == "block"
    assert opened.run("document.querySelector('[data-structure=myocardium]').disabled")
    facets = len(boundary_facets(block().tets)[0])
    assert f"Surface of {facets} triangles" in opened.run(
        "document.querySelector('#viewer-facets').innerText"
    )
    use(opened, "#viewer-mesh")
    pictures = [seen(opened)]
    for element, value in (
        ("#viewer-fibres", None), ("#viewer-edges", None),
        ("#viewer-paint", "segments"), ("#viewer-paint", "thickness"),
    ):  # fmt: skip
        use(opened, element, value)
        pictures.append(seen(opened))
        assert changed(*pictures[-2:]) > 0.002, element
        assert opened.run("document.querySelector('#viewer-legend').checkVisibility()")
    use(opened, "#viewer-mesh")
    assert not opened.run("document.querySelector('#viewer-legend').checkVisibility()")


@needs_chromium
def test_a_slider_moves_a_simulated_heart_and_its_strain(opened):
    use(opened, "#viewer-heart", "beating")
    use(opened, "#viewer-mesh")
    pictures = [seen(opened)]
    for paint in ("regions", "strain"):
        use(opened, "#viewer-paint", paint)
        for moment in (0, 6):
            opened.run(
                f"(() => {{ const s = document.querySelector('#viewer-moment'); s.value = {moment}; "
                "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
            )
            opened.settle()
            pictures.append(seen(opened))
    assert changed(*pictures[:2]) < 0.001
    assert changed(*pictures[1:3]) > 0.02  # wider and lower
    assert changed(*pictures[2:4]) > 0.02
    white, red = (p.reshape(-1, 3)[:, 0] - p.reshape(-1, 3)[:, 2] for p in pictures[3:5])
    assert (white > 60).mean() < 0.001
    assert (red > 60).mean() > 0.02
    assert opened.run("document.querySelector('#viewer-when').textContent") == f"6 of {MOST_FRAMES}"
    assert "−5 % or less to 5 % or more" in opened.run("document.querySelector('#viewer-legend').innerText")
    opened.run("document.querySelector('#viewer-play').click()")
    opened.run("new Promise((done) => setTimeout(done, 400))")
    assert opened.run("document.querySelector('#viewer-when').textContent") != f"6 of {MOST_FRAMES}"
    use(opened, "#viewer-mesh")  # it stops where the mesh is not seen
    assert opened.run("document.querySelector('#viewer-play').textContent") == "Play"
    use(opened, "#viewer-heart", "block")
    assert not opened.run("document.querySelector('#viewer-motion').checkVisibility()")


@needs_chromium
def test_a_mesh_of_all_labels_is_drawn_in_the_colours_of_its_structures(opened):
    use(opened, "#viewer-heart", "labels")
    use(opened, "#viewer-mesh")
    assert opened.run("document.querySelector('#viewer-paint').value") == "structures"
    use(opened, "#viewer-edges")
    for _ in range(4):
        opened.run("document.querySelector('#viewer-canvas').focus()")
        opened.press("+")
    picture = seen(opened).reshape(-1, 3)
    hue = picture / np.maximum(picture.sum(axis=1, keepdims=True), 1)
    for colour in palette.colours(HEART.structures, HEART.colours)[:2]:
        wanted = shapes.rgb(colour) / shapes.rgb(colour).sum()
        assert (np.abs(hue - wanted).max(axis=1) < 0.05).mean() > 0.001, colour


@needs_chromium
def test_without_scripts_or_webgl_the_page_refers_to_the_pictures(file, tmp_path):
    with Chromium(tmp_path, *NO_GL) as browser:
        for without, prepare in (("WebGL 2", lambda: None), ("needs scripts", browser.forbid_scripts)):
            prepare()
            browser.open(file)
            assert without in browser.run("document.querySelector('#viewer-without').innerText")
            for element in ("#viewer-parts", "[data-turn]"):
                assert not browser.run(f"document.querySelector('{element}').checkVisibility()")
        assert browser.errors == []
