"""Rule compare_batch: stored results of one batch against its recomputed subject, stage by stage."""

from pathlib import Path

import pandas as pd

from cardiocohort.cohort import stage_tables, verification
from cardiocohort.runtime import script, tables

STAGES = {
    "targets": stage_tables.TARGETS,
    "anatomies": stage_tables.ANATOMIES,
    "topology": stage_tables.TOPOLOGY,
    "meshes": stage_tables.MESHES,
    "inputs": stage_tables.INPUTS,
}


def main(snakemake):
    i, rows = snakemake.input, []
    for stage, columns in STAGES.items():
        if not i.get(stage):
            continue  # the user's own label maps have no targets
        stored, again = (tables.read_table(path, columns) for path in (i[stage], i[f"{stage}_again"]))
        folder = Path(i[stage]).with_suffix("")
        rows.append(verification.verdict_of(stage, snakemake.params.subject, stored, again, folder))
    frame = pd.DataFrame(rows).assign(batch=snakemake.wildcards.batch)
    tables.write_table(snakemake.output.table, frame, verification.COLUMNS)


if __name__ == "__main__":
    script.run(main, snakemake)
