"""Rule make_atlas_template: one heart of the atlas, moved to the mean of all."""

from pathlib import Path

import numpy as np

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.label_map import write_label_map
from cardiocohort.atlas import hearts, registering
from cardiocohort.runtime import artifacts, script
from cardiocohort.runtime.errors import InputError
from cardiocohort.runtime.outcomes import Outcome, ending_of


def main(snakemake):
    anatomy, grid = read_anatomy(snakemake.input.anatomy)
    p, out = snakemake.params, Path(snakemake.output.template)
    table = hearts.read_table(snakemake.input.hearts)
    table = table[table["use"] == hearts.ATLAS].reset_index(drop=True)
    volumes_ml, centroids_mm = hearts.measured(table["path"], anatomy, grid)
    whole = (table["not_whole"] == "").to_numpy()
    lender = table.iloc[hearts.medoid(centroids_mm, volumes_ml, whole if whole.any() else ~whole)]
    rotations = hearts.poses(centroids_mm, centroids_mm[lender.name], anatomy)
    records = registering.run(
        out.parent / "rough", lender["path"], table, rotations, anatomy, grid,
        registering.FIRST_ROUND, p.weights, p.vessel_reach_mm, p.least_overlap, p.library, snakemake.threads,
    )  # fmt: skip
    registered = [
        out.parent / "rough" / record["file"] for record in records if record["verdict"] == Outcome.ACCEPTED
    ]
    if len(registered) < hearts.FEWEST:
        first = next(record for record in records if record["verdict"] != Outcome.ACCEPTED)
        raise InputError(
            f"{len(registered)} of {len(table)} hearts register to {lender['subject']}; an atlas needs "
            f"{hearts.FEWEST} or more. Of the first that does not: {ending_of(first).text}"
        )
    mean = registering.mean_velocity(registered)
    labels = hearts.read_prepared(lender["path"], anatomy)
    template = registering.moved(labels, mean, anatomy, grid)
    write_label_map(out, template, grid)
    report = {
        "heart": lender["subject"],
        "not_whole": lender["not_whole"],
        "hearts": len(registered),
        "mean_velocity_mm": float(np.linalg.norm(mean, axis=0)[registering.cells_of(template) > 0].mean()),
    }
    artifacts.write_text(snakemake.output.report, artifacts.readable_json(report))


if __name__ == "__main__":
    script.run(main, snakemake)
