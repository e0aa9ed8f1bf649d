"""Parts of the meshing stage against analytic truths: fields, planes, tags, tetrahedra, the model."""

from dataclasses import replace

import numpy as np
import pytest
import pyvista
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy.label_map import LabelMap
from cardiocohort.mesh import tetrahedron_geometry
from cardiocohort.mesh.model import FACETS, REGIONS, BiventricularModel, all_boundary_tagged, rim_edges
from cardiocohort.meshing import build, kernels, signed_distance, tetgen_child
from cardiocohort.meshing.crossings import REASON as CROSSED
from cardiocohort.meshing.domain import Domain, domain, n_openings, valve_plane
from cardiocohort.meshing.quality import rim_distance_mm
from cardiocohort.meshing.settings import MeshSettings
from cardiocohort.meshing.surface import clean_tags, is_closed, patches
from cardiocohort.meshing.tetrahedra import (
    TIMED_OUT,
    Finer,
    bisect,
    clamped,
    improve,
    max_volume_mm3,
    peel,
    refine,
    split_large,
    tetrahedralize,
)
from cardiocohort.runtime.errors import InputError, KilledError, SubjectError
from heart_anatomy import HEART
from small_meshes import biventricle, box, lattice_tets, truncated_ellipsoid

REGULAR = np.array([[1, -1, -1], [1, 1, 1], [-1, 1, -1], [-1, -1, 1]], dtype=float)


def grid(shape=(40, 40, 40), spacing=2.0):
    axes = [(np.arange(n) - (n - 1) / 2) * spacing for n in shape]
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [a[0] for a in axes]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1), affine


@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.0])
def test_smooth_distance_of_a_ball(spacing):
    n = int(60 / spacing)
    x, affine = grid((n, n, n), spacing)
    radius = np.linalg.norm(x, axis=-1)
    field = signed_distance.smooth_distance(
        radius < 20, affine[:3, 3], [spacing] * 3, 1.0, max(1.5, 0.75 * spacing)
    )
    assert (field.values < 0).sum() == pytest.approx((radius < 20).sum() * spacing**3, rel=0.005)
    exact = np.linalg.norm(field.points(), axis=-1) - 20
    near = np.abs(exact) < 8
    error = np.abs(field.values - exact)[near]
    assert error.mean() < 0.15 * spacing
    assert error.max() < 0.6 * spacing


def test_redistance_leaves_the_surface_where_it_is():
    x, _ = grid((30, 30, 30), 1.0)
    normal = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1, 2, -0.5])
    exact = x @ normal - 0.37
    inner = (slice(6, -6),) * 3  # the distance does not know what lies beyond the border
    assert np.abs(signed_distance.redistance(3 * exact, 1.0) - exact)[inner].max() < 0.15


def test_round_edges_removes_a_blade_and_keeps_a_ball():
    x, _ = grid((50, 50, 50), 1.0)
    ball = np.linalg.norm(x, axis=-1) - 12
    blade = np.maximum(np.abs(x[..., 0]) - 0.8, np.abs(x[..., 1]) - 20)
    rounded = signed_distance.round_edges(np.minimum(ball, blade), 2.0, 1.0)
    far = np.abs(x[..., 1]) > 16
    assert not (rounded < 0)[far].any()
    assert np.abs(rounded - ball)[np.abs(ball) < 3].mean() < 0.3


@pytest.mark.parametrize("at", [(20, 24, 28), (3, 24, 45)])
def test_offsets_in_a_box_around_the_inside_end_as_on_the_whole_grid(at):
    """To the last bit; also where the box meets the border of the grid."""
    places = np.moveaxis(np.indices((48, 50, 52)), 0, -1).astype(float)
    halves = np.abs(places - at) / [6, 10, 14]
    values = (halves.max(axis=-1) - 1) * 6
    whole = signed_distance.redistance(values, 1.0)
    for offset in (-2.0, 4.0, -2.0):
        whole = signed_distance.redistance(whole + offset, 1.0)
    assert np.array_equal(signed_distance.round_edges(values, 2.0, 1.0), whole)


