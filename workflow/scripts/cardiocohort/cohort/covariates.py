"""The table of covariates: what can be known of a person, and how it is written. Owned by no stage.

resources/covariates.tsv lists the covariates of every run; a table of the user adds further ones (config key
`covariates_table`). Light, because the Snakefile imports it. docs/cohort-table.md describes the columns.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.moments import MOMENT_COLUMNS
from ..runtime import tables
from ..runtime.errors import InputError
from ..runtime.text_files import read_table_text
from .grammar import NUMBER, SIGNED

SHIPPED = Path(__file__).resolve().parents[4] / "resources/covariates.tsv"
# every cohort table has their columns, and so has every table of targets, known or not
STANDARD = ("sex", "age_years", "bsa_m2", "condition")
HEALTHY = "healthy"  # level of GROUP
GROUP = "condition"  # hearts of its levels differ in spread, and the gate may exclude some
AREA = "bsa_m2"  # what edits per m2 are multiplied by
COLUMNS = ("column", "cohort_column", "kind", "unit", "low", "high", "transform", "levels", "description")
KINDS, TRANSFORMS = ("numeric", "categorical"), ("identity", "log")
# names of columns that the tables with covariates have already
RESERVED = (
    "arm", "n", "seed", "constraints", "edits", "base", "matched", "cluster", "subject", "structure",
    *MOMENT_COLUMNS, "constrained", "plausibility", "mahalanobis", "heart_plausibility", "case", "verdict",
    "reason", "sources", "changes", "file", "size", "sha256",
)  # fmt: skip
COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")

Person = Mapping[str, str | float]  # covariates by column; "" or NaN where the population does not know them


@dataclass(frozen=True)
class Covariate:
    """One row of the table: a column of reference tables, and the column of cohort tables that gives it.

    Numeric ones lie in [low, high] and enter the model by their `transform`. Of categorical ones `levels` are
    all there can be, in their order; none means any name.
    """

    column: str
    cohort_column: str
    kind: str
    unit: str = ""
    low: float = math.nan
    high: float = math.nan
    transform: str = "identity"
    levels: tuple[str, ...] = ()
    description: str = ""

    @property
    def numeric(self) -> bool:
        return self.kind == "numeric"

    @property
    def unknown(self) -> str | float:
        """The value where it is not known."""
        return math.nan if self.numeric else ""

    @property
    def allowed(self) -> str:
        """What a value may be, in words."""
        if self.numeric:
            return f"in the range {self.low:g} to {self.high:g} {self.unit}".rstrip()
        return f"one of {', '.join(self.levels)}" if self.levels else "a name of letters, digits, underscores"


@dataclass(frozen=True)
class Distribution:
    """Of a covariate: fixed (value), normal (mean, sd), uniform (low, high), shares ((level, share), ...)."""

    kind: str
    parameters: tuple

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that subjects can have; none of a numeric covariate."""
        return tuple(level for level, share in self.parameters if share) if self.kind == "shares" else ()


def known(path: str | Path | None = None) -> dict[str, Covariate]:
    """Covariates by column: those of every run, and those of the user's table `path`.

    A row for a column of the former replaces it; kind and cohort column must stay. Raises InputError naming
    file, row and column.
    """
    found = _read(SHIPPED)
    for row, own in _rows(path) if path else ():
        shipped = found.get(own.column)
        if shipped and (own.kind, own.cohort_column) != (shipped.kind, shipped.cohort_column):
            raise InputError(
                f"{path}, row {row}: {own.column!r} is {shipped.kind}, with the cohort column "
                f"{shipped.cohort_column!r}, in every run; keep both, or give the covariate another name"
            )
        _add(found, own, path, row)
    return found


def _read(path: Path) -> dict[str, Covariate]:
    found: dict[str, Covariate] = {}
    for row, covariate in _rows(path):
        _add(found, covariate, path, row)
    return found


def _add(found: dict[str, Covariate], new: Covariate, path: str | Path, row: int) -> None:
    for other in found.values():
        if other.column != new.column and {other.column, other.cohort_column} & {
            new.column,
            new.cohort_column,
        }:
            raise InputError(
                f"{path}, row {row}: {new.column!r}, cohort column {new.cohort_column!r}, has a name of the "
                f"covariate {other.column!r}; every covariate needs names of its own"
            )
    found[new.column] = new


