"""The evaluation's charts, from its tables (evaluation stage)."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ..plotting.style import STYLE, plt
from .arms import ABLATION, COHORT, IMPLICIT, PAPER, UNGUIDED
from .coupling import BAR, ENTRIES, Scaled
from .fidelity import headline
from .gate_rates import ALL
from .realism_table import FIGURES, REAL

COLOURS = {REAL: "#9a9a9a", UNGUIDED: "#35638f", "polyak": "#c4622d", COHORT: "#b3861b", "dps": "#8a5a9e"}
COLOURS[IMPLICIT] = "#4e9a6b"
ATTRIBUTES = dict(zip(ABLATION, ("#35638f", "#c4622d", "#4e9a6b", "#8a5a9e"), strict=True))
TITLES = {
    "fd": "Fréchet distance, SD²",
    "precision": "precision",
    "recall": "recall",
    "mmd": "minimum matching distance, mm",
    "coverage": "coverage",
    "one_nna": "1-NNA",
}
UNITS = {"size": "volume error, %", "position": "centroid error, mm", "shape": "norm of the Sⁿ difference"}
MOST_RULES = 10

plt.rcParams.update(STYLE)


def label(method: str, constrained: int) -> str:
    return method if method in (REAL, UNGUIDED) else f"{method}, {constrained}"


def realism(table: pd.DataFrame) -> Figure:
    """Every figure of every method against held-out hearts, with intervals; band: that of real hearts."""
    shown = table[table["reference"] == "reference"].reset_index(drop=True)
    fig, axes = plt.subplots(2, 3, figsize=(9.6, 5.2), layout="constrained", sharey=True)
    for ax, name in zip(axes.flat, FIGURES, strict=True):
        for y, row in shown.iterrows():
            if not np.isfinite(row[name]):
                continue
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            colour = COLOURS[row["method"]]
            if row["method"] == REAL:
                ax.axvspan(low, high, color="0.92", lw=0)
            ax.plot([low, high], [y, y], color=colour, lw=2)
            ax.plot(row[name], y, "o", color=colour, ms=5)
        if name == "one_nna":
            ax.axvline(0.5, color="0.6", lw=0.8, ls=":")
        labels = [label(*pair) for pair in zip(shown["method"], shown["constrained_structures"], strict=True)]
        ax.set(xlabel=TITLES[name], yticks=range(len(shown)), yticklabels=labels)
        ax.invert_yaxis() if ax is axes.flat[0] else None
        ax.set_xlim(left=0)
    return fig


def control(table: pd.DataFrame) -> Figure:
    """Median shown, and 95th percentiles as thin lines, of each set's structures: unguided and guided."""
    shown = headline(table)
    groups = sorted(shown["structure"].unique(), key=lambda name: int(name.split("_")[1]))
    methods = [m for m in COLOURS if m in set(shown["method"])]
    fig, axes = plt.subplots(1, len(PAPER), figsize=(9.6, 3.0), layout="constrained")
    for ax, attribute in zip(axes, PAPER, strict=True):
        for k, method in enumerate(methods):
            rows = shown[(shown["method"] == method) & (shown["attribute"] == attribute)]
            rows = rows.set_index("structure")
            at = [i for i, name in enumerate(groups) if name in rows.index]
            rows = rows.loc[[groups[i] for i in at]]
            x = np.array(at) + 0.8 * (k + 0.5) / len(methods) - 0.4
            width = 0.7 / len(methods)
            ax.bar(x, rows["median_error"], width, color=COLOURS[method], label=method)
            ax.vlines(x, rows["median_error"], rows["p95_error"], color=COLOURS[method], lw=1)
        ax.set(yscale="log", ylabel=UNITS[attribute], xticks=range(len(groups)))
        ax.set_xticklabels([name.split("_")[1] for name in groups])
        ax.set_xlabel("constrained structures")
    bars, names = axes[0].get_legend_handles_labels()
    fig.legend(bars, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=8)
    return fig


def ablation(table: pd.DataFrame, constrained: int) -> Figure:
    """Median errors of the constrained structures beside unguided samples'; rows: what is constrained."""
    of_set = table[table["structure"] == f"set_{constrained}"]
    arms = {UNGUIDED: "none"} | {f"polyak_{constrained}_{a}": f"{a} alone" for a in ABLATION}
    arms |= {f"polyak_{constrained}": "all"}
    arms = {name: text for name, text in arms.items() if name in set(of_set["arm"])}
    columns = list(dict.fromkeys(of_set["attribute"]))
    medians = of_set.pivot(index="arm", columns="attribute", values="median_error").loc[list(arms), columns]
    ratio = medians / medians.loc[UNGUIDED]
    fig, ax = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    image = ax.imshow(np.log2(ratio), cmap="RdBu_r", vmin=-4, vmax=4, aspect="auto")
    for i, name in enumerate(ratio.index):
        for j, column in enumerate(columns):
            dark = abs(np.log2(ratio.loc[name, column])) > 2.5
            ax.text(j, i, f"{medians.loc[name, column]:.3g}", ha="center", va="center",
                    color="white" if dark else "black")  # fmt: skip
    ax.set(xticks=range(len(columns)), xticklabels=columns, yticks=range(len(arms)))
    ax.set_yticklabels(list(arms.values()))
    ax.tick_params(length=0)
    ax.set(ylabel="constrained", xlabel="median error of")
    bar = fig.colorbar(image, ax=ax, ticks=[-4, -2, 0, 2, 4])
    bar.ax.set_yticklabels(["1/16", "1/4", "1", "4", "16"])
    bar.set_label("relative to none")
    return fig


