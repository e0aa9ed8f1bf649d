"""Label maps as other programs resample them: by the nearest voxel, and by smoothed shares of the labels."""

import numpy as np
from scipy import ndimage

from cardiocohort.anatomy.label_map import LabelMap

VOXEL_SPREAD = 12**-0.5  # standard deviation of a voxel's box: what anti-aliasing removes


def resample(label_map, spacing_mm, shift=0.0, how="nearest"):
    """`label_map` on voxels of `spacing_mm` over its field.

    `shift`: by how much of a voxel the grid lies before the field's corner. `how`: "nearest" or "smooth", the
    largest of the labels' shares, blurred by a new voxel.
    """
    old = np.array(label_map.spacing_mm)
    shape = tuple(np.ceil(label_map.labels.shape * old / spacing_mm).astype(int) + 1)
    first = (spacing_mm * (0.5 - shift) - old / 2) / old  # centre of the first voxel, in old ones
    step = spacing_mm / old
    best, labels = np.full(shape, -1.0), np.zeros(shape, np.uint8)
    for label in np.unique(label_map.labels):
        share = (label_map.labels == label).astype(np.float32)
        if how == "smooth":
            share = ndimage.gaussian_filter(share, VOXEL_SPREAD * step)
        share = ndimage.affine_transform(
            share,
            step,
            first,
            output_shape=shape,
            order=1 if how == "smooth" else 0,
            mode="grid-constant",
            cval=float(label == 0),
        )
        better = share > best
        best[better], labels[better] = share[better], label
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = label_map.affine[:3, 3] + first * old
    return LabelMap(labels, affine)