def _rows(path: str | Path) -> list[tuple[int, Covariate]]:
    lines = [line.split("\t") for line in read_table_text(path, "table of covariates").splitlines()]
    header = [cell.strip() for cell in lines[0]] if lines else []
    wrong = [name for name in header if name not in COLUMNS or header.count(name) > 1]
    if wrong or not {"column", "kind"} <= set(header):
        problem = f"column {wrong[0]!r} is unknown or there twice" if wrong else "it lacks 'column' or 'kind'"
        raise InputError(f"{path}, row 1: {problem}; the columns are {', '.join(COLUMNS)}, separated by tabs")
    rows: list[tuple[int, Covariate]] = []
    for number, cells in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in cells]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if any(cells[len(header) :]):
            raise InputError(f"{path}, row {number}: more cells than the {len(header)} columns of the header")
        try:
            rows.append(
                (number, _covariate(dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))))
            )
        except InputError as error:
            raise InputError(f"{path}, row {number}, {error}") from None
        if rows[-1][1].column in [before.column for _, before in rows[:-1]]:
            raise InputError(
                f"{path}, row {number}, column 'column': {rows[-1][1].column!r} is there already"
            )
    return rows


def _covariate(row: dict[str, str]) -> Covariate:
    column = row["column"]
    cohort_column = row.get("cohort_column") or column
    for key, name in (("column", column), ("cohort_column", cohort_column)):
        if not COLUMN_NAME.fullmatch(name) or name in RESERVED:
            raise InputError(
                f"column {key!r}: {name!r} cannot name a covariate; allowed: letters, digits, underscores, "
                f"a letter first, and none of {', '.join(RESERVED)}"
            )
    kind, unit, description = row["kind"], row.get("unit", ""), row.get("description", "")
    if kind not in KINDS:
        raise InputError(f"column 'kind': {kind!r} is not a kind; allowed: {', '.join(KINDS)}")
    foreign = ("levels",) if kind == "numeric" else ("low", "high", "transform")
    if given := [key for key in foreign if row.get(key)]:
        raise InputError(f"column {given[0]!r}: a {kind} covariate has none; leave the cell empty")
    if kind == "categorical":
        levels = tuple(level.strip() for level in row.get("levels", "").split(",") if level.strip())
        wrong = [name for name in levels if not _is_level(name)]
        if wrong or len(levels) == 1 or len(set(levels)) < len(levels):
            raise InputError(
                f"column 'levels': {row['levels']!r} are no levels; allowed: two or more names of letters, "
                "digits and underscores, separated by commas, or empty for any name"
            )
        return Covariate(column, cohort_column, kind, unit, levels=levels, description=description)
    transform = row.get("transform") or "identity"
    if transform not in TRANSFORMS:
        raise InputError(f"column 'transform': {transform!r} is none; allowed: {', '.join(TRANSFORMS)}")
    low, high = (_bound(row.get(key, ""), key) for key in ("low", "high"))
    if not low < high or (transform == "log" and low <= 0):
        raise InputError(
            f"columns 'low' and 'high': {low:g} and {high:g} are no range; low must be less than high, and "
            "above 0 for the transform log"
        )
    return Covariate(column, cohort_column, kind, unit, low, high, transform, description=description)


def _bound(text: str, key: str) -> float:
    if not re.fullmatch(SIGNED, text) or not math.isfinite(float(text)):
        raise InputError(f"column {key!r}: {text!r} is not a number; give the range that a person can have")
    return float(text)


def _is_level(text: str) -> bool:
    return bool(LEVEL.fullmatch(text)) and text != "any"


def markdown(known: Mapping[str, Covariate]) -> str:
    """Covariates as a Markdown table, for the documents."""
    lines = [
        "| column of the reference table | column of the cohort table | kind | values | description |",
        "| --- | --- | --- | --- | --- |",
    ]
    for c in known.values():
        values = (
            f"{c.low:g} to {c.high:g} {c.unit}".strip() if c.numeric else ", ".join(c.levels) or "any names"
        )
        cells = (f"`{c.column}`", f"`{c.cohort_column}`", c.kind, values.replace("m2", "m²"), c.description)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# ---- columns of tables of people


