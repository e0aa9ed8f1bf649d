"""Rule train_known_prior: a prior of ellipsoid hearts, whose moments are known exactly."""

from pathlib import Path

import torch

from cardiocohort import script
from cardiocohort.evaluation import known_prior
from cardiocohort.prior.device import resolve_device


def main(snakemake):
    p, device = snakemake.params, resolve_device(snakemake.params.device)
    torch.set_num_threads(snakemake.threads)
    known_prior.train(Path(snakemake.output.card).parent, p.hearts, p.steps, p.seed, device)


if __name__ == "__main__":
    script.run(main, snakemake)
