"""Rule make_reference_population: the label maps that a prior is trained on, and their moments."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.folder import read_variation
from cardiocohort.cohort import covariates
from cardiocohort.label_maps import reading
from cardiocohort.population.reference import read_reference
from cardiocohort.prior import reference_population as population
from cardiocohort.runtime import artifacts, batch_runner, script
from cardiocohort.runtime.errors import InputError


def main(snakemake):
    anatomy, grid = read_anatomy(snakemake.input.anatomy)
    p, folder = snakemake.params, Path(snakemake.output.hearts).parent / "hearts"
    templates = dict(zip(snakemake.input.get("templates", []), p.shares, strict=True))
    shares = list(templates.values())
    inputs = artifacts.digest([p.library, p.seed, p.anatomy, list(p.digests), shares, p.nifti_geometry])
    if templates:
        tasks, work = population.deformed_tasks(p.n, inputs), population.work_deformed
    else:
        maps = dict(zip(p.subjects, map(Path, snakemake.input.label_maps), strict=True))
        tasks, work = population.folder_tasks(maps, inputs), population.work_folder
    convention = reading.open_convention(snakemake.input.convention, anatomy, p.nifti_geometry)
    initargs = (anatomy, grid, snakemake.input.rules, templates, snakemake.input.values, p.seed, convention)
    initargs += (read_variation(snakemake.input.anatomy),)
    records = batch_runner.run_batch(
        folder, tasks, work, snakemake.threads, initializer=population.open_source, initargs=initargs
    )
    known = covariates.known(snakemake.input.get("covariates_table"))
    reference, hearts = population.tables(records, anatomy, p.held_out_share)
    if reference.empty:
        raise InputError(
            f"none of {len(hearts)} label maps can be trained on; of the first: {hearts['reason'].iloc[0]}"
        )
    if snakemake.input.get("covariates"):
        reference = population.with_covariates(reference, snakemake.input.covariates, known)
    with artifacts.atomic_path(snakemake.output.reference) as path:
        reference.to_parquet(path, index=False)
    # what every cohort will ask, before any training
    read_reference(snakemake.output.reference, anatomy, known=known)
    with artifacts.atomic_path(snakemake.output.hearts) as path:
        hearts.to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
