"""A prior with random weights on a small grid: for tests of what does not depend on training."""

import torch

from cardiocohort.anatomy import Anatomy, Grid
from cardiocohort.prior import bundle
from cardiocohort.prior.networks import Autoencoder, Denoiser, NetworkSettings

ANATOMY = Anatomy(("wall", "cavity"), ("wall", "cavity"))
GRID = Grid((32, 32, 32), 4.0)
NETWORKS = NetworkSettings(
    channels=3,
    cells=16,
    latent_channels=4,
    fine_width=8,
    coarse_width=16,
    denoiser_width=16,
    denoiser_depth=1,
)


def write_tiny_bundle(folder, seed=0):
    """Write the bundle into `folder`; every weight random, so that outputs depend on all inputs."""
    torch.manual_seed(seed)
    networks = Autoencoder(NETWORKS), Denoiser(NETWORKS)
    for network in networks:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
    card = {
        "name": "tiny",
        "anatomy": {"structures": ANATOMY.structures, "centred_on": ANATOMY.centred_on},
        "grid": {"shape": GRID.shape, "spacing_mm": GRID.spacing_mm},
        "networks": NETWORKS.to_dict(),
        "moment_spread": {
            name: {"log_volume": 0.2, "centroid_mm": 5.0, "shape": 0.03} for name in ANATOMY.structures
        },
    }
    scale = torch.full((NETWORKS.latent_channels, 1, 1, 1), 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    bundle.save_bundle(folder, card, *networks, torch.zeros_like(scale), scale)
    return folder
