"""From the biventricular model to NGSolve's mesh and element-wise fields. Owned by the simulation stage."""

import netgen.meshing
import numpy as np

from ..mesh.model import DIRECTIONS, FACETS, REGIONS, BiventricularModel, orthonormal
from ..microstructure.fibres import FibreAngles, frames_within
from ..runtime.errors import SubjectError
from . import elements
from .finite_elements import ng


def solver_mesh(model: BiventricularModel) -> tuple[ng.Mesh, np.ndarray]:
    """NGSolve's mesh (mm), and which tet of the model each of its elements is.

    Materials are named as REGIONS, boundaries as FACETS; nodes keep their order.
    """
    mesh = netgen.meshing.Mesh(dim=3)
    mesh.AddPoints(np.ascontiguousarray(model.points_mm))
    order = []
    for dim, nodes, tags, names in (
        (3, model.tets, model.region, REGIONS),
        (2, model.facets, model.facet_tag, FACETS),
    ):
        for name, tag in names.items():
            rows = np.flatnonzero(tags == tag)
            index = mesh.AddRegion(name, dim)
            if len(rows):
                mesh.AddElements(
                    dim=dim, index=index, data=np.ascontiguousarray(nodes[rows], dtype=np.int32), base=0
                )
            if dim == 3:
                order.append(rows)
    return ng.Mesh(mesh), np.concatenate(order)


def directions(model: BiventricularModel, order: np.ndarray) -> np.ndarray:
    """(M, 3, 3): fibre, sheet and normal of each element as columns, orthonormal to a double's last bit.

    Files hold single precision, in which a fibre at rest is already stretched or not.
    """
    fibre, sheet, normal = (getattr(model.microstructure, name)[order].astype(float) for name in DIRECTIONS)
    return np.stack(orthonormal(fibre, sheet, normal), axis=-1)


def point_directions(model: BiventricularModel, order: np.ndarray) -> np.ndarray:
    """(M, Q, 3, 3): as `directions`, at the points where the laws are evaluated, by the mesh's fibre rule.

    SubjectError where the mesh does not state the rule's angles.
    """
    angles = model.provenance.get("microstructure")
    if angles is None:
        raise SubjectError(
            "no fibre rule",
            "the mesh has fibres without the angles of their rule; make it with this workflow, or set "
            "config key 'simulation.fibres' to elements",
        )
    return frames_within(model, FibreAngles.of(angles), elements.corner_weights())[order]
