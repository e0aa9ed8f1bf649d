"""Loops of linear elements on tetrahedra, compiled by Numba. Owned by the meshing stage."""

import numpy as np

from ..runtime.compiled import compiled

WIDTH = 4  # systems that are solved at once


@compiled()
def hats(points, tets):
    """Gradients (M, 4, 3), per mm, of the four hat functions of each tet, and its volume (M,), mm3."""
    gradients, volume = np.empty((len(tets), 4, 3)), np.empty(len(tets))
    for e in range(len(tets)):
        origin = points[tets[e, 0]]
        a, b, c = points[tets[e, 1]] - origin, points[tets[e, 2]] - origin, points[tets[e, 3]] - origin
        bc, ca, ab = np.cross(b, c), np.cross(c, a), np.cross(a, b)
        six = a[0] * bc[0] + a[1] * bc[1] + a[2] * bc[2]
        for i in range(3):
            gradients[e, 1, i], gradients[e, 2, i], gradients[e, 3, i] = bc[i] / six, ca[i] / six, ab[i] / six
            gradients[e, 0, i] = -(bc[i] + ca[i] + ab[i]) / six
        volume[e] = abs(six) / 6
    return gradients, volume


@compiled()
def pattern(tets, order, start):
    """Rows of the matrix of the tets: where each begins (n + 1,), and columns, sorted in each row.

    order, start: as of `mesh.kernels.places`.
    """
    n = len(start) - 1
    rows, columns = np.zeros(n + 1, dtype=np.int64), np.empty(4 * start[-1], dtype=np.uint32)
    seen = np.full(n, -1)
    for node in range(n):
        end = rows[node]
        for place in order[start[node] : start[node + 1]]:
            for other in tets[place // 4]:
                if seen[other] != node:
                    seen[other] = node
                    columns[end] = other
                    end += 1
        columns[rows[node] : end].sort()
        rows[node + 1] = end
    return rows, columns[: rows[-1]].copy()


@compiled()
def assemble(tets, gradients, volume, along, sideways, rows, columns):
    """Values of the matrix whose pattern is `rows` and `columns`.

    along (M, 4): slopes of the hat functions along a direction, which count (1 - sideways) times; the product
    of the whole gradients counts `sideways` times.
    """
    values = np.zeros(len(columns))
    for e in range(len(tets)):
        for a in range(4):
            row = tets[e, a]
            for b in range(4):
                full = 0.0
                for i in range(3):
                    full += gradients[e, a, i] * gradients[e, b, i]
                at = rows[row]
                while columns[at] != tets[e, b]:
                    at += 1
                values[at] += volume[e] * ((1 - sideways) * along[e, a] * along[e, b] + sideways * full)
    return values


@compiled(fastmath={"contract"})
def solve(rows, columns, values, right, field, free, tolerance, most):
    """Solve WIDTH symmetric positive systems of one matrix at once; False after `most` steps.

    right, field and free are (n, WIDTH). `field` keeps its values where it is not free, and gets the solution
    elsewhere. Conjugate gradients with symmetric Gauss-Seidel, in the form that needs no product with the
    matrix beside the two sweeps (Eisenstat, SIAM J Sci Stat Comput 1981). A step takes the time of one
    system, as each waits for its own sums.
    """
    n = len(rows) - 1
    diagonal, scale = rows[:-1].copy(), np.zeros(n)
    for i in range(n):
        for e in range(rows[i], rows[i + 1]):
            if columns[e] == i:
                diagonal[i] = e
                scale[i] = 1 / np.sqrt(values[e])
    scaled = np.empty_like(values)
    kept, residual, way = np.empty((n, WIDTH)), np.empty((n, WIDTH)), np.empty((n, WIDTH))
    for i in range(n):
        for k in range(WIDTH):
            kept[i, k] = 1.0 if free[i, k] else 0.0
            way[i, k] = right[i, k]
        for e in range(rows[i], rows[i + 1]):
            j = columns[e]
            scaled[e] = values[e] * scale[i] * scale[j]
            for k in range(WIDTH):
                if not free[j, k]:
                    way[i, k] -= values[e] * field[j, k]
        way[i] *= scale[i]
    _forward(rows, columns, scaled, diagonal, way, kept, residual)
    way[:] = residual
    found, back, ahead = np.zeros((n, WIDTH)), np.empty((n, WIDTH)), np.empty((n, WIDTH))
    size = (residual * residual).sum(axis=0)
    enough = size * tolerance**2
    for _ in range(most):
        _backward(rows, columns, scaled, diagonal, way, kept, back)
        _forward(rows, columns, scaled, diagonal, way - back, kept, ahead)
        before, along = size.copy(), np.zeros(WIDTH)
        for i in range(n):
            for k in range(WIDTH):
                along[k] += way[i, k] * (ahead[i, k] + back[i, k])
        step = np.where(along > 0, size / np.maximum(along, np.finfo(np.float64).tiny), 0.0)
        size = np.zeros(WIDTH)
        for i in range(n):
            for k in range(WIDTH):
                found[i, k] += step[k] * way[i, k]
                residual[i, k] -= step[k] * (ahead[i, k] + back[i, k])
                size[k] += residual[i, k] * residual[i, k]
        if (size <= enough).all():
            _backward(rows, columns, scaled, diagonal, found, kept, back)
            for i in range(n):
                for k in range(WIDTH):
                    if free[i, k]:
                        field[i, k] = back[i, k] * scale[i]
            return True
        turn = np.where(before > 0, size / np.maximum(before, np.finfo(np.float64).tiny), 0.0)
        for i in range(n):
            for k in range(WIDTH):
                way[i, k] = residual[i, k] + turn[k] * way[i, k]
    return False


@compiled(fastmath={"contract"})
def _forward(rows, columns, scaled, diagonal, right, kept, out):
    """(I + L) out = right, L below the diagonal; zero where `kept` is."""
    for i in range(len(diagonal)):
        a, b, c, d = right[i, 0], right[i, 1], right[i, 2], right[i, 3]
        for e in range(rows[i], diagonal[i]):
            j, weight = columns[e], scaled[e]
            a -= weight * out[j, 0]
            b -= weight * out[j, 1]
            c -= weight * out[j, 2]
            d -= weight * out[j, 3]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = (
            a * kept[i, 0], b * kept[i, 1], c * kept[i, 2], d * kept[i, 3],
        )  # fmt: skip


@compiled(fastmath={"contract"})
def _backward(rows, columns, scaled, diagonal, right, kept, out):
    """(I + L^T) out = right, as `_forward`."""
    for i in range(len(diagonal) - 1, -1, -1):
        a, b, c, d = right[i, 0], right[i, 1], right[i, 2], right[i, 3]
        for e in range(diagonal[i] + 1, rows[i + 1]):
            j, weight = columns[e], scaled[e]
            a -= weight * out[j, 0]
            b -= weight * out[j, 1]
            c -= weight * out[j, 2]
            d -= weight * out[j, 3]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = (
            a * kept[i, 0], b * kept[i, 1], c * kept[i, 2], d * kept[i, 3],
        )  # fmt: skip
