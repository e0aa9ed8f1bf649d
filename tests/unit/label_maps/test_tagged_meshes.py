"""Four-chamber meshes to masks and label maps: known volumes, openings, units, and files that are no mesh."""

import base64
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.label_maps.cases import find_cases, mesh_sources, source_files
from cardiocohort.label_maps.mesh_files import TaggedMesh, points_mm, read_mesh
from cardiocohort.label_maps.mesh_masks import STEP_MM, MeshRoute, blocked, masks_of_mesh, voxelised
from cardiocohort.label_maps.mesh_tags import Tag, load_tags
from cardiocohort.label_maps.scans import case_tasks, make_label_map, open_standard
from cardiocohort.mesh.tetrahedron_geometry import signed_volumes
from cardiocohort.runtime import batch_runner
from cardiocohort.runtime.errors import InputError
from heart_anatomy import CONVENTION, HEART, HEART_GRID, RESOURCES
from tagged_meshes import KUHN, LA, LV, RA, RV, TAGS, chamber_ml, cup, disc, four_chambers, joined, write

TABLES = sorted((RESOURCES / "segmentations").glob("tags_*.tsv"))
PAIR = tuple(tag for tag in TAGS if tag.tag in (1, 3, 7))


def masks(path, tags=TAGS, **route):
    return masks_of_mesh(path, MeshRoute(path.name, tags, **route), HEART)


@pytest.fixture(scope="module")
def small():
    """A cup and its lid: the least that is a mesh."""
    return joined([(1, cup((0.0, 0, 0), 30, 1)), (7, disc((0.0, 0, 30), 20))])


# ---- blood pools


@pytest.mark.parametrize("without", [(), (7, 8)], ids=["lids", "no lids"])
def test_pools_have_their_analytic_volumes(tmp_path, without):
    path = write(tmp_path / "heart.vtk", *four_chambers(without))
    found, remarks, reasons = masks(path)
    assert reasons == ()
    known = {LV: chamber_ml(24), LA: chamber_ml(24), RV: chamber_ml(26), RA: chamber_ml(26)}
    known["aorta"] = np.pi * 12**2 * 40 / 1000
    for name, ml in known.items():
        assert found[name].volume_ml == pytest.approx(ml, rel=0.03 if without else 0.02), name
    assert found.keys() == known.keys() | {"myocardium"}
    closed = [line.split()[0] for line in remarks if "closed by planes" in line]
    assert closed == (["aorta"] if not without else [LV, RV, LA, RA, "aorta"])


def test_tissue_keeps_its_volume_wherever_the_voxels_lie():
    points, tets, tags = joined([(1, cup((0.0, 0, 0), 24, 1))])
    none = np.empty((0, 3), int)
    for offset in (0.0, 0.13, 0.4):
        mesh = TaggedMesh(points + offset, tets, tags, none, none[:, 0])
        solid, _ = voxelised(mesh.points, mesh, {1: 1}, set())
        ml = np.count_nonzero(solid) * STEP_MM**3
        assert ml == pytest.approx(np.abs(signed_volumes(points, tets)).sum(), rel=0.005)


def test_a_pierced_wall_is_refused_with_its_place(tmp_path):
    height = 30 * np.cos(np.radians(35))
    points, tets, tags = joined(
        [(1, cup((0, 0, -height), 30, 1)), (3, cup((0, 0, height), 30, -1)), (7, disc((0, 0, 0), 19))]
    )
    hole = np.array([31.5, 0, -height])
    far = np.linalg.norm(points[tets].mean(axis=1) - hole, axis=1) > 7
    path = write(tmp_path / "heart.elem", points, tets[far], tags[far], "um")
    found, _, reasons = masks(path, PAIR)
    assert found.keys() == {"myocardium", LA}  # the atrium is as it was
    (reason,) = reasons
    assert re.match(r"open: left_ventricle is not closed by its walls and tag 7 \(mitral valve\)", reason)
    place = np.array(re.search(r"\((-?\d+), (-?\d+), (-?\d+)\)", reason).groups(), float)
    assert np.linalg.norm(place - hole) <= 4


def test_a_lid_of_another_numbering_is_refused(tmp_path):
    """The table calls a lid the tricuspid valve, which lies between ventricle and atrium of the left."""
    tags = tuple(Tag(7, "lid", "lid", (LV, RV)) if tag.tag == 7 else tag for tag in TAGS)
    _, _, reasons = masks(write(tmp_path / "heart.vtu", *four_chambers((5, 9))), tags)
    assert "tag 7 (lid) does not touch right_ventricle: is it the right table of tags?" in reasons


