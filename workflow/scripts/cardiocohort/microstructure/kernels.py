"""Loops of linear elements on tetrahedra, compiled by Numba. Owned by the meshing stage."""

import numpy as np

from ..runtime.compiled import compiled

WIDTH = 4  # systems that are solved at once
ONE = np.uint64(1)  # a sum with a signed 1 would be a float


@compiled()
def hats(points, tets):
    """Gradients (M, 4, 3), per mm, of the four hat functions of each tet, and its volume (M,), mm3."""
    gradients, volume = np.empty((len(tets), 4, 3)), np.empty(len(tets))
    edges, across = np.empty((3, 3)), np.empty((3, 3))
    for e in range(len(tets)):
        for k in range(3):
            for i in range(3):
                edges[k, i] = points[tets[e, k + 1], i] - points[tets[e, 0], i]
        for k in range(3):
            one, two = (k + 1) % 3, (k + 2) % 3
            for i in range(3):
                j, m = (i + 1) % 3, (i + 2) % 3
                across[k, i] = edges[one, j] * edges[two, m] - edges[one, m] * edges[two, j]
        six = edges[0, 0] * across[0, 0] + edges[0, 1] * across[0, 1] + edges[0, 2] * across[0, 2]
        for i in range(3):
            gradients[e, 0, i] = -(across[0, i] + across[1, i] + across[2, i]) / six
            for k in range(3):
                gradients[e, k + 1, i] = across[k, i] / six
        volume[e] = abs(six) / 6
    return gradients, volume


@compiled()
def pattern(tets, order, start):
    """Rows of the matrix of the tets: where each begins (n + 1,), and columns, sorted in each row.

    order, start: as of `mesh.kernels.places`. Indices have no sign, so that loops need no test of it.
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
    return rows.astype(np.uint64), columns[: rows[-1]].copy()


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
                    at += ONE
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
    found, back, ahead = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.empty((n, WIDTH))
    _forward(rows, columns, scaled, diagonal, way, back, kept, residual)
    way[:] = residual
    size = (residual * residual).sum(axis=0)
    enough = size * tolerance**2
    for _ in range(most):
        _backward(rows, columns, scaled, diagonal, way, kept, back)
        _forward(rows, columns, scaled, diagonal, way, back, kept, ahead)
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
def _forward(rows, columns, scaled, diagonal, right, less, kept, out):
    """(I + L) out = right - less, L below the diagonal; zero where `kept` is."""
    for i in range(len(diagonal)):
        a, b = right[i, 0] - less[i, 0], right[i, 1] - less[i, 1]
        c, d = right[i, 2] - less[i, 2], right[i, 3] - less[i, 3]
        _row(i, rows[i], diagonal[i], columns, scaled, kept, out, a, b, c, d)


@compiled(fastmath={"contract"})
def _backward(rows, columns, scaled, diagonal, right, kept, out):
    """(I + L^T) out = right, as `_forward`."""
    for i in range(len(diagonal) - 1, -1, -1):
        a, b, c, d = right[i, 0], right[i, 1], right[i, 2], right[i, 3]
        _row(i, diagonal[i] + ONE, rows[i + 1], columns, scaled, kept, out, a, b, c, d)


@compiled(fastmath={"contract"})
def _row(i, first, end, columns, scaled, kept, out, a, b, c, d):
    """Row i of `out`: four sums, less what the entries from `first` to `end` and rows before make of them."""
    for e in range(first, end):
        j, weight = columns[e], scaled[e]
        a -= weight * out[j, 0]
        b -= weight * out[j, 1]
        c -= weight * out[j, 2]
        d -= weight * out[j, 3]
    out[i, 0], out[i, 1], out[i, 2], out[i, 3] = (
        a * kept[i, 0], b * kept[i, 1], c * kept[i, 2], d * kept[i, 3],
    )  # fmt: skip
