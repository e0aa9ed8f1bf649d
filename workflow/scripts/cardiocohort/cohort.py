"""The cohort table: which arms a trial has, who is in them, what is asked of their hearts.

Owned by the population stage; light (no torch, no scikit-learn), because the Snakefile imports it.
The grammar of the cells is told in docs/cohort-table.md. An arm is split into batches, the unit of
work, and everything random about a subject comes from `seed_sequence`.
"""

import hashlib
import io
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from .anatomy import ATTRIBUTES, Anatomy
from .errors import InputError

COLUMNS = ("arm", "n", "sex", "condition", "age", "bsa", "seed", "constraints", "edits")
MAX_SUBJECTS = 100_000  # of one arm: five digits number its subjects
ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
CONDITION_NAME = ARM_NAME
# what a person can have; distributions are cut there
LIMITS = {"age": (0.0, 120.0), "bsa": (0.2, 4.0)}
UNITS = {"volume": "mL", "centroid_x": "mm", "centroid_y": "mm", "centroid_z": "mm"}
MAX_VOLUME_ML = 10_000.0  # beyond any field, so certainly a slip
MAX_POSITION_MM = 1_000.0
STREAMS = {"population": 0, "generation": 1}

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_SIGNED = rf"[+-]?{_NUMBER}"


@dataclass(frozen=True)
class Distribution:
    """Of a covariate: fixed (value), normal (mean, sd) or uniform (low, high)."""

    kind: str
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Edit:
    """`set` conditions the draw on a value, `multiply` and `add` change what was drawn (mL, mm)."""

    structure: str
    quantity: str
    operation: str
    value: float


@dataclass(frozen=True)
class Arm:
    """One row of the cohort table. None stands for "as in the reference population".

    `constraints` holds (structure or union `a+b`, attributes) pairs; `seed` None is the config's.
    `n` is None in an arm that came back from `from_dict`.
    """

    name: str
    n: int | None
    female_share: float | None
    condition: str | None
    age: Distribution | None
    bsa: Distribution | None
    seed: int | None
    constraints: tuple[tuple[str, tuple[str, ...]], ...]
    edits: tuple[Edit, ...]

    def to_dict(self) -> dict:
        """Plain JSON-able values that describe any one subject of the arm.

        `n` is left out: an arm that grows must not change the parameters of its finished batches.
        """
        plain = asdict(self)
        del plain["n"]
        for key in ("age", "bsa"):
            if plain[key]:
                plain[key]["parameters"] = list(plain[key]["parameters"])
        plain["constraints"] = {name: list(attributes) for name, attributes in self.constraints}
        plain["edits"] = list(plain["edits"])
        return plain

    @classmethod
    def from_dict(cls, plain: dict) -> "Arm":
        """Inverse of `to_dict`, with `n` unknown."""

        def distribution(value):
            return value and Distribution(value["kind"], tuple(value["parameters"]))

        return cls(
            **{key: plain[key] for key in ("name", "female_share", "condition", "seed")},
            n=None,
            age=distribution(plain["age"]),
            bsa=distribution(plain["bsa"]),
            constraints=tuple((name, tuple(attributes)) for name, attributes in plain["constraints"].items()),
            edits=tuple(Edit(**edit) for edit in plain["edits"]),
        )


class Batch(NamedTuple):
    """Subjects `first` to `last` (both included) of an arm."""

    name: str
    first: int
    last: int


def batches(arm: Arm, batch_size: int) -> list[Batch]:
    """Up to `batch_size` subjects each; more subjects or arms leave the names of full batches alone."""
    starts = range(0, arm.n, batch_size)
    return [
        Batch(f"{arm.name}-{number:04d}", first, min(first + batch_size, arm.n) - 1)
        for number, first in enumerate(starts)
    ]


def subject_name(arm: str, index: int) -> str:
    return f"{arm}-{index:05d}"


def seed_sequence(seed: int, arm: str, index: int, stream: str, attempt: int = 0) -> np.random.SeedSequence:
    """The one source of randomness of a subject's `stream` ("population", "generation").

    It depends on the seed, the arm's name, the subject's index and the attempt, on nothing else.
    """
    # eight 32-bit words of the name's sha256: all keys have one length, so no two of them coincide
    words = np.frombuffer(hashlib.sha256(arm.encode()).digest(), dtype="<u4")
    key = (STREAMS[stream], *(int(word) for word in words), index, attempt)
    return np.random.SeedSequence(seed, spawn_key=key)


