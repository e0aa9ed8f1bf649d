"""From the heart frame to the scanner's coordinates and back."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cardiocohort.mesh.frames import from_origin, in_frame
from cardiocohort.mesh.storage import read_model, write_surface, write_volume
from cardiocohort.runtime.errors import SubjectError
from small_meshes import box


def motion(seed):
    """A rigid motion anywhere in a scanner."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(rng=rng).as_matrix()
    matrix[:3, 3] = rng.uniform(-500, 500, 3)
    return matrix


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_everything_geometric_moves_and_comes_back(seed):
    heart = replace(box(), world_from_heart=motion(seed))
    scanner = in_frame(heart, "scanner")
    homogeneous = np.c_[heart.points_mm, np.ones(len(heart.points_mm))]
    assert np.allclose(scanner.points_mm, (homogeneous @ heart.world_from_heart.T)[:, :3])
    # a fibre from one point to another still does
    ends = heart.points_mm + heart.microstructure.node_f0
    ends = (np.c_[ends, np.ones(len(ends))] @ heart.world_from_heart.T)[:, :3]
    assert np.allclose(ends - scanner.points_mm, scanner.microstructure.node_f0)
    assert np.allclose(scanner.tet_volumes_mm3, heart.tet_volumes_mm3)
    frame = np.stack([getattr(scanner.microstructure, name) for name in ("f0", "s0", "n0")], axis=1)
    assert np.allclose(frame @ frame.transpose(0, 2, 1), np.eye(3), atol=1e-7)
    back = in_frame(scanner, "heart")
    assert np.allclose(back.points_mm, heart.points_mm)
    assert np.allclose(back.microstructure.s0, heart.microstructure.s0)


@pytest.mark.parametrize("frame", ["heart", "scanner"])
def test_files_carry_matrix_and_frame(tmp_path, frame):
    model = in_frame(replace(box(), world_from_heart=motion(3)), frame)
    write_volume(tmp_path / "a.vtu", model)
    write_surface(tmp_path / "a.vtp", model)
    back = read_model(tmp_path / "a.vtu", tmp_path / "a.vtp")
    assert back.frame == frame
    assert np.array_equal(back.world_from_heart, model.world_from_heart)
    assert np.array_equal(back.points_mm, model.points_mm)


def test_a_heart_without_scan_has_no_matrix(tmp_path):
    assert from_origin([np.nan] * 3) is None
    model = box()
    write_volume(tmp_path / "a.vtu", model)
    write_surface(tmp_path / "a.vtp", model)
    assert read_model(tmp_path / "a.vtu", tmp_path / "a.vtp").world_from_heart is None
    assert b"world_from_heart" not in (tmp_path / "a.vtu").read_bytes()
    with pytest.raises(SubjectError, match=r"origin_x_mm.*meshing\.frame: heart"):
        in_frame(model, "scanner")


@pytest.mark.parametrize("wrong", [np.eye(3), np.diag([1.0, 1, -1, 1]), np.diag([2.0, 1, 1, 1])])
def test_a_matrix_that_is_not_rigid_is_refused(wrong):
    with pytest.raises(ValueError, match="world_from_heart"):
        replace(box(), world_from_heart=wrong)
