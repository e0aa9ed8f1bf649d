"""Random hearts: an atlas or a template, turned, deformed and grown to prescribed volumes (prior stage).

A heart is a template pulled back through X: output position -> template position (mm), kept on cells of two
voxels and composed of flows, each invertible:

* the shape: the exponential of a velocity drawn from an atlas's modes, where there is an atlas;
* an affine map (rotation, small anisotropic stretch) and the exponential of a smooth random velocity;
* growth: structures reach prescribed volumes by following v = grad phi, where the Laplacian of phi
  is each structure's remaining log growth spread over it. div v is the local rate of growth, so a
  wall whose growth is zero keeps its volume and thins when its cavity dilates, and neighbours give way.

det(dX) > 0 is checked on every cell.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn.functional import avg_pool3d, interpolate

from ..anatomy.labels import Anatomy, Grid
from ..atlas import flow, registration
from ..atlas.flow import Lattice
from ..atlas.model import ShapeModel
from ..runtime.errors import SubjectError
from .virtual_patients import wall_growth

HARD_STEPS = 3
CERTAIN = 0.9999  # occupancy of a cell from which all its voxels have one label
WALL = "myocardium"
SEPTUM = -1  # channel of a template's cells
BORDER_VOXELS = 2  # vessels end here, as the scans that they come from cut them somewhere


@dataclass(frozen=True)
class DeformationSettings:
    """Spreads of what is random beside an atlas's modes; growth_steps flows bring the volumes to their
    targets.

    turn_sd_deg: of the rotation about each axis. Poses within the atlas's cohort spread by 4.6 degrees;
    hearts of other hospitals lie 10 to 26 degrees apart.
    """

    turn_sd_deg: float = 6.0
    stretch: float = 0.03
    coarse_mm: float = 2.5
    fine_mm: float = 1.0
    growth_steps: int = 5


OF_ONE_HEART = DeformationSettings(5.0, 0.06, 5.0, 2.0, 8)  # without an atlas, all variety is random


@dataclass(frozen=True)
class Growth:
    """volumes_ml by label, absolute; factors by label, of the volume that the drawn shape has.

    septal_growth: by how much more the septum grows than the free wall, 1 for an even wall.
    """

    volumes_ml: dict[int, float]
    factors: dict[int, float]
    septal_growth: float = 1.0


@dataclass(frozen=True)
class Template:
    """Soft labels (K + 1, X, Y, Z) on `grid`, and on cells of two voxels (K + 2, x, y, z) with the septum as
    the last; the modes of an atlas, if there is one.
    """

    name: str
    model: ShapeModel | None
    one_hot: torch.Tensor
    coarse: torch.Tensor
    grid: Grid


def make_template(
    name: str, labels: np.ndarray, anatomy: Anatomy, grid: Grid, model: ShapeModel | None = None
) -> Template:
    """Template from labels (X, Y, Z) already on `grid`, those of an atlas or of one heart."""
    one_hot = flow.one_hot(labels, anatomy.n_channels, flow.TEMPLATE_SIGMA)
    septum = torch.from_numpy(septum_of(labels, anatomy)) * one_hot[anatomy.label(WALL)]
    coarse = avg_pool3d(torch.cat([one_hot, septum[None]]), registration.CELL)
    return Template(name, model, one_hot, coarse, grid)


def septum_of(labels: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Where (X, Y, Z) bool the right ventricle is nearer than all else but wall and left ventricle."""
    left = [anatomy.label(name) for name in (WALL, "left_ventricle")]
    nearest = distance_transform_edt(np.isin(labels, left), return_distances=False, return_indices=True)
    return labels[tuple(nearest)] == anatomy.label("right_ventricle")


