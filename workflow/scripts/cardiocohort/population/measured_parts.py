"""Parts of structures measured in the label maps of a prior's population (population stage)."""

from collections.abc import Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.domains import Domain
from ..anatomy.label_map import read_label_map
from ..anatomy.labels import Anatomy, Grid
from ..runtime import artifacts
from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome
from .parts import FEWEST, measure_heart


def measure_population(
    hearts: Path,
    names: Collection[str],
    domains: Mapping[str, Domain],
    anatomy: Anatomy,
    grid: Grid,
    processes: int,
    walls: Collection[str] = (),
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table of the parts `names` (`population.parts`) in all hearts of a hearts.tsv that are accepted.

    Of the parts `walls` the thickness is measured too.

    The second value is why each subject is left out: those in which a part has no place. InputError where too
    few are left, and for a file that is not as the table lists it.
    """
    table = pd.read_csv(hearts, sep="\t", keep_default_na=False, dtype={"subject": str})
    table = table[table["verdict"] == Outcome.ACCEPTED]
    paths = [
        artifacts.check_file(hearts.parent / "hearts" / row.file, int(float(row.size)), row.sha256)
        for row in table.itertuples()
    ]
    work = partial(_measured, names=names, domains=domains, anatomy=anatomy, grid=grid, walls=walls)
    # spawn: forking a process that holds OpenMP threads can deadlock
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        found = dict(zip(table["subject"], pool.map(work, paths, chunksize=8), strict=True))
    refused = {subject: rows for subject, rows in found.items() if isinstance(rows, str)}
    kept = [rows.assign(subject=subject) for subject, rows in found.items() if subject not in refused]
    if len(kept) < FEWEST:
        why = next(iter(refused.values()), "there are no more hearts")
        raise InputError(
            f"{hearts}: {len(kept)} of {len(found)} hearts have all parts; drawing needs at least "
            f"{FEWEST}: {why} (config sections 'domains' and 'prior')"
        )
    return pd.concat(kept, ignore_index=True), refused


def _measured(path: Path, names, domains, anatomy, grid, walls) -> pd.DataFrame | str:
    """Rows of a heart, or why a part has no place in it."""
    label_map = read_label_map(path, anatomy)
    if label_map.labels.shape != tuple(grid.shape) or not np.allclose(label_map.affine, grid.affine()):
        raise InputError(f"{path}: it is not on the grid of the bundle (config keys 'bundle' and 'anatomy')")
    try:
        return measure_heart(label_map.labels, names, domains, anatomy, grid, walls)
    except InputError as error:
        return str(error)
