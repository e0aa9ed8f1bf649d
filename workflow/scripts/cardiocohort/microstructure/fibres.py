"""Fibres for a model: the Laplace problems of the rule, then its frames. Owned by meshing."""

from dataclasses import asdict, dataclass, fields, replace

import numpy as np

from ..mesh.model import BiventricularModel, Microstructure
from ..runtime.errors import InputError
from . import laplace
from .ldrb import Angles, frames


@dataclass(frozen=True)
class FibreAngles:
    """Degrees, from the circumferential direction; 0 is an angle like any other.

    +60/-60 is common in mechanics (Streeter et al., Circ Res 1969 measured about that); the sheet angles
    are those of Bayer et al. 2012, whose own fibre example is +40/-50.
    """

    fibre_endo_deg: float = 60.0
    fibre_epi_deg: float = -60.0
    sheet_endo_deg: float = -65.0
    sheet_epi_deg: float = 25.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not -180 <= value <= 180:
                raise InputError(f"microstructure.{name}: {value!r} is not an angle from -180 to 180 degrees")

    @classmethod
    def of(cls, values: dict) -> "FibreAngles":
        """From the config's mapping; InputError naming a key that does not exist."""
        allowed = [f.name for f in fields(cls)]
        unknown = [name for name in values if name not in allowed]
        if unknown:
            raise InputError(f"microstructure.{unknown[0]}: no such setting; allowed: {', '.join(allowed)}")
        return cls(**values)


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
