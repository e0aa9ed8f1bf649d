"""Fibres where a mesh of a whole label map has ventricular muscle, zero vectors elsewhere. Owned by meshing.

The rule is that of the biventricular mesh (`fibres.add_fibres`). The myocardium of a label map is the wall of
the left ventricle and the septum; in the domain `four_chamber` the wall of the right ventricle is muscle too.
"""

from dataclasses import asdict, fields, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..anatomy.labels import Anatomy
from ..mesh.label_model import LabelModel
from ..mesh.model import FACETS, REGIONS, BiventricularModel, Microstructure
from ..mesh.tetrahedron_geometry import FACES, boundary_facets, row_keys
from ..runtime.errors import SubjectError
from .fibres import add_fibres
from .settings import FibreAngles

MYOCARDIUM = "myocardium"
MUSCLE = {MYOCARDIUM: "lv", "right_ventricle_wall": "rv"}
ENDOCARDIA = {"left_ventricle": "lv_endo", "right_ventricle": "rv_endo"}


def has_fibres(anatomy: Anatomy) -> bool:
    """Whether the anatomy has the structures that the rule needs."""
    return {MYOCARDIUM, *ENDOCARDIA} <= set(anatomy.structures)


def add_label_fibres(model: LabelModel, angles: FibreAngles) -> LabelModel:
    """The model with directions in ventricular muscle; zero vectors in other regions and on their own nodes.

    Towards the outside the muscle has its epicardium, towards the ventricles its endocardia, and towards
    atria, vessels and their walls its base. Bits of muscle that share no face with the rest have the
    directions of the nearest muscle. SubjectError if one of these surfaces is missing.
    """
    labels = {
        model.structures.index(name) + 1: region
        for name, region in MUSCLE.items()
        if name in model.structures
    }
    muscle = np.flatnonzero(np.isin(model.region, list(labels)))
    rows = muscle[_largest_piece(model.tets[muscle])]
    nodes, compact = np.unique(model.tets[rows], return_inverse=True)
    tets = compact.reshape(-1, 4)
    facets, tag = _tagged(model, nodes, tets, labels)
    missing = [name for name, value in FACETS.items() if not (tag == value).any()]
    if missing:
        raise SubjectError("no fibres", f"the myocardium has no surface {missing[0]}, which the rule needs")
    region = np.zeros(len(rows), dtype=int)
    for label, name in labels.items():
        region[model.region[rows] == label] = REGIONS[name]
    found = add_fibres(
        BiventricularModel(
            points_mm=model.points_mm[nodes], tets=tets, region=region, facets=facets, facet_tag=tag
        ),
        angles,
    ).microstructure
    bits = np.setdiff1d(muscle, rows)
    lonely = np.setdiff1d(model.tets[bits], nodes)
    middles = model.points_mm[model.tets].mean(axis=1) if len(bits) else model.points_mm
    whole = {}
    for f in fields(Microstructure):
        on_nodes = f.name.startswith("node_")
        points, known, rest = (model.points_mm, nodes, lonely) if on_nodes else (middles, rows, bits)
        values = getattr(found, f.name)
        whole[f.name] = np.zeros((len(model.points_mm if on_nodes else model.tets), 3))
        whole[f.name][known] = values
        if len(rest):
            whole[f.name][rest] = values[cKDTree(points[known]).query(points[rest])[1]]
    return replace(
        model,
        microstructure=Microstructure(**whole),
        provenance=model.provenance | {"microstructure": asdict(angles)},
    )


def _tagged(model: LabelModel, nodes: np.ndarray, tets: np.ndarray, labels) -> tuple[np.ndarray, np.ndarray]:
    """Boundary facets (F, 3) of `tets`, whose points are `nodes` of the model, and their tags (`FACETS`)."""
    facets, _ = boundary_facets(tets)
    n = len(model.points_mm)
    key = row_keys(np.sort(model.facets, axis=1), n)
    order = np.argsort(key)
    at = order[np.searchsorted(key[order], row_keys(np.sort(nodes[facets], axis=1), n))]
    sides = model.sides[at]
    other = np.where(np.isin(sides[:, 0], list(labels)), sides[:, 1], sides[:, 0])
    tag = np.full(len(other), FACETS["base"])
    tag[other == 0] = FACETS["epi"]
    for structure, name in ENDOCARDIA.items():
        tag[other == model.structures.index(structure) + 1] = FACETS[name]
    return facets, tag


def _largest_piece(tets: np.ndarray) -> np.ndarray:
    """(K,) tets of the largest piece that is joined by faces."""
    key = row_keys(np.sort(tets[:, FACES].reshape(-1, 3), axis=1), int(tets.max(initial=0)) + 1)
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    links = np.stack([order[same], order[same + 1]]) // 4
    graph = coo_array((np.ones(links.shape[1]), links), shape=(len(tets),) * 2)
    piece = connected_components(graph, directed=False)[1]
    return np.flatnonzero(piece == np.bincount(piece, minlength=1).argmax())
