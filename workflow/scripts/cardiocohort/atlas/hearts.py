"""Label maps of an atlas: on one grid, in one pose, with the same structures (atlas stage)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .. import topology
from ..anatomy import moments
from ..anatomy.label_map import read_label_map, write_label_map
from ..anatomy.labels import Anatomy, Grid
from ..label_maps.on_grid import read_on_grid
from ..label_maps.reading import Convention
from ..runtime.errors import InputError, SubjectError
from ..runtime.outcomes import Outcome
from . import flow
from .flow import Lattice

FEWEST = 3  # hearts of an atlas: two give one mode, and nothing to leave out


@dataclass(frozen=True)
class Source:
    """What a worker process needs to prepare hearts."""

    anatomy: Anatomy
    grid: Grid
    rules: topology.Rules
    convention: Convention


def open_source(anatomy: Anatomy, grid: Grid, rules_path: str, convention: Convention) -> Source:
    """Initializer of a worker."""
    return Source(anatomy, grid, topology.load_rules(rules_path, anatomy), convention)


def prepare(s: Source, path: Path, payload: tuple[str]) -> dict:
    """Write a user's label map on the grid, repaired within the gate's bounds; returns moments and changes.

    SubjectError for a map that cannot be used. The gate does not decide: a vessel that the scan cuts is no
    reason to leave a heart out.
    """
    (source,) = payload
    labels, changes = read_on_grid(source, s.anatomy, s.grid, s.rules, s.convention)
    labels, repairs = topology.repair(labels, s.grid.spacing_mm, s.anatomy, s.rules)
    write_label_map(path, labels, s.grid)
    measured = moments.measure_labels(
        labels, [(k,) for k in range(1, s.anatomy.n_channels)], s.grid.axes_mm()
    )
    columns = {name: values.tolist() for name, values in moments.to_columns(measured).items()}
    return {"verdict": Outcome.ACCEPTED, "reason": "", "changes": [*changes, *repairs], "moments": columns}


def common_structures(volumes_ml: dict[str, np.ndarray], anatomy: Anatomy) -> tuple[list[str], dict[str, str]]:
    """Structures that more than half of the hearts have, and why hearts that lack one of these are left out.

    volumes_ml: (K,) by subject. Raises InputError for too few hearts.
    """
    there = {subject: volumes > 0 for subject, volumes in volumes_ml.items()}
    if len(there) < FEWEST:
        raise InputError(f"an atlas needs {FEWEST} hearts or more; there are {len(there)}")
    share = np.mean(list(there.values()), axis=0)
    common = [name for name, part in zip(anatomy.structures, share, strict=True) if part > 0.5]
    left_out = {}
    for subject, has in there.items():
        lacking = [name for name in common if not has[anatomy.label(name) - 1]]
        if lacking:
            left_out[subject] = f"lacks {', '.join(lacking)}, which most of the hearts have"
    if len(there) - len(left_out) < FEWEST:
        raise InputError(
            f"an atlas needs {FEWEST} hearts or more with the same structures; there are "
            f"{len(there) - len(left_out)} of {len(there)} ({'; '.join(left_out.values())})"
        )
    return common, left_out


def pose(centroids_mm: np.ndarray, reference_mm: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) that turns structures with centroids (K, 3) about the origin onto a reference (K, 3).

    Weighted rigid registration without a shift (Kabsch 1976): both are about the heart's centre.
    """
    u, _, vt = np.linalg.svd((weights[:, None] * centroids_mm).T @ reference_mm)
    sign = np.linalg.det(u @ vt)
    return (u @ np.diag([1.0, 1.0, sign]) @ vt).T


def medoid(centroids_mm: np.ndarray, volumes_ml: np.ndarray) -> int:
    """The heart (N, K, 3), (N, K) with the least sum of distances to all others, in centroid and size."""
    features = np.concatenate([centroids_mm, 10.0 * np.cbrt(volumes_ml)[..., None] / 10.0], axis=-1)
    flat = features.reshape(len(features), -1)
    return int(np.linalg.norm(flat[:, None] - flat[None], axis=-1).sum(axis=1).argmin())


def turned(soft: torch.Tensor, rotation: np.ndarray, grid: Grid) -> torch.Tensor:
    """Soft labels (K + 1, X, Y, Z) of a heart turned by `rotation` (3, 3) about the origin."""
    voxels = Lattice.of(grid, 1)
    inverse = torch.from_numpy(rotation.T.copy()).float()
    where = torch.einsum("ij,jxyz->ixyz", inverse, voxels.centres_mm)
    out = flow.sample(soft, where, voxels)
    out[0] += 1.0 - out.sum(0)
    return out


def read_heart_file(path: str | Path, anatomy: Anatomy) -> np.ndarray:
    """Labels (X, Y, Z) of a prepared heart."""
    labels = read_label_map(path, anatomy).labels
    if not labels.any():
        raise SubjectError("empty label map")
    return labels
