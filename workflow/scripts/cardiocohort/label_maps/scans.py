"""One case to one label map in the convention, or to the reasons why not. Owned by the segmentations stage.

In order: the first source that has a structure gives its mask; missing structures, cuts by the field
and wrong orientation are looked for in the masks as they are; then the masks are resampled, pieces
that are noise dropped, vessels cut to length, small defects repaired, and the topology gate decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from .. import topology
from ..anatomy import moments
from ..anatomy.label_map import write_label_map
from ..anatomy.labels import Anatomy, Grid
from ..runtime import artifacts
from ..runtime.batch_runner import Task
from ..runtime.errors import InputError, SubjectError
from ..runtime.outcomes import Outcome
from ..runtime.tables import FILE_COLUMNS
from . import reading
from .cases import Source, source_files
from .layout import shapes_of
from .picture import write_picture
from .resample import occupancy, to_labels
from .vessels import Vessel, load_vessels, shorten
from .volumes import Mask, Volume, mask_of, read_volume

STRAY_SHARE = 0.02  # of a structure, all its pieces but the largest together: noise of a network
CENTRE_MM = 0.1  # how near the heart's centroid comes to the origin
MAX_CENTRINGS = 4
WHOLE_HEART = "whole heart"
CASES = dict.fromkeys(("case", "verdict", "reason", "sources", "changes"), "str") | FILE_COLUMNS


@dataclass(frozen=True)
class Standard:
    """What every case is brought to and held to; loaded once a worker process."""

    anatomy: Anatomy
    grid: Grid
    rules: topology.Rules
    vessels: tuple[Vessel, ...]
    convention: reading.Convention


def open_standard(anatomy: Anatomy, grid: Grid, rules_path, vessels_path, convention) -> Standard:
    """Initializer of a worker process; the table of vessels may be None."""
    return Standard(
        anatomy,
        grid,
        topology.load_rules(rules_path, anatomy),
        load_vessels(vessels_path, anatomy) if vessels_path else (),
        convention,
    )


def case_tasks(
    cases: list[Path], sources: dict[str, tuple[Source, ...]], whole_heart: tuple[Source, ...], inputs: str
) -> list[Task]:
    """Tasks for `subjects.run_batch` in the folder of the label maps; `inputs` digests what all share.

    A case's own file is its picture, which rejected cases have too; its label map lies beside it.
    """
    everything = sources | {WHOLE_HEART: whole_heart}
    spelt = {name: [str(source) for source in several] for name, several in everything.items()}
    tasks = []
    for case in cases:
        digests = {
            path.relative_to(case).as_posix(): artifacts.sha256(path)
            for path in source_files(case, everything)
        }
        tasks.append(
            Task(
                case.name,
                f"pictures/{case.name}.png",
                artifacts.digest([inputs, spelt, digests]),
                (case, sources, whole_heart),
                (f"{case.name}.nii.gz",),
            )
        )
    return tasks


def make_label_map(c: Standard, path: Path, payload: tuple) -> dict:
    """Write a case's picture to `path` and, if it is accepted, its label map beside; returns its record.

    SubjectError where a file cannot be read or no structure is found.
    """
    case, sources, whole_heart = payload
    label_map = path.parents[1] / f"{case.name}.nii.gz"
    label_map.unlink(missing_ok=True)  # of an earlier run with other settings
    geometry = c.convention.geometry
    sourced_masks = find_masks(case, sources, geometry)
    if not sourced_masks:
        raise SubjectError("no structure found in any of its sources")
    masks = {name: mask for name, (_, mask) in sourced_masks.items()}
    heart = find_masks(case, {WHOLE_HEART: whole_heart}, geometry)
    lacking = [name for name in c.anatomy.structures if name not in masks]
    reasons = [f"missing: {', '.join(lacking)}"] if lacking else []
    reasons += cuts({name: masks[name] for name in c.anatomy.centred_on if name in masks})
    reasons += cuts({name: mask for name, (_, mask) in heart.items()})
    labels, changes = resample(masks, c.anatomy, c.grid, c.rules)
    axes = c.grid.axes_mm()
    reasons += reading.misplacements(labels, axes, shapes_of(labels, axes), c.anatomy, c.convention)
    if not reasons:
        labels, shortened = shorten(labels, c.grid.spacing_mm, c.anatomy, c.vessels)
        labels, repairs, verdict = topology.judge(labels, c.grid.spacing_mm, c.anatomy, c.rules)
        reasons += verdict.reasons
        changes += shortened + repairs
    if not reasons:
        write_label_map(label_map, labels, c.grid)
    write_picture(path, labels, c.anatomy)
    voxels = np.bincount(labels.ravel(), minlength=c.anatomy.n_channels)[1:]
    return {
        "verdict": Outcome.REJECTED if reasons else Outcome.ACCEPTED,
        "reason": "; ".join(reasons),
        "sources": "; ".join(f"{name}={source}" for name, (source, _) in sourced_masks.items()),
        "changes": "; ".join(changes),
        "volumes_ml": (voxels * c.grid.voxel_volume_ml).tolist(),
        "files": [] if reasons else [label_map.name],
    }


def find_masks(
    case: Path, sources: dict[str, tuple[Source, ...]], geometry: str
) -> dict[str, tuple[Source, Mask]]:
    """For each structure the first of its sources that has a voxel of it, and the mask; none are left out.

    Raises SubjectError naming a file that is there but cannot be read.
    """
    # structures often share a file of many labels, between files of one mask each
    read: Callable[[Path], Volume] = lru_cache(maxsize=2)(partial(read_volume, geometry=geometry))
    sourced_masks = {}
    for name, several in sources.items():
        for source in several:
            path = source.path(case)
            if not path.is_file():
                continue
            try:
                mask = mask_of(read(path), source.labels)
            except InputError as error:
                raise SubjectError(str(error)) from None
            if mask is not None:
                sourced_masks[name] = (source, mask)
                break
    return sourced_masks


def cuts(masks: dict[str, Mask]) -> list[str]:
    """A reason for each mask that its volume's field cuts."""
    return [
        f"cut by the field: {name} ({', '.join(mask.cut)} end)" for name, mask in masks.items() if mask.cut
    ]


