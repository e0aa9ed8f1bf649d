"""A label map file as the base of digital siblings. Owned by the population stage; used by generation too."""

from pathlib import Path

import numpy as np

from .anatomy import Anatomy, Grid
from .errors import InputError
from .labelmap import read_label_map, to_grid
from .moments import measure_labels


def read_base_map(path: str | Path, anatomy: Anatomy, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) of the file on `grid`, moved by whole voxels so that the heart's centre is the origin.

    Raises InputError naming the file if it is no label map of the anatomy, has voxels of another size, lacks
    a structure, or does not fit the field.
    """
    try:
        labels = read_label_map(path, anatomy).labels
        missing = [name for name in anatomy.structures if not np.any(labels == anatomy.label(name))]
        if missing:
            raise InputError(f"{path}: it has no {', '.join(missing)}; a base has every structure")
        label_map = to_grid(read_label_map(path, anatomy), grid)
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from None
    heart = tuple(anatomy.label(name) for name in anatomy.centred_on)
    centre = measure_labels(label_map.labels, [heart], grid.axes_mm()).centroid_mm[0]
    return _shifted(path, label_map.labels, -np.round(centre / grid.spacing_mm).astype(int))


def _shifted(path, labels: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    filled = np.argwhere(labels)
    low, high = filled.min(0) + voxels, filled.max(0) + voxels
    if (low < 0).any() or (high >= labels.shape).any():
        raise InputError(f"{path}: structures lie outside the field about the heart's centre")
    return np.roll(labels, tuple(voxels), (0, 1, 2))
