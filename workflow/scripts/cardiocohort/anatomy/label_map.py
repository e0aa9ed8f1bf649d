"""Reading and writing label maps as NIfTI. Owned by no stage; the form of every anatomy on disk.

A label map is uint8, RAS+, isotropic voxels, origin anywhere (generated ones: centre of the field).
"""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from ..runtime.apart import apart
from ..runtime.artifacts import atomic_path
from ..runtime.errors import InputError
from .bundle_metadata import SPACING_MM
from .labels import Anatomy, Grid
from .moments import measure_labels
from .nifti import read_nifti

MAX_AFFINE = 1e6  # mm, of any entry


@dataclass(frozen=True)
class LabelMap:
    """labels (X, Y, Z) uint8 in RAS+ order; affine (4, 4) voxel index -> mm, axis-aligned."""

    labels: np.ndarray
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return tuple(float(s) for s in np.diag(self.affine)[:3])

    @property
    def axes_mm(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return tuple(
            self.affine[i, 3] + self.affine[i, i] * np.arange(n) for i, n in enumerate(self.labels.shape)
        )


def read_label_map(path: str | Path, anatomy: Anatomy) -> LabelMap:
    """Read a NIfTI label map, reoriented to RAS+ (axes flipped or permuted, never resampled).

    Raises InputError naming the file for: a missing, truncated or corrupt file, other than three
    dimensions, a non-finite or oblique affine, voxels or a field of no anatomy's size, non-integer values,
    labels the anatomy lacks.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such label map; expected a NIfTI file (.nii or .nii.gz)")
    read = read_nifti(path)
    check_affine(path, read.affine)
    values, affine = canonical(path, read.values.reshape(read.values.shape[:3]), read.affine)
    return LabelMap(labels_of(path, values, anatomy), affine)


def canonical(path: Path, values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """values (X, Y, Z) and affine (4, 4) in RAS+ order: axes flipped or permuted, not resampled.

    Raises InputError naming `path` for an oblique volume or voxels of no anatomy's size.
    """
    orientation = nib.orientations.io_orientation(affine)
    if not np.isfinite(orientation).all():
        raise InputError(f"{path}: its affine does not say which way the axes run:\n{affine}")
    turned = nib.orientations.apply_orientation(values, orientation)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, values.shape)
    off_axis = np.abs(affine[:3, :3] - np.diag(np.diag(affine[:3, :3]))).max()
    if off_axis > 1e-3 * np.diag(affine)[:3].max():
        raise InputError(f"{path}: the volume is oblique; label maps in the convention are axis-aligned")
    low, high = SPACING_MM
    spacing = np.diag(affine)[:3]
    if not ((low <= spacing) & (spacing <= high)).all():
        size = " x ".join(f"{s:g}" for s in spacing)
        raise InputError(f"{path}: voxels of {size} mm; allowed: {low:g} to {high:g} mm")
    return turned, np.diag([*spacing, 1.0]) + _translation(affine)


def check_affine(path: Path, affine: np.ndarray) -> None:
    """InputError unless a voxel index -> mm matrix (4, 4) is finite, of sane size and invertible."""
    off_scale = not (np.abs(affine) < MAX_AFFINE).all()  # NaN is off scale too
    if off_scale or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(f"{path}: its affine is not an invertible matrix of finite numbers (mm):\n{affine}")


def labels_of(path: Path, values: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """values (X, Y, Z) as uint8 labels; InputError for values that are none of the anatomy's.

    Slice by slice, since the values may be of eight bytes.
    """
    labels = np.empty(values.shape, np.uint8)
    for plane, out in zip(values, labels, strict=True):
        if plane.dtype.kind == "f" and not np.isfinite(plane).all():
            raise InputError(f"{path}: the volume has values that are not finite")
        if plane.dtype.kind == "f" and not np.array_equal(plane, np.rint(plane)):
            raise InputError(f"{path}: the volume has values that are not whole numbers; expected labels")
        wrong = plane[(plane < 0) | (plane >= anatomy.n_channels)]
        if wrong.size:
            names = ", ".join(f"{i + 1} {name}" for i, name in enumerate(anatomy.structures))
            raise InputError(
                f"{path}: label {wrong.min():.0f} is not in the anatomy; allowed: 0 background, {names}. The "
                "target label_maps imports a map of another numbering (docs/own-data.md); one of another "
                "anatomy needs that anatomy (config keys 'anatomy' and 'bundle')"
            )
        out[...] = plane
    return labels


def check_labels_apart(paths: Iterable[str | Path], anatomy: Anatomy, whole: bool) -> None:
    """InputError for a label map that has other labels than the anatomy, or, where `whole`, lacks one.

    Read in a process of its own: the process that plans would keep what the reader loads.
    """
    paths = list(paths)
    if paths:
        apart(_check_labels, paths, anatomy, whole)


def _check_labels(paths: list[str | Path], anatomy: Anatomy, whole: bool) -> None:
    for path in paths:
        present = np.unique(read_label_map(path, anatomy).labels)
        lacking = [name for name in anatomy.structures if anatomy.label(name) not in present]
        if whole and lacking:
            raise InputError(
                f"{path}: no voxel of {', '.join(lacking)}; a template has all labels of the anatomy: "
                f"{', '.join(anatomy.structures)}"
            )


def _translation(affine: np.ndarray) -> np.ndarray:
    out = np.zeros((4, 4))
    out[:3, 3] = affine[:3, 3]
    return out


def to_grid(label_map: LabelMap, grid: Grid) -> LabelMap:
    """`label_map` on `grid`, padded with background or cropped alike on both sides, never resampled.

    The centre of its field becomes the grid's origin (odd differences round towards the low side).
    Raises InputError if its spacing is not the grid's, or if cropping would cut a structure.
    """
    labels = label_map.labels
    _check_spacing(label_map, grid)
    offsets = [(n - m) // 2 for n, m in zip(grid.shape, labels.shape, strict=True)]
    target = tuple(
        slice(max(o, 0), min(o + m, n)) for o, m, n in zip(offsets, labels.shape, grid.shape, strict=True)
    )
    source = tuple(slice(t.start - o, t.stop - o) for t, o in zip(target, offsets, strict=True))
    if np.count_nonzero(labels[source]) < np.count_nonzero(labels):
        raise InputError(
            f"the labels do not fit the grid: a field of {labels.shape} voxels is cropped to {grid.shape} "
            "and structures lie outside; crop or recentre the label map"
        )
    out = np.zeros(grid.shape, np.uint8)
    out[target] = labels[source]
    return LabelMap(out, grid.affine())


def centred(label_map: LabelMap, anatomy: Anatomy, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) on `grid`, moved by whole voxels so that the heart's centre is the origin.

    Raises InputError where voxels are of another size, nothing is there to centre on, or it does not fit.
    """
    _check_spacing(label_map, grid)
    centre = (heart_centre_mm(label_map, anatomy) - label_map.affine[:3, 3]) / label_map.spacing_mm
    shift = np.round((np.array(grid.shape) - 1) / 2 - centre).astype(int)
    filled = np.argwhere(label_map.labels)
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    if (low + shift < 0).any() or (high + shift > grid.shape).any():
        raise InputError("structures lie outside the field about the heart's centre")
    out = np.zeros(grid.shape, np.uint8)
    box = tuple(map(slice, low, high))
    out[tuple(map(slice, low + shift, high + shift))] = label_map.labels[box]
    return out


def _check_spacing(label_map: LabelMap, grid: Grid) -> None:
    if not np.allclose(label_map.spacing_mm, grid.spacing_mm, rtol=1e-3):
        size = " x ".join(f"{s:g}" for s in label_map.spacing_mm)
        raise InputError(
            f"the label map has voxels of {size} mm; the grid has {grid.spacing_mm:g} mm (the target "
            "label_maps brings a map onto it, docs/own-data.md)"
        )


def heart_centre_mm(label_map: LabelMap, anatomy: Anatomy) -> np.ndarray:
    """Centroid (3,) of the structures that the anatomy is centred on; InputError if none is there."""
    heart = tuple(anatomy.label(structure) for structure in anatomy.centred_on)
    if not np.isin(label_map.labels, heart).any():
        raise InputError(f"none of the structures {', '.join(anatomy.centred_on)} is in the label map")
    return measure_labels(label_map.labels, [heart], label_map.axes_mm).centroid_mm[0]


def write_label_map(path: str | Path, labels: np.ndarray, grid: Grid) -> None:
    """Write labels (X, Y, Z) on `grid` as uint8 NIfTI, atomically, the same bytes every time."""
    write_volume(path, LabelMap(labels, grid.affine()))


def write_volume(path: str | Path, label_map: LabelMap) -> None:
    """Write a label map of any spacing and origin as uint8 NIfTI, atomically, the same bytes every time."""
    image = nib.Nifti1Image(np.ascontiguousarray(label_map.labels, dtype=np.uint8), label_map.affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        # nibabel's own .gz would stamp file name and time into the header
        data = image.to_bytes()
        with open(temporary, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            packed.write(data)
