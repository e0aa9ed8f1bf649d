"""The library from Python: one heart from prior to mesh in ten lines (docs/python.md). Owned by no stage.

`cardiocohort.__all__` names these functions. They call what the workflow's stages call, so that the same
arm, seed and settings give the same heart.
"""

import tempfile
import warnings
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
import pyvista
from scipy.spatial.transform import Rotation

from . import topology
from .anatomy import label_map, moments
from .anatomy.label_map import LabelMap
from .cohort import covariates
from .cohort.covariates import Distribution
from .cohort.grammar import parse_constraints, parse_edits
from .cohort.stage_tables import TARGETS
from .cohort.table import ARM_NAME, Arm
from .config import check
from .generation import anatomies
from .generation.judging import Sampler, open_sampler
from .generation.settings import GuidanceSettings
from .mesh import storage
from .mesh.frames import in_frame
from .mesh.label_model import LabelModel
from .mesh.model import BiventricularModel
from .mesh_subject import mesh_labels
from .meshing.build import build
from .meshing.settings import MeshSettings
from .microstructure.coordinates import add_coordinates
from .microstructure.fibres import add_fibres
from .microstructure.settings import FibreAngles
from .population.explicit import ELLIPSOID_COLUMNS
from .population.model import ENTRIES
from .population.plausibility import population_for, warnings_of
from .population.reference import Reference, check_moments, read_reference
from .population.targets import drawn_targets
from .runtime.errors import InputError, SubjectError

RESOURCES = Path(__file__).resolve().parents[3] / "resources"


def load_prior(
    bundle: str | Path = RESOURCES / "priors/people",
    rules: str | Path = RESOURCES / "anatomies/heart/topology.tsv",
    device: str = "auto",
    max_attempts: int = 8,
    guidance: dict | None = None,
) -> Sampler:
    """Load a generative prior and the topology gate that judges its samples.

    On the CPU, PyTorch computes on one thread from then on, so that a heart does not depend on their number.

    Parameters
    ----------
    bundle : str or Path
        Folder of the prior: bundle.json, weights.safetensors, reference_moments.parquet.
    rules : str or Path
        Table of the topology gate.
    device : str
        "auto", "cpu" or "cuda".
    max_attempts : int
        Samples per heart until one passes the gate.
    guidance : dict or None
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
    _check_whole("max_attempts", max_attempts, 1)
    filled = check.complete({"guidance": guidance or {}})["guidance"]
    check.check_noise(filled)
    settings = GuidanceSettings.from_config(filled)
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
    prior : Sampler
        From `load_prior`.
    constraints, edits : str
        Cells of the cohort table, such as "left_ventricle: size position shape".
    n : int
        Number of hearts.
    seed : int
        Together with arm and index it determines the draw of a heart.
    arm : str
        Name of the arm: letters, digits and underscores.
    truncation : float
        Share of the reference population inside which targets are drawn, 0 to 1.
    **cells : str or float
        Covariates by their column of the cohort table: sex="female", condition="healthy", age="40..65".

    Returns
    -------
    pandas.DataFrame
        One row per heart and structure: `subject`, `structure`, `volume_ml`, centroids (mm), covariances
        (mm2), `constrained`, `plausibility`, covariates.

    Raises
    ------
    InputError
        A cell is not in the grammar of the cohort table, or the reference population lacks it; or a number
        is out of its range.

    References
    ----------
    docs/cohort-table.md describes the cells.
    """
    for name, text in {"constraints": constraints, "edits": edits, "arm": arm}.items():
        if not isinstance(text, str):
            raise InputError(f"{name} {text!r}: it is text")
    if not ARM_NAME.fullmatch(arm):
        raise InputError(f"arm {arm!r}: an arm is a word of letters, digits and _")
    _check_whole("n", n, 1)
    _check_whole("seed", seed, 0)
    if not 0 < truncation < 1:
        raise InputError(f"truncation {truncation!r}: it is a share between 0 and 1")
    anatomy = prior.prior.anatomy
    described = Arm(
        name=arm,
        n=n,
        covariates=_distributions(cells),
        seed=None,
        constraints=parse_constraints(constraints, anatomy),
        edits=parse_edits(edits, anatomy),
    )
    population = population_for(described, _reference(prior))
    targets = drawn_targets(described, range(n), seed, population, truncation)
    for text in warnings_of(described, targets, population, prior.prior.grid):
        warnings.warn(text, stacklevel=2)
    return targets


