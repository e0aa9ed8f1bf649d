"""The mesh on disk: small, and read by others as it was meant."""

import itertools
from dataclasses import replace

import meshio
import numpy as np
import pytest
import pyvista
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cardiocohort.mesh import vtk_files
from cardiocohort.mesh.storage import STEP, read_model, shortened, write_surface, write_volume
from cardiocohort.mesh.tetrahedron_geometry import z_order
from cardiocohort.mesh.vtk_files import mixed_up, write_dataset
from small_meshes import box


def grid_of(lengths):
    """One tetrahedron with a field array of random bytes for each length."""
    points = np.vstack([np.zeros(3), np.eye(3)])
    grid = pyvista.UnstructuredGrid({pyvista.CellType.TETRA: np.arange(4).reshape(1, 4)}, points)
    grid.cell_data["region"] = np.ones(1, dtype=np.int32)
    grid.point_data["height"] = points[:, 2].astype(np.float32)
    for i, n in enumerate(lengths):
        grid.field_data[f"bytes_{i}"] = np.random.default_rng(i).integers(0, 256, n, dtype=np.uint8)
    return grid


def meshio_agrees(path, grid):
    """Whether meshio reads the file's points, cells and arrays of cells and points as they are."""
    try:
        mesh = meshio.vtu.read(path)
    except Exception:  # what it reads in a wrong place has any fault
        return False
    return (
        np.array_equal(mesh.points, grid.points)
        and np.array_equal(mesh.cells[0].data, grid.cells_dict[pyvista.CellType.TETRA])
        and all(np.array_equal(mesh.cell_data[name][0], grid.cell_data[name]) for name in grid.cell_data)
        and all(np.array_equal(mesh.point_data[name], grid.point_data[name]) for name in grid.point_data)
    )


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(0, 90), max_size=6))
@example(lengths=[0, 67, 77, 89, 89, 90])  # in base64, with an empty array
def test_every_file_reads_the_same_in_vtk_and_meshio(lengths, tmp_path_factory):
    path, grid = tmp_path_factory.mktemp("grid") / "a.vtu", grid_of(lengths)
    write_dataset(path, grid)
    assert pyvista.read(path) == grid
    assert meshio_agrees(path, grid)


def test_what_meshio_would_mix_up_is_written_in_base64(tmp_path, monkeypatch):
    """Of many small files meshio misreads some with raw data: those, and no others, are marked."""
    marked = []
    monkeypatch.setattr(vtk_files, "mixed_up", lambda content: marked.append(mixed_up(content)))
    agrees = []
    for i, lengths in enumerate(itertools.product(range(8, 24, 3), range(5, 45, 4))):
        path, grid = tmp_path / f"{i}.vtu", grid_of(lengths)
        write_dataset(path, grid)
        assert b'encoding="raw"' in path.read_bytes()
        agrees.append(meshio_agrees(path, grid))
    assert 0 < sum(marked) < len(marked)
    assert not any(bad and fine for bad, fine in zip(marked, agrees, strict=True)), "marked for nothing"
    assert all(bad or fine for bad, fine in zip(marked, agrees, strict=True)), "mixed up without a mark"


def test_a_large_file_has_raw_data(tmp_path):
    model = box((9, 9, 9))
    write_volume(tmp_path / "a.vtu", model)
    write_surface(tmp_path / "a.vtp", model)
    for name in ("a.vtu", "a.vtp"):
        assert b'<AppendedData encoding="raw">' in (tmp_path / name).read_bytes()
    back = read_model(tmp_path / "a.vtu", tmp_path / "a.vtp")
    assert np.array_equal(back.tets, model.tets)


@pytest.fixture
def turning():
    """A model with coordinates at both ends of the turn."""
    model = box((4, 5, 6))
    near = np.array(model.coordinates.rotational)
    near[:3] = 0.0, 1 - STEP / 8, STEP / 8
    return replace(model, coordinates=replace(model.coordinates, rotational=near))


def test_a_shortened_model_is_within_half_a_step(turning):
    short = shortened(turning)
    for name, values in vars(turning.microstructure).items():
        assert np.abs(getattr(short.microstructure, name) - values).max() <= STEP / 2
    for name, values in vars(turning.coordinates).items():
        found = getattr(short.coordinates, name)
        assert found.dtype == values.dtype
        apart = np.abs(found - values)
        if "rotational" in name:
            apart = np.minimum(apart, 1 - apart)
            assert found.min() >= 0
            assert found.max() < 1
        assert apart.max() <= STEP / 2
    assert np.array_equal(shortened(short).coordinates.rotational, short.coordinates.rotational)
    bare = replace(turning, microstructure=None, coordinates=None)
    assert shortened(bare).microstructure is shortened(bare).coordinates is None


def test_shortened_directions_are_read_orthonormal(turning, tmp_path):
    write_surface(tmp_path / "a.vtp", turning)
    write_volume(tmp_path / "a.vtu", shortened(turning))
    back = read_model(tmp_path / "a.vtu", tmp_path / "a.vtp")
    for prefix in ("", "node_"):
        axes, given_axes = (
            np.stack([getattr(m.microstructure, f"{prefix}{name}") for name in ("f0", "s0", "n0")], axis=1)
            for m in (back, turning)
        )
        assert np.allclose(axes @ axes.transpose(0, 2, 1), np.eye(3), atol=3e-7)
        assert np.abs(axes - given_axes).max() < 2 * STEP
        assert np.array_equal(np.linalg.det(axes) > 0, np.linalg.det(given_axes) > 0)


def test_directions_that_are_zero_stay_zero(tmp_path):
    model = box()
    none = np.zeros_like(model.microstructure.f0)
    micro = replace(model.microstructure, f0=none, s0=none, n0=none)
    write_surface(tmp_path / "a.vtp", model)
    write_volume(tmp_path / "a.vtu", replace(model, microstructure=micro))
    back = read_model(tmp_path / "a.vtu", tmp_path / "a.vtp").microstructure
    assert not np.any([back.f0, back.s0, back.n0])
    assert np.allclose(back.node_f0, model.microstructure.node_f0, atol=1e-6)


@given(n=st.integers(0, 50), seed=st.integers(0, 5))
def test_a_curve_has_every_place_once(n, seed):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    assert np.array_equal(np.sort(z_order(points)), np.arange(n))


def test_neighbours_on_the_curve_are_near_each_other():
    points = np.stack(np.meshgrid(*[np.arange(8.0)] * 3), -1).reshape(-1, 3)
    points = np.random.default_rng(0).permutation(points)
    steps = np.linalg.norm(np.diff(points[z_order(points)], axis=0), axis=1)
    # the curve through a cube of two to the power of k: seven of eight steps stay within a cell of two
    assert np.mean(steps <= np.sqrt(3)) >= 7 / 8
    assert steps.mean() < 2


def test_equal_places_keep_their_order():
    assert z_order(np.ones((5, 3))).tolist() == list(range(5))
    assert z_order(np.repeat([[1.0, 0, 0], [0, 0, 0]], 2, axis=0)).tolist() == [2, 3, 0, 1]
