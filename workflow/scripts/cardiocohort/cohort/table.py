"""The cohort table: the arms of a trial, their subjects, constraints and edits.

Owned by the population stage; light (no torch, no scikit-learn), because the Snakefile imports it.
docs/cohort-table.md describes the grammar of the cells. An arm is split into batches, the unit of
work, and everything random about a subject comes from `seed_sequence`.
"""

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..anatomy.labels import Anatomy
from ..anatomy.moments import MOMENT_COLUMNS
from ..runtime.errors import InputError
from ..runtime.text_files import read_table_text
from .grammar import NUMBER, SIGNED, Edit, parse_constraints, parse_edits

COLUMNS = ("arm", "n", "sex", "condition", "age", "bsa", "seed", "constraints", "edits")
OPTIONAL_COLUMNS = ("base",)
MAX_SUBJECTS = 100_000  # of one arm: five digits number its subjects
ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
CONDITION_NAME = ARM_NAME
# what a person can have; distributions are cut there
LIMITS = {"age": (0.0, 120.0), "bsa": (0.2, 4.0)}
MAP_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")  # of label maps, in any case of letters
REFERENCE_COLUMNS = ("subject", "structure", *MOMENT_COLUMNS)
STREAMS = {"population": 0, "generation": 1}


@dataclass(frozen=True)
class Distribution:
    """Of a covariate: fixed (value), normal (mean, sd) or uniform (low, high)."""

    kind: str
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """One row of the cohort table. None stands for "as in the reference population".

    `constraints` holds (structure, union `a+b` or relation `a/b`, attributes) pairs; `seed` None is the
    config's. `base` is the arm, or the label map file, whose siblings the arm's subjects are; "" for none.
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
    base: str = ""

    @property
    def base_arm(self) -> str | None:
        """Name of the arm whose siblings these are; None for no base or a label map file."""
        return self.base if ARM_NAME.fullmatch(self.base) else None

    def asked(self) -> dict[str, tuple[str, ...]]:
        """What the targets' column `constrained` says, by structure or union.

        A relation `a/b: distance` is an attribute "distance/b" of a; b is there too, maybe with none.
        """
        found: dict[str, tuple[str, ...]] = {}
        for name, attributes in self.constraints:
            first, slash, second = name.partition("/")
            words = tuple(f"{a}/{second}" for a in attributes) if slash else attributes
            found[first] = found.get(first, ()) + words
            if slash:
                found.setdefault(second, ())
        return found

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
            **{key: plain[key] for key in ("name", "female_share", "condition", "seed", "base")},
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
    by_name = {arm.name: (line, arm) for line, arm in arms.values()}
    for line, arm in by_name.values():
        _check_base(path, line, arm, by_name)
    return [arm for _, arm in arms.values()]


def _check_base(path: Path, line: int, arm: Arm, arms: dict[str, tuple[int, Arm]]) -> None:
    if not arm.base:
        return

    def refuse(column: str, text: str):
        raise InputError(f"{path}, row {line}, column {column!r}: {text}")

    given = {"sex": arm.female_share, "condition": arm.condition, "age": arm.age, "bsa": arm.bsa}
    for column, value in given.items():
        if value is not None:
            refuse(column, "siblings are who their base is; leave the cell empty where there is a base")
    if not arm.edits:
        refuse("edits", "siblings differ from their base by edits; write at least one")
    if arm.base_arm is None:
        return
    if arm.base not in arms:
        others = ", ".join(name for name in arms if name != arm.name)
        refuse(
            "base",
            f"{arm.base!r} is no arm of this table; allowed: {others}, or a label map file "
            f"({', '.join(MAP_SUFFIXES)})",
        )
    if arm.n > arms[arm.base][1].n:
        refuse("n", f"{arm.n} siblings of the {arms[arm.base][1].n} subjects of {arm.base!r}; write no more")
    seen = [arm.name]
    while (base := arms[seen[-1]][1].base_arm) is not None and base in arms:
        if base in seen:
            refuse("base", f"the arms {', '.join(seen)} are each other's base; one of them needs none")
        seen.append(base)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, cells by column) of every row that is neither empty nor a `#` comment."""
    text = read_table_text(path, "cohort table (config key `cohort_table`)")
    width = max((line.count("\t") + 1 for line in text.splitlines()), default=0)
    if not text.strip():
        raise InputError(f"{path}: the cohort table is empty; its columns are {', '.join(COLUMNS)}")
    try:
        # the header is read as a row, so that pandas cannot take a row that is too long for an index; cells
        # are objects, since for str it loads more of Arrow (3 MB of every Snakemake process)
        frame = pd.read_csv(
            io.StringIO(text), sep="\t", header=None, names=range(width), dtype=object, na_filter=False,
            skip_blank_lines=False,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a readable tab-separated table ({error})") from error
    cells = [[str(cell).strip() for cell in row] for row in frame.fillna("").to_numpy()]
    lines = [(n, row) for n, row in enumerate(cells, start=1) if any(row) and not row[0].startswith("#")]
    if not lines:
        raise InputError(f"{path}: the cohort table is empty; its columns are {', '.join(COLUMNS)}")
    at, header = lines[0]
    while not header[-1]:
        header.pop()
    _check_header(path, at, header)
    rows = []
    for line, row in lines[1:]:
        if any(row[len(header) :]):
            raise InputError(
                f"{path}, row {line}: more cells than the {len(header)} columns of the header; "
                "cells are separated by one tab each"
            )
        rows.append((line, dict(zip(header, row, strict=False))))
    return rows


def _unknown(header: list[str]) -> str:
    others = [column for column in header if column not in (*COLUMNS, *OPTIONAL_COLUMNS)]
    return f", and {', '.join(map(repr, others))} is none of them" if others else ""


def _check_header(path: Path, at: int, header: list[str]) -> None:
    allowed = f"the columns are {', '.join(COLUMNS)} and maybe {OPTIONAL_COLUMNS[0]}, separated by tabs"
    for column in COLUMNS:
        if column not in header:
            raise InputError(
                f"{path}, row {at}: column {column!r} is missing{_unknown(header)}; {allowed} (a cell may be "
                "left empty)"
            )
    for column in header:
        if column not in (*COLUMNS, *OPTIONAL_COLUMNS):
            raise InputError(f"{path}, row {at}: unknown column {column!r}; {allowed}")
        if header.count(column) > 1:
            raise InputError(f"{path}, row {at}: column {column!r} occurs twice; {allowed}")


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
        base=cell("base", _base) if "base" in row else "",
    )


def _base(text: str) -> str:
    if text and not ARM_NAME.fullmatch(text) and not text.lower().endswith(MAP_SUFFIXES):
        raise InputError(
            f"{text!r} is neither the name of an arm nor a label map file; allowed: an arm of this table, a "
            f"file ({', '.join(MAP_SUFFIXES)}), or empty"
        )
    return text


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
    match = re.fullmatch(rf"({NUMBER}) ?% (female|male)", text)
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
    numbers = rf"\s*({SIGNED})\s*"
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
