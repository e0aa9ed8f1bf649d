"""Tables of numbers as text: as Python's own formatting writes them, and refused where they do not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cardiocohort.exporters._text import text_rows

NUMBERS = st.floats(-999, 999, allow_nan=False).map(lambda x: round(x, 9))


@given(st.data(), st.integers(0, 6), st.integers(1, 9))
def test_rows_are_what_python_writes(data, n, decimals):
    """But for the last digit where the rest is a half up to rounding, and a zero, which has no sign."""
    whole = data.draw(arrays(np.int64, (n, 2), elements=st.integers(-(10**9), 10**9)))
    values = data.draw(arrays(float, n, elements=NUMBERS))
    text = text_rows(f'<e id="%d">%d, %.{decimals}f</e>\n', whole, values)
    lines = text.splitlines()
    assert len(lines) == n
    assert text.endswith("\n") == (n > 0)
    for line, (a, b), value in zip(lines, whole, values, strict=True):
        head, number = line.removesuffix("</e>").rsplit(" ", 1)
        assert head == f'<e id="{a}">{b},'
        assert len(number.split(".")[1]) == decimals
        assert number.lstrip("-").split(".")[0].isdigit()
        assert abs(float(number) - value) <= 0.5 * 10.0**-decimals + 1e-12
        if abs(value * 10**decimals % 1 - 0.5) > 1e-3 and float(number):
            assert number == f"{value:.{decimals}f}"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e12])
def test_a_number_that_has_no_such_digits_is_refused(bad):
    with pytest.raises(ValueError, match="not finite, or has no 7 decimals"):
        text_rows("%.7f\n", np.array([1.0, bad]))


def test_single_precision_keeps_its_digits():
    assert text_rows("%.7f\n", np.float32([123.456])) == f"{np.float32(123.456):.7f}\n"


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        text_rows("%d %d\n", np.arange(3), np.array([7]))


def test_what_is_not_whole_or_does_not_fit_its_form_is_refused():
    with pytest.raises(ValueError, match="should be whole"):
        text_rows("%d\n", np.array([1.0, 2.5]))
    for form in ("%d %d\n", "%g\n", "%d %s\n"):
        with pytest.raises(ValueError, match="does not fit"):
            text_rows(form, np.array([1]))
