"""Edits of the cohort table, carried out on moments. Owned by the population stage.

Absolute volumes, coordinates and volume ratios can also be given values that the rest of a heart is
drawn around (`given_values`); whatever the way, edits hold exactly in the targets.
"""

from collections.abc import Mapping

import numpy as np
from scipy.spatial.transform import Rotation

from ..anatomy import domains
from ..anatomy.moments import MOMENT_COLUMNS, VECTOR_ENTRIES, Moments, of_each, to_columns
from ..cohort.grammar import TILTS, Edit
from ..runtime.errors import InputError

ENTRY_OF = {"volume": "log_volume", "centroid_x": "x", "centroid_y": "y", "centroid_z": "z"}
ENTRIES = len(VECTOR_ENTRIES)
NOTHING: Mapping = {}


def apply_edits(
    moments: Moments,
    names: tuple[str, ...],
    edits: tuple[Edit, ...],
    slabs_mm: Mapping[str, float] = NOTHING,
) -> Moments:
    """Moments (K,) after all edits, one after the other; InputError where a given value does not hold then.

    slabs_mm: thickness of the slab of each part whose area is given (`domains.slab_mm`).

    A volume times f takes its covariance along (f^(2/3)): the structure grows about its own centroid and
    keeps its form. `scale` multiplies tr S and leaves volume and S^n; `elongation` multiplies the long
    semi-axis over the geometric mean of the others at the same tr S; `rotation` turns S about the centroid.
    The area of a slab is its volume over its thickness, so both change by the same factor; so do thickness
    and volume of a wall, whose sides keep their area. A part that the heart does not have (NaN) stays so. A
    relation `a/b` changes a: its volume, or its place along the line from b's centroid, which `tilt` turns.
    """
    moments = of_each(np.array, moments)
    volume, centroid, covariance = moments.volume_ml, moments.centroid_mm, moments.covariance_mm2
    for edit in edits:
        first, _, second = edit.structure.partition("/")
        k, other = names.index(first), names.index(second) if second else None
        kind = edit.quantity.split("_")[0] if not second else edit.quantity
        if np.isnan(volume[k]):
            continue
        if kind in ("volume", "area", "volume_ratio", "thickness"):
            unit = 1.0 if other is None else volume[other]
            if kind == "thickness":
                unit = volume[k] / moments.thickness_mm[k]  # area of the wall
            elif kind == "area":
                unit = slabs_mm.get(first, 1.0) / 1000.0  # a factor is that of the volume too
            new = _changed(volume[k] / unit, edit)
            if kind == "thickness":
                moments.thickness_mm[k] = _above_zero(new, volume[k] / unit, edit)
            covariance[k] *= (new * unit / volume[k]) ** (2.0 / 3.0)
            volume[k] = new * unit
        elif kind == "centroid":
            axis = "xyz".index(edit.quantity[-1])
            centroid[k, axis] = _changed(centroid[k, axis], edit)
        elif kind == "distance":
            offset = centroid[k] - centroid[other]
            length = np.linalg.norm(offset)
            new = _above_zero(_changed(length, edit), length, edit)
            centroid[k] = centroid[other] + offset * (new / length)
        elif kind in TILTS:
            centroid[k] = centroid[other] + _tilted(centroid[k] - centroid[other], edit)
        elif kind == "scale":
            covariance[k] *= edit.value
        elif kind == "elongation":
            covariance[k] = _elongated(covariance[k], edit.value)
        else:
            turn = Rotation.from_euler(edit.quantity[-1], edit.value, degrees=True).as_matrix()
            covariance[k] = turn @ covariance[k] @ turn.T
    _check_given(moments, names, edits, slabs_mm)
    return moments


def _check_given(
    moments: Moments, names: tuple[str, ...], edits: tuple[Edit, ...], slabs_mm: Mapping[str, float]
) -> None:
    """InputError for a given value that a later edit has changed, such as a ratio's other structure."""
    for edit in edits:
        if edit.operation != "set":
            continue
        first, _, second = edit.structure.partition("/")
        k, other = names.index(first), names.index(second) if second else None
        volume, place = moments.volume_ml, moments.centroid_mm
        if edit.quantity == "volume_ratio":
            found = volume[k] / volume[other]
        elif edit.quantity == "distance":
            found = np.linalg.norm(place[k] - place[other])
        elif edit.quantity == "thickness":
            found = moments.thickness_mm[k]
        elif edit.quantity == "area":
            found = 1000.0 * volume[k] / slabs_mm[first]
        else:
            found = volume[k] if edit.quantity == "volume" else place[k, "xyz".index(edit.quantity[-1])]
        if np.isfinite(found) and not np.isclose(found, edit.value, rtol=1e-6, atol=1e-6):
            raise InputError(
                f"edit {edit.structure}.{edit.quantity}: the given {edit.value:g} is {found:.4g} after the "
                "edits that follow it, since edits are made one after the other; write it last, or leave one "
                "out"
            )


