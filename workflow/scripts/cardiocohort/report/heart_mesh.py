"""What a mesh of both ventricles, and its simulation, have by name: columns, regions, colours.

Of hearts only. Owned by the report stage. Its other modules take these from here, so that they name none.
"""

import pandas as pd

from ..anatomy.aha_segments import WALL_COLUMNS
from ..mesh.model import FACETS, REGIONS
from ..simulation.beat_output import end_systole

# figures of the mesh table
FIGURES = ("n_nodes", "n_tets", "min_scaled_jacobian", "p1_scaled_jacobian", "wall_volume_ml", "rv_wall_mm")
CAVITIES = ("lv_cavity_ml", "rv_cavity_ml")
SUBJECT_FIGURES = (
    "wall_volume_ml", *CAVITIES, "rv_wall_mm", *WALL_COLUMNS.values(), "n_nodes", "n_tets",
    "min_scaled_jacobian", "p1_scaled_jacobian",
)  # fmt: skip
MEDIANS = {"rv_wall_mm": "median", "lv_volume_kept": "median"}  # of the mesh table, beside those of any mesh

REGION_COLOURS = {"lv": "#c4686a", "rv": "#6d95c4", "septum": "#b58ac0"}
INNER = "endocardium"
INNER_COLOUR = "#e8d3c9"
INNER_FACETS = (FACETS["lv_endo"], FACETS["rv_endo"])
REGION_NUMBERS = tuple(REGIONS[name] for name in ("lv", "septum", "rv"))  # in the order of `bullseye`

WALLS = {"lv": "LV free wall", "rv": "RV free wall", "septum": "septum"}  # of which pairs are compared
POOLS = ("lv", "rv")


def emptied_s(loop: pd.DataFrame) -> float:
    """When (s) the left ventricle of a beat has emptied; loop: the rows of its curves."""
    return end_systole(loop["time_s"].to_numpy(), loop["lv_volume_ml"].to_numpy())