def test_half_of_all_directions_are_blocked_in_a_plane_opening():
    slab = np.ones((41, 41, 21), bool)
    slab[3:-3, 3:-3, 3:] = False  # a box without a roof
    share = blocked(slab)
    assert share[20, 20, 20] >= 0.5
    assert share[20, 20, 10] > 0.6
    wide = np.pad(slab, ((0, 0), (0, 0), (0, 6)))
    assert blocked(wide)[20, 20, 22] < 0.5  # above the rim


# ---- files


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.elem", {"unit": "um"}),
        ("a.vtk", {}),
        ("a.vtk", {"text": True, "unit": "um"}),
        ("a.vtu", {"big": True}),
        ("a.vtu", {"unit": "cm"}),
        ("a.vtu", {"text": True, "unit": "m"}),
    ],
)
def test_every_format_and_unit_gives_the_same_mesh(tmp_path, small, name, options):
    path = write(tmp_path / name, *small, **options)
    mesh = read_mesh(path, [])
    points, unit = points_mm(mesh, path, "auto", "RAS")
    assert unit == options.get("unit", "mm")
    np.testing.assert_allclose(points, small[0], atol=1e-4)
    np.testing.assert_array_equal(mesh.tets, small[1])
    np.testing.assert_array_equal(mesh.tags, small[2])
    turned, _ = points_mm(mesh, path, unit, "PSL")
    np.testing.assert_allclose(turned, small[0][:, [2, 0, 1]] * [-1, -1, 1], atol=1e-4)


def test_a_wrong_unit_names_the_key(tmp_path, small):
    path = write(tmp_path / "a.vtu", *small, unit="um")
    with pytest.raises(InputError, match=r"a\.vtu: .*looks like um \(config key 'segmentations.mesh.unit'"):
        points_mm(read_mesh(path, []), path, "mm", "RAS")
    tiny = write(tmp_path / "b.vtu", small[0] * 0.6, *small[1:])
    with pytest.raises(InputError, match="no unit of um, mm, cm, m makes that a heart"):
        points_mm(read_mesh(tiny, []), tiny, "auto", "RAS")


def edited(path: Path, line: int, text: str | None) -> None:
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("suffix", "line", "text", "message"),
    [
        (".elem", 1, "many", r"a\.elem, line 1: 'many'; expected the number of lines"),
        (
            ".elem",
            1,
            "99999999999",
            r"a\.elem, line 1: 99999999999 lines are announced, the file is too short",
        ),
        (".elem", 1, "9000", r"a\.elem: \d+ lines after the first, which announces 9000"),
        (".elem", 9, None, r"a\.elem: \d+ lines after the first, which announces"),
        (".elem", 9, "", r"a\.elem, line 9: it is empty"),
        (".elem", 9, "Tt 1 2 3 4", r"a\.elem, line 9: 'Tt 1 2 3 4'; expected 'Tt', four indices"),
        (".elem", 9, "Hx 1 2 3 4 1", r"a\.elem, line 9: 'Hx 1 2 3 4 1'"),
        (".elem", 9, "Tt 1 2 3 4 1.5", r"a\.elem, line 9: 'Tt 1 2 3 4 1.5'"),
        (".elem", 9, "Tt 1 2 3 99999999999999999999 1", r"a\.elem, line 9: 'Tt 1 2 3 9999"),
        (
            ".elem",
            9,
            "Tt 1 2 3 999999 1",
            r"a\.elem: element 7 has the points \[1, 2, 3, 999999\]; allowed",
        ),
        (".elem", 9, "Tt 1 2 3 -1 1", r"a\.elem: element 7 has the points \[1, 2, 3, -1\]"),
        (".pts", 12, "1 2", r"a\.pts, line 12: '1 2'; expected three numbers"),
        (".pts", 12, "1 2 x", r"a\.pts, line 12: '1 2 x'"),
        (".pts", 12, "1 nan 2", r"a\.elem: point 10 is not a number"),
        (".pts", 12, "1 inf 2", r"a\.elem: point 10 is not a number"),
    ],
)
def test_a_wrong_line_of_open_carp_is_named(tmp_path, small, suffix, line, text, message):
    path = write(tmp_path / "a.elem", *small)
    edited(path.with_suffix(suffix), line, text)
    with pytest.raises(InputError, match=message):
        read_mesh(path, [])


def test_points_that_are_missing_are_named(tmp_path, small):
    path = write(tmp_path / "a.elem", *small)
    path.with_suffix(".pts").unlink()
    with pytest.raises(InputError, match=r"a\.elem: its points are missing; expected the file a\.pts"):
        read_mesh(path, [])


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.vtk", {}), ("a.vtk", {"text": True}), ("a.vtu", {}), ("a.vtu", {"text": True}), ("a.elem", {})],
)
def test_a_file_that_ends_early_is_refused_wherever_it_ends(tmp_path, small, name, options):
    path = write(tmp_path / name, *small, **options)
    whole = path.read_bytes()
    for share in (0.01, 0.5, 0.97):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=re.escape(name)):
            read_mesh(path, [])


