"""The cohort table: the arms of a trial, their subjects, constraints and edits.

Owned by the population stage; light (no torch, no scikit-learn), because the Snakefile imports it.
docs/cohort-table.md describes the grammar of the cells. An arm is split into batches, the unit of
work, and everything random about a subject comes from `seed_sequence`.
"""

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..anatomy import domains as parts
from ..anatomy.domains import Domain
from ..anatomy.labels import WALL_ATTRIBUTES, Anatomy
from ..anatomy.moments import MOMENT_COLUMNS
from ..runtime.errors import InputError
from ..runtime.text_files import read_table_text
from . import covariates
from .covariates import Covariate, Distribution
from .grammar import NO_DOMAINS, WALL_QUANTITIES, Edit, parse_constraints, parse_edits

COLUMNS = ("arm", "n", "sex", "condition", "age", "bsa", "seed", "constraints", "edits")
OPTIONAL_COLUMNS = ("base", "matched")  # and the cohort columns of further covariates
MAX_SUBJECTS = 100_000  # of one arm: five digits number its subjects
ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
MAP_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")  # of label maps, in any case of letters
REFERENCE_COLUMNS = ("subject", "structure", *MOMENT_COLUMNS)
STREAMS = {"population": 0, "generation": 1}
COMMENT = re.compile(r"^[ ]*#[^\r\n]*", re.MULTILINE)  # before cells are told apart: it may hold quotes


