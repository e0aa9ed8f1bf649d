"""A picture of a case for the eye: what was accepted, or what was not. Owned by the segmentations stage."""

from pathlib import Path

import numpy as np
from skimage.io import imsave

from ..anatomy.labels import Anatomy
from ..plotting.palette import BACKGROUND, colours
from ..runtime.artifacts import atomic_path

PIXELS = 2  # of the picture, a voxel
GAP = 4


def write_picture(
    path: str | Path, labels: np.ndarray, anatomy: Anatomy, below: np.ndarray | None = None
) -> None:
    """Axial, coronal and sagittal slice through the origin, and the heart seen from the front, as PNG.

    As radiologists look: the patient's right is on the picture's left; in the sagittal slice front is left.
    `below`: another label map on the same grid, whose pictures stand in a second row.
    """
    rows = [_panels(one) for one in (labels, below) if one is not None]
    shades = np.array(
        [_rgb(c) for c in (BACKGROUND, *colours(anatomy.structures, anatomy.colours))], np.uint8
    )
    image = shades[np.concatenate(rows)].repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    with atomic_path(path) as temporary:
        imsave(temporary, image, check_contrast=False)


def _panels(labels: np.ndarray) -> np.ndarray:
    """The four views of a label map (X, Y, Z) side by side, as labels (rows, columns)."""
    x, y, z = (n // 2 for n in labels.shape)
    views = [labels[::-1, :, z], labels[::-1, y, :], labels[x, ::-1, :], _from_the_front(labels)[::-1]]
    height = max(view.shape[1] for view in views)
    panels = []
    for view in views:
        panel = np.zeros((height, view.shape[0] + GAP), np.uint8)
        panel[: view.shape[1], : view.shape[0]] = view.T[::-1]
        panels.append(panel)
    return np.concatenate(panels, axis=1)


def _from_the_front(labels: np.ndarray) -> np.ndarray:
    """The label (X, Z) that is met first from the front."""
    seen = labels[:, ::-1, :]
    return np.take_along_axis(seen, (seen != 0).argmax(axis=1)[:, None, :], axis=1)[:, 0, :]


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
