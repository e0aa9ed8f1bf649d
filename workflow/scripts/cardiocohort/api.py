"""The library from Python: one heart from prior to mesh in ten lines (docs/python.md). Owned by no stage.

`cardiocohort.__all__` names these functions. They call what the workflow's stages call, so that the same
arm, seed and settings give the same heart.
"""

import tempfile
import warnings
from pathlib import Path

import pandas as pd
import pyvista

from . import topology
from .anatomy import label_map, moments
from .anatomy.label_map import LabelMap
from .cohort import covariates
from .cohort.grammar import parse_constraints, parse_edits
from .cohort.stage_tables import TARGETS
from .cohort.table import ARM_NAME, Arm
from .generation import anatomies
from .generation.judging import Sampler, open_sampler
from .generation.settings import GuidanceSettings
from .mesh import storage
from .mesh.model import BiventricularModel
from .meshing.build import build
from .meshing.settings import MeshSettings
from .microstructure.coordinates import add_coordinates
from .microstructure.fibres import add_fibres
from .microstructure.settings import FibreAngles
from .population.plausibility import population_for, warnings_of
from .population.reference import read_reference
from .population.targets import drawn_targets
from .runtime.errors import InputError, SubjectError

RESOURCES = Path(__file__).resolve().parents[3] / "resources"


def load_prior(
    bundle: str | Path = RESOURCES / "priors/small",
    rules: str | Path = RESOURCES / "topology/heart.tsv",
    device: str = "auto",
    max_attempts: int = 8,
    guidance: dict | None = None,
) -> Sampler:
    """Load a generative prior and the topology gate that judges its samples.

    Parameters
    ----------
    bundle
        Folder of the prior: bundle.json, weights.safetensors, reference_moments.parquet.
    rules
        Table of the topology gate.
    device
        "auto", "cpu" or "cuda".
    max_attempts
        Samples per heart until one passes the gate.
    guidance
        Keys of the config section `guidance` that differ from the defaults.

    Returns
    -------
    Sampler
        `prior.anatomy` has the structures, `prior.grid` the grid of the label maps.

    Raises
    ------
    InputError
        The bundle, the rules or a setting cannot be used.
    """
    settings = GuidanceSettings.from_config(guidance or {})
    return open_sampler(str(bundle), str(rules), settings, device, max_attempts)


def draw_targets(
    prior: Sampler,
    constraints: str = "",
    edits: str = "",
    n: int = 1,
    seed: int = 1,
    arm: str = "hearts",
    truncation: float = 0.95,
    **cells: str | float,
) -> pd.DataFrame:
    """Draw the target moments of one arm from the prior's reference population.

    Parameters
    ----------
    constraints, edits
        Cells of the cohort table, such as "left_ventricle: size position shape".
    n
        Number of hearts.
    seed, arm
        Together with a heart's index they determine the draw.
    truncation
        Share of the reference population inside which targets are drawn.
    **cells
        Covariates by their column of the cohort table: sex="female", condition="healthy", age="40..65".

    Returns
    -------
    pandas.DataFrame
        One row per heart and structure: `subject`, `structure`, `volume_ml`, centroids (mm), covariances
        (mm2), `constrained`, `plausibility`, covariates.

    Raises
    ------
    InputError
        A cell is not in the grammar of the cohort table, or the reference population lacks it.

    References
    ----------
    docs/cohort-table.md describes the cells.
    """
    anatomy, known = prior.prior.anatomy, covariates.known()
    columns = {covariate.cohort_column: covariate for covariate in known.values()}
    for name in cells:
        if name not in columns:
            raise InputError(f"there is no covariate {name!r}; allowed: {', '.join(columns)}")
    if not ARM_NAME.fullmatch(arm) or n < 1:
        raise InputError(f"arm {arm!r}, n {n}: an arm is a word of letters, digits and _, n at least 1")
    given = {columns[k].column: covariates.parse_cell(str(text), columns[k]) for k, text in cells.items()}
    described = Arm(
        name=arm,
        n=n,
        covariates={column: cell for column, cell in given.items() if cell},
        seed=None,
        constraints=parse_constraints(constraints, anatomy),
        edits=parse_edits(edits, anatomy),
    )
    reference = read_reference(prior.bundle / "reference_moments.parquet", anatomy)
    population = population_for(described, reference)
    targets = drawn_targets(described, range(n), seed, population, truncation)
    for text in warnings_of(described, targets, population, prior.prior.grid):
        warnings.warn(text, stacklevel=2)
    return targets