def read_table(
    path: str | Path,
    columns: dict[str, str],
    known: Mapping[str, Covariate],
    among: Collection[str] | None = None,
) -> pd.DataFrame:
    """A table of people, one row per subject and structure: `columns`, then those of `known` that it has.

    Levels come as text. Rows of other subjects than those `among` which it is read are left out, unchecked.
    Raises InputError naming file, row and column for a value that is missing or not
    allowed, and for subjects with two values.
    """
    names = tables.column_names(path)
    present = [c for c in known.values() if c.column in names]
    if Path(path).suffix == ".parquet":  # a wide one is read in part
        kinds = columns | dict.fromkeys((c.column for c in present), "object")
        frame = tables.read_table(path, kinds, alone=set(columns) <= set(names))
    else:
        frame = tables.read_table(path, columns | {c.column: "str" for c in present if not c.numeric})
    if among is not None:
        frame = frame[frame["subject"].isin(list(among))].copy()
    for covariate in present:
        frame[covariate.column] = _checked(path, frame, covariate)
    return frame[[*columns, *(c.column for c in present)]]


def _checked(path, frame: pd.DataFrame, covariate: Covariate) -> pd.Series:
    name, given = covariate.column, frame[covariate.column]
    values = numbers_of(given) if covariate.numeric else levels_of(given)
    empty = given.isna() | given.astype(str).str.strip().eq("")
    if empty.any():
        row = frame.index[np.argmax(empty)]
        lacking = frame.loc[empty, "subject"].nunique()
        raise InputError(
            f"{tables.where(path, row)}, column {name!r}: the cell is empty; {lacking} of "
            f"{frame['subject'].nunique()} subjects have no value. A covariate needs one of each subject. "
            "Fill the cells in; a column of unknown values is best left out, or subjects without a value"
        )
    shown = frame.assign(**{name: given.astype(object)})
    tables.first_bad(path, shown, name, ~are_allowed(values, covariate), covariate.allowed)
    differs = values != values.groupby(frame["subject"]).transform("first")
    tables.first_bad(path, shown, name, differs, "what the subject's first row says; a subject has one value")
    return values


def are_allowed(values: pd.Series, covariate: Covariate) -> pd.Series:
    """Mask of the values that a person can have."""
    if covariate.numeric:
        return values.between(covariate.low, covariate.high)
    return values.isin(covariate.levels) if covariate.levels else values.map(_is_level).astype(bool)


def numbers_of(column: pd.Series) -> pd.Series:
    """A column as numbers; NaN where it holds none."""
    return pd.to_numeric(column.astype(object), errors="coerce").astype(float)


def levels_of(column: pd.Series) -> pd.Series:
    """A column as text without blanks around it; whole numbers without decimals, which programs add."""

    texts = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    return texts.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)


# ---- cells of the cohort table


def parse_cell(text: str, covariate: Covariate) -> Distribution | None:
    """The distribution that a cell of the cohort table gives; None for the reference population's."""
    if covariate.numeric:
        return parse_distribution(text, covariate.low, covariate.high)
    return _parse_shares(text, covariate)


def _parse_shares(text: str, covariate: Covariate) -> Distribution | None:
    """`female`, `60 % female` (of two levels), `20 % I, 80 % II`; None if empty or `any`."""
    if text in ("", "any"):
        return None
    levels = covariate.levels
    clauses = [part.strip() for part in text.split(",")]
    matches = [re.fullmatch(rf"(?:({NUMBER}) ?% )?([A-Za-z0-9_]+)", clause) for clause in clauses]
    parsed = {match[2]: float(match[1] or 100.0) / 100.0 for match in matches if match}
    if len(levels) == 2 and len(parsed) == len(clauses) == 1 and set(parsed) < set(levels):
        first = parsed.get(levels[0], 1.0 - parsed.get(levels[1], 0.0))
        parsed = {levels[0]: first, levels[1]: parsed.get(levels[1], 1.0 - first)}
    fits = all(name in levels if levels else _is_level(name) for name in parsed)
    possible = min(parsed.values(), default=-1.0) >= 0.0
    whole = math.isclose(sum(parsed.values()), 1.0, abs_tol=1e-6)
    if len(parsed) < len(clauses) or not (fits and possible and whole):
        names = ", ".join(levels) or (
            f"a name as in the reference table's column {covariate.column!r} (letters, digits, underscores)"
        )
        example = f"'60 % {levels[0]}'" if len(levels) == 2 else "'60 % a, 40 % b' (100 % together)"
        raise InputError(
            f"{text!r} is not a {covariate.column}; allowed: {names}, any (as an empty cell: the reference "
            f"population's mixture), or shares such as {example}"
        )
    return Distribution("shares", tuple(parsed.items()))


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
