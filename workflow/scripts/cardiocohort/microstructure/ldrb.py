"""The Laplace-Dirichlet rule: fields and their gradients to orthonormal frames. Owned by meshing.

Bayer, Blake, Plank, Trayanova, "A novel rule-based algorithm for assigning myocardial fiber orientation
to computational heart models", Ann Biomed Eng 2012. Plain numpy on arrays (n, ...), no mesh, no solver.
One thing differs from the paper: there the endocardial frame keeps the endocardial angle through the
wall and is blended with an epicardial frame whose angle already varies, so that the angle is quadratic
in depth; here both carry the angle of that depth, so that it is linear, as the histology the paper
cites has it.
"""

from dataclasses import dataclass

import numpy as np

TINY = 1e-12
FLAT_PER_MM = 1e-7  # what the solver's tolerance leaves of a slope where a field is flat


@dataclass(frozen=True)
class Angles:
    """Degrees: fibre helix angle and sheet angle at endocardium and epicardium."""

    fibre_endo: float
    fibre_epi: float
    sheet_endo: float
    sheet_epi: float


def frames(lv, rv, epi, grad_lv, grad_rv, grad_epi, grad_apicobasal, angles: Angles) -> np.ndarray:
    """Frames (n, 3, 3) with columns fibre f0, sheet s0 and sheet normal n0, right-handed.

    lv, rv, epi (n,): Laplace fields, one on the named surface and zero on the other two; gradients
    (n, 3), that of the apicobasal field pointing to the base.
    """
    depth = np.clip(rv / np.maximum(lv + rv, TINY), 0.0, 1.0)  # 0 at the LV, 1 at the RV endocardium
    epi = np.clip(epi, 0.0, 1.0)
    helix = angles.fibre_endo * (1 - epi) + angles.fibre_epi * epi
    sheet = angles.sheet_endo * (1 - epi) + angles.sheet_epi * epi
    # across the septum the angles change sign, since its far side is an endocardium too
    turn = 1 - 2 * depth
    q_lv = to_quaternion(orient(axis(grad_apicobasal, -grad_lv), turn * helix, turn * sheet))
    q_rv = to_quaternion(orient(axis(grad_apicobasal, grad_rv), turn * helix, turn * sheet))
    q_endo = bislerp(q_lv, q_rv, depth)
    q_epi = to_quaternion(orient(axis(grad_apicobasal, grad_epi), helix, sheet))
    rotation = to_matrix(bislerp(q_endo, q_epi, epi))
    # columns of `axis` are circumferential, longitudinal, transmural: fibre, sheet normal, sheet
    return np.stack([rotation[..., 0], rotation[..., 2], -rotation[..., 1]], axis=-1)


def axis(longitudinal: np.ndarray, transmural: np.ndarray) -> np.ndarray:
    """Right-handed frames (n, 3, 3), columns circumferential, longitudinal, transmural.

    Gradients per mm. Longitudinal is kept as given, transmural is made orthogonal to it. Where one of them
    vanishes or both are parallel, as in muscle between two faces of one wall, any frame that fits is
    returned, not one of rounding.
    """
    e_l = _unit(longitudinal, np.array([0.0, 0.0, 1.0]))
    part = transmural - np.einsum("...i,...i->...", transmural, e_l)[..., None] * e_l
    e_t = _unit(part, _any_normal(e_l))
    return np.stack([np.cross(e_l, e_t), e_l, e_t], axis=-1)


def orient(frame: np.ndarray, helix_deg, sheet_deg) -> np.ndarray:
    """Frames turned by the helix angle about transmural, then by the sheet angle about the fibre."""
    a, b = (np.radians(angle)[..., None] for angle in (helix_deg, sheet_deg))
    around, along, across = np.moveaxis(frame, -1, 0)
    fibre, along = np.cos(a) * around + np.sin(a) * along, np.cos(a) * along - np.sin(a) * around
    return np.stack(
        [fibre, np.cos(b) * along - np.sin(b) * across, np.sin(b) * along + np.cos(b) * across], axis=-1
    )


def bislerp(p: np.ndarray, q: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From frame p to frame q (n, 4) by the share t, over whichever half turn of p is nearest to q."""
    turned = half_turned(p)
    dots = np.einsum("ki...,...i->k...", turned, q)
    best = np.abs(dots).argmax(axis=0)
    nearest = np.take_along_axis(turned, best[None, None], axis=0)[0]
    sign = np.where(np.take_along_axis(dots, best[None], axis=0)[0] < 0, -1.0, 1.0)
    return slerp(np.moveaxis(sign * nearest, 0, -1), q, t)


def half_turned(q: np.ndarray) -> np.ndarray:
    """Quaternions (4, 4, n), components second, of frames q (n, 4) as they are and after each half turn.

    A half turn about one of its own axes, the product with i, j or k, leaves a frame's lines where they are.
    """
    w, x, y, z = np.moveaxis(q, -1, 0)
    return np.array([[w, x, y, z], [-x, w, z, -y], [-y, -z, w, x], [-z, y, -x, w]])


def slerp(p: np.ndarray, q: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Spherical interpolation of unit quaternions (n, 4) by t (n,) (Shoemake, SIGGRAPH 1985)."""
    angle = np.arccos(np.clip(np.einsum("...i,...i->...", p, q), -1.0, 1.0))[..., None]
    t = np.asarray(t)[..., None]
    sine = np.sin(angle)
    near = sine < 1e-6  # the same rotation up to rounding: the straight line is the arc
    safe = np.where(near, 1.0, sine)
    mixed = np.where(near, (1 - t) * p + t * q, (np.sin((1 - t) * angle) * p + np.sin(t * angle) * q) / safe)
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def to_quaternion(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions (n, 4) of rotation matrices (n, 3, 3), by the largest of the four components."""
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    # rows of 4 q q^T; each row is a multiple of q, the one with the largest diagonal the safest
    outer = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], -1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    best = np.diagonal(outer, axis1=-2, axis2=-1).argmax(axis=-1)
    row = np.take_along_axis(outer, best[..., None, None], axis=-2)[..., 0, :]
    return row / np.linalg.norm(row, axis=-1, keepdims=True)


def to_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3) of unit quaternions (n, 4)."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _unit(vectors: np.ndarray, instead: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > FLAT_PER_MM, vectors / np.maximum(length, FLAT_PER_MM), instead)


def _any_normal(unit: np.ndarray) -> np.ndarray:
    """Unit vectors orthogonal to the given ones."""
    least = np.eye(3)[np.abs(unit).argmin(axis=-1)]
    normal = np.cross(unit, least)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)
