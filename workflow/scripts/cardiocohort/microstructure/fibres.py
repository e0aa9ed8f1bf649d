"""Fibres for a model: the Laplace problems of the rule, then its frames. Owned by meshing."""

from dataclasses import asdict, replace

import numpy as np

from ..mesh.model import BiventricularModel, Microstructure
from . import laplace
from .ldrb import Angles, frames
from .settings import FibreAngles


def add_fibres(model: BiventricularModel, angles: FibreAngles) -> BiventricularModel:
    """The model with fibre, sheet and sheet-normal directions on tets and nodes."""
    epi, lv, rv, base = (model.nodes_of(tag) for tag in ("epi", "lv_endo", "rv_endo", "base"))
    walls = [np.setdiff1d(nodes, base) for nodes in (epi, lv, rv)]
    apex = apex_node(model)
    problems = [{0.0: np.setdiff1d(np.concatenate(walls), wall), 1.0: wall} for wall in walls]
    problems.append({0.0: np.array([apex]), 1.0: base})
    nodal = laplace.solve(model.points_mm, model.tets, problems)
    gradient = laplace.gradients(model.points_mm, model.tets, nodal)
    in_tets = nodal[:, model.tets].mean(axis=2)
    volumes, n = model.tet_volumes_mm3, len(model.points_mm)
    at_nodes = np.array([laplace.to_nodes(model.tets, volumes, g, n) for g in gradient])

    def directions(field, grad):
        rule = Angles(*asdict(angles).values())
        frame = frames(field[1], field[2], field[0], grad[1], grad[2], grad[0], grad[3], rule)
        return frame[..., 0], frame[..., 1], frame[..., 2]

    micro = Microstructure(*directions(in_tets, gradient), *directions(nodal, at_nodes))
    return replace(
        model, microstructure=micro, provenance=model.provenance | {"microstructure": asdict(angles)}
    )


def apex_node(model: BiventricularModel) -> int:
    """The epicardial node farthest from the centroid of the base."""
    epi = model.nodes_of("epi")
    centre = model.points_mm[model.nodes_of("base")].mean(axis=0)
    return int(epi[np.argmax(np.linalg.norm(model.points_mm[epi] - centre, axis=1))])
