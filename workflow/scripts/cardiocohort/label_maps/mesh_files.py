"""Tetrahedral meshes with an element tag per tissue, in files. Owned by the segmentations stage.

Formats: VTK (.vtk, .vtu) and openCARP's text mesh (.elem with the .pts beside it; openCARP user manual, "File
formats"). Counts are checked against the file's size before anything is allocated.
"""

import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.errors import InputError, KilledError
from . import vtk_child

UNITS_MM = {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3}
HEART_MM = (100.0, 450.0)  # diagonal of the box around all walls; decades do not overlap
HEAD_BYTES = 65536
TETRA, TRIANGLE = 10, 5  # cell types of VTK
PACKING = 1100  # no zlib stream grows by more
AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_COUNT = re.compile(rb'(?:\n(?:POINTS|CELLS)[ \t]+|NumberOf(?:Points|Cells)=")(\d+)')
_ELEMENT = np.dtype([("kind", "S3"), ("nodes", np.int64, 4), ("tag", np.int64)])
PTS_LINE = "three numbers x y z"
ELEM_LINE = "'Tt', four indices of points from 0, and a tag"


@dataclass(frozen=True)
class TaggedMesh:
    """points (N, 3); tets (M, 4) with tags (M,); triangles (T, 3) with tags (T,), none in most files."""

    points: np.ndarray
    tets: np.ndarray
    tags: np.ndarray
    triangles: np.ndarray
    triangle_tags: np.ndarray


def read_mesh(path: str | Path, arrays: list[str]) -> TaggedMesh:
    """Read a tagged mesh; `arrays`: the cell arrays with the tags of tets and of triangles (VTK).

    Raises InputError naming the file, and the line of a text file, for all that is none.
    """
    path = Path(path)
    try:
        mesh = _open_carp(path) if path.name.lower().endswith(".elem") else _vtk(path, arrays)
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({error.strerror})") from error
    if not len(mesh.tets):
        raise InputError(f"{path}: it has no tetrahedron")
    if not np.isfinite(mesh.points).all():
        raise InputError(f"{path}: point {np.argwhere(~np.isfinite(mesh.points))[0, 0]} is not a number")
    for cells in (mesh.tets, mesh.triangles):
        bad = ((cells < 0) | (cells >= len(mesh.points))).any(axis=1)
        if bad.any():
            k = int(bad.argmax())
            raise InputError(
                f"{path}: element {k} has the points {cells[k].tolist()}; "
                f"allowed: 0 to {len(mesh.points) - 1}"
            )
    return mesh


def points_mm(mesh: TaggedMesh, path: Path, unit: str, axes: str) -> tuple[np.ndarray, str]:
    """points (N, 3) in mm and RAS+, and the unit in use. `unit`: of UNITS_MM, or `auto`: by the heart's size.

    Raises InputError where the heart has no heart's size in that unit.
    """
    used = mesh.points[np.unique(mesh.tets)]
    size = float(np.linalg.norm(np.ptp(used, axis=0)))
    fits = [name for name, mm in UNITS_MM.items() if HEART_MM[0] <= size * mm < HEART_MM[1]]
    if not fits or unit not in ("auto", *fits):
        looks = f"it looks like {fits[0]}" if fits else "no unit of um, mm, cm, m makes that a heart"
        raise InputError(
            f"{path}: the mesh's diagonal is {size:.4g} {'units' if unit == 'auto' else unit}; a heart's is "
            f"{HEART_MM[0]:g} to {HEART_MM[1]:g} mm: {looks} (config key 'segmentations.mesh.unit')"
        )
    points = np.empty_like(mesh.points)
    for column, letter in enumerate(axes):
        axis, sign = AXES[letter]
        points[:, axis] = sign * mesh.points[:, column] * UNITS_MM[fits[0]]
    return points, fits[0]


# ---- openCARP


def _open_carp(path: Path) -> TaggedMesh:
    pts = path.with_name(path.name[: -len(".elem")] + ".pts")
    if not pts.is_file():
        raise InputError(f"{path}: its points are missing; expected the file {pts.name} beside it")
    points = _rows(pts, np.dtype((np.float64, 3)), r"\S+(\s+\S+){2}", PTS_LINE)
    elements = _rows(path, _ELEMENT, r"Tt(\s+\d+){4}\s+\d+", ELEM_LINE)
    none = np.empty((0, 3), np.int64)
    return TaggedMesh(points, elements["nodes"], elements["tag"], none, none[:, 0])


