"""Whole hearts: every gate holds on a real anatomy, and every gate sees its defect."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cardiocohort import mesh_subject
from cardiocohort.anatomy.aha_segments import RIGHT
from cardiocohort.anatomy.label_map import LabelMap, read_label_map
from cardiocohort.mesh import storage
from cardiocohort.mesh.model import FACETS, REGIONS
from cardiocohort.mesh.tetrahedron_geometry import EDGES, boundary_facets, scaled_jacobian
from cardiocohort.meshing import build as meshing_build
from cardiocohort.meshing import crossings, quality
from cardiocohort.meshing.build import build
from cardiocohort.meshing.domain import domain
from cardiocohort.meshing.settings import MeshSettings, RvWallSegments
from cardiocohort.meshing.surface import FAR_FROM_BASE_MM, boundary_fields, node_tags, surface
from cardiocohort.microstructure.coordinates import FREE_WALL, add_coordinates
from cardiocohort.microstructure.fibres import FibreAngles, add_fibres
from cardiocohort.microstructure.segments import right_segments
from cardiocohort.microstructure.thickness import segment_thickness
from cardiocohort.runtime import artifacts, batch_runner
from cardiocohort.runtime.errors import InputError, SubjectError
from heart_anatomy import HEART

TEMPLATES = sorted((Path(__file__).resolve().parents[3] / "resources/templates").glob("T*.nii.gz"))
COARSE = MeshSettings(edge_length_mm=3.4)


@pytest.fixture(scope="module")
def heart():
    """Template T3, the thinnest and quickest, with its figures."""
    return build(read_label_map(TEMPLATES[2], HEART), HEART, COARSE)


def reasons(model, figures):
    return [reason for reason, _ in quality.failures(model, figures, COARSE)]


def test_a_real_heart_passes_every_gate(heart):
    assert reasons(*heart) == []


def test_the_figures_are_those_of_the_mesh(heart):
    model, figures = heart
    assert figures["n_tets"] == len(model.tets)
    assert figures["min_scaled_jacobian"] == scaled_jacobian(model.points_mm[model.tets]).min()
    assert figures["openings"] == 2
    assert figures["rim_distance_mm"] <= 0.5
    assert abs(figures["rv_wall_mm"] - COARSE.rv_wall_mm) < 0.15 * COARSE.rv_wall_mm
    assert figures["surface_distance_mean_mm"] < 0.5
    labels = read_label_map(TEMPLATES[2], HEART)
    whole = (labels.labels == HEART.label("left_ventricle")).sum() * np.prod(labels.spacing_mm) / 1000
    assert figures["lv_volume_kept"] == pytest.approx(figures["lv_cavity_ml"] / whole)


def test_nodes_lie_where_the_labels_say(heart):
    """Between wall and label surface lies less than a voxel, away from the valves."""
    assert heart[1]["surface_distance_p95_mm"] < 1.0


@pytest.mark.parametrize("edge_mm", [2.0, 1.4])
def test_edges_finer_than_the_grid_give_a_closed_surface(edge_mm):
    """T4: of fewer than some three points of the isosurface a cluster, clusters touched at points."""
    muscle = domain(read_label_map(TEMPLATES[3], HEART), HEART, MeshSettings(edge_length_mm=edge_mm))
    skin = surface(muscle, lambda points: np.full(len(points), edge_mm))
    a, b, c = (skin.points_mm[skin.facets[:, k]] for k in range(3))
    edges = np.linalg.norm(np.concatenate([b - a, c - b, a - c]), axis=1)
    assert 0.8 * edge_mm < edges.mean() < 1.1 * edge_mm


def edge_length(model, region):
    """Mean length (mm) of the edges of a region's tets."""
    ends = model.points_mm[model.tets[model.region == REGIONS[region]][:, EDGES]]
    return np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=2).mean()


def test_a_region_has_its_own_edge_length(heart):
    """Coarse free wall of the LV, the other two as they were: gates hold, and only the LV loses tets."""
    settings = MeshSettings(edge_length_mm=5.0, rv_edge_length_mm=3.4, septum_edge_length_mm=3.4)
    model, figures = build(read_label_map(TEMPLATES[2], HEART), HEART, settings)
    assert list(quality.failures(model, figures, settings)) == []
    assert edge_length(model, "lv") > 1.2 * edge_length(heart[0], "lv")
    for region in ("rv", "septum"):
        assert edge_length(model, region) == pytest.approx(edge_length(heart[0], region), rel=0.15)
    lv = [(m.region == REGIONS["lv"]).sum() for m in (model, heart[0])]
    assert lv[0] < 0.7 * lv[1]


