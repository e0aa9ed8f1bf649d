"""Where the walls of both ventricles meet, the landmarks of the coordinates. Owned by meshing.

The muscle is three sheets, the free walls of both ventricles and the septum, that meet in one band: from
the anterior base along the anterior groove, round the tip of the septum, up the posterior groove.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..mesh.model import REGIONS, BiventricularModel
from ..mesh.tetrahedron_geometry import FACES, row_keys
from ..runtime.errors import SubjectError


@dataclass(frozen=True)
class HeartAxes:
    """Orthonormal vectors (3,): `long` from apex to base, `right` from LV to RV, `anterior` = long x right.

    centre_mm: of the septum; apex_mm, base_mm: the ends of the LV's long axis, its endocardial apex and
    the centre of its opening.
    """

    long: np.ndarray
    right: np.ndarray
    anterior: np.ndarray
    centre_mm: np.ndarray
    apex_mm: np.ndarray
    base_mm: np.ndarray


@dataclass(frozen=True)
class Junctions:
    """sheet (M,): the region (`REGIONS`) whose one piece a tet is in; nodes of the band where sheets meet:

    its anterior and posterior half, and the tip where these touch.
    """

    sheet: np.ndarray
    anterior: np.ndarray
    posterior: np.ndarray
    tip: np.ndarray


def heart_axes(model: BiventricularModel) -> HeartAxes:
    """Axes of the heart from its endocardia, base and septum; SubjectError where one of them is missing."""
    points = model.points_mm
    lv = model.nodes_of("lv_endo")
    rim = np.intersect1d(lv, model.nodes_of("base"))
    rv = model.nodes_of("rv_endo")
    septum = model.region == REGIONS["septum"]
    if not (len(rim) and len(rv) and septum.any()):
        raise SubjectError(
            "no ventricular coordinates", "they need an LV open at the base, an RV and a septum between them"
        )
    base = points[rim].mean(axis=0)
    apex = points[lv[np.argmax(np.linalg.norm(points[lv] - base, axis=1))]]
    long = _unit(base - apex)
    across = points[rv].mean(axis=0) - points[lv].mean(axis=0)
    right = _unit(across - (across @ long) * long)
    centre = np.average(
        points[model.tets[septum]].mean(axis=1), axis=0, weights=model.tet_volumes_mm3[septum]
    )
    return HeartAxes(long, right, np.cross(long, right), centre, apex, base)


def junctions(model: BiventricularModel, axes: HeartAxes) -> Junctions:
    """The band where the sheets meet, split by the plane of long axis and `right` through the septum.

    The tip, where both halves share tets, is the apex of both ventricles' coordinates, as in Schuler et al.,
    Med Image Anal 2021. SubjectError where there is none.
    """
    sheet = sheets(model)
    nodes = [np.unique(model.tets[sheet == value]) for value in REGIONS.values()]
    of_how_many = np.bincount(np.concatenate(nodes), minlength=len(model.points_mm))
    band = np.flatnonzero(of_how_many > 1)
    side = (model.points_mm[band] - axes.centre_mm) @ axes.anterior
    anterior, posterior = band[side > 0], band[side <= 0]
    both = np.isin(model.tets, anterior).any(axis=1) & np.isin(model.tets, posterior).any(axis=1)
    tip = np.intersect1d(model.tets[both], band)
    if not len(tip):
        raise SubjectError("no ventricular coordinates", "the septum has no tip where its borders meet")
    return Junctions(sheet, anterior, posterior, tip)


def sheets(model: BiventricularModel) -> np.ndarray:
    """(M,) region of every tet, each region in one piece: a stray part goes with what it touches."""
    pairs = _neighbours(model.tets, len(model.points_mm))
    inside = pairs[:, model.region[pairs[0]] == model.region[pairs[1]]]
    n = len(model.tets)
    graph = coo_array((np.ones(inside.shape[1]), inside), shape=(n, n))
    piece = connected_components(graph, directed=False)[1]
    sheet = np.zeros(n, dtype=int)
    for value in REGIONS.values():
        pieces = piece[model.region == value]
        if len(pieces):
            sheet[piece == np.bincount(pieces).argmax()] = value
    while (sheet == 0).any():
        known, new = np.where(sheet[pairs[0]] > 0, pairs, pairs[::-1])
        reached = (sheet[known] > 0) & (sheet[new] == 0)
        if not reached.any():
            raise SubjectError("no ventricular coordinates", "the mesh is in several pieces")
        sheet[new[reached]] = sheet[known[reached]]
    return sheet


def _neighbours(tets: np.ndarray, n_nodes: int) -> np.ndarray:
    """Pairs (2, P) of tets that share a face."""
    keys = row_keys(np.sort(tets[:, FACES].reshape(-1, 3), axis=1), n_nodes)
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    return np.stack([order[same], order[same + 1]]) // 4


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
