"""Rule build_meshes: tetrahedral meshes with fibres for one batch."""

from pathlib import Path

import pandas as pd

from cardiocohort import mesh_subject as stage
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.cohort import stage_tables
from cardiocohort.meshing.settings import MeshSettings
from cardiocohort.microstructure.fibres import FibreAngles
from cardiocohort.runtime import artifacts, batch_runner, script, tables
from cardiocohort.runtime.outcomes import Outcome


def main(snakemake):
    p, source = snakemake.params, Path(snakemake.input.anatomies)
    anatomy, _ = read_anatomy(snakemake.input.bundle)
    settings, angles = MeshSettings.of(p.meshing), FibreAngles.of(p.microstructure)
    anatomies = (
        tables.read_table(source, stage_tables.ANATOMIES).drop_duplicates("subject").set_index("subject")
    )
    verdicts = tables.read_table(snakemake.input.topology, stage_tables.TOPOLOGY)
    origins = anatomies.reindex(columns=stage_tables.ORIGIN).astype(float)  # of scanned hearts only
    tasks, records = [], {}
    for subject, verdict, reason in verdicts[["subject", "verdict", "reasons"]].itertuples(index=False):
        if verdict != Outcome.ACCEPTED:
            records[subject] = batch_runner.skipped(subject, "topology", verdict, reason)
            continue
        row = {"subject": subject, **anatomies.loc[subject, list(tables.FILE_COLUMNS)]}
        origin_mm = tuple(origins.loc[subject])
        inputs = artifacts.digest(
            [p.library, p.anatomy, p.meshing, p.microstructure, row["sha256"], origin_mm]
        )
        folder = source.with_suffix("")
        tasks.append(stage.task(row, folder, anatomy, settings, angles, inputs, origin_mm))
    table = Path(snakemake.output.table)
    made = batch_runner.run_batch(table.with_suffix(""), tasks, stage.mesh_subject, snakemake.threads)
    records |= {record["subject"]: record for record in made}
    frame = pd.DataFrame(
        [stage.table_row(records[subject], settings.domain) for subject in verdicts["subject"]]
    )
    tables.write_table(table, frame, stage_tables.MESHES)


if __name__ == "__main__":
    script.run(main, snakemake)
