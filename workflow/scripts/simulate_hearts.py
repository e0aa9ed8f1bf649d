"""Rule simulate_hearts: passive inflation of one batch of hearts in a finite element solver."""

import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cardiocohort.cohort import stage_tables
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.runtime import artifacts, batch_runner, script, tables
from cardiocohort.runtime.outcomes import Outcome
from cardiocohort.simulation import calibration
from cardiocohort.simulation.settings import SimulationSettings


def main(snakemake):
    # where NGSolve cannot be loaded, one message says why
    from cardiocohort.simulation import subject as stage
    from cardiocohort.simulation.factors import check_library

    p = snakemake.params
    mechanics, settings = Mechanics.of(p.mechanics), SimulationSettings.of(p.simulation)
    scalings = [calibration.factors(path) for path in snakemake.input.get("calibration", [])]
    for scaling in scalings:  # one, or none
        mechanics, settings = scaling.of(mechanics, settings)
    check_library(settings.solver)
    meshes, columns = {}, stage_tables.MESHES | stage_tables.MESH_FILES
    for source in map(Path, snakemake.input.meshes):
        for row in tables.read_table(source, columns).to_dict("records"):
            meshes[row["subject"]] = (source.with_suffix(""), row)
    areas = stage_tables.body_surfaces(snakemake.input.get("people", []))
    tasks, records = [], {}
    for subject in p.subjects:
        folder, mesh = meshes[subject]
        if mesh["verdict"] != Outcome.ACCEPTED:
            records[subject] = batch_runner.skipped(subject, "mesh", mesh["verdict"], mesh["reason"])
            continue
        made_of = [p.library, p.mechanics, p.simulation, mesh["sha256"], mesh["surface_sha256"]]
        made_of += [*map(asdict, scalings), area := areas.get(subject, math.nan)]
        inputs = artifacts.digest(made_of)
        tasks.append(stage.task(mesh, folder, mechanics, settings, snakemake.threads, inputs, area))
    table = Path(snakemake.output.table)
    made = batch_runner.run_batch(table.with_suffix(""), tasks, stage.simulate_subject)
    records |= {record["subject"]: record for record in made}
    frame = pd.DataFrame([stage.table_row(records[subject]) for subject in p.subjects])
    tables.write_table(table, frame, stage_tables.SIMULATIONS)


if __name__ == "__main__":
    script.run(main, snakemake)
