"""Rule train_denoiser: EDM denoiser of the autoencoder's standardised latents."""

from cardiocohort import script
from cardiocohort.prior import fits, processes
from cardiocohort.prior.device import resolve_device


def main(snakemake):
    given, p = snakemake.input, snakemake.params
    job = {
        "anatomy": given.anatomy, "hearts": given.hearts, "autoencoder": given.autoencoder,
        "start": given.get("start"), "networks": p.networks, "fit": p.fit, "focus": p.focus,
        "device": resolve_device(p.device), "moments": given.get("moments"), **dict(snakemake.output.items()),
    }  # fmt: skip
    processes.launch(1, snakemake.threads, None, fits.cache_latents, job)
    processes.launch(p.processes, snakemake.threads, snakemake.log[0], fits.fit_denoiser, job)


if __name__ == "__main__":
    script.run(main, snakemake)
