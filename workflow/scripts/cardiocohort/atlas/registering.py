"""The hearts of an atlas, registered one by one (atlas stage).

In two rounds: to the heart that lends the template its form, and to the template, which is that heart moved by the
mean velocity of the first round. So the template has the sharp structures of one real heart in the mean place of all.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..anatomy.labels import Anatomy, Grid
from ..metrics.overlap import dice, surface_distance_mm
from ..runtime import artifacts
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome
from . import flow, registration
from .flow import Lattice
from .hearts import near_chambers, read_prepared, turned_labels
from .registration import LEVELS, Level

FIRST_ROUND = LEVELS[:3]  # the mean place needs no finer levels
LEAST_START = 0.02  # Dice: a structure that overlaps less at the start cannot be matched


@dataclass(frozen=True)
class Target:
    """What hearts are registered to, loaded once per process: labels (X, Y, Z), and how."""

    labels: np.ndarray
    soft: registration.Heart
    one_hot: torch.Tensor
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
        flow.one_hot(labels, anatomy.n_channels, flow.TEMPLATE_SIGMA),
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
    start = dice(np.where(cared, t.labels, 0), np.where(cared, labels, 0), anatomy)
    there = [bool((labels == k).any() and (t.labels == k).any()) for k in range(1, anatomy.n_channels)]
    # what lies elsewhere would only push the template's away
    apart = [k for k in range(1, anatomy.n_channels) if there[k - 1] and start[k - 1] < LEAST_START]
    cared &= ~(np.isin(labels, apart) | np.isin(t.labels, apart))
    heart = registration.soft_labels(labels, anatomy, t.levels)
    velocity = registration.register(t.soft, heart, grid, t.weights, t.levels, cared)
    cells = Lattice.of(grid, registration.CELL)
    displacement = flow.exponential(velocity, cells)
    warped = registration.warped(t.one_hot, displacement, grid)
    seen = [np.where(cared, one, 0) for one in (warped, labels)]
    overlap, distance = dice(*seen, anatomy), surface_distance_mm(*seen, anatomy, grid.spacing_mm)
    chambers = [anatomy.label(name) - 1 for name in anatomy.centred_on]
    if overlap[chambers].mean() < t.least_overlap:
        worst = min(chambers, key=lambda k: overlap[k])
        raise SubjectError(
            "does not register",
            f"mean Dice of {', '.join(anatomy.centred_on)} {overlap[chambers].mean():.2f} after registration, "
            f"least allowed {t.least_overlap:g}; {anatomy.structures[worst]} {overlap[worst]:.2f}",
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


def read_velocity(path: str | Path) -> np.ndarray:
    """Velocity (3, x, y, z) mm float32 of a registered heart."""
    return load_file(path)["velocity"].float().numpy()


def moved(labels: np.ndarray, velocity: np.ndarray, anatomy: Anatomy, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) uint8 of a heart after the flow of a velocity (3, x, y, z) mm."""
    displacement = flow.exponential(torch.from_numpy(velocity), Lattice.of(grid, registration.CELL))
    soft = flow.one_hot(labels, anatomy.n_channels, flow.TEMPLATE_SIGMA)
    return registration.warped(soft, displacement, grid)