def deform(
    template: Template,
    growth: Growth,
    anatomy: Anatomy,
    rng: np.random.Generator,
    settings: DeformationSettings,
) -> np.ndarray:
    """Labels (X, Y, Z) uint8 of a random heart that has the volumes of `growth`.

    Raises SubjectError if the map folds anywhere (det <= 0) or a structure vanishes.
    """
    grid = template.grid
    cells = Lattice.of(grid, registration.CELL)
    model, offset = template.model, torch.zeros(3, *cells.shape)
    if model is not None:
        offset = model.displacement(model.draw(rng), grid)
    offset = _composed(offset, _turned(cells, rng, settings), cells)
    offset = _composed(offset, flow.exponential(-_random_velocity(cells, rng, settings), cells), cells)
    cell_ml = cells.spacing_mm**3 / 1000.0
    wall = anatomy.label(WALL)
    targets = growth.volumes_ml
    for remaining in range(settings.growth_steps, 0, -1):
        occupancy = flow.sample(template.coarse, cells.centres_mm + offset, cells)
        occupancy[wall] -= occupancy[SEPTUM]  # grown apart: this is the free wall
        volumes_ml = occupancy.sum((1, 2, 3)).numpy() * cell_ml
        if remaining == settings.growth_steps:
            targets = targets | {k: f * float(volumes_ml[k]) for k, f in growth.factors.items()}
            targets |= _parted_wall(targets, volumes_ml, wall, growth.septal_growth)
        offset = _grown(offset, occupancy, volumes_ml, targets, remaining, cells)
    # The last flows correct what finite steps left, by the volumes of the labels themselves: smoothing makes
    # the argmax of a thin vessel smaller than its occupancy.
    if SEPTUM in targets:
        targets = targets | {wall: targets[wall] + targets[SEPTUM]}
    targets = {k: volume for k, volume in targets.items() if k != SEPTUM}
    for _ in range(HARD_STEPS):
        occupancy = flow.sample(template.coarse, cells.centres_mm + offset, cells)
        labels = _labels(template, offset, occupancy, cells)
        voxels = np.bincount(labels.ravel(), minlength=anatomy.n_channels)
        offset = _grown(offset, occupancy, voxels * grid.voxel_volume_ml, targets, 1, cells)
    offset = _centred(template, offset, cells, anatomy)
    smallest = float(flow.jacobian(offset, cells).min())
    if smallest <= 0:
        raise SubjectError("deformation folds", f"smallest Jacobian determinant {smallest:.3g}")
    occupancy = flow.sample(template.coarse, cells.centres_mm + offset, cells)
    return _within_border(_labels(template, offset, occupancy, cells))


def _turned(cells: Lattice, rng, settings) -> torch.Tensor:
    """Displacement (3, X, Y, Z) mm of the inverse of a rotation times a stretch."""
    angle = np.radians(settings.turn_sd_deg) * rng.standard_normal(3)
    skew = np.array([[0, -angle[2], angle[1]], [angle[2], 0, -angle[0]], [-angle[1], angle[0], 0]])
    stretch = settings.stretch * rng.standard_normal((3, 3)) / np.sqrt(2)
    stretch = (stretch + stretch.T) / np.sqrt(2)
    stretch -= np.eye(3) * np.trace(stretch) / 3  # volumes are the growth's business
    matrix = torch.linalg.matrix_exp(torch.from_numpy(-(skew + stretch)).float()) - torch.eye(3)
    return torch.einsum("ij,jxyz->ixyz", matrix, cells.centres_mm)


def _random_velocity(cells: Lattice, rng, settings) -> torch.Tensor:
    """Smooth velocity (3, X, Y, Z) in mm: random vectors on 4^3 and 7^3 control points, cubic-like."""
    velocity = torch.zeros(3, *cells.shape)
    for points, spread in ((4, settings.coarse_mm), (7, settings.fine_mm)):
        control = torch.from_numpy(rng.standard_normal((1, 3, points, points, points))).float() * spread
        # two trilinear stages with smoothing between approximate a cubic spline
        field = interpolate(control, size=(2 * points - 1,) * 3, mode="trilinear", align_corners=True)
        field = avg_pool3d(field, 3, 1, 1, count_include_pad=False)
        velocity += interpolate(field, size=cells.shape, mode="trilinear", align_corners=True)[0]
    return velocity


def _parted_wall(targets_ml, volumes_ml, wall: int, septal_growth: float) -> dict[int, float]:
    """Target volumes of free wall and septum, where the wall has one."""
    free, septum = float(volumes_ml[wall]), float(volumes_ml[SEPTUM])
    if wall not in targets_ml or septum <= 0:
        return {}
    factor = targets_ml[wall] / (free + septum)
    of_septum, of_free = wall_growth(septal_growth, factor, septum / (free + septum))
    return {wall: of_free * free, SEPTUM: of_septum * septum}


