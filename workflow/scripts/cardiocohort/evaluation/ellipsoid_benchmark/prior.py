"""A prior of hearts whose moments are known: population, training, bundle (evaluation stage)."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ...anatomy import moments
from ...diffusion import first_level
from ...diffusion.bundle import save_bundle
from ...diffusion.networks import Autoencoder, Denoiser, NetworkSettings, to_blocks
from ...prior import training
from ...prior.moment_spread import moment_spread
from ...runtime import artifacts
from . import hearts as ellipsoid_hearts

NETWORKS = NetworkSettings(
    channels=ellipsoid_hearts.ANATOMY.n_channels,
    cells=ellipsoid_hearts.GRID.shape[0] // 2,
    latent_channels=4,
    fine_width=16,
    coarse_width=32,
    detail_width=8,
    denoiser_width=32,
    denoiser_depth=1,
)
BATCH = 8
RATES = {"autoencoder": 4e-3, "denoiser": 3e-3}


def population(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Exact moments of n hearts, one row per heart and structure, and their label maps (n, X, Y, Z) uint8."""
    hearts = [ellipsoid_hearts.draw(np.random.default_rng([seed, index])) for index in range(n)]
    blocks = []
    for index, heart in enumerate(hearts):
        columns = moments.to_columns(ellipsoid_hearts.moments_of(heart))
        block = pd.DataFrame({"structure": ellipsoid_hearts.ANATOMY.structures, **columns})
        block.insert(0, "subject", f"known-{index:05d}")
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True), np.stack(
        [ellipsoid_hearts.labels_of(heart) for heart in hearts]
    )


def train(folder: Path, n: int, steps: dict[str, int], seed: int, device: str) -> None:
    """Train on n hearts and write the bundle into `folder`; a killed run goes on from its checkpoints.

    steps: of "autoencoder" and "denoiser".
    """
    reference, labels = population(n, seed)
    blocks = torch.cat([to_blocks(torch.from_numpy(heart)[None]) for heart in labels])
    fits = {
        name: training.FitSettings((steps[name],), BATCH, RATES[name], seed)
        for name in ("autoencoder", "denoiser")
    }
    torch.manual_seed(seed)
    channels = ellipsoid_hearts.ANATOMY.n_channels
    autoencoder, _ = training.train_autoencoder(
        Autoencoder(NETWORKS).to(device),
        blocks,
        channels,
        fits["autoencoder"],
        folder / "autoencoder",
        device,
    )
    latents = training.encode_all(autoencoder, blocks, channels, device)
    mean, spread = training.standardise(latents)
    scaled = (latents - mean) / spread
    denoiser, _ = training.train_denoiser(
        Denoiser(NETWORKS).to(device),
        scaled,
        fits["denoiser"],
        folder / "denoiser",
        device,
    )
    with artifacts.atomic_path(folder / "reference_moments.parquet") as path:
        reference.to_parquet(path, index=False)
    card = {
        "name": "known",
        "anatomy": {
            "structures": ellipsoid_hearts.ANATOMY.structures,
            "centred_on": ellipsoid_hearts.ANATOMY.centred_on,
        },
        "grid": {"shape": ellipsoid_hearts.GRID.shape, "spacing_mm": ellipsoid_hearts.GRID.spacing_mm},
        "networks": NETWORKS.to_dict(),
        "moment_spread": moment_spread(reference, ellipsoid_hearts.ANATOMY),
    }
    save_bundle(folder, card, autoencoder, denoiser, mean, spread, first_level.fit(scaled))
