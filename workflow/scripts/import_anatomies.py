"""Rule import_anatomies: the user's label maps, checked, centred and measured, as a batch of anatomies."""

from pathlib import Path

from cardiocohort import bundle_card, files, imported, script, subjects, tables, topology


def main(snakemake):
    p = snakemake.params
    anatomy, grid = bundle_card.read_anatomy(snakemake.input.bundle)
    rules = topology.load_rules(snakemake.input.rules, anatomy)
    table = Path(snakemake.output.table)
    tasks = [
        subjects.Task(
            subject,
            f"{subject}.nii.gz",
            files.digest([files.sha256(source), p.anatomy, p.rules_sha256, p.library]),
            (source, anatomy, grid, rules),
        )
        for subject, source in zip(p.subjects, snakemake.input.label_maps, strict=True)
    ]
    records = subjects.run_batch(table.with_suffix(""), tasks, imported.import_label_map)
    frame = imported.anatomies_table(records, p.arm, anatomy)
    tables.write_table(table, frame, tables.ANATOMIES)


if __name__ == "__main__":
    script.run(main, snakemake)
