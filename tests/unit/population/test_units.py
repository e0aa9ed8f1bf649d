"""Tables in other units are refused with the unit named; true ones and extreme hearts pass."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.anatomy.moments import MOMENT_COLUMNS
from cardiocohort.population.reference import read_reference
from cardiocohort.population.units import check_units, usual_of
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART

SHIPPED = Path(__file__).resolve().parents[3] / "resources/priors/small/reference_moments.parquet"
TABLE = pd.read_parquet(SHIPPED)
USUAL = usual_of(read_reference(SHIPPED, HEART))
CENTROIDS, COVARIANCES = list(MOMENT_COLUMNS[1:4]), list(MOMENT_COLUMNS[4:])


def scaled(frame, volume=1.0, length=1.0, area=1.0):
    out = frame.copy()
    out["volume_ml"] *= volume
    out[CENTROIDS] *= length
    out[COVARIANCES] *= area
    return out


def test_the_shipped_population_passes():
    check_units("x", TABLE, USUAL)


@settings(max_examples=25, deadline=None)
@given(
    size=st.floats(0.5, 1.4),
    factors=st.lists(st.floats(0.4, 3.0), min_size=10, max_size=10),
    first=st.integers(0, 600),
)
def test_small_and_large_hearts_and_diseased_structures_pass(size, factors, first):
    """A child's heart has half the length of an adult's; a structure may be dilated by three."""
    some = TABLE.iloc[10 * first : 10 * first + 50]
    each = np.resize(factors, len(some))
    out = scaled(some, size**3, size, size**2)
    out["volume_ml"] *= each
    out[COVARIANCES] = out[COVARIANCES].mul(each ** (2 / 3), axis=0)
    check_units("x", out, USUAL)


@pytest.mark.parametrize(
    ("change", "column", "unit"),
    [
        ({"volume": 1e3}, "times the volume of the ellipsoid", "not mm3"),
        ({"volume": 1e-3}, "'volume_ml'", "looks like L"),
        ({"volume": 1e3, "area": 1e2}, "'volume_ml'", "looks like mm3"),
        ({"area": 1e-2}, "times the volume of the ellipsoid", "not cm2"),
        ({"area": 1e-2, "volume": 1e-3}, "'volume_ml'", "looks like L"),
        ({"length": 0.1}, "'centroid_", "looks like cm"),
        ({"length": 1e-3}, "'centroid_", "looks like m"),
        ({"area": 1e6}, "'covariance_", "looks like um2"),
    ],
)
def test_other_units_are_named(change, column, unit):
    with pytest.raises(InputError) as error:
        check_units("x.parquet", scaled(TABLE, **change), USUAL)
    assert column in str(error.value)
    assert unit in str(error.value)
    assert "x.parquet" in str(error.value)


def test_one_row_in_another_unit_is_found():
    mixed = TABLE.copy()
    mixed.loc[437, "volume_ml"] /= 1000
    with pytest.raises(InputError, match=rf"row 437 .*'volume_ml'.*looks like L; 1 of {len(TABLE)} rows"):
        check_units("x.parquet", mixed, USUAL)


def test_one_heart_in_another_unit_is_found():
    mixed = TABLE.copy()
    subject = mixed["subject"].iloc[430]
    mixed.loc[mixed["subject"] == subject, CENTROIDS] /= 10
    with pytest.raises(InputError, match=rf"of '{subject}'.*looks like cm"):
        check_units("x.parquet", mixed, USUAL)


def test_without_a_bundle_volume_and_covariance_still_betray_each_other():
    with pytest.raises(InputError, match="which no body can have"):
        check_units("x", scaled(TABLE, volume=1e3), None)
    check_units("x", scaled(TABLE, length=0.1), None)
