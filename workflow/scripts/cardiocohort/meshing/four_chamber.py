"""From a heart's label map to a checked mesh of its chambers with their walls. Owned by the meshing stage."""

from dataclasses import fields, replace

import numpy as np
import pyvista

from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..mesh.label_model import LabelModel
from ..runtime.errors import SubjectError
from .chambers import MYOCARDIUM, VALVES
from .label_regions import build_labels
from .quality import distances_mm
from .settings import MeshSettings
from .surface import patch_of
from .walls import WalledMap, add_walls


def build_four_chamber(
    labelmap: LabelMap, anatomy: Anatomy, settings: MeshSettings
) -> tuple[LabelModel, dict[str, float]]:
    """Mesh of all labels and their walls, without fibres, and its quality figures (WALL_FIGURES too).

    InputError if the anatomy has no four chambers; SubjectError if no mesh passes the gates.
    """
    walled = add_walls(labelmap, anatomy, settings)
    model, figures = build_labels(walled.labelmap, walled.anatomy, settings, walled)
    figures |= {"blood_carved_ml": sum(walled.carved_ml.values())}
    ends = [f"{name}: no cut end found, its wall is closed" for name in walled.closed]
    figures["changes"] = "; ".join(filter(None, (figures["changes"], *ends)))
    for name in walled.wanted_mm:
        figures[f"{name}_mm"] = wall_mm(model, name)
        figures[f"{name}_ml"] = model.volumes_mm3[model.structures.index(name)] / 1000
    for valve, pair in VALVES.items():
        figures[f"{valve}_valve_mm2"] = area_mm2(model.points_mm, valve_facets(model, pair))
    if wrong := list(failures(model, walled, figures, settings)):
        raise SubjectError(*wrong[0])
    return model, figures


def valve_facets(model: LabelModel, pair: tuple[str, str]) -> np.ndarray:
    """Facets (F, 3) between two structures."""
    labels = np.sort([model.structures.index(name) + 1 for name in pair])
    return model.facets[(np.sort(model.sides, axis=1) == labels).all(axis=1)]


def area_mm2(points_mm: np.ndarray, facets: np.ndarray) -> float:
    a, b, c = (points_mm[facets[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def wall_mm(model: LabelModel, wall: str) -> float:
    """Median thickness (mm) of a wall: from its free outer surface to the surface of its blood.

    Nodes of the outer surface that other regions share are left out: there the wall ends.
    """
    blood = model.structures.index(wall.removesuffix("_wall")) + 1
    label = model.structures.index(wall) + 1
    around = (model.sides == label).any(axis=1)
    free = around & (model.sides == 0).any(axis=1)
    nodes = np.setdiff1d(model.facets[free], model.facets[around & ~free])
    inner = model.facets[(model.sides == blood).any(axis=1)]
    if not len(nodes) or not len(inner):
        return float("nan")
    surface = pyvista.PolyData.from_regular_faces(model.points_mm, inner)
    return float(np.median(distances_mm(model.points_mm[nodes], surface)))


def failures(model: LabelModel, walled: WalledMap, figures: dict, settings: MeshSettings):
    """Reason and detail of each gate of walls and valves that the mesh fails."""
    for name, wanted in walled.wanted_mm.items():
        measured = figures[f"{name}_mm"]
        if not abs(measured / wanted - 1) <= settings.rv_wall_tolerance:
            yield (
                "wall thickness",
                f"{name}: {measured:.2f} mm, wanted are {wanted:g} mm within "
                f"{100 * settings.rv_wall_tolerance:g} %; set meshing.edge_length_mm below "
                f"{settings.edge_length_mm:g}",
            )
    for name, wanted in walled.blood_ml.items():
        error = model.volumes_mm3[model.structures.index(name)] / 1000 / wanted - 1
        if not abs(error) <= settings.blood_volume_tolerance:
            yield (
                "blood volume",
                f"{name}: {100 * error:+.1f} % of its {wanted:.1f} mL in the label map, allowed are "
                f"{100 * settings.blood_volume_tolerance:g} %; {walled.carved_ml[name]:.1f} mL gave way to "
                "walls between pools that touch. Set thinner walls, or meshing.blood_volume_tolerance",
            )
    for valve, pair in VALVES.items():
        facets = valve_facets(model, pair)
        count = len(np.unique(patch_of(facets))) if len(facets) else 0
        if count != 1:
            yield (
                "valve in pieces",
                f"{valve} valve: {count} patches between {pair[0]} and {pair[1]}, must be one",
            )
    outside = (model.sides == 0).any(axis=1)
    for ventricle in ("left_ventricle", "right_ventricle"):
        if (bare := outside & (model.sides == model.structures.index(ventricle) + 1).any(axis=1)).any():
            yield "open wall", f"{ventricle}: {np.count_nonzero(bare)} facets of its blood lie bare"


def without_blood(model: LabelModel) -> LabelModel:
    """The walls of a mesh alone. Their surfaces keep the names of the blood that they enclosed.

    So an endocardium is `left_atrium-left_atrium_wall`, apart from `left_atrium_wall-outside`. Valves, which
    lie between blood pools alone, are openings.
    """
    walls = [k for k, name in enumerate(model.structures, 1) if name == MYOCARDIUM or name.endswith("_wall")]
    kept = np.isin(model.region, walls)
    nodes, compact = np.unique(model.tets[kept], return_inverse=True)
    around = np.isin(model.sides, walls).any(axis=1)
    micro = model.microstructure
    return replace(
        model,
        points_mm=model.points_mm[nodes],
        tets=compact.reshape(-1, 4),
        region=model.region[kept],
        facets=np.searchsorted(nodes, model.facets[around]),
        sides=model.sides[around],
        microstructure=micro
        and replace(
            micro,
            **{
                f.name: getattr(micro, f.name)[nodes if f.name.startswith("node_") else kept]
                for f in fields(micro)
            },
        ),
    )
