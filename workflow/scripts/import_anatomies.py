"""Rule import_anatomies: the user's label maps, checked, centred and measured, as a batch of anatomies."""

from pathlib import Path

from cardiocohort import topology
from cardiocohort.anatomy import bundle_metadata
from cardiocohort.cohort import stage_tables
from cardiocohort.label_maps import importing, reading
from cardiocohort.runtime import artifacts, batch_runner, script, tables


def main(snakemake):
    p = snakemake.params
    anatomy, grid = bundle_metadata.read_anatomy(snakemake.input.bundle)
    rules = topology.load_rules(snakemake.input.rules, anatomy)
    convention = reading.open_convention(snakemake.input.convention, anatomy, p.nifti_geometry)
    table = Path(snakemake.output.table)
    shared = [p.anatomy, p.rules_sha256, p.convention_sha256, p.nifti_geometry, p.library]
    tasks = [
        batch_runner.Task(
            subject,
            f"{subject}.nii.gz",
            artifacts.digest([artifacts.sha256(source), *shared]),
            (source, anatomy, grid, rules, convention),
        )
        for subject, source in zip(p.subjects, snakemake.input.label_maps, strict=True)
    ]
    records = batch_runner.run_batch(table.with_suffix(""), tasks, importing.import_label_map)
    frame = importing.anatomies_table(records, p.arm, anatomy)
    tables.write_table(table, frame, stage_tables.ANATOMIES)


if __name__ == "__main__":
    script.run(main, snakemake)
