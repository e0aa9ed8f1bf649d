"""Rule train_denoiser: EDM denoiser of the autoencoder's standardised latents."""

from cardiocohort.diffusion.device import resolve_device
from cardiocohort.prior import distributed, train_jobs
from cardiocohort.runtime import script


def main(snakemake):
    given, p = snakemake.input, snakemake.params
    job = {
        "anatomy": given.anatomy, "hearts": given.hearts, "autoencoder": given.autoencoder,
        "start": given.get("start"), "networks": p.networks, "fit": p.fit,
        "device": resolve_device(p.device), "moments": given.get("moments"), **dict(snakemake.output.items()),
    }  # fmt: skip
    distributed.launch(1, snakemake.threads, None, train_jobs.cache_latents, job)
    distributed.launch(p.processes, snakemake.threads, snakemake.log[0], train_jobs.fit_denoiser, job)


if __name__ == "__main__":
    script.run(main, snakemake)
