"""Rule write_inputs: solver decks of one batch, one folder per subject and format."""

from pathlib import Path

import pandas as pd

from cardiocohort import exporters
from cardiocohort.cohort import stage_tables
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.runtime import artifacts, batch_runner, script, tables
from cardiocohort.runtime.outcomes import Outcome


def main(snakemake):
    p, source = snakemake.params, Path(snakemake.input.meshes)
    mechanics = Mechanics.of(p.mechanics)
    meshes = tables.read_table(source, stage_tables.MESHES | stage_tables.MESH_FILES)
    for name in p.formats:
        # an unknown format is reported before any work
        exporters.writer(name) if p.domain == "biventricular" else exporters.label_writer(name)
    tasks, records = [], {}
    for mesh in meshes.to_dict("records"):
        subject = mesh["subject"]
        if mesh["verdict"] != Outcome.ACCEPTED:
            records[subject] = exporters.deck_rows(
                batch_runner.skipped(subject, "mesh", mesh["verdict"], mesh["reason"])
            )
            continue
        listed = stage_tables.mesh_files(mesh, source.with_suffix(""))
        for name in p.formats:
            deck = f"{subject}/{name}"
            inputs = artifacts.digest([p.library, name, p.mechanics, mesh["sha256"], mesh["surface_sha256"]])
            payload = (name, *listed, mechanics)
            tasks.append(batch_runner.Task(subject, f"{deck}/README.txt", inputs, payload, (deck,)))
    table = Path(snakemake.output.table)
    for record in batch_runner.run_batch(table.with_suffix(""), tasks, exporters.write_deck):
        records.setdefault(record["subject"], []).extend(exporters.deck_rows(record))
    rows = [row for subject in meshes["subject"] for row in records[subject]]
    tables.write_table(table, pd.DataFrame(rows), stage_tables.INPUTS)


if __name__ == "__main__":
    script.run(main, snakemake)
