"""Hearts that the prior has not seen: targets, reference, a left-out template's (evaluation stage).

Deformations are those of the prior's training with seeds that no training has, or label maps of a folder.
"""

import logging
from pathlib import Path

import pandas as pd

from ..anatomy.folder import Variation
from ..anatomy.labels import Anatomy, Grid
from ..label_maps.reading import Convention
from ..prior import reference_population as population
from ..runtime import artifacts, batch_runner
from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome

log = logging.getLogger(__name__)
BEYOND_TRAINING = 2**53  # the config's seeds are smaller: no deformation is one of a training
TARGETS, REFERENCE, LEFT_OUT = "targets", "reference", "left_out"
FEWEST = 4  # hearts of a set

# anatomy, grid, path of the topology rules, path of the published values, variation of what is no heart
Context = tuple[Anatomy, Grid, str, str, Variation]


def check_constrained(constrained: list[list[str]], anatomy: Anatomy) -> None:
    """InputError for a structure that the anatomy lacks, or two sets of as many structures."""
    for names in constrained:
        for name in names:
            try:
                anatomy.labels_of(name)
            except InputError as error:
                raise InputError(f"config key 'evaluation.constrained': {error}") from None
    if len({len(names) for names in constrained}) < len(constrained):
        raise InputError(
            "config key 'evaluation.constrained': tables name the sets by their number of structures; give "
            "every set another number"
        )


def deformed(
    folder: Path,
    context: Context,
    templates: dict[str, float],
    indices: range,
    seed: int,
    inputs: str,
    threads: int,
) -> list[dict]:
    """Records of new deformations of `templates` (path -> share), made in `folder` or found there."""
    anatomy, grid, rules, values, variation = context
    names = {index: f"deformed-{index:05d}" for index in indices}
    tasks = [
        batch_runner.Task(name, f"{name}.nii.gz", artifacts.digest([inputs, index]), (index,))
        for index, name in names.items()
    ]
    initargs = (anatomy, grid, rules, templates, values, BEYOND_TRAINING + seed, None, variation)
    return batch_runner.run_batch(
        folder, tasks, population.work_deformed, threads, population.open_source, initargs
    )


def copied(
    folder: Path,
    context: Context,
    label_maps: dict[str, Path],
    convention: Convention,
    inputs: str,
    threads: int,
) -> list[dict]:
    """Records of label maps (subject -> path) that are accepted, copied into `folder`."""
    anatomy, grid, rules, values, _ = context
    tasks = population.folder_tasks(label_maps, inputs)
    initargs = (anatomy, grid, rules, {}, values, 0, convention)
    return batch_runner.run_batch(
        folder, tasks, population.work_folder, threads, population.open_source, initargs
    )


def split(records: list[dict], n_targets: int, n_reference: int) -> dict[str, list[dict]]:
    """Targets and reference: the first `n_targets` and the rest, or halves where there are too few.

    Refused hearts are in neither. Raises InputError if there are less than FEWEST of either.
    """
    accepted = [record for record in records if record["verdict"] == Outcome.ACCEPTED]
    for record in records:
        if record["verdict"] != Outcome.ACCEPTED:
            log.warning("%s is not used: %s", record["subject"], record["reason"])
    enough = len(records) >= n_targets + n_reference  # some deformations are refused: fewer to compare with
    cut = n_targets if enough and len(accepted) >= n_targets + FEWEST else len(accepted) // 2
    sets = {TARGETS: accepted[:cut], REFERENCE: accepted[cut:]}
    fewest = min(map(len, sets.values()))
    if fewest < FEWEST:
        raise InputError(
            f"{len(accepted)} hearts passed the gate, to be parted into targets and reference; each needs "
            f"{FEWEST} at least: raise 'evaluation.samples' and 'evaluation.hearts', or give more label maps"
        )
    return sets


def table(sets: dict[str, list[dict]], folders: dict[str, str], anatomy: Anatomy) -> pd.DataFrame:
    """One row per heart and structure, columns `table_columns.HEARTS`; files below the table's folder."""
    rows = []
    for name, records in sets.items():
        for record in records:
            for i, structure in enumerate(anatomy.structures):
                rows.append(
                    {
                        "set": name,
                        "subject": record["subject"],
                        "origin": record["origin"],
                        "structure": structure,
                        **{column: values[i] for column, values in record["moments"].items()},
                        "file": f"{folders[name]}/{record['file']}",
                        "size": record["size"],
                        "sha256": record["sha256"],
                    }
                )
    return pd.DataFrame(rows)
