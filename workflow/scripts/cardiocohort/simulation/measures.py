"""What is read off a state: displacements, cavity volumes, strains. Owned by the simulation stage."""

from collections.abc import Collection

import numpy as np

from ..mesh.model import FACETS, BiventricularModel, rim_edges
from ..mesh.second_order import TET_EDGES, second_order
from .finite_elements import ng
from .materials import PAIRS
from .problem import Problem

# strains in the axes fibre, sheet, sheet normal
STRAINS = ("E_ff", "E_ss", "E_nn", "E_fs", "E_fn", "E_sn")


def corner_displacements(problem: Problem) -> np.ndarray:
    """(N, 3) displacement (mm) of the mesh's corners."""
    # a component's unknowns begin with the corners' values
    return problem.displacement.vec.FV().NumPy().reshape(3, -1)[:, : problem.mesh.nv].T.copy()


def ten_node_displacements(problem: Problem, model: BiventricularModel, order: np.ndarray) -> np.ndarray:
    """(N + E, 3) displacement (mm) of corners and midside nodes, numbered as `second_order` does.

    order: which tet of the model each element of the problem's mesh is.
    """
    points, tets, _ = second_order(model.points_mm, model.tets, model.facets)
    # the reference tetrahedron's corners are at 1, 0, 0 first and at the origin last
    corners = np.vstack([np.eye(3), np.zeros(3)])
    places = np.vstack([corners, corners[TET_EDGES].mean(axis=1)])
    moved = np.zeros_like(points)
    moved[tets[order].ravel()] = _at(problem, problem.displacement, places).reshape(-1, 3)
    return moved


def cavity_volume_ml(problem: Problem, model: BiventricularModel, ventricle: str) -> float:
    """Deformed volume (mL) of the cavity of "lv" or "rv", NaN where there is none.

    Its lid is the one of the model's cavity_volume_ml.
    """
    name = f"{ventricle}_endo"
    facets = model.facets[model.facet_tag == FACETS[name]]
    if not len(facets):
        return float("nan")
    rim = np.unique(rim_edges(facets))
    lid = (model.points_mm + corner_displacements(problem))[rim].mean(axis=0)
    u = problem.displacement
    area = ng.Cof(ng.Id(3) + ng.Grad(u).Trace()) * ng.specialcf.normal(3)
    cone = ng.InnerProduct(ng.CF((ng.x, ng.y, ng.z)) + u - ng.CF(tuple(lid)), area)
    # facets point out of the muscle, that is into the cavity
    return -float(ng.Integrate(cone, problem.mesh.Boundaries(name), order=6)) / 3000.0


def strains(problem: Problem, axes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Green-Lagrange strains (M,) at the elements' centroids by name of STRAINS, and the volume ratio J.

    axes (M, 3, 3): fibre, sheet and normal as columns; without them J alone. Rows are
    elements of the problem's mesh.
    """
    gradient = ng.Id(3) + ng.Grad(problem.displacement)
    f = _at(problem, gradient, np.full((1, 3), 0.25)).reshape(-1, 3, 3)
    measures = {"J": np.linalg.det(f)}
    if axes is not None:
        along = f @ axes
        strain = 0.5 * (along.swapaxes(1, 2) @ along - axes.swapaxes(1, 2) @ axes)
        measures |= {name: strain[:, i, j] for name, (i, j) in zip(STRAINS, PAIRS, strict=True)}
    return measures


def mean_over(model: BiventricularModel, values: np.ndarray, segments: Collection[int]) -> float:
    """Mean of values (M,) of the model's tets in AHA segments, weighted by volume; NaN without such tets."""
    inside = np.isin(model.coordinates.aha, list(segments))
    if not inside.any():
        return float("nan")
    return float(np.average(values[inside], weights=model.tet_volumes_mm3[inside]))


def _at(problem: Problem, field: ng.CoefficientFunction, places: np.ndarray) -> np.ndarray:
    """Values of a field at the same places (K, 3) of every element's reference tetrahedron."""
    rule = ng.IntegrationRule(list(map(tuple, places)), [0.0] * len(places))
    return np.asarray(field(problem.mesh.MapToAllElements({ng.TET: rule}, ng.VOL)))
