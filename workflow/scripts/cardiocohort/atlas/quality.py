"""How good a shape model is: compactness, generalisation, specificity (atlas stage).

The three figures of Davies, Twining and Taylor (Statistical Models of Shape, 2008), each against the number
of modes.
"""

import logging

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from ..anatomy.labels import Anatomy, Grid
from ..metrics.overlap import dice, surface_distance_mm
from . import flow, registration
from .flow import Lattice
from .model import Drawer, ShapeModel, fit

log = logging.getLogger(__name__)
COUNTS = (0, 1, 2, 4, 6, 9, 12, 16, 20, 30, 50)  # modes
MOST_HEARTS = 30  # that are left out one by one, and that samples are compared with


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


def generalisation(
    velocities: np.ndarray,
    hearts: list[np.ndarray],
    names: list[str],
    model: ShapeModel,
    a: Anatomy,
    grid: Grid,
) -> pd.DataFrame:
    """Every heart rebuilt from the modes of all others: Dice and surface distance by number of modes.

    velocities (N, 3, X, Y, Z) mm on registration's cells; hearts: labels (X, Y, Z) in the template's pose,
    and their names. Of more than MOST_HEARTS hearts, as many spread over the list are left out.
    """
    n, rows = len(hearts), []
    for i in _spread(n, MOST_HEARTS):
        others = np.arange(n) != i
        reduced = fit(velocities[others], model.template, model.rotations[others], grid, model.cell)
        drawer = Drawer(reduced, a, grid)
        own = flow.upsampled(torch.from_numpy(velocities[i]).float(), reduced.mean.shape[1:]).numpy()
        coefficients = reduced.coefficients(own)
        for count in _counts(len(coefficients)):
            labels = drawer.labels(coefficients[:count])
            figures = {"dice": dice(labels, hearts[i], a)}
            figures["distance_mm"] = surface_distance_mm(labels, hearts[i], a, grid.spacing_mm)
            for k, structure in enumerate(a.structures):
                rows.append({"subject": names[i], "modes": count, "structure": structure}
                            | {name: values[k] for name, values in figures.items()})  # fmt: skip
        log.info("%s left out of %d hearts", names[i], n)
    return pd.DataFrame(rows)


def specificity(
    model: ShapeModel, hearts: list[np.ndarray], samples: int, seed: int, a: Anatomy, grid: Grid
) -> pd.DataFrame:
    """How far random hearts of the model lie from the nearest real one, by number of modes.

    The distance is the mean over the surfaces of the structures that the anatomy is centred on, from the
    sample to the real heart. Every sample's least Jacobian stands beside it.
    """
    drawer, rows = Drawer(model, a, grid), []
    chambers = [a.label(name) for name in a.centred_on]
    real = [_distances(hearts[i], chambers, grid) for i in _spread(len(hearts), MOST_HEARTS)]
    cells = Lattice.of(grid, registration.CELL)
    for sample in range(samples):
        coefficients = model.draw(np.random.default_rng(np.random.SeedSequence([seed, sample])))
        for count in _counts(len(coefficients))[1:]:
            displacement = model.displacement(coefficients[:count], grid)
            labels = drawer.template.labels(displacement)
            surfaces = [_surface(labels == k) for k in chambers]
            means = [
                np.mean([d[*at].mean() for d, at in zip(each, surfaces, strict=True) if len(at[0])])
                for each in real
            ]
            least = float(flow.jacobian(displacement, cells).min())
            rows.append(
                {"sample": sample, "modes": count, "nearest_mm": float(min(means)), "least_jacobian": least}
            )
    return pd.DataFrame(rows)


def _counts(modes: int) -> list[int]:
    return [count for count in COUNTS if count < modes] + [modes]


def _spread(n: int, most: int) -> np.ndarray:
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)


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
