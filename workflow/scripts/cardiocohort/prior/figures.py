"""Loss curves and reconstructions of a training run (prior stage)."""

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap

from ..anatomy.labels import Anatomy
from ..metrics.overlap import dice
from ..plotting import palette
from ..plotting.style import plt
from ..runtime import artifacts
from .checkpoints import History


def write_losses(history: History, table, figure, title: str) -> None:
    """The loss of every step, and that of held-out hearts where it was measured, as TSV and as curves.

    Logarithmic, with a running mean over 50 steps.
    """
    frame = pd.DataFrame({"step": np.arange(1, len(history.losses) + 1), "loss": history.losses})
    frame["held_out"] = frame["step"].map(history.validation)
    with artifacts.atomic_path(table) as path:
        frame.to_csv(path, sep="\t", index=False)
    fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    ax.plot(frame["step"], frame["loss"], lw=0.4, color="0.7")
    ax.plot(frame["step"], frame["loss"].rolling(50, min_periods=1).mean(), lw=1.5, label="training")
    seen = frame.dropna()
    ax.plot(seen["step"], seen["held_out"], "o-", ms=2.5, lw=1, label="held out, averaged weights")
    ax.legend(frameon=False, fontsize=8)
    ax.set(yscale="log", xlabel="step", ylabel="loss", title=title)
    with artifacts.atomic_path(figure) as path:
        fig.savefig(path, dpi=120)
    plt.close(fig)


def write_reconstructions(hearts: dict[str, tuple[np.ndarray, np.ndarray]], figure, anatomy: Anatomy) -> None:
    """Slices of hearts (by name) beside those of their reconstructions, titled with the Dice overlap.

    It is the mean over the structures, and the least.
    """
    maps, titles = [], []
    for name, pair in hearts.items():
        overlap = dice(*pair, anatomy)
        least = anatomy.structures[overlap.argmin()].replace("_", " ")
        maps += pair
        titles += [f"{name}\nheld out", f"mean Dice {overlap.mean():.3f}\nleast: {least} {overlap.min():.3f}"]
    write_slices(maps, titles, figure, anatomy)


def write_slices(hearts: list[np.ndarray], titles: list[str], figure, anatomy: Anatomy) -> None:
    """Axial, coronal and sagittal slices through the middle of every label map, a column each."""
    colours = ListedColormap([palette.BACKGROUND, *palette.colours(anatomy.structures, anatomy.colours)])
    fig, axes = plt.subplots(3, len(hearts), figsize=(1.8 * len(hearts), 5.6), squeeze=False)
    for column, labels, title in zip(axes.T, hearts, titles, strict=True):
        x, y, z = (n // 2 for n in labels.shape)
        for ax, plane in zip(column, (labels[:, :, z], labels[:, y, :], labels[x, :, :]), strict=True):
            ax.imshow(
                plane.T, origin="lower", cmap=colours, vmin=0, vmax=anatomy.n_channels - 1,
                interpolation="nearest",
            )  # fmt: skip
            ax.axis("off")
        column[0].set_title(title, fontsize=8)
    fig.tight_layout(pad=0.3)
    with artifacts.atomic_path(figure) as path:
        fig.savefig(path, dpi=110)
    plt.close(fig)