def mean_heart(prior: Sampler, arm: str = "mean", **person: str | float) -> pd.DataFrame:
    """The mean heart of people with given covariates, as ellipsoids: a start for a table of explicit targets.

    Parameters
    ----------
    prior : Sampler
        From `load_prior`.
    arm : str
        The arm of the cohort table that the targets are for.
    **person : str or float
        One value of every covariate of the reference population: sex="female", age=50, bsa=1.7, ...

    Returns
    -------
    pandas.DataFrame
        One row per structure with the columns of the config key `targets_table`: `volume_ml`, centres and
        semi-axes (mm), rotation vectors (degrees). The mean is that of the population model: of the
        logarithms of volumes and extents, and of centroids (mm).

    Raises
    ------
    InputError
        A covariate is missing, has several values, or the reference population lacks it.
    """
    reference, given = _reference(prior), _distributions(person)
    columns = {reference.known[name].cohort_column: name for name in reference.covariates.columns}
    if missing := [cell for cell, column in columns.items() if column not in given]:
        raise InputError(f"a mean heart needs one value of each covariate; give {', '.join(missing)} too")
    described = Arm(name=arm, n=1, covariates=given, seed=None, constraints=(), edits=())
    model = population_for(described, reference).joint
    values = {name: _value(reference.known[name].cohort_column, given[name]) for name in columns.values()}
    mean = moments.from_vector(model.given(values).mean.reshape(-1, ENTRIES))
    centres, semi_axes, axes = moments.to_ellipsoid(mean)
    turns = Rotation.from_matrix(axes).as_rotvec(degrees=True)
    numbers = pd.DataFrame(np.hstack([centres, semi_axes, turns]), columns=list(ELLIPSOID_COLUMNS))
    numbers.insert(0, "volume_ml", mean.volume_ml)
    numbers.insert(0, "structure", model.names)
    numbers.insert(0, "arm", arm)
    return numbers


