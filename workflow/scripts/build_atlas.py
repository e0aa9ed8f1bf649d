"""Rule build_atlas: the shape model of the registered hearts, how good it is, and hearts to look at."""

from pathlib import Path

from cardiocohort import topology
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.atlas import building, model, quality
from cardiocohort.runtime import artifacts, batch_runner, script


def main(snakemake):
    anatomy, grid = read_anatomy(snakemake.input.anatomy)
    p, out = snakemake.params, snakemake.output
    cohort = building.read_registered(
        snakemake.input.registrations, snakemake.input.template, anatomy, grid, p.cell_voxels
    )
    rules = topology.load_rules(snakemake.input.rules, anatomy)
    template = building.sealed(cohort.template, anatomy, grid, rules)
    template = building.parted(template, cohort.contacts_mm2, anatomy, grid, rules)
    shape = model.fit(cohort.velocities, template, cohort.rotations, grid, p.cell_voxels)
    model.save(shape, out.atlas, anatomy, grid, {"name": p.name, "hearts": cohort.subjects})
    made_of = [artifacts.sha256(path) for path in (snakemake.input.registrations, snakemake.input.template)]
    inputs = artifacts.digest([p.library, p.tables_sha256, p.cell_voxels, *made_of])
    records = batch_runner.run_batch(
        Path(out.atlas).parent / "quality", quality.tasks(cohort.subjects, p.samples, p.seed, inputs),
        quality.work, snakemake.threads, quality.open_rated,
        (shape, cohort.velocities, cohort.rated, anatomy, grid),
    )  # fmt: skip
    tables = {
        "compactness": quality.compactness(shape),
        **quality.tables(records),
        "examples": building.write_examples(Path(out.examples).with_suffix(""), shape, p.seed, anatomy, grid),
    }
    for name, table in tables.items():
        with artifacts.atomic_path(out[name]) as path:
            table.to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