def read_cohort(path: str | Path, anatomy: Anatomy) -> list[Arm]:
    """The arms of a cohort table (TSV), in its order.

    Raises InputError naming file, row (line of the file) and column, with what is allowed there.
    """
    path = Path(path)
    arms: dict[str, tuple[int, Arm]] = {}
    for line, row in _rows(path):
        arm = _read_arm(path, line, row, anatomy)
        key = arm.name.casefold()  # some file systems do not tell `A` from `a`
        if key in arms:
            raise InputError(
                f"{path}, row {line}, column 'arm': {arm.name!r} is already the arm of row {arms[key][0]}; "
                "every arm needs a name of its own, in more than upper and lower case"
            )
        arms[key] = (line, arm)
    if not arms:
        raise InputError(f"{path}: the cohort table has no arms; write at least one row below the header")
    return [arm for _, arm in arms.values()]


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, cells by column) of every row that is neither empty nor a `#` comment."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path}: no readable cohort table ({error.strerror}); see `cohort_table`"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the cohort table is not UTF-8 text ({error}); save it as such") from error
    width = max((line.count("\t") + 1 for line in text.splitlines()), default=0)
    if not text.strip():
        raise InputError(f"{path}: the cohort table is empty; its columns are {', '.join(COLUMNS)}")
    try:
        # the header is read as a row, so that pandas cannot take a row that is too long for an index
        frame = pd.read_csv(
            io.StringIO(text), sep="\t", header=None, names=range(width), dtype=str, na_filter=False,
            skip_blank_lines=False,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a readable tab-separated table ({error})") from error
    cells = [[str(cell).strip() for cell in row] for row in frame.fillna("").to_numpy()]
    header = cells[0]
    while header and not header[-1]:
        header.pop()
    _check_header(path, header)
    rows = []
    for line, row in enumerate(cells[1:], start=2):
        if not any(row) or row[0].startswith("#"):
            continue
        if any(row[len(header) :]):
            raise InputError(
                f"{path}, row {line}: more cells than the {len(header)} columns of the header; "
                "cells are separated by one tab each"
            )
        rows.append((line, dict(zip(header, row, strict=False))))
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    allowed = f"the columns are {', '.join(COLUMNS)}, separated by tabs"
    for column in COLUMNS:
        if column not in header:
            raise InputError(
                f"{path}, row 1: column {column!r} is missing; {allowed} (a cell may be left empty)"
            )
    for column in header:
        if column not in COLUMNS:
            raise InputError(f"{path}, row 1: unknown column {column!r}; {allowed}")
        if header.count(column) > 1:
            raise InputError(f"{path}, row 1: column {column!r} occurs twice; {allowed}")


def _read_arm(path: Path, line: int, row: dict[str, str], anatomy: Anatomy) -> Arm:
    def cell(column: str, parse: Callable):
        try:
            return parse(row[column])
        except InputError as error:
            raise InputError(f"{path}, row {line}, column {column!r}: {error}") from None

    return Arm(
        name=cell("arm", _arm_name),
        n=cell("n", _count),
        female_share=cell("sex", _female_share),
        condition=cell("condition", _condition),
        age=cell("age", lambda text: parse_distribution(text, *LIMITS["age"])),
        bsa=cell("bsa", lambda text: parse_distribution(text, *LIMITS["bsa"])),
        seed=cell("seed", _seed),
        constraints=cell("constraints", lambda text: parse_constraints(text, anatomy)),
        edits=cell("edits", lambda text: parse_edits(text, anatomy)),
    )


def _arm_name(text: str) -> str:
    if not ARM_NAME.fullmatch(text):
        raise InputError(
            f"{text!r} is not a safe name for files; allowed: 1 to 64 letters (a-z, A-Z), digits and "
            "underscores, the first a letter or digit"
        )
    return text


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_SUBJECTS:
        raise InputError(
            f"{text!r} is not a number of subjects; allowed: a whole number, 1 to {MAX_SUBJECTS}"
        )
    return int(text)


def _seed(text: str) -> int | None:
    if text and (not re.fullmatch(r"[0-9]{1,19}", text) or int(text) >= 2**63):
        raise InputError(f"{text!r} is not a seed; allowed: a whole number, 0 to 2^63 - 1, or empty")
    return int(text) if text else None


def _condition(text: str) -> str | None:
    if text and not CONDITION_NAME.fullmatch(text):
        raise InputError(
            f"{text!r} is not the name of a condition; allowed: letters, digits and underscores as in the "
            "reference table's column 'condition', or empty"
        )
    return text or None


def _female_share(text: str) -> float | None:
    named = {"": None, "any": None, "female": 1.0, "male": 0.0}
    if text in named:
        return named[text]
    match = re.fullmatch(rf"({_NUMBER}) ?% (female|male)", text)
    if not match or float(match[1]) > 100.0:
        raise InputError(
            f"{text!r} is not a sex; allowed: female, male, any (the reference population's mixture), or a "
            "share such as '60 % female'"
        )
    share = float(match[1]) / 100.0
    return share if match[2] == "female" else 1.0 - share


def parse_distribution(text: str, low: float, high: float) -> Distribution | None:
    """`61`, `61+-9` (or ±), `40..70`; None if empty. All values must lie in [low, high]."""
    if not text.strip():
        return None
    numbers = rf"\s*({_SIGNED})\s*"
    forms = {
        "fixed": numbers,
        "normal": rf"{numbers}(?:\+-|±){numbers}",
        "uniform": rf"{numbers}\.\.{numbers}",
    }
    matches = {kind: re.fullmatch(form, text) for kind, form in forms.items()}
    kind = next((kind for kind, match in matches.items() if match), None)
    if kind is None:
        raise InputError(
            f"{text!r} is not a distribution; allowed: a number, 'mean+-sd', 'low..high', or empty for the "
            "reference population's"
        )
    values = tuple(float(group) for group in matches[kind].groups())
    for value in values[:1] if kind == "normal" else values:
        if not low <= value <= high:
            raise InputError(f"{value:g} in {text!r} is out of range; allowed: {low:g} to {high:g}")
    if kind == "normal" and not 0.0 < values[1] <= high - low:
        raise InputError(f"the standard deviation in {text!r} must be above 0 and at most {high - low:g}")
    if kind == "uniform" and not values[0] < values[1]:
        raise InputError(f"the range {text!r} is empty; write the lower value first")
    return Distribution(kind, values)


def parse_constraints(text: str, anatomy: Anatomy) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """`a, b: size position; a+c: size`; unions come back in the anatomy's order, attributes too."""
    constraints: dict[str, tuple[str, ...]] = {}
    for clause in filter(None, (part.strip() for part in text.split(";"))):
        names, colon, words = clause.partition(":")
        attributes = words.replace(",", " ").split()
        if not colon or not attributes:
            raise InputError(
                f"{clause!r} does not say what is constrained; write it as 'structure, structure: "
                f"attributes' with attributes from {', '.join(ATTRIBUTES)}, or 'all' for the three"
            )
        for word in attributes:
            if word not in (*ATTRIBUTES, "all"):
                raise InputError(
                    f"unknown attribute {word!r} in {clause!r}; allowed: {', '.join(ATTRIBUTES)}, all"
                )
        chosen = tuple(a for a in ATTRIBUTES if a in attributes or "all" in attributes)
        for name in names.split(","):
            labels = sorted(anatomy.labels_of(name))
            canonical = "+".join(anatomy.structures[label - 1] for label in labels)
            if canonical in constraints:
                raise InputError(f"{canonical!r} is constrained twice; name it once, with all its attributes")
            constraints[canonical] = chosen
    return tuple(constraints.items())


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
    if structure not in anatomy.structures:
        raise InputError(
            f"unknown structure {structure!r} in {clause!r}; allowed: {', '.join(anatomy.structures)} "
            "(an edit names one structure, not a union)"
        )
    if quantity not in UNITS:
        raise InputError(f"unknown quantity {quantity!r} in {clause!r}; allowed: {', '.join(UNITS)}")
    parse = _volume_operation if quantity == "volume" else _position_operation
    return Edit(structure, quantity, *parse(operation, clause))


def _volume_operation(text: str, clause: str) -> tuple[str, float]:
    if match := re.fullmatch(rf"x ?({_SIGNED})", text):
        operation, value = "multiply", float(match[1])
    elif match := re.fullmatch(rf"([+-] ?{_NUMBER}) ?%", text):
        operation, value = "multiply", 1.0 + float(match[1].replace(" ", "")) / 100.0
    elif match := re.fullmatch(rf"=? ?({_NUMBER}) ?mL", text):
        operation, value = "set", float(match[1])
    else:
        # signed millilitres too: they read like a negative volume and could make one
        operation, value = "set", math.nan
    if not 0.0 < value <= MAX_VOLUME_ML:
        raise InputError(
            f"{clause!r} does not give a volume; allowed: a positive volume '180 mL' (at most "
            f"{MAX_VOLUME_ML:g} mL), a positive factor 'x0.5', or a change in percent, '+20 %' or '-20 %', "
            "that leaves a positive volume"
        )
    return operation, value


def _position_operation(text: str, clause: str) -> tuple[str, float]:
    if match := re.fullmatch(rf"([+-]) ?({_NUMBER}) ?mm", text):
        operation, value = "add", float(match[1] + match[2])
    elif match := re.fullmatch(rf"= ?({_SIGNED}) ?mm", text):
        operation, value = "set", float(match[1])
    else:
        operation, value = "set", math.nan
    if not abs(value) <= MAX_POSITION_MM:
        raise InputError(
            f"{clause!r} does not give a position; allowed: a shift '+5 mm' or '-5 mm', or a coordinate in "
            f"the heart frame '= -12 mm', at most {MAX_POSITION_MM:g} mm"
        )
    return operation, value
