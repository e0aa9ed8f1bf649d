"""How many subjects a job should have, from the benchmark files of a pilot run. Owned by no stage.

A cluster is used well by jobs of 10 to 60 minutes: shorter ones wait longer than they work, longer ones
lose more when a node dies and fit fewer gaps in the schedule.
"""

import math
from pathlib import Path

import pandas as pd

from ..runtime.errors import InputError
from ..runtime.tables import read_cells

SHORTEST_S, LONGEST_S = 600.0, 3600.0
COLUMNS = ("stage", "batch", "subjects", "seconds", "peak_mb")
STAGES = ("generation", "meshing", "inputs")  # whose jobs are as long as `batch_size` makes them


def read_pilot(folder: str | Path, subjects: dict[str, int]) -> pd.DataFrame:
    """Jobs of a pilot run (COLUMNS) from `folder`/<stage>/<batch>.tsv, Snakemake's benchmark files.

    `subjects` is the number of subjects of every batch. Batches without a file (it was lost, or
    a stage that measures none) are left out; InputError if a file cannot be read or none is there.
    """
    rows = []
    for path in sorted(Path(folder).glob("*/*.tsv")):
        if path.parent.name not in STAGES:
            continue  # simulations, for one, have batches of their own under the same names
        if path.stem not in subjects:
            continue  # of an earlier trial with other batches
        cells = read_cells(path, "benchmark file of Snakemake")
        if not {"s", "max_rss"} <= set(cells.columns):
            raise InputError(
                f"{path}: not a benchmark file of Snakemake; it has no columns 's' and 'max_rss'"
            )
        seconds = float(pd.to_numeric(cells["s"], errors="coerce").mean())
        peak_mb = float(pd.to_numeric(cells["max_rss"], errors="coerce").max())
        if not (seconds > 0 and math.isfinite(seconds)):
            raise InputError(f"{path}: column 's' holds {seconds}; a job takes more than 0 s")
        rows.append((path.parent.name, path.stem, subjects[path.stem], seconds, peak_mb))
    if not rows:
        raise InputError(f"{folder}: no benchmark file of a batch; run the pilot cohort first")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def propose(
    pilot: pd.DataFrame, shortest_s: float = SHORTEST_S, longest_s: float = LONGEST_S
) -> tuple[int, pd.DataFrame]:
    """The batch size at which the slowest stage's jobs last between the two bounds, and every stage's times.

    Seconds a subject include a job's start, which a larger batch shares out: jobs turn out rather
    shorter than estimated. The aim is the geometric mean of the bounds, at the median subject; no job is to
    pass `longest_s`, judged by the batch with the slowest subjects. At least 1, even if a subject is longer.
    The table has one row per stage, slowest first: jobs, subjects, seconds_per_subject (median over
    batches), worst_seconds_per_subject, peak_mb, job_minutes and worst_job_minutes at that size.
    """
    each = pilot.assign(own=pilot["seconds"] / pilot["subjects"])
    table = (
        each.groupby("stage")
        .agg(
            jobs=("batch", "size"),
            subjects=("subjects", "sum"),
            seconds_per_subject=("own", "median"),
            worst_seconds_per_subject=("own", "max"),
            peak_mb=("peak_mb", "max"),
        )
        .sort_values("seconds_per_subject", ascending=False)
        .reset_index()
    )
    aimed = math.sqrt(shortest_s * longest_s) / table["seconds_per_subject"].max()
    most = longest_s / table["worst_seconds_per_subject"].max()
    size = max(1, math.floor(min(aimed, most)))
    table["job_minutes"] = table["seconds_per_subject"] * size / 60
    table["worst_job_minutes"] = table["worst_seconds_per_subject"] * size / 60
    return size, table
