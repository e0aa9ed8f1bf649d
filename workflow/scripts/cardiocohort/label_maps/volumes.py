"""Volumes of labels as users have them, in any orientation. Owned by the segmentations stage."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..anatomy.label_map import check_affine
from ..anatomy.nifti import AGREE, read_nifti
from ..runtime.errors import InputError
from .itk_files import Segment, read_layers
from .text_headers import has_text_header

MARGIN_VOXELS = 2  # a segmentation often ends a voxel before the field that cuts it
FLAT_SHARE = 0.25  # of the widest slice; whole structures end in slices of less than 0.1
MAX_LABEL = 2**31 - 1
MAX_BORDER_SHARE = 0.5  # of the field's border: a structure that fills more is rather the background
SHOWN_VALUES = 8  # of a volume, in a message


class NoSegment(InputError):
    """A file lacks the segment that is looked for; another may have it."""


@dataclass(frozen=True)
class Volume:
    """values (X, Y, Z), whole numbers; affine (4, 4) voxel index -> mm in RAS+, oblique or not.

    `segments` of a .seg.nrrd file; none in other files. `remarks`: what in the header contradicts the affine,
    where the user trusts it all the same.
    """

    values: np.ndarray
    affine: np.ndarray
    segments: tuple[Segment, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mask:
    """One structure in its own volume: voxels (X, Y, Z) bool cropped to it, affine (4, 4) of these.

    `cut` says where the volume's field cuts it, such as "inferior"; empty if it does not. `remark`: how its
    file was read, where that is not as most files are.
    """

    voxels: np.ndarray
    affine: np.ndarray
    cut: tuple[str, ...]
    remark: str = ""

    @property
    def volume_ml(self) -> float:
        return float(self.voxels.sum() * abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def centroid_mm(self) -> np.ndarray:
        """(3,) in RAS+."""
        return self.affine[:3, :3] @ np.argwhere(self.voxels).mean(axis=0) + self.affine[:3, 3]


def read_volume(path: str | Path, geometry: str = AGREE) -> Volume:
    """Read a volume of labels: NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd).

    Raises InputError naming the file for all that is none, and for several layers (`read_layered`). The
    header must say how the volume lies in the body: a NIfTI file whose sform and qform are both unset, a NRRD
    file without a space, or a MetaImage without a matrix is refused, since left and right would be a guess.
    `geometry`: the form of a NIfTI header that is trusted (`anatomy.nifti`).
    """
    layers = read_layered(path, geometry)
    if len(layers) > 1:
        raise InputError(
            f"{path}: it has {len(layers)} layers, since its segments overlap; save them as one layer, "
            "without overlap"
        )
    return layers[0]


def read_layered(path: str | Path, geometry: str = AGREE) -> tuple[Volume, ...]:
    """The layers of a file as `read_volume` reads it: one but for .seg.nrrd files whose segments overlap."""
    path = Path(path)
    if has_text_header(path):
        read = read_layers(path)
        layers = [Volume(values, read.affine, read.segments) for values in read.values]
    else:
        read = read_nifti(path, geometry)
        values = read.values.reshape(read.values.shape[:3])  # a series of one is a volume
        layers = [Volume(values, read.affine, remarks=read.remarks)]
    check_affine(path, layers[0].affine)
    return tuple(replace(layer, values=_whole_numbers(path, layer.values)) for layer in layers)


def _whole_numbers(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise InputError(f"{path}: voxels of type {values.dtype}; expected whole numbers")
    if values.dtype.kind != "f":
        return values
    if not (np.abs(values) <= MAX_LABEL).all():
        raise InputError(f"{path}: the volume has values that are no whole numbers of a label's size")
    if not np.array_equal(values, np.rint(values)):
        raise InputError(
            f"{path}: the volume has values that are not whole numbers ({_shown(values)}); expected labels. "
            "Turn probabilities into a mask first, as 1 where they are above 0.5"
        )
    return values.astype(np.int32)


def labelled_volume(layers: Sequence[Volume], named: tuple[int | str, ...]) -> tuple[Volume, tuple[int, ...]]:
    """The layer of a file that has what a source names, labels or segments, and their labels in it.

    Raises NoSegment for a segment that the file lacks, InputError for what is not in one layer.
    """
    segments = layers[0].segments
    names = [name for name in named if isinstance(name, str)]
    for name in names:
        if sum(segment.name == name for segment in segments) != 1:
            known = ", ".join(repr(segment.name) for segment in segments) or "none"
            raise NoSegment(f"not one segment of the name {name!r}; its segments: {known}")
    chosen = [segment for segment in segments if segment.name in names]
    where = {segment.layer for segment in chosen}
    if len(layers) > 1 and (len(where) != 1 or len(names) < len(named)):
        raise InputError(
            f"it has {len(layers)} layers, since segments overlap; name one segment, as 'x.seg.nrrd:name'"
        )
    labels = {label for label in named if not isinstance(label, str)} | {segment.label for segment in chosen}
    return layers[where.pop() if where else 0], tuple(sorted(labels))


def mask_of(volume: Volume, labels: tuple[int, ...]) -> Mask | None:
    """The mask of `labels`; None if no voxel has them.

    If none are named, the volume must hold one structure on a background of 0, or of a negative number as CT
    is padded with. InputError for anything else, which says what it holds.
    """
    where, remark = (np.isin(volume.values, labels), "") if labels else _foreground(volume.values)
    spans = [np.flatnonzero(where.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not spans[0].size:
        return None
    first, last = [int(s[0]) for s in spans], [int(s[-1]) for s in spans]
    voxels = where[tuple(slice(f, n + 1) for f, n in zip(first, last, strict=True))].copy()
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first
    cut = []
    for axis, size in enumerate(volume.values.shape):
        areas = voxels.sum(axis=tuple({0, 1, 2} - {axis}))
        for end, gap, sign in ((0, first[axis], -1), (-1, size - 1 - last[axis], 1)):
            flat = gap <= MARGIN_VOXELS and areas[end] >= FLAT_SHARE * areas.max()
            if gap == 0 or flat:
                cut.append(_side(sign * affine[:3, axis]))
    return Mask(voxels, affine, tuple(cut), "; ".join(filter(None, (*volume.remarks, remark))))


def _foreground(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Where a mask of one structure is (X, Y, Z), and a remark if its background is not 0."""
    low, high = values.min(), values.max()
    if low == high and low <= 0:
        return np.zeros(values.shape, bool), ""  # nothing but background
    where = values == high
    if low > 0 or high <= 0 or not (where | (values == low)).all():
        raise InputError(
            f"a mask holds one structure, on a background of 0; this file holds the values {_shown(values)}. "
            "Name those of the structure in its source, as 'file:1' or 'file:1+2'"
        )
    faces = [np.take(where, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    if np.concatenate(faces).mean() > MAX_BORDER_SHARE:
        raise InputError(
            f"the value {high} fills most of the volume's border, the value {low} the rest: it is unclear "
            "which is the structure; name its value in the source, as 'file:1'"
        )
    return where, f"background {low} read as 0" if low else ""


def _shown(values: np.ndarray) -> str:
    """The values of a volume, for a message; the first ones if they are many."""
    found = np.unique(values)
    return ", ".join(f"{v:g}" for v in found[:SHOWN_VALUES]) + (", ..." if found.size > SHOWN_VALUES else "")


def _side(direction: np.ndarray) -> str:
    """The anatomical name of the body axis nearest to a direction (3,) in RAS+."""
    axis = int(np.argmax(np.abs(direction)))
    names = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
    return names[axis][int(direction[axis] > 0)]