def test_the_rv_wall_may_differ_by_thirds(heart):
    """Thick at the valves, thin at the apex; each third is held to its own, and the LV stays as it was."""
    settings = MeshSettings(
        edge_length_mm=3.4, rv_wall_mm=4.6, rv_wall_basal_mm=5.6, rv_wall_apical_mm=3.6, smoothing_mm=1.5
    )
    model, figures = build(read_label_map(TEMPLATES[2], HEART), HEART, settings)
    assert list(quality.failures(model, figures, settings)) == []
    for third, mm in (("basal", 5.6), ("mid", 4.6), ("apical", 3.6)):
        assert figures[f"rv_wall_{third}_mm"] == pytest.approx(mm, rel=0.1)
    uniform = heart[1]
    thirds = [uniform[f"rv_wall_{third}_mm"] for third in ("basal", "mid", "apical")]
    assert thirds == pytest.approx([COARSE.rv_wall_mm] * 3, rel=0.1)
    assert figures["lv_cavity_ml"] == pytest.approx(uniform["lv_cavity_ml"], rel=0.01)
    wrong = figures | {"rv_wall_apical_mm": 4.6}  # the median of all would not notice
    assert [reason for reason, _ in quality.failures(model, wrong, settings)] == ["rv_wall_apical_mm"]


SEGMENT_WALLS = {"basal_anterior": 6.5, "mid_lateral": 6.0, "apical_inferior": 3.6}


@pytest.fixture(scope="module")
def located(heart):
    """The heart of uniform walls with its coordinates."""
    return add_coordinates(heart[0])


def test_the_rv_wall_may_differ_by_segment(heart, located):
    """Three segments of their own: the mesh has them where its coordinates say, and the rest elsewhere."""
    walls = RvWallSegments(**SEGMENT_WALLS)
    settings = MeshSettings(edge_length_mm=3.4, rv_wall_mm=4.6, rv_wall_segments_mm=walls, smoothing_mm=1.5)
    model, figures = build(read_label_map(TEMPLATES[2], HEART), HEART, settings)
    assert list(quality.failures(model, figures, settings)) == []
    wanted = {name: SEGMENT_WALLS.get(name, 4.6) for name in settings.rv_segments_mm}
    for name, mm in wanted.items():
        assert figures[f"rv_wall_{name}_mm"] == pytest.approx(mm, rel=0.1), name
    assert figures["lv_cavity_ml"] == pytest.approx(heart[1]["lv_cavity_ml"], rel=0.01)

    # another measure, of other segments: lines through the tetrahedra, by the coordinates of the mesh. Beside
    # grooves and tip they are longer than the wall is thick, in both meshes. They are means: borders count
    uniform = segment_thickness(located, RIGHT)
    lines = segment_thickness(add_coordinates(model), RIGHT)
    for number, text in RIGHT.items():
        step = wanted[text.removeprefix("RV ").replace(" ", "_")] - COARSE.rv_wall_mm
        assert lines[number] - uniform[number] == pytest.approx(step, abs=0.35), text

    wrong = figures | {"rv_wall_mid_lateral_mm": 4.6}  # the median of its level would hardly notice
    assert [reason for reason, _ in quality.failures(model, wrong, settings)] == ["rv_wall_mid_lateral_mm"]


def test_segments_of_the_rv_wall_are_those_of_the_mesh(located):
    """Before there is a mesh, a node's segment is found as the finished mesh's coordinates have it."""
    model = located
    wall = domain(read_label_map(TEMPLATES[2], HEART), HEART, COARSE).wall
    nodes = np.setdiff1d(model.nodes_of("rv_endo"), model.tets[model.region != REGIONS["rv"]])
    rise, turn = wall.at(model.points_mm[nodes])
    fields = model.coordinates
    assert np.abs(rise - fields.node_apicobasal[nodes]).mean() < 0.03
    assert np.abs(turn - fields.node_rotational[nodes] / FREE_WALL).mean() < 0.03
    level, sector = wall.segments(model.points_mm[nodes])
    own = right_segments(fields.node_apicobasal[nodes], fields.node_rotational[nodes] / FREE_WALL) - 18
    assert (3 * level + sector == own).mean() > 0.9


