"""A label map file as the base of digital siblings. Owned by the population stage; used by generation too."""

from pathlib import Path

import numpy as np

from .anatomy import Anatomy, Grid
from .errors import InputError
from .labelmap import centred, read_label_map


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
        return centred(read_label_map(path, anatomy), anatomy, grid)
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from None
