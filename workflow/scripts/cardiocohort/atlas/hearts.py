"""Label maps of an atlas: on one grid, in one pose, with the same structures (atlas stage)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from .. import topology
from ..anatomy import moments
from ..anatomy.label_map import LabelMap, read_label_map, write_label_map
from ..anatomy.labels import Anatomy, Grid
from ..label_maps.importing import repaired
from ..label_maps.on_grid import read_on_grid
from ..label_maps.reading import Convention
from ..runtime.errors import InputError
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
    torch.set_num_threads(1)
    return Source(anatomy, grid, topology.load_rules(rules_path, anatomy), convention)


def prepare(s: Source, path: Path, payload: tuple[str]) -> dict:
    """Write a user's label map on the grid, repaired as scans are; returns moments, changes and `whole`.

    `whole` says whether the gate accepts it, with vessels inside the field: only such a heart can lend its
    form to the template. The others are registered all the same. SubjectError for a map that cannot be used.
    """
    (source,) = payload
    labels, changes = read_on_grid(source, s.anatomy, s.grid, s.rules, s.convention)
    label_map, repairs = repaired(LabelMap(labels, s.grid.affine()), s.anatomy, s.grid, s.rules)
    labels = label_map.labels
    write_label_map(path, labels, s.grid)
    present = set(np.unique(labels))
    verdict = topology.examine(labels, s.grid.spacing_mm, s.anatomy, s.rules.holding(present))
    measured = moments.measure_labels(
        labels, [(k,) for k in range(1, s.anatomy.n_channels)], s.grid.axes_mm()
    )
    columns = {name: values.tolist() for name, values in moments.to_columns(measured).items()}
    return {
        "verdict": Outcome.ACCEPTED, "reason": "", "changes": [*changes, *repairs], "moments": columns,
        "whole": verdict.accepted, "not_whole": list(verdict.reasons),
    }  # fmt: skip


def lacking(volumes_ml: dict[str, np.ndarray], anatomy: Anatomy) -> dict[str, str]:
    """Why hearts cannot be in an atlas with the others: what they lack of the structures that most have.

    volumes_ml: (K,) of each subject. Raises InputError where fewer than FEWEST hearts are left.
    """
    if len(volumes_ml) < FEWEST:
        raise InputError(f"an atlas needs {FEWEST} hearts or more; {len(volumes_ml)} can be used")
    there = {subject: volumes > 0 for subject, volumes in volumes_ml.items()}
    common = np.mean(list(there.values()), axis=0) > 0.5
    reasons = {}
    for subject, has in there.items():
        names = [name for name, k in zip(anatomy.structures, common & ~has, strict=True) if k]
        if names:
            reasons[subject] = f"lacks {', '.join(names)}, which most of the hearts have"
    if len(there) - len(reasons) < FEWEST:
        raise InputError(
            f"an atlas needs {FEWEST} hearts or more with the same structures; there are "
            f"{len(there) - len(reasons)} of {len(there)} ({'; '.join(reasons.values())})"
        )
    return reasons


def pose(centroids_mm: np.ndarray, reference_mm: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) that turns structures with centroids (K, 3) about the origin onto a reference (K, 3).

    Weighted rigid registration without a shift (Kabsch 1976): both are about the heart's centre.
    """
    u, _, vt = np.linalg.svd((weights[:, None] * centroids_mm).T @ reference_mm)
    sign = np.linalg.det(u @ vt)
    return (u @ np.diag([1.0, 1.0, sign]) @ vt).T


def medoid(centroids_mm: np.ndarray, volumes_ml: np.ndarray, eligible: np.ndarray) -> int:
    """The eligible heart with the least sum of distances to all: of centroids (N, K, 3) mm, and of the edges of
    cubes with the structures' volumes (N, K) mL.
    """
    features = np.concatenate([centroids_mm, 10.0 * np.cbrt(volumes_ml)[..., None]], axis=-1)
    flat = features.reshape(len(features), -1)
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=-1).sum(axis=1)
    return int(np.where(eligible, apart, np.inf).argmin())


def turned(volume: torch.Tensor, rotation: np.ndarray, grid: Grid) -> torch.Tensor:
    """A volume (C, X, Y, Z) turned by `rotation` (3, 3) about the origin; 0 beyond the field."""
    voxels = Lattice.of(grid, 1)
    back = torch.from_numpy(rotation.T.copy()).float()
    return flow.sample(volume, torch.einsum("ij,jxyz->ixyz", back, voxels.centres_mm), voxels)


def turned_labels(labels: np.ndarray, rotation: np.ndarray, grid: Grid, anatomy: Anatomy) -> np.ndarray:
    """Labels (X, Y, Z) uint8 turned by `rotation` (3, 3) about the origin."""
    soft = turned(flow.one_hot(labels, anatomy.n_channels, flow.TEMPLATE_SIGMA), rotation, grid)
    soft[0] += 1.0 - soft.sum(0)
    return soft.argmax(0).to(torch.uint8).numpy()


def near_chambers(labels: np.ndarray, anatomy: Anatomy, grid: Grid, reach_mm: float) -> np.ndarray:
    """Voxels (X, Y, Z) bool within reach of the structures that the anatomy is centred on.

    Vessels are cut at other lengths in every data set; beyond, there is nothing to match.
    """
    chambers = [anatomy.label(name) for name in anatomy.centred_on]
    return ndimage.distance_transform_edt(~np.isin(labels, chambers)) * grid.spacing_mm <= reach_mm


def read_prepared(path: str | Path, anatomy: Anatomy) -> np.ndarray:
    """Labels (X, Y, Z) of a heart that `prepare` wrote."""
    return read_label_map(path, anatomy).labels
