"""The atlas: a mean velocity and principal modes about it (atlas stage).

Hearts are template(exp(v)) turned by a rotation, v = mean + sum_k c_k mode_k. The modes are those of a principal
component analysis of the velocities; the variances of their coefficients are shrunk towards their mean (Ledoit and Wolf
2004), since with few hearts the first modes look larger and the last ones smaller than they are.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from sklearn.covariance import ledoit_wolf_shrinkage

from ..anatomy.labels import Grid
from ..runtime import artifacts
from . import flow
from .flow import Lattice
from .registration import CELL

MAX_SD = 2.5  # of a mode, in draws


@dataclass(frozen=True)
class ShapeModel:
    """mean (3, x, y, z) and modes (M, 3, x, y, z) in mm on cells of `cell` voxels; variances (M,) of the modes'
    coefficients as measured, `shrinkage` of them towards their mean."""

    mean: np.ndarray
    modes: np.ndarray
    variances: np.ndarray
    shrinkage: float
    cell: int

    @property
    def deviations(self) -> np.ndarray:
        """Standard deviations (M,) of the coefficients after shrinkage."""
        shrunk = (1 - self.shrinkage) * self.variances + self.shrinkage * self.variances.mean()
        return np.sqrt(shrunk)

    def velocity(self, coefficients: np.ndarray, grid: Grid) -> torch.Tensor:
        """Velocity (3, X, Y, Z) mm on registration's cells for coefficients (m,), m at most M."""
        field = self.mean + np.tensordot(coefficients, self.modes[: len(coefficients)], 1)
        return flow.upsampled(torch.from_numpy(field).float(), Lattice.of(grid, CELL).shape)

    def coefficients(self, velocity: np.ndarray) -> np.ndarray:
        """Coefficients (M,) of a velocity on the model's cells: its orthogonal projection."""
        return (self.modes.reshape(len(self.modes), -1) * (velocity - self.mean).ravel()).sum(axis=1)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Coefficients (M,) of a random heart: normal, each within MAX_SD of its deviation."""
        normal = rng.standard_normal(len(self.variances))
        while (far := np.abs(normal) > MAX_SD).any():
            normal[far] = rng.standard_normal(int(far.sum()))
        return self.deviations * normal


def fit(velocities: np.ndarray, cell: int) -> ShapeModel:
    """The model of velocities (N, 3, x, y, z) mm on cells of `cell` voxels: N - 1 modes."""
    n = len(velocities)
    mean = velocities.mean(axis=0)
    centred = (velocities - mean).reshape(n, -1).astype(np.float64)
    values, vectors = np.linalg.eigh(centred @ centred.T / (n - 1))
    order = np.argsort(values)[::-1][: n - 1]
    values, vectors = np.maximum(values[order], 0.0), vectors[:, order]
    scale = np.sqrt(np.maximum(values * (n - 1), 1e-12))
    modes = (vectors / scale).T @ centred
    scores = centred @ modes.T
    return ShapeModel(
        mean.astype(np.float32),
        modes.reshape(n - 1, *mean.shape).astype(np.float32),
        values,
        float(ledoit_wolf_shrinkage(scores, assume_centered=True)) if n > 2 else 0.0,
        cell,
    )


def save(model: ShapeModel, path: str | Path, card: dict) -> None:
    """Write the model as safetensors, fields as float16, with `card` in its metadata."""
    fields = {"mean": model.mean.astype(np.float16), "modes": model.modes.astype(np.float16)}
    about = {"shrinkage": model.shrinkage, "cell": model.cell} | card
    with artifacts.atomic_path(path) as temporary:
        save_file(fields | {"variances": model.variances}, temporary, {"atlas": json.dumps(about)})


def load(path: str | Path) -> ShapeModel:
    """Read a model that `save` wrote."""
    from safetensors import safe_open

    fields = load_file(path)
    with safe_open(path, "numpy") as handle:
        about = json.loads(handle.metadata()["atlas"])
    return ShapeModel(
        fields["mean"].astype(np.float32), fields["modes"].astype(np.float32), fields["variances"],
        about["shrinkage"], about["cell"],
    )  # fmt: skip
