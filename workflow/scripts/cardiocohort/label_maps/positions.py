"""Does the heart lie as hearts lie? Mirrored and turned volumes. Owned by the segmentations stage.

The rules are data (`resources/segmentations/<anatomy>_positions.tsv`): which structure's centroid
lies on which side of which other's, in RAS+. A header that has left and right exchanged gives a
heart that no topology rule can tell from a true one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..anatomy.labels import Anatomy
from ..runtime.errors import InputError
from .rule_rows import read_rows

# side -> axis of RAS+ and sign along it
SIDES = {
    "left": (0, -1), "right": (0, 1), "posterior": (1, -1), "anterior": (1, 1), "inferior": (2, -1),
    "superior": (2, 1),
}  # fmt: skip
AXES = ("left and right", "back and front", "top and bottom")
COLUMNS = ("structure", "side", "other", "reason")


@dataclass(frozen=True)
class Position:
    """The centroid of `structure` lies to the `side` of that of `other`."""

    structure: str
    side: str
    other: str

    def offset_mm(self, centroids_mm: dict[str, np.ndarray]) -> float:
        """How far, mm; negative where it lies on the other side."""
        axis, sign = SIDES[self.side]
        return sign * float(centroids_mm[self.structure][axis] - centroids_mm[self.other][axis])


def load_positions(path: str | Path, anatomy: Anatomy) -> tuple[Position, ...]:
    """Read a positions table (TSV); InputError naming file, line and column for a bad one."""
    positions = []
    for line, row in read_rows(path, COLUMNS, anatomy, ("structure", "other")):
        if row["side"] not in SIDES:
            raise InputError(
                f"{path}, line {line}, column 'side': {row['side']!r} is unknown; allowed: {', '.join(SIDES)}"
            )
        positions.append(Position(row["structure"], row["side"], row["other"]))
    return tuple(positions)


def misplaced(centroids_mm: dict[str, np.ndarray], positions: tuple[Position, ...]) -> tuple[str, ...]:
    """Reasons why a heart with these centroids, (3,) mm in RAS+ by structure, lies wrongly; none if well.

    An axis is reversed where every rule along it is broken: an odd number of reversed axes is a mirror
    image, two are half a turn. Rules of structures that are not there are left out.
    """
    known = [p for p in positions if {p.structure, p.other} <= centroids_mm.keys()]
    wrong = [p for p in known if p.offset_mm(centroids_mm) < 0]
    reversed_axes = [
        axis
        for axis in range(3)
        if (along := [p for p in known if SIDES[p.side][0] == axis]) and all(p in wrong for p in along)
    ]
    reasons = []
    if reversed_axes:
        kind = "mirrored" if len(reversed_axes) % 2 else "turned by half"
        names = ", ".join(AXES[axis] for axis in reversed_axes)
        reasons.append(f"{kind}: {names} exchanged (orientation in the file's header)")
    reasons += [
        f"position: {p.structure} is not {p.side} of {p.other} ({-p.offset_mm(centroids_mm):.0f} mm off)"
        for p in wrong
        if SIDES[p.side][0] not in reversed_axes
    ]
    return tuple(reasons)
