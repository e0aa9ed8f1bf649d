"""Fibres where a mesh of a whole label map has myocardium, zero vectors elsewhere. Owned by meshing.

The rule is that of the biventricular mesh (`fibres.add_fibres`). The myocardium of a label map is the wall of
the left ventricle and the septum; the wall of the right ventricle is not in it.
"""

from dataclasses import asdict, fields, replace

import numpy as np

from ..anatomy.labels import Anatomy
from ..mesh.label_model import LabelModel
from ..mesh.model import FACETS, REGIONS, BiventricularModel, Microstructure
from ..runtime.errors import SubjectError
from .fibres import add_fibres
from .settings import FibreAngles

MYOCARDIUM = "myocardium"
ENDOCARDIA = {"left_ventricle": "lv_endo", "right_ventricle": "rv_endo"}


def has_fibres(anatomy: Anatomy) -> bool:
    """Whether the anatomy has the structures that the rule needs."""
    return {MYOCARDIUM, *ENDOCARDIA} <= set(anatomy.structures)


def add_label_fibres(model: LabelModel, anatomy: Anatomy, angles: FibreAngles) -> LabelModel:
    """The model with directions in the myocardium; zero vectors in other regions and on their own nodes.

    Towards the outside the myocardium has its epicardium, towards the ventricles its endocardia, and towards
    atria and vessels its base. SubjectError if one of these is missing.
    """
    label = anatomy.label(MYOCARDIUM)
    rows = np.flatnonzero(model.region == label)
    nodes, compact = np.unique(model.tets[rows], return_inverse=True)
    around = (model.sides == label).any(axis=1)
    behind = model.sides[around, 0] == label
    facets = np.where(behind[:, None], model.facets[around], model.facets[around][:, ::-1])
    other = np.where(behind, model.sides[around, 1], model.sides[around, 0])
    tag = np.full(len(other), FACETS["base"])
    tag[other == 0] = FACETS["epi"]
    for structure, name in ENDOCARDIA.items():
        tag[other == anatomy.label(structure)] = FACETS[name]
    missing = [name for name, value in FACETS.items() if not (tag == value).any()]
    if missing:
        raise SubjectError("no fibres", f"the myocardium has no surface {missing[0]}, which the rule needs")
    muscle = add_fibres(
        BiventricularModel(
            points_mm=model.points_mm[nodes],
            tets=compact.reshape(-1, 4),
            region=np.full(len(rows), REGIONS["lv"]),
            facets=np.searchsorted(nodes, facets),
            facet_tag=tag,
        ),
        angles,
    )
    whole = {}
    for f in fields(Microstructure):
        on_nodes = f.name.startswith("node_")
        whole[f.name] = np.zeros((len(model.points_mm if on_nodes else model.tets), 3))
        whole[f.name][nodes if on_nodes else rows] = getattr(muscle.microstructure, f.name)
    return replace(
        model,
        microstructure=Microstructure(**whole),
        provenance=model.provenance | {"microstructure": asdict(angles)},
    )
