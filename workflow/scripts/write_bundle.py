"""Rule write_bundle: weights, card and reference moments of a trained prior, as one folder."""

from pathlib import Path

import pandas as pd

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.diffusion import bundle
from cardiocohort.diffusion.first_level import LatentGaussian
from cardiocohort.diffusion.networks import Autoencoder, Denoiser, NetworkSettings
from cardiocohort.prior import training
from cardiocohort.prior.moment_spread import moment_spread
from cardiocohort.runtime import artifacts, provenance, script


def main(snakemake):
    inputs, p = snakemake.input, snakemake.params
    anatomy, grid = read_anatomy(inputs.anatomy)
    networks = NetworkSettings(**p.networks)
    autoencoder, denoiser = Autoencoder(networks), Denoiser(networks)
    training.load_network(Path(inputs.autoencoder), autoencoder)
    extra = training.load_network(Path(inputs.denoiser), denoiser, ("mean", "spread", *bundle.POPULATION))
    reference = pd.read_parquet(inputs.reference)
    losses = zip(("autoencoder", "denoiser"), inputs.losses, strict=True)
    steps = {network: len(pd.read_csv(table, sep="\t")) for network, table in losses}
    start = {key: p.start[key] for key in ("name", "weights_sha256", "training")} if p.start else None
    card = {
        "name": p.name,
        "anatomy": {"structures": anatomy.structures, "centred_on": anatomy.centred_on},
        "grid": {"shape": grid.shape, "spacing_mm": grid.spacing_mm},
        "networks": networks.to_dict(),
        "moment_spread": moment_spread(reference, anatomy),
        "training": p.training
        | {"steps": steps, "warm_start": start, "commit": provenance.commit(p.repository)},
    }
    folder = Path(snakemake.output.card).parent
    with artifacts.atomic_path(snakemake.output.reference) as path:
        reference.to_parquet(path, index=False)
    population = LatentGaussian(*(extra[name] for name in bundle.POPULATION))
    bundle.save_bundle(folder, card, autoencoder, denoiser, extra["mean"], extra["spread"], population)


if __name__ == "__main__":
    script.run(main, snakemake)
