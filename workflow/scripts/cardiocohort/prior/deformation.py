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

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn.functional import avg_pool3d, interpolate

from ..anatomy.labels import Anatomy, Grid
from ..atlas import flow, registration
from ..atlas.flow import Lattice
from ..atlas.model import ShapeModel
from ..atlas.template import SoftTemplate
from ..runtime.errors import SubjectError
from .virtual_patients import wall_growth

LAST_FLOWS = 3
LEAST_ML = 1e-6  # a structure of less has vanished
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
    coarse_mm: float = 4.5
    fine_mm: float = 3.0
    growth_steps: int = 3


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
    """Soft labels of a heart, on cells with the septum as the last channel; the modes of an atlas, if any."""

    name: str
    model: ShapeModel | None
    soft: SoftTemplate


def make_template(
    name: str, labels: np.ndarray, anatomy: Anatomy, grid: Grid, model: ShapeModel | None = None
) -> Template:
    """Template from labels (X, Y, Z) already on `grid`, those of an atlas or of one heart."""
    soft = SoftTemplate.of(labels, anatomy, grid)
    septum = torch.from_numpy(septum_of(labels, anatomy)) * soft.one_hot[_wall(anatomy)]
    coarse = torch.cat([soft.coarse, avg_pool3d(septum[None], registration.CELL)])
    return Template(name, model, replace(soft, coarse=coarse))


def septum_of(labels: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Where (X, Y, Z) bool the right ventricle is nearer than all else but wall and left ventricle.

    Nowhere in an anatomy that does not have these.
    """
    if not {WALL, "left_ventricle", "right_ventricle"} <= set(anatomy.structures):
        return np.zeros(labels.shape, dtype=bool)
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
    soft, model = template.soft, template.model
    grid, cells = soft.grid, soft.cells
    offset = torch.zeros(3, *cells.shape)
    if model is not None:
        offset = model.displacement(model.draw(rng), grid)
    offset = _composed(offset, _turned(cells, rng, settings), cells)
    offset = _composed(offset, flow.exponential(-_random_velocity(cells, rng, settings), cells), cells)
    cell_ml = cells.spacing_mm**3 / 1000.0
    wall = _wall(anatomy)
    targets = growth.volumes_ml
    for remaining in range(settings.growth_steps, 0, -1):
        occupancy = soft.occupancy(offset)
        occupancy[wall] -= occupancy[SEPTUM]  # grown apart: this is the free wall
        volumes_ml = occupancy.sum((1, 2, 3)).numpy() * cell_ml
        if remaining == settings.growth_steps:
            targets = targets | {k: f * float(volumes_ml[k]) for k, f in growth.factors.items()}
            targets |= _parted_wall(targets, volumes_ml, wall, growth.septal_growth)
        offset = _grown(offset, occupancy, volumes_ml, targets, remaining, cells)
    # The last flows correct what finite steps left, by the volumes of the labels themselves: smoothing makes
    # the argmax of a thin vessel smaller than its occupancy. Their ratio hardly changes any more.
    if SEPTUM in targets:
        targets = targets | {wall: targets[wall] + targets[SEPTUM]}
    targets = {k: volume for k, volume in targets.items() if k != SEPTUM}
    of_labels = None
    for _ in range(LAST_FLOWS):
        occupancy = soft.occupancy(offset)
        volumes_ml = occupancy[: anatomy.n_channels].sum((1, 2, 3)).numpy() * cell_ml
        if of_labels is None:
            voxels = np.bincount(soft.labels(offset, occupancy).ravel(), minlength=anatomy.n_channels)
            of_labels = voxels * grid.voxel_volume_ml / np.maximum(volumes_ml, LEAST_ML)
        offset = _grown(offset, occupancy, of_labels * volumes_ml, targets, 1, cells)
    offset = _centred(soft, offset, anatomy)
    smallest = float(flow.jacobian(offset, cells).min())
    if smallest <= 0:
        raise SubjectError("deformation folds", f"smallest Jacobian determinant {smallest:.3g}")
    return _within_border(soft.labels(offset))


def _wall(anatomy: Anatomy) -> int:
    """The wall's label; background in an anatomy without one."""
    return anatomy.label(WALL) if WALL in anatomy.structures else 0


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


def _centred(soft: SoftTemplate, offset: torch.Tensor, anatomy: Anatomy) -> torch.Tensor:
    """Translate so that the centroid of the anatomy's `centred_on` structures is the origin."""
    labels, cells = [anatomy.label(name) for name in anatomy.centred_on], soft.cells
    for _ in range(2):
        heart = flow.sample(soft.coarse[labels], cells.centres_mm + offset, cells).sum(0)
        centroid = (heart * cells.centres_mm).sum((1, 2, 3)) / heart.sum()
        offset = _composed(offset, centroid[:, None, None, None].expand(3, *cells.shape), cells)
    return offset


def _within_border(labels: np.ndarray) -> np.ndarray:
    """Labels (X, Y, Z) with background in the outermost voxels: no vessel runs into the field's border."""
    inner = (slice(BORDER_VOXELS, -BORDER_VOXELS),) * 3
    out = np.zeros_like(labels)
    out[inner] = labels[inner]
    return out
