"""How good a shape model is: compactness, generalisation, specificity (atlas stage).

The three figures of Davies, Twining and Taylor (Statistical Models of Shape, 2008), each against the number
of modes.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from ..anatomy.labels import Anatomy, Grid
from ..metrics.overlap import dice, surface_distance_mm
from ..runtime import artifacts
from ..runtime.batch_runner import Task
from ..runtime.outcomes import Outcome
from . import flow, registration
from .flow import Lattice
from .model import Drawer, ShapeModel, fit

COUNTS = (0, 1, 2, 4, 6, 9, 12, 16, 20, 30, 50)  # modes
MOST_HEARTS = 30  # that are left out one by one, and that samples are compared with
LEFT_OUT, SAMPLE = "left_out", "sample"
COLUMNS = {
    "generalisation": ("subject", "modes", "structure", "dice", "distance_mm"),
    "specificity": ("sample", "modes", "nearest_mm", "least_jacobian"),
}


def compactness(model: ShapeModel) -> pd.DataFrame:
    """Variance of each mode, its share of all, and the share of the modes up to it."""
    share = model.variances / max(model.variances.sum(), 1e-12)
    return pd.DataFrame(
        {
            "modes": np.arange(1, len(share) + 1),
            "sd": np.sqrt(model.variances),
            "sd_shrunk": model.deviations,
            "share": share,
            "cumulative": share.cumsum(),
        }
    )


@dataclass(frozen=True)
class Rated:
    """A model and what it is made of: velocities (N, 3, x, y, z) mm, and labels (X, Y, Z) in the template's
    pose of the hearts to measure on, by their place in the list (`rated`).
    """

    model: ShapeModel
    velocities: np.ndarray
    hearts: dict[int, np.ndarray]
    anatomy: Anatomy
    grid: Grid

    @cached_property
    def drawer(self) -> Drawer:
        return Drawer(self.model, self.anatomy, self.grid)

    @cached_property
    def chambers(self) -> list[int]:
        return [self.anatomy.label(name) for name in self.anatomy.centred_on]

    @cached_property
    def real(self) -> list[list[np.ndarray]]:
        """Distances from the surfaces of the hearts' chambers."""
        return [_distances(labels, self.chambers, self.grid) for labels in self.hearts.values()]


def open_rated(*parts) -> Rated:
    """Initializer of a worker; one thread, so that figures do not depend on their number."""
    torch.set_num_threads(1)
    return Rated(*parts)


def tasks(subjects: list[str], samples: int, seed: int, inputs: str) -> list[Task]:
    """One task per left-out heart and per random heart, for `batch_runner.run_batch`.

    Of more than MOST_HEARTS subjects, as many spread over the list are left out.
    """
    left_out = [(LEFT_OUT, i, subjects[i]) for i in rated(len(subjects))]
    drawn = [(SAMPLE, index, seed) for index in range(samples)]
    named = {f"{LEFT_OUT}-{payload[2]}": payload for payload in left_out}
    named |= {f"{SAMPLE}-{payload[1]:04d}": payload for payload in drawn}
    return [
        Task(name, f"{name}.tsv", artifacts.digest([inputs, name, payload]), payload)
        for name, payload in named.items()
    ]


def work(r: Rated, path: Path, payload: tuple) -> dict:
    """Write the rows of one task, which are also in its record."""
    kind, index, of = payload
    rows = rebuilt(r, index, of) if kind == LEFT_OUT else drawn(r, index, of)
    with artifacts.atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, sep="\t", index=False)
    return {"verdict": Outcome.ACCEPTED, "reason": "", "rows": rows}


def tables(records: list[dict]) -> dict[str, pd.DataFrame]:
    """generalisation.tsv and specificity.tsv of the records of `work`."""
    kinds = {"generalisation": LEFT_OUT, "specificity": SAMPLE}
    return {
        name: pd.DataFrame(
            [row for record in records if record["subject"].startswith(kind) for row in record["rows"]],
            columns=COLUMNS[name],
        )
        for name, kind in kinds.items()
    }


def rebuilt(r: Rated, left_out: int, name: str) -> list[dict]:
    """Generalisation: one heart rebuilt from the modes of all others, Dice and surface distance by their
    number.

    Only the modes leave the heart out. The template and the registrations have seen it.
    """
    others = np.arange(len(r.velocities)) != left_out
    reduced = fit(r.velocities[others], r.model.template, r.model.rotations[others], r.grid, r.model.cell)
    drawer, rows = Drawer(reduced, r.anatomy, r.grid), []
    own = torch.from_numpy(r.velocities[left_out]).float()
    coefficients = reduced.coefficients(flow.upsampled(own, reduced.mean.shape[1:]).numpy())
    for count in _counts(len(coefficients)):
        labels = drawer.labels(coefficients[:count])
        overlap = dice(labels, r.hearts[left_out], r.anatomy)
        distance = surface_distance_mm(labels, r.hearts[left_out], r.anatomy, r.grid.spacing_mm)
        for k, structure in enumerate(r.anatomy.structures):
            values = (name, count, structure, float(overlap[k]), float(distance[k]))
            rows.append(dict(zip(COLUMNS["generalisation"], values, strict=True)))
    return rows


def drawn(r: Rated, sample: int, seed: int) -> list[dict]:
    """Specificity: how far a random heart of the model lies from the nearest real one, by number of modes.

    The distance is the mean over the surfaces of the structures that the anatomy is centred on, from the
    sample to the real heart. The sample's least Jacobian stands beside it.
    """
    cells, rows = Lattice.of(r.grid, registration.CELL), []
    coefficients = r.model.draw(np.random.default_rng(np.random.SeedSequence([seed, sample])))
    for count in _counts(len(coefficients))[1:]:
        displacement = r.model.displacement(coefficients[:count], r.grid)
        labels = r.drawer.template.labels(displacement)
        surfaces = [_surface(labels == k) for k in r.chambers]
        means = [
            np.mean([d[*at].mean() for d, at in zip(each, surfaces, strict=True) if len(at[0])])
            for each in r.real
        ]
        values = (sample, count, float(min(means)), float(flow.jacobian(displacement, cells).min()))
        rows.append(dict(zip(COLUMNS["specificity"], values, strict=True)))
    return rows


def _counts(modes: int) -> list[int]:
    return [count for count in COUNTS if count < modes] + [modes]


def rated(n: int) -> list[int]:
    """Places of up to MOST_HEARTS of n hearts, spread over the list, that quality is measured on."""
    return np.linspace(0, n - 1, min(n, MOST_HEARTS)).round().astype(int).tolist()


def _surface(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of a structure's outermost voxels."""
    return np.where(mask & ~ndimage.binary_erosion(mask))


def _distances(labels: np.ndarray, chambers: list[int], grid: Grid) -> list[np.ndarray]:
    """Of every voxel (X, Y, Z) from the outermost voxels of each structure, mm."""
    out = []
    for k in chambers:
        surface = np.ones(labels.shape, dtype=bool)
        surface[_surface(labels == k)] = False
        out.append((ndimage.distance_transform_edt(surface) * grid.spacing_mm).astype(np.float32))
    return out