def sample_heart(prior: Sampler, targets: pd.DataFrame, seed: int = 1) -> LabelMap:
    """Sample the label map of one heart that meets its targets.

    Attempts follow each other until the topology gate accepts one. If none passes, the heart with the fewest
    violations is returned; `check_heart` says which rules it breaks.

    Parameters
    ----------
    targets
        Rows of one subject, from `draw_targets` or with the same columns.
    seed
        Together with arm, index and attempt it determines the noise.

    Returns
    -------
    LabelMap
        `labels` (X, Y, Z) uint8, `affine` (4, 4) from voxel index to mm, RAS+, in the heart frame.

    Raises
    ------
    InputError
        The rows lack a column, or belong to several subjects.
    SubjectError
        The target lies outside the prior, or all samples diverged.
    """
    if missing := [column for column in TARGETS if column not in targets]:
        raise InputError(f"the targets lack the columns {', '.join(missing)}")
    if len(subjects := targets["subject"].unique()) != 1:
        raise InputError(f"targets of {len(subjects)} subjects; give the rows of one")
    payload = (targets.to_dict("records"), seed, *anatomies.arm_and_index(subjects[0]), None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heart.nii.gz"
        (record,) = anatomies.work(prior, [path], [payload])
        if isinstance(record, SubjectError):
            raise record
        return label_map.read_label_map(path, prior.prior.anatomy)


def measure_heart(prior: Sampler, heart: LabelMap) -> pd.DataFrame:
    """Measure the moments of every structure of a label map.

    Returns
    -------
    pandas.DataFrame
        One row per structure: `volume_ml`, centroids (mm) and covariances (mm2) in the coordinates of the
        map.
    """
    anatomy = prior.prior.anatomy
    groups = [anatomy.labels_of(name) for name in anatomy.structures]
    measured = moments.to_columns(moments.measure_labels(heart.labels, groups, heart.axes_mm))
    return pd.DataFrame({"structure": anatomy.structures, **measured})


def check_heart(prior: Sampler, heart: LabelMap) -> topology.Verdict:
    """Judge a generated label map by the topology gate.

    Returns
    -------
    Verdict
        `accepted`, `reasons` (one per violated rule) and `measures` (by rule).
    """
    return topology.examine(heart.labels, heart.spacing_mm, prior.prior.anatomy, prior.rules)


def mesh_heart(prior: Sampler, heart: LabelMap, fibres: dict | None = None, **settings) -> BiventricularModel:
    """Mesh both ventricles with fibres, ventricular coordinates, segments and wall thickness.

    Parameters
    ----------
    fibres
        Keys of the config section `microstructure` that differ from the defaults (degrees).
    **settings
        Keys of the config section `meshing`, such as rv_wall_mm=5, edge_length_mm=4.

    Returns
    -------
    BiventricularModel
        `points_mm` (N, 3), `tets` (M, 4), `region` (M,), tagged `facets`, `microstructure`, `coordinates`.

    Raises
    ------
    InputError
        A setting is out of its bounds.
    SubjectError
        The heart has no mesh that passes the quality gates; `reason` says which gate failed.
    """
    model, _ = build(heart, prior.prior.anatomy, MeshSettings.of(settings))
    return add_coordinates(add_fibres(model, FibreAngles.of(fibres or {})))


def heart_grid(model: BiventricularModel) -> pyvista.UnstructuredGrid:
    """The mesh as a PyVista grid, to plot, cut or save; the arrays of the workflow's `.vtu` files.

    Returns
    -------
    pyvista.UnstructuredGrid
        Cell arrays `region`, `f0`, `s0`, `n0`, `aha`, `wall_mm` and coordinates; lengths in mm.
    """
    return storage.volume_grid(model)
