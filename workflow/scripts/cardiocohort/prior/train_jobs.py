"""The two training runs of a prior, from files to files (prior stage).

Each is called in every process of `processes.launch`; the first writes.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..anatomy.bundle_metadata import read_anatomy
from ..anatomy.moments import Moments, from_columns
from ..diffusion import first_level
from ..diffusion.conditioning import heat_maps
from ..diffusion.networks import Autoencoder, Denoiser, NetworkSettings, from_blocks
from ..runtime import artifacts
from . import distributed, figures, model_card, training

SHOWN = 4  # held-out hearts beside their reconstructions


def fit_autoencoder(
    *, anatomy, hearts, start, leave_out, networks, fit, device, weights, losses, figure, reconstructions
):
    """Train the autoencoder on the hearts of a table; writes weights, losses and their figure.

    After each validation the figures are drawn, reconstructions of held-out hearts too. leave_out: origins
    that it does not see. Raises InputError as `training` does.
    """
    anatomy, _ = read_anatomy(anatomy)
    leave_out = tuple(leave_out)
    _, blocks = training.read_hearts(Path(hearts), anatomy, leave_out)
    known, held_out = training.read_hearts(
        Path(hearts), anatomy, leave_out, "held_out", training.VALIDATION_HEARTS
    )
    torch.manual_seed(fit["seed"])
    networks = NetworkSettings(**networks)
    begun = training.start_from(start, networks)
    network = (begun.autoencoder if begun else Autoencoder(networks)).to(device).requires_grad_()

    def watch(averaged, history):
        figures.write_losses(history, losses, figure, "autoencoder")
        pairs = {
            name: (labels, model_card.reconstruct(averaged, labels, anatomy.n_channels))
            for name, labels in zip(known["subject"], from_blocks(held_out[:SHOWN]).numpy(), strict=False)
        }
        figures.write_reconstructions(pairs, reconstructions, anatomy)

    ema, history = training.train_autoencoder(
        network, blocks, anatomy.n_channels, _settings(fit), Path(weights).parent, device, held_out, watch
    )
    if distributed.share().first:
        training.save_network(Path(weights), ema)
        watch(ema, history)


def fit_denoiser(
    *, anatomy, hearts, autoencoder, start, networks, fit, device, weights, losses, figure, moments
):
    """Train the denoiser on the autoencoder's standardised latents; writes weights, losses and their figure.

    moments: table of the hearts' moments, for a network that takes heat maps of them (`conditioning`).
    """
    networks = NetworkSettings(**networks)
    known, latents = _latents(anatomy, hearts, autoencoder, networks, device, Path(weights).parent)
    held_out = (known["split"] == "held_out").to_numpy()
    begun = training.start_from(start, networks)
    # a denoiser that is trained on keeps its units
    mean, spread = (begun.mean, begun.spread) if begun else training.standardise(latents[~held_out])
    torch.manual_seed(fit["seed"])
    network = (begun.denoiser if begun else Denoiser(networks)).to(device).requires_grad_()
    scaled = (latents - mean) / spread
    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)[: training.VALIDATION_HEARTS]
    maps = None
    if networks.condition_channels:
        maps = _heat_maps(moments, known["subject"], *read_anatomy(anatomy))
    ema, history = training.train_denoiser(
        network,
        scaled[train],
        _settings(fit),
        Path(weights).parent,
        device,
        None if maps is None else maps[train],
        (scaled[validation], None if maps is None else maps[validation]),
        lambda _, history: figures.write_losses(history, losses, figure, "denoiser"),
    )
    if distributed.share().first:
        population = first_level.fit(scaled[train])
        extra = {"population.mean": population.mean, "population.modes": population.modes}
        training.save_network(Path(weights), ema, {"mean": mean, "spread": spread} | extra)
        figures.write_losses(history, losses, figure, "denoiser")


def cache_latents(*, anatomy, hearts, autoencoder, networks, device, weights, **_) -> None:
    """Encode the hearts once, before the processes of `fit_denoiser` (whose job this takes) start."""
    _latents(anatomy, hearts, autoencoder, NetworkSettings(**networks), device, Path(weights).parent)


def _heat_maps(table, subjects, anatomy, grid) -> torch.Tensor:
    """Maps (N, K, m, m, m) of the subjects' structures, from a table of moments."""
    rows = pd.read_parquet(table).set_index(["subject", "structure"])
    places = pd.MultiIndex.from_product([subjects, anatomy.structures])
    moments = from_columns(rows.loc[places].reset_index())
    shape = (len(subjects), len(anatomy.structures))
    wanted = Moments(
        moments.volume_ml.reshape(shape),
        moments.centroid_mm.reshape(*shape, 3),
        moments.covariance_mm2.reshape(*shape, 3, 3),
    )
    return heat_maps(wanted, grid)


def _latents(anatomy, hearts, autoencoder, networks, device, folder) -> tuple[pd.DataFrame, torch.Tensor]:
    """Every heart to train on or to validate by: subject, origin and split, latent mean.

    They are kept in `folder` for the next start.
    """
    path = folder / "latents.safetensors"
    made_of = {"hearts": artifacts.sha256(hearts), "autoencoder": artifacts.sha256(autoencoder)}
    made_of["splits"] = "train, held_out"
    try:
        with safe_open(path, framework="pt") as kept:
            header = kept.metadata() or {}
            if {name: header.get(name) for name in made_of} == made_of:
                return pd.DataFrame(json.loads(header["known"])), kept.get_tensor("latents")
    except (OSError, SafetensorError):
        pass  # not there, or cut off
    anatomy, _ = read_anatomy(anatomy)
    split = [training.read_hearts(Path(hearts), anatomy, split=name) for name in ("train", "held_out")]
    used, blocks = pd.concat([rows for rows, _ in split]), torch.cat([voxels for _, voxels in split])
    network = Autoencoder(networks)
    training.load_network(Path(autoencoder), network)
    latents = training.encode_all(network.to(device), blocks, anatomy.n_channels, device).contiguous()
    known = used[["subject", "origin", "split"]].to_dict("list")
    with artifacts.atomic_path(path) as temporary:
        save_file({"latents": latents}, temporary, metadata=made_of | {"known": json.dumps(known)})
    return pd.DataFrame(known), latents


def _settings(fit: dict) -> training.FitSettings:
    return training.FitSettings(**fit | {"cycles": tuple(fit["cycles"])})
