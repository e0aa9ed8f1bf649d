"""Loops over elements and matrix entries, compiled by Numba. Owned by the simulation stage.

Arrays of m elements with Q points are as in `elements.Solid`. At the n = m Q points: f the deformation
gradient, c = f^T f, j = det f, shrink = j^(-2/3), s_bar and d_bar the law's stress and stiffness
(`materials`), more and more_d those by c itself, without rows where a law has none.
"""

import numpy as np

from ..runtime.compiled import compiled as compiled_with

compiled = compiled_with(fastmath={"contract"})

_PLACE = np.array([[0, 3, 4], [3, 1, 5], [4, 5, 2]])  # of a symmetric tensor's components among PAIRS
_TWICE = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])  # how often a component of PAIRS is in its tensor


@compiled
def deform(state, dofs, slopes, axes, f):
    """f (m, Q, 3, 3): columns are where fibre, sheet and normal go."""
    for e in range(len(f)):
        for q in range(f.shape[1]):
            own = axes[e, min(q, axes.shape[1] - 1)]
            for i in range(3):
                for a in range(3):
                    total = own[i, a]
                    for node in range(10):
                        total += state[dofs[e, 10 * i + node]] * slopes[e, q, a, node]
                    f[e, q, i, a] = total


@compiled
def strain(f, c, j):
    """c (6, n) = F^T F and j (n,) = det F of f (m, Q, 3, 3)."""
    for e in range(len(f)):
        for q in range(f.shape[1]):
            own, n = f[e, q], e * f.shape[1] + q
            for a in range(3):
                for b in range(a, 3):
                    c[_PLACE[a, b], n] = own[0, a] * own[0, b] + own[1, a] * own[1, b] + own[2, a] * own[2, b]
            j[n] = (
                own[0, 0] * (own[1, 1] * own[2, 2] - own[1, 2] * own[2, 1])
                - own[0, 1] * (own[1, 0] * own[2, 2] - own[1, 2] * own[2, 0])
                + own[0, 2] * (own[1, 0] * own[2, 1] - own[1, 1] * own[2, 0])
            )


@compiled
def _mixed_pressure(state, dofs, shapes):
    total = 0.0
    for corner in range(4):
        total += state[dofs[30 + corner]] * shapes[corner]
    return total


@compiled
def _stress(c, j, shrink, s_bar, more, p, inverse, isochoric, out):
    """inverse, isochoric and out (6,): C^-1, the isochoric and the whole second Piola-Kirchhoff stress at a
    point, where the law has the stress s_bar. Returns the contraction of s_bar and C."""
    inverse[0] = c[1] * c[2] - c[5] * c[5]
    inverse[1] = c[0] * c[2] - c[4] * c[4]
    inverse[2] = c[0] * c[1] - c[3] * c[3]
    inverse[3] = c[4] * c[5] - c[3] * c[2]
    inverse[4] = c[3] * c[5] - c[4] * c[1]
    inverse[5] = c[3] * c[4] - c[0] * c[5]
    trace = 0.0
    for k in range(6):
        inverse[k] /= j * j
        trace += _TWICE[k] * s_bar[k] * c[k]
    for k in range(6):
        isochoric[k] = shrink * (s_bar[k] - trace / 3 * inverse[k])
        out[k] = isochoric[k] + p * j * inverse[k]
        if len(more):
            out[k] += more[k]
    return trace


@compiled
def _stress_by_strain(c, j, shrink, d_bar, more, p, kept, inverse, isochoric, trace, both, out):
    """out (6, 6): derivative of a point's stress by its Green-Lagrange strain. kept: volume_kpa; both (6,) is
    written over."""
    whole = 0.0
    for k in range(6):
        both[k] = 0.0
        for m in range(6):
            both[k] += d_bar[k, m] * _TWICE[m] * c[m]
        whole += _TWICE[k] * both[k] * c[k]
    squared = shrink * shrink
    own = squared / 18 * whole - shrink * trace / 9 + p * j / 2
    for k in range(6):
        both[k] = -squared / 3 * both[k] - 2 / 3 * isochoric[k] + own * inverse[k]
    square = shrink * trace / 3 - p * j
    for a in range(3):
        for b in range(a, 3):
            row = _PLACE[a, b]
            for x in range(3):
                for y in range(x, 3):
                    column = _PLACE[x, y]
                    crossed = inverse[_PLACE[a, x]] * inverse[_PLACE[b, y]]
                    crossed += inverse[_PLACE[a, y]] * inverse[_PLACE[b, x]]
                    value = squared * d_bar[row, column] + square * crossed
                    value += inverse[row] * both[column] + both[row] * inverse[column]
                    value += kept * inverse[row] * inverse[column]
                    if len(more):
                        value += more[row, column]
                    out[row, column] = value


