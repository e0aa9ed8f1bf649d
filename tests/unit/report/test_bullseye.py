"""Bull's-eye plots: every segment in its place, and the numbers of the right hearts."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure

import report_cohort
from cardiocohort.anatomy.aha_segments import LEFT, RIGHT, SEGMENTS, WALL_COLUMNS
from cardiocohort.report import bullseye
from cardiocohort.report.manifest import manifest

SCALE = Normalize(5, 15)


def drawn(values):
    fig = Figure()
    ax = fig.subplots()
    bullseye.draw(ax, values, SCALE)
    return ax


def test_the_rings_are_filled_once():
    areas, covered = 0.0, np.zeros((4, 360), dtype=int)
    for inner, outer, low, high in bullseye.wedges().values():
        areas += (high - low) / 360 * np.pi * (outer**2 - inner**2)
        ring = round(inner * 4)
        covered[ring, np.arange(round(low), round(high)) % 360] += 1
    assert areas == pytest.approx(np.pi)
    assert (covered == 1).all()


@pytest.mark.parametrize(
    ("segments", "x", "y"),
    [((1, 7, 13), 0, 1), ((4, 10, 15), 0, -1), ((2, 8), -1, 0.5), ((3, 9), -1, -0.5), ((5, 11), 1, -0.5),
     ((6, 12), 1, 0.5), ((14,), -1, 0), ((16,), 1, 0)],
)  # fmt: skip
def test_segments_lie_as_the_standard_draws_them(segments, x, y):
    """Anterior on top, septum on the left, seen from the apex."""
    for number in segments:
        _, _, low, high = bullseye.wedges()[number]
        middle = np.radians((low + high) / 2)
        place = np.array([np.cos(middle), np.sin(middle)])
        assert np.sign(np.round(place, 6)).tolist() == np.sign([x, y]).tolist()
    assert {number: name for number, name in LEFT.items() if "septal" in name}.keys() == {2, 3, 8, 9, 14}


def test_each_segment_has_its_number_and_colour():
    values = {number: 4.0 + 0.5 * number for number in LEFT}
    ax = drawn(values)
    texts = [t.get_text() for t in ax.texts[:17]]
    assert texts == [f"{value:.1f}" for value in values.values()]
    cmap = bullseye.plt.get_cmap(bullseye.COLOURS)
    for patch, value in zip(ax.patches, values.values(), strict=True):
        assert np.allclose(patch.get_facecolor(), cmap(SCALE(value)))


def test_an_unknown_segment_is_grey():
    ax = drawn({1: 9.0})
    assert ax.texts[1].get_text() == "–"
    assert np.allclose(ax.patches[1].get_facecolor()[:3], to_rgb(bullseye.MISSING))


@pytest.fixture(scope="module")
def walls(tmp_path_factory):
    tables = report_cohort.read(tmp_path_factory.mktemp("cohort"))
    return bullseye.wall_rows(tables.meshes, manifest(tables, {}, {}))


def test_rows_are_the_accepted_hearts(walls):
    healthy, dilated = report_cohort.ARMS
    assert walls["subject"].tolist() == [f"{arm}-0000{i}" for arm in (healthy, dilated) for i in (0, 1)]
    assert walls.loc[1, WALL_COLUMNS[17]] == pytest.approx(report_cohort.wall_mm(healthy, 1, 17))


def test_the_table_has_mean_and_spread_of_every_segment(walls):
    table = bullseye.wall_table(walls).set_index(["arm", "segment"])
    assert len(table) == 2 * len(SEGMENTS)
    for arm in report_cohort.ARMS:
        own = table.loc[(arm, 9)]
        values = [report_cohort.wall_mm(arm, index, 9) for index in (0, 1)]
        assert own["mean_mm"] == pytest.approx(np.mean(values))
        assert own["sd_mm"] == pytest.approx(np.std(values, ddof=1))
        assert (own["name"], own["n"]) == ("mid inferoseptal", 2)


def test_an_arm_is_its_hearts_mean(walls):
    fig = bullseye.by_arm(walls, str)
    panels = [ax for ax in fig.axes if ax.texts]
    assert len(panels) == 2
    assert panels[0].get_title() == f"{report_cohort.ARMS[0]}, 2 hearts"
    for ax, arm in zip(panels, report_cohort.ARMS, strict=True):
        mean = np.mean([report_cohort.wall_mm(arm, index, 1) for index in (0, 1)])
        assert ax.texts[0].get_text() == f"{mean:.1f}"


def test_a_cohort_without_meshes_says_so():
    none = pd.DataFrame(columns=["subject", "arm", *WALL_COLUMNS.values()])
    fig = bullseye.by_arm(none, str)
    assert "no accepted heart" in fig.axes[0].texts[0].get_text()
    assert bullseye.wall_table(none).empty


def test_the_scale_of_both_walls_reaches_the_thin_right_one(walls):
    right = {WALL_COLUMNS[number]: 3.5 for number in RIGHT}
    assert bullseye.common_scale(walls.assign(**right), SEGMENTS).vmin == 3
    assert bullseye.common_scale(walls.assign(**right)).vmin > 3


def test_a_picture_is_square_and_coloured(walls):
    found = bullseye.picture(walls.iloc[0], bullseye.common_scale(walls), 340)
    assert found.size == (340, 340)
    assert np.ptp(np.asarray(found, dtype=int), axis=2).max() > 60
