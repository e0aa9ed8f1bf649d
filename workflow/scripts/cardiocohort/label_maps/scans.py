"""One case to one label map in the convention, or to the reasons why not. Owned by the segmentations stage.

In order: the first source that has a structure gives its mask; missing structures, cuts by the field
and wrong orientation are looked for in the masks as they are; then the masks are resampled, pieces
that are noise dropped, vessels cut to length, small defects repaired, and the topology gate decides. The
label map keeps its place in the scanner's coordinates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from .. import topology
from ..anatomy import moments
from ..anatomy.label_map import LabelMap, write_volume
from ..anatomy.labels import Anatomy, Grid
from ..anatomy.nifti import AGREE
from ..runtime import artifacts
from ..runtime.batch_runner import Task
from ..runtime.errors import InputError, SubjectError
from ..runtime.outcomes import Outcome
from ..runtime.tables import FILE_COLUMNS
from . import reading
from .cases import Source, folder_of, source_files
from .importing import ORIGIN_COLUMNS, repaired
from .mesh_masks import MeshRoute, masks_of_mesh
from .picture import write_picture
from .resample import occupancy, overlaps, to_labels
from .vessels import Vessel, load_vessels, shorten
from .volumes import Mask, NoSegment, Volume, labelled_volume, mask_of, read_layered

STRAY_SHARE = 0.02  # of a structure, all its pieces but the largest together: noise of a network
CENTRE_MM = 0.1  # how near the heart's centroid comes to the origin
MAX_CENTRINGS = 4
STRUCTURE_ML = (0.1, 2000.0)  # a whole heart has some 800 mL, the largest chambers reported more than 1000
LISTED_OVERLAP_ML = 0.5  # smaller ones, as where masks of two networks meet, are given as a sum
LEAST_OVERLAP_ML = 0.05
WHOLE_HEART = "whole heart"
AXES_KEY = " (for a mesh: config key 'segmentations.mesh.axes')"
CASES = dict.fromkeys(("case", "verdict", "reason", "sources", "changes"), "str") | FILE_COLUMNS


@dataclass(frozen=True)
class Standard:
    """What every case is brought to and held to; loaded once a worker process."""

    anatomy: Anatomy
    grid: Grid
    rules: topology.Rules
    vessels: tuple[Vessel, ...]
    convention: reading.Convention
    mesh: MeshRoute | None = None


def open_standard(
    anatomy: Anatomy, grid: Grid, rules_path, vessels_path, convention, mesh: MeshRoute | None = None
) -> Standard:
    """Initializer of a worker process; the table of vessels may be None."""
    return Standard(
        anatomy,
        grid,
        topology.load_rules(rules_path, anatomy),
        load_vessels(vessels_path, anatomy) if vessels_path else (),
        convention,
        mesh,
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
            path.relative_to(folder_of(case)).as_posix(): artifacts.sha256(path)
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
    map_path = path.parents[1] / f"{case.name}.nii.gz"
    map_path.unlink(missing_ok=True)  # of an earlier run with other settings
    geometry = c.convention.geometry
    remarks, unclosed = (), ()
    if c.mesh:
        sourced_masks, remarks, unclosed = mesh_masks(case, sources, c)
    else:
        sourced_masks = find_masks(case, sources, geometry)
    if not sourced_masks:
        raise SubjectError(f"no structure found in any of its sources; the folder holds {_files_of(case)}")
    masks = {name: mask for name, (_, mask) in sourced_masks.items()}
    heart = find_masks(case, {WHOLE_HEART: whole_heart}, geometry)
    absent = [name for name in c.anatomy.structures if name not in masks]
    lacking = [name for name in absent if c.anatomy.label(name) not in c.rules.optional()]
    reasons = list(unclosed)
    reasons += [f"missing: {', '.join(lacking)}"] if lacking and not unclosed else []
    reasons += cuts({name: masks[name] for name in c.anatomy.centred_on if name in masks})
    reasons += cuts({name: mask for name, (_, mask) in heart.items()})
    reasons += wrong_sizes({name: mask.volume_ml for name, mask in masks.items()})
    labels, origin_mm, changes = resample(masks, c.anatomy, c.grid, c.rules)
    if not unclosed:
        look = reading.wrong_look(labels, c.grid.axes_mm(), c.anatomy, c.convention)
        reasons += [f"{line}{AXES_KEY if c.mesh else ''}" for line in look]
    changes = remarks + _remarks(sourced_masks) + changes
    if absent and not lacking:
        changes = (f"without {', '.join(absent)}", *changes)
    if not reasons:
        labels, shortened = shorten(labels, c.grid.spacing_mm, c.anatomy, c.vessels)
        label_map, repairs = repaired(LabelMap(labels, c.grid.affine()), c.anatomy, c.grid, c.rules)
        labels = label_map.labels
        holding = c.rules.for_scans(set(np.unique(labels))) if absent else c.rules
        verdict = topology.examine(labels, c.grid.spacing_mm, c.anatomy, holding)
        reasons += verdict.reasons
        changes += shortened + repairs
    if not reasons:
        affine = c.grid.affine()
        affine[:3, 3] += origin_mm
        write_volume(map_path, LabelMap(labels, affine))
    write_picture(path, labels, c.anatomy)
    voxels = np.bincount(labels.ravel(), minlength=c.anatomy.n_channels)[1:]
    return {
        "verdict": Outcome.REJECTED if reasons else Outcome.ACCEPTED,
        "reason": "; ".join(reasons),
        "sources": "; ".join(f"{name}={source}" for name, (source, _) in sourced_masks.items()),
        "changes": "; ".join(changes),
        "volumes_ml": (voxels * c.grid.voxel_volume_ml).tolist(),
        "origin_mm": origin_mm.tolist(),
        "files": [] if reasons else [map_path.name],
    }


def find_masks(
    case: Path, sources: dict[str, tuple[Source, ...]], geometry: str = AGREE
) -> dict[str, tuple[Source, Mask]]:
    """For each structure the first of its sources that has a voxel of it, and the mask; none are left out.

    Raises SubjectError naming a file that is there but cannot be read, or that lacks a segment which no
    other source has.
    """
    # structures often share a file of many labels, between files of one mask each
    read: Callable[[Path], tuple[Volume, ...]]
    read = lru_cache(maxsize=2)(partial(read_layered, geometry=geometry))
    sourced_masks = {}
    for name, several in sources.items():
        without_segment = ""
        for source in several:
            path = source.path(case)
            if not path.is_file():
                continue
            try:
                mask = mask_of(*labelled_volume(read(path), source.named))
            except NoSegment as error:
                without_segment = f"{name}: {path}: {error}"
                continue
            except InputError as error:
                at = "" if str(error).startswith(str(path)) else f"{path}: "
                raise SubjectError(f"{name}: {at}{error}") from None
            if mask is not None:
                sourced_masks[name] = (source, mask)
                break
        if without_segment and name not in sourced_masks:
            raise SubjectError(without_segment)
    return sourced_masks


def mesh_masks(
    case: Path, sources: dict[str, tuple[Source, ...]], c: Standard
) -> tuple[dict[str, tuple[Source, Mask]], tuple[str, ...], tuple[str, ...]]:
    """As `find_masks`, of the case's mesh; remarks; and the reasons why a chamber has no mask.

    A vessel of which the mesh has less than the gate's least volume is left out, as one that it lacks.
    """
    source = next(iter(sources.values()))[0]
    if not source.path(case).is_file():
        return {}, (), ()
    try:
        masks, remarks, reasons = masks_of_mesh(source.path(case), c.mesh, c.anatomy)
    except InputError as error:
        raise SubjectError(str(error)) from None
    tubes = {name for tag in c.mesh.tags if tag.role == "tube" for name in tag.structures}
    least = {k: rule.minimum for rule in c.rules.checks if rule.kind == "volume" for k in rule.structure}
    for name in sorted(tubes & masks.keys()):
        lowest, ml = least.get(c.anatomy.label(name)), masks[name].volume_ml
        if lowest is not None and ml < lowest:
            del masks[name]
            remarks += (f"{name} left out: the mesh has {ml:.1f} mL of it",)
    return {name: (source, mask) for name, mask in masks.items()}, remarks, reasons


def cuts(masks: dict[str, Mask]) -> list[str]:
    """A reason for each mask that its volume's field cuts."""
    return [
        f"cut by the field: {name} ({', '.join(mask.cut)} end)" for name, mask in masks.items() if mask.cut
    ]


