"""Loops over grids and tetrahedra, compiled by Numba. Owned by the meshing stage."""

import numpy as np

from ..runtime.compiled import compiled

TINY_SLOPE = np.float32(1e-6)


@compiled()
def redistance(values, spacing, reach, distance):
    """Signed distance, mm, to the zero level of `values`, written to `distance`; both (X, Y, Z), 32 bits.

    Beside the surface it is value over gradient; elsewhere the distance to the surface point under the
    nearest voxel of the other side, a point that the same two tell. What has no voxel of the other side
    within `reach` voxels gets that as its distance.
    """
    nx, ny, nz = values.shape
    beside, normals = np.empty_like(values), np.empty((nx, ny, nz, 3), dtype=np.float32)
    _slopes(values, spacing, beside, normals)
    distance[:] = beside
    _far(distance, beside, normals, values < 0, np.float32(-1.0), spacing, reach)
    _far(distance, beside, normals, values >= 0, np.float32(1.0), spacing, reach)


@compiled()
def _slopes(values, spacing, beside, normals):
    """Value over slope, and unit gradients: central differences, one-sided at the grid's faces."""
    nx, ny, nz = values.shape
    for x in range(nx):
        x0, x1 = max(x - 1, 0), min(x + 1, nx - 1)
        for y in range(ny):
            y0, y1 = max(y - 1, 0), min(y + 1, ny - 1)
            for z in range(nz):
                z0, z1 = max(z - 1, 0), min(z + 1, nz - 1)
                a = (values[x1, y, z] - values[x0, y, z]) / (np.float32(x1 - x0) * spacing)
                b = (values[x, y1, z] - values[x, y0, z]) / (np.float32(y1 - y0) * spacing)
                c = (values[x, y, z1] - values[x, y, z0]) / (np.float32(z1 - z0) * spacing)
                slope = max(np.sqrt(a * a + b * b + c * c), TINY_SLOPE)
                beside[x, y, z] = values[x, y, z] / slope
                normals[x, y, z, 0] = a / slope
                normals[x, y, z, 1] = b / slope
                normals[x, y, z, 2] = c / slope


@compiled()
def _far(distance, beside, normals, side, sign, spacing, reach):
    """`distance` of the voxels of one `side` that are more than a voxel from the surface, by the nearest."""
    nx, ny, nz = side.shape
    squares, feature_x, feature_y = _nearest_across(side, reach)
    line, best, stack = _lines(nz)
    most = np.float32(1.5) * spacing
    straight_on = (np.float32(2.0) * spacing) ** 2
    for x in range(nx):
        for y in range(ny):
            wanted = False
            for z in range(nz):
                wanted = wanted or (side[x, y, z] and abs(beside[x, y, z]) > spacing)
                line[z] = squares[x, y, z]
            if not wanted:
                continue
            found = _nearest_on_line(line[:nz], best, stack)
            for z in range(nz):
                if not side[x, y, z] or abs(beside[x, y, z]) <= spacing:
                    continue
                k = best[z]
                if not found or line[k] + (z - k) ** 2 > reach * reach:
                    distance[x, y, z] = sign * reach * spacing
                    continue
                i, j = feature_x[x, y, k], feature_y[x, y, k]
                own = normals[i, j, k]
                under = min(max(beside[i, j, k], -most), most)
                a = np.float32(i - x) * spacing - own[0] * under
                b = np.float32(j - y) * spacing - own[1] * under
                c = np.float32(k - z) * spacing - own[2] * under
                straight = a * a + b * b + c * c
                normal = a * own[0] + b * own[1] + c * own[2]
                normal = normal * normal
                # that point may lie two voxels beside the nearest one: on a smooth surface the normal part
                # is exact
                distance[x, y, z] = sign * np.sqrt(normal if straight - normal < straight_on else straight)


@compiled()
def _nearest_across(side, reach):
    """The nearest voxel not in `side` with the same z: squared distance, -1 beyond `reach`, and x and y.

    Of equally near ones that with the smallest y, then x: exact (Maurer, Qi, Raghavan, IEEE Trans Pattern
    Anal Mach Intell 2003).
    """
    nx, ny, nz = side.shape
    far = -2 * reach - 2
    along = np.empty((nx, ny, nz), dtype=np.int32)  # nearest x on the same line
    for x in range(nx):
        for y in range(ny):
            for z in range(nz):
                if not side[x, y, z]:
                    along[x, y, z] = x
                else:
                    along[x, y, z] = along[x - 1, y, z] if x else far
    for x in range(nx - 2, -1, -1):
        for y in range(ny):
            for z in range(nz):
                before, behind = along[x, y, z], along[x + 1, y, z]
                if behind > x and (before == far or behind - x < x - before):
                    along[x, y, z] = behind
    squares = np.empty((nx, ny, nz), dtype=np.int32)
    feature_x = np.empty((nx, ny, nz), dtype=np.int32)
    feature_y = np.empty((nx, ny, nz), dtype=np.int32)
    line, best, stack = _lines(ny)
    for x in range(nx):
        for z in range(nz):
            for y in range(ny):
                apart = x - along[x, y, z]
                line[y] = apart * apart if abs(apart) <= reach else -1
            some = _nearest_on_line(line[:ny], best, stack)
            for y in range(ny):
                k = best[y] if some else 0
                square = line[k] + (y - k) ** 2 if some else -1
                squares[x, y, z] = square if square <= reach * reach else -1
                feature_x[x, y, z] = along[x, k, z]
                feature_y[x, y, z] = k
    return squares, feature_x, feature_y