def test_a_thick_wall_of_coarse_facets_is_opened_where_it_crosses_itself(monkeypatch):
    """T4: the rim of the LV passes through its other side, at the septum beside the base."""
    settings, label_map = (
        MeshSettings(rv_wall_mm=8.0, edge_length_mm=6.0),
        read_label_map(TEMPLATES[3], HEART),
    )
    muscle = domain(label_map, HEART, settings)
    monkeypatch.setattr(meshing_build, "domain", lambda *_: muscle)  # made once
    with pytest.raises(SubjectError, match=r"septum_edge_length_mm below 6") as caught:
        meshing_build._build(label_map, HEART, settings, crossings.check_crossings)
    assert caught.value.reason == crossings.REASON
    model, figures = meshing_build._build(label_map, HEART, settings, crossings.open_crossings)
    assert list(quality.failures(model, figures, settings)) == []
    assert figures["changes"].startswith("surface crossed itself: ")
    assert not len(crossings.crossings(model.points_mm, model.facets))
    assert figures["surface_distance_p95_mm"] < 1.0


def test_one_plane_keeps_less_than_two(heart):
    settings = replace(COARSE, base="one_plane", min_volume_kept=0.5)
    model, figures = build(read_label_map(TEMPLATES[2], HEART), HEART, settings)
    assert list(quality.failures(model, figures, settings)) == []
    assert (figures["base"], heart[1]["base"]) == ("one_plane", "two_planes")
    for kept in ("lv_volume_kept", "rv_volume_kept"):
        assert figures[kept] < heart[1][kept]
    # the rim of the LV, far from any grazing wall, lies in one plane to a third of a millimetre
    rim = model.points_mm[np.intersect1d(model.nodes_of("lv_endo"), model.nodes_of("base"))]
    assert (
        np.quantile(np.abs((rim - rim.mean(axis=0)) @ np.linalg.svd(rim - rim.mean(axis=0))[2][2]), 0.9) < 0.3
    )


def test_the_parts_of_a_mesh_are_timed(heart):
    parts = [heart[1][f"seconds_{name}"] for name in ("domain", "surface", "tetrahedra", "gates")]
    assert all(seconds > 0 for seconds in parts)


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[] if p == TEMPLATES[0] else pytest.mark.long) for p in TEMPLATES],
    ids=lambda p: p.name[:2],
)
def test_rims_lie_on_the_base_where_it_grazes_a_wall_too(path):
    """Of T1 the base comes within ten degrees of the RV's wall: its rim stays a bevel, near the base."""
    settings = MeshSettings()
    muscle = domain(read_label_map(path, HEART), HEART, settings)
    skin = surface(muscle, lambda points: np.full(len(points), settings.edge_length_mm))
    on = node_tags(skin.facets, skin.tag)
    for wall in ("epi", "lv_endo", "rv_endo"):
        rim = skin.points_mm[on[:, FACETS["base"]] & on[:, FACETS[wall]]]
        slope = np.linalg.norm(muscle.base.gradient(rim), axis=1)
        assert (np.abs(muscle.base(rim)) / slope).max() < 1.02 * FAR_FROM_BASE_MM
        # and on the wall, but for the few where that would be a knife's edge
        field = boundary_fields(muscle)[FACETS[wall]]
        from_wall = np.abs(field(rim)) / np.linalg.norm(field.gradient(rim), axis=1)
        assert np.quantile(from_wall, 0.9) < 0.5


def facets_of(model, tag):
    return np.flatnonzero(model.facet_tag == FACETS[tag])


def retag(model, index, tag):
    changed = model.facet_tag.copy()
    changed[index] = FACETS[tag]
    return replace(model, facet_tag=changed)


def inverted(model):
    tets = model.tets.copy()
    tets[7] = tets[7][[1, 0, 2, 3]]
    return replace(model, tets=tets)


def without_a_tet(model):
    inner = np.flatnonzero(~np.isin(model.tets, model.facets).any(axis=1))[0]
    return replace(model, tets=np.delete(model.tets, inner, 0), region=np.delete(model.region, inner))


def with_a_loose_node(model):
    return replace(model, points_mm=np.vstack([model.points_mm, [0.0, 0.0, 0.0]]))


def without_a_facet(model):
    return replace(model, facets=model.facets[1:], facet_tag=model.facet_tag[1:])


def with_a_facet_turned(model):
    facets = model.facets.copy()
    facets[11] = facets[11][::-1]
    return replace(model, facets=facets)


def with_an_island(model):
    epi = facets_of(model, "epi")
    apex = epi[model.points_mm[model.facets[epi]].mean(axis=1)[:, 2].argmin()]
    return retag(model, [apex], "lv_endo")


