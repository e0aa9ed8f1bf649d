"""Reading the rules table of an anatomy: what must hold, as data. Owned by the topology stage."""

import math
from itertools import combinations
from pathlib import Path

from ..anatomy.labels import Anatomy
from ..runtime.apart import apart
from ..runtime.errors import InputError
from ..runtime.tables import read_cells
from .guided import unguided
from .measures import KINDS
from .repairs import REPAIRS
from .rules import COARSE, GENERATED, SCAN, SCOPES, UNOPENED, Rule, Rules

ARGUMENTS = ("other", "openings", "openings_mm", "percentile")
OF_REPAIRS = ("any", GENERATED, SCAN, COARSE)  # scopes
NAMED = 3  # rules of a kind that a remark names
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
    if not any(rule.scope != UNOPENED for rule in checks):
        raise InputError(
            f"{path}: no row of it checks a map (column 'kind'; repairs and rows of scope {UNOPENED!r} do "
            "not count), so that every map would pass; give at least one, for example kind 'volume' with the "
            f"least volume of a structure. Kinds of checks: {', '.join(KINDS)}"
        )
    repairs = [rule for rule in rules if rule.kind in REPAIRS]
    return Rules(
        tuple(rule for rule in checks if rule.scope != UNOPENED),
        tuple(rule for rule in repairs if rule.scope not in (COARSE, SCAN)),
        tuple(rule for rule in repairs if rule.scope == COARSE),
        tuple(rule for rule in repairs if rule.scope == SCAN),
        tuple(rule for rule in checks if rule.scope == UNOPENED),
    )


def only_judged_apart(path: str | Path, anatomy: Anatomy) -> str:
    """One sentence about the bounds of a table that judge but cannot guide; empty if there are none."""
    return apart(_only_judged, path, anatomy)


def _only_judged(path: str | Path, anatomy: Anatomy) -> str:
    found: dict[str, list[str]] = {}
    for rule, side in unguided(load_rules(path, anatomy)):
        found.setdefault(f"{side} of {rule.kind}", []).append(rule.id)
    if not found:
        return ""
    return (
        f"{path}: topology guidance has no term for these bounds: "
        f"{'; '.join(f'{bound} ({_some(ids)})' for bound, ids in sorted(found.items()))}. They judge hearts "
        "and do not guide them; a heart that breaks one is left to further attempts (docs/generation.md, "
        "Topology guidance)"
    )


def _some(ids: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more


def _rules_of_row(row: dict[str, str], anatomy: Anatomy) -> list[Rule]:
    _check_words(row)
    minimum, maximum = _bounds(row)
    openings_mm = _number(row, "openings_mm", 0.0)
    if not 0 <= openings_mm < math.inf:
        raise InputError(
            f"column 'openings_mm': {row['openings_mm']!r} is not allowed; it is a distance in mm from 0 up"
        )
    if not 0 <= _number(row, "percentile", 0.0) <= 100:
        raise InputError(f"column 'percentile': {row['percentile']!r} is not between 0 and 100")
    rules = [
        Rule(
            id=".".join(part for part in (row["rule"], structure, other) if part),
            kind=row["kind"],
            scope=row["scope"],
            structure=_labels(anatomy, "structure", structure),
            other=_labels(anatomy, "other", other),
            openings=_labels(anatomy, "openings", row["openings"]),
            openings_mm=openings_mm,
            percentile=_number(row, "percentile", 0.0),
            minimum=minimum,
            maximum=maximum,
            unit=row["unit"],
            reason=row["reason"],
        )
        for structure in _names(row, "structure")
        for other in _names(row, "other")
    ]
    for rule in rules:
        _check_apart(rule, anatomy)
    return rules


def _check_words(row: dict[str, str]) -> None:
    """InputError for a kind, scope, unit or cell that does not fit the others of its row."""
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
    _check_scope(row, kind.needs)


def _check_scope(row: dict[str, str], needs: tuple[str, ...]) -> None:
    scope = row["scope"]
    if row["kind"] in REPAIRS:
        if scope not in OF_REPAIRS:
            raise InputError(
                f"column 'scope': {scope!r} is for checks; allowed for a repair: {', '.join(OF_REPAIRS)}"
            )
        return
    if scope in (COARSE, SCAN):
        raise InputError(f"column 'scope': {scope!r} is for repairs; every map is held to the same checks")
    if scope == UNOPENED and "openings" not in needs:
        with_openings = ", ".join(name for name, kind in KINDS.items() if "openings" in kind.needs)
        raise InputError(
            f"column 'scope': {scope!r} is for maps without a rule's openings, and kind {row['kind']!r} has "
            f"none; allowed for the kinds {with_openings}"
        )


def _bounds(row: dict[str, str]) -> tuple[float, float]:
    """Columns `min` and `max`, infinite where they are empty; InputError for what no map keeps or breaks."""
    if row["kind"] in REPAIRS and (row["min"] or not row["max"]):
        raise InputError("columns 'min' and 'max': a repair has a max, the volume it may change, and no min")
    minimum, maximum = _number(row, "min", -math.inf), _number(row, "max", math.inf)
    if row["kind"] in REPAIRS and not 0 <= maximum < math.inf:
        raise InputError(
            f"column 'max': {row['max']!r} is not allowed; of a repair it is the volume that it may change, "
            "a number of mL from 0 up"
        )
    if maximum < 0:
        raise InputError(
            f"column 'max': {row['max']!r} is below 0, and no map has a {row['kind']} below 0, so that none "
            "would pass; allowed: a number from 0 up"
        )
    if minimum > maximum or (math.isinf(minimum) and math.isinf(maximum)):
        raise InputError("columns 'min' and 'max': give at least one, and min no larger than max")
    return minimum, maximum


def _names(row: dict[str, str], column: str) -> list[str]:
    """The names of a cell, which commas separate; one that is empty for a column that the kind leaves so."""
    names = [name.strip() for name in row[column].split(",")]
    if row[column] and not all(names):
        raise InputError(
            f"column {column!r}: {row[column]!r} has a comma without a name beside it; allowed: a name, or "
            "several with one comma between each two"
        )
    return names


def _check_apart(rule: Rule, anatomy: Anatomy) -> None:
    """InputError where two columns of a row name the same structure, so that a measure means nothing."""
    columns = {"structure": rule.structure, "other": rule.other, "openings": rule.openings}
    for one, two in combinations(columns, 2):
        both = sorted(set(columns[one]) & set(columns[two]))
        if both:
            raise InputError(
                f"columns {one!r} and {two!r}: both name {anatomy.structures[both[0] - 1]!r} (rule "
                f"{rule.id!r}); allowed: structures that are not in the other column"
            )


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
