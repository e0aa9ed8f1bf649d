"""Rule train_autoencoder: occupancy autoencoder of the reference population."""

from cardiocohort import script
from cardiocohort.prior import fits, processes
from cardiocohort.prior.device import resolve_device


def main(snakemake):
    given, p = snakemake.input, snakemake.params
    job = {
        "anatomy": given.anatomy, "hearts": given.hearts, "start": given.get("start"),
        "networks": p.networks, "fit": p.fit, "leave_out": p.leave_out, "device": resolve_device(p.device),
        **dict(snakemake.output.items()),
    }  # fmt: skip
    processes.launch(p.processes, snakemake.threads, snakemake.log[0], fits.fit_autoencoder, job)


if __name__ == "__main__":
    script.run(main, snakemake)
