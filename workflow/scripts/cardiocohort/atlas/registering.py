"""The hearts of an atlas, registered one by one (atlas stage).

In two rounds: to the heart that lends the template its form, and to the template, which is that heart moved
by the mean velocity of the first round. So the template has the sharp structures of one real heart in the
mean place of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage

from ..anatomy.labels import Anatomy, Grid
from ..anatomy.moments import measure_labels
from ..label_maps.picture import write_picture
from ..metrics.overlap import dice, surface_distance_mm
from ..runtime import artifacts, batch_runner
from ..runtime.batch_runner import Task
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome, ending_of
from . import flow, registration
from .flow import Lattice
from .hearts import near_chambers, poses, read_prepared, turned_labels
from .registration import LEVELS, Level
from .template import SoftTemplate

FIRST_ROUND = LEVELS[:3]  # the mean place needs no finer levels
BLURRED_VOXELS = 4
LEAST_START, LEAST_END = 0.02, 0.4  # Dice of a vessel before and after, below which it is not matched


@dataclass(frozen=True)
class Target:
    """What hearts are registered to, loaded once per process: labels (X, Y, Z), and how."""

    labels: np.ndarray
    soft: registration.Heart
    template: SoftTemplate
    anatomy: Anatomy
    grid: Grid
    levels: tuple[Level, ...]
    weights: torch.Tensor  # (K + 1,)
    reach_mm: float  # of vessels that are matched, where they are cut
    least_overlap: float


def open_target(
    path: str, anatomy: Anatomy, grid: Grid, levels, weights: dict[str, float], reach_mm, least_overlap
) -> Target:
    """Initializer of a worker. weights: of structures by name, 1 where none is given."""
    torch.set_num_threads(1)
    labels = read_prepared(path, anatomy)
    of_label = torch.tensor([1.0, *(weights.get(name, 1.0) for name in anatomy.structures)])
    return Target(
        labels,
        registration.soft_labels(labels, anatomy, levels),
        SoftTemplate.of(labels, anatomy, grid),
        anatomy,
        grid,
        levels,
        of_label,
        reach_mm,
        least_overlap,
    )


def work(t: Target, path: Path, payload: tuple[str, list, bool]) -> dict:
    """Register one prepared heart; writes its velocity and returns how well it matches.

    payload: its file, the rotation (3, 3) that turns it onto the template, and whether its vessels are cut
    elsewhere. Raises SubjectError where it does not register.
    """
    source, rotation, cut = payload
    grid, anatomy = t.grid, t.anatomy
    labels = turned_labels(read_prepared(source, anatomy), np.array(rotation), grid, anatomy)
    cared = near_chambers(labels, anatomy, grid, t.reach_mm) if cut else np.ones(labels.shape, dtype=bool)
    heart = registration.soft_labels(labels, anatomy, t.levels)
    cells = Lattice.of(grid, registration.CELL)
    # What lies elsewhere would only push the template's away, as far as its blurred labels reach: a vessel
    # that another data set cuts, or that goes another way. The chambers must match.
    vessels = [k for k in range(1, anatomy.n_channels) if anatomy.structures[k - 1] not in anatomy.centred_on]
    vessels = [k for k in vessels if (labels == k).any() and (t.labels == k).any()]
    start = dice(np.where(cared, t.labels, 0), np.where(cared, labels, 0), anatomy)
    apart, more = [], [k for k in vessels if start[k - 1] < LEAST_START]
    while True:
        apart += more
        elsewhere = np.isin(labels, apart) | np.isin(t.labels, apart)
        matched = cared & ~ndimage.binary_dilation(elsewhere, iterations=BLURRED_VOXELS)
        velocity = registration.register(t.soft, heart, grid, t.weights, t.levels, matched)
        displacement = flow.exponential(velocity, cells)
        warped = t.template.labels(displacement)
        seen = [np.where(matched, one, 0) for one in (warped, labels)]
        overlap = dice(*seen, anatomy)
        more = [k for k in vessels if k not in apart and overlap[k - 1] < LEAST_END]
        if not more:
            break
    distance = surface_distance_mm(*seen, anatomy, grid.spacing_mm)
    for k in apart:
        overlap[k - 1] = distance[k - 1] = np.nan
    chambers = [anatomy.label(name) - 1 for name in anatomy.centred_on]
    if np.nanmean(overlap[chambers]) < t.least_overlap:
        worst = min(chambers, key=lambda k: overlap[k])
        picture = refused_picture(path)
        picture.parent.mkdir(exist_ok=True)
        write_picture(picture, labels, anatomy, warped)
        raise SubjectError(
            "does not register",
            f"mean Dice of the chambers {np.nanmean(overlap[chambers]):.2f} after registration, least "
            f"allowed {t.least_overlap:g}; {anatomy.structures[worst]} {overlap[worst]:.2f}",
        )
    with artifacts.atomic_path(path) as temporary:
        save_file({"velocity": velocity.half().contiguous()}, temporary)
    return {
        "verdict": Outcome.ACCEPTED,
        "reason": "",
        "dice": dict(zip(anatomy.structures, overlap.tolist(), strict=True)),
        "surface_distance_mm": dict(zip(anatomy.structures, distance.tolist(), strict=True)),
        "not_matched": [anatomy.structures[k - 1] for k in apart],
        "least_jacobian": float(flow.jacobian(displacement, cells).min()),
        "largest_velocity_mm": float(velocity.norm(dim=0).max()),
        "rotation": np.asarray(rotation).tolist(),
    }


def refused_picture(path: Path) -> Path:
    """Of a heart whose velocity would be at `path`: the heart, and below it the template moved onto it."""
    return path.parent.with_name("refused") / f"{path.stem}.png"


def run(
    folder: Path, target: str, table: pd.DataFrame, rotations: np.ndarray, anatomy: Anatomy, grid: Grid,
    levels: tuple[Level, ...], weights: dict[str, float], reach_mm: float, least_overlap: float,
    library: str, threads: int,
) -> list[dict]:  # fmt: skip
    """Records of the hearts of `table` (hearts.tsv) registered to the label map `target`, in `folder`."""
    made_of = artifacts.digest(
        [library, artifacts.sha256(target), weights, reach_mm, least_overlap, len(levels)]
    )
    tasks = []
    for row, rotation in zip(table.itertuples(), rotations, strict=True):
        inputs = artifacts.digest([made_of, row.sha256, rotation.tolist(), bool(row.cut_vessels)])
        payload = (row.path, rotation.tolist(), bool(row.cut_vessels))
        tasks.append(Task(row.subject, f"{row.subject}.safetensors", inputs, payload))
    initargs = (str(target), anatomy, grid, levels, weights, reach_mm, least_overlap)
    return batch_runner.run_batch(folder, tasks, work, threads, open_target, initargs)


def table(records: list[dict], hearts: pd.DataFrame, anatomy: Anatomy) -> pd.DataFrame:
    """registrations.tsv: one row per heart with its overlap, its surface distances and its flow."""
    rows = []
    for record, heart in zip(records, hearts.itertuples(), strict=True):
        row = {"subject": heart.subject, "use": heart.use, "verdict": record["verdict"]}
        row["reason"] = ending_of(record).text
        for name in anatomy.structures:
            row[f"dice_{name}"] = record.get("dice", {}).get(name)
        for name in anatomy.structures:
            row[f"distance_{name}_mm"] = record.get("surface_distance_mm", {}).get(name)
        row["not_matched"] = ",".join(record.get("not_matched", []))
        row["least_jacobian"] = record.get("least_jacobian")
        row["largest_velocity_mm"] = record.get("largest_velocity_mm")
        row["rotation"] = ",".join(f"{value:.6g}" for value in np.ravel(record.get("rotation", [])))
        rows.append(row | artifacts.listed_in(record))
    return pd.DataFrame(rows)


def onto(
    template: np.ndarray, labels: np.ndarray, anatomy: Anatomy, grid: Grid, levels: tuple[Level, ...]
) -> tuple[np.ndarray, torch.Tensor]:
    """Rotation (3, 3) of a heart onto a template, labels (X, Y, Z) each, and the template's velocity onto it.

    All structures weigh the same.
    """
    groups = [(k,) for k in range(1, anatomy.n_channels)]
    own, reference = (measure_labels(one, groups, grid.axes_mm()).centroid_mm for one in (labels, template))
    both = np.isfinite(own).all(axis=1) & np.isfinite(reference).all(axis=1)
    own, reference = (np.where(both[:, None], one, 0.0) for one in (own, reference))
    rotation = poses(own[None], reference, anatomy)[0]
    turned = turned_labels(labels, rotation, grid, anatomy)
    soft = (registration.soft_labels(one, anatomy, levels) for one in (template, turned))
    return rotation, registration.register(*soft, grid, torch.ones(anatomy.n_channels), levels)


def read_velocity(path: str | Path) -> np.ndarray:
    """Velocity (3, x, y, z) mm float32 of a registered heart."""
    return load_file(path)["velocity"].float().numpy()


def mean_velocity(paths: Sequence[Path]) -> np.ndarray:
    """Mean (3, x, y, z) mm of the velocities of registered hearts, read one at a time."""
    total = np.zeros_like(read_velocity(paths[0]))
    for path in paths:
        total += read_velocity(path)
    return total / np.float32(len(paths))


def moved(labels: np.ndarray, velocity: np.ndarray, anatomy: Anatomy, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) uint8 of a heart after the flow of a velocity (3, x, y, z) mm, centred on the
    origin.
    """
    cells = Lattice.of(grid, registration.CELL)
    displacement = flow.exponential(torch.from_numpy(velocity), cells)
    soft = SoftTemplate.of(labels, anatomy, grid)
    warped = soft.labels(displacement)
    heart = tuple(anatomy.label(name) for name in anatomy.centred_on)
    centre_mm = measure_labels(warped, [heart], grid.axes_mm()).centroid_mm[0]
    shift = torch.from_numpy(centre_mm).float()[:, None, None, None]
    shifted = shift + flow.sample(displacement, cells.centres_mm + shift, cells, border=True)
    return soft.labels(shifted)


def cells_of(labels: np.ndarray) -> np.ndarray:
    """The share (x, y, z) of structures in registration's cells."""
    filled = torch.from_numpy((labels > 0).astype(np.float32))[None, None]
    return torch.nn.functional.avg_pool3d(filled, registration.CELL)[0, 0].numpy()
