"""The user's own label maps as anatomies of a cohort. Owned by the generation stage, which they replace.

A map is brought into the heart frame (translation only: the origin becomes the centroid of the
structures that the anatomy is centred on) and measured. Voxels are neither resampled nor relabelled, unless
they are longer than the anatomy's grid has them (`coarse_maps`).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from .. import topology
from ..anatomy import label_map as labelmap
from ..anatomy import moments
from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy, Grid
from ..cohort.stage_tables import ORIGIN
from ..runtime.artifacts import listed_in
from ..runtime.errors import InputError, SubjectError
from ..runtime.outcomes import Outcome, ending_of
from . import coarse_maps
from .reading import Convention, read_heart

ORIGIN_COLUMNS = ORIGIN  # add them to come back to the scan
UNUSABLE = "label map cannot be used"
NOISE = ("speck", "pinhole", "pocket")  # kinds of repair that close no way between two structures

log = logging.getLogger(__name__)


@contextmanager
def ending_alone(source: str) -> Iterator[None]:
    """A label map of a folder that cannot be used ends itself (SubjectError), the others go on.

    InputError remains where the file system or a lack of memory keeps it from us: that may pass.
    """
    try:
        yield
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno):
            raise
        raise SubjectError(UNUSABLE, str(error).removeprefix(f"{source}: ")) from None


def to_heart_frame(label_map: LabelMap, anatomy: Anatomy) -> LabelMap:
    """`label_map` with its affine moved so that the heart's centroid is the origin.

    Raises InputError if none of the structures that define the centre is there.
    """
    affine = label_map.affine.copy()
    affine[:3, 3] -= labelmap.heart_centre_mm(label_map, anatomy)
    return LabelMap(label_map.labels, affine)


def repaired(
    label_map: LabelMap, anatomy: Anatomy, grid: Grid, rules: topology.Rules
) -> tuple[LabelMap, tuple[str, ...]]:
    """`label_map` after the gate's repairs of scans, whose bounds are volumes and hold for any voxels.

    A map that the gate accepts stays as it is, and no kind of repair follows the one that suffices. Where the
    cavities meet through the wall only NOISE is repaired: a defect of the wall is never closed.
    """
    scan_rules = rules.for_scans(set(np.unique(label_map.labels)))
    if topology.examine(label_map.labels, label_map.spacing_mm, anatomy, scan_rules).accepted:
        return label_map, ()
    # a repair that looks one voxel far looks as many mm far on finer voxels
    span = max(1, round(grid.spacing_mm / max(label_map.spacing_mm)))
    labels, done = label_map.labels, ()
    for name, kind in groupby(scan_rules.repairs, lambda rule: rule.kind):
        meeting = () if name in NOISE else topology.joined(labels, label_map.spacing_mm, anatomy, rules, span)
        if meeting:
            done += tuple(f"not repaired further: {line}" for line in meeting)
            break
        only = replace(scan_rules, repairs=tuple(kind))
        labels, notes = topology.repair(labels, label_map.spacing_mm, anatomy, only, span)
        done += notes
        if notes and topology.examine(labels, label_map.spacing_mm, anatomy, scan_rules).accepted:
            break
    return LabelMap(labels, label_map.affine), done


def import_label_map(path: Path, payload: tuple[str, Anatomy, Grid, topology.Rules, Convention]) -> dict:
    """Write the canonical copy of the label map `source` to `path`.

    Returns its moments by structure, what was changed in it (`repairs`), and where the heart frame's origin
    lies in the source's world (`origin_mm`, RAS+).

    Raises SubjectError if `source` is not a label map of the anatomy (`ending_alone`).
    """
    source, anatomy, grid, rules, convention = payload
    with ending_alone(source):
        label_map, remarks = read_heart(source, anatomy, convention)
        label_map, changes = coarse_maps.bring_to_spacing(label_map, anatomy, grid, rules)
        label_map, repairs = repaired(label_map, anatomy, grid, rules)
        changes = (*remarks, *changes, *repairs)
        centred = to_heart_frame(label_map, anatomy)
    for change in changes:
        log.info("%s: %s", source, change)
    labelmap.write_volume(path, centred)
    groups = [(anatomy.label(structure),) for structure in anatomy.structures]
    measured = moments.measure_labels(centred.labels, groups, centred.axes_mm)
    columns = {name: values.tolist() for name, values in moments.to_columns(measured).items()}
    origin = label_map.affine[:3, 3] - centred.affine[:3, 3]
    return columns | {"repairs": list(changes), "origin_mm": origin.tolist()}


def anatomies_table(records: list[dict], arm: str, anatomy: Anatomy) -> pd.DataFrame:
    """The rows of `stage_tables.ANATOMIES` and CAUSES, one per subject and structure, from
    `import_label_map`'s records.

    A label map that cannot be used has no moments, and says why in `reason`.
    """
    rows = [
        {
            "subject": record["subject"],
            "arm": arm,
            "structure": structure,
            **{column: record[column][k] if usable else np.nan for column in moments.MOMENT_COLUMNS},
            "constrained": "",
            "plausibility": np.nan,
            "attempts": 0,
            "status": Outcome.IMPORTED if usable else record["verdict"],
            "reason": "" if usable else ending_of(record).text,
            "repairs": "; ".join(record.get("repairs", [])),
            "absent": "",
            **dict(zip(ORIGIN_COLUMNS, record.get("origin_mm", [np.nan] * 3), strict=True)),
            **listed_in(record),
            "cause": "" if usable else record["reason"],
            "tried_causes": "[]",
        }
        for record in records
        for usable in [bool(record["file"])]
        for k, structure in enumerate(anatomy.structures)
    ]
    return pd.DataFrame(rows)
