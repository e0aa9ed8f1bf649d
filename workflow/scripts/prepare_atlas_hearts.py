"""Rule prepare_atlas_hearts: label maps of an atlas on one grid, repaired, and who is in it."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.atlas import hearts
from cardiocohort.label_maps import reading
from cardiocohort.runtime import artifacts, batch_runner, script
from cardiocohort.runtime.batch_runner import Task


def main(snakemake):
    anatomy, grid = read_anatomy(snakemake.input.anatomy)
    p, out = snakemake.params, Path(snakemake.output.hearts)
    convention = reading.open_convention(snakemake.input.convention, anatomy, p.nifti_geometry)
    made_of = [p.library, p.tables_sha256, p.convention_sha256, p.nifti_geometry]
    tasks = [
        Task(name, f"{name}.nii.gz", artifacts.digest([made_of, artifacts.sha256(path)]), (str(path),))
        for name, path in zip(p.subjects, snakemake.input.label_maps, strict=True)
    ]
    records = batch_runner.run_batch(
        out.parent / "hearts", tasks, hearts.prepare, snakemake.threads,
        hearts.open_source, (anatomy, grid, snakemake.input.rules, convention),
    )  # fmt: skip
    table = hearts.table(records, anatomy, p.leave_out, p.cut_vessels)
    with artifacts.atomic_path(out) as path:
        table.to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
