"""Rule train_autoencoder: occupancy autoencoder of the reference population."""

from cardiocohort.diffusion.device import resolve_device
from cardiocohort.prior import distributed, train_jobs
from cardiocohort.runtime import script


def main(snakemake):
    given, p = snakemake.input, snakemake.params
    job = {
        "anatomy": given.anatomy, "hearts": given.hearts, "start": given.get("start"),
        "networks": p.networks, "fit": p.fit, "leave_out": p.leave_out, "device": resolve_device(p.device),
        **dict(snakemake.output.items()),
    }  # fmt: skip
    distributed.launch(p.processes, snakemake.threads, snakemake.log[0], train_jobs.fit_autoencoder, job)


if __name__ == "__main__":
    script.run(main, snakemake)
