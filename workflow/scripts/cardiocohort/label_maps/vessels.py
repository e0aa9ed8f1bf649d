"""Where vessels end: a stated length from the chamber that they join. Owned by the segmentations stage.

Scans show as much of a vessel as the field holds: one great artery with its arch, or half of
it. The bundled templates end where they are cut, a few centimetres from the heart. The lengths are
data (`resources/segmentations/<anatomy>_vessels.tsv`).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.graph import MCP_Geometric

from ..anatomy.labels import Anatomy
from ..runtime.errors import InputError
from .rule_rows import read_rows

COLUMNS = ("vessel", "joins", "length_mm", "reason")
MOUTH_MM = 4.0  # a wall of two voxels between vessel and chamber has no label
MAX_LENGTH_MM = 1000.0


@dataclass(frozen=True)
class Vessel:
    """`vessel` is kept up to `length_mm` from the chamber `joins`, measured inside the vessel."""

    vessel: str
    joins: str
    length_mm: float


def load_vessels(path: str | Path, anatomy: Anatomy) -> tuple[Vessel, ...]:
    """Read a table of vessels (TSV); InputError naming file, line and column for a bad one."""
    vessels = []
    for line, row in read_rows(path, COLUMNS, anatomy, ("vessel", "joins")):
        try:
            length = float(row["length_mm"])
        except ValueError:
            length = math.nan
        if not 0 < length <= MAX_LENGTH_MM:
            raise InputError(
                f"{path}, line {line}, column 'length_mm': {row['length_mm']!r} is no length; allowed: more "
                f"than 0, {MAX_LENGTH_MM:g} mm at most"
            )
        vessels.append(Vessel(row["vessel"], row["joins"], length))
    return tuple(vessels)


def shorten(
    labels: np.ndarray, spacing_mm: float, anatomy: Anatomy, vessels: tuple[Vessel, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (X, Y, Z) with the vessels cut to length, and one line per vessel that was cut.

    The length is the shortest path inside the vessel from its mouth, its voxels within 4 mm of the
    chamber; pieces that no path reaches are left out. The outermost voxels of the field are kept free of
    vessels, as in the templates. A vessel without a mouth is left as it is, for the gate to judge.
    """
    labels, done = labels.copy(), []
    for rule in vessels:
        vessel = labels == anatomy.label(rule.vessel)
        before = np.count_nonzero(vessel)
        if not before:
            continue
        inner = np.zeros_like(vessel)
        inner[1:-1, 1:-1, 1:-1] = vessel[1:-1, 1:-1, 1:-1]
        path = _path_mm(inner, labels == anatomy.label(rule.joins), spacing_mm)
        kept = inner if path is None else path <= rule.length_mm
        labels[vessel & ~kept] = 0
        lost = before - np.count_nonzero(kept)
        if lost:
            ml = spacing_mm**3 / 1000.0
            done.append(
                f"{rule.vessel}: {lost * ml:.2f} of {before * ml:.2f} mL left out, farther than "
                f"{rule.length_mm:g} mm from {rule.joins} or at the field's border"
            )
    return labels, tuple(done)


def _path_mm(vessel: np.ndarray, chamber: np.ndarray, spacing_mm: float) -> np.ndarray | None:
    """Length (X, Y, Z) of the shortest way inside the vessel to its mouth, else inf; None without a mouth."""
    if not (vessel.any() and chamber.any()):
        return None
    distance = ndimage.distance_transform_edt(~chamber, spacing_mm) - spacing_mm
    mouth = vessel & (distance <= MOUTH_MM)
    if not mouth.any():
        return None
    box = ndimage.find_objects(vessel.astype(np.uint8))[0]
    costs = np.where(vessel[box], 1.0, -1.0)  # negative: no way through
    out = np.full(vessel.shape, np.inf)
    out[box] = MCP_Geometric(costs, sampling=(spacing_mm,) * 3).find_costs(np.argwhere(mouth[box]))[0]
    return out
