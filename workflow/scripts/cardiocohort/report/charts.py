"""The report's charts. Owned by the report stage."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..anatomy.domains import is_part, split
from ..anatomy.labels import Anatomy
from ..metrics.agreement import ERRORS, constrained_in
from ..plotting import palette
from ..plotting.style import STYLE, plt
from ..runtime.outcomes import Outcome
from . import bullseye
from .manifest import STATUSES
from .summary import Summary

STATUS_COLOURS = {
    Outcome.ACCEPTED: "#4e9a6b",
    Outcome.REJECTED: "#d98c2b",
    Outcome.BASE_REJECTED: "#e3c08a",
    Outcome.FAILED: "#b03a3a",
}
ARM_COLOURS = ("#35638f", "#c4622d", "#4e9a6b", "#8a5a9e", "#8c6d3f", "#3f8f8c", "#b34a6b", "#6b6b6b")
REFERENCE_COLOUR = "#9a9a9a"
MOST_ARMS, MOST_REASONS, MOST_STRUCTURES = 20, 12, 12  # drawn; the tables have them all
MOST_POINTS = 4000
FEW = 5  # points that make no box
ALL_SHOWN = 60  # points drawn one by one
UNITS = {"volume_error_percent": "volume error, %", "centroid_error_mm": "centroid error, mm",
         "shape_error": "norm of ΔSⁿ"}  # fmt: skip

plt.rcParams.update(STYLE)


def all_charts(summary: Summary, targets: pd.DataFrame, anatomy: Anatomy) -> dict[str, Figure]:
    """The charts of a cohort by the name of their file."""
    charts = {
        "acceptance": acceptance(summary.arms, summary.reasons),
        "distributions": distributions(summary.volumes, summary.comparison, anatomy.shown),
        "wall_thickness": bullseye.by_arm(summary.walls, words),
    }
    if summary.generated:
        accepted = set(summary.volumes["subject"])
        charts["targets_and_achieved"] = targets_and_achieved(summary.agreement, anatomy)
        charts["requested_and_accepted"] = requested_and_accepted(targets, accepted)
    return charts


def words(name: str) -> str:
    """A structure, arm or file name as it is read."""
    return name.replace("+", " + ").replace("@", " @ ").replace("_", " ")


def acceptance(arms: pd.DataFrame, reasons: pd.DataFrame) -> Figure:
    """Subjects of every arm by status, and the reasons that ended subjects or attempts."""
    arms, reasons = arms.head(MOST_ARMS), reasons.head(MOST_REASONS)
    height = 1.1 + 0.32 * max(len(arms), len(reasons), 2)
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, height), layout="constrained")
    position, start = np.arange(len(arms)), np.zeros(len(arms))
    for status in STATUSES:
        left.barh(position, arms[status], left=start, color=STATUS_COLOURS[status], label=words(status))
        start = start + arms[status].to_numpy()
    left.set_yticks(position, [words(arm) for arm in arms["arm"]])
    left.invert_yaxis()
    left.set(xlabel="subjects", title="Status by arm")
    left.xaxis.get_major_locator().set_params(integer=True)
    fig.legend(*left.get_legend_handles_labels(), ncols=4, frameon=False, loc="outside lower left")
    if reasons.empty:
        right.set_axis_off()
        right.text(0.5, 0.5, "no subject and no attempt was refused", ha="center", va="center", color="0.4")
        return fig
    position = np.arange(len(reasons))
    right.barh(position - 0.2, reasons["attempts"], 0.38, color="0.75", label="attempts refused")
    right.barh(
        position + 0.2,
        reasons["subjects"],
        0.38,
        color=STATUS_COLOURS[Outcome.REJECTED],
        label="subjects ended",
    )
    right.set_yticks(position, [f"{r.stage}: {words(r.reason)[:46]}" for r in reasons.itertuples()])
    right.invert_yaxis()
    right.set(xlabel="count", title="Reasons")
    right.xaxis.get_major_locator().set_params(integer=True)
    fig.legend(*right.get_legend_handles_labels(), ncols=2, frameon=False, loc="outside lower right")
    return fig


def targets_and_achieved(rows: pd.DataFrame, anatomy: Anatomy) -> Figure:
    """Achieved against target volumes, constrained and not, and the errors of constrained attributes."""
    sized = constrained_in(rows, "size")
    names = sorted(
        dict.fromkeys(rows["structure"]), key=is_part, reverse=True
    )  # parts are asked for: never cut
    height = 7.0 if any(map(is_part, names)) else 4.3  # their names take more lines
    fig, axes = plt.subplots(1, 5, figsize=(14, height), layout="constrained")
    colour_of = dict(
        zip(anatomy.structures, palette.colours(anatomy.structures, anatomy.colours), strict=True)
    )
    colour = {name: colour_of.get(split(name)[0].split("+")[0], "#777777") for name in names}
    _scatter(axes[0], rows[sized], colour, "Volume, constrained")
    _scatter(axes[1], rows[~sized], colour, "Volume, not constrained")
    for ax, (attribute, column) in zip(axes[2:], ERRORS.items(), strict=True):
        part = rows[constrained_in(rows, attribute)]
        shown = [name for name in names if (part["structure"] == name).any()][:MOST_STRUCTURES]
        values = [part.loc[part["structure"] == name, column].to_numpy() for name in shown]
        ax.axvline(0.0, color="0.8", lw=0.8)
        _boxes(ax, values, np.arange(len(shown)), [colour[name] for name in shown], vertical=False)
        ax.set_yticks(np.arange(len(shown)), [textwrap.fill(words(name), 16) for name in shown])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set(xlabel=UNITS[column], title=f"{attribute.capitalize()},\nconstrained")
    handles = [plt.Line2D([], [], marker="o", ls="", color=c, label=words(n)) for n, c in colour.items()]
    fig.legend(handles=handles[:24], loc="outside lower center", ncols=6, frameon=False)
    return fig


def _scatter(ax, rows: pd.DataFrame, colour: dict[str, str], title: str) -> None:
    ax.set(xlabel="target, mL", ylabel="achieved, mL", title=title)
    if rows.empty:
        ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", color="0.4")
        return
    shown = rows.sample(min(len(rows), MOST_POINTS), random_state=0)
    both = shown[["target_volume_ml", "achieved_volume_ml"]].to_numpy()
    ends = [both.min() * 0.8, both.max() * 1.25]
    ax.plot(ends, ends, color="0.6", lw=0.8, zorder=1)
    ax.scatter(*both.T, s=14, c=[colour[name] for name in shown["structure"]], alpha=0.7, lw=0)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ticks = [t for t in (1, 3, 10, 30, 100, 300, 1000, 3000) if ends[0] <= t <= ends[1]]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [str(t) for t in ticks])
        axis.set_ticks([], minor=True)
    ax.set_aspect("equal")


def requested_and_accepted(targets: pd.DataFrame, accepted: set[str]) -> Figure:
    """Target volumes of the constrained structures: all requested beside the accepted, arm by arm."""
    rows = targets[constrained_in(targets, "size")]
    names = list(dict.fromkeys(rows["structure"]))[:MOST_STRUCTURES]
    arms = list(dict.fromkeys(targets["arm"]))[:MOST_ARMS]
    fig, axes = _panels(len(names), len(arms))
    for ax, name in zip(axes, names, strict=True):
        part = rows[rows["structure"] == name]
        for k, arm in enumerate(arms):
            of_arm = part[part["arm"] == arm]
            good = of_arm.loc[of_arm["subject"].isin(accepted), "volume_ml"].to_numpy()
            _boxes(ax, [of_arm["volume_ml"].to_numpy()], [k - 0.19], ["0.7"], width=0.32)
            _boxes(ax, [good], [k + 0.19], [STATUS_COLOURS[Outcome.ACCEPTED]], width=0.32)
        _arm_axis(ax, arms, name)
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in ("0.7", STATUS_COLOURS[Outcome.ACCEPTED])]
    fig.legend(handles, ["requested", "accepted"], loc="outside lower center", ncols=2, frameon=False)
    return fig


def distributions(volumes: pd.DataFrame, comparison: pd.DataFrame, shown: tuple[str, ...]) -> Figure:
    """Achieved volumes of the structures `shown`, or of all, arm by arm, beside published means ± SD."""
    present = set(volumes["structure"])
    names = [n for n in shown if n in present] or sorted(present)[:MOST_STRUCTURES]
    arms = list(dict.fromkeys(volumes["arm"]))[:MOST_ARMS]
    fig, axes = _panels(len(names), len(arms))
    for ax, name in zip(axes, names, strict=True):
        for k, arm in enumerate(arms):
            of_arm = volumes.loc[
                (volumes["arm"] == arm) & (volumes["structure"] == name), "volume_ml"
            ].to_numpy()
            _boxes(ax, [of_arm], [k - 0.15], [ARM_COLOURS[k % len(ARM_COLOURS)]], width=0.34)
            published = comparison[(comparison["arm"] == arm) & (comparison["structure"] == name)]
            at = k + 0.12 + 0.3 * np.arange(len(published)) / max(len(published), 1)
            ax.errorbar(
                at, published["reference_mean_ml"], published["reference_sd_ml"], fmt="o", ms=4, lw=1.2,
                color=REFERENCE_COLOUR,
            )  # fmt: skip
        _arm_axis(ax, arms, name)
    mark = plt.Line2D([], [], marker="o", color=REFERENCE_COLOUR, label="published mean ± SD")
    fig.legend(handles=[mark], loc="outside lower center", frameon=False)
    return fig


def _panels(n: int, arms: int) -> tuple[Figure, list]:
    columns = max(1, min(n, 6))
    rows = max(1, -(-n // columns))
    size = (2.5 * columns, 3.0 * rows + 0.05 * arms)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    flat = list(axes.flat)
    for ax in flat[n:]:
        ax.set_axis_off()
    return fig, flat[:n]


def _arm_axis(ax, arms: list[str], title: str) -> None:
    few = sum(len(arm) for arm in arms) < 22
    ax.set_xticks(range(len(arms)), [words(arm) for arm in arms])
    ax.tick_params(axis="x", rotation=0 if few else 35)
    if not few:
        plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    ax.set(title=words(title), ylabel="mL", xlim=(-0.6, len(arms) - 0.4))
    ax.set_ylim(0, 1.06 * ax.get_ylim()[1])  # room above values that lie close together


def _boxes(ax, values: list[np.ndarray], at, colours: list[str], vertical=True, width=0.55) -> None:
    """One box per array: quartiles, whiskers to the 5th and 95th percentile; few values as points."""
    for part, place, colour in zip(values, at, colours, strict=True):
        part = part[np.isfinite(part)]
        if not part.size:
            continue
        if part.size < FEW:
            middle = np.full(2, np.median(part)), place + width * np.array([-0.4, 0.4])
            ax.plot(*(middle[::-1] if vertical else middle), color="0.15", lw=1.2)
        else:
            ax.boxplot(
                part, positions=[place], widths=width, whis=(5, 95), showfliers=False, patch_artist=True,
                manage_ticks=False, orientation="vertical" if vertical else "horizontal",
                boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
                medianprops={"color": "0.15"}, whiskerprops={"color": colour}, capprops={"color": colour},
            )  # fmt: skip
        if part.size <= ALL_SHOWN:
            spread = place + width * 0.3 * np.linspace(-1, 1, part.size) * (part.size > 1)
            dots = (spread, part) if vertical else (part, spread)
            ax.plot(*dots, "o", ms=3, color=colour, mec="white", mew=0.3)
