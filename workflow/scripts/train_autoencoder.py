"""Rule train_autoencoder: occupancy autoencoder of the reference population."""

from pathlib import Path

import torch

from cardiocohort import script
from cardiocohort.bundle_card import read_anatomy
from cardiocohort.prior import figures, training
from cardiocohort.prior.device import resolve_device
from cardiocohort.prior.networks import Autoencoder, NetworkSettings


def main(snakemake):
    p, out = snakemake.params, snakemake.output
    device = resolve_device(p.device)
    torch.set_num_threads(snakemake.threads)
    anatomy, _ = read_anatomy(snakemake.input.anatomy)
    _, blocks = training.read_hearts(Path(snakemake.input.hearts), anatomy, tuple(p.leave_out))
    torch.manual_seed(p.fit["seed"])
    network = Autoencoder(NetworkSettings(**p.networks)).to(device)
    settings = training.FitSettings(**p.fit | {"cycles": tuple(p.fit["cycles"])})
    ema, losses = training.train_autoencoder(
        network, blocks, anatomy.n_channels, settings, Path(out.weights).parent, device
    )
    training.save_network(Path(out.weights), ema)
    figures.write_losses(losses, out.losses, out.figure, "autoencoder")


if __name__ == "__main__":
    script.run(main, snakemake)
