"""Volumes of labels as users have them, in any orientation. Owned by the segmentations stage."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..anatomy.label_map import check_affine
from ..anatomy.nifti import AGREE, read_nifti
from ..runtime.errors import InputError
from .nrrd import read_nrrd

MARGIN_VOXELS = 2  # a segmentation often ends a voxel before the field that cuts it
FLAT_SHARE = 0.25  # of the widest slice; whole ventricles and atria end in slices of less than 0.1


@dataclass(frozen=True)
class Volume:
    """values (X, Y, Z), whole numbers; affine (4, 4) voxel index -> mm in RAS+, oblique or not.

    `remarks`: what in the header contradicts the affine, where the user trusts it all the same.
    """

    values: np.ndarray
    affine: np.ndarray
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mask:
    """One structure in its own volume: voxels (X, Y, Z) bool cropped to it, affine (4, 4) of these.

    `cut` says where the volume's field cuts it, such as "inferior"; empty if it does not.
    """

    voxels: np.ndarray
    affine: np.ndarray
    cut: tuple[str, ...]

    @property
    def volume_ml(self) -> float:
        return float(self.voxels.sum() * abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def centroid_mm(self) -> np.ndarray:
        """(3,) in RAS+."""
        return self.affine[:3, :3] @ np.argwhere(self.voxels).mean(axis=0) + self.affine[:3, 3]


def read_volume(path: str | Path, geometry: str = AGREE) -> Volume:
    """Read a NIfTI or NRRD volume of labels; InputError naming the file for all that is none.

    The header must say how the volume lies in the body: a NIfTI file whose sform and qform are both
    unset, or a NRRD file without a space, is refused, since left and right would be a guess. `geometry`: the
    form of a NIfTI header that is trusted (`anatomy.nifti`).
    """
    path = Path(path)
    remarks = ()
    if path.name.endswith(".nrrd"):
        values, affine = read_nrrd(path)
    else:
        nifti = read_nifti(path, geometry)
        values, affine, remarks = nifti.values, nifti.affine, nifti.remarks
        values = values.reshape(values.shape[:3])  # a series of one is a volume
    check_affine(path, affine)
    if values.dtype.kind not in "biuf":
        raise InputError(f"{path}: voxels of type {values.dtype}; expected whole numbers")
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and np.array_equal(values, np.rint(values))):
            raise InputError(f"{path}: the volume has values that are not whole numbers; expected labels")
        values = values.astype(np.int32)
    return Volume(values, affine, remarks)


def mask_of(volume: Volume, labels: tuple[int, ...]) -> Mask | None:
    """The mask of `labels` (of all that is not 0 if none are named); None if no voxel has them."""
    where = np.isin(volume.values, labels) if labels else volume.values != 0
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
    return Mask(voxels, affine, tuple(cut))


def _side(direction: np.ndarray) -> str:
    """The anatomical name of the body axis nearest to a direction (3,) in RAS+."""
    axis = int(np.argmax(np.abs(direction)))
    names = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
    return names[axis][int(direction[axis] > 0)]