@compiled()
def _lines(n):
    return np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)


@compiled()
def _nearest_on_line(squares, best, stack):
    """best (n,): where squares[k] + (k - i)^2 is least, of equals the first; False if all squares are < 0.

    Squares below zero do not count. `stack` (n,) is scratch space: the lower envelope of the parabolas.
    """
    top = -1
    for k in range(len(squares)):
        if squares[k] < 0:
            continue
        while top >= 1:
            a, b = stack[top - 1], stack[top]
            left = squares[b] - squares[a] + b * b - a * a
            right = squares[k] - squares[b] + k * k - b * b
            if left * (k - b) <= right * (b - a):
                break
            top -= 1
        top += 1
        stack[top] = k
    if top < 0:
        return False
    at = 0
    for i in range(len(squares)):
        while at < top:
            a, b = stack[at], stack[at + 1]
            if squares[a] + (i - a) ** 2 <= squares[b] + (i - b) ** 2:
                break
            at += 1
        best[i] = stack[at]
    return True


@compiled()
def move_nodes(points, tets, faces_of, nodes, order, start, anchor, held, reach_mm, step, directions):
    """Move each of `nodes` in turn to where the worst tet around it is best; `points` (N, 3) change.

    faces_of: FACES of `tetrahedron_geometry`; order, start: as of `mesh.kernels.places`. A node tries where
    it is, the middle of its neighbours, and a `step` of their mean distance along each of `directions`
    (D, 3). Nodes that are `held` (N,) may be no more than `reach_mm` from their place in `anchor`.
    """
    trial, best, middle = np.empty(3), np.empty(3), np.empty(3)
    most = 0
    for node in nodes:
        most = max(most, start[node + 1] - start[node])
    faces, sides = np.empty((most, 3), dtype=np.int64), np.empty((most, 3))
    others = np.empty(3 * most, dtype=np.int64)
    for node in nodes:
        n = start[node + 1] - start[node]
        for t in range(n):
            place = order[start[node] + t]
            for i in range(3):
                faces[t, i] = tets[place // 4, faces_of[place % 4, i]]
                others[3 * t + i] = faces[t, i]
            for i in range(3):
                sides[t, i] = _apart(points[faces[t, i]], points[faces[t, (i + 1) % 3]])
        neighbours = np.unique(others[: 3 * n])
        middle[:] = 0.0
        size = 0.0
        for other in neighbours:
            middle += points[other]
            size += _apart(points[other], points[node])
        middle /= len(neighbours)
        size /= len(neighbours)
        best[:] = points[node]
        highest = worst_over(best, points, faces[:n], sides, -np.inf)
        for d in range(-1, len(directions)):
            for i in range(3):
                trial[i] = middle[i] if d < 0 else points[node, i] + step * size * directions[d, i]
            if held[node] and _apart(trial, anchor[node]) > reach_mm:
                continue
            worst = worst_over(trial, points, faces[:n], sides, highest)
            if worst > highest:
                highest = worst
                best[:] = trial
        points[node] = best


@compiled()
def _apart(a, b):
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return np.sqrt(x * x + y * y + z * z)


@compiled()
def worst_over(apex, points, faces, sides, enough):
    """Least scaled Jacobian of the tets between `apex` and faces (F, 3); what is below `enough` may be any.

    As `tetrahedron_geometry.scaled_jacobian`; sides (F, 3): of corners 0 and 1, 1 and 2, 2 and 0.
    """
    least = np.inf
    for t in range(len(faces)):
        p, q, r = points[faces[t, 0]], points[faces[t, 1]], points[faces[t, 2]]
        px, py, pz = p[0] - apex[0], p[1] - apex[1], p[2] - apex[2]
        qx, qy, qz = q[0] - apex[0], q[1] - apex[1], q[2] - apex[2]
        rx, ry, rz = r[0] - apex[0], r[1] - apex[1], r[2] - apex[2]
        jacobian = px * (qy * rz - qz * ry) + py * (qz * rx - qx * rz) + pz * (qx * ry - qy * rx)
        a = np.sqrt(px * px + py * py + pz * pz)
        b = np.sqrt(qx * qx + qy * qy + qz * qz)
        c = np.sqrt(rx * rx + ry * ry + rz * rz)
        pq, qr, rp = sides[t]
        largest = max(a * b * c, a * (pq * rp), b * (qr * pq), c * (rp * qr))
        least = min(least, np.sqrt(2.0) * jacobian / max(largest, np.finfo(np.float64).tiny))
        if least <= enough:
            break
    return least
