"""Rule generate_anatomies: guided generation of the label maps of one batch."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_card
from cardiocohort.cohort import stage_tables
from cardiocohort.diffusion.bundle import check_weights
from cardiocohort.diffusion.device import resolve_device
from cardiocohort.generation import anatomies
from cardiocohort.label_maps import sibling_base
from cardiocohort.runtime import artifacts, batch_runner, script, tables


def base_of(snakemake, index):
    """The base of a subject of the batch, for siblings."""
    inputs, arm = snakemake.input, snakemake.params.arm
    if inputs.get("base_map"):
        p = snakemake.params
        return sibling_base.of_map(arm, inputs.base_map, p.base_sha256, inputs.convention, p.base_reading)
    if not inputs.get("base_anatomies"):
        return None
    table = Path(inputs.base_anatomies)
    made = tables.read_table(table, stage_tables.ANATOMIES)
    verdicts = tables.read_table(inputs.base_topology, stage_tables.TOPOLOGY)
    return sibling_base.of_table(arm, index, made, verdicts, table.with_suffix(""))


def main(snakemake):
    p, table = snakemake.params, Path(snakemake.output.table)
    device = resolve_device(p.device)
    bundle = Path(snakemake.input.bundle).parent
    check_weights(bundle, read_card(snakemake.input.bundle))
    targets = tables.read_table(snakemake.input.targets, stage_tables.TARGETS)
    shared = [
        p.library,
        p.bundle_sha256,
        p.moments_sha256,
        artifacts.sha256(snakemake.input.rules),
        p.guidance,
    ]
    shared.append(p.max_attempts)
    tasks = []
    for subject, rows in targets.groupby("subject", sort=False):
        arm, index = anatomies.arm_and_index(subject)
        payload = (rows.to_dict("records"), p.seed, arm, index, base_of(snakemake, index))
        inputs = artifacts.digest([shared, device, payload])
        tasks.append(batch_runner.Task(subject, f"{subject}.nii.gz", inputs, payload))
    records = batch_runner.run_batch(
        table.with_suffix(""),
        tasks,
        anatomies.work,
        snakemake.threads if device == "cpu" else 1,
        initializer=anatomies.open_generator,
        initargs=(str(bundle), snakemake.input.rules, p.guidance, p.max_attempts, device),
        group=anatomies.GROUP[device],
    )
    tables.write_table(table, anatomies.table(records, targets), stage_tables.ANATOMIES)


if __name__ == "__main__":
    script.run(main, snakemake)
