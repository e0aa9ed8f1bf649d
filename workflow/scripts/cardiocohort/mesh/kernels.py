"""Loops over tetrahedra, compiled by Numba. Owned by the meshing stage."""

import numpy as np

from ..runtime.compiled import compiled


@compiled()
def places(tets, n):
    """Places in tets.ravel() by node, and where each node's begin (n + 1,); a place is 4 tet + corner."""
    start = np.zeros(n + 1, dtype=np.int64)
    for node in tets.ravel():
        start[node + 1] += 1
    start = np.cumsum(start)
    order, filled = np.empty(start[-1], dtype=np.int64), start[:-1].copy()
    for place, node in enumerate(tets.ravel()):
        order[filled[node]] = place
        filled[node] += 1
    return order, start
