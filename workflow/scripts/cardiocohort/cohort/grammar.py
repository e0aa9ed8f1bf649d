"""The grammar of the cohort table's cells `constraints` and `edits` (docs/cohort-table.md).

Owned by the population stage; light, because the Snakefile imports it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..anatomy import domains as parts
from ..anatomy.domains import Domain
from ..anatomy.labels import (
    ATTRIBUTES,
    FURTHER_ATTRIBUTES,
    RELATIONS,
    SLAB_ATTRIBUTES,
    WALL_ATTRIBUTES,
    Anatomy,
)
from ..runtime.errors import InputError

QUANTITIES = ("volume", "centroid_x", "centroid_y", "centroid_z",
              "scale", "elongation", "rotation_x", "rotation_y", "rotation_z")  # fmt: skip
TILTS = ("tilt_x", "tilt_y", "tilt_z")
RELATION_QUANTITIES = ("volume_ratio", "distance", *TILTS)
SLAB_QUANTITIES = ("area",)  # of a slab of a structure
WALL_QUANTITIES = ("thickness",)  # of a wall in a domain
MUSCLE = "myocardium"  # the structure that has a mass
MYOCARDIUM_G_PER_ML = 1.05  # Vinnakota and Bassingthwaighte, Am J Physiol Heart Circ Physiol 2004
MAX_VOLUME_ML = 10_000.0  # beyond any field, so certainly a slip
MAX_AREA_MM2 = 100_000.0
MAX_POSITION_MM = 1_000.0
MAX_FACTOR = 1_000.0
MAX_ANGLE_DEG = 180.0

WALL_HINT = "; only a wall in a domain has a thickness, 'structure@domain'"
SLAB_HINT = "; only a slab has an area, 'structure@domain' with 'form: slab'"
RATIO_HINT = (
    "; the ratio of two areas is the volume_ratio of both slabs, over the ratio of their thicknesses, which "
    "does not change: 'volume_ratio: x0.8' changes both by the same factor"
)

DEFAULT = "default"  # constraints of the anatomy
NO_DOMAINS: Mapping[str, Domain] = {}
NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
SIGNED = rf"[+-]?{NUMBER}"


@dataclass(frozen=True)
class Edit:
    """`set` conditions the draw on a value, `multiply` and `add` change what was drawn (mL, mm, degrees).

    `set_per_m2` is `set` to the value (mL/m2, mm2/m2) times the person's body-surface area. `structure` is
    `a/b` for a relation: a is changed, b stays. It may be a part `structure@domain`.
    """

    structure: str
    quantity: str
    operation: str
    value: float

    @property
    def changes(self) -> tuple[str, ...]:
        """What it changes: a, and of a surface that is tilted between two parts a and b, both."""
        first, *second = self.structure.split("/")
        tilted = self.quantity in TILTS and parts.is_part(second[0])
        return (first, *second) if tilted else (first,)


def parse_constraints(
    text: str, anatomy: Anatomy, domains: Mapping[str, Domain] = NO_DOMAINS, defaults: str = ""
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """`a, b: size position; a+c: size; a/b: distance; a@domain: size; default`.

    `default` stands for the anatomy's own constraints, `defaults`. Unions come back in the anatomy's order,
    attributes in theirs.
    """
    constraints: dict[str, tuple[str, ...]] = {}
    clauses = _clauses(text)
    if DEFAULT in clauses:
        if not _clauses(defaults):
            raise InputError(
                f"{DEFAULT!r} stands for the anatomy's own constraints, and its anatomy.json has no key "
                "'constraints'; write them here, or there"
            )
        at = clauses.index(DEFAULT)
        clauses[at : at + 1] = _clauses(defaults)
    for clause in clauses:
        names, colon, words = clause.partition(":")
        attributes = words.replace(",", " ").split()
        if not colon or not attributes:
            raise InputError(
                f"{clause!r} does not say what is constrained; write it as 'structure, structure: "
                f"attributes' with attributes from {', '.join(ATTRIBUTES)}, or 'all' for the three"
            )
        for name in names.split(","):
            canonical = canonical_name(name, anatomy, domains)
            if canonical in constraints:
                raise InputError(f"{canonical!r} is constrained twice; name it once, with all its attributes")
            constraints[canonical] = _attributes(attributes, canonical, clause, domains)
    return tuple(constraints.items())


def _clauses(text: str) -> list[str]:
    return [clause for part in text.split(";") if (clause := part.strip())]


def canonical_name(text: str, anatomy: Anatomy, domains: Mapping[str, Domain] = NO_DOMAINS) -> str:
    """A structure, union `a+b`, part `a@domain` or relation `a/b`, parts of unions in the anatomy's order.

    Raises InputError for what the anatomy or the domains do not have, and for a relation to a part of itself.
    """
    places = [place.strip() for place in text.split("/")]
    split = [parts.split(place) for place in places]
    groups = [sorted(anatomy.labels_of(structure)) for structure, _ in split]
    words = ["@" + known_domain(place, domains) if parts.is_part(place) else "" for place in places]
    if len(groups) > 2 or (len(groups) == 2 and set(groups[0]) & set(groups[1])):
        raise InputError(f"{text.strip()!r} is no relation; write 'a/b', of two that share no structure")
    names = ["+".join(anatomy.structures[label - 1] for label in group) for group in groups]
    return "/".join(name + word for name, word in zip(names, words, strict=True))


def known_domain(name: str, domains: Mapping[str, Domain]) -> str:
    """The domain in `structure@domain`, with `outside_` where it has it.

    InputError for an unknown one, and for one whose frame would point from the structure to itself.
    """
    structure, word = (text.strip() for text in parts.split(name))
    if word.removeprefix(parts.REST) not in domains:
        allowed = ", ".join(f"{d}, {parts.REST}{d}" for d in domains) or "none, since it has none"
        raise InputError(
            f"unknown domain {word!r} in {name!r}; the config key 'domains' defines them; allowed: {allowed}"
        )
    if problem := parts.points_to_itself(structure, domains[word.removeprefix(parts.REST)]):
        raise InputError(f"{name!r}: config key 'domains.{word.removeprefix(parts.REST)}': {problem}")
    return word


def _attributes(words: list[str], name: str, clause: str, domains: Mapping[str, Domain]) -> tuple[str, ...]:
    relation = "/" in name
    known = RELATIONS if relation else (*ATTRIBUTES, *FURTHER_ATTRIBUTES, "all")
    known += SLAB_ATTRIBUTES if not relation and parts.is_slab(name, domains) else ()
    known += WALL_ATTRIBUTES if parts.is_inside(name) and not relation else ()
    for word in words:
        if word not in known:
            what = "attribute of a relation" if relation else "attribute"
            hint = {"area": SLAB_HINT, "thickness": WALL_HINT, "area_ratio": RATIO_HINT}.get(word, "")
            raise InputError(f"unknown {what} {word!r} in {clause!r}; allowed: {', '.join(known)}{hint}")
    chosen = tuple(a for a in known if a in words or ("all" in words and a in ATTRIBUTES))
    chosen = tuple(a for a in chosen if a != "all")
    if {"size", "area"} <= set(chosen):
        raise InputError(f"{clause!r}: area is size over the thickness of the slab; name one of them")
    if "shape" in chosen and {"orientation", "aspect"} & set(chosen):
        raise InputError(f"{clause!r}: shape is orientation and aspect; name it or them")
    return chosen


def parse_edits(text: str, anatomy: Anatomy, domains: Mapping[str, Domain] = NO_DOMAINS) -> tuple[Edit, ...]:
    """`a.volume: x0.5; b.volume: 180 mL; c@domain.volume: x2`: one edit per quantity, in the order written.

    Of a structure, either it as a whole or one part of it is edited: the rest is held.
    """
    edits: dict[tuple[str, str], Edit] = {}
    for clause in filter(None, (part.strip() for part in text.split(";"))):
        edit = _parse_edit(clause, anatomy, domains)
        if edit.quantity in ("volume", "area"):
            other = edits.get((edit.structure, {"volume": "area", "area": "volume"}[edit.quantity]))
            if other and not other.operation == edit.operation == "multiply":
                raise InputError(
                    f"{edit.structure}: area is volume over the thickness of the slab, and one of both is "
                    "given a value; write one edit of it"
                )
        if (edit.structure, edit.quantity) in edits:
            raise InputError(f"{edit.structure}.{edit.quantity} is edited twice; write one edit of it")
        edits[edit.structure, edit.quantity] = edit
    edited: dict[str, str] = {}
    for edit in edits.values():
        for name in edit.changes:
            other = edited.setdefault(parts.split(name)[0], name)
            if other != name:
                raise InputError(
                    f"{other} and {name} are edited together, and one changes the other; edit one of them, "
                    "and the other in an arm whose base is this one"
                )
    return tuple(edits.values())


def _parse_edit(clause: str, anatomy: Anatomy, domains: Mapping[str, Domain]) -> Edit:
    target, _, operation = (part.strip() for part in clause.partition(":"))
    structure, _, quantity = (part.strip() for part in target.partition("."))
    names = [name.strip() for name in structure.split("/")]
    split = [parts.split(name)[0].strip() for name in names]
    unknown = [name for name in split if name not in anatomy.structures]
    if unknown or len(names) > 2 or len(set(split)) < len(split):
        raise InputError(
            f"unknown structure {(unknown or [structure])[0]!r} in {clause!r}; allowed: "
            f"{', '.join(anatomy.structures)} (an edit names one structure or a part 'a@domain' of it, not a "
            "union, or two as 'a/b')"
        )
    names = [
        f"{whole}@{known_domain(name, domains)}" if parts.is_part(name) else whole
        for whole, name in zip(split, names, strict=True)
    ]
    allowed = RELATION_QUANTITIES if len(names) > 1 else QUANTITIES
    if len(names) == 1 and parts.is_inside(names[0]):
        slab = SLAB_QUANTITIES if parts.is_slab(names[0], domains) else ()
        allowed = (*QUANTITIES, *slab, *WALL_QUANTITIES)
    if quantity not in allowed:
        hint = {"area": SLAB_HINT, "thickness": WALL_HINT, "area_ratio": RATIO_HINT}.get(quantity, "")
        raise InputError(f"unknown quantity {quantity!r} in {clause!r}; allowed: {', '.join(allowed)}{hint}")
    if quantity == "volume":
        return Edit(names[0], quantity, *_volume_operation(operation, clause, split[0]))
    return Edit("/".join(names), quantity, *_OPERATIONS[quantity](operation, clause))


def for_person(edits: tuple[Edit, ...], bsa_m2: float) -> tuple[Edit, ...]:
    """`edits` with values per area turned into those of a person; InputError where the area is not known."""
    resolved = []
    for edit in edits:
        if edit.operation == "set_per_m2":
            if math.isnan(bsa_m2):
                raise InputError(
                    f"edit {edit.structure}.{edit.quantity} is per m2 of body-surface area, which is not "
                    "known here: the reference table has no column 'bsa_m2', or the heart is a label map; "
                    f"write {'mm2' if edit.quantity == 'area' else 'mL'}"
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


def _area_operation(text: str, clause: str) -> tuple[str, float]:
    operation, value = "multiply", _factor(text)
    if value is None:
        match = re.fullmatch(rf"=? ?({NUMBER}) ?(mm2|cm2)(/m2)?", text)
        value = float(match[1]) * (100.0 if match[2] == "cm2" else 1.0) if match else math.nan
        operation = "set_per_m2" if match and match[3] else "set"
    if not 0.0 < value <= MAX_AREA_MM2:
        raise InputError(
            f"{clause!r} does not give an area; allowed: a positive area '700 mm2' or '7 cm2' (at most "
            f"{MAX_AREA_MM2:g} mm2), '350 mm2/m2' of body-surface area, a positive factor 'x1.3', or a "
            "change in percent, '+20 %' or '-20 %', that leaves a positive area"
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
            f"through the structure's centroid, of a tilt towards the axis, at most {MAX_ANGLE_DEG:g} deg"
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


def _length_operation(text: str, clause: str) -> tuple[str, float]:
    if match := re.fullmatch(rf"([+-]) ?({NUMBER}) ?mm", text):
        operation, value = "add", float(match[1] + match[2])
    elif (factor := _factor(text)) is not None:
        operation, value = "multiply", factor
    else:
        match = re.fullmatch(rf"= ?({NUMBER}) ?mm", text)
        operation, value = "set", float(match[1]) if match else math.nan
    if not abs(value) <= MAX_POSITION_MM or (value <= 0 and operation != "add"):
        raise InputError(
            f"{clause!r} does not give a length; allowed: '= 40 mm', a change '+5 mm' or '-5 mm', a "
            f"positive factor 'x1.1' or a change in percent '+10 %', at most {MAX_POSITION_MM:g} mm"
        )
    return operation, value


_OPERATIONS = {
    **dict.fromkeys(("centroid_x", "centroid_y", "centroid_z"), _position_operation),
    "scale": _factor_operation,
    "area": _area_operation,
    "elongation": _factor_operation,
    **dict.fromkeys(("rotation_x", "rotation_y", "rotation_z"), _rotation_operation),
    **dict.fromkeys(TILTS, _rotation_operation),
    "volume_ratio": _ratio_operation,
    "distance": _length_operation,
    "thickness": _length_operation,
}