def distance_by_scipy(values, spacing):
    """`redistance` with SciPy's transform, on all voxels at once."""
    values = values.astype(np.float32)
    gradient = np.stack(np.gradient(values, spacing))
    slope = np.maximum(np.sqrt(np.sum(gradient**2, axis=0)), 1e-6)
    beside, normals = values / slope, (gradient / slope).reshape(3, -1)
    distance = beside.copy()
    for sign, side in ((-1.0, values < 0), (1.0, values >= 0)):
        nearest = ndimage.distance_transform_edt(side, return_distances=False, return_indices=True)
        far = np.flatnonzero(side & (np.abs(beside) > spacing))
        voxel = nearest.reshape(3, -1)[:, far]
        other = np.ravel_multi_index(voxel, values.shape)
        under = np.clip(beside.ravel()[other], -1.5 * spacing, 1.5 * spacing)
        step = (voxel - np.stack(np.unravel_index(far, values.shape))).astype(np.float32) * spacing
        step -= normals[:, other] * under
        straight, normal = np.sum(step**2, axis=0), np.sum(step * normals[:, other], axis=0) ** 2
        oblique = straight - normal >= (2 * spacing) ** 2
        distance.reshape(-1)[far] = sign * np.sqrt(np.where(oblique, straight, normal))
    return distance


@settings(deadline=None)
@given(st.tuples(*[st.integers(2, 14)] * 3), st.integers(0, 2**32 - 1), st.floats(0.3, 3))
def test_distances_are_those_of_scipys_transform(shape, seed, smoothing):
    """To the last bits, and of equally near voxels the same one."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), smoothing)
    values -= np.median(values)
    assert (values < 0).any()
    assert (values >= 0).any()
    found, expected = signed_distance.redistance(values, 1.25), distance_by_scipy(values, 1.25)
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_grid_of_one_layer_has_no_distances():
    with pytest.raises(ValueError, match="has no slopes"):
        signed_distance.redistance(np.zeros((1, 5, 6)), 1.0)


def test_distances_end_at_the_reach_that_is_set():
    x, _ = grid((30, 30, 30), 1.0)
    values = np.linalg.norm(x, axis=-1) - 12
    whole, near = signed_distance.redistance(values, 1.0), signed_distance.redistance(values, 1.0, 4)
    within = np.abs(whole) < 2.2  # and the nearest voxel beyond, a diagonal more, within 4
    assert np.array_equal(near[within], whole[within])
    assert np.abs(near).max() == pytest.approx(4, abs=1)
    assert np.array_equal(near < 0, whole < 0)
    assert (np.abs(near[np.abs(whole) > 6]) == 4).all()


def test_field_gradient_of_a_linear_field():
    x, _ = grid((10, 10, 10), 1.5)
    field = signed_distance.Field(x @ [0.5, -1.0, 2.0], x[0, 0, 0], 1.5)
    points = np.random.default_rng(0).uniform(-4, 4, (20, 3))
    assert np.allclose(field(points), points @ [0.5, -1.0, 2.0])
    assert np.allclose(field.gradient(points), [0.5, -1.0, 2.0])


def cup(normal, level):
    """A ball of LV blood whose part above a plane is atrium: the valve lies in that plane."""
    x, affine = grid()
    labels = np.zeros(x.shape[:3], dtype=np.uint8)
    ball = np.linalg.norm(x, axis=-1) < 30
    above = x @ normal > level
    labels[ball & ~above] = HEART.label("left_ventricle")
    labels[ball & above] = HEART.label("left_atrium")
    return LabelMap(labels, affine)


@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 2, 2), (-2, 1, 0.5)])
def test_the_valve_plane_is_found(normal):
    normal = np.array(normal) / np.linalg.norm(normal)
    plane = valve_plane(cup(normal, 5.0), HEART, ("left_ventricle",), 0.1)
    assert np.degrees(np.arccos(plane.normal @ normal)) < 5
    assert abs(plane.offset_mm - 5.0) < 2.5


def test_one_plane_lies_below_the_valves_of_both_ventricles():
    """Two balls of blood side by side, one cut by its atrium higher than the other."""
    x, affine = grid((60, 40, 40))
    labels = np.zeros(x.shape[:3], dtype=np.uint8)
    for side, level, ventricle, atrium in (
        (-26, 12, "left_ventricle", "left_atrium"),
        (26, 4, "right_ventricle", "right_atrium"),
    ):
        ball = np.linalg.norm(x - [side, 0, 0], axis=-1) < 24
        labels[ball] = HEART.label(ventricle)
        labels[ball & (x[..., 2] > level)] = HEART.label(atrium)
    both = LabelMap(labels, affine)
    names = ("left_ventricle", "right_ventricle")
    plane = valve_plane(both, HEART, names, 0.1)
    centres = np.array([[-26.0, 0, 12], [26.0, 0, 4]])
    # the lower valve holds it down on its side, and on the other side it is not above the higher one
    heights = plane.height(centres)
    assert heights.min() > -2.5
    alone = [valve_plane(both, HEART, (name,), 0.1) for name in names]
    blood = [x[labels == HEART.label(name)] for name in names]
    kept = [(plane.height(points) < 0).mean() for points in blood]
    own = [(p.height(points) < 0).mean() for p, points in zip(alone, blood, strict=True)]
    assert sum(kept) <= sum(own)
    assert min(kept) > 0.8


def test_a_point_is_of_the_region_whose_wall_is_farthest():
    """Three planes: epicardium at x = 0, cavities of the LV beyond y = 0 and of the RV beyond z = 0."""
    x, _ = grid((30, 30, 30), 1.0)
    outer, lv, rv = (signed_distance.Field(x[..., axis], x[0, 0, 0], 1.0) for axis in range(3))
    muscle = Domain(outer, lv, rv, outer, None, (0.0, 0.0), 0.0)
    points = np.array([[-9.0, 2, 2], [2.0, 9, 2], [2, 2, -9.0]])
    assert muscle.region(points).tolist() == ["septum", "rv", "lv"]


@pytest.mark.parametrize("level", [17.0, 20.0, -35.0])
def test_the_rim_is_as_far_from_the_base_as_its_farthest_node(level):
    """The basal surface is a height; the ellipsoid's endocardium is open at its base and at its apex."""
    model = truncated_ellipsoid((3, 5, 8), apex_deg=3)
    low, high = model.points_mm.min(axis=0) - 4, model.points_mm.max(axis=0) + 4
    shape = np.ceil((high - low) / 2).astype(int) + 1
    # twice the slope: the value of a field is no distance
    base = signed_distance.Field(
        np.broadcast_to(2 * (low[2] + 2.0 * np.arange(shape[2]) - level), shape), low, 2.0
    )
    rim = rim_edges(model.facets[model.facet_tag == FACETS["lv_endo"]])
    farthest = np.abs(model.points_mm[np.unique(rim), 2] - level).max()
    assert farthest > 10
    assert rim_distance_mm(model, base) == pytest.approx(farthest)


