"""Targets that cannot be met end in a verdict: never in NaN, in a heart of its own choice, or without end."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiocohort.anatomy import moments
from cardiocohort.generation import anatomies, sampling
from cardiocohort.generation.constraints import OUTSIDE, impossible, missed
from cardiocohort.population.reference import read_reference
from cardiocohort.runtime.errors import SubjectError
from heart_anatomy import HEART
from tiny_prior import ANATOMY, GRID, LENIENT, write_tiny_bundle

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "resources/priors/people"
RULES = ROOT / "resources/anatomies/heart/topology.tsv"


def rows_of(structures, centre=(0.0, 0.0, 0.0), factor=1.0, asked="size,position,shape") -> pd.DataFrame:
    """Ellipsoids of 20, 15 and 12 mm; the first is at `centre`, `factor` times as large, and constrained."""
    found = []
    for k, name in enumerate(structures):
        own = moments.from_ellipsoid(centre if k == 0 else (0.0,) * 3, (20.0, 15.0, 12.0), np.eye(3))
        row = {column: float(value) for column, value in moments.to_columns(own).items()}
        row["volume_ml"] *= factor if k == 0 else 1.0
        found.append({"structure": name, "constrained": asked if k == 0 else "", **row})
    return pd.DataFrame(found)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (rows_of(("wall",), (64.0, 0.0, 0.0)), r"wall, centroid \(64, 0, 0\) mm, field \+-64 mm"),
        (rows_of(("wall",), (0.0, -1e6, 0.0)), "centroid"),
        (rows_of(("wall",), factor=1000.0), "wall, volume 15080 mL, field 2097 mL"),
        (rows_of(("wall",), (np.nan, 0.0, 0.0)), "wall, not finite"),
        (rows_of(("wall",), factor=np.inf), "wall, not finite"),
    ],
)
def test_what_no_heart_on_the_grid_can_be_is_impossible(rows, told):
    ending = impossible(rows, GRID)
    assert ending.reason == OUTSIDE
    assert re.search(told, ending.text)


def test_what_is_not_asked_for_can_be_anything():
    assert impossible(rows_of(("wall",), (63.0, 0.0, 0.0), 100.0), GRID) is None
    assert impossible(rows_of(("wall",), (1e6, 0.0, 0.0), asked="size,shape"), GRID) is None
    assert impossible(rows_of(("wall",), factor=1000.0, asked="position"), GRID) is None


def test_the_worst_residual_is_reported_and_nan_is_the_worst():
    assert missed({}, 1.5) is None
    assert missed({"a.size": 1.5, "b.size": 0.1}, 1.5) is None
    worst = missed({"a.size": 1.6, "b.shape": 2.25}, 1.5)
    assert worst.text == f"{OUTSIDE}: b.shape missed by 2.2 SD, max 1.5"
    assert "a.size" in missed({"a.size": np.nan, "b.shape": 9.0}, 1.5).detail


def work(bundle, rules, rows, folder, attempts=10, **settings):
    generator = anatomies.open_generator(str(bundle), str(rules), settings, attempts, "cpu")
    path = folder / "far-00000.nii.gz"
    (result,) = anatomies.work(generator, [path], [(rows.to_dict("records"), 1, "far", 0, None)])
    assert not path.exists()
    return result


def test_a_place_outside_the_field_is_refused_before_sampling(tmp_path, monkeypatch):
    bundle, rules = write_tiny_bundle(tmp_path / "bundle"), tmp_path / "rules.tsv"
    rules.write_text(LENIENT)

    def never(*_):
        raise AssertionError("sampled")

    monkeypatch.setattr(sampling, "sample_labels", never)
    result = work(bundle, rules, rows_of(ANATOMY.structures, (0.0, 70.0, 0.0)), tmp_path)
    assert isinstance(result, SubjectError)
    assert result.ending.text.startswith(f"{OUTSIDE}: wall, centroid")


@pytest.mark.long
def test_ten_times_the_volume_is_outside_after_three_attempts(tmp_path):
    """The mean heart of the reference with a left ventricle of ten times its volume (1.5 L or so)."""
    reference = read_reference(SHIPPED / "reference_moments.parquet", HEART)
    mean = moments.from_vector(moments.to_vector(reference.moments).mean(axis=0))
    rows = pd.DataFrame(moments.to_columns(mean)).assign(structure=reference.structures, constrained="")
    first = rows["structure"] == "left_ventricle"
    rows.loc[first, "volume_ml"] *= 10.0
    rows.loc[first, "constrained"] = "size"
    result = work(SHIPPED, RULES, rows, tmp_path, steps=6)
    assert isinstance(result, SubjectError)
    assert result.ending.text.startswith(f"{OUTSIDE}: left_ventricle.size missed by")
    assert [attempt["attempt"] for attempt in result.record["tried"]] == list(range(anatomies.PATIENCE))
