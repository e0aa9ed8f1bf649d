"""Rule make_reference_population: the label maps that a prior is trained on, and their moments."""

from pathlib import Path

from cardiocohort import files, script, subjects, tables
from cardiocohort.bundle_card import read_anatomy
from cardiocohort.prior import reference_population as population


def main(snakemake):
    anatomy, grid = read_anatomy(snakemake.input.anatomy)
    p, folder = snakemake.params, Path(snakemake.output.hearts).parent / "hearts"
    templates = dict(zip(snakemake.input.get("templates", []), p.shares, strict=True))
    inputs = files.digest([p.library, p.seed, files.sha256(snakemake.input.rules), list(p.digests)])
    if templates:
        tasks, work = population.deformed_tasks(p.n, inputs), population.work_deformed
    else:
        tasks, work = population.folder_tasks(p.label_maps, inputs), population.work_folder
    initargs = (anatomy, grid, snakemake.input.rules, templates, snakemake.input.values, p.seed)
    records = subjects.run_batch(
        folder, tasks, work, snakemake.threads, initializer=population.open_source, initargs=initargs
    )
    reference, hearts = population.tables(records, anatomy, p.held_out_share)
    if p.covariates:
        covariates = tables.read_table(p.covariates, {"subject": "str"}).drop_duplicates("subject")
        reference = reference.merge(covariates, on="subject", how="left")
    with files.atomic_path(snakemake.output.reference) as path:
        reference.to_parquet(path, index=False)
    with files.atomic_path(snakemake.output.hearts) as path:
        hearts.to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
