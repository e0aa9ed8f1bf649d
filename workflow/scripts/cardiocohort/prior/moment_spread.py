"""Spread of moments in the reference population: the unit of guidance residuals (prior stage)."""

import numpy as np
import pandas as pd

from ..anatomy import moments
from ..anatomy.labels import Anatomy


def moment_spread(reference: pd.DataFrame, anatomy: Anatomy) -> dict[str, dict[str, float]]:
    """Per structure the SD of log volume, of the centroid (mm, root mean over axes) and of S^n entries."""
    out = {}
    for structure in anatomy.structures:
        m = moments.from_columns(reference[reference["structure"] == structure])
        out[structure] = {
            "log_volume": float(np.log(m.volume_ml).std()),
            "centroid_mm": float((m.centroid_mm.var(0).mean()) ** 0.5),
            "shape": float((m.shape.var(0).mean()) ** 0.5),
        }
    return out
