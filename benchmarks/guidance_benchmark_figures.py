"""Charts of what guidance costs and reaches, and of its sensitivity (target `guidance_bench`)."""

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from cardiocohort.plotting.style import STYLE, plt
from guidance_benchmark_settings import COHORT, ERRORS, METHODS, PARAMETERS, UNGUIDED

TITLES = dict(
    zip(ERRORS, ("volume, %", "centroid, mm", "norm of the Sⁿ difference", "axes, degrees"), strict=True)
)
BARS = dict(zip(ERRORS, (2.0, 1.0, 0.02, 3.0), strict=True))  # medians on the written label maps
COLOURS = {"polyak": "#2b6ca3", "dps": "#c0504d", COHORT: "#b3861b"}
SHADES = ("#9cc3e0", "#2b6ca3", "#12324d")
MARKERS = "os^Dv<>pXhd"
STARS = {"dps": "*", COHORT: "P"}

plt.rcParams.update(STYLE)


def frontier_figure(table: pd.DataFrame, shipped: set[str]) -> Figure:
    """Errors and kept share against seconds per sample; ringed, the settings named in `shipped`.

    Colours: rule, and shade the number of levels; markers: how often and how far `polyak` steps. Dashed: the
    errors' bars.
    """
    columns = (*ERRORS, "kept")
    fig, axes = plt.subplots(1, len(columns), figsize=(14.5, 3.6), layout="constrained")
    levels = sorted(table["steps"].unique())
    shades = SHADES[1:2] if len(levels) == 1 else SHADES * (1 + len(levels) // len(SHADES))
    shades = dict(zip(levels, shades, strict=False))
    ways = list(dict.fromkeys(table.loc[table["method"] == "polyak", "way"]))
    for ax, column in zip(axes, columns, strict=True):
        for _, row in table.iterrows():
            x, y = row["seconds_per_sample"], row[column]
            if row["method"] == UNGUIDED:
                ax.axvline(x, color="0.85", lw=0.8, zorder=0)
                if column == "kept":
                    ax.plot(x, y, "x", color="0.5")
                continue
            polyak = row["method"] == "polyak"
            marker = MARKERS[ways.index(row["way"])] if polyak else STARS[row["method"]]
            colour = shades[row["steps"]] if polyak else COLOURS[row["method"]]
            ax.plot(x, y, marker, color=colour, ms=6 if polyak else 9)
            if row["method"] == "dps":
                ax.annotate(f"{row['steps']}", (x, y), textcoords="offset points", xytext=(6, 3), fontsize=7)
            if row["setting"] in shipped:
                ax.plot(x, y, "o", ms=13, mfc="none", mec="black")
        if column in BARS:
            ax.axhline(BARS[column], color="0.4", lw=0.8, ls="--")
            ax.set(yscale="log", title=TITLES[column])
            _plain_ticks(ax.yaxis)
        else:
            ax.set(ylim=(-0.03, 1.03), title="share kept by the gate")
        ax.set(xscale="log", xlabel="seconds per sample")
        _plain_ticks(ax.xaxis)
    handles = [
        plt.Line2D([], [], ls="", marker="o", color=shades[n], label=f"polyak, {n} levels") for n in levels
    ]
    handles += [
        plt.Line2D([], [], ls="", marker=marker, color="0.4", label=_said(way))
        for marker, way in zip(MARKERS, ways, strict=False)
    ]
    handles.append(
        plt.Line2D([], [], ls="", marker="*", color=COLOURS["dps"], ms=9, label="dps, levels beside it")
    )
    handles.append(
        plt.Line2D([], [], ls="", marker="P", color=COLOURS[COHORT], ms=9, label="cohort: gate, restarts")
    )
    handles.append(plt.Line2D([], [], ls="", marker="x", color="0.5", label="unguided (lines: its seconds)"))
    handles.append(
        plt.Line2D([], [], ls="", marker="o", ms=11, mfc="none", mec="black", label="as configured")
    )
    fig.legend(handles=handles, loc="outside right center", frameon=False, fontsize=7.5)
    return fig


def _plain_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10, ..., in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _said(way: str) -> str:
    """`every3_x1.4_m0.5_8to0.09` (`frontier_settings.Setting.way`) for readers."""
    every, share, *more = way.split("_")
    parts = [f"every {every.removeprefix('every')}", f"fraction {share.removeprefix('x')}"]
    parts += [
        f"σ {part.replace('to', ' to ')}" if "to" in part else f"momentum {part.removeprefix('m')}"
        for part in more
    ]
    return ", ".join(parts)


def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """Errors and kept share against the factor on each parameter; a row of charts a rule."""
    fig, axes = plt.subplots(
        len(METHODS), len(ERRORS) + 1, figsize=(13.0, 5.2), layout="constrained", sharex=True, sharey="col"
    )
    colours = dict(zip(PARAMETERS, ("black", "#2b6ca3", "#c77f1f", "#4e9a6b"), strict=True))
    names = {name: f"λ {name}" for name in PARAMETERS} | {
        PARAMETERS[0]: "step (polyak: fraction and trust, dps: w)"
    }
    for method, row in zip(METHODS, axes, strict=True):
        own = table[table["method"] == method]
        for ax, column in zip(row, (*ERRORS, "kept"), strict=True):
            for parameter in PARAMETERS:
                line = own[own["parameter"].isin((parameter, ""))].sort_values("factor")
                ax.plot(line["factor"], line[column], "o-", ms=3.5, lw=1.2, color=colours[parameter],
                        label=names[parameter])  # fmt: skip
            if column in BARS:
                ax.axhline(BARS[column], color="0.4", lw=0.8, ls="--")
                ax.set(yscale="log")
                _plain_ticks(ax.yaxis)
            else:
                ax.set(ylim=(-0.03, 1.03))
            ax.set(xscale="log")
            ticks = np.unique(table["factor"])
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.minorticks_off() if column == "kept" else ax.tick_params(axis="x", which="minor", bottom=False)
            if method == METHODS[0]:
                ax.set_title(TITLES.get(column, "share kept by the gate"))
            else:
                ax.set_xlabel("factor")
        row[0].set_ylabel(method)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return fig
