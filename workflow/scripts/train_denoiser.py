"""Rule train_denoiser: EDM denoiser of the autoencoder's standardised latents."""

from pathlib import Path

import numpy as np
import torch

from cardiocohort import script
from cardiocohort.bundle_card import read_anatomy
from cardiocohort.prior import figures, training
from cardiocohort.prior.device import resolve_device
from cardiocohort.prior.networks import Autoencoder, Denoiser, NetworkSettings


def main(snakemake):
    p, out = snakemake.params, snakemake.output
    device = resolve_device(p.device)
    torch.set_num_threads(snakemake.threads)
    anatomy, _ = read_anatomy(snakemake.input.anatomy)
    used, blocks = training.read_hearts(Path(snakemake.input.hearts), anatomy)
    networks = NetworkSettings(**p.networks)
    autoencoder = Autoencoder(networks)
    training.load_network(Path(snakemake.input.autoencoder), autoencoder)
    latents = training.encode_all(autoencoder.to(device), blocks, anatomy.n_channels, device)
    mean, spread = training.standardise(latents)
    torch.manual_seed(p.fit["seed"])
    network = Denoiser(networks).to(device)
    settings = training.FitSettings(**p.fit | {"cycles": tuple(p.fit["cycles"])})
    scaled = (latents - mean) / spread
    origins = p.focus or [[]] * len(settings.cycles)
    pools = [scaled[np.flatnonzero(used["origin"].isin(own))] if own else scaled for own in origins]
    ema, losses = training.train_denoiser(network, pools, settings, Path(out.weights).parent, device)
    training.save_network(Path(out.weights), ema, {"mean": mean, "spread": spread})
    figures.write_losses(losses, out.losses, out.figure, "denoiser")


if __name__ == "__main__":
    script.run(main, snakemake)
