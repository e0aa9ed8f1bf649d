"""Rule build_meshes: tetrahedral biventricular meshes with fibres for one batch."""

from pathlib import Path

import pandas as pd

from cardiocohort import files, script, subjects, tables
from cardiocohort.bundle_card import read_anatomy
from cardiocohort.meshing import subject as stage
from cardiocohort.meshing.settings import MeshSettings
from cardiocohort.microstructure.rule import FibreAngles


def main(snakemake):
    p, source = snakemake.params, Path(snakemake.input.anatomies)
    anatomy, _ = read_anatomy(snakemake.input.bundle)
    settings, angles = MeshSettings.of(p.meshing), FibreAngles.of(p.microstructure)
    anatomies = tables.read_table(source, tables.ANATOMIES).drop_duplicates("subject").set_index("subject")
    verdicts = tables.read_table(snakemake.input.topology, tables.TOPOLOGY)
    tasks, records = [], {}
    for subject, verdict, reason in verdicts[["subject", "verdict", "reasons"]].itertuples(index=False):
        if verdict != "accepted":
            records[subject] = stage.skipped(subject, f"topology {verdict}: {reason}")
            continue
        row = {"subject": subject, **anatomies.loc[subject, list(tables.FILE_COLUMNS)]}
        inputs = files.digest([p.library, p.anatomy, p.meshing, p.microstructure, row["sha256"]])
        tasks.append(stage.task(row, source.with_suffix(""), anatomy, settings, angles, inputs))
    table = Path(snakemake.output.table)
    made = subjects.run_batch(table.with_suffix(""), tasks, stage.mesh_subject, snakemake.threads)
    records |= {record["subject"]: record for record in made}
    frame = pd.DataFrame([stage.table_row(records[subject]) for subject in verdicts["subject"]])
    tables.write_table(table, frame, tables.MESHES)


if __name__ == "__main__":
    script.run(main, snakemake)
