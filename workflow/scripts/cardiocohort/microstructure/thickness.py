"""Thickness of the ventricular walls. Owned by the meshing stage.

The length of the line from one side of a wall to the other along the gradient of a harmonic field between
them (Jones, Buchbinder, Aharon, Hum Brain Mapp 2000), found as two lengths that add up (Yezzi and Prince,
IEEE Trans Med Imaging 2003). The septum reaches from the LV's endocardium to the RV's.
"""

import numpy as np

from ..mesh.model import REGIONS, BiventricularModel
from .laplace import Elements, part_of

THINNEST_MM = 1.0  # a tet in the corner of two walls must not outweigh the rest of its segment


def wall_thickness(model: BiventricularModel, sheet: np.ndarray) -> np.ndarray:
    """(M,) thickness in mm of the wall that each tet is part of; sheet (M,) from `junctions.sheets`."""
    thickness = np.zeros(len(model.tets))
    rv = sheet == REGIONS["rv"]
    outer = np.union1d(model.nodes_of("epi"), model.nodes_of("rv_endo"))
    for part, inside, outside in (
        (~rv, model.nodes_of("lv_endo"), outer),
        (rv, model.nodes_of("rv_endo"), model.nodes_of("epi")),
    ):
        points, tets, (inside, outside) = part_of(model.points_mm, model.tets[part], inside, outside)
        elements = Elements(points, tets)
        (field,) = elements.solve([{0.0: inside, 1.0: outside}])
        _, total = elements.share_of_length(field, inside, outside)
        thickness[part] = total[tets].mean(axis=1)
    return thickness


def segment_thickness(model: BiventricularModel, numbers) -> dict[int, float]:
    """Mean thickness (mm) by segment number, NaN where no tet is in it. The model needs its coordinates.

    Each tet counts with the area of wall that it stands for, its volume over the thickness.
    """
    segment, wall = model.coordinates.aha, model.coordinates.wall_mm
    size = max(numbers) + 1
    area = model.tet_volumes_mm3 / np.maximum(wall, THINNEST_MM)
    areas = np.bincount(segment, area, minlength=size)
    sums = np.bincount(segment, area * wall, minlength=size)
    return {n: float(sums[n] / areas[n]) if areas[n] > 0 else float("nan") for n in numbers}
