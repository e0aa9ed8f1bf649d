"""Exporters: what is written reads back, by readers that are not ours or follow the format's rules alone."""

import tarfile
from dataclasses import fields, replace
from pathlib import Path

import meshio
import numpy as np
import pytest
import pyvista
from hypothesis import given

from cardiocohort import exporters
from cardiocohort.exporters import Deck
from cardiocohort.mechanics.decks import DeckSettings
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.mesh.model import FACETS
from cardiocohort.mesh.storage import read_model, write_surface, write_volume
from cardiocohort.runtime import artifacts
from cardiocohort.runtime.errors import InputError, SubjectError
from deck_records import installed
from decks import RANDOM, many, models
from small_meshes import box

FORMATS = ["calculix", "febio", "fenicsx", "opencarp", "surfaces", "svmultiphysics", "vtu"]


def export(name, model, tmp_path_factory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("deck")
    return folder, exporters.writer(name)(model, folder, Mechanics())


def stored(folder: Path, model) -> list[tuple[str, int, str]]:
    """The model's mesh files as a table lists them: path, size and sha256."""
    paths = [folder / "a.vtu", folder / "a.vtp"]
    write_volume(paths[0], model)
    write_surface(paths[1], model)
    return [(str(path), path.stat().st_size, artifacts.sha256(path)) for path in paths]


def test_the_formats_there_are():
    assert list(exporters.available()) == FORMATS


def test_an_unknown_format_is_named_with_those_there_are():
    with pytest.raises(InputError, match=f"'febio4'.*allowed: {', '.join(FORMATS)}"):
        exporters.writer("febio4")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'vtu'"):
        exporters.register("vtu")(lambda model, folder, mechanics, deck: [])


@pytest.mark.parametrize("name", FORMATS)
def test_every_file_is_listed_and_the_readme_says_how_to_run_it(name, tmp_path_factory):
    folder, written = export(name, box(), tmp_path_factory)
    assert sorted(written) == sorted(path for path in folder.rglob("*") if path.is_file())
    assert written[-1].name == "README.txt"
    assert "Run with: " in written[-1].read_text() or name in ("vtu", "surfaces")


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_model_gives_the_same_deck(name, tmp_path_factory):
    one, two = (export(name, box(), tmp_path_factory)[0] for _ in range(2))
    digests = [
        {path.relative_to(folder): artifacts.sha256(path) for path in folder.rglob("*") if path.is_file()}
        for folder in (one, two)
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["febio", "fenicsx", "svmultiphysics"])
def test_a_fibre_law_needs_fibres(name, tmp_path):
    without = replace(box(), microstructure=None)
    with pytest.raises(SubjectError, match="holzapfel_ogden"):
        exporters.writer(name)(without, tmp_path, Mechanics())
    assert exporters.writer(name)(without, tmp_path, Mechanics(material="neo_hooke"))


@many
@given(model=models)
def test_vtu_reads_back_with_meshio(model, tmp_path_factory, deck_record):
    folder, _ = export("vtu", model, tmp_path_factory)
    mesh = meshio.read(folder / "mesh.vtu")
    assert np.array_equal(mesh.points, model.points_mm)
    assert [block.type for block in mesh.cells] == ["tetra"]
    assert np.array_equal(mesh.cells[0].data, model.tets)
    assert np.array_equal(mesh.cell_data["region"][0], model.region)
    for name in ("f0", "s0", "n0"):
        assert np.allclose(mesh.cell_data[name][0], getattr(model.microstructure, name), atol=1e-7)
        assert np.allclose(mesh.point_data[name], getattr(model.microstructure, f"node_{name}"), atol=1e-7)
    axes = {name: getattr(model.microstructure, name) for name in ("f0", "s0", "n0")}
    deck_record.read(
        "vtu", *installed("meshio"), deck=RANDOM, quantity="fibres, sheets, normals", bound=1e-6,
        found=max(np.abs(mesh.cell_data[name][0] - written).max() for name, written in axes.items()),
    )  # fmt: skip
    for arrays, expected in (
        ({name: values[0] for name, values in mesh.cell_data.items()}, model.coordinates.on_tets()),
        (mesh.point_data, model.coordinates.on_nodes()),
    ):
        for name, values in expected.items():
            assert np.allclose(arrays[name], values, rtol=1e-6, atol=1e-6)
        turn = np.arctan2(arrays["rotational_sin"], arrays["rotational_cos"]) / (2 * np.pi)
        assert np.allclose((turn - arrays["rotational"] + 0.5) % 1, 0.5, atol=1e-5)
    surface = pyvista.read(folder / "surface.vtp")
    assert np.array_equal(surface["node"][surface.regular_faces], model.facets)
    assert np.array_equal(surface.points, model.points_mm[surface["node"]])
    assert np.array_equal(surface.cell_data["facet"], model.facet_tag)
    deck_record.read(
        "vtu", *installed("pyvista"), deck=RANDOM, quantity="nodes of the surface", unit="mm", bound=0,
        found=np.abs(surface.points - model.points_mm[surface["node"]]).max(),
    )  # fmt: skip


def test_surfaces_enclose_the_wall_and_meet(tmp_path_factory, deck_record):
    model = box()
    folder, _ = export("surfaces", model, tmp_path_factory)
    wall = pyvista.read(folder / "wall.stl")
    assert wall.is_manifold
    deck_record.read(
        "surfaces", *installed("pyvista"), deck="a block", quantity="volume in wall.stl", unit="%",
        found=100 * abs(wall.volume / model.tet_volumes_mm3.sum() - 1), bound=1e-4,
    )  # fmt: skip
    parts = [pyvista.read(folder / f"{name}.stl") for name in FACETS]
    assert sum(part.n_cells for part in parts) == wall.n_cells
    assert sum(part.area for part in parts) == pytest.approx(wall.area)
    scene = pyvista.read(folder / "heart.glb").combine().extract_surface(algorithm=None)
    assert scene.area == pytest.approx(1e-6 * wall.area, rel=1e-5)


@many
@given(model=models)
def test_the_stored_mesh_is_the_model(model, tmp_path_factory):
    volume, surface = (path for path, *_ in stored(tmp_path_factory.mktemp("mesh"), model))
    back = read_model(volume, surface)
    for name in ("points_mm", "tets", "region", "facets", "facet_tag"):
        assert np.array_equal(getattr(back, name), getattr(model, name))
    for name in (f.name for f in fields(model.coordinates)):
        assert np.allclose(getattr(back.coordinates, name), getattr(model.coordinates, name), rtol=1e-6)
    assert back.coordinates.aha.dtype.kind == back.coordinates.transventricular.dtype.kind == "i"
    assert back.provenance == model.provenance
    assert back.units == "mm"


def test_a_mesh_without_fibres_and_coordinates_is_read_without(tmp_path):
    stored(tmp_path, replace(box(), microstructure=None, coordinates=None))
    back = read_model(tmp_path / "a.vtu", tmp_path / "a.vtp")
    assert back.microstructure is back.coordinates is None


def test_coordinates_of_another_mesh_are_refused():
    with pytest.raises(ValueError, match=r"coordinates\.apicobasal"):
        replace(box(), coordinates=box((2, 2, 2)).coordinates)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    assert stored(tmp_path, box()) == stored(tmp_path, box())


def test_another_vtk_file_is_no_mesh_of_ours(tmp_path):
    pyvista.Sphere().save(tmp_path / "a.vtp")
    pyvista.ImageData(dimensions=(2, 2, 2)).cast_to_unstructured_grid().save(tmp_path / "a.vtu")
    with pytest.raises(InputError, match=r"a\.vtu"):
        read_model(tmp_path / "a.vtu", tmp_path / "a.vtp")
    with pytest.raises(InputError, match="no such mesh"):
        read_model(tmp_path / "b.vtu", tmp_path / "a.vtp")


@pytest.mark.parametrize("name", FORMATS)
def test_an_archive_has_the_deck_to_the_byte(name, tmp_path):
    listed, packed = stored(tmp_path, box()), Deck(settings=DeckSettings(archive=True))
    plain = tmp_path / "batch" / "one" / name / "README.txt"
    exporters.write_deck(plain, (name, *listed, Mechanics(), Deck()))
    expected = {
        path.relative_to(plain.parent).as_posix(): path.read_bytes()
        for path in plain.parent.rglob("*")
        if path.is_file()
    }
    archives = []
    for subject in ("two", "three"):
        readme = tmp_path / "batch" / subject / name / "README.txt"
        record = exporters.write_deck(readme, (name, *listed, Mechanics(), packed))
        there = [path.relative_to(readme.parents[2]).as_posix() for path in readme.parent.iterdir()]
        assert sorted(there) == sorted([*record["files"], f"{subject}/{name}/README.txt"])
        if name == "vtu":  # second names of the mesh's own files
            assert (readme.parent / "mesh.vtu").samefile(listed[0][0])
            continue
        assert record["files"] == [f"{subject}/{name}/deck.tar.gz"]
        archives.append((readme.parent / "deck.tar.gz").read_bytes())
        text = readme.read_text()
        assert text == expected["README.txt"].decode() + text.splitlines(keepends=True)[-1]
        with tarfile.open(readme.parent / "deck.tar.gz") as tar:
            tar.extractall(readme.parent, filter="data")
        (readme.parent / "deck.tar.gz").unlink()
        for path, content in expected.items():
            assert path == "README.txt" or (readme.parent / path).read_bytes() == content
        assert sum(path.is_file() for path in readme.parent.rglob("*")) == len(expected)
    assert archives[:1] == archives[1:]


def rows(path: Path, heads: int) -> tuple[list[str], list[list[str]]]:
    """Header lines and rows of an openCARP text file, which must end with a newline and have no blanks."""
    text = path.read_text(encoding="ascii")
    assert text.endswith("\n")
    assert "\n\n" not in text
    lines = text.splitlines()
    return lines[:heads], [line.split(" ") for line in lines[heads:]]


def read_counted(path: Path, word: str | None, n: int) -> np.ndarray:
    (head,), body = rows(path, 1)
    assert int(head) == len(body)
    if word:
        assert {row[0] for row in body} <= {word}
        body = [row[1:] for row in body]
    assert {len(row) for row in body} <= {n}
    return np.array(body, dtype=float).reshape(-1, n)


@many
@given(model=models)
def test_opencarp_reads_back_by_the_rules_of_the_format(model, tmp_path_factory, deck_record):
    folder, _ = export("opencarp", model, tmp_path_factory)
    points = read_counted(folder / "heart.pts", None, 3)
    deck_record.read(
        "opencarp", "reader after the manual", "", deck=RANDOM, quantity="nodes", unit="µm",
        found=np.abs(points - model.points_mm * 1000).max(), bound=1e-3,
    )  # fmt: skip
    elements = read_counted(folder / "heart.elem", "Tt", 5).astype(int)
    assert np.array_equal(elements, np.column_stack([model.tets, model.region]))
    assert elements[:, :4].min() == 0
    (fibres,), lon = rows(folder / "heart.lon", 1)
    lon = np.array(lon, dtype=float)
    assert fibres == "2"
    assert lon.shape == (len(elements), 6)
    axes = np.hstack([model.microstructure.f0, model.microstructure.s0])
    deck_record.read(
        "opencarp", "reader after the manual", "", deck=RANDOM, quantity="fibres and sheets",
        found=np.abs(lon - axes).max(), bound=1e-6,
    )  # fmt: skip
    read = {}
    for name in ("epi", "base", "lvendo", "rvendo", "rvsept", "rvendo_nosept"):
        read[name] = read_counted(folder / f"heart.{name}.surf", "Tr", 3).astype(int)
        (count, domain), nodes = rows(folder / f"heart.{name}.vtx", 2)
        assert int(count) == len(nodes)
        assert domain == "intra"
        assert [int(n) for (n,) in nodes] == np.unique(read[name]).tolist()
    for name, tag in {"epi": "epi", "base": "base", "lvendo": "lv_endo", "rvendo": "rv_endo"}.items():
        assert np.array_equal(read[name], model.facets[model.facet_tag == FACETS[tag]])
    parts = np.concatenate([read["rvsept"], read["rvendo_nosept"]])
    assert sorted(map(tuple, parts)) == sorted(map(tuple, read["rvendo"]))
    of_facet = {
        frozenset(t) - {n}: r for t, r in zip(model.tets.tolist(), model.region, strict=True) for n in t
    }
    owner = {f: of_facet[frozenset(f)] for f in map(tuple, read["rvendo"].tolist())}
    assert {owner[tuple(f)] for f in read["rvsept"].tolist()} <= {3}
    assert 3 not in {owner[tuple(f)] for f in read["rvendo_nosept"].tolist()}


@many
@given(model=models)
def test_opencarp_has_coordinates_on_nodes_segments_on_elements(model, tmp_path_factory):
    folder, _ = export("opencarp", model, tmp_path_factory)
    expected = model.coordinates.on_nodes() | {"aha": model.coordinates.aha}
    named = [f"uvc_{name}" for name in ("z", "rho", "phi", "ven")]
    there = sorted(p.name for p in folder.glob("*.dat"))
    assert there == sorted(f"heart.{name}.dat" for name in [*expected, *named])
    for name in named:
        _, lines = rows(folder / f"heart.{name}.dat", 0)
        assert len(lines) == len(model.points_mm), "one value per node"
    for name, values in expected.items():
        _, lines = rows(folder / f"heart.{name}.dat", 0)
        assert np.allclose([float(value) for (value,) in lines], values, atol=1e-6)


def test_opencarp_without_fibres_has_no_lon_fields_and_run(tmp_path_factory):
    folder, _ = export("opencarp", replace(box(), microstructure=None, coordinates=None), tmp_path_factory)
    left = [path.name for ending in ("lon", "dat", "par") for path in folder.glob(f"*.{ending}")]
    assert not left + list(folder.glob("*stimulus*"))


@many
@given(model=models)
def test_opencarp_activates_small_patches_of_the_named_endocardium(model, tmp_path_factory):
    folder, _ = export("opencarp", model, tmp_path_factory)
    lines = [line for line in (folder / "activation.par").read_text().splitlines() if line[0] != "#"]
    run = dict(line.split(" = ") for line in lines)
    assert len(run) == len(lines)
    assert run["meshname"] == "heart"
    for owner in ("phys_region[0]", "imp_region[0]", "gregion[0]"):
        tags = {int(run[f"{owner}.ID[{i}]"]) for i in range(int(run[f"{owner}.num_IDs"]))}
        assert tags >= set(model.region.tolist())
    stimuli = int(run["num_stim"])
    assert stimuli > 0
    for i in range(stimuli):
        name, file = run[f"stim[{i}].name"], run[f"stim[{i}].elec.vtx_file"]
        (count, domain), nodes = rows(folder / file, 2)
        nodes = np.array([int(n) for (n,) in nodes])
        assert (int(count), domain) == (len(nodes), "intra")
        surface = "rvendo_nosept" if name.startswith("rv") else "lvendo"
        on_surface = read_counted(folder / f"heart.{surface}.surf", "Tr", 3).astype(int)
        assert set(nodes.tolist()) <= set(on_surface.ravel().tolist())
        # around one of them
        apart = np.linalg.norm(model.points_mm[nodes, None] - model.points_mm[nodes], axis=2)
        assert apart.max(axis=1).min() <= 5.0


def test_the_volumes_at_rest_are_in_the_readme(tmp_path_factory):
    model = box()
    cavities = ", ".join(f"{name.upper()} {model.cavity_volume_ml(name):.2f} mL" for name in ("lv", "rv"))
    for name in FORMATS:
        text = (export(name, model, tmp_path_factory)[0] / "README.txt").read_text()
        assert f"Cavities at rest, closed by a fan from the middle of the rim: {cavities}.\n" in text
        assert f"Wall at rest: {model.wall_volume_ml:.2f} mL.\n" in text
        if name in ("opencarp", "surfaces", "vtu"):
            assert "at full load" not in text
        else:
            assert ("neo_hooke writes" if name == "calculix" else "holzapfel_ogden writes") in text


def test_a_deck_lists_its_files_and_replaces_an_old_one(tmp_path):
    listed, batch = stored(tmp_path, box()), tmp_path / "inputs"
    deck = batch / "s" / "vtu"
    deck.mkdir(parents=True)
    (deck / "old.txt").write_text("from another version")
    record = exporters.write_deck(deck / "README.txt", ("vtu", *listed, Mechanics(), Deck()))
    assert record["files"] == ["s/vtu/mesh.vtu", "s/vtu/surface.vtp"]
    assert sorted(p.name for p in deck.iterdir()) == ["README.txt", "mesh.vtu", "surface.vtp"]
    for name, (path, *_) in zip(("mesh.vtu", "surface.vtp"), listed, strict=True):
        assert (deck / name).samefile(path), "the mesh lies on the disk twice"
    nested = exporters.write_deck(
        batch / "s" / "svmultiphysics" / "README.txt", ("svmultiphysics", *listed, Mechanics(), Deck())
    )
    assert "s/svmultiphysics/mesh-complete/mesh-surfaces/lv_endo.vtu" in nested["files"]
    (tmp_path / "a.vtp").write_bytes(b"changed")
    with pytest.raises(InputError, match=r"a\.vtp"):
        exporters.write_deck(deck / "README.txt", ("vtu", *listed, Mechanics(), Deck()))


def test_a_writer_without_readme_gets_one_that_lists_its_files(tmp_path, monkeypatch):
    def write(model, folder, mechanics, deck):
        (folder / "heart.xyz").write_text(f"{len(model.points_mm)}\n")
        return [folder / "heart.xyz"]

    exporters.available()
    monkeypatch.setitem(exporters._WRITERS, "xyz", write)
    readme = tmp_path / "inputs/s/xyz/README.txt"
    record = exporters.write_deck(readme, ("xyz", *stored(tmp_path, box()), Mechanics(), Deck()))
    assert record["files"] == ["s/xyz/heart.xyz"]
    assert "heart.xyz" in readme.read_text().splitlines()
