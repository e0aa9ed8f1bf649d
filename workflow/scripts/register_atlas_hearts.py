"""Rule register_atlas_hearts: the template brought onto every heart by a diffeomorphism."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.atlas import hearts, registering
from cardiocohort.atlas.registration import LEVELS
from cardiocohort.runtime import artifacts, script


def main(snakemake):
    anatomy, grid = read_anatomy(snakemake.input.anatomy)
    p, out = snakemake.params, Path(snakemake.output.registrations)
    table = hearts.read_table(snakemake.input.hearts)
    table = table[table["use"] != ""].reset_index(drop=True)
    _, centroids_mm = hearts.measured(table["path"], anatomy, grid)
    _, of_template = hearts.measured([snakemake.input.template], anatomy, grid)
    rotations = hearts.poses(centroids_mm, of_template[0], anatomy)
    records = registering.run(
        out.parent / "registrations", snakemake.input.template, table, rotations, anatomy, grid,
        LEVELS, p.weights, p.vessel_reach_mm, p.least_overlap, p.library, snakemake.threads,
    )  # fmt: skip
    with artifacts.atomic_path(out) as path:
        registering.table(records, table, anatomy).to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
