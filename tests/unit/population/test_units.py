"""Tables in other units or frames are refused with these named; true ones and extreme hearts pass."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy.moments import MOMENT_COLUMNS
from cardiocohort.population.reference import read_reference
from cardiocohort.population.units import FRAMES, check_units, usual_of
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART

SHIPPED = Path(__file__).resolve().parents[3] / "resources/priors/people/reference_moments.parquet"
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


@pytest.mark.parametrize(
    ("columns", "signs", "named"),
    [
        ([0, 1, 2], [-1, -1, 1], "-x, -y and z"),  # LPS
        ([0, 1, 2], [-1, 1, 1], "-x, y and z"),  # mirrored
        ([2, 1, 0], [1, 1, 1], "z, y and x"),  # array order
        ([1, 2, 0], [-1, 1, 1], "z, -x and y"),
    ],
)
def test_another_frame_is_named(columns, signs, named):
    other = TABLE.iloc[:400].copy()
    other[CENTROIDS] = other[CENTROIDS].to_numpy()[:, columns] * signs
    with pytest.raises(InputError, match=rf"x.parquet.*'centroid_.*with {named} in place of .*RAS"):
        check_units("x.parquet", other, USUAL)


def test_few_structures_betray_lps_too():
    few = ("left_ventricle", "right_ventricle", "left_atrium", "aorta")
    other = TABLE[TABLE["structure"].isin(few)].copy()
    other[CENTROIDS] *= [-1, -1, 1]
    with pytest.raises(InputError, match="with -x, -y and z in place of"):
        check_units("x.parquet", other, USUAL)


def test_hearts_in_two_frames_are_found():
    mixed = TABLE.copy()
    odd = mixed["subject"].isin(mixed["subject"].unique()[::20])
    mixed.loc[odd, CENTROIDS] *= [-1, -1, 1]
    with pytest.raises(InputError, match=rf"{odd.sum() // 10} of {len(mixed) // 10} hearts"):
        check_units("x.parquet", mixed, USUAL)


@settings(max_examples=25, deadline=None)
@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1),
    degrees=st.floats(0, 30),
    first=st.integers(0, 600),
)
def test_turned_hearts_pass(axis, degrees, first):
    """Real hearts lie 10 to 26 degrees from each other."""
    out = TABLE.iloc[10 * first : 10 * first + 50].copy()
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array(axis) / np.linalg.norm(axis))
    out[CENTROIDS] = turn.apply(np.array(out[CENTROIDS]))
    check_units("x", out, USUAL)


def test_the_frames_are_all_others_of_the_same_axes():
    assert len(np.unique(FRAMES, axis=0)) == len(FRAMES) == 47
    assert np.allclose(FRAMES @ FRAMES.transpose(0, 2, 1), np.eye(3))
    assert not (np.eye(3) == FRAMES).all((1, 2)).any()


def test_without_a_bundle_volume_and_covariance_still_betray_each_other():
    with pytest.raises(InputError, match="which no body can have"):
        check_units("x", scaled(TABLE, volume=1e3), None)
    check_units("x", scaled(TABLE, length=0.1), None)