def surface_of(tets):
    """Facets of the boundary, each with its nodes sorted, in order."""
    return np.unique(np.sort(tetrahedron_geometry.boundary_facets(tets)[0], axis=1), axis=0)


def test_large_tets_are_split_where_less_is_asked_for():
    model = box((5, 5, 5), spacing=3.0)

    def size(points):
        return np.where(points[:, 0] < points[:, 0].mean(), 1.5, 6.0)

    points, split = split_large(model.points_mm, model.tets, size)
    volumes = tetrahedron_geometry.signed_volumes(points, split)
    assert volumes.min() > 0
    assert volumes.sum() == pytest.approx(model.tet_volumes_mm3.sum())
    assert np.array_equal(points[: len(model.points_mm)], model.points_mm)
    assert np.array_equal(surface_of(model.tets), surface_of(split))
    centroids, surface = points[split].mean(axis=1), np.unique(surface_of(split))
    inner = ~np.isin(split, surface).any(axis=1)
    small = centroids[:, 0] < 4
    assert volumes[inner & small].max() <= max_volume_mm3(1.5)
    # far from there nothing is touched
    assert (centroids[:, 0] > 9).sum() == (model.points_mm[model.tets].mean(axis=1)[:, 0] > 9).sum()


def test_a_ventricle_without_valve_ends_the_subject():
    with pytest.raises(SubjectError, match="no contact with left_atrium or aorta"):
        valve_plane(cup(np.array([0, 0, 1.0]), 40.0), HEART, ("left_ventricle",), 0.1)


