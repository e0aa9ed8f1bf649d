"""Random diffeomorphic deformations of template hearts (prior stage).

A heart is a template pulled back through X: output position -> template position (mm), kept on the
4 mm cells and composed of flows, each invertible:

* an affine map (small rotation, anisotropic stretch) and the exponential of a smooth random
  velocity field (scaling and squaring; Arsigny et al., MICCAI 2006);
* growth: structures reach prescribed volumes by following v = grad phi, where the Laplacian of phi
  is each structure's remaining log growth spread over it. div v is the local rate of growth, so a
  wall whose growth is zero keeps its volume and thins when its cavity dilates, and neighbours give way.

det(dX) > 0 is checked on every cell.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import grid_sample, interpolate

from ..anatomy.labels import Anatomy, Grid
from ..runtime.errors import SubjectError

FACTOR = 2  # voxels per cell edge of the map: 4 mm cells on the 2 mm grid
HARD_STEPS = 3


@dataclass(frozen=True)
class DeformationSettings:
    """Spreads of the random deformation; growth_steps flows bring the volumes to their targets."""

    rotation_deg: float = 5.0
    stretch: float = 0.06
    coarse_mm: float = 5.0
    fine_mm: float = 2.0
    growth_steps: int = 8
    smoothing_voxels: float = 0.8


@dataclass(frozen=True)
class Template:
    """A template heart: smoothed one-hot (1, K+1, X, Y, Z) float32 on `grid`."""

    name: str
    one_hot: torch.Tensor
    coarse: torch.Tensor
    grid: Grid


def make_template(name: str, labels: np.ndarray, anatomy: Anatomy, grid: Grid, smoothing: float) -> Template:
    """Template from labels (X, Y, Z) already on `grid`."""
    channels = [
        gaussian_filter((labels == k).astype(np.float32), smoothing) for k in range(anatomy.n_channels)
    ]
    one_hot = torch.from_numpy(np.stack(channels))[None]
    return Template(name, one_hot, torch.nn.functional.avg_pool3d(one_hot, FACTOR), grid)


def deform(
    template: Template,
    growth_ml: dict[int, float],
    anatomy: Anatomy,
    rng: np.random.Generator,
    settings: DeformationSettings,
) -> np.ndarray:
    """Labels (X, Y, Z) uint8 of a random deformation whose labels k have volumes growth_ml[k] (mL).

    Raises SubjectError if the map folds anywhere (det <= 0) or a structure vanishes.
    """
    grid = template.grid
    cells = torch.stack(
        torch.meshgrid(*(torch.tensor(a, dtype=torch.float32) for a in grid.axes_mm(FACTOR)), indexing="ij")
    )
    position = _affine(cells, rng, settings)
    position = _compose(position, _exponential(_random_velocity(cells, rng, settings), grid), grid)
    cell_ml = grid.voxel_volume_ml * FACTOR**3
    for remaining in range(settings.growth_steps, 0, -1):
        occupancy = _pull(template.coarse, position, grid)[0]
        volumes_ml = occupancy.sum((1, 2, 3)) * cell_ml
        position = _grow(position, occupancy, volumes_ml, growth_ml, remaining, grid)
    # The last flows correct what finite steps left, by the volumes of the labels themselves: smoothing makes
    # the argmax of a thin vessel smaller than its occupancy.
    for _ in range(HARD_STEPS):
        occupancy = _pull(template.coarse, position, grid)[0]
        voxels = np.bincount(_labels(template, position).ravel(), minlength=anatomy.n_channels)
        position = _grow(position, occupancy, voxels * grid.voxel_volume_ml, growth_ml, 1, grid)
    position = _centred(template, position, cells, anatomy)
    smallest = float(_jacobian(position, grid).min())
    if smallest <= 0:
        raise SubjectError("deformation folds", f"smallest Jacobian determinant {smallest:.3g}")
    return _labels(template, position)


def _affine(cells, rng, settings):
    """Inverse of a rotation times a stretch, applied to the output positions: (3, X, Y, Z) mm."""
    angle = np.radians(settings.rotation_deg) * rng.standard_normal(3)
    skew = np.array([[0, -angle[2], angle[1]], [angle[2], 0, -angle[0]], [-angle[1], angle[0], 0]])
    stretch = settings.stretch * rng.standard_normal((3, 3)) / np.sqrt(2)
    stretch = (stretch + stretch.T) / np.sqrt(2)
    stretch -= np.eye(3) * np.trace(stretch) / 3  # volumes are the growth's business
    matrix = torch.linalg.matrix_exp(torch.from_numpy(-(skew + stretch)).float())
    return torch.einsum("ij,jxyz->ixyz", matrix, cells)


def _random_velocity(cells, rng, settings):
    """Smooth velocity (3, X, Y, Z) in mm: random vectors on 4^3 and 7^3 control points, cubic-like."""
    velocity = torch.zeros_like(cells)
    for points, spread in ((4, settings.coarse_mm), (7, settings.fine_mm)):
        control = torch.from_numpy(rng.standard_normal((1, 3, points, points, points))).float() * spread
        # two trilinear stages with smoothing between approximate a cubic spline
        field = interpolate(
            control, size=tuple(2 * points - 1 for _ in range(3)), mode="trilinear", align_corners=True
        )
        field = torch.nn.functional.avg_pool3d(field, 3, 1, 1, count_include_pad=False)
        velocity += interpolate(field, size=cells.shape[1:], mode="trilinear", align_corners=True)[0]
    return velocity


def _grow(position, occupancy, volumes_ml, growth_ml, remaining, grid):
    """Follow one of the `remaining` growth flows from the present volumes (K + 1,) to growth_ml."""
    log_growth = {}
    for label, target in growth_ml.items():
        if volumes_ml[label] <= 0:
            raise SubjectError("deformation loses a structure", f"label {label} vanished")
        log_growth[label] = np.log(target / float(volumes_ml[label])) / remaining
    return _compose(position, _exponential(_growth(occupancy, log_growth, grid), grid), grid)


def _growth(occupancy, log_growth, grid):
    """Velocity grad phi (3, X, Y, Z) mm with Laplacian phi = sum_k a_k p_k, a_k the log growth."""
    source = torch.zeros(occupancy.shape[1:])
    for label, growth in log_growth.items():
        source += occupancy[label] * growth
    spacing = grid.spacing_mm * FACTOR
    k = [2 * np.pi * torch.fft.fftfreq(n, d=spacing) for n in source.shape]
    kx, ky, kz = torch.meshgrid(*(a.float() for a in k), indexing="ij")
    square = kx**2 + ky**2 + kz**2
    square[0, 0, 0] = 1.0
    phi = -torch.fft.fftn(source - source.mean()) / square
    return torch.stack([torch.fft.ifftn(1j * a * phi).real for a in (kx, ky, kz)])


def _exponential(velocity, grid):
    """exp(-velocity) as a displacement (3, X, Y, Z) mm: where material now at y came from, minus y."""
    squarings = max(
        2, int(np.ceil(np.log2(max(float(velocity.abs().max()), 1e-6) / (0.5 * grid.spacing_mm))))
    )
    step = -velocity / 2**squarings
    for _ in range(squarings):
        step = step + _sample(step, step, grid)
    return step


def _compose(position, displacement, grid):
    """X(y + displacement(y)): the map extended linearly beyond the field through its displacement."""
    cells = _cells_like(position, grid)
    offset = position - cells
    return cells + displacement + _sample(offset, displacement, grid)


def _cells_like(position, grid):
    axes = (torch.tensor(a, dtype=torch.float32) for a in grid.axes_mm(FACTOR))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _sample(field, displacement, grid):
    """field (C, X, Y, Z) at cell centres + displacement (mm), border values beyond the field."""
    return _pull(field[None], _cells_like(displacement, grid) + displacement, grid, "border")[0]


def _pull(volume, position, grid, padding="zeros"):
    """Trilinear samples of volume (1, C, ...), which spans the field, at positions (3, ...) mm."""
    half = torch.tensor([n * grid.spacing_mm / 2 for n in grid.shape], dtype=torch.float32)
    unit = position / half[:, None, None, None]
    # grid_sample wants the last axis first
    where = unit.flip(0).permute(1, 2, 3, 0)[None]
    return grid_sample(volume, where, mode="bilinear", padding_mode=padding, align_corners=False)


def _centred(template, position, cells, anatomy):
    """Translate so that the centroid of the anatomy's `centred_on` structures is the origin."""
    labels = [anatomy.label(name) for name in anatomy.centred_on]
    for _ in range(2):
        heart = _pull(template.coarse, position, template.grid)[0, labels].sum(0)
        centroid = (heart * cells).sum((1, 2, 3)) / heart.sum()
        position = _compose(position, centroid[:, None, None, None].expand_as(cells), template.grid)
    return position


