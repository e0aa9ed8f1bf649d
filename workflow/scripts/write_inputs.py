"""Rule write_inputs: solver decks of one batch, one folder per subject and format."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cardiocohort import exporters
from cardiocohort.cohort import stage_tables
from cardiocohort.exporters import Deck, Simulated
from cardiocohort.mechanics.decks import DeckSettings
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.runtime import artifacts, batch_runner, script, tables
from cardiocohort.runtime.outcomes import Outcome
from cardiocohort.simulation import calibration
from cardiocohort.simulation.settings import SimulationSettings


def main(snakemake):
    p, source = snakemake.params, Path(snakemake.input.meshes)
    mechanics, settings = Mechanics.of(p.mechanics), SimulationSettings.of(p.simulation or {})
    for file in getattr(snakemake.input, "calibration", []):  # one, or none
        mechanics, settings = calibration.factors(file).of(mechanics, settings)
    decks = DeckSettings.of(p.decks)
    meshes = tables.read_table(source, stage_tables.MESHES | stage_tables.MESH_FILES)
    runs = {}  # of the simulations that the decks follow
    for table in map(Path, getattr(snakemake.input, "simulations", [])):
        for row in tables.read_table(table, stage_tables.SIMULATIONS).to_dict("records"):
            runs[row["subject"]] = (row, table.with_suffix(""))
    for name in p.formats:
        # an unknown format is reported before any work
        exporters.writer(name) if p.domain == "biventricular" else exporters.label_writer(name)
    tasks, records = [], {}
    for mesh in meshes.to_dict("records"):
        subject, ended = mesh["subject"], ("mesh", mesh["verdict"], mesh["reason"])
        listed, deck = None, Deck(settings=decks)
        if mesh["verdict"] == Outcome.ACCEPTED:
            listed = stage_tables.mesh_files(mesh, source.with_suffix(""))
            if runs:
                row, folder = runs[subject]
                ended = ("simulation", row["verdict"], row["reason"])
                found = Simulated.of(row, settings.reference, settings.fibres)
                deck = Deck(found, decks, settings.pericardium_kpa_per_mm)
                listed = found.geometry(listed, row, folder)
        if listed is None:
            records[subject] = exporters.deck_rows(batch_runner.skipped(subject, *ended))
            continue
        for name in p.formats:
            made_of = [p.library, name, asdict(mechanics), asdict(deck), *(file[2] for file in listed)]
            payload, place = (name, *listed, mechanics, deck), f"{subject}/{name}"
            inputs = artifacts.digest(made_of)
            tasks.append(batch_runner.Task(subject, f"{place}/README.txt", inputs, payload, (place,)))
    table = Path(snakemake.output.table)
    for record in batch_runner.run_batch(table.with_suffix(""), tasks, exporters.write_deck):
        records.setdefault(record["subject"], []).extend(exporters.deck_rows(record))
    rows = [row for subject in meshes["subject"] for row in records[subject]]
    tables.write_table(table, pd.DataFrame(rows), stage_tables.INPUTS)


if __name__ == "__main__":
    script.run(main, snakemake)
