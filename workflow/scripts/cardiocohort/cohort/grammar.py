"""The grammar of the cohort table's cells `constraints` and `edits` (docs/cohort-table.md).

Owned by the population stage; light, because the Snakefile imports it.
"""

import math
import re
from dataclasses import dataclass, replace

from ..anatomy.labels import ATTRIBUTES, FURTHER_ATTRIBUTES, RELATIONS, Anatomy
from ..runtime.errors import InputError

QUANTITIES = ("volume", "centroid_x", "centroid_y", "centroid_z",
              "scale", "elongation", "rotation_x", "rotation_y", "rotation_z")  # fmt: skip
RELATION_QUANTITIES = ("volume_ratio", "distance")
MUSCLE = "myocardium"  # the structure that has a mass
MYOCARDIUM_G_PER_ML = 1.05  # Vinnakota and Bassingthwaighte, Am J Physiol Heart Circ Physiol 2004
MAX_VOLUME_ML = 10_000.0  # beyond any field, so certainly a slip
MAX_POSITION_MM = 1_000.0
MAX_FACTOR = 1_000.0
MAX_ANGLE_DEG = 180.0

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
SIGNED = rf"[+-]?{NUMBER}"


@dataclass(frozen=True)
class Edit:
    """`set` conditions the draw on a value, `multiply` and `add` change what was drawn (mL, mm, degrees).

    `set_per_m2` is `set` to the value (mL/m2) times the person's body-surface area. `structure` is `a/b` for
    a relation: a is changed, b stays.
    """

    structure: str
    quantity: str
    operation: str
    value: float


def parse_constraints(text: str, anatomy: Anatomy) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """`a, b: size position; a+c: size; a/b: distance`.

    Unions come back in the anatomy's order, attributes in theirs.
    """
    constraints: dict[str, tuple[str, ...]] = {}
    for clause in filter(None, (part.strip() for part in text.split(";"))):
        names, colon, words = clause.partition(":")
        attributes = words.replace(",", " ").split()
        if not colon or not attributes:
            raise InputError(
                f"{clause!r} does not say what is constrained; write it as 'structure, structure: "
                f"attributes' with attributes from {', '.join(ATTRIBUTES)}, or 'all' for the three"
            )
        for name in names.split(","):
            canonical = canonical_name(name, anatomy)
            if canonical in constraints:
                raise InputError(f"{canonical!r} is constrained twice; name it once, with all its attributes")
            constraints[canonical] = _attributes(attributes, "/" in canonical, clause)
    return tuple(constraints.items())


def canonical_name(text: str, anatomy: Anatomy) -> str:
    """A structure, union `a+b` or relation `a/b` with the parts of unions in the anatomy's order.

    Raises InputError for what the anatomy does not have, and for a relation to a part of itself.
    """
    groups = [sorted(anatomy.labels_of(part)) for part in text.split("/")]
    if len(groups) > 2 or (len(groups) == 2 and set(groups[0]) & set(groups[1])):
        raise InputError(f"{text.strip()!r} is no relation; write 'a/b', of two that share no structure")
    return "/".join("+".join(anatomy.structures[label - 1] for label in group) for group in groups)


def _attributes(words: list[str], relation: bool, clause: str) -> tuple[str, ...]:
    known = RELATIONS if relation else (*ATTRIBUTES, *FURTHER_ATTRIBUTES, "all")
    for word in words:
        if word not in known:
            what = "attribute of a relation" if relation else "attribute"
            raise InputError(f"unknown {what} {word!r} in {clause!r}; allowed: {', '.join(known)}")
    chosen = tuple(a for a in known if a in words or ("all" in words and a in ATTRIBUTES))
    chosen = tuple(a for a in chosen if a != "all")
    if "shape" in chosen and {"orientation", "aspect"} & set(chosen):
        raise InputError(f"{clause!r}: shape is orientation and aspect; name it or them")
    return chosen


def parse_edits(text: str, anatomy: Anatomy) -> tuple[Edit, ...]:
    """`a.volume: x0.5; b.volume: 180 mL; c.centroid_x: +5 mm`: one edit a quantity, in the order written."""
    edits: dict[tuple[str, str], Edit] = {}
    for clause in filter(None, (part.strip() for part in text.split(";"))):
        edit = _parse_edit(clause, anatomy)
        if (edit.structure, edit.quantity) in edits:
            raise InputError(f"{edit.structure}.{edit.quantity} is edited twice; write one edit of it")
        edits[edit.structure, edit.quantity] = edit
    return tuple(edits.values())


def _parse_edit(clause: str, anatomy: Anatomy) -> Edit:
    target, _, operation = (part.strip() for part in clause.partition(":"))
    structure, _, quantity = (part.strip() for part in target.partition("."))
    parts = [part.strip() for part in structure.split("/")]
    unknown = [part for part in parts if part not in anatomy.structures]
    if unknown or len(parts) > 2 or len(set(parts)) < len(parts):
        raise InputError(
            f"unknown structure {(unknown or [structure])[0]!r} in {clause!r}; allowed: "
            f"{', '.join(anatomy.structures)} (an edit names one structure, not a union, or two as 'a/b')"
        )
    allowed = RELATION_QUANTITIES if len(parts) > 1 else QUANTITIES
    if quantity not in allowed:
        raise InputError(f"unknown quantity {quantity!r} in {clause!r}; allowed: {', '.join(allowed)}")
    if quantity == "volume":
        return Edit(parts[0], quantity, *_volume_operation(operation, clause, parts[0]))
    return Edit("/".join(parts), quantity, *_OPERATIONS[quantity](operation, clause))


