"""Rule generate_anatomies: guided generation of the label maps of one batch."""

from pathlib import Path

from cardiocohort import files, script, subjects, tables
from cardiocohort.bundle_card import read_card
from cardiocohort.generation import anatomies
from cardiocohort.prior.bundle import check_weights
from cardiocohort.prior.device import resolve_device


def main(snakemake):
    p, table = snakemake.params, Path(snakemake.output.table)
    device = resolve_device(p.device)
    bundle = Path(snakemake.input.bundle).parent
    check_weights(bundle, read_card(snakemake.input.bundle))
    targets = tables.read_table(snakemake.input.targets, tables.TARGETS)
    shared = [p.library, p.bundle_sha256, files.sha256(snakemake.input.rules), p.guidance, p.max_attempts]
    tasks = []
    for subject, rows in targets.groupby("subject", sort=False):
        payload = (rows.to_dict("records"), p.seed, *anatomies.arm_and_index(subject))
        inputs = files.digest([shared, device, payload])
        tasks.append(subjects.Task(subject, f"{subject}.nii.gz", inputs, payload))
    records = subjects.run_batch(
        table.with_suffix(""),
        tasks,
        anatomies.work,
        snakemake.threads if device == "cpu" else 1,
        initializer=anatomies.open_generator,
        initargs=(str(bundle), snakemake.input.rules, p.guidance, p.max_attempts, device),
        group=anatomies.GROUP[device],
    )
    tables.write_table(table, anatomies.table(records, targets), tables.ANATOMIES)


if __name__ == "__main__":
    script.run(main, snakemake)
