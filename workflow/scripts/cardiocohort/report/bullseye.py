"""Bull's-eye plots of wall thickness and strains in 17 AHA segments. Of hearts only. Owned by report.

Layout: Cerqueira et al., Circulation 2002. Base outside, apex in the middle, anterior on top, septum left.
"""

import io

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Wedge
from PIL import Image

from ..anatomy.aha_segments import LEFT, SEGMENTS, WALL_COLUMNS
from ..plotting.style import plt
from ..runtime.outcomes import Outcome

# rings from outside: radii, first segment, how many, where the first one's middle is, degrees from the right
RINGS = ((0.75, 1.0, 1, 6, 90), (0.5, 0.75, 7, 6, 90), (0.25, 0.5, 13, 4, 90), (0.0, 0.25, 17, 1, 0))
REGION_NAMES = {"left ventricle": "lv", "septum": "septum", "right ventricle": "rv"}
COLOURS = "viridis"
MISSING = "#dddddd"
MOST_ARMS = 12  # drawn; the table has them all


def wedges() -> dict[int, tuple[float, float, float, float]]:
    """Inner and outer radius, first and last angle (degrees, anticlockwise from the right) by segment."""
    wedges_of = {}
    for inner, outer, first, n, start in RINGS:
        width = 360 / n
        for k in range(n):
            middle = start + k * width  # anterior on top, the septum follows to the left
            wedges_of[first + k] = (inner, outer, middle - width / 2, middle + width / 2)
    return wedges_of


def draw(ax, values: dict[int, float], scale: Normalize, title: str = "", colour_map: str = COLOURS) -> None:
    """The 17 segments, coloured and lettered by their values; grey where it is not known."""
    colours = plt.get_cmap(colour_map)
    for number, (inner, outer, low, high) in wedges().items():
        value = values.get(number, np.nan)
        known = np.isfinite(value)
        face = colours(scale(value)) if known else MISSING
        ax.add_patch(Wedge((0, 0), outer, low, high, width=outer - inner, fc=face, ec="white", lw=1))
        place, angle = (inner + outer) / 2 if inner else 0.0, np.radians((low + high) / 2)
        dark = known and np.dot(face[:3], (0.299, 0.587, 0.114)) < 0.5
        ax.text(
            place * np.cos(angle), place * np.sin(angle), f"{value:.1f}".replace("-", "−") if known else "–",
            ha="center", va="center", size=8, color="white" if dark else "0.1",
        )  # fmt: skip
    sides = {"anterior": (0, 1, 0), "inferior": (0, -1, 0), "septal": (-1, 0, 90), "lateral": (1, 0, -90)}
    for word, (x, y, turn) in sides.items():
        ax.text(1.09 * x, 1.09 * y, word, ha="center", va="center", size=8, color="0.35", rotation=turn)
    ax.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
    ax.set_axis_off()
    if title:
        ax.set_title(title, size=10)


def by_arm(walls: pd.DataFrame, words) -> Figure:
    """One bull's-eye per arm, of the segments' mean thickness over its hearts; `walls` as of `wall_rows`."""
    by_segment = walls.rename(columns={column: number for number, column in WALL_COLUMNS.items()})
    return arms_beside(by_segment, words, common_scale(walls), "wall thickness, mm", COLOURS)


def arms_beside(
    hearts: pd.DataFrame, words, scale: Normalize, label: str, colour_map: str = COLOURS
) -> Figure:
    """One bull's-eye per arm, of the segments' means over its hearts.

    hearts: subject, arm, one column per segment; label: what the colours are, with its unit.
    """
    means = hearts.groupby("arm", sort=False)[list(LEFT)].mean().head(MOST_ARMS)
    n = max(len(means), 1)
    columns = min(n, 4)
    rows = -(-n // columns)
    fig = Figure(figsize=(3.1 * columns + 1, 3.2 * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    if means.empty:
        axes.flat[0].text(
            0.5, 0.5, "no accepted heart has a mesh of its ventricles", ha="center", va="center", color="0.4"
        )
        return fig
    counts = hearts.groupby("arm", sort=False).size()
    for ax, (arm, row) in zip(axes.flat, means.iterrows(), strict=False):
        title = f"{words(arm)}, {counts[arm]} heart{'s' if counts[arm] > 1 else ''}"
        draw(ax, dict(zip(LEFT, row, strict=True)), scale, title, colour_map)
    fig.colorbar(plt.cm.ScalarMappable(scale, colour_map), ax=axes, label=label, shrink=0.8)
    return fig


def picture(row: pd.Series | dict, scale: Normalize, size_px: int) -> Image.Image:
    """A subject's bull's-eye, square; row: the columns of wall thickness."""
    fig = Figure(figsize=(size_px / 100, size_px / 100), layout="constrained")
    draw(fig.subplots(), {number: row[WALL_COLUMNS[number]] for number in LEFT}, scale)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGB")


def common_scale(walls: pd.DataFrame, segments=LEFT) -> Normalize:
    """One colour scale (mm) for all hearts: 1st to 99th percentile of their segments, in whole mm."""
    values = walls[_columns(segments)].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if not values.size:
        return Normalize(0.0, 15.0)
    low, high = np.floor(np.quantile(values, 0.01)), np.ceil(np.quantile(values, 0.99))
    return Normalize(low, max(high, low + 1))


def wall_rows(meshes: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """subject, arm and wall thickness by segment (`WALL_COLUMNS`) of accepted hearts."""
    accepted = manifest.loc[manifest["status"] == Outcome.ACCEPTED, ["subject", "arm"]]
    known = meshes.reindex(columns=["subject", *WALL_COLUMNS.values()])
    rows = accepted.merge(known, on="subject")
    return rows[rows[_columns(LEFT)].notna().any(axis=1)].reset_index(drop=True)


def wall_table(walls: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (mm) by arm and segment: arm, segment, name, n, mean_mm, sd_mm."""
    columns = ["arm", "segment", "name", "n", "mean_mm", "sd_mm"]
    long = walls.melt(["subject", "arm"], list(WALL_COLUMNS.values()), "column", "mm").dropna(subset="mm")
    if long.empty:
        return pd.DataFrame(columns=columns)
    long["segment"] = long["column"].map({column: number for number, column in WALL_COLUMNS.items()})
    means = long.groupby(["arm", "segment"], sort=False)["mm"].agg(["size", "mean", "std"]).reset_index()
    means.columns = ["arm", "segment", "n", "mean_mm", "sd_mm"]
    return means.assign(name=means["segment"].map(SEGMENTS))[columns]


def _columns(segments) -> list[str]:
    return [WALL_COLUMNS[number] for number in segments]
