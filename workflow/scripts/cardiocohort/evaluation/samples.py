"""Sets of hearts as the figures need them: moments, targets, verdicts, label maps (evaluation stage)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.label_map import read_label_map
from ..anatomy.labels import Anatomy, Grid
from ..anatomy.moments import MOMENT_COLUMNS, Moments, from_columns
from ..runtime import artifacts, tables
from ..runtime.errors import InputError
from . import chamfer, features, table_columns
from .arms import Arm


@dataclass(frozen=True)
class Hearts:
    """N hearts with K structures: moments (N, K), and which have all structures, (N,) bool.

    listed: (path, size, sha256) of each label map; the path is empty where there is none.
    """

    moments: Moments
    complete: np.ndarray
    listed: tuple[tuple[str, int, str], ...]

    def __len__(self) -> int:
        return len(self.complete)

    def first(self, n: int) -> "Hearts":
        """The first `n` of them, or all if they are fewer."""
        return Hearts(self.moments[:n], self.complete[:n], self.listed[:n])

    def features(self) -> np.ndarray:
        """Feature vectors (N, D); NaN for hearts that are not complete."""
        out = np.full((len(self), 9 * self.moments.volume_ml.shape[1]), np.nan)
        out[self.complete] = features.vectors(self.moments[self.complete])
        return out

    def clouds(self, anatomy: Anatomy, grid: Grid) -> np.ndarray:
        """Clouds (N, K, P, 3); zeros for hearts that are not complete.

        Raises InputError for a label map that is not the one its table lists.
        """
        out = np.zeros((len(self), len(anatomy.structures), chamfer.POINTS, 3), np.float32)
        for i in np.flatnonzero(self.complete):
            labels = read_label_map(artifacts.check_file(*self.listed[i]), anatomy).labels
            out[i] = chamfer.surface_points(labels, anatomy, grid)
        return out


@dataclass(frozen=True)
class Samples:
    """The samples of one arm: hearts, their targets (N, K) and rows (tables of `sampling.table`).

    raw_causes and causes: the rules of the gate that each sample breaks, before and after the bounded
    repairs, or the reason that there is none (`sampling.table`).
    """

    arm: Arm
    hearts: Hearts
    targets: Moments
    rows: pd.DataFrame
    raw_causes: tuple[tuple[str, ...], ...]
    causes: tuple[tuple[str, ...], ...]


def read_samples(path: str | Path, arm: Arm) -> Samples:
    """The samples behind an arm's table; InputError for a table of before the causes had columns."""
    names = ("raw_causes", "causes")
    rows = tables.read_table(path, {k: v for k, v in table_columns.SAMPLES.items() if k not in names})
    if not set(names) <= set(rows):
        raise InputError(
            f"{path}: an older version wrote this table, without the columns {' and '.join(names)}; "
            "delete it, and the next run samples this arm again"
        )
    first = rows.drop_duplicates("sample")
    targets = {name: rows[f"target_{name}"] for name in MOMENT_COLUMNS}
    causes = (tuple(tuple(json.loads(text)) for text in first[name]) for name in names)
    return Samples(arm, _hearts(rows, first, Path(path)), _moments(targets, len(first)), rows, *causes)


def read_arms(paths: list[str], arms: dict[str, dict]) -> dict[str, Samples]:
    """The samples of all arms by name; `arms` are plain (`Arm.to_dict`), in the order of their tables."""
    pairs = zip(paths, arms.items(), strict=True)
    return {name: read_samples(path, Arm.from_dict(arm)) for path, (name, arm) in pairs}


def read_hearts(path: str | Path) -> dict[str, Hearts]:
    """The sets of hearts of `hearts.table` by name."""
    frame = tables.read_table(path, table_columns.HEARTS)
    sets = {}
    for name, rows in frame.groupby("set", sort=False):
        rows = rows.sort_values("subject", kind="stable")
        sets[name] = _hearts(rows, rows.drop_duplicates("subject"), Path(path))
    return sets


def _hearts(rows: pd.DataFrame, first: pd.DataFrame, table: Path) -> Hearts:
    moments = _moments(rows[list(MOMENT_COLUMNS)].fillna(0.0), len(first))
    listed = tuple(
        (str(table.with_suffix("") / file) if file else "", 0 if pd.isna(size) else int(size), sha256)
        for file, size, sha256 in zip(first["file"], first["size"], first["sha256"], strict=True)
    )
    return Hearts(moments, features.complete(moments), listed)


def _moments(columns, n: int) -> Moments:
    return from_columns({name: np.asarray(columns[name]).reshape(n, -1) for name in MOMENT_COLUMNS})