def coupling(table: pd.DataFrame) -> Figure:
    """Slopes of samples against the data's, SD/SD: band, the bar."""
    fig, axes = plt.subplots(1, 2, figsize=(9.0, 4.2), layout="constrained", sharex=True, sharey=True)
    ends = np.array([table["data_slope"].min() - 0.2, table["data_slope"].max() + 0.2])
    for ax, prefix, title in zip(axes, ("", "unguided_"), ("constrained", "unguided"), strict=True):
        names = ("slope", "low", "high")
        if f"{prefix}slope" not in table:
            continue
        ax.fill_between(ends, ends - BAR, ends + BAR, color="0.92", lw=0)
        ax.plot(ends, ends, color="0.6", lw=0.8)
        for attribute, rows in table.groupby("constrained", sort=False):
            value, low, high = (rows[f"{prefix}{name}"] for name in names)
            ax.errorbar(
                rows["data_slope"], value, yerr=[value - low, high - value], fmt="o", ms=3.5, lw=0.7,
                color=ATTRIBUTES[attribute], label=attribute,
            )  # fmt: skip
        ax.set(xlabel="slope in the data, SD/SD", ylabel=f"slope in {title} samples, SD/SD")
    axes[0].legend(frameon=False, fontsize=8, title="constrained alone")
    return fig


def pairs(scaled: Scaled, arms: dict[str, str]) -> Figure:
    """Every attribute against every other, in the data's standard deviations (grey); `arms`: label -> arm."""
    n = len(ENTRIES)
    fig, axes = plt.subplots(n - 1, n - 1, figsize=(11, 11), layout="constrained", sharex="col", sharey="row")
    colours = plt.get_cmap("tab10").colors
    for i, j in np.ndindex(n - 1, n - 1):
        ax = axes[i, j]
        if j > i:
            ax.axis("off")
            continue
        ax.plot(scaled.data[:, j], scaled.data[:, i + 1], ".", color="0.75", ms=3, label="data")
        for (text, arm), colour in zip(arms.items(), colours, strict=False):
            ax.plot(scaled.arms[arm][:, j], scaled.arms[arm][:, i + 1], ".", color=colour, ms=2.5, label=text)
        ax.set(xlim=(-4, 4), ylim=(-4, 4), xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        ax.tick_params(labelsize=7)
        if j == 0:
            ax.set_ylabel(ENTRIES[i + 1].replace("_", " "), fontsize=8)
        if i == n - 2:
            ax.set_xlabel(ENTRIES[j].replace("_", " "), fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="upper right", fontsize=9, markerscale=3, frameon=False)
    return fig


def topology(table: pd.DataFrame) -> Figure:
    """Share of samples that pass the gate: by constrained structures, by strength, and the rules broken."""
    whole = table[table["rule"] == ALL]
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(10.6, 3.4), layout="constrained")
    shown = whole[whole["strength"] == 1].reset_index(drop=True)
    for y, row in shown.iterrows():
        left.plot([row["low"], row["high"]], [y, y], color=COLOURS[row["method"]], lw=2)
        left.plot(row["share"], y, "o", color=COLOURS[row["method"]])
        left.plot(row["raw_share"], y, "o", color=COLOURS[row["method"]], mfc="white", ms=4)
    labels = [label(*pair) for pair in zip(shown["method"], shown["constrained_structures"], strict=True)]
    left.set(yticks=range(len(shown)), yticklabels=labels, xlim=(0, 1), xlabel="share that passes")
    left.set_title("full: after repairs, hollow: before", fontsize=9)
    left.invert_yaxis()
    most = whole["constrained_structures"].max()
    for method, rows in whole[whole["constrained_structures"] == most].groupby("method"):
        rows = rows.sort_values("strength")
        spread = [rows["share"] - rows["low"], rows["high"] - rows["share"]]
        middle.errorbar(
            rows["strength"], rows["share"], yerr=spread, fmt="o-", color=COLOURS[method], label=method
        )
    plain = whole[whole["method"] == UNGUIDED]
    for _, row in plain.iterrows():
        middle.axhspan(row["low"], row["high"], color=COLOURS[UNGUIDED], alpha=0.15, lw=0)
        middle.axhline(row["share"], color=COLOURS[UNGUIDED], lw=1, label=UNGUIDED)
    middle.set(xscale="log", ylim=(0, 1), xlabel=f"strength, {most} structures", ylabel="share that passes")
    ticks = sorted(whole["strength"].unique())
    middle.set_xticks(ticks, [f"{t:g}" for t in ticks])
    middle.minorticks_off()
    middle.legend(frameon=False, fontsize=8)
    rules = table[(table["rule"] != ALL) & (table["strength"] == 1)]
    broken = 1 - rules.pivot_table(index="rule", columns=["method", "constrained_structures"], values="share")
    # by how many samples break them: in a small arm every one weighs much
    often = ((1 - rules["share"]) * rules["n"]).groupby(rules["rule"]).sum().sort_values(ascending=False)
    broken = broken.loc[often.index].head(MOST_RULES)
    for k, (method, constrained) in enumerate(broken.columns):
        y = np.arange(len(broken)) + 0.8 * (k + 0.5) / len(broken.columns) - 0.4
        right.barh(y, broken[method, constrained], 0.7 / len(broken.columns), color=COLOURS[method])
    right.set(yticks=range(len(broken)), xlabel="share of samples that break the rule")
    right.set_yticklabels(broken.index, fontsize=6.5)
    right.invert_yaxis()
    return fig


