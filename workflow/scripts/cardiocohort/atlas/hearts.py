"""Label maps of an atlas: on one grid, in one pose, with the same structures (atlas stage)."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from .. import topology
from ..anatomy import moments
from ..anatomy.label_map import LabelMap, read_label_map, write_label_map
from ..anatomy.labels import Anatomy, Grid
from ..label_maps.importing import repaired
from ..label_maps.on_grid import read_on_grid
from ..label_maps.reading import Convention
from ..runtime import artifacts
from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome, ending_of
from . import flow
from .flow import Lattice

ATLAS, LEFT_OUT = "atlas", "left_out"
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
    """Write a user's label map on the grid, repaired as scans are; returns moments, changes and `not_whole`.

    `not_whole` says why the gate does not accept it, vessels inside the field included: such a heart cannot
    lend its form to the template. It is registered all the same. SubjectError for a map that cannot be used.
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
    return {
        "verdict": Outcome.ACCEPTED,
        "reason": "",
        "changes": [*changes, *repairs],
        "volume_ml": np.nan_to_num(measured.volume_ml).tolist(),
        "centroid_mm": np.nan_to_num(measured.centroid_mm).tolist(),
        "not_whole": list(verdict.reasons),
    }


def lacking(volumes_ml: np.ndarray, anatomy: Anatomy) -> list[str]:
    """Why each heart cannot be in an atlas with the others: what it lacks of the structures that most have.

    volumes_ml (N, K). Empty for hearts that can.
    """
    there = np.asarray(volumes_ml) > 0
    common = 2 * there.sum(axis=0) > len(there)
    reasons = []
    for has in there:
        names = [name for name, k in zip(anatomy.structures, common & ~has, strict=True) if k]
        reasons.append(f"lacks {', '.join(names)}, which most of the hearts have" if names else "")
    return reasons


def table(
    records: list[dict], anatomy: Anatomy, leave_out: list[str], cut_vessels: list[str]
) -> pd.DataFrame:
    """hearts.tsv of the records of `prepare`: one row per heart, and what it is used for.

    use: ATLAS, LEFT_OUT (registered, but in no mean and no mode), or empty for a heart that cannot be used.
    """
    usable = [r for r in records if r["verdict"] == Outcome.ACCEPTED]
    missing = dict(
        zip(
            (r["subject"] for r in usable),
            lacking(np.array([r["volume_ml"] for r in usable]).reshape(-1, anatomy.n_channels - 1), anatomy),
            strict=True,
        )
    )
    rows = []
    for r in records:
        reason = ending_of(r).text or missing.get(r["subject"], "")
        use = "" if reason else LEFT_OUT if r["subject"] in leave_out else ATLAS
        rows.append(
            {
                "subject": r["subject"],
                "use": use,
                "verdict": Outcome.REJECTED if reason else Outcome.ACCEPTED,
                "reason": reason,
                "cut_vessels": r["subject"] in cut_vessels,
                "changes": "; ".join(r.get("changes", [])),
                "not_whole": "; ".join(r.get("not_whole", [])),
                **artifacts.listed_in(r),
            }
        )
    out = pd.DataFrame(rows)
    if (out["use"] == ATLAS).sum() < FEWEST:
        refused = out.loc[out["reason"] != "", ["subject", "reason"]].head(3)
        why = "; ".join(f"{row.subject}: {row.reason}" for row in refused.itertuples())
        raise InputError(
            f"{(out['use'] == ATLAS).sum()} of {len(out)} label maps can be in an atlas, which needs "
            f"{FEWEST} or more with the same structures; refused: {why or 'none'}"
        )
    return out


def read_table(path: str | Path) -> pd.DataFrame:
    """hearts.tsv, with the `path` of each heart that can be used; its file is checked against the table."""
    path = Path(path)
    rows = pd.read_csv(path, sep="\t", keep_default_na=False, dtype={"subject": str})
    rows["path"] = [
        str(artifacts.check_file(path.parent / "hearts" / row.file, int(float(row.size)), row.sha256))
        if row.use
        else ""
        for row in rows.itertuples()
    ]
    return rows


def measured(paths: Iterable[str], anatomy: Anatomy, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (N, K) mL and centroids (N, K, 3) mm of prepared hearts; 0 where a structure is not there."""
    groups = [(k,) for k in range(1, anatomy.n_channels)]
    each = [moments.measure_labels(read_prepared(path, anatomy), groups, grid.axes_mm()) for path in paths]
    return (
        np.nan_to_num([m.volume_ml for m in each]),
        np.nan_to_num([m.centroid_mm for m in each]),
    )


def poses(centroids_mm: np.ndarray, reference_mm: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Rotations (N, 3, 3) that turn hearts with centroids (N, K, 3) onto a reference (K, 3).

    Vessels count a quarter: they begin at the chambers, and end where a scan cuts them.
    """
    weights = np.array([1.0 if name in anatomy.centred_on else 0.25 for name in anatomy.structures])
    return np.stack([pose(own, reference_mm, weights) for own in centroids_mm])


def pose(centroids_mm: np.ndarray, reference_mm: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) that turns structures with centroids (K, 3) about the origin onto a reference (K, 3).

    Weighted rigid registration without a shift (Kabsch 1976): both are about the heart's centre.
    """
    u, _, vt = np.linalg.svd((weights[:, None] * centroids_mm).T @ reference_mm)
    sign = np.linalg.det(u @ vt)
    return (u @ np.diag([1.0, 1.0, sign]) @ vt).T


def medoid(centroids_mm: np.ndarray, volumes_ml: np.ndarray, eligible: np.ndarray) -> int:
    """The eligible heart with the least sum of distances to all: of centroids (N, K, 3) mm, and of the
    edges of cubes with the structures' volumes (N, K) mL.
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
    return flow.largest(soft).numpy()


def near_chambers(labels: np.ndarray, anatomy: Anatomy, grid: Grid, reach_mm: float) -> np.ndarray:
    """Voxels (X, Y, Z) bool within reach of the structures that the anatomy is centred on.

    Vessels are cut at other lengths in every data set; beyond, there is nothing to match.
    """
    chambers = [anatomy.label(name) for name in anatomy.centred_on]
    return ndimage.distance_transform_edt(~np.isin(labels, chambers)) * grid.spacing_mm <= reach_mm


def read_prepared(path: str | Path, anatomy: Anatomy) -> np.ndarray:
    """Labels (X, Y, Z) of a heart that `prepare` wrote."""
    return read_label_map(path, anatomy).labels