def _rows(path: Path, dtype: np.dtype, pattern: str, wanted: str) -> np.ndarray:
    """The rows of a text file whose first line is their number; InputError naming the line that is wrong."""
    with open(path, "rb") as handle:
        first = handle.readline(HEAD_BYTES).strip()
    if not first.isdigit():
        raise InputError(f"{path}, line 1: {_shown(first)}; expected the number of lines that follow")
    count = int(first)
    if count * 2 > path.stat().st_size:
        raise InputError(f"{path}, line 1: {count} lines are announced, the file is too short for them")
    try:
        scalar = dtype.subdtype is not None
        rows = np.loadtxt(
            path, dtype.base if scalar else dtype, skiprows=1, comments=None, ndmin=2 if scalar else 1
        )
        if len(rows) == count and (rows.shape[1:] == (3,) if scalar else (rows["kind"] == b"Tt").all()):
            return rows
    except (ValueError, OverflowError):
        pass  # found again below, with its line
    number = 1
    with open(path, "rb") as handle:
        next(handle)
        for number, raw in enumerate(handle, 2):
            line = raw.strip()
            text = line.decode("ascii", "replace")
            if line and (not re.fullmatch(pattern, text) or not _numbers(text.removeprefix("Tt").split())):
                raise InputError(f"{path}, line {number}: {_shown(line)}; expected {wanted}")
            if not line and number <= count + 1:
                raise InputError(f"{path}, line {number}: it is empty; expected {wanted}")
    raise InputError(f"{path}: {number - 1} lines after the first, which announces {count}")


def _numbers(words: list[str]) -> bool:
    try:
        return all(abs(float(word)) < 2**62 or "n" in word.lower() for word in words)
    except ValueError:
        return False


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("ascii", "replace"))


# ---- VTK


def _vtk(path: Path, arrays: list[str]) -> TaggedMesh:
    size = path.stat().st_size
    content = path.read_bytes()
    largest = size * (PACKING if b"compressor" in content[:HEAD_BYTES] else 1)
    for found in _COUNT.finditer(content):
        if int(found[1]) > largest:
            line = content.count(b"\n", 0, found.start(1)) + 1
            raise InputError(
                f"{path}, line {line}: {int(found[1])} points or cells in a file of {size} bytes"
            )
    with tempfile.TemporaryDirectory(prefix="cardiocohort-") as folder:
        target = Path(folder) / "mesh.npz"
        done = subprocess.run(
            [sys.executable, vtk_child.__file__, str(path), str(target)], capture_output=True, check=False
        )
        if -done.returncode == signal.SIGKILL:
            raise KilledError(f"{path}: reading it was ended from outside, often for lack of memory (mem_mb)")
        if done.returncode > 0 and done.returncode != vtk_child.REFUSED:
            raise RuntimeError(done.stderr.decode("utf-8", "replace"))
        if done.returncode:
            raise InputError(f"{path}: VTK reads no whole unstructured grid in it; download it again")
        with np.load(target) as read:
            return _of_grid(path, dict(read), arrays)


def _of_grid(path: Path, grid: dict[str, np.ndarray], arrays: list[str]) -> TaggedMesh:
    """`grid`: what `vtk_child` writes."""
    kinds, offsets = grid["types"], grid["offsets"].astype(np.int64)
    nodes = grid["nodes"].astype(np.int64)
    found = []
    for k, (kind, corners) in enumerate(((TETRA, 4), (TRIANGLE, 3))):
        of_kind = np.flatnonzero(kinds == kind)
        starts = offsets[of_kind]
        if (offsets[of_kind + 1] - starts != corners).any() or (starts + corners > nodes.size).any():
            raise InputError(f"{path}: its cells have a wrong number of points")
        if not of_kind.size or (k and len(arrays) == 1):
            found += [np.empty((0, corners), np.int64), np.empty(0, np.int64)]
            continue
        values = _tags(path, grid, arrays[min(k, len(arrays) - 1)] if arrays else None)[of_kind]
        known = np.isfinite(values)
        if not k and not known.all():
            raise InputError(f"{path}: cell {of_kind[np.argmin(known)]} has no tag")
        cells = nodes[starts[:, None] + np.arange(corners)]
        found += [cells[known], np.rint(values[known]).astype(np.int64)]
    return TaggedMesh(grid["points"].astype(np.float64), *found)


def _tags(path: Path, grid: dict[str, np.ndarray], name: str | None) -> np.ndarray:
    """(cells,) values of the cell array `name`, or of the one that there is."""
    scalars = {key.removeprefix("array:"): values for key, values in grid.items() if key.startswith("array:")}
    if name is None and len(scalars) == 1:
        name = next(iter(scalars))
    if name not in scalars:
        wrong = "several arrays may hold its tags" if name is None else f"it has no cell array {name!r}"
        raise InputError(
            f"{path}: {wrong}; name one of {', '.join(map(repr, scalars)) or 'none'} "
            "(config key 'segmentations.mesh.arrays')"
        )
    values = scalars[name].astype(np.float64)
    if len(values) != len(grid["types"]):
        raise InputError(
            f"{path}: the array {name!r} has {len(values)} values for {len(grid['types'])} cells"
        )
    broken = np.isfinite(values) & (values != np.rint(values))
    if broken.any():
        raise InputError(
            f"{path}: the array {name!r} has no whole numbers ({values[broken][0]:g}); it is no tag"
        )
    return values
