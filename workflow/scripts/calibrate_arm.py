"""Rule calibrate_arm: factors of stiffness, tension and resistance of an arm, fitted on its mean heart."""

import logging
from pathlib import Path

import pandas as pd

from cardiocohort.cohort import stage_tables
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.runtime import artifacts, script, tables
from cardiocohort.simulation import calibration
from cardiocohort.simulation.settings import SimulationSettings


def main(snakemake):
    # where NGSolve cannot be loaded, one message says why
    from cardiocohort.simulation import calibrating
    from cardiocohort.simulation.factors import check_library

    p, output = snakemake.params, Path(snakemake.output.calibration)
    mechanics, settings = Mechanics.of(p.mechanics), SimulationSettings.of(p.simulation)
    check_library(settings.solver)
    sources = list(map(Path, snakemake.input.meshes))
    columns = stage_tables.MESHES | stage_tables.MESH_FILES | dict.fromkeys(calibrating.VOLUMES, "float64")
    meshes = [tables.read_table(source, columns) for source in sources]
    rows = {
        row["subject"]: (row, source.with_suffix(""))
        for source, frame in zip(sources, meshes, strict=True)
        for row in frame.to_dict("records")
    }
    areas = stage_tables.body_surfaces(snakemake.input.get("people", []))
    hearts = calibrating.nearest_to_mean(pd.concat(meshes, ignore_index=True))[: calibrating.HEARTS]
    shas = [[rows[heart][0]["sha256"], rows[heart][0]["surface_sha256"]] for heart in hearts]
    made_of = [p.library, p.mechanics, {**p.simulation, "calibrate": None}, shas]
    inputs = artifacts.digest([*made_of, [areas.get(heart) for heart in hearts]])
    folder = output.with_suffix("")
    with artifacts.batch_lock(folder):
        simulate = calibrating.simulated(folder, rows, mechanics, settings, snakemake.threads, inputs, areas)
        found = calibrating.calibrate(p.arm, hearts, settings.calibrate, simulate)
    calibration.write(output, found)
    if found.warning:
        logging.warning("%s", found.warning)


if __name__ == "__main__":
    script.run(main, snakemake)
