"""A user's label map on an anatomy's grid. Owned by the prior stage, which trains on such maps."""

from pathlib import Path

import numpy as np

from .. import topology
from ..anatomy.label_map import centred, heart_centre_mm
from ..anatomy.labels import Anatomy, Grid
from . import coarse_maps
from .importing import ending_alone
from .reading import Convention, read_heart
from .resample import label_map_onto


def read_on_grid(
    source: str | Path, anatomy: Anatomy, grid: Grid, rules: topology.Rules, convention: Convention
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (X, Y, Z) of a file, the heart's centre at the grid's origin, and what was done to them.

    Coarser voxels are refined, finer ones averaged. SubjectError for a map that cannot be used.
    """
    with ending_alone(source):
        label_map, remarks = read_heart(source, anatomy, convention)
        label_map, changes = coarse_maps.bring_to_spacing(label_map, anatomy, grid, rules)
        changes = (*remarks, *changes)
        if not np.allclose(label_map.spacing_mm, grid.spacing_mm, rtol=1e-3):
            spacing = " x ".join(f"{mm:g}" for mm in label_map.spacing_mm)
            changes = (*changes, f"resampled from {spacing} mm to {grid.spacing_mm:g} mm")
            centre = heart_centre_mm(label_map, anatomy)
            label_map = label_map_onto(label_map, grid, centre, anatomy.n_channels - 1)
        return centred(label_map, anatomy, grid), changes
