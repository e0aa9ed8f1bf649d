"""From the biventricular model to NGSolve's mesh and element-wise fields. Owned by the simulation stage."""

import netgen.meshing
import ngsolve as ng
import numpy as np

from ..mesh.model import DIRECTIONS, FACETS, REGIONS, BiventricularModel


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
    """(M, 3, 3): fibre, sheet and normal of each element as columns, unit vectors to a double's last bit."""
    columns = np.stack([getattr(model.microstructure, name)[order] for name in DIRECTIONS], axis=-1)
    # files hold single precision, in which a fibre at rest is already stretched or not
    return columns / np.linalg.norm(columns, axis=1, keepdims=True)