def test_a_missing_ventricle_ends_the_subject():
    with pytest.raises(SubjectError) as caught:
        domain(cup(np.array([0, 0, 1.0]), 5.0), HEART, MeshSettings())
    assert caught.value.reason == "right_ventricle is missing"


def test_openings_joined_by_a_slit_count_as_two():
    x, _ = grid((60, 40, 20), 1.0)
    two = np.minimum(*(np.linalg.norm(x[..., :2] - [c, 0], axis=-1) - 8 for c in (-12, 12)))
    slit = np.maximum(np.abs(x[..., 1]) - 1.0, np.abs(x[..., 0]) - 12)
    passage = np.maximum(np.abs(x[..., 1]) - 5.0, np.abs(x[..., 0]) - 12)
    base = x[..., 2]
    assert n_openings(two, base) == 2
    assert n_openings(np.minimum(two, slit), base) == 2
    assert n_openings(np.minimum(two, passage), base) == 1


def test_scaled_jacobian_of_known_tets():
    assert tetrahedron_geometry.scaled_jacobian(REGULAR) == pytest.approx(1)
    assert tetrahedron_geometry.scaled_jacobian(REGULAR[[1, 0, 2, 3]]) == pytest.approx(-1)
    flat = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=float)
    assert tetrahedron_geometry.scaled_jacobian(flat) == pytest.approx(0)
    corner = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
    mesh = pyvista.UnstructuredGrid({pyvista.CellType.TETRA: np.arange(4)[None]}, corner)
    by_verdict = mesh.cell_quality("scaled_jacobian")["scaled_jacobian"][0]
    assert tetrahedron_geometry.scaled_jacobian(corner) == pytest.approx(by_verdict)


@given(arrays(float, (4, 3), elements=st.floats(-1, 1)), st.integers(0, 1000), st.floats(0.1, 10))
def test_scaled_jacobian_is_invariant_to_pose_and_size(corners, seed, size):
    rotation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    moved = size * corners @ rotation.T + 3.0
    assert tetrahedron_geometry.scaled_jacobian(moved) == pytest.approx(
        tetrahedron_geometry.scaled_jacobian(corners), abs=1e-6
    )


@settings(deadline=None)  # the first example waits for the compiler
@given(arrays(float, (9, 3), elements=st.floats(-1, 1)), st.integers(0, 3))
def test_the_worst_tet_over_faces_is_that_of_the_tets(points, corner):
    """Nodes 0 to 3 as the apex over two faces, which are those opposite to a tet's `corner`."""
    apexes, faces = points[:3], points[3:].reshape(2, 3, 3)
    sides = np.linalg.norm(faces - faces[:, [1, 2, 0]], axis=2)
    for apex in apexes:
        tets = np.empty((2, 4, 3))
        tets[:, corner], tets[:, tetrahedron_geometry.FACES[corner]] = apex, faces
        worst = kernels.worst_over(apex, points, np.arange(3, 9).reshape(2, 3), sides, -np.inf)
        assert worst == pytest.approx(tetrahedron_geometry.scaled_jacobian(tets).min(), abs=1e-9)


@pytest.mark.parametrize("ventricles", ["both", "left"])
def test_regions_are_by_the_wall_farthest_from_the_centroid(ventricles):
    """Most are told from a node; all as if each tet's own distances were measured."""
    model = biventricle() if ventricles == "both" else truncated_ellipsoid()
    centroids = model.points_mm[model.tets].mean(axis=1)
    distance = np.zeros((4, len(centroids)))
    for region, wall in (("septum", "epi"), ("lv", "rv_endo"), ("rv", "lv_endo")):
        patch = model.facets[model.facet_tag == FACETS[wall]]
        sample = np.concatenate([model.points_mm[np.unique(patch)], model.points_mm[patch].mean(axis=1)])
        distance[REGIONS[region]] = cKDTree(sample).query(centroids)[0] if len(sample) else np.inf
    found = build.region_of(model.points_mm, model.tets, model.facets, model.facet_tag)
    assert np.array_equal(found, distance.argmax(axis=0))
    assert len(np.unique(found)) == (3 if ventricles == "both" else 1)