@compiled
def _strain_by_nodes(f, slopes, out):
    """out (6, 30): derivative of a point's Green-Lagrange strain, shear doubled, by the displacements."""
    for a in range(3):
        for b in range(a, 3):
            for i in range(3):
                one, other = f[i, a], f[i, b] if b > a else 0.0
                for node in range(10):
                    out[_PLACE[a, b], 10 * i + node] = one * slopes[b, node] + other * slopes[a, node]


@compiled
def forces(state, dofs, slopes, weights, shapes, f, c, j, shrink, s_bar, more, bulk_kpa, volume_kpa, out):
    """Add residuals to out (ndof,)."""
    inverse, isochoric, stress = np.empty(6), np.empty(6), np.empty(6)
    by_nodes, own = np.empty((6, 30)), np.empty(34)
    for e in range(len(f)):
        own[:] = 0
        for q in range(f.shape[1]):
            n, weight = e * f.shape[1] + q, weights[e, q]
            mixed = _mixed_pressure(state, dofs[e], shapes[q])
            p = mixed + volume_kpa * (1 - 1 / j[n])
            _stress(c[:, n], j[n], shrink[n], s_bar[:, n], more[:, n], p, inverse, isochoric, stress)
            _strain_by_nodes(f[e, q], slopes[e, q], by_nodes)
            for k in range(6):
                value = weight * stress[k]
                for column in range(30):
                    own[column] += value * by_nodes[k, column]
            for corner in range(4):
                own[30 + corner] += weight * (j[n] - 1 - mixed / bulk_kpa) * shapes[q, corner]
        for row in range(34):
            out[dofs[e, row]] += own[row]


@compiled
def stiffness(
    state, dofs, slopes, weights, shapes, f, c, j, shrink, s_bar, more, d_bar, more_d, bulk_kpa, volume_kpa,
    places, out,
):  # fmt: skip
    """Add the upper triangle of the residuals' derivative to out at places (m, 595), row by row."""
    inverse, isochoric, stress, by_strain = np.empty(6), np.empty(6), np.empty(6), np.empty((6, 6))
    by_nodes, stresses, volume, turned = np.empty((6, 30)), np.empty((6, 30)), np.empty(30), np.empty((3, 10))
    k, both = np.empty((34, 34)), np.empty(6)
    for e in range(len(f)):
        k[:] = 0
        for q in range(f.shape[1]):
            n, weight = e * f.shape[1] + q, weights[e, q]
            mixed = _mixed_pressure(state, dofs[e], shapes[q])
            p = mixed + volume_kpa * (1 - 1 / j[n])
            trace = _stress(c[:, n], j[n], shrink[n], s_bar[:, n], more[:, n], p, inverse, isochoric, stress)
            _stress_by_strain(
                c[:, n], j[n], shrink[n], d_bar[:, :, n], more_d[:, :, n], p, volume_kpa, inverse, isochoric,
                trace, both, by_strain,
            )  # fmt: skip
            _strain_by_nodes(f[e, q], slopes[e, q], by_nodes)
            # sums are written out: of a row at a time the compiler makes vector instructions
            for row in range(6):
                b0, b1, b2 = by_strain[row, 0], by_strain[row, 1], by_strain[row, 2]
                b3, b4, b5 = by_strain[row, 3], by_strain[row, 4], by_strain[row, 5]
                for column in range(30):
                    stresses[row, column] = weight * (
                        b0 * by_nodes[0, column] + b1 * by_nodes[1, column] + b2 * by_nodes[2, column]
                        + b3 * by_nodes[3, column] + b4 * by_nodes[4, column] + b5 * by_nodes[5, column]
                    )  # fmt: skip
            volume[:] = 0
            for row in range(6):
                value = weight * j[n] * inverse[row]
                for column in range(30):
                    volume[column] += value * by_nodes[row, column]
            for a in range(3):
                b0, b1, b2 = stress[_PLACE[a, 0]], stress[_PLACE[a, 1]], stress[_PLACE[a, 2]]
                for node in range(10):
                    turned[a, node] = weight * (
                        b0 * slopes[e, q, 0, node] + b1 * slopes[e, q, 1, node] + b2 * slopes[e, q, 2, node]
                    )
            for row in range(30):
                node, first = row % 10, row - row % 10
                b0, b1, b2 = by_nodes[0, row], by_nodes[1, row], by_nodes[2, row]
                b3, b4, b5 = by_nodes[3, row], by_nodes[4, row], by_nodes[5, row]
                for column in range(30):
                    k[row, column] += (
                        b0 * stresses[0, column] + b1 * stresses[1, column] + b2 * stresses[2, column]
                        + b3 * stresses[3, column] + b4 * stresses[4, column] + b5 * stresses[5, column]
                    )  # fmt: skip
                b0, b1, b2 = slopes[e, q, 0, node], slopes[e, q, 1, node], slopes[e, q, 2, node]
                for column in range(10):
                    k[row, first + column] += (
                        b0 * turned[0, column] + b1 * turned[1, column] + b2 * turned[2, column]
                    )
                for corner in range(4):
                    k[row, 30 + corner] += volume[row] * shapes[q, corner]
            for corner in range(4):
                value = weight / bulk_kpa * shapes[q, corner]
                for other in range(4):
                    k[30 + corner, 30 + other] -= value * shapes[q, other]
        place = 0
        for row in range(34):
            for column in range(row, 34):
                out[places[e, place]] += k[row, column]
                place += 1