def for_person(edits: tuple[Edit, ...], bsa_m2: float) -> tuple[Edit, ...]:
    """`edits` with values per area turned into those of a person; InputError where the area is not known."""
    resolved = []
    for edit in edits:
        if edit.operation == "set_per_m2":
            if math.isnan(bsa_m2):
                raise InputError(
                    f"edit {edit.structure}.{edit.quantity} is per m2 of body-surface area, which is not "
                    "known here: the reference table has no column 'bsa_m2', or the heart is a label map; "
                    "write mL"
                )
            edit = replace(edit, operation="set", value=edit.value * bsa_m2)
        resolved.append(edit)
    return tuple(resolved)


def _factor(text: str) -> float | None:
    """`x0.5`, `+20 %`; None if it is neither."""
    if match := re.fullmatch(rf"x ?({SIGNED})", text):
        return float(match[1])
    if match := re.fullmatch(rf"([+-] ?{NUMBER}) ?%", text):
        return 1.0 + float(match[1].replace(" ", "")) / 100.0
    return None


def _volume_operation(text: str, clause: str, structure: str) -> tuple[str, float]:
    operation, value = "multiply", _factor(text)
    if value is None:
        # signed millilitres are not read: they look like a negative volume and could make one
        match = re.fullmatch(rf"=? ?({NUMBER}) ?(mL|g)(/m2)?", text)
        operation, value = "set", float(match[1]) if match else math.nan
        if match and match[3]:
            operation = "set_per_m2"
        if match and match[2] == "g":
            value = value / MYOCARDIUM_G_PER_ML if structure == MUSCLE else math.nan
    if not 0.0 < value <= MAX_VOLUME_ML:
        raise InputError(
            f"{clause!r} does not give a volume; allowed: a positive volume '180 mL' (at most "
            f"{MAX_VOLUME_ML:g} mL) or '90 mL/m2' of body-surface area, for the {MUSCLE} a mass '140 g' or "
            f"'70 g/m2' ({MYOCARDIUM_G_PER_ML} g/mL), a positive factor 'x0.5', or a change in percent, "
            "'+20 %' or '-20 %', that leaves a positive volume"
        )
    return operation, value


def _ratio_operation(text: str, clause: str) -> tuple[str, float]:
    operation, value = "multiply", _factor(text)
    if value is None:
        match = re.fullmatch(rf"=? ?({NUMBER})", text)
        operation, value = "set", float(match[1]) if match else math.nan
    if not 1.0 / MAX_FACTOR <= value <= MAX_FACTOR:
        raise InputError(
            f"{clause!r} does not give a ratio; allowed: a positive number '0.8', a positive factor 'x0.5', "
            f"or a change in percent '+20 %', between {1 / MAX_FACTOR:g} and {MAX_FACTOR:g}"
        )
    return operation, value


def _factor_operation(text: str, clause: str) -> tuple[str, float]:
    value = _factor(text)
    if value is None or not 1.0 / MAX_FACTOR <= value <= MAX_FACTOR:
        raise InputError(
            f"{clause!r} does not give a factor; allowed: a positive factor 'x1.2' or a change in percent "
            f"'+20 %', between {1 / MAX_FACTOR:g} and {MAX_FACTOR:g}"
        )
    return "multiply", value


def _rotation_operation(text: str, clause: str) -> tuple[str, float]:
    match = re.fullmatch(rf"([+-]) ?({NUMBER}) ?deg", text)
    value = float(match[1] + match[2]) if match else math.nan
    if not abs(value) <= MAX_ANGLE_DEG:
        raise InputError(
            f"{clause!r} does not give a rotation; allowed: an angle '+10 deg' or '-10 deg' about the axis "
            f"through the structure's centroid, at most {MAX_ANGLE_DEG:g} deg"
        )
    return "add", value


def _position_operation(text: str, clause: str) -> tuple[str, float]:
    if match := re.fullmatch(rf"([+-]) ?({NUMBER}) ?mm", text):
        operation, value = "add", float(match[1] + match[2])
    elif match := re.fullmatch(rf"= ?({SIGNED}) ?mm", text):
        operation, value = "set", float(match[1])
    else:
        operation, value = "set", math.nan
    if not abs(value) <= MAX_POSITION_MM:
        raise InputError(
            f"{clause!r} does not give a position; allowed: a shift '+5 mm' or '-5 mm', or a coordinate in "
            f"the heart frame '= -12 mm', at most {MAX_POSITION_MM:g} mm"
        )
    return operation, value


def _distance_operation(text: str, clause: str) -> tuple[str, float]:
    if match := re.fullmatch(rf"([+-]) ?({NUMBER}) ?mm", text):
        operation, value = "add", float(match[1] + match[2])
    elif (factor := _factor(text)) is not None:
        operation, value = "multiply", factor
    else:
        match = re.fullmatch(rf"= ?({NUMBER}) ?mm", text)
        operation, value = "set", float(match[1]) if match else math.nan
    if not abs(value) <= MAX_POSITION_MM or (value <= 0 and operation != "add"):
        raise InputError(
            f"{clause!r} does not give a distance; allowed: '= 40 mm', a change '+5 mm' or '-5 mm', a "
            f"positive factor 'x1.1' or a change in percent '+10 %', at most {MAX_POSITION_MM:g} mm"
        )
    return operation, value


_OPERATIONS = {
    **dict.fromkeys(("centroid_x", "centroid_y", "centroid_z"), _position_operation),
    "scale": _factor_operation,
    "elongation": _factor_operation,
    **dict.fromkeys(("rotation_x", "rotation_y", "rotation_z"), _rotation_operation),
    "volume_ratio": _ratio_operation,
    "distance": _distance_operation,
}
