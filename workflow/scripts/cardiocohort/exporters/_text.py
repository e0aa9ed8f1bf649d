"""Tables of numbers as text, many rows at a time. Owned by the inputs stage."""

import re

import numpy as np

LON = " ".join(["%.6f"] * 6)  # openCARP's row of an element: fibre and sheet
CONVERSION = re.compile(r"%(d|\.\d+f)")
MOST = 2.0**53  # whole numbers up to here are exact


def text_rows(form: str, *columns: np.ndarray) -> str:
    """One row of text an entry of `columns`, arrays (n,) or (n, k), as `form` % their values but for -0, and
    for the last digit where the rest is a half.

    form: conversions `%d`, of whole numbers, and `%.<digits>f`, as many as there are columns. The digits of
    all rows are worked out at once, five times faster than one row at a time. ValueError where a number is
    not finite, too large for its digits, or not whole, or columns differ in length.
    """
    if len({len(column) for column in columns}) > 1:
        raise ValueError("columns of different lengths")
    table = [part for column in columns for part in (column.T if column.ndim == 2 else column[None])]
    literals = CONVERSION.split(form)
    texts, conversions = literals[::2], literals[1::2]
    if len(conversions) != len(table) or "%" in "".join(texts):
        raise ValueError(f"{form!r} does not fit {len(table)} columns")
    parts = [_literal(texts[0])]
    for conversion, values, text in zip(conversions, table, texts[1:], strict=True):
        parts += [*_digits(values, 0 if conversion == "d" else int(conversion[1:-1])), _literal(text)]
    rows = np.zeros((len(table[0]), sum(len(part) for part in parts)), dtype=np.uint8)
    at = 0
    for part in parts:
        rows[:, at : at + len(part)] = part.T
        at += len(part)
    return rows[rows != 0].tobytes().decode("ascii")


def _literal(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8)[:, None]


def _digits(values: np.ndarray, decimals: int) -> list[np.ndarray]:
    """Characters (w, n) of numbers (n,): sign, whole part, point and decimals. 0 is no character."""
    values = np.asarray(values, dtype=np.float64)
    scaled = np.rint(np.abs(values) * 10.0**decimals)
    if not (scaled < MOST).all():  # NaN too
        raise ValueError(f"a number is not finite, or has no {decimals} decimals")
    if decimals == 0 and not np.array_equal(scaled, np.abs(values)):
        raise ValueError("a number that should be whole is not")
    most = int(scaled.max(initial=0))
    rest = scaled.astype(np.uint32 if most < 2**32 else np.uint64)
    width = max(len(str(most)), decimals + 1)
    characters = np.empty((width, len(values)), dtype=np.uint8)
    for place in range(width - 1, -1, -1):
        higher = rest // 10
        characters[place] = rest - 10 * higher + ord("0")
        rest = higher
    # no zeros before the first digit, but for the one before the point
    whole = width - decimals
    leading = np.logical_and.accumulate(characters[: whole - 1] == ord("0"), axis=0)
    characters[: whole - 1][leading] = 0
    sign = np.where((values < 0) & (scaled > 0), ord("-"), 0).astype(np.uint8)[None]
    if not decimals:
        return [sign, characters]
    return [sign, characters[:whole], _literal("."), characters[whole:]]
