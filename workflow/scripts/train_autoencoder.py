"""Rule train_autoencoder: occupancy autoencoder of the reference population."""

from pathlib import Path

import pandas as pd
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
    hearts = pd.read_csv(snakemake.input.hearts, sep="\t", keep_default_na=False)
    used = hearts[(hearts["split"] == "train") & (hearts["verdict"] == "accepted")]
    used = used[~used["origin"].isin(p.leave_out)]
    counts = training.load_occupancies(Path(snakemake.input.hearts).parent / "hearts", used, anatomy)
    torch.manual_seed(p.fit["seed"])
    network = Autoencoder(NetworkSettings(**p.networks)).to(device)
    settings = training.FitSettings(**p.fit | {"cycles": tuple(p.fit["cycles"])})
    ema, losses = training.train_autoencoder(network, counts, settings, Path(out.weights).parent, device)
    training.save_network(Path(out.weights), ema)
    figures.write_losses(losses, out.losses, out.figure, "autoencoder")


if __name__ == "__main__":
    script.run(main, snakemake)
