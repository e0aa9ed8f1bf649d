"""Fibres for a model: the Laplace problems of the rule, then its frames. Owned by meshing."""

from dataclasses import asdict, replace

import numpy as np

from ..mesh.model import BiventricularModel, Microstructure
from .laplace import Elements, to_nodes
from .ldrb import Angles, frames
from .settings import FibreAngles


def add_fibres(model: BiventricularModel, angles: FibreAngles) -> BiventricularModel:
    """The model with fibre, sheet and sheet-normal directions on tets and nodes."""
    nodal, gradient = _fields(model)
    in_tets = nodal[:, model.tets].mean(axis=2)
    volumes, n = model.tet_volumes_mm3, len(model.points_mm)
    at_nodes = np.array([to_nodes(model.tets, volumes, g, n) for g in gradient])
    on = [_frames(*place, angles) for place in ((in_tets, gradient), (nodal, at_nodes))]
    micro = Microstructure(*(frame[..., axis] for frame in on for axis in range(3)))
    return replace(
        model, microstructure=micro, provenance=model.provenance | {"microstructure": asdict(angles)}
    )


def frames_within(model: BiventricularModel, angles: FibreAngles, weights: np.ndarray) -> np.ndarray:
    """Fibre, sheet and sheet normal as columns (M, Q, 3, 3) at places within the tets.

    weights (Q, 4): barycentric coordinates of the places, the same in every tet. At the centroids the
    directions are those of `add_fibres`. Away from it they turn, as depth changes; the surfaces' directions
    are the tet's.
    """
    nodal, gradient = _fields(model)
    places = nodal[:, model.tets] @ weights.T  # (4, M, Q)
    slopes = np.broadcast_to(gradient[:, :, None], (*places.shape, 3))
    found = _frames(places.reshape(4, -1), slopes.reshape(4, -1, 3), angles)
    return found.reshape(*places.shape[1:], 3, 3)


def _fields(model: BiventricularModel) -> tuple[np.ndarray, np.ndarray]:
    """Laplace fields (4, N) of epicardium, both endocardia and height; gradients (4, M, 3) on the tets."""
    epi, lv, rv, base = (model.nodes_of(tag) for tag in ("epi", "lv_endo", "rv_endo", "base"))
    walls = [np.setdiff1d(nodes, base) for nodes in (epi, lv, rv)]
    problems = [{0.0: np.setdiff1d(np.concatenate(walls), wall), 1.0: wall} for wall in walls]
    problems.append({0.0: np.array([apex_node(model)]), 1.0: base})
    elements = Elements(model.points_mm, model.tets)
    nodal = elements.solve(problems)
    return nodal, elements.gradients(nodal)


def _frames(field: np.ndarray, grad: np.ndarray, angles: FibreAngles) -> np.ndarray:
    rule = Angles(*asdict(angles).values())
    return frames(field[1], field[2], field[0], grad[1], grad[2], grad[0], grad[3], rule)


def apex_node(model: BiventricularModel) -> int:
    """The epicardial node farthest from the centroid of the base."""
    epi = model.nodes_of("epi")
    centre = model.points_mm[model.nodes_of("base")].mean(axis=0)
    return int(epi[np.argmax(np.linalg.norm(model.points_mm[epi] - centre, axis=1))])