def wrong_sizes(volumes_ml: dict[str, float]) -> list[str]:
    """A reason if structures have a volume that no heart's has: the gate judges what is nearer."""
    low, high = STRUCTURE_ML
    wrong = [f"{name} {ml:.4g} mL" for name, ml in volumes_ml.items() if not low <= ml <= high]
    shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    allowed = f"allowed: {low:g} to {high:g} mL; is it the right file, label and voxel size?"
    return [f"size: {shown} ({allowed})"] if wrong else []


def _files_of(case: Path) -> str:
    folder = folder_of(case)
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return (", ".join(names[:5]) + (", ..." if len(names) > 5 else "")) or "no file"


def _remarks(sourced_masks: dict[str, tuple[Source, Mask]]) -> tuple[str, ...]:
    """One line per kind of remark on the masks, with the structures that it is about."""
    structures: dict[str, list[str]] = {}
    for name, (_, mask) in sourced_masks.items():
        if mask.remark:
            structures.setdefault(mask.remark, []).append(name)
    return tuple(f"{remark}: {', '.join(names)}" for remark, names in structures.items())


def resample(
    masks: dict[str, Mask], anatomy: Anatomy, grid: Grid, rules: topology.Rules
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Masks by structure as labels (X, Y, Z) on `grid` in the heart frame.

    The origin is the centroid of the structures that the anatomy is centred on (of all that are
    there, if it has none of these), met within 0.1 mm or as near as the voxels allow. Returns the labels, the
    origin (3,) in the masks' coordinates, mm, and one line per overlap and per piece dropped.

    Rounding to voxels can move all outlines by up to half a voxel; the origin takes that back, so that the
    labels lie where the masks are.
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
        claimed = to_labels(shares)
        labels, dropped = drop_strays(claimed, grid, anatomy, rules)
        offset, rounded = (
            moments.measure_labels(found, [group], grid.axes_mm()).centroid_mm[0]
            for found in (labels, claimed)
        )
        if not np.linalg.norm(offset) >= nearest:
            nearest = np.linalg.norm(offset)
            heart = np.minimum(sum(shares[k - 1] for k in group), 1.0)
            moved = np.nan_to_num(rounded - moments.measure(heart, grid.axes_mm()).centroid_mm)
            best = (labels, centre - moved, overlap_lines(shares, claimed, anatomy, grid) + dropped)
        if not nearest > CENTRE_MM:  # or no voxel to centre on: structures of no size, which are rejected
            break
        centre = centre + offset
    return best


def overlap_lines(
    shares: list[np.ndarray], labels: np.ndarray, anatomy: Anatomy, grid: Grid
) -> tuple[str, ...]:
    """What two masks both claim and who has it in `labels`, one line per pair; small pairs in one line."""
    lines, small_ml, n_small = [], 0.0, 0
    for (i, j), (total, first, second) in overlaps(shares, labels).items():
        total, first, second = (float(voxels) * grid.voxel_volume_ml for voxels in (total, first, second))
        if total < LISTED_OVERLAP_ML:
            small_ml, n_small = small_ml + total, n_small + 1
            continue
        one, other = anatomy.structures[i - 1], anatomy.structures[j - 1]
        given = ", ".join(
            f"{ml:.1f} mL to {name}" for ml, name in ((first, one), (second, other)) if ml >= LEAST_OVERLAP_ML
        )
        lines.append(f"overlap of {one} and {other}, {total:.1f} mL: {given or 'to a third structure'}")
    if small_ml >= LEAST_OVERLAP_ML:
        lines.append(
            f"overlaps below {LISTED_OVERLAP_ML:g} mL each, {n_small} pairs: {small_ml:.1f} mL in all"
        )
    return tuple(lines)


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

    The listed file is the label map, empty without one. ORIGIN_COLUMNS: the middle of its field, which is
    the heart's centre, in the scan's coordinates (RAS+). Volumes (mL) are of the label map or, where a
    case is rejected, of what there is of it. A case without a row of `covariates` has empty cells.
    """
    rows = []
    for record in records:
        listing = next(iter(record.get("files", [])), artifacts.NO_FILE)
        row = {"case": record["subject"]} | {name: record.get(name, "") for name in list(CASES)[1:5]}
        volumes = record.get("volumes_ml") or [np.nan] * len(anatomy.structures)
        columns = {f"{name}_ml": round(ml, 3) for name, ml in zip(anatomy.structures, volumes, strict=True)}
        origin = record.get("origin_mm", [np.nan] * 3)
        place = {name: round(mm, 4) + 0.0 for name, mm in zip(ORIGIN_COLUMNS, origin, strict=True)}
        rows.append(row | listing | {"picture": record["file"]} | columns | place)
    frame = pd.DataFrame(rows).astype({"size": "Int64"})
    return (
        frame if covariates is None else frame.merge(covariates, on="case", how="left", validate="one_to_one")
    )