def test_a_count_that_no_file_holds_is_refused_before_memory_is_taken(tmp_path, small):
    path = write(tmp_path / "a.vtk", *small, text=True)
    path.write_bytes(re.sub(rb"POINTS \d+", b"POINTS 99999999999", path.read_bytes()))
    with pytest.raises(InputError, match=r"a\.vtk, line 5: 99999999999 points or cells in a file of"):
        read_mesh(path, [])
    path = write(tmp_path / "a.vtu", *small)
    path.write_bytes(re.sub(rb'NumberOfCells="\d+"', b'NumberOfCells="99999999999"', path.read_bytes()))
    with pytest.raises(InputError, match=r"a\.vtu, line \d+: 99999999999 points or cells"):
        read_mesh(path, [])


def test_a_file_that_ends_the_process_of_vtk_is_refused(tmp_path, small):
    """Blocks of compressed data that claim to be endless: VTK asks for all memory and aborts."""
    path = write(tmp_path / "a.vtu", *small)
    endless = base64.b64encode(struct.pack("<5I", 0x7FFFFFFF, 0xFFFFFFFF, 0, 73, 59))
    damaged, count = re.subn(rb"_[\w+/=]{28}", b"_" + endless, path.read_bytes(), count=1)
    assert count == 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.vtu: VTK reads no whole unstructured grid in it"):
        read_mesh(path, [])


def test_points_and_tags_that_are_none_are_refused(tmp_path, small):
    points, tets, tags = small
    broken = points.copy()
    broken[7, 1] = np.nan
    with pytest.raises(InputError, match=r"a\.vtu: point 7 is not a number"):
        read_mesh(write(tmp_path / "a.vtu", broken, tets, tags), [])
    wild = tets.copy()
    wild[5, 2] = len(points)
    with pytest.raises(InputError, match=r"b\.vtk: element 5 has the points"):
        read_mesh(write(tmp_path / "b.vtk", points, wild, tags), [])
    with pytest.raises(InputError, match=r"c\.vtu: the array 'ID' has no whole numbers \(1\.5\)"):
        read_mesh(write(tmp_path / "c.vtu", points, tets, tags + 0.5), [])
    with pytest.raises(InputError, match=r"c\.vtu: it has no cell array 'tags'; name one of 'ID'"):
        read_mesh(tmp_path / "c.vtu", ["tags"])
    path = write(tmp_path / "d.vtu", points, tets, np.where(tags == 7, 33, tags))
    with pytest.raises(InputError, match=r"d\.vtu: the tag 33 of \d+ tetrahedra is not in the table of tags"):
        masks(path)


# ---- tables and cases


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_shipped_tables_close_every_chamber(table):
    tags = load_tags(table, HEART)
    assert [t.structures[0] for t in tags[:6]] == [LV, RV, LA, RA, "aorta", "pulmonary_artery"]
    assert [t.tag for t in tags] == list(range(1, len(tags) + 1))
    lids = [t.structures for t in tags if t.role == "lid"]
    assert {(LV, LA), (RV, RA), (LV, "aorta"), (RV, "pulmonary_artery")} <= set(lids)
    assert lids.count((RA,)) == 2
    assert lids.count((LA,)) >= 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x\tLV\twall\tleft_ventricle\t", "line 3, column 'tag': 'x'"),
        ("1\tLV\twall\tleft_ventricle\t", "line 3, column 'tag': '1'; allowed: a tag that no row before has"),
        ("2\tLV\tskin\tleft_ventricle\t", "line 3, column 'role': 'skin'; allowed: one of wall, tube, lid"),
        ("2\tLV\twall\tliver\t", "line 3, column 'structures': 'liver'"),
        ("2\tLV\twall\tleft_ventricle,aorta\t", "line 3, column 'structures'"),
        ("2\tLV\twall\tleft_ventricle\tliver", "line 3, column 'tissue': 'liver'"),
    ],
)
def test_a_wrong_row_of_a_table_is_named(tmp_path, row, message):
    path = tmp_path / "tags.tsv"
    path.write_text(f"tag\tpart\trole\tstructures\ttissue\n1\tLV\twall\tleft_ventricle\tmyocardium\n{row}\n")
    with pytest.raises(InputError, match=message):
        load_tags(path, HEART)


