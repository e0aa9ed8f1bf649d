"""Loss curves and reconstructions of a training run (prior stage)."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap

from .. import files, palette
from ..anatomy import Anatomy


def write_losses(losses: list[float], table, figure, title: str) -> None:
    """The loss of every step as TSV and as a curve (log scale, with a running mean over 50 steps)."""
    frame = pd.DataFrame({"step": np.arange(1, len(losses) + 1), "loss": losses})
    with files.atomic_path(table) as path:
        frame.to_csv(path, sep="\t", index=False)
    fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    ax.plot(frame["step"], frame["loss"], lw=0.4, color="0.7")
    ax.plot(frame["step"], frame["loss"].rolling(50, min_periods=1).mean(), lw=1.5)
    ax.set(yscale="log", xlabel="step", ylabel="loss", title=title)
    with files.atomic_path(figure) as path:
        fig.savefig(path, dpi=120)
    plt.close(fig)


def write_slices(hearts: list[np.ndarray], titles: list[str], figure, anatomy: Anatomy) -> None:
    """Axial, coronal and sagittal slices through the middle of every label map, a column each."""
    colours = ListedColormap([palette.BACKGROUND, *palette.colours(anatomy.structures)])
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
    with files.atomic_path(figure) as path:
        fig.savefig(path, dpi=110)
    plt.close(fig)
