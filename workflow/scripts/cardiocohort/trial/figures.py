"""The trial's figures. Owned by the trial stage."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..cohort.subject_columns import NO_UNIT
from ..plotting.style import STYLE, plt
from .pairing import Comparison

ARM_COLOURS = ("#35638f", "#c4622d", "#4e9a6b", "#8a5a9e", "#8c6d3f", "#3f8f8c", "#b34a6b", "#6b6b6b")
PRIMARY, SECONDARY = "#35638f", "#8b95a1"
MOST_ROWS, MOST_PANELS, MOST_GEOMETRY = 40, 12, 30  # drawn; the tables have them all
ALL_SHOWN = 60  # hearts of an arm drawn one by one
COLUMNS = 3  # panels side by side
TICKS = (3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)  # hearts per arm


def words(name: str) -> str:
    return name.replace("_", " ")


def forest(contrasts: pd.DataFrame) -> Figure:
    """Standardised differences with their intervals; the absolute ones and the conclusion beside them."""
    rows = contrasts[contrasts["standardised"].notna()].head(MOST_ROWS)
    with plt.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(9.5, 1.2 + 0.34 * max(len(rows), 2)), layout="constrained")
        if rows.empty:
            return _empty(fig, ax, "no contrast has enough subjects")
        ax.axvline(0.0, color="0.7", lw=0.8)
        for y, row in enumerate(rows.itertuples()):
            colour = PRIMARY if row.kind == "primary" else SECONDARY
            ax.plot([row.standardised_low, row.standardised_high], [y, y], color=colour, lw=1.6)
            ax.plot(row.standardised, y, "s" if row.kind == "primary" else "o", color=colour, ms=5)
            text = f"{row.difference:+.3g} [{row.difference_low:.3g}, {row.difference_high:.3g}]"
            text = text if row.unit == NO_UNIT else f"{text} {row.unit}"
            p = row.p_holm if row.kind == "primary" else row.p
            ax.text(1.02, y, f"{text}, p {p:.2g}, {row.test} {row.conclusion}", va="center", size=8,
                    transform=ax.get_yaxis_transform())  # fmt: skip
        ax.set_yticks(range(len(rows)), [f"{words(r.endpoint)}\n{words(r.arm)}" for r in rows.itertuples()])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set(xlabel="standardised difference from the reference arm, with interval (squares: primary)")
    return fig


def distributions(comparisons: list[Comparison]) -> Figure:
    """The hearts' values of every endpoint, arm by arm; siblings joined by lines."""
    by_endpoint: dict[str, list[Comparison]] = {}
    for c in comparisons:
        by_endpoint.setdefault(c.endpoint.column, []).append(c)
    shown = list(by_endpoint.items())[:MOST_PANELS]
    fig, axes = _panels(len(shown), 3.1)
    for ax, (name, own) in zip(axes, shown, strict=False):
        arms = [(own[0].reference, own[0].reference_values), *((c.arm, c.arm_values) for c in own)]
        for k, (_, values) in enumerate(arms):
            colour = ARM_COLOURS[k % len(ARM_COLOURS)]
            if len(values) > 4:
                ax.boxplot(values, positions=[k], widths=0.5, whis=(5, 95), showfliers=False,
                           manage_ticks=False, medianprops={"color": colour})  # fmt: skip
            if len(values) <= ALL_SHOWN:
                spread = 0.12 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(len(values))
                ax.plot(k + spread, values, "o", ms=3, color=colour, mec="white", mew=0.3)
        for k, c in enumerate(own, start=1):
            if c.paired and len(c.arm_values) <= ALL_SHOWN:
                ax.plot([0.2, k - 0.2], [c.reference_values, c.arm_values], color="0.75", lw=0.6, zorder=0)
        ax.set_xticks(range(len(arms)), [words(arm) for arm, _ in arms], rotation=20, ha="right")
        ax.set(title=words(name), ylabel=own[0].endpoint.unit)
    return fig


def power(curves: pd.DataFrame, wanted: float) -> Figure:
    """Power by hearts per arm: formula as line, resampling as points with their intervals."""
    groups = list(curves.groupby(["endpoint", "arm"], sort=False))[:MOST_PANELS]
    fig, axes = _panels(len(groups), 2.9)
    for ax, ((endpoint, arm), rows) in zip(axes, groups, strict=False):
        ax.axhline(wanted, color="0.7", lw=0.8, ls=":")
        ax.plot(rows["n_per_arm"], rows["power_formula"], color=PRIMARY, lw=1.4, label="formula")
        reach = np.abs(rows[["power_low", "power_high"]].to_numpy().T - rows["power_resampled"].to_numpy())
        ax.errorbar(rows["n_per_arm"], rows["power_resampled"], reach, fmt="o", ms=3.5, lw=1, color="#c4622d",
                    label="resampled")  # fmt: skip
        ax.set(xscale="log", ylim=(-0.03, 1.03), xlabel="subjects per arm", ylabel="power")
        shown = [n for n in TICKS if rows["n_per_arm"].min() <= n <= rows["n_per_arm"].max()]
        ax.set_xticks(shown, [str(n) for n in shown])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_title(f"{words(endpoint)}\n{words(arm)}", size=9)
    if groups:
        axes[0].legend(frameon=False, loc="lower right")
    return fig


def correlations(table: pd.DataFrame) -> Figure:
    """Rank correlations within arms of simulated quantities with the geometry that they go with most."""
    with plt.rc_context(STYLE):
        if table["rho_within"].isna().all():
            fig, ax = plt.subplots(figsize=(6, 1.4))
            return _empty(fig, ax, "nothing was simulated: run `snakemake simulate`")
        grid = table.pivot(index="geometry", columns="function", values="rho_within")
        grid = grid.loc[grid.abs().max(axis=1).sort_values(ascending=False).index[:MOST_GEOMETRY]]
        size = (4.2 + 0.75 * grid.shape[1], 1.8 + 0.22 * len(grid))
        fig, ax = plt.subplots(figsize=size, layout="constrained")
        image = ax.imshow(grid.to_numpy(float), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        ax.set_yticks(range(len(grid)), [words(name) for name in grid.index], size=8)
        names = [words(name.removeprefix("simulation_")) for name in grid.columns]
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right", size=8)
        for (i, j), rho in np.ndenumerate(grid.to_numpy(float)):
            if np.isfinite(rho):
                ax.text(
                    j,
                    i,
                    f"{rho:.2f}",
                    ha="center",
                    va="center",
                    size=7,
                    color="w" if abs(rho) > 0.6 else "0.1",
                )
        fig.colorbar(image, ax=ax, label="Spearman's rho within arms", shrink=0.7)
    return fig


def _panels(n: int, height: float) -> tuple[Figure, list]:
    columns = min(max(n, 1), COLUMNS)
    rows = max(1, -(-n // columns))
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(
            rows, columns, figsize=(3.6 * columns, height * rows), squeeze=False, layout="constrained"
        )
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    return fig, list(axes.flat)


def _empty(fig: Figure, ax, text: str) -> Figure:
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color="0.4", transform=ax.transAxes)
    return fig
