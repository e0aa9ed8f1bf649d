"""Another anatomy than the heart: a bent tube with a wall, beside a block."""

import json
from pathlib import Path

import numpy as np

from cardiocohort.anatomy.bundle_metadata import FORMAT
from cardiocohort.anatomy.labels import Anatomy, Grid

TUBE = Anatomy(("lumen", "wall", "spine"), ("lumen", "wall"))
GRID = Grid((32, 32, 32), 3.0)
RULES = """rule\tkind\tscope\tstructure\tother\topenings\topenings_mm\tpercentile\tmin\tmax\tunit\treason
components\tcomponents\tany\tlumen,wall,spine\t\t\t\t\t1\t1\tcount\tone piece
apart\tcontact\tany\tlumen\tspine\t\t\t\t\t0\tmm2\tthe wall parts them
speck\tspeck\tany\tlumen,wall,spine\t\t\t\t\t\t0.2\tmL\tnoise
"""


def tube(rng):
    """A bent tube of random width with a wall of two voxels, beside a block: labels on GRID."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    bend, radius = rng.uniform(-0.15, 0.15), rng.uniform(10, 14)
    r = np.hypot(x - bend * z, y)
    labels = np.where(r < radius, 1, np.where(r < radius + 6, 2, 0))
    labels[(abs(x) < 12) & (y < -24) & (y > -24 - rng.uniform(9, 15))] = 3
    labels[abs(z) > rng.uniform(30, 38)] = 0
    return labels.astype(np.uint8)


def write_anatomy(folder: Path) -> None:
    """The folder of the anatomy, with its rules."""
    anatomy = {"structures": TUBE.structures, "centred_on": TUBE.centred_on}
    grid = {"shape": GRID.shape, "spacing_mm": GRID.spacing_mm}
    folder.mkdir()
    (folder / "topology.tsv").write_text(RULES)
    (folder / "anatomy.json").write_text(json.dumps({"format": FORMAT, "anatomy": anatomy, "grid": grid}))