def resample(
    masks: dict[str, Mask], anatomy: Anatomy, grid: Grid, rules: topology.Rules
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Masks by structure as labels (X, Y, Z) on `grid` in the heart frame, and one line a piece dropped.

    The origin is the centroid of the structures that the anatomy is centred on (of all that are
    there, if it has none of these), met within 0.1 mm or as near as the voxels allow.
    """
    central = [name for name in anatomy.centred_on if name in masks] or list(masks)
    volumes = [masks[name].volume_ml for name in central]
    centre = np.average([masks[name].centroid_mm for name in central], axis=0, weights=volumes)
    group = tuple(anatomy.label(name) for name in central)
    empty = np.zeros(grid.shape, np.float32)
    nearest = np.inf
    for _ in range(MAX_CENTRINGS):
        shares = [
            occupancy(masks[name], grid, centre) if name in masks else empty for name in anatomy.structures
        ]
        labels, dropped = drop_strays(to_labels(shares), grid, anatomy, rules)
        offset = moments.measure_labels(labels, [group], grid.axes_mm()).centroid_mm[0]
        if np.linalg.norm(offset) < nearest:
            nearest, best = np.linalg.norm(offset), (labels, dropped)
        if nearest <= CENTRE_MM:
            break
        centre = centre + offset
    return best


def drop_strays(
    labels: np.ndarray, grid: Grid, anatomy: Anatomy, rules: topology.Rules
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give all but the largest piece of a structure the label around them, if they are noise.

    The gate's own repair of specks, with a bound that grows with the structure: 2 % of it for all
    pieces together. A structure in large pieces stays as it is, for the gate to judge.
    """
    voxels = np.bincount(labels.ravel(), minlength=anatomy.n_channels)
    specks = tuple(
        replace(
            rule, id=rule.id.replace(rule.kind, "stray", 1), maximum=STRAY_SHARE * size * grid.voxel_volume_ml
        )
        for rule in rules.repairs
        if rule.kind == "speck" and (size := int(voxels[list(rule.structure)].sum()))
    )
    return topology.repair(labels, grid.spacing_mm, anatomy, topology.Rules((), specks))


def cases_table(records: list[dict], anatomy: Anatomy, covariates: pd.DataFrame | None) -> pd.DataFrame:
    """The table of all cases (columns CASES first) from `make_label_map`'s records.

    The listed file is the label map, empty without one. Volumes (mL) are of the label map or, where a
    case is rejected, of what there is of it. A case without a row of `covariates` has empty cells.
    """
    rows = []
    for record in records:
        listing = next(iter(record.get("files", [])), artifacts.NO_FILE)
        row = {"case": record["subject"]} | {name: record.get(name, "") for name in list(CASES)[1:5]}
        volumes = record.get("volumes_ml") or [np.nan] * len(anatomy.structures)
        columns = {f"{name}_ml": round(ml, 3) for name, ml in zip(anatomy.structures, volumes, strict=True)}
        rows.append(row | listing | {"picture": record["file"]} | columns)
    frame = pd.DataFrame(rows).astype({"size": "Int64"})
    return (
        frame if covariates is None else frame.merge(covariates, on="case", how="left", validate="one_to_one")
    )
