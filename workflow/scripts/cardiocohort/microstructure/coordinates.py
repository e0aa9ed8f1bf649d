"""Ventricular coordinates: where in the heart a point lies. Owned by the meshing stage.

Cobiveco (Schuler, Pilia, Potyagaylo, Loewe, "Cobiveco: Consistent biventricular coordinates for precise and
intuitive description of position in the heart", Med Image Anal 2021), the same in both ventricles:

    transventricular  0 in the LV's half, 1 in the RV's; the border runs through the middle of the septum
    transmural        0 at the epicardium and in the middle of the septum, 1 at the endocardia
    rotational        0 at the posterior (inferior) junction, over a free wall to 2/3 at the anterior one,
                      through the septum to 1, which is 0 again
    apicobasal        0 at the tip of the septum, 1 at the base

Rotational and apicobasal are lengths along the gradient of a harmonic field, normalised by the length of the
whole path, as there. Differences: transmural is the harmonic field itself, as in UVC (Bayer et al., Med Image
Anal 2018) and as the fibre rule takes it; the apicobasal path follows the gradient of the field from tip to
base, not contours of the other two; the mesh is not cut at the junctions, which follow the faces between the
regions.
"""

from dataclasses import replace

import numpy as np

from ..mesh.model import REGIONS, BiventricularModel, VentricularCoordinates
from .junctions import Junctions, heart_axes, junctions
from .laplace import Elements, part_of
from .segments import segments
from .thickness import wall_thickness

FREE_WALL = 2 / 3  # share of a turn that a free wall takes; the septum takes the rest


def add_coordinates(model: BiventricularModel) -> BiventricularModel:
    """The model with its ventricular coordinates, AHA segments and wall thickness, on tets and nodes.

    SubjectError where the model lacks a ventricle, the septum or an open base.
    """
    axes = heart_axes(model)
    meet = junctions(model, axes)
    elements = Elements(model.points_mm, model.tets)
    half, depth, turn, rise = _fields(model, elements, meet)
    share, node_share = _rotational(model, meet, turn)
    apicobasal, _ = elements.share_of_length(rise, meet.tip, model.nodes_of("base"))
    septal = meet.sheet == REGIONS["septum"]
    within = np.isin(np.arange(len(model.points_mm)), np.setdiff1d(model.tets[septal], model.tets[~septal]))
    in_tets = {name: f[model.tets].mean(axis=1) for name, f in (("half", half), ("depth", depth))}
    high = apicobasal[model.tets].mean(axis=1)
    coordinates = VentricularCoordinates(
        apicobasal=high,
        transmural=np.abs(in_tets["depth"]),
        rotational=rotational_of(share, septal),
        transventricular=(in_tets["half"] > 0.5).astype(int),
        node_apicobasal=apicobasal,
        node_transmural=np.abs(depth),
        node_rotational=rotational_of(node_share, within),
        node_transventricular=(half > 0.5).astype(int),
        aha=segments(model, axes, meet, high, share),
        wall_mm=wall_thickness(model, meet.sheet),
    )
    methods = {"coordinates": "Cobiveco (Schuler et al. 2021)", "segments": "AHA (Cerqueira et al. 2002)"}
    return replace(model, coordinates=coordinates, provenance=model.provenance | methods)


def rotational_of(share: np.ndarray, septal: np.ndarray) -> np.ndarray:
    """Rotational coordinate (n,) in [0, 1) from the share of the way from posterior to anterior junction."""
    turn = np.where(septal, 1 - (1 - FREE_WALL) * share, FREE_WALL * share)
    return np.where(turn < 1, turn, 0.0)  # the posterior junction has one value from either side


def _fields(model: BiventricularModel, elements: Elements, meet: Junctions) -> np.ndarray:
    """Four harmonic fields (4, N).

    From the LV's endocardium (0) to the RV's (1); signed depth, -1 at the LV's endocardium, 0 at the
    epicardium, 1 at the RV's; from posterior (0) to anterior (1) junction; from the tip (0) to the base (1).
    """
    epi, lv, rv, base = (model.nodes_of(tag) for tag in ("epi", "lv_endo", "rv_endo", "base"))
    problems = [
        {0.0: lv, 1.0: rv},
        {0.0: epi, -1.0: lv, 1.0: rv},
        {0.0: meet.posterior, 1.0: meet.anterior},
        {0.0: meet.tip, 1.0: base},
    ]
    fields = elements.solve(problems)
    # the iteration may leave the bounds of a harmonic field by its tolerance
    return np.clip(fields, np.array([[0.0], [-1.0], [0.0], [0.0]]), 1.0)


def _rotational(
    model: BiventricularModel, meet: Junctions, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share of the way from posterior to anterior junction through a tet's own sheet, on tets and nodes.

    Sheet by sheet, since their ways have different lengths; at the junctions all agree. The field `turn`
    itself would rise faster where a wall is thin.
    """
    on_tets, on_nodes = np.zeros(len(model.tets)), np.zeros(len(model.points_mm))
    for value in REGIONS.values():
        part = meet.sheet == value
        nodes = np.unique(model.tets[part])
        points, tets, ends = part_of(model.points_mm, model.tets[part], meet.posterior, meet.anterior)
        share, _ = Elements(points, tets).share_of_length(turn[nodes], *ends)
        on_nodes[nodes] = share
        on_tets[part] = share[tets].mean(axis=1)
    return on_tets, on_nodes
