"""The atlas: a template, a mean velocity and principal modes about it (atlas stage).

A heart is template(exp(v)) turned by a rotation, v = mean + sum_k c_k mode_k. The modes are those of a
principal component analysis of the velocities, in which voxels far from all structures hardly count. The
variances of their coefficients are shrunk towards their mean as far as left-out hearts ask for it.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import ndimage
from torch.nn.functional import interpolate

from ..anatomy.labels import Anatomy, Grid
from ..runtime import artifacts
from ..runtime.errors import InputError
from . import flow, registration
from .flow import Lattice
from .template import SoftTemplate

MAX_SD = 2.5  # of a mode, in draws
AROUND_MM = 8.0  # voxels farther from every structure do not count in the analysis
LEAST_WEIGHT = 0.01  # theirs
SHRINKAGES = np.linspace(0.0, 0.95, 20)
FEWEST_TO_SHRINK = 4
LEAST_VARIANCE = 1e-9  # of a mode; hearts that are copies of each other leave modes without any
TENSORS = ("template", "mean", "modes", "variances", "rotations")


@dataclass(frozen=True)
class ShapeModel:
    """template (X, Y, Z) labels; mean (3, x, y, z) and modes (M, 3, x, y, z) mm on cells of `cell` voxels,
    modes orthonormal under `weight` (x, y, z); variances (M,) of the coefficients as measured, and by how
    much they are shrunk; rotations (N, 3, 3) of the hearts onto the template.
    """

    template: np.ndarray
    mean: np.ndarray
    modes: np.ndarray
    weight: np.ndarray
    variances: np.ndarray
    shrinkage: float
    cell: int
    rotations: np.ndarray

    @property
    def deviations(self) -> np.ndarray:
        """Standard deviations (M,) of the coefficients after shrinkage."""
        mean = self.variances.mean() if len(self.variances) else 0.0
        return np.sqrt((1 - self.shrinkage) * self.variances + self.shrinkage * mean)

    @property
    def turn_sd_deg(self) -> float:
        """Standard deviation of the hearts' rotations about one axis."""
        angles = np.arccos(np.clip((np.trace(self.rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))
        return float(np.degrees(np.sqrt(np.mean(angles**2) / 3)))

    def velocity(self, coefficients: np.ndarray) -> np.ndarray:
        """Velocity (3, x, y, z) mm for coefficients (m,), m at most M."""
        return self.mean + np.tensordot(coefficients, self.modes[: len(coefficients)], 1)

    def coefficients(self, velocity: np.ndarray) -> np.ndarray:
        """Coefficients (M,) of a velocity (3, x, y, z): its weighted orthogonal projection."""
        return np.einsum("mixyz,ixyz,xyz->m", self.modes, velocity - self.mean, self.weight, optimize=True)

    def displacement(self, coefficients: np.ndarray, grid: Grid) -> torch.Tensor:
        """Where in the template the material of a heart came from, (3, X, Y, Z) mm on registration's
        cells.
        """
        lattice = Lattice.of(grid, registration.CELL)
        field = torch.from_numpy(self.velocity(coefficients)).float()
        return flow.exponential(flow.upsampled(field, lattice.shape), lattice)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Coefficients (M,) of a random heart: normal, each within MAX_SD of its deviation."""
        normal = rng.standard_normal(len(self.variances))
        while (far := np.abs(normal) > MAX_SD).any():
            normal[far] = rng.standard_normal(int(far.sum()))
        return self.deviations * normal


@dataclass(frozen=True)
class Drawer:
    """Hearts of a shape model as label maps."""

    model: ShapeModel
    anatomy: Anatomy
    grid: Grid

    @cached_property
    def template(self) -> SoftTemplate:
        return SoftTemplate.of(self.model.template, self.anatomy, self.grid)

    def labels(self, coefficients: np.ndarray) -> np.ndarray:
        """Labels (X, Y, Z) uint8 of the heart with coefficients (m,), in the template's pose."""
        return self.template.labels(self.model.displacement(coefficients, self.grid))


def fit(
    velocities: np.ndarray, template: np.ndarray, rotations: np.ndarray, grid: Grid, cell: int
) -> ShapeModel:
    """The model of velocities (N, 3, X, Y, Z) mm on registration's cells: N - 1 modes on cells of `cell`
    voxels.
    """
    n, size = len(velocities), Lattice.of(grid, cell).shape
    fields = np.stack([flow.upsampled(torch.from_numpy(v).float(), size).numpy() for v in velocities])
    weight = importance(template, grid, size)
    mean = fields.mean(axis=0, dtype=np.float64)
    centred = fields - mean
    gram = np.einsum("nixyz,mixyz,xyz->nm", centred, centred, weight, optimize=True) / (n - 1)
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1][: n - 1]
    values, vectors = np.maximum(values[order], LEAST_VARIANCE), vectors[:, order]
    scale = np.sqrt(values * (n - 1))
    modes = np.tensordot((vectors / scale).T, centred, 1)
    shrinkage = cross_validated_shrinkage(gram * (n - 1))
    return ShapeModel(
        template,
        mean.astype(np.float32),
        modes.astype(np.float32),
        weight,
        values,
        shrinkage,
        cell,
        rotations,
    )


def cross_validated_shrinkage(gram: np.ndarray) -> float:
    """How far variances are shrunk towards their mean, from 0 to 1: where left-out hearts are most likely.

    gram (N, N): inner products of centred velocities. Each heart in turn is projected onto the modes of all
    others; the score is the normal log-likelihood of its coefficients, up to one scale for all variances: a
    part of every left-out heart lies outside the modes. (Ledoit and Wolf's estimate, made for many dimensions
    of one variance, shrinks the few large modes of a heart to half.)
    """
    n = len(gram)
    if n < FEWEST_TO_SHRINK:
        return 0.0
    variances, squares = [], []
    for i in range(n):
        others = np.arange(n) != i
        inner, cross = gram[np.ix_(others, others)], gram[others, i]
        mean = inner.mean(axis=0)
        centred = inner - mean[None] - mean[:, None] + mean.mean()
        values, vectors = np.linalg.eigh(centred / (n - 2))
        values, vectors = values[::-1][: n - 2], vectors[:, ::-1][:, : n - 2]
        values = np.maximum(values, LEAST_VARIANCE)
        coefficients = (vectors / np.sqrt(values * (n - 2))).T @ (cross - cross.mean() - mean + mean.mean())
        variances.append(values)
        squares.append(coefficients**2)
    variances, squares = np.array(variances), np.array(squares)
    scores = []
    for shrinkage in SHRINKAGES:
        shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean(axis=1, keepdims=True)
        scores.append(-np.log(shrunk).mean() - np.log((squares / shrunk).mean()))
    return float(SHRINKAGES[np.argmax(scores)])


def importance(template: np.ndarray, grid: Grid, size: tuple[int, int, int]) -> np.ndarray:
    """Weight (x, y, z) of velocity cells: 1 about the structures of a template (X, Y, Z), little
    elsewhere.
    """
    near = ndimage.distance_transform_edt(template == 0) * grid.spacing_mm <= AROUND_MM
    cells = interpolate(torch.from_numpy(near.astype(np.float32))[None, None], size=size, mode="area")
    return np.maximum(cells[0, 0].numpy(), LEAST_WEIGHT)


def save(model: ShapeModel, path: str | Path, anatomy: Anatomy, grid: Grid, card: dict) -> None:
    """Write the model as one safetensors file, fields as float16; its header says what it is made of
    (`card`).
    """
    tensors = {
        "template": model.template.astype(np.uint8),
        "mean": model.mean.astype(np.float16),
        "modes": model.modes.astype(np.float16),
        "variances": model.variances.astype(np.float64),
        "rotations": model.rotations.astype(np.float32),
    }
    about = {
        "structures": list(anatomy.structures),
        "spacing_mm": grid.spacing_mm,
        "shrinkage": model.shrinkage,
        "cell": model.cell,
    }
    with artifacts.atomic_path(path) as temporary:
        save_file(tensors, temporary, {"atlas": json.dumps(about | card)})


def load(path: str | Path, anatomy: Anatomy, grid: Grid) -> tuple[ShapeModel, dict]:
    """The model of a file that `save` wrote, and its card.

    InputError names a file that is none, and one of another anatomy or grid than these.
    """
    try:
        with safe_open(path, "numpy") as file:
            card = json.loads((file.metadata() or {})["atlas"])
            tensors = {name: file.get_tensor(name) for name in TENSORS}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path}: no atlas of hearts ({error}); `snakemake atlas` makes one") from error
    if tuple(card["structures"]) != anatomy.structures:
        raise InputError(
            f"{path}: an atlas of the structures {', '.join(card['structures'])}; the anatomy has "
            f"{', '.join(anatomy.structures)}"
        )
    template, mean = tensors["template"], tensors["mean"].astype(np.float32)
    if template.shape != tuple(grid.shape) or card["spacing_mm"] != grid.spacing_mm:
        raise InputError(
            f"{path}: an atlas on {template.shape} voxels of {card['spacing_mm']:g} mm; the anatomy's grid "
            f"has {tuple(grid.shape)} of {grid.spacing_mm:g} mm"
        )
    model = ShapeModel(
        template,
        mean,
        tensors["modes"].astype(np.float32),
        importance(template, grid, mean.shape[1:]),
        tensors["variances"],
        float(card["shrinkage"]),
        int(card["cell"]),
        tensors["rotations"],
    )
    return model, card