def test_boundary_facets_enclose_the_volume_outward():
    model = box()
    facets, owner = tetrahedron_geometry.boundary_facets(model.tets)
    a, b, c = (model.points_mm[facets[:, i]] for i in range(3))
    enclosed = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert enclosed == pytest.approx(model.tet_volumes_mm3.sum())
    assert is_closed(facets)
    assert all(set(f) <= set(t) for f, t in zip(facets.tolist(), model.tets[owner].tolist(), strict=True))


def test_the_cavity_of_a_cup():
    """The part of a ball below a height, whose wall is all endocardium."""
    cup = pyvista.Sphere(radius=20, theta_resolution=90, phi_resolution=90, start_phi=60, end_phi=180).clean()
    corners = np.asarray(cup.points)[cup.regular_faces]
    inward = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) < 0
    facets = np.where(inward[:, None], cup.regular_faces, cup.regular_faces[:, ::-1])
    model = BiventricularModel(
        np.asarray(cup.points, dtype=float),
        np.arange(4)[None],
        np.ones(1, int),
        facets,
        np.full(len(facets), 3),
    )
    height = 20 + 20 * np.cos(np.radians(60))
    exact = np.pi * height**2 * (60 - height) / 3 / 1000
    assert model.cavity_volume_ml("lv") == pytest.approx(exact, rel=0.005)


@pytest.mark.parametrize(
    ("block", "wrong", "says"),
    [
        ("region", np.ones(3, int), r"region: shape \(3,\)"),
        ("facet_tag", np.full(104, 7), "facet_tag: value 7"),
        ("tets", np.full((144, 4), 1000), "tets: node indices"),
        ("points_mm", np.full((60, 3), np.nan), "points_mm: not all"),
    ],
)
def test_a_model_names_the_block_that_is_wrong(block, wrong, says):
    with pytest.raises(ValueError, match=says):
        replace(box(), **{block: wrong})


def test_all_boundary_tagged_sees_a_facet_more_or_less():
    model = box()
    assert all_boundary_tagged(model)
    less = replace(model, facets=model.facets[1:], facet_tag=model.facet_tag[1:])
    twice = np.r_[0, np.arange(1, len(model.facets)), 0]
    assert not all_boundary_tagged(less)
    assert not all_boundary_tagged(
        replace(model, facets=model.facets[twice], facet_tag=model.facet_tag[twice])
    )


def ball():
    sphere = pyvista.Icosphere(radius=10, nsub=3)
    return np.asarray(sphere.points, dtype=float), sphere.regular_faces.astype(int)


def test_islands_and_ears_go_and_patches_stay():
    points, facets = ball()
    truth = np.where(points[facets].mean(axis=1)[:, 2] > 2, FACETS["base"], FACETS["epi"])
    noisy = truth.copy()
    noisy[np.random.default_rng(3).choice(len(facets), 25, replace=False)] = FACETS["base"]
    cleaned = clean_tags(facets, noisy)
    assert [len(patches(facets, cleaned, v)) for v in np.unique(cleaned)] == [1, 1]
    assert (cleaned != truth).mean() < 0.02


def test_no_node_is_left_on_epicardium_and_endocardium():
    points, facets = ball()
    height = points[facets].mean(axis=1)[:, 2]
    tag = np.where(height > 0, FACETS["lv_endo"], FACETS["epi"])
    cleaned = clean_tags(facets, tag)
    epi, endo = (np.unique(facets[cleaned == FACETS[name]]) for name in ("epi", "lv_endo"))
    assert not np.intersect1d(epi, endo).size
    assert (cleaned == FACETS["base"]).any()


def test_tetgen_fills_a_ball_and_keeps_its_surface():
    points, facets = ball()
    nodes, filled = tetrahedralize(points, facets, 3.0, 60, 8000)
    assert np.allclose(nodes[: len(points)], points)
    assert tetrahedron_geometry.signed_volumes(nodes, filled).min() > 0
    assert set(map(frozenset, tetrahedron_geometry.boundary_facets(filled)[0].tolist())) == set(
        map(frozenset, facets.tolist())
    )