def with_the_base_bridged(model):
    """The base strip cut through: epicardium and endocardium meet."""
    centroids = model.points_mm[model.facets].mean(axis=1)
    base = facets_of(model, "base")
    lateral = base[np.argmax(np.linalg.norm(centroids[base] - centroids[base].mean(axis=0), axis=1))]
    near = base[np.linalg.norm(centroids[base] - centroids[lateral], axis=1) < 8]
    return retag(model, near, "epi")


def with_epi_in_the_septum(model):
    """The right side of the septum taken for epicardium, a classic mistake of tagging by normals."""
    septal = np.unique(model.tets[model.region == REGIONS["septum"]])
    right = facets_of(model, "rv_endo")
    return retag(model, right[np.isin(model.facets[right], septal).all(axis=1)], "epi")


def without_septum(model):
    return replace(model, region=np.where(model.region == REGIONS["septum"], REGIONS["lv"], model.region))


def with_a_tet_on(tag):
    """The facets around one tet of a wall taken for that wall, so that all its nodes lie on it."""

    def defect(model):
        wall = model.nodes_of(tag)
        touching = np.flatnonzero(np.isin(model.tets, wall).sum(axis=1) == 3)
        spanning = [t for t in touching if np.isin(model.tets[t], model.facets).all()]
        fourth = np.setdiff1d(model.tets[spanning[0]], wall)
        return retag(model, np.isin(model.facets, fourth).any(axis=1), tag)

    return defect


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        (inverted, "inverted tetrahedra"),
        (without_a_tet, "boundary not tagged once"),
        (with_a_loose_node, "unused nodes"),
        (without_a_facet, "boundary not tagged once"),
        (with_a_facet_turned, "facets not outward"),
        (with_an_island, "patches of a tag"),
        (with_the_base_bridged, "epicardium meets endocardium"),
        (with_epi_in_the_septum, "septum in epicardium"),
        (without_septum, "empty region"),
        *((with_a_tet_on(tag), "tet on one surface") for tag in FACETS),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_every_gate_sees_its_defect(heart, defect, reason):
    model, figures = heart
    broken = defect(model)
    assert reason in reasons(broken, figures)
    with pytest.raises(SubjectError):
        quality.check(broken, figures, COARSE)


def test_a_tunnel_through_the_wall_is_seen(heart):
    """Tets bored out from LV to RV, their walls tagged as endocardium: closed, but a torus."""
    model, figures = heart
    centroids = model.points_mm[model.tets].mean(axis=1)
    septal = model.region == REGIONS["septum"]
    middle = centroids[septal].mean(axis=0)
    sides = [model.points_mm[model.nodes_of(t)] for t in ("lv_endo", "rv_endo")]
    ends = [p[np.argmin(np.linalg.norm(p - middle, axis=1))] for p in sides]
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    aside = np.linalg.norm((centroids - middle) - ((centroids - middle) @ along)[:, None] * along, axis=1)
    keep = ~((aside < 5) & septal & (np.linalg.norm(centroids - middle, axis=1) < 25))
    facets, _ = boundary_facets(model.tets[keep])
    known = dict(zip(map(frozenset, model.facets.tolist()), model.facet_tag, strict=True))
    tag = np.array([known.get(frozenset(f), FACETS["lv_endo"]) for f in facets.tolist()])
    bored = replace(model, tets=model.tets[keep], region=model.region[keep], facets=facets, facet_tag=tag)
    found = reasons(bored, figures)
    assert {"Euler characteristic", "surface not closed"} & set(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_scaled_jacobian", 0.04), ("p1_scaled_jacobian", 0.19), ("lv_volume_kept", 0.8),
     ("rv_volume_kept", np.nan), ("rv_wall_mm", 2.9), ("rv_wall_mm", 4.1)],
)  # fmt: skip
def test_figures_beyond_their_bounds_are_refused(heart, name, value):
    model, figures = heart
    assert reasons(model, figures | {name: value}) == [name]


