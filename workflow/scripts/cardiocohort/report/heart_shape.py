"""Measures of shape that tables of moments and meshes lack. Of hearts only. Owned by the report stage."""

import numpy as np
import pandas as pd

from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..cohort.subject_columns import MUSCLE_G_PER_ML
from ..mesh.model import REGIONS, BiventricularModel
from ..microstructure.junctions import heart_axes

WALL = "myocardium"
CAVITY, BASAL = "left_ventricle", "left_atrium"  # conicity is of the first, whose base is at the second
CONICITY = f"{CAVITY}_conicity"
CURVATURES = ("septal_curvature_per_cm", "septal_curvature_ratio")
MIDDLE = (1 / 3, 2 / 3)  # of the LV's long axis, from apex to base
FEWEST_NODES = 12  # on a wall, for a circle through them
REGION_WALLS = {name: f"{name}_wall_ml" for name in REGIONS}  # columns with the muscle of a region
MM_PER_CM = 10.0


def wall_mass(frame: pd.DataFrame, anatomy: Anatomy, area_m2: pd.Series) -> dict[str, pd.Series]:
    """Columns with the mass (g) of the label map's wall, and per body surface area; none without a wall."""
    if WALL not in anatomy.structures:
        return {}
    mass = MUSCLE_G_PER_ML * frame[f"{WALL}_volume_ml"]
    return {f"{WALL}_mass_g": mass, f"{WALL}_mass_index_g_m2": mass / area_m2}


def region_walls_ml(model: BiventricularModel) -> dict[str, float]:
    """Muscle (mL) of each region of a mesh, by column."""
    volumes = model.tet_volumes_mm3 / 1000.0
    return {REGION_WALLS[name]: float(volumes[model.region == tag].sum()) for name, tag in REGIONS.items()}


def region_masses(frame: pd.DataFrame, area_m2: pd.Series) -> dict[str, pd.Series]:
    """Columns with the mass (g) of each region's muscle; per body surface area of both ventricles.

    The septum counts as left ventricle, as in imaging.
    """
    mass = {name: MUSCLE_G_PER_ML * frame[column] for name, column in REGION_WALLS.items()}
    return {f"{name}_wall_mass_g": values for name, values in mass.items()} | {
        "lv_mass_index_g_m2": (mass["lv"] + mass["septum"]) / area_m2,
        "rv_mass_index_g_m2": mass["rv"] / area_m2,
    }


def sphericity(covariance_mm2: np.ndarray) -> np.ndarray:
    """Short over long axis (...) from covariances (..., 3, 3); 1 for a sphere, NaN where there is none.

    Geometric mean of the two shorter semi-axes over the longest one, of the ellipsoid with this covariance.
    """
    covariance = np.asarray(covariance_mm2, dtype=float)
    known = np.isfinite(covariance).all(axis=(-2, -1)) & (np.trace(covariance, axis1=-2, axis2=-1) > 0)
    values = np.linalg.eigvalsh(np.where(known[..., None, None], covariance, np.eye(3)))
    values = np.clip(values, 0.0, None)
    return np.where(known, (values[..., 0] * values[..., 1]) ** 0.25 / np.sqrt(values[..., 2]), np.nan)


def conicity(label_map: LabelMap, cavity: int, towards_base_mm: np.ndarray) -> float:
    """Width of a cavity's apical third over its middle third; NaN without voxels.

    Thirds of the length along the principal long axis, whose base is the end nearer to `towards_base_mm`
    (3,), world mm. Widths are those of equal circles: the square root of the ratio of the thirds' volumes. An
    ellipsoid has sqrt(28/52) = 0.734, a cone sqrt(8/56) = 0.378, a cylinder 1. In the sense of the conicity
    index of Di Donato et al., Eur J Cardiothorac Surg 2006 (apical over short axis).
    """
    voxels = np.nonzero(label_map.labels == cavity)
    if not len(voxels[0]):
        return float("nan")
    points = np.stack([axis[i] for axis, i in zip(label_map.axes_mm, voxels, strict=True)], axis=-1)
    centre = points.mean(axis=0)
    long = np.linalg.eigh(np.cov(points.T))[1][:, -1]
    long = long * np.sign(long @ (towards_base_mm - centre))
    height = (points - centre) @ long
    half = np.abs(long) @ label_map.spacing_mm / 2  # half a voxel's extent: a voxel may lie in two thirds
    ends = np.linspace(height.min() - half, height.max() + half, 4)[1:3]
    apical, both = (np.clip((end - height) / (2 * half) + 0.5, 0.0, 1.0).sum() for end in ends)
    return float(np.sqrt(apical / (both - apical)))


def curvatures(model: BiventricularModel) -> dict[str, float]:
    """`septal_curvature` by the names CURVATURES."""
    return dict(zip(CURVATURES, septal_curvature(model), strict=True))


def septal_curvature(model: BiventricularModel) -> tuple[float, float]:
    """Curvature of the septum (1/cm), and its ratio to that of the LV's free wall; NaN where unknown.

    Of the LV's endocardium in the middle third of the long axis, seen along that axis: 1 / radius of the best
    circle. Positive where the wall's centre of curvature is on the LV's side. SubjectError without a septum.
    """
    axes = heart_axes(model)
    points = model.points_mm
    endo = model.nodes_of("lv_endo")
    length = (axes.base_mm - axes.apex_mm) @ axes.long
    height = (points[endo] - axes.apex_mm) @ axes.long / length
    middle = endo[(height >= MIDDLE[0]) & (height <= MIDDLE[1])]
    septal = np.isin(middle, model.tets[model.region == REGIONS["septum"]])
    free = np.isin(middle, model.tets[model.region == REGIONS["lv"]]) & ~septal
    seen = np.stack([points @ axes.right, points @ axes.anterior], axis=-1)
    inside = seen[middle].mean(axis=0)
    septum, wall = (MM_PER_CM * _curvature(seen[middle[part]], inside) for part in (septal, free))
    return septum, septum / wall if wall else float("nan")


def _curvature(points: np.ndarray, inside: np.ndarray) -> float:
    """1/mm of the best circle through plane points (n, 2), positive if its centre lies towards `inside`.

    A (x^2 + y^2) + B x + C y + D = 0 with a unit vector (A, B, C, D), so that a line, A = 0, is a circle too
    (Gander, Golub, Strebel, BIT 1994); normalised as by Pratt, SIGGRAPH 1987: B^2 + C^2 - 4 A D = 1.
    """
    if len(points) < FEWEST_NODES:
        return float("nan")
    centre = points.mean(axis=0)
    size = np.sqrt(((points - centre) ** 2).sum(axis=1).mean())
    x, y = ((points - centre) / size).T
    rows = np.stack([x**2 + y**2, x, y, np.ones_like(x)], axis=-1)
    a, b, c, d = np.linalg.svd(rows, full_matrices=False)[2][-1]
    a, b, c = np.array([a, b, c]) / np.sqrt(max(b**2 + c**2 - 4 * a * d, 1e-30))
    # at the points the gradient leads away from the circle's centre where A > 0
    outward = np.array([(2 * a * x + b).mean(), (2 * a * y + c).mean()])
    side = np.sign(outward @ (centre - inside))
    return float(side * 2 * a / size)