def _jacobian(position, grid):
    """det dX on the cells, by forward differences: (X-1, Y-1, Z-1)."""
    h = grid.spacing_mm * FACTOR
    corner = position[:, :-1, :-1, :-1]
    columns = [
        (position[:, 1:, :-1, :-1] - corner) / h,
        (position[:, :-1, 1:, :-1] - corner) / h,
        (position[:, :-1, :-1, 1:] - corner) / h,
    ]
    return torch.linalg.det(torch.stack(columns, -1).permute(1, 2, 3, 0, 4))


def _labels(template, position):
    """Argmax over channels of the template pulled back at full resolution, (X, Y, Z) uint8."""
    grid = template.grid
    # most of the field is background: only the box of the cells that hold a structure is looked up
    held = _pull(template.coarse[:, 1:], position, grid)[0].amax(0) > 0
    box = tuple(
        slice(max(int(at.min()) - 1, 0) * FACTOR, (int(at.max()) + 2) * FACTOR) for at in torch.where(held)
    )
    fine = interpolate(position[None], size=grid.shape, mode="trilinear", align_corners=False)[0]
    # beyond the template every channel is zero, and argmax then gives 0, background
    values = _pull(template.one_hot, fine[:, *box], grid)[0].movedim(0, -1).contiguous()
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[box] = values.argmax(-1).to(torch.uint8).numpy()
    return labels