def test_fibres_of_a_heart_have_no_flip_across_the_septum(heart):
    """Face neighbours in the septum differ by no more than the angle turns over their distance."""
    model = add_fibres(heart[0], FibreAngles())
    base = np.isin(model.tets, model.nodes_of("base")).any(axis=1)
    index = np.flatnonzero((model.region == REGIONS["septum"]) & ~base)
    faces = np.sort(model.tets[index][:, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]], axis=2).reshape(-1, 3)
    order = np.lexsort(faces.T)
    same = (faces[order][1:] == faces[order][:-1]).all(axis=1)
    pairs = index[np.stack([order[1:][same], order[:-1][same]], 1) // 4]
    f0 = model.microstructure.f0
    turn = np.degrees(np.arccos(np.clip(np.abs(np.sum(f0[pairs[:, 0]] * f0[pairs[:, 1]], axis=1)), 0, 1)))
    assert len(pairs) > 5000
    assert np.quantile(turn, 0.99) < 45
    assert (turn > 75).mean() < 0.002


def test_a_subject_is_written_whole_and_reused(heart, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(mesh_subject, "build", lambda *args: calls.append(1) or heart)
    row = {"subject": "a-00001", "file": "map.nii.gz"}
    source = tmp_path / "map.nii.gz"
    source.write_bytes(TEMPLATES[2].read_bytes())
    row |= {"size": source.stat().st_size, "sha256": artifacts.sha256(source)}
    task = mesh_subject.task(row, tmp_path, HEART, COARSE, FibreAngles(), "digest")
    folder = tmp_path / "meshes"

    def run():
        return mesh_subject.table_row(batch_runner.run_batch(folder, [task], mesh_subject.mesh_subject)[0])

    first = run()
    assert first["verdict"] == "accepted"
    surface = folder / first["surface_file"]
    for path, key in ((folder / first["file"], ""), (surface, "surface_")):
        assert (path.stat().st_size, artifacts.sha256(path)) == (first[f"{key}size"], first[f"{key}sha256"])
    assert storage.read_model(folder / first["file"], surface).microstructure is not None
    assert run() == first
    assert len(calls) == 1
    surface.write_bytes(surface.read_bytes()[:100])  # half a file is no file
    again = run()
    assert len(calls) == 2
    assert (again["sha256"], again["surface_sha256"]) == (first["sha256"], first["surface_sha256"])

    def refuse(*args):
        raise SubjectError("mesh gate: rv_wall_mm", "2 mm")

    monkeypatch.setattr(mesh_subject, "build", refuse)
    surface.unlink()
    refused = run()
    assert (refused["verdict"], refused["reason"]) == ("rejected", "mesh gate: rv_wall_mm")
    assert refused["detail"] == "2 mm"
    assert refused["file"] == refused["surface_file"] == ""
    assert not [p for p in folder.iterdir() if p.suffix in (".vtu", ".vtp")]


def test_a_changed_label_map_is_not_meshed(tmp_path):
    source = tmp_path / "map.nii.gz"
    source.write_bytes(TEMPLATES[2].read_bytes())
    row = {"subject": "a", "file": source.name, "size": source.stat().st_size, "sha256": "0" * 64}
    task = mesh_subject.task(row, tmp_path, HEART, COARSE, FibreAngles(), "digest")
    with pytest.raises(InputError, match=r"map\.nii\.gz: changed"):
        mesh_subject.mesh_subject(tmp_path / task.file, task.payload)


@pytest.mark.long
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name[:2])
def test_every_template_passes_at_the_default_size(path):
    model, figures = build(read_label_map(path, HEART), HEART, MeshSettings())
    assert list(quality.failures(model, figures, MeshSettings())) == []
    assert figures["rim_distance_mm"] <= 0.5


@pytest.mark.long
def test_a_heart_at_the_edge_of_its_field_and_on_3_mm_voxels(heart):
    whole = read_label_map(TEMPLATES[2], HEART)
    ventricles = np.isin(
        whole.labels, [HEART.label(s) for s in ("myocardium", "left_ventricle", "right_ventricle")]
    )
    index = np.argwhere(ventricles)
    low, high = index.min(axis=0), index.max(axis=0) + 3
    affine = whole.affine.copy()
    affine[:3, 3] += low * 2.0
    cut = LabelMap(whole.labels[tuple(map(slice, low, high))], affine)
    _, figures = build(cut, HEART, COARSE)
    assert figures["lv_cavity_ml"] == pytest.approx(heart[1]["lv_cavity_ml"], rel=0.02)
    steps = np.rint(np.arange(0, 79.5, 1.5)).astype(int)
    coarse = LabelMap(whole.labels[np.ix_(steps, steps, steps)], np.diag([3.0, 3, 3, 1]) + _origin(whole))
    _, figures = build(coarse, HEART, COARSE)
    assert figures["lv_cavity_ml"] == pytest.approx(heart[1]["lv_cavity_ml"], rel=0.1)


def _origin(label_map):
    shift = np.zeros((4, 4))
    shift[:3, 3] = label_map.affine[:3, 3]
    return shift
