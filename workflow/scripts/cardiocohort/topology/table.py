"""Reading the rules table of an anatomy: what must hold, as data. Owned by the topology stage."""

import math
from pathlib import Path

from ..anatomy.labels import Anatomy
from ..runtime.apart import apart
from ..runtime.errors import InputError
from ..runtime.tables import read_cells
from .measures import KINDS, ONLY_JUDGED
from .repairs import REPAIRS
from .rules import COARSE, SCAN, SCOPES, UNOPENED, Rule, Rules

ARGUMENTS = ("other", "openings", "openings_mm", "percentile")
COLUMNS = ("rule", "kind", "scope", "structure", *ARGUMENTS, "min", "max", "unit", "reason")


def load_rules(path: str | Path, anatomy: Anatomy) -> Rules:
    """Read a rules table (TSV; columns in docs/topology.md) for `anatomy`.

    A cell of `structure` or `other` may list several structures, separated by commas: the row then
    stands for a rule each, named `<rule>.<structure>[.<other>]`. Raises InputError naming file, line
    and column for anything that is not a rule of this anatomy.
    """
    frame = read_cells(path, "rules table")
    if tuple(frame.columns) != COLUMNS:
        raise InputError(f"{path}: its columns are {', '.join(frame.columns)}; expected {', '.join(COLUMNS)}")
    rules = []
    for line, row in enumerate(frame.to_dict("records"), 2):
        try:
            rules += _rules_of_row({key: value.strip() for key, value in row.items()}, anatomy)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
    ids = [rule.id for rule in rules]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice:
        raise InputError(f"{path}: rule {twice!r} is there twice; give one row another name in column 'rule'")
    checks = [rule for rule in rules if rule.kind in KINDS]
    repairs = [rule for rule in rules if rule.kind in REPAIRS]
    return Rules(
        tuple(rule for rule in checks if rule.scope != UNOPENED),
        tuple(rule for rule in repairs if rule.scope not in (COARSE, SCAN)),
        tuple(rule for rule in repairs if rule.scope == COARSE),
        tuple(rule for rule in repairs if rule.scope == SCAN),
        tuple(rule for rule in checks if rule.scope == UNOPENED),
    )


def only_judged_apart(path: str | Path, anatomy: Anatomy) -> str:
    """One sentence about the rules of a table that judge but cannot guide; empty if there are none."""
    return apart(_only_judged, path, anatomy)


def _only_judged(path: str | Path, anatomy: Anatomy) -> str:
    rules = load_rules(path, anatomy)
    kinds = sorted({rule.kind for rule in (*rules.checks, *rules.unopened)} & ONLY_JUDGED)
    if not kinds:
        return ""
    return (
        f"{path}: topology guidance has no term for rules of kind {', '.join(kinds)}. They judge hearts and "
        "do not guide them; a heart that breaks one is left to further attempts (docs/generation.md, "
        "Topology guidance)"
    )


def _rules_of_row(row: dict[str, str], anatomy: Anatomy) -> list[Rule]:
    known = {**KINDS, **REPAIRS}
    if row["kind"] not in known:
        raise InputError(f"column 'kind': {row['kind']!r} is unknown; allowed: {', '.join(known)}")
    kind = known[row["kind"]]
    if row["scope"] not in SCOPES:
        raise InputError(f"column 'scope': {row['scope']!r} is unknown; allowed: {', '.join(SCOPES)}")
    for column in ARGUMENTS:
        if (row[column] != "") != (column in kind.needs):
            state = "needs" if column in kind.needs else "takes no"
            raise InputError(f"column {column!r}: kind {row['kind']!r} {state} value here")
    if row["unit"] != kind.unit:
        raise InputError(
            f"column 'unit': kind {row['kind']!r} is measured in {kind.unit}, not {row['unit']!r}"
        )
    for column in ("rule", "structure", "reason"):
        if not row[column]:
            raise InputError(f"column {column!r} is empty; every rule has a name, a structure and a reason")
    if "," in row["rule"]:
        raise InputError(f"column 'rule': {row['rule']!r} has a comma, which separates names in tables")
    if not 0 <= _number(row, "percentile", 0.0) <= 100:
        raise InputError(f"column 'percentile': {row['percentile']!r} is not between 0 and 100")
    if row["kind"] in REPAIRS and (row["min"] or not row["max"]):
        raise InputError("columns 'min' and 'max': a repair has a max, the volume it may change, and no min")
    minimum, maximum = _number(row, "min", -math.inf), _number(row, "max", math.inf)
    if row["scope"] in (COARSE, SCAN) and row["kind"] not in REPAIRS:
        raise InputError(
            f"column 'scope': {row['scope']!r} is for repairs; every map is held to the same checks"
        )
    if minimum > maximum or (math.isinf(minimum) and math.isinf(maximum)):
        raise InputError("columns 'min' and 'max': give at least one, and min no larger than max")
    return [
        Rule(
            id=".".join(part for part in (row["rule"], structure, other) if part),
            kind=row["kind"],
            scope=row["scope"],
            structure=_labels(anatomy, "structure", structure),
            other=_labels(anatomy, "other", other),
            openings=_labels(anatomy, "openings", row["openings"]),
            openings_mm=_number(row, "openings_mm", 0.0),
            percentile=_number(row, "percentile", 0.0),
            minimum=minimum,
            maximum=maximum,
            unit=row["unit"],
            reason=row["reason"],
        )
        for structure in map(str.strip, row["structure"].split(","))
        for other in map(str.strip, row["other"].split(","))
    ]


def _labels(anatomy: Anatomy, column: str, name: str) -> tuple[int, ...]:
    try:
        return anatomy.labels_of(name) if name else ()
    except InputError as error:
        raise InputError(f"column {column!r}: {error}") from error


def _number(row: dict[str, str], column: str, default: float) -> float:
    try:
        value = float(row[column]) if row[column] else default
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise InputError(f"column {column!r}: {row[column]!r} is not a number")
    return value
