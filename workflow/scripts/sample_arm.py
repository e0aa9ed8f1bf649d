"""Rule sample_arm: the samples of one arm of the evaluation."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy, read_card
from cardiocohort.diffusion.bundle import check_weights
from cardiocohort.diffusion.device import resolve_device
from cardiocohort.evaluation import sampling, table_columns
from cardiocohort.evaluation.arms import COHORT, Arm
from cardiocohort.generation import judging
from cardiocohort.generation.anatomies import GROUP
from cardiocohort.runtime import artifacts, batch_runner, script, tables


def main(snakemake):
    i, p, table = snakemake.input, snakemake.params, Path(snakemake.output.table)
    device, bundle = resolve_device(p.device), Path(i.bundle).parent
    check_weights(bundle, read_card(i.bundle))
    anatomy, _ = read_anatomy(i.bundle)
    hearts = tables.read_table(i.hearts, table_columns.HEARTS)
    arm = Arm.from_dict(p.arm)
    targets = sampling.targets_of(arm, hearts[hearts["set"] == "targets"], bundle, anatomy)
    shared = [p.library, p.bundle_sha256, p.moments_sha256, artifacts.sha256(i.rules), p.guidance, device]
    inputs = artifacts.digest([shared, arm.method, arm.strength])
    settings = sampling.settings_of(arm, p.guidance)
    records = batch_runner.run_batch(
        table.with_suffix(""),
        sampling.tasks(targets, p.seed, inputs),
        sampling.attempts if arm.method == COHORT else sampling.work,
        snakemake.threads if device == "cpu" else 1,
        initializer=judging.open_sampler,
        initargs=(str(bundle), i.rules, settings, device),
        group=GROUP[device],
    )
    tables.write_table(table, sampling.table(arm, records, targets), table_columns.SAMPLES)


if __name__ == "__main__":
    script.run(main, snakemake)
