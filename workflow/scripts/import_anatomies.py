"""Rule import_anatomies: the user's label maps, checked, centred and measured, as a batch of anatomies."""

from pathlib import Path

from cardiocohort import bundle_card, files, imported, script, subjects, tables


def main(snakemake):
    anatomy, _ = bundle_card.read_anatomy(snakemake.input.bundle)
    table = Path(snakemake.output.table)
    tasks = [
        subjects.Task(
            subject,
            f"{subject}.nii.gz",
            files.digest([files.sha256(source), snakemake.params.anatomy, snakemake.params.library]),
            (source, anatomy),
        )
        for subject, source in zip(snakemake.params.subjects, snakemake.input.label_maps, strict=True)
    ]
    records = subjects.run_batch(table.with_suffix(""), tasks, imported.import_label_map)
    frame = imported.anatomies_table(records, snakemake.params.arm, anatomy)
    tables.write_table(table, frame, tables.ANATOMIES)


if __name__ == "__main__":
    script.run(main, snakemake)