@dataclass(frozen=True)
class Arm:
    """One row of the cohort table. `covariates`: those given, by column of the reference table.

    `constraints` holds (structure, union `a+b` or relation `a/b`, attributes) pairs; `seed` None is the
    config's. `base` is the arm, or the label map file, whose siblings the arm's subjects are; "" for none.
    `matched` is the arm whose people the subjects are, one by one, except for covariates that this arm gives
    otherwise; None for no such arm. `n` is None in an arm that came back from `from_dict`. `domains`: those
    that it names, by name.
    """

    name: str
    n: int | None
    covariates: dict[str, Distribution]
    seed: int | None
    constraints: tuple[tuple[str, tuple[str, ...]], ...]
    edits: tuple[Edit, ...]
    base: str = ""
    domains: dict[str, Domain] = field(default_factory=dict)
    matched: "Arm | None" = None

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

    def parts(self) -> list[str]:
        """Parts `structure@domain` in constraints and edits, each once.

        Without constraints also the rest of a structure whose part is edited: siblings keep it.
        """
        named = [name for name, _ in self.constraints] + [edit.structure for edit in self.edits]
        if not self.constraints:
            edited = (name for edit in self.edits for name in edit.changes)
            named += [parts.rest_of(name) for name in edited if parts.is_part(name)]
        return list(dict.fromkeys(filter(parts.is_part, "/".join(named).split("/"))))

    def walls(self) -> set[str]:
        """Parts whose thickness is constrained or edited."""
        edited = {edit.structure for edit in self.edits if edit.quantity in WALL_QUANTITIES}
        return edited | {name for name, given in self.constraints if set(given) & set(WALL_ATTRIBUTES)}

    def to_dict(self) -> dict:
        """Plain JSON-able values that describe any one subject of the arm.

        `n` is left out: an arm that grows must not change the parameters of its finished batches.
        """
        plain = asdict(self)
        del plain["n"]
        plain["covariates"] = {
            column: {
                "kind": d.kind,
                "parameters": [list(p) if isinstance(p, tuple) else p for p in d.parameters],
            }
            for column, d in self.covariates.items()
        }
        plain["constraints"] = {name: list(attributes) for name, attributes in self.constraints}
        plain["edits"] = list(plain["edits"])
        plain["matched"] = self.matched.to_dict() if self.matched else None
        return plain

    @classmethod
    def from_dict(cls, plain: dict) -> "Arm":
        """Inverse of `to_dict`, with `n` unknown."""

        def distribution(kind, parameters):
            return Distribution(kind, tuple(tuple(p) if isinstance(p, list) else p for p in parameters))

        return cls(
            **{key: plain[key] for key in ("name", "seed", "base")},
            n=None,
            covariates={column: distribution(**value) for column, value in plain["covariates"].items()},
            constraints=tuple((name, tuple(attributes)) for name, attributes in plain["constraints"].items()),
            edits=tuple(Edit(**edit) for edit in plain["edits"]),
            domains={name: Domain(**values) for name, values in plain["domains"].items()},
            matched=cls.from_dict(plain["matched"]) if plain["matched"] else None,
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


def read_cohort(
    path: str | Path,
    anatomy: Anatomy,
    known: Mapping[str, Covariate] | None = None,
    domains: Mapping[str, Domain] = NO_DOMAINS,
    defaults: str = "",
) -> list[Arm]:
    """The arms of a cohort table (TSV), in its order.

    known: the covariates; None for those of every run. domains: those of the config, by name. defaults: the
    constraints for which the word `default` stands. Raises InputError naming file, row (line of the file) and
    column, with what is allowed there.
    """
    path = Path(path)
    known = covariates.known() if known is None else known
    arms: dict[str, tuple[int, Arm]] = {}
    matches = {}
    for line, row in _rows(path, known):
        arm = _read_arm(path, line, row, anatomy, known, domains, defaults)
        matches[arm.name] = row.get("matched", "")
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
        _check_base(path, line, arm, by_name, known)
        _check_match(path, line, arm, matches, by_name)
    return [_with_match(arm, by_name.get(matches[arm.name])) for _, arm in arms.values()]


def _with_match(arm: Arm, other: tuple[int, Arm] | None) -> Arm:
    """The arm with the covariates of the one it is matched to, where it gives none itself."""
    if other is None:
        return arm
    return replace(arm, covariates=other[1].covariates | arm.covariates, matched=other[1])


def _check_match(
    path: Path, line: int, arm: Arm, matches: Mapping[str, str], arms: dict[str, tuple[int, Arm]]
) -> None:
    def refuse(column: str, text: str):
        raise InputError(f"{path}, row {line}, column {column!r}: {text}")

    other = matches[arm.name]
    if not other:
        return
    if arm.base:
        refuse("matched", "siblings are who their base is; leave the cell empty where there is a base")
    allowed = [name for name, (_, own) in arms.items() if not (own.base or matches[name] or name == arm.name)]
    if other not in allowed:
        refuse(
            "matched",
            f"{other!r} is no arm that others can be matched to; allowed: {', '.join(allowed) or 'none'} "
            "(arms of this table without a base and without a match)",
        )
    if arm.n > arms[other][1].n:
        refuse("n", f"{arm.n} subjects matched to the {arms[other][1].n} of {other!r}; write no more")


def _check_base(
    path: Path, line: int, arm: Arm, arms: dict[str, tuple[int, Arm]], known: Mapping[str, Covariate]
) -> None:
    def refuse(column: str, text: str):
        raise InputError(f"{path}, row {line}, column {column!r}: {text}")

    if not arm.base:
        return  # `target_arms.check_parts` asks for the moments of its parts

    for column in arm.covariates:
        refuse(
            known[column].cohort_column,
            "siblings are who their base is; leave the cell empty where there is a base",
        )
    if not arm.edits:
        refuse("edits", "siblings differ from their base by edits; write at least one")
    if arm.base_arm is None:
        _check_areas(arm, arm.base, refuse)
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
    _check_areas(arm, arms[seen[-1]][1].base, refuse)


def _check_areas(arm: Arm, first_base: str, refuse: Callable[[str, str], None]) -> None:
    for edit in arm.edits if first_base else ():
        if edit.operation == "set_per_m2":
            refuse(
                "edits",
                f"{edit.structure}.{edit.quantity} is per m2 of body-surface area, and the hearts are made "
                f"from a label map, {first_base}, of a person of whom nothing is known; write "
                f"{'mm2' if edit.quantity == 'area' else 'mL'}",
            )


def _rows(path: Path, known: Mapping[str, Covariate]) -> list[tuple[int, dict[str, str]]]:
    """(line, cells by column) of every row that is neither empty nor a `#` comment."""
    text = read_table_text(path, "cohort table (config key `cohort_table`)")
    width = max((line.count("\t") + 1 for line in text.splitlines()), default=0)
    if not text.strip():
        raise InputError(f"{path}: the cohort table is empty; its columns are {', '.join(COLUMNS)}")
    text = COMMENT.sub("", text)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count('"') % 2 and any(cell.lstrip().startswith('"') for cell in line.split("\t")):
            raise InputError(
                f"{path}, row {number}: a cell begins with a quotation mark that this row does not close, so "
                "that the rows below would be part of it; take the mark away (cells need none)"
            )
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
    _check_header(path, at, header, known)
    rows = []
    for line, row in lines[1:]:
        if any(row[len(header) :]):
            raise InputError(
                f"{path}, row {line}: more cells than the {len(header)} columns of the header; "
                "cells are separated by one tab each"
            )
        rows.append((line, dict(zip(header, row, strict=False))))
    return rows


def _check_header(path: Path, at: int, header: list[str], covariates: Mapping[str, Covariate]) -> None:
    further = [c.cohort_column for c in covariates.values() if c.cohort_column not in COLUMNS]
    optional = (*OPTIONAL_COLUMNS, *further)
    known = (*COLUMNS, *optional)
    meant_by = {name: name for name in known} | {c.column: c.cohort_column for c in covariates.values()}
    allowed = (
        f"the columns are {', '.join(COLUMNS)}, and maybe {', '.join(optional)}, separated by tabs; another "
        "covariate needs a row in the table of the config key 'covariates_table'"
    )
    others = [column for column in header if column not in known]
    for column in COLUMNS:
        if column not in header:
            unknown = f", and {', '.join(map(repr, others))} is none of them" if others else ""
            raise InputError(
                f"{path}, row {at}: column {column!r} is missing{unknown}; {allowed} (cells may be empty)"
            )
    for column in header:
        if column not in known:
            nearest = get_close_matches(column, meant_by, n=1)
            meant = f" (did you mean {meant_by[nearest[0]]!r}?)" if nearest else ""
            raise InputError(f"{path}, row {at}: unknown column {column!r}{meant}; {allowed}")
        if header.count(column) > 1:
            raise InputError(f"{path}, row {at}: column {column!r} occurs twice; {allowed}")


def _read_arm(
    path: Path,
    line: int,
    row: dict[str, str],
    anatomy: Anatomy,
    known: Mapping[str, Covariate],
    domains: Mapping[str, Domain],
    defaults: str,
) -> Arm:
    def cell(column: str, parse: Callable):
        try:
            return parse(row[column])
        except InputError as error:
            raise InputError(f"{path}, row {line}, column {column!r}: {error}") from None

    name, n = cell("arm", _arm_name), cell("n", _count)
    given = {
        c.column: cell(c.cohort_column, lambda text, c=c: covariates.parse_cell(text, c))
        for c in known.values()
        if c.cohort_column in row
    }
    arm = Arm(
        name=name,
        n=n,
        covariates={column: distribution for column, distribution in given.items() if distribution},
        seed=cell("seed", _seed),
        constraints=cell("constraints", lambda text: parse_constraints(text, anatomy, domains, defaults)),
        edits=cell("edits", lambda text: parse_edits(text, anatomy, domains)),
        base=cell("base", _base) if "base" in row else "",
    )
    named = {parts.split(name)[1].removeprefix(parts.REST) for name in arm.parts()}
    return replace(arm, domains={name: domains[name] for name in domains if name in named})


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
