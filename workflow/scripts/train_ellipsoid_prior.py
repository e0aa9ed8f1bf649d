"""Rule train_ellipsoid_prior: a prior of ellipsoid hearts, whose moments are known exactly."""

from pathlib import Path

import torch

from cardiocohort.diffusion.device import resolve_device
from cardiocohort.evaluation.ellipsoid_benchmark import prior as ellipsoid_prior
from cardiocohort.runtime import script


def main(snakemake):
    p, device = snakemake.params, resolve_device(snakemake.params.device)
    torch.set_num_threads(snakemake.threads)
    ellipsoid_prior.train(Path(snakemake.output.card).parent, p.hearts, p.steps, p.seed, device)


if __name__ == "__main__":
    script.run(main, snakemake)