def test_cases_of_meshes_lie_in_one_folder_or_in_one_each(tmp_path):
    for name in ("c1.elem", "c1.pts", "c2.elem", "notes.txt"):
        (tmp_path / name).touch()
    sources = mesh_sources("{case}.elem", HEART.structures)
    cases = find_cases(tmp_path, sources.values())
    assert [case.name for case in cases] == ["c1", "c2"]
    assert [path.name for path in source_files(cases[0], sources)] == ["c1.elem", "c1.pts"]
    assert [path.name for path in source_files(cases[1], sources)] == ["c2.elem"]
    for bad in ("heart.stl", "../a.vtk", "a.vtk:1"):
        with pytest.raises(InputError, match=r"segmentations\.mesh\.file"):
            mesh_sources(bad, HEART.structures)


def template_mesh():
    """Template T2 as cubes of tets: walls around its chambers and aorta, lids where they touch each other."""
    labels = read_label_map(RESOURCES / "templates/T2_rodero2021_case01.nii.gz", HEART).labels
    labels = np.pad(labels, 3)
    k = {name: HEART.label(name) for name in HEART.structures}
    cube = np.ones((3, 3, 3), bool)
    tissue = np.zeros(labels.shape, np.int64)
    for tag, name in ((5, "aorta"), (4, RA), (3, LA), (2, RV), (1, LV)):
        tissue[ndimage.binary_dilation(labels == k[name], cube) & (labels == 0)] = tag
    vessels = np.isin(labels, [k[name] for name in HEART.structures[6:]])
    tissue[ndimage.binary_dilation(labels == k["aorta"], cube) & vessels] = 5
    tissue[labels == k["myocardium"]] = 1
    # without a wall between them
    pairs = {
        (LA, RA): 13,
        (LA, "aorta"): 14,
        (LA, "superior_vena_cava"): 10,
        (RA, "aorta"): 15,
        (RV, "aorta"): 16,
    }
    pairs |= {(LV, LA): 7, (RV, RA): 8, (LV, "aorta"): 9, (LA, "pulmonary_vein"): 10}
    pairs |= {(RA, "superior_vena_cava"): 11, (RA, "inferior_vena_cava"): 11, (RV, "pulmonary_artery"): 12}
    for (one, other), tag in pairs.items():
        a, b = labels == k[one], labels == k[other]
        tissue[a & ndimage.binary_dilation(b, cube) | b & ndimage.binary_dilation(a, cube)] = tag
    voxels = np.argwhere(tissue)
    corners = np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)])
    shape = np.array(tissue.shape) + 1
    nodes = np.ravel_multi_index(tuple((voxels[:, None] + corners).reshape(-1, 3).T), shape).reshape(-1, 8)
    used, tets = np.unique(nodes[:, KUHN].reshape(-1, 4), return_inverse=True)
    points = (np.array(np.unravel_index(used, shape)).T - 40.0) * 2
    return labels, (points, tets.reshape(-1, 4), np.repeat(tissue[tuple(voxels.T)], 6))


def test_a_heart_comes_back_from_its_mesh_and_a_wrong_axis_is_seen(tmp_path):
    """Template T2 as a mesh in LPS: right with `axes` LPS, refused as mirrored with RPS."""
    labels, (points, tets, tags) = template_mesh()
    (tmp_path / "in").mkdir()
    write(tmp_path / "in/c1.vtu", points * [-1, -1, 1], tets, tags, "um")
    sources = mesh_sources("{case}.vtu", HEART.structures)
    rows = {tag.tag: tag for tag in TAGS} | {5: Tag(5, "aorta", "wall", ("aorta",))}
    lids = {
        9: (LV, "aorta"),
        12: (RV,),
        13: (LA, RA),
        14: (LA, "aorta"),
        15: (RA, "aorta"),
        16: (RV, "aorta"),
    }
    rows |= {tag: Tag(tag, "lid", "lid", of) for tag, of in lids.items()}
    records = {}
    for axes in ("LPS", "RPS"):
        route = MeshRoute("{case}.vtu", tuple(rows.values()), axes=axes)
        (records[axes],) = batch_runner.run_batch(
            tmp_path / axes, case_tasks(find_cases(tmp_path / "in", sources.values()), sources, (), axes),
            make_label_map, initializer=open_standard,
            initargs=(HEART, HEART_GRID, RESOURCES / "anatomies/heart/topology.tsv", None, CONVENTION, route),
        )  # fmt: skip
    record = records["LPS"]
    assert record["verdict"] == "accepted", record["reason"]
    assert "mesh in um, by the heart's size" in record["changes"]
    for name in HEART.structures[:6]:
        label = HEART.label(name)
        found = record["volumes_ml"][label - 1]
        assert found == pytest.approx((labels == label).sum() * 0.008, rel=0.01), name
    assert records["RPS"]["verdict"] == "rejected"
    assert "mirrored" in records["RPS"]["reason"]
    assert "config key 'segmentations.mesh.axes'" in records["RPS"]["reason"]