def sample_heart(prior: Sampler, targets: pd.DataFrame, seed: int = 1) -> LabelMap:
    """Sample the label map of one heart that meets its targets.

    Attempts follow each other until the topology gate accepts one. If none passes, the heart with the fewest
    violations is returned; `check_heart` says which rules it breaks.

    Parameters
    ----------
    prior : Sampler
        From `load_prior`.
    targets : pandas.DataFrame
        Rows of one subject, one per structure, from `draw_targets` or with the same columns: volumes (mL),
        centroids (mm) and covariances (mm2) in the heart frame.
    seed : int
        Together with arm, index and attempt it determines the noise.

    Returns
    -------
    LabelMap
        `labels` (X, Y, Z) uint8, `affine` (4, 4) from voxel index to mm, RAS+, in the heart frame.

    Raises
    ------
    InputError
        The rows lack a column, belong to several subjects, or have moments of nothing; or the seed is no
        whole number.
    SubjectError
        The target lies outside the prior, or all samples diverged.
    """
    _check_whole("seed", seed, 0)
    if missing := [column for column in TARGETS if column not in targets]:
        raise InputError(f"the targets lack the columns {', '.join(missing)}")
    if len(subjects := targets["subject"].unique()) != 1:
        raise InputError(f"targets of {len(subjects)} subjects; give the rows of one")
    check_moments("targets", targets)
    payload = (targets.to_dict("records"), seed, *anatomies.arm_and_index(subjects[0]), None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heart.nii.gz"
        (record,) = anatomies.work(prior, [path], [payload])
        if isinstance(record, SubjectError):
            raise record
        return label_map.read_label_map(path, prior.prior.anatomy)


def measure_heart(prior: Sampler, heart: LabelMap) -> pd.DataFrame:
    """Measure the moments of every structure of a label map.

    Parameters
    ----------
    prior : Sampler
        From `load_prior`.
    heart : LabelMap
        `labels` (X, Y, Z) uint8, 0 outside and k for the k-th of `prior.prior.anatomy.structures`; `affine`
        (4, 4) from voxel index to mm, RAS+.

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

    Parameters
    ----------
    prior : Sampler
        From `load_prior`; its rules are the gate's.
    heart : LabelMap
        `labels` (X, Y, Z) uint8, 0 outside and k for the k-th of `prior.prior.anatomy.structures`; `affine`
        (4, 4) from voxel index to mm, RAS+.

    Returns
    -------
    Verdict
        `accepted`, `reasons` (one per violated rule) and `measures` (by rule).
    """
    return topology.examine(heart.labels, heart.spacing_mm, prior.prior.anatomy, prior.rules)


def mesh_heart(
    prior: Sampler, heart: LabelMap, fibres: dict | None = None, **settings
) -> BiventricularModel | LabelModel:
    """Mesh both ventricles with fibres, ventricular coordinates, segments and wall thickness.

    With domain="labels" every label of the map becomes a region instead, with fibres in the myocardium.
    With domain="four_chamber" also the walls of right ventricle, atria and arteries are regions.

    Parameters
    ----------
    prior : Sampler
        From `load_prior`.
    heart : LabelMap
        `labels` (X, Y, Z) uint8, 0 outside and k for the k-th of `prior.prior.anatomy.structures`; `affine`
        (4, 4) from voxel index to mm, RAS+.
    fibres : dict or None
        Keys of the config section `microstructure` that differ from the defaults (degrees).
    **settings : str, float or None
        Keys of the config section `meshing`, such as rv_wall_mm=5, edge_length_mm=4.

    Returns
    -------
    BiventricularModel
        `points_mm` (N, 3), `tets` (M, 4), `region` (M,), tagged `facets`, `microstructure`, `coordinates`.
    LabelModel
        With the other domains: the same without `coordinates`; `facets` with the labels on both `sides`.

    Raises
    ------
    InputError
        A setting is out of its bounds.
    SubjectError
        The heart has no mesh that passes the quality gates; `reason` says which gate failed. Or the frame is
        "scanner", since its place in the scanner's coordinates is not known here.
    """
    chosen, angles = MeshSettings.of(settings), FibreAngles.of(fibres or {})
    if chosen.domain != "biventricular":
        return in_frame(mesh_labels(heart, prior.prior.anatomy, chosen, angles)[0], chosen.frame)
    model, _ = build(heart, prior.prior.anatomy, chosen)
    return in_frame(add_coordinates(add_fibres(model, angles)), chosen.frame)


def heart_grid(model: BiventricularModel | LabelModel) -> pyvista.UnstructuredGrid:
    """The mesh as a PyVista grid, to plot, cut or save; the arrays of the workflow's `.vtu` files.

    Parameters
    ----------
    model : BiventricularModel or LabelModel
        From `mesh_heart`: `points_mm` (N, 3) float, mm, and `tets` (M, 4) int, rows of `points_mm`.

    Returns
    -------
    pyvista.UnstructuredGrid
        Cell arrays `region`, `f0`, `s0`, `n0`, `aha`, `wall_mm` and coordinates; lengths in mm.
    """
    return storage.volume_grid(model)


def _check_whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} {value!r}: it is a whole number, {least} or more")


def _reference(prior: Sampler) -> Reference:
    return read_reference(prior.bundle / "reference_moments.parquet", prior.prior.anatomy)


def _distributions(cells: dict[str, str | float]) -> dict[str, Distribution]:
    """Distributions by column of the reference table, from cells by column of the cohort table."""
    columns = {covariate.cohort_column: covariate for covariate in covariates.known().values()}
    for name in cells:
        if name not in columns:
            raise InputError(f"there is no covariate {name!r}; allowed: {', '.join(columns)}")
    given = {columns[k].column: covariates.parse_cell(str(text), columns[k]) for k, text in cells.items()}
    return {column: distribution for column, distribution in given.items() if distribution}


def _value(cell: str, distribution: Distribution) -> str | float:
    """The value that a distribution of one value has."""
    certain = ()
    if distribution.kind == "shares":
        certain = [level for level, share in distribution.parameters if share == 1.0]
    elif distribution.kind == "fixed":
        certain = distribution.parameters
    if len(certain) != 1:
        raise InputError(f"{cell}: a mean heart needs one value, such as age=50 or sex='female'")
    return certain[0]