def test_a_region_can_be_finer_than_the_rest():
    """Of two balls side by side, that which is named has its own size."""
    points, facets = ball()
    shift = np.array([points[:, 0].max() - points[:, 0].min() + 5.0, 0.0, 0.0])
    both = np.vstack([points, points + shift]), np.vstack([facets, facets + len(points)])
    nodes, filled = tetrahedralize(*both, 30.0, 60, 8000, Finer(points.mean(axis=0)[None], 2.0))
    volumes = tetrahedron_geometry.signed_volumes(nodes, filled)
    first = nodes[filled].mean(axis=1)[:, 0] < points.mean(axis=0)[0] + shift[0] / 2
    # TetGen improves the mesh after it has refined it, so that a few come out a little larger
    assert np.quantile(volumes[first], 0.99) < max_volume_mm3(2.0) < np.quantile(volumes[~first], 0.99)


@pytest.mark.parametrize(
    ("seconds", "megabytes", "told"),
    [(0.01, 8000, r"0\.01 s"), (60, 100, r"exit status .*emory.*larger meshing\.tetgen_mb")],
)
def test_tetgen_short_of_time_or_memory_ends_the_subject(seconds, megabytes, told):
    with pytest.raises(SubjectError, match=told):
        tetrahedralize(*ball(), 3.0, seconds, megabytes)


def test_tetgen_failing_ends_the_subject(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points, facets = ball()
    crossing = np.concatenate([points, points + np.array([7.0, 0.3, 0.2])])
    with pytest.raises(SubjectError, match=r"exit status .*larger meshing\.smoothing_mm"):
        tetrahedralize(crossing, np.concatenate([facets, facets + len(points)]), 3.0, 60, 8000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"was ended by SIGKILL.*more memory"),
        ("import tetgen_of_no_kind", r"could not be run: .*no_kind"),
        ("raise OSError('no space left on device')", r"could not be run: .*no space left"),
    ],
)
def test_tetgen_killed_or_not_run_ends_the_job(tmp_path, monkeypatch, text, told):
    """Too little memory, a broken installation or a full disk is no verdict on a heart, which a run keeps."""
    child = tmp_path / "child.py"
    child.write_text(text + "\n")
    monkeypatch.setattr(tetgen_child, "__file__", str(child))
    with pytest.raises(KilledError, match="TetGen " + told):
        tetrahedralize(*ball(), 3.0, 60, 8000)