@compiled
def places(dofs, local, ends, neighbours, offsets, number, before, within, none, out):
    """out (m, D (D + 1) / 2): the matrix entry of each pair of an element's unknowns dofs (m, D), row by row;
    `none` where one is prescribed.

    local (D,): which of the element's nodes has the unknown; the first of dofs are the nodes. Those from
    node i on that share an element with it are neighbours[ends[i]:ends[i + 1]], in their order. The entry of
    unknowns numbered low and high is before[low] + within[high] and what offsets has for their nodes.
    """
    nodes = local.max() + 1
    offset = np.empty((nodes, nodes), np.int64)
    for e in range(len(dofs)):
        for one in range(nodes):
            for other in range(one, nodes):
                low, high = min(dofs[e, one], dofs[e, other]), max(dofs[e, one], dofs[e, other])
                at = ends[low] + np.searchsorted(neighbours[ends[low] : ends[low + 1]], high)
                offset[one, other] = offset[other, one] = offsets[at]
        place = 0
        for row in range(len(local)):
            for column in range(row, len(local)):
                low, high = number[dofs[e, row]], number[dofs[e, column]]
                if low > high:
                    low, high = high, low
                entry = before[low] + offset[local[row], local[column]] + within[high]
                out[e, place] = none if low < 0 else entry
                place += 1


@compiled
def multiply(values, columns, starts, blocks, begin, end, x, out):
    """Add to out (n,) what blocks of rows of a symmetric matrix's upper triangle and their mirror images make
    of x (n,). Rows of a block start on the diagonal and end with the same columns, those beyond the block."""
    for block in range(begin, end):
        top, below = blocks[block], blocks[block + 1]
        for row in range(top, below):
            first = starts[row]
            out[row] += values[first] * x[row]
            for entry in range(first + 1, first + below - row):
                out[row] += values[entry] * x[columns[entry]]
                out[columns[entry]] += values[entry] * x[row]
        # beyond the block three rows at a time: their columns are the same
        beyond = starts[top + 1] - starts[top] - (below - top)
        one = top
        while one + 3 <= below:
            a, b, c = starts[one + 1] - beyond, starts[one + 2] - beyond, starts[one + 3] - beyond
            x0, x1, x2, total0, total1, total2 = x[one], x[one + 1], x[one + 2], 0.0, 0.0, 0.0
            for i in range(beyond):
                column = columns[a + i]
                there = x[column]
                total0 += values[a + i] * there
                total1 += values[b + i] * there
                total2 += values[c + i] * there
                out[column] += values[a + i] * x0 + values[b + i] * x1 + values[c + i] * x2
            out[one] += total0
            out[one + 1] += total1
            out[one + 2] += total2
            one += 3
        for row in range(one, below):
            first = starts[row + 1] - beyond
            for i in range(beyond):
                out[row] += values[first + i] * x[columns[first + i]]
                out[columns[first + i]] += values[first + i] * x[row]
