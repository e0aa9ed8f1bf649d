"""Ten-node tetrahedra from four-node ones. Owned by the inputs stage; numpy only."""

import numpy as np

from .tetrahedron_geometry import row_keys

# midside nodes follow the corners in the order that VTK, Abaqus and FEBio share
TET_EDGES = np.array([[0, 1], [1, 2], [0, 2], [0, 3], [1, 3], [2, 3]])
TRIANGLE_EDGES = np.array([[0, 1], [1, 2], [0, 2]])


def second_order(
    points: np.ndarray, tets: np.ndarray, facets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N + E, 3), tets (M, 10) and facets (F, 6) with a node in the middle of each of the E edges.

    The corners keep their indices and the edges stay straight, so that volumes and surfaces are the same.
    """
    n = len(points)
    in_tets = np.sort(tets[:, TET_EDGES], axis=2).reshape(-1, 2)
    in_facets = np.sort(facets[:, TRIANGLE_EDGES], axis=2).reshape(-1, 2)
    keys, first, of_tets = np.unique(row_keys(in_tets, n), return_index=True, return_inverse=True)
    of_facets = np.searchsorted(keys, row_keys(in_facets, n))
    middle = points[in_tets[first]].mean(axis=1)
    return (
        np.concatenate([points, middle]),
        np.hstack([tets, n + of_tets.reshape(-1, 6)]),
        np.hstack([facets, n + of_facets.reshape(-1, 3)]),
    )
