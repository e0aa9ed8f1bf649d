"""Target guidance_bench: settings, errors and ratios of samples, tables and charts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import guidance_benchmark
import guidance_benchmark_figures
import guidance_benchmark_settings as choice
from cardiocohort.anatomy import moments
from cardiocohort.generation.settings import DpsSettings, GuidanceSettings
from tiny_prior import ANATOMY, GRID, LENIENT, write_tiny_bundle

GIVEN = GuidanceSettings(steps=4, dps=DpsSettings(weight=3.0, lambda_size=5.0))


def heart(shift=0) -> np.ndarray:
    """A shell about a ball, moved by voxels."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    return np.roll(np.where(r < 20, 2, np.where(r < 36, 1, 0)).astype(np.uint8), shift, 0)


def rows_of(labels) -> pd.DataFrame:
    found = moments.measure_labels(labels, [(1,), (2,)], GRID.axes_mm())
    rows = pd.DataFrame(moments.to_columns(found))
    return rows.assign(structure=ANATOMY.structures, constrained=["size,position,shape", ""])


def test_frontier_has_every_method_at_every_number_of_levels():
    found = choice.frontier(GIVEN, (3, 4))
    assert found[:4] == choice.of_config(GIVEN)
    assert len(found) == len(set(found)) == len({setting.name for setting in found})
    fast = [s.guidance for s in found if s.method == "polyak"]
    assert set(fast) == {replace(GIVEN, steps=steps, **way) for steps in (3, 4) for way in choice.WAYS}
    assert {s.guidance.steps for s in found if s.method == "dps"} == {3, 4}


def test_sensitivity_multiplies_one_thing_at_a_time():
    found = choice.sensitivity(GIVEN, (0.5, 1.0, 2.0))
    assert len(found) == 4 + 2 * 4 * 2
    by_name = {setting.name: setting.guidance for setting in found}
    assert by_name["dps_step_x2"].dps == DpsSettings(weight=6.0, lambda_size=5.0)
    assert by_name["dps_size_x0.5"].dps == DpsSettings(weight=3.0, lambda_size=2.5)
    fast = by_name["polyak_step_x2"]
    assert fast == replace(
        GIVEN, method="polyak", step_fraction=2 * GIVEN.step_fraction, trust_radius=2 * GIVEN.trust_radius
    )
    assert by_name["polyak_shape_x0.5"] == replace(GIVEN, method="polyak", lambda_shape=0.5)


def test_targets_are_spread_over_the_arms():
    assert choice.spread(8, 3) == [0, 4, 7]
    assert choice.spread(8, 1) == [0]
    assert choice.spread(3, 8) == [0, 1, 2]


def test_errors_of_a_heart_that_was_moved_are_its_way():
    found = guidance_benchmark.errors(rows_of(heart()), heart(2), ANATOMY, GRID)
    assert list(found["structure"]) == ["wall"]
    assert found.loc[0, ["volume_percent", "centroid_mm", "shape"]].tolist() == pytest.approx(
        [0, 8, 0], abs=1e-9
    )
    assert found["axes_degrees"].isna().all()  # a shell has no axes
    gone = guidance_benchmark.errors(rows_of(heart()), np.zeros_like(heart()), ANATOMY, GRID)
    assert gone.loc[0, "volume_percent"] == 100
    assert np.isnan(gone.loc[0, "shape"])


def test_error_of_axes_is_that_of_the_worst_that_has_a_direction():
    """Ellipsoids turned about their third axis by 10 degrees; of two equal lengths none has a direction."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")

    def body(lengths, degrees):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        u, v = c * x + s * y, c * y - s * x
        return np.where((u / lengths[0]) ** 2 + (v / lengths[1]) ** 2 + (z / lengths[2]) ** 2 < 1, 1, 0)

    for lengths, expected in (((50, 35, 20), 10.0), ((50, 22, 20), 10.0), ((36, 35, 20), 0.0)):
        rows = rows_of(body(lengths, 0).astype(np.uint8)).iloc[:1]
        found = guidance_benchmark.errors(rows, body(lengths, 10).astype(np.uint8), ANATOMY, GRID)
        assert found.loc[0, "axes_degrees"] == pytest.approx(expected, abs=0.7)


def test_summary_has_medians_shares_and_ratios_at_equal_levels():
    own = choice.of_config(GIVEN)
    blocks = []
    for setting, seconds, error in zip(own, (2.0, 5.0, 20.0, 6.0), (9.0, 1.0, 4.0, 2.0), strict=True):
        for target in (0, 1):
            frame = pd.DataFrame({"structure": ["wall", "cavity"], "volume_percent": [error, error + target]})
            frame = frame.assign(centroid_mm=error, shape=error, axes_degrees=[error, np.nan])
            frame = frame.assign(kept=target, seconds=seconds * (1 + target))
            blocks.append(frame.assign(setting=setting.name, target=target))
    found = choice.summary(pd.concat(blocks), own).set_index("method")
    assert found.loc["polyak", "volume_percent"] == 1.0  # of 1, 1, 1 and 2
    assert found["kept"].tolist() == [0.5] * 4
    assert found["ratio_to_unguided"].tolist() == pytest.approx([1.0, 2.5, 10.0, 3.0])
    assert found["n"].tolist() == [2] * 4


def test_samples_tables_and_charts_of_a_tiny_prior(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    rules = tmp_path / "rules.tsv"
    rules.write_text(LENIENT)
    settings = choice.frontier(GIVEN, ()) + choice.sensitivity(GIVEN, (4.0,))
    settings = list(dict.fromkeys(settings))
    targets = [rows_of(heart()), rows_of(heart(1))]
    few = choice.frontier(GIVEN, ())
    samples = guidance_benchmark.sample(str(bundle), str(rules), targets, [settings, few], "cpu", 1)
    assert len(samples) == len(settings) + len(few)
    assert (samples["seconds"] > 0).all()
    steered = samples.pivot(index="target", columns="setting", values="volume_percent")
    default = choice.of_config(GIVEN)[1].name
    assert not np.allclose(steered[default], steered["unguided_4"])
    assert "cohort_4" in steered
    assert (choice.summary(samples, few)["n"] == 2).all()
    table = choice.summary(samples, settings)
    assert (table["n"] == 1).all()
    assert table["ratio_to_unguided"].notna().all()
    for chart in (
        guidance_benchmark_figures.frontier_figure(table[table["parameter"] == ""], {default}),
        guidance_benchmark_figures.sensitivity_figure(table),
    ):
        chart.savefig(tmp_path / "chart.png", dpi=50)
        assert (tmp_path / "chart.png").stat().st_size > 5000
