"""The figure of a refinement study. Of hearts only. Owned by the meshing stage."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..plotting.style import STYLE, plt
from ..runtime.outcomes import Outcome

OF_FINEST = {
    "lv_cavity_ml": "LV cavity",
    "rv_cavity_ml": "RV cavity",
    "wall_volume_ml": "muscle",
    "rv_wall_mm": "RV wall",
    "simulation_lv_loaded_ml": "LV cavity, inflated",
    "simulation_rv_loaded_ml": "RV cavity, inflated",
    "simulation_max_displacement_mm": "largest displacement",
}
QUALITY = {"min_scaled_jacobian": "scaled Jacobian, least", "p1_scaled_jacobian": "1st percentile"}
DISTANCE = {"surface_distance_mean_mm": "to the labels, mean", "surface_distance_p95_mm": "95th percentile"}


def by_number_of_tets(table: pd.DataFrame) -> Figure:
    """Medians over hearts of what a mesh and its inflation give, against the median number of tetrahedra.

    table: of `refinement.study`; of its rows those accepted at every edge length, the same hearts everywhere.
    First panel: change (%) from the finest mesh of the same heart; the others as they are.
    """
    good = table[table["verdict"] == Outcome.ACCEPTED]
    n_edges = table["edge_length_mm"].nunique()
    good = good[good.groupby("subject")["n_tets"].transform("size") == n_edges].copy()
    if "simulation_verdict" in good:  # inflated to the full load at every edge length, or not at all
        whole = good["simulation_verdict"].eq(Outcome.ACCEPTED).groupby(good["subject"]).transform("all")
        simulated = [name for name in OF_FINEST if name.startswith("simulation_") and name in good]
        good[simulated] = good[simulated].where(whole)
    if good.empty:
        fig = Figure(figsize=(10, 3.4))
        fig.text(0.5, 0.5, "No heart has a mesh at every edge length.", ha="center")
        return fig
    finest = good.groupby("subject")["edge_length_mm"].transform("min") == good["edge_length_mm"]
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
        shown = {column: label for column, label in OF_FINEST.items() if column in good}
        reference = good[finest].set_index("subject")[list(shown)]
        change = good[["subject", "edge_length_mm", "n_tets"]].copy()
        for column in shown:
            change[column] = 100 * (good[column] / good["subject"].map(reference[column]).astype(float) - 1)
        panels = (
            (change, shown, "change from the finest mesh, %"),
            (good, QUALITY, "quality"),
            (good, DISTANCE, "distance of the endocardia, mm"),
        )
        for ax, (frame, columns, title) in zip(axes, panels, strict=True):
            medians = frame.groupby("edge_length_mm")[["n_tets", *columns]].median().sort_values("n_tets")
            for column, label in columns.items():
                ax.plot(medians["n_tets"], medians[column], "o-", ms=4, lw=1.2, label=label)
            ax.set(title=title, xlabel="tetrahedra", xscale="log", xticks=medians["n_tets"])
            ax.set_xticklabels([f"{n:,.0f}" for n in medians["n_tets"]])
            ax.xaxis.set_minor_locator(NullLocator())
            ax.margins(x=0.15)
            for edge, row in medians.iterrows():
                ax.annotate(
                    f"{edge:g} mm", (row["n_tets"], 1.0), xycoords=("data", "axes fraction"),
                    ha="center", va="top", fontsize=7, color="0.45",
                )  # fmt: skip
            ax.legend(frameon=False, fontsize=7)
        axes[0].axhline(0, color="0.8", lw=0.8, zorder=0)
    return fig
