"""Surfaces of meshes as STL, for print, and as GLB, for viewers. Owned by the inputs stage."""

import json
import struct
from pathlib import Path

import numpy as np

from ..runtime.artifacts import atomic_path

STL_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
GLB_FLOAT, GLB_INDEX, GLB_POINTS, GLB_INDICES = 5126, 5125, 34962, 34963  # glTF 2.0, 3.6 and 5.11
M_PER_MM = 1e-3


def write_stl(folder: Path, points_mm: np.ndarray, parts: dict[str, np.ndarray]) -> list[Path]:
    """<part>.stl in `folder`, binary, mm: the facets (F, 3) of points (N, 3) by part."""
    files = [folder / f"{name}.stl" for name in parts]
    for file, facets in zip(files, parts.values(), strict=True):
        _write_bytes(file, _stl(points_mm, facets))
    return files


def write_glb(file: Path, points_mm: np.ndarray, parts: dict[str, np.ndarray]) -> Path:
    """Binary glTF 2.0 of the facets (F, 3) of points (N, 3) by part: one node and mesh each, m, y up."""
    used = {}
    for name, facets in parts.items():
        nodes, corners = np.unique(facets, return_inverse=True)
        used[name] = points_mm[nodes], corners.reshape(-1, 3)
    _write_bytes(file, _glb(used))
    return file


def _stl(points: np.ndarray, facets: np.ndarray) -> bytes:
    rows = np.zeros(len(facets), dtype=STL_FACET)
    rows["corners"] = corners = points[facets]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    rows["normal"] = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return bytes(80) + struct.pack("<I", len(rows)) + rows.tobytes()


def _glb(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    content, views, accessors = b"", [], []
    for points, facets in parts.values():
        # R, A, S (mm) to glTF's x right, y up, z towards the viewer (m)
        metres = (M_PER_MM * points[:, [0, 2, 1]] * [1, 1, -1]).astype("<f4")
        bounds = {"min": metres.min(axis=0).tolist(), "max": metres.max(axis=0).tolist()}
        for values, target, more in (
            (metres, GLB_POINTS, {"componentType": GLB_FLOAT, "type": "VEC3"} | bounds),
            (facets.ravel().astype("<u4"), GLB_INDICES, {"componentType": GLB_INDEX, "type": "SCALAR"}),
        ):
            size = values.nbytes
            views.append({"buffer": 0, "byteOffset": len(content), "byteLength": size, "target": target})
            accessors.append({"bufferView": len(views) - 1, "count": len(values)} | more)
            content += values.tobytes()
    meshes = [
        {"name": name, "primitives": [{"attributes": {"POSITION": 2 * k}, "indices": 2 * k + 1}]}
        for k, name in enumerate(parts)
    ]
    head = {
        "asset": {"version": "2.0", "generator": "cardiocohort"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(parts)))}],
        "nodes": [{"name": name, "mesh": k} for k, name in enumerate(parts)],
        "meshes": meshes,
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(content)}],
    }
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(content), 0x004E4942) + content
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def _write_bytes(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
