"""The figure of a heart's beats. Owned by the simulation stage."""

import pandas as pd
from matplotlib.figure import Figure

from ..plotting.style import STYLE, plt

LEFT, RIGHT, PALE = "#35638f", "#c4622d", "0.8"


def figure(rows: list[dict]) -> Figure:
    """Pressure-volume loops of all beats, and pressures and volumes over the last one."""
    table = pd.DataFrame(rows)
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
        last = table[table["beat"] == table["beat"].max()]
        for _, beat in table.groupby("beat"):
            final = beat["beat"].iloc[0] == table["beat"].max()
            for name, colour in (("lv", LEFT), ("rv", RIGHT)):
                label = f"{name.upper()}" if final else None
                axes[0].plot(
                    beat[f"{name}_volume_ml"], beat[f"{name}_pressure_kpa"], color=colour if final else PALE,
                    lw=1.5 if final else 0.8, zorder=2 if final else 1, label=label,
                )  # fmt: skip
        for name, colour in (("lv", LEFT), ("rv", RIGHT)):
            axes[1].plot(last["time_s"], last[f"{name}_pressure_kpa"], color=colour)
            axes[2].plot(last["time_s"], last[f"{name}_volume_ml"], color=colour)
        for name, colour in (("systemic", LEFT), ("pulmonary", RIGHT)):
            axes[1].plot(
                last["time_s"], last[f"{name}_arteries_kpa"], color=colour, ls=":", label=f"{name} arteries"
            )
        axes[0].set(xlabel="volume, mL", ylabel="pressure, kPa")
        axes[1].set(xlabel="time, s", ylabel="pressure, kPa")
        axes[2].set(xlabel="time, s", ylabel="volume, mL")
        axes[0].legend(frameon=False)
        axes[1].legend(frameon=False)
    return fig