def known(table: pd.DataFrame) -> Figure:
    """Errors of exact targets, one map per plane and error. Box: 2 SD of training; crosses: rejected by the
    gate; dots: ended as outside the prior.
    """
    errors = {"volume_error_percent": "volume, %", "centroid_error_mm": "centroid, mm", "shape_error": "Sⁿ"}
    planes = list(dict.fromkeys(table["plane"]))
    fig, axes = plt.subplots(
        len(planes), len(errors), figsize=(10, 3.1 * len(planes)), layout="constrained", squeeze=False
    )
    ends = {"volume_error_percent": (0.3, 100), "centroid_error_mm": (0.1, 30), "shape_error": (0.003, 0.3)}
    for row, plane in zip(axes, planes, strict=True):
        rows = table[table["plane"] == plane]
        broken, ended = (rows[rows[name] != ""] for name in ("gate", "ended"))
        for ax, (column, text) in zip(row, errors.items(), strict=True):
            grid = rows.pivot(index="second", columns="first", values=column)
            along = grid.columns.to_numpy()
            half = (along[1] - along[0]) / 2 if len(along) > 1 else 0.5
            extent = (along[0] - half, along[-1] + half) * 2
            image = ax.imshow(
                grid, origin="lower", extent=extent, cmap="viridis_r", aspect="equal",
                norm=LogNorm(*ends[column], clip=True),
            )  # fmt: skip
            ax.add_patch(plt.Rectangle((-2, -2), 4, 4, fill=False, ec="white", lw=1.2))
            ax.plot(broken["first"], broken["second"], "x", color="#b03a3a", ms=5)
            ax.plot(ended["first"], ended["second"], ".", color="white", ms=3)
            first, second = plane.split(" and ")
            ax.set(xlabel=f"{first}, SD", ylabel=f"{second}, SD")
            fig.colorbar(image, ax=ax, label=text)
    return fig


def extremes(table: pd.DataFrame) -> Figure:
    """Target and achieved, in standard deviations. Hollow: rejected by the gate; cross: outside the prior."""
    names = list(dict.fromkeys(table["attribute"])) or ["size"]
    fig, axes = plt.subplots(
        1, len(names), figsize=(4.2 * len(names), 3.4), layout="constrained", squeeze=False
    )
    for ax, name in zip(axes[0], names, strict=True):
        rows = table[table["attribute"] == name]
        ends = [rows["deviations"].min(), rows["deviations"].max()] if len(rows) else [-1, 1]
        ax.plot(ends, ends, color="0.6", lw=0.8)
        number = rows.groupby("deviations").cumcount()
        side = 0.4 * (number - number.max() / 2)  # samples of one target lie side by side
        missed, torn = rows["ended"] != "", rows["gate"] != ""
        for some, mark, fill, text in (
            (~missed & ~torn, "o", "#4e9a6b", "met"),
            (~missed & torn, "o", "none", "met, refused by the gate"),
            (missed, "x", "#b03a3a", "outside the prior"),
        ):
            part = rows[some]
            colour = "#b03a3a" if mark == "x" else "#4e9a6b"
            ax.plot(
                (rows["deviations"] + side)[some], part["achieved"], mark, color=colour, mfc=fill, label=text
            )
        ax.set(title=name, xlabel="target, SD from the mean", ylabel="achieved, SD from the mean")
        ax.legend(frameon=False, fontsize=8)
    return fig