def tried(monkeypatch, settings, *outcomes):
    """Smoothing (mm) of each attempt of `build` that ends as in `outcomes`, and what comes of it."""
    found, ends = [], iter(outcomes)

    def attempt(labelmap, anatomy, settings, cure):
        found.append(settings.smoothing_mm)
        raise SubjectError(next(ends))

    monkeypatch.setattr(build, "_build", attempt)
    label_map = LabelMap(np.zeros((2, 2, 2), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(SubjectError) as caught:
        build.build(label_map, HEART, settings)
    return found, caught.value.reason


def test_each_attempt_smooths_more(monkeypatch):
    found, reason = tried(monkeypatch, MeshSettings(smoothing_mm=0.0), "a", "b", "c")
    assert found == pytest.approx([1.5, 2.25, 3.0])
    assert reason == "a"


def test_hearts_with_flat_tetrahedra_are_tried_with_shorter_edges(monkeypatch):
    """After all else, and the figures say so."""
    found = []
    flat, crossed = (SubjectError(reason) for reason in ("mesh gate: p1_scaled_jacobian", CROSSED))
    ends = iter([crossed, flat, flat, flat, flat, ("a model", {"changes": ""})])

    def attempt(labelmap, anatomy, settings, cure):
        edges = settings.edge_lengths_mm
        found.append((settings.smoothing_mm, edges["lv"], round(edges["septum"], 3), cure.__name__[:5]))
        end = next(ends)
        if isinstance(end, SubjectError):
            raise end
        return end

    monkeypatch.setattr(build, "_build", attempt)
    label_map = LabelMap(np.zeros((2, 2, 2), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]))
    settings = MeshSettings(edge_length_mm=4.0, septum_edge_length_mm=2.0, rv_wall_mm=5)
    model, figures = build.build(label_map, HEART, settings)
    assert found == [
        (1.5, 4.0, 2.0, "check"), (2.25, 4.0, 2.0, "check"), (3.0, 4.0, 2.0, "check"),
        (1.5, 4.0, 2.0, "open_"), (2.25, 3.4, 1.7, "check"), (2.25, 2.8, 1.4, "check"),
    ]  # fmt: skip
    assert model == "a model"
    assert figures["changes"] == "edges of 2.80 instead of 4 mm"


@pytest.mark.parametrize(
    ("reason", "edge_mm"), [("mesh gate: lv_volume_kept", 2.8), ("min_scaled_jacobian", 0.6)]
)
def test_shorter_edges_are_for_flat_tetrahedra_and_no_shorter_than_allowed(monkeypatch, reason, edge_mm):
    settings = MeshSettings(edge_length_mm=edge_mm)
    assert tried(monkeypatch, settings, *[reason] * 3) == ([1.5, 2.25, 3.0], reason)


def test_out_of_time_is_not_tried_again(monkeypatch):
    """A stalled machine would otherwise give another mesh than an idle one."""
    assert tried(monkeypatch, MeshSettings(), TIMED_OUT) == ([1.5], TIMED_OUT)
    assert tried(monkeypatch, MeshSettings(), "thin wall", TIMED_OUT) == ([1.5, 2.25], "thin wall")


def test_bisecting_keeps_volume_surface_and_conformity():
    model = box((4, 4, 4))
    chosen = np.zeros(len(model.tets), dtype=bool)
    chosen[::17] = True
    points, split, n = bisect(model.points_mm, model.tets, chosen)
    assert n > 0
    assert len(points) == len(model.points_mm) + n
    volumes = tetrahedron_geometry.signed_volumes(points, split)
    assert volumes.min() > 0
    assert volumes.sum() == pytest.approx(model.tet_volumes_mm3.sum())
    assert np.array_equal(surface_of(model.tets), surface_of(split))


def test_improving_moves_interior_nodes_and_keeps_the_worst():
    model = box((6, 6, 6), spacing=1.0)
    points = model.points_mm.copy()
    inner = np.setdiff1d(np.arange(len(points)), model.facets)
    points[inner] += np.random.default_rng(5).uniform(-0.3, 0.3, (len(inner), 3))
    better = improve(points, model.tets, points, 0.0)
    before, after = (tetrahedron_geometry.scaled_jacobian(p[model.tets]) for p in (points, better))
    assert after.min() > before.min()
    assert (after < 0.2).sum() < 0.5 * (before < 0.2).sum()
    assert np.array_equal(np.delete(better, inner, axis=0), np.delete(points, inner, axis=0))


@pytest.mark.parametrize("tag", FACETS)
def test_no_tet_keeps_all_its_nodes_on_one_surface(tag):
    """A block of one tag, in whose edges and corners tets lie on it; one more tet stands on a facet of it."""
    block = box((4, 4, 4))
    facet = block.facets[(block.points_mm[block.facets][:, :, 2] > 4).all(axis=1)][4]
    top = block.points_mm[facet].mean(axis=0) + np.array([0, 0, 1.2])
    points = np.vstack([block.points_mm, top])
    tets = np.vstack([block.tets, [*facet, len(points) - 1]])
    facets, _ = tetrahedron_geometry.boundary_facets(tets)
    tags = np.full(len(facets), FACETS[tag])
    assert tetrahedron_geometry.signed_volumes(points, tets).min() > 0
    before = clamped(tets, facets, tags)
    assert before[-1]
    assert before.sum() > 10
    nodes, refined, outward, _ = refine(points, tets, facets, tags, 0.0)
    assert not clamped(refined, outward, tags).any()
    assert np.array_equal(surface_of(refined), surface_of(tets))
    assert np.array_equal(nodes[: len(points)][facets], points[facets])
    volumes = tetrahedron_geometry.signed_volumes(nodes, refined)
    assert volumes.sum() == pytest.approx(tetrahedron_geometry.signed_volumes(points, tets).sum())
    assert tetrahedron_geometry.scaled_jacobian(nodes[refined]).min() > 0.05
    along = tetrahedron_geometry.z_order(nodes[refined].mean(axis=1))
    assert np.array_equal(along, np.arange(len(refined))), "neighbours do not follow each other"


def test_peeling_takes_a_flat_tet_off_and_keeps_the_rest_closed():
    points = (
        np.stack(np.meshgrid(range(4), range(4), range(3), indexing="ij"), -1).reshape(-1, 3).astype(float)
    )
    cells = lattice_tets((4, 4, 3))
    facets, _ = tetrahedron_geometry.boundary_facets(cells)
    top = facets[(points[facets][:, :, 2] == 2).all(axis=1)]
    a, b, c = next(
        f for f in top if (points[f].mean(axis=0)[:2] > 1).all() and (points[f].mean(axis=0)[:2] < 2).all()
    )
    other = next(f for f in top if len(set(f) & {a, b, c}) == 2 and (points[f].mean(axis=0)[:2] < 2).all()
                 and (points[f].mean(axis=0)[:2] > 1).all())  # fmt: skip
    (d,) = set(other) - {a, b, c}
    shared = sorted({a, b, c} & set(other))
    points[shared, 2] -= 0.02  # a groove along the diagonal of the pair: a flat tet fits into it
    flat = np.array([*shared, *sorted(({a, b, c} | {d}) - set(shared))])
    if tetrahedron_geometry.signed_volumes(points, flat[None])[0] < 0:
        flat = flat[[1, 0, 2, 3]]
    # put the flat tet on top: the surface there becomes its two upper triangles
    with_flat = np.concatenate([cells, flat[None]])
    surface, _ = tetrahedron_geometry.boundary_facets(with_flat)
    tag = np.ones(len(surface), dtype=int)
    if not is_closed(surface):
        pytest.fail("the seeded mesh is not closed")
    peeled, after, after_tag = peel(points, with_flat, surface, tag)
    assert len(peeled) == len(with_flat) - 1
    assert len(after) == len(after_tag)
    assert np.array_equal(np.unique(np.sort(after, axis=1), axis=0), surface_of(peeled))
    outward = (
        np.einsum("ij,ij->i", points[after[:, 0]], np.cross(points[after[:, 1]], points[after[:, 2]])).sum()
        / 6
    )
    assert outward == pytest.approx(tetrahedron_geometry.signed_volumes(points, peeled).sum())


def test_edge_lengths_by_region():
    plain = MeshSettings(edge_length_mm=3.0)
    assert plain.edge_lengths_mm == {"lv": 3.0, "rv": 3.0, "septum": 3.0}
    # the left wall may be coarser than the right wall is thick
    own = MeshSettings(edge_length_mm=5.0, rv_edge_length_mm=2.5)
    assert own.edge_lengths_mm == {"lv": 5.0, "rv": 2.5, "septum": 5.0}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rv_wall": 3.5}, "rv_wall: no such setting"),
        ({"rv_wall_mm": -1}, "rv_wall_mm"),
        ({"edge_length_mm": 0}, "edge_length_mm"),
        ({"edge_length_mm": 4.0}, "edge_length_mm': 4 must be less than rv_wall_mm, 3.5"),
        ({"rv_edge_length_mm": 3.5}, "rv_edge_length_mm': 3.5 must be less than rv_wall_mm"),
        ({"rv_wall_apical_mm": 2.5}, "edge_length_mm': 2.8 must be less than rv_wall_apical_mm, 2.5"),
        ({"rv_wall_basal_mm": 0}, "rv_wall_basal_mm: 0 is not at least 1"),
        ({"rv_wall_segments_mm": {"mid_lateral": 2.5}}, r"less than rv_wall_segments_mm\.mid_lateral, 2.5"),
        ({"rv_wall_segments_mm": {"mid_lateral": 16}}, r"segments_mm\.mid_lateral: 16 is not at most 15"),
        (
            {"rv_wall_segments_mm": {"mid_left": 4}},
            r"segments_mm\.mid_left: no such setting; allowed: b",
        ),
        ({"septum_edge_length_mm": 0}, "septum_edge_length_mm: 0 is not at least 0.5"),
        ({"base": "valves"}, "meshing.base: 'valves' is not one of two_planes, one_plane"),
        ({"smoothing_mm": "1"}, "smoothing_mm"),
    ],
)
def test_wrong_settings_are_named(values, named):
    with pytest.raises(InputError, match=named):
        MeshSettings.of(values)