def _grown(offset, occupancy, volumes_ml, targets_ml, remaining, cells: Lattice) -> torch.Tensor:
    """Follow one of the `remaining` growth flows from the present volumes (K + 1,) to targets_ml."""
    source = torch.zeros(cells.shape)
    for label, target in targets_ml.items():
        if volumes_ml[label] <= 0:
            raise SubjectError("deformation loses a structure", f"label {label} vanished")
        source += occupancy[label] * float(np.log(target / float(volumes_ml[label])) / remaining)
    return _composed(offset, flow.exponential(-_gradient_flow(source, cells), cells), cells)


def _gradient_flow(source: torch.Tensor, cells: Lattice) -> torch.Tensor:
    """Velocity grad phi (3, X, Y, Z) mm whose divergence, the Laplacian of phi, is source (X, Y, Z)."""
    kx, ky, kz = (2 * np.pi * torch.fft.fftfreq(n, d=cells.spacing_mm) for n in source.shape)
    kz = kz[: source.shape[2] // 2 + 1].abs()
    kx, ky, kz = torch.meshgrid(kx, ky, kz, indexing="ij")
    square = kx**2 + ky**2 + kz**2
    square[0, 0, 0] = 1.0
    phi = -torch.fft.rfftn(source - source.mean()) / square
    return torch.stack([torch.fft.irfftn(1j * k * phi, s=source.shape) for k in (kx, ky, kz)])


def _composed(offset: torch.Tensor, displacement: torch.Tensor, cells: Lattice) -> torch.Tensor:
    """Displacement of y -> X(y + displacement(y)), where X(y) = y + offset(y)."""
    return displacement + flow.sample(offset, cells.centres_mm + displacement, cells, border=True)


def _centred(template: Template, offset, cells: Lattice, anatomy: Anatomy) -> torch.Tensor:
    """Translate so that the centroid of the anatomy's `centred_on` structures is the origin."""
    labels = [anatomy.label(name) for name in anatomy.centred_on]
    for _ in range(2):
        heart = flow.sample(template.coarse[labels], cells.centres_mm + offset, cells).sum(0)
        centroid = (heart * cells.centres_mm).sum((1, 2, 3)) / heart.sum()
        offset = _composed(offset, centroid[:, None, None, None].expand(3, *cells.shape), cells)
    return offset


def _labels(template: Template, offset: torch.Tensor, occupancy: torch.Tensor, cells: Lattice) -> np.ndarray:
    """Argmax over channels of the template pulled back at full resolution, (X, Y, Z) uint8.

    occupancy (K + 2, x, y, z) is that of the cells; only cells that are not all of one label are looked up.
    """
    grid, voxels, factor = template.grid, Lattice.of(template.grid, 1), registration.CELL
    # beyond the template every channel is zero: background
    occupancy = occupancy[:SEPTUM]
    structures = occupancy[1:].amax(0)
    mixed = (structures > 1 - CERTAIN) & (structures < CERTAIN)
    # where a cell is certain, one channel is above a half; argmax over so few channels is slow
    of_cell = sum(k * (channel > 0.5) for k, channel in enumerate(occupancy))
    labels = of_cell.to(torch.uint8).numpy()
    labels = labels.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    fine = torch.zeros(grid.shape, dtype=torch.bool)
    blocks = fine.reshape(*(n for edge in cells.shape for n in (edge, factor)))
    blocks[...] = mixed[:, None, :, None, :, None]
    where = (voxels.centres_mm + flow.upsampled(offset, grid.shape))[:, fine]
    values = flow.sample(template.one_hot, where[:, :, None, None], voxels)[..., 0, 0]
    labels[fine.numpy()] = torch.where(values.amax(0) > 0, values.argmax(0), 0).to(torch.uint8).numpy()
    return labels


def _within_border(labels: np.ndarray) -> np.ndarray:
    """Labels (X, Y, Z) with background in the outermost voxels: no vessel runs into the field's border."""
    inner = (slice(BORDER_VOXELS, -BORDER_VOXELS),) * 3
    out = np.zeros_like(labels)
    out[inner] = labels[inner]
    return out
