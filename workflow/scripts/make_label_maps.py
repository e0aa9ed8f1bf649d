"""Rule make_label_maps: the user's segmented scans as label maps in the convention, or why not."""

import logging
from pathlib import Path

from cardiocohort.anatomy import bundle_metadata
from cardiocohort.cohort import covariates as covariate_table
from cardiocohort.label_maps import cases, covariates, scans
from cardiocohort.label_maps.mesh_masks import MeshRoute
from cardiocohort.label_maps.mesh_tags import load_tags
from cardiocohort.label_maps.reading import open_convention
from cardiocohort.runtime import artifacts, batch_runner, script, tables
from cardiocohort.runtime.outcomes import Outcome


def main(snakemake):
    p, inputs, out = snakemake.params, snakemake.input, snakemake.output
    anatomy, grid = bundle_metadata.read_anatomy(inputs.anatomy)
    known = covariate_table.known(inputs.get("covariates_table"))
    people = covariates.read_covariates(inputs.covariates, known) if inputs.covariates else None
    sources = cases.sources_of({"sources": p.sources, "mesh": p.mesh}, anatomy.structures, inputs.rules)
    mesh = (
        MeshRoute(
            tags=load_tags(inputs.mesh_tags, anatomy), **{k: v for k, v in p.mesh.items() if k != "tags"}
        )
        if inputs.mesh_tags
        else None
    )
    whole_heart = tuple(cases.parse_source(text) for text in p.whole_heart)
    shared = [p.library, p.tables_sha256, p.convention_sha256, p.nifti_geometry, p.mesh]
    tasks = scans.case_tasks(
        cases.find_cases(p.folder, sources.values()), sources, whole_heart, artifacts.digest(shared)
    )
    convention = open_convention(inputs.convention, anatomy, p.nifti_geometry)
    initargs = (anatomy, grid, inputs.rules, inputs.vessels or None, convention, mesh)
    records = batch_runner.run_batch(
        Path(out.cases).parent, tasks, scans.make_label_map, snakemake.threads,
        initializer=scans.open_standard, initargs=initargs,
    )  # fmt: skip
    table = scans.cases_table(records, anatomy, people)
    counts = table["verdict"].value_counts()
    logging.info("%s", ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    if people is not None:
        nobody = sorted(set(people["case"]) - set(table["case"]))
        if nobody:
            logging.warning(
                "%s: rows of %d cases that are not there: %s", inputs.covariates, len(nobody), nobody
            )
        accepted = table[table["verdict"] == Outcome.ACCEPTED]
        of_all, left_out = covariates.known_of_all(accepted, known)
        for name in left_out:
            logging.warning("column %r is not known of every accepted case and is left out", name)
        tables.write_table(out.covariates, of_all, {"subject": "str"})
    tables.write_table(out.cases, table, scans.CASES)


if __name__ == "__main__":
    script.run(main, snakemake)
