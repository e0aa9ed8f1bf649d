"""Lids that close the cavities over the rims of the endocardia. Owned by the inputs stage.

A lid has the nodes of its rim alone, so that it moves with the mesh. Of all triangulations of the rim it is
the one of least area, which neither folds nor needs the rim to be plane or convex (Barequet and Sharir,
Comput Aided Geom Des 12:207, 1995). Triangles without area, between nodes on a line, are avoided.
"""

import numpy as np

from .model import FACETS, BiventricularModel, rim_edges

VENTRICLES = ("lv", "rv")
FLAT = 1e-6  # area of a triangle as a share of its longest side squared, below which solvers refuse it


def lids(model: BiventricularModel) -> dict[str, np.ndarray]:
    """Facets (K, 3) by ventricle, turned as its endocardium: normals into the cavity.

    Ventricles without an endocardium, or with a closed one, have none.
    """
    found = {}
    for name in VENTRICLES:
        loops = rim_loops(model.facets[model.facet_tag == FACETS[f"{name}_endo"]])
        if loops:
            found[name] = np.concatenate([loop[fill(model.points_mm[loop])] for loop in loops])
    return found


def rim_loops(facets: np.ndarray) -> list[np.ndarray]:
    """The borders of a patch of oriented facets (F, 3): nodes of simple loops, turned against the facets."""
    ahead: dict[int, list[int]] = {}
    for start, end in rim_edges(facets).tolist():
        ahead.setdefault(end, []).append(start)
    loops: list[np.ndarray] = []
    while ahead:
        path = [next(iter(ahead))]
        while ahead.get(path[-1]):
            node = ahead[path[-1]].pop()
            if not ahead[path[-1]]:
                del ahead[path[-1]]
            if node in path:  # where a rim touches itself there are several loops
                start = path.index(node)
                loops.append(np.array(path[start:]))
                del path[start + 1 :]
            else:
                path.append(node)
    return loops


def fill(corners: np.ndarray) -> np.ndarray:
    """Triangles (n - 2, 3) of least area between the corners (n, 3) of a closed polygon, turned as it is."""
    n = len(corners)
    size = np.ptp(corners, axis=0).max()
    cost = np.zeros((n, n))
    middle = np.zeros((n, n), dtype=int)
    for gap in range(2, n):
        i = np.arange(n - gap)[:, None]
        j, k = i + gap, i + np.arange(1, gap)
        sides = corners[k] - corners[i], corners[j] - corners[i], corners[j] - corners[k]
        area = np.linalg.norm(np.cross(*sides[:2]), axis=2) / 2
        one, two, three = ((side**2).sum(axis=2) for side in sides)
        longest = np.maximum(np.maximum(one, two), three)
        total = cost[i, k] + cost[k, j] + area + (area < FLAT * longest) * (n * size) ** 2
        best = total.argmin(axis=1)
        rows = np.arange(n - gap)
        cost[rows, rows + gap] = total[rows, best]
        middle[rows, rows + gap] = rows + 1 + best
    triangles, open_ = [], [(0, n - 1)]
    while open_:
        i, j = open_.pop()
        if j - i >= 2:
            k = middle[i, j]
            triangles.append((i, k, j))
            open_ += [(i, k), (k, j)]
    return np.array(triangles, dtype=int).reshape(-1, 3)
