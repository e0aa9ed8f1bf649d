"""Rule write_subjects: one row per requested heart for statistics, and the dictionary of its columns."""

import json
from pathlib import Path

import pandas as pd

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.cohort import covariates, plan, stage_tables, subject_columns
from cardiocohort.report import subjects
from cardiocohort.report.cohort_tables import read_cohort_tables
from cardiocohort.report.manifest import ARM_SETTINGS, CAUSES, COLUMNS
from cardiocohort.runtime import artifacts, script, tables
from cardiocohort.runtime.outcomes import Outcome


def main(snakemake):
    i, o, p = snakemake.input, snakemake.output, snakemake.params
    folder = Path(i.manifest).parent
    of_stages = {
        stage: plan.stage_tables(stage, p.batches if stage in p.stages else (), [str(folder)])
        for stage in ("targets", "anatomies", "topology", "meshes", "inputs")
    }
    found = read_cohort_tables(**of_stages)
    manifest = tables.read_table(i.manifest, COLUMNS | dict.fromkeys((CAUSES, ARM_SETTINGS), "str"))
    anatomy, _ = read_anatomy(i.bundle)
    simulated = [tables.read_table(path, stage_tables.SIMULATIONS) for path in i.get("simulations", [])]
    simulations = pd.concat(simulated, ignore_index=True) if simulated else pd.DataFrame()
    accepted = manifest.loc[manifest["status"] == Outcome.ACCEPTED, "subject"]
    measures = subjects.measure(found.anatomies, found.meshes, folder, anatomy, accepted)
    constrained, local = subject_columns.relations(p.arms), subject_columns.parts(p.arms)
    bases = {arm["name"]: arm["base"] for arm in p.arms}
    matches = {arm["name"]: arm["matched"]["name"] if arm["matched"] else "" for arm in p.arms}
    frame = subjects.subjects(
        found, manifest, simulations, measures, anatomy, bases, matches, constrained, local
    )
    people = subjects.covariates_in(found.targets, covariates.known(i.get("covariates_table")))
    columns = subject_columns.columns(anatomy.structures, people, constrained, local)
    not_run = [
        stage for stage, rows in (("population", found.targets), ("simulation", simulations)) if rows.empty
    ]
    frame = subjects.in_order(frame, columns, not_run)
    kinds = {name: subject_columns.DTYPES[column.kind] for name, column in columns.items()}
    for path in (o.table, o.parquet):
        subject_columns.check(path, frame, columns)
        tables.write_table(path, frame, kinds)
    artifacts.write_text(o.dictionary, json.dumps(subject_columns.dictionary(columns), indent=1) + "\n")


if __name__ == "__main__":
    script.run(main, snakemake)