def follow_parts(names: tuple[str, ...], before: Moments, after: Moments) -> Moments:
    """Moments (K,) in which a structure has changed with its parts: those `after`, less those `before`."""
    found = of_each(np.array, after)
    volume, centroid, covariance = found.volume_ml, found.centroid_mm, found.covariance_mm2
    columns = [to_columns(m) for m in (before, after)]
    for k, name in enumerate(names):
        whole = domains.split(name)[0]
        unchanged = all(np.array_equal(*(c[column][k] for c in columns)) for column in MOMENT_COLUMNS)
        if not domains.is_part(name) or unchanged or np.isnan(volume[k]) or whole not in names:
            continue
        at = names.index(whole)
        terms = ((1.0, Moments(volume[at], centroid[at], covariance[at])), (-1.0, before[k]), (1.0, after[k]))
        mass = sum(sign * m.volume_ml for sign, m in terms)
        first = sum(sign * m.volume_ml * m.centroid_mm for sign, m in terms) / mass
        second = sum(
            sign * m.volume_ml * (m.covariance_mm2 + np.outer(m.centroid_mm, m.centroid_mm))
            for sign, m in terms
        )
        volume[at], centroid[at], covariance[at] = mass, first, second / mass - np.outer(first, first)
    return found


def _tilted(way: np.ndarray, edit: Edit) -> np.ndarray:
    """A way (3,) turned towards the axis x, y or z of the heart frame by the angle of the edit."""
    length, axis = np.linalg.norm(way), np.eye(3)["xyz".index(edit.quantity[-1])]
    across = axis - (axis @ way) * way / length**2
    if not np.linalg.norm(across) > 1e-3:
        raise InputError(
            f"edit {edit.structure}.{edit.quantity}: the way between the two lies along this axis already"
        )
    angle = np.radians(edit.value)
    return np.cos(angle) * way + np.sin(angle) * length * across / np.linalg.norm(across)


def _changed(value: float, edit: Edit) -> float:
    if edit.operation == "set":
        return edit.value
    return {"multiply": value * edit.value, "add": value + edit.value}[edit.operation]


def _above_zero(new: float, old: float, edit: Edit) -> float:
    if new <= 0.0:
        raise InputError(f"edit {edit.structure}.{edit.quantity}: {old:.1f} mm cannot become {new:.1f} mm")
    return new


def _elongated(covariance: np.ndarray, factor: float) -> np.ndarray:
    values, axes = np.linalg.eigh(covariance)
    stretched = values * np.array([1.0, 1.0, factor**2])
    return (axes * (stretched * values.sum() / stretched.sum())) @ axes.T


def given_values(
    edits: tuple[Edit, ...],
    names: tuple[str, ...],
    walls: Mapping[str, int] = NOTHING,
    areas: Mapping[str, tuple[np.ndarray, float]] = NOTHING,
    further: int = 0,
) -> tuple[dict[int, float], np.ndarray]:
    """What the draw of a heart's vector v (D,) is conditioned on: (entries of T v by index, T (D, D)).

    A given volume or coordinate is an entry of v, and so is the logarithm of a thickness, at the index that
    `walls` has; a given ratio of volumes is a difference of two log volumes, which T puts in the place of one
    of them. areas: of a part, what T has in place of its log volume (D,), and the value of that; a part that
    is not there has its area given after the draw alone. further: entries of v beyond the moments of `names`.
    Other edits intervene after the draw. Raises InputError for given values that cannot all be free choices.
    """
    transform, fixed = np.eye(ENTRIES * len(names) + further), {}
    quantities = (*ENTRY_OF, "area", "thickness", "volume_ratio")
    given = [e for e in edits if e.operation == "set" and e.quantity in quantities]
    for edit in sorted(given, key=lambda e: e.quantity == "volume_ratio"):
        first, _, second = edit.structure.partition("/")
        if edit.quantity == "thickness":
            if first in walls:
                fixed[walls[first]] = float(np.log(edit.value))
            continue
        if edit.quantity == "area":
            if first in areas:
                place = names.index(first) * ENTRIES + VECTOR_ENTRIES.index("log_volume")
                transform[place], fixed[place] = areas[first]
            continue
        if not second:
            entry = VECTOR_ENTRIES.index(ENTRY_OF[edit.quantity])
            value = np.log(edit.value) if edit.quantity == "volume" else edit.value
            fixed[names.index(first) * ENTRIES + entry] = float(value)
            continue
        a, b = names.index(first) * ENTRIES, names.index(second) * ENTRIES
        place = next((i for i in (a, b) if i not in fixed), None)
        if place is not None:
            transform[place] = 0.0
            transform[place, a], transform[place, b] = 1.0, -1.0
            fixed[place] = float(np.log(edit.value))
        if place is None or np.linalg.matrix_rank(transform) < len(transform):
            raise InputError(
                f"column 'edits': {edit.structure}.volume_ratio is set, but the other given values decide it "
                "already; leave one of them out"
            )
    return fixed, transform
