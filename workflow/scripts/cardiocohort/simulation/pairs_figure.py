"""The figure of a paired comparison. Owned by the simulation stage."""

import pandas as pd
from matplotlib.figure import Figure

from ..plotting.style import STYLE, plt

WALLS = {"rv": "RV free wall", "septum": "septum", "lv": "LV free wall"}
BASE_COLOUR, SIBLING_COLOUR, PAIR_COLOUR = "#35638f", "#c4622d", "0.75"


def displacement_by_volume(table: pd.DataFrame, structure: str, base: str, sibling: str) -> Figure:
    """Mean displacement of each wall against a structure's volume, the two hearts of a pair joined by a line.

    table: of `pairs.pairs`; base, sibling: names of the arms.
    """
    compared = table[table["verdict"] == "compared"]
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(WALLS), figsize=(9, 3.2), sharey=True, layout="constrained")
        for ax, (part, title) in zip(axes, WALLS.items(), strict=True):
            column = f"{part}_mean_mm"
            for row in compared.to_dict("records"):
                ends = [row["base_volume_ml"], row["volume_ml"]], [row[f"base_{column}"], row[column]]
                ax.plot(*ends, color=PAIR_COLOUR, lw=1, zorder=1)
            ax.plot(
                compared["base_volume_ml"],
                compared[f"base_{column}"],
                "o",
                color=BASE_COLOUR,
                label=_words(base),
            )
            ax.plot(compared["volume_ml"], compared[column], "o", color=SIBLING_COLOUR, label=_words(sibling))
            ax.set(title=title, xlabel=f"{_words(structure)}, mL")
        axes[0].set_ylim(bottom=0)  # of all, once they have drawn: a limit that is set is not widened
        axes[0].set_ylabel("mean displacement, mm")
        fig.legend(*axes[0].get_legend_handles_labels(), ncols=2, frameon=False, loc="outside lower center")
    return fig


def _words(name: str) -> str:
    return name.replace("_", " ")
