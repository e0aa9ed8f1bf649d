"""A prior with random weights on a small grid: for tests of what does not depend on training."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.diffusion import bundle
from cardiocohort.diffusion.networks import Autoencoder, Denoiser, NetworkSettings

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


def write_tiny_bundle(folder, seed=0, conditioned=False, cells=NETWORKS.cells):
    """Write the bundle into `folder`; every weight random, so that outputs depend on all inputs.

    conditioned: its denoiser takes heat maps of the structures (`prior.conditioning`). cells: of occupancy,
    per axis.
    """
    torch.manual_seed(seed)
    settings = replace(
        NETWORKS, cells=cells, condition_channels=len(ANATOMY.structures) if conditioned else 0
    )
    networks = Autoencoder(settings), Denoiser(settings)
    for network in networks:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
    card = {
        "name": "tiny",
        "anatomy": {"structures": ANATOMY.structures, "centred_on": ANATOMY.centred_on},
        "grid": {"shape": (2 * cells,) * 3, "spacing_mm": GRID.spacing_mm},
        "networks": settings.to_dict(),
        "moment_spread": {
            name: {"log_volume": 0.2, "centroid_mm": 5.0, "shape": 0.03} for name in ANATOMY.structures
        },
    }
    scale = torch.full((NETWORKS.latent_channels, 1, 1, 1), 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    write_reference(folder / "reference_moments.parquet")
    bundle.save_bundle(folder, card, *networks, torch.zeros_like(scale), scale)
    return folder


# a gate that every map passes
LENIENT = (
    "rule\tkind\tscope\tstructure\tother\topenings\topenings_mm\tpercentile\tmin\tmax\tunit\treason\n"
    "volume\tvolume\tany\twall\t\t\t\t\t0\t\tmL\tany volume\n"
)


def write_anatomy(folder, rules):
    """The folder of the anatomy, with the rules of its gate."""
    folder.mkdir()
    anatomy = {"structures": ANATOMY.structures, "centred_on": ANATOMY.centred_on}
    grid = {"shape": GRID.shape, "spacing_mm": GRID.spacing_mm}
    card = {"format": bundle.FORMAT, "anatomy": anatomy, "grid": grid}
    (folder / "anatomy.json").write_text(json.dumps(card))
    (folder / "topology.tsv").write_text(rules)


def write_reference(path, n=24, seed=0):
    """A reference population of `n` hearts: random ellipsoids about the origin, sizes loosely tied."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        size = rng.normal(0.0, 0.2)
        for k, name in enumerate(ANATOMY.structures):
            axes = np.exp(size / 3 + rng.normal(0.0, 0.1, 3)) * np.array([20.0, 15.0, 12.0])
            centre = np.array([2.0, 0.0, 0.0]) * (1 - 2 * k) + rng.normal(0.0, 1.5, 3)
            turn = Rotation.from_rotvec(rng.normal(0.0, 0.2, 3)).as_matrix()
            columns = moments.to_columns(moments.from_ellipsoid(centre, axes, turn))
            rows.append(
                {"subject": f"ref-{i:03d}", "structure": name, **{c: float(v) for c, v in columns.items()}}
            )
    pd.DataFrame(rows).to_parquet(path)
