"""The hearts of the gallery as data for the page's 3-D view. Owned by the report stage.

`viewer.js` draws them. Points are 16-bit integers in a box of their own, and triangles are indices; both are
base64 of little-endian arrays. Motion is 8-bit steps of the points from their place in the mesh.
"""

import base64

import numpy as np
import pyvista
from matplotlib.colors import Normalize, to_hex
from scipy.spatial import cKDTree

from ..anatomy.aha_segments import LEFT, SEGMENTS
from ..anatomy.labels import Anatomy
from ..mesh.label_model import LabelModel
from ..mesh.model import FACETS, REGIONS, BiventricularModel
from ..plotting import palette
from ..plotting.render import Surface
from ..plotting.style import plt
from . import bullseye, function_section, heart_mesh
from .motion import Motion, carried
from .portraits import BASE_COLOUR, Outline, Window, owners

LEVELS = 2**16 - 1
KEPT_SHARE, FEWEST, MOST = 1 / 8, 1000, 4000  # triangles of a structure that are kept
MOST_FACETS = 40_000  # of a mesh: finer ones are thinned
MOST_MOVING = 12_000  # of a mesh that moves: each moment has places and colours of its own
STRAIN_UNIT = 0.005  # of the 8-bit strains, which reach 63.5 %
FIBRE_CELL_MM = 4.5  # one fibre in each cube of this size
MIXED = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f",
         "#bab0ac")  # fmt: skip


def settings(anatomy: Anatomy, window: Window, thickness: Normalize, strain: float = 0.0) -> dict:
    """What all hearts share: the window, structures with colours, and the colour tables of the mesh.

    strain: the largest one that the colours distinguish.
    """
    painted = [(name, heart_mesh.REGION_COLOURS[key]) for name, key in bullseye.REGION_NAMES.items()]
    painted += [(heart_mesh.INNER, heart_mesh.INNER_COLOUR), ("base", BASE_COLOUR)]
    segments = [(f"{k} {name}", segment_colour(k)) for k, name in SEGMENTS.items()]
    scale, strains = plt.get_cmap(bullseye.COLOURS), plt.get_cmap(function_section.STRAIN_COLOURS)
    step = function_section.STRAIN_STEP
    percent = max(np.ceil(100 * strain / step), 1) * step
    structures = palette.colours(anatomy.structures, anatomy.colours)
    return {
        "centre_mm": [round(c, 3) for c in window.centre_mm],
        "size_mm": round(window.size_mm, 3),
        "structures": [
            {"name": name, "colour": colour}
            for name, colour in zip(anatomy.structures, structures, strict=True)
        ],
        "muscle": palette.MUSCLE,
        "paints": {
            "regions": {"colours": [c for _, c in painted], "legend": [name for name, _ in painted]},
            "segments": {"colours": [c for _, c in segments], "legend": [name for name, _ in segments]},
            "thickness": {
                "colours": [to_hex(scale(k)) for k in range(256)],
                "range": [float(thickness.vmin), float(thickness.vmax)],
                "unit": "mm",
            },
            "strain": {
                "colours": [to_hex(strains(k)) for k in range(256)],
                "range": [-percent, percent],
                "unit": "%",
                "step": 100 * STRAIN_UNIT,
            },
            "structures": {
                "colours": list(structures),
                "legend": [name.replace("_", " ") for name in anatomy.structures],
            },
        },
    }


def segment_colour(number: int) -> str:
    """A colour of the palette that differs from those of the segment's neighbours."""
    return MIXED[(number - 1 if number in LEFT else number) % len(MIXED)]


def scene(
    solids: dict[str, Surface],
    outlines: list[Outline],
    model: BiventricularModel | LabelModel | None,
    thickness: Normalize,
    motion: Motion | None = None,
) -> dict:
    """One heart: surfaces by structure, target ellipsoids, and the surface of its mesh if it has one.

    motion: of the mesh, with its places in the model's frame.
    """
    return {
        "structures": {name: solid(surface) for name, surface in solids.items()},
        "ellipsoids": [
            {
                "structure": o.structure,
                "colour": o.colour,
                "centre": np.round(o.centre, 3).tolist(),
                # columns: the semi-axes as vectors in mm
                "axes": np.round(o.rotation * o.semi_axes, 3).tolist(),
            }
            for o in outlines
        ],
        "mesh": label_mesh(model)
        if isinstance(model, LabelModel)
        else model and mesh(model, thickness, motion),
    }


def solid(surface: Surface) -> dict:
    """Points and triangles of a structure's surface, thinned."""
    keep = int(np.clip(len(surface.triangles) * KEPT_SHARE, FEWEST, MOST))
    points, triangles = thinned(surface.points_mm, surface.triangles, keep)
    return quantised(points) | indices("triangles", triangles, len(points))


def mesh(model: BiventricularModel, thickness: Normalize, motion: Motion | None = None) -> dict:
    """The mesh's boundary: points, triangles, a colour number per triangle and paint, and fibres on nodes.

    With a motion also the points' steps from their places at each of its moments, and the fibres' strain.
    """
    nodes, local = np.unique(model.facets, return_inverse=True)
    local = local.reshape(-1, 3)
    points, triangles = thinned(model.points_mm[nodes], local, MOST_MOVING if motion else MOST_FACETS)
    shown = points[triangles].mean(axis=1)
    facet = cKDTree(model.points_mm[model.facets].mean(axis=1)).query(shown)[1]
    paints = {name: encoded(values[facet], "u1") for name, values in facet_paints(model, thickness).items()}
    found = quantised(points) | indices("triangles", triangles, len(points))
    found |= {"paints": paints, "facets": len(model.facets), "fibres": None, "motion": None}
    nearest = nodes[cKDTree(model.points_mm[nodes]).query(points)[1]]
    if motion is not None:
        steps = (motion.places_mm - model.points_mm)[:, nearest]
        found["motion"] = {"labels": motion.labels} | stepped(steps)
        if motion.strain is not None:
            strain = np.rint(motion.strain[:, owners(model)[facet]] / STRAIN_UNIT)
            paints["strain"] = encoded(np.clip(strain, -127, 127), "i1")
    if model.microstructure is not None:
        places = _one_per_cell(points)
        along = model.microstructure.node_f0[nearest[places]]
        if motion is not None:
            tets = model.tets[_tets_at(model, nearest[places])]
            along = carried(along, model.points_mm, tets, motion.places_mm)
        found["fibres"] = {"along": encoded(np.rint(127 * along), "i1")}
        found["fibres"] |= indices("nodes", places, len(points))
    return found


def _tets_at(model: BiventricularModel, nodes: np.ndarray) -> np.ndarray:
    """A tet of each node."""
    tet = np.empty(len(model.points_mm), dtype=int)
    tet[model.tets.ravel()] = np.repeat(np.arange(len(model.tets)), 4)
    return tet[nodes]


def label_mesh(model: LabelModel) -> dict:
    """The surfaces of all regions of a label mesh, each closed, with the number of its structure as colour.

    An added wall has the colour of its blood.

    Where two regions meet there are two surfaces, so that a cut shows each in its colour.
    """
    surfaces = {label: model.surface_of(label) for label in np.unique(model.region).tolist()}
    total = sum(map(len, surfaces.values()))
    points, triangles, numbers, along, first = [], [], [], [], 0
    for label, facets in surfaces.items():
        nodes, local = np.unique(facets, return_inverse=True)
        most = max(FEWEST, MOST_FACETS * len(facets) // total)
        kept, corners = thinned(model.points_mm[nodes], local.reshape(-1, 3), most)
        points.append(kept)
        triangles.append(corners + first)
        structure = model.name(label).removesuffix("_wall")
        numbers.append(np.full(len(corners), model.structures.index(structure)))
        first += len(kept)
        along.append(np.zeros_like(kept))
        # nodes of an interface have fibres if one of its regions does
        if model.microstructure is not None and model.microstructure.f0[model.region == label].any():
            nearest = nodes[cKDTree(model.points_mm[nodes]).query(kept)[1]]
            along[-1] = model.microstructure.node_f0[nearest]
    points, triangles, along = map(np.concatenate, (points, triangles, along))
    found = quantised(points) | indices("triangles", triangles, len(points))
    found |= {"paints": {"structures": encoded(np.concatenate(numbers), "u1")}, "facets": total}
    found |= {"fibres": None, "motion": None}
    rooted = np.flatnonzero(along.any(axis=1))
    if len(rooted):
        places = rooted[_one_per_cell(points[rooted])]
        found["fibres"] = {"along": encoded(np.rint(127 * along[places]), "i1")}
        found["fibres"] |= indices("nodes", places, len(points))
    return found


def _one_per_cell(points_mm: np.ndarray) -> np.ndarray:
    """Places of points, one in each cube of FIBRE_CELL_MM that has any."""
    cells = np.floor(points_mm / FIBRE_CELL_MM).astype(int)
    return np.sort(np.unique(cells, axis=0, return_index=True)[1])


def facet_paints(model: BiventricularModel, thickness: Normalize) -> dict[str, np.ndarray]:
    """Colour numbers (F,) of the facets in the tables of `settings`: those that the mesh has values for."""
    owner = owners(model)
    number = np.empty(max(REGIONS.values()) + 1, dtype=int)
    number[list(heart_mesh.REGION_NUMBERS)] = 0, 1, 2
    regions = number[model.region[owner]]
    regions[np.isin(model.facet_tag, heart_mesh.INNER_FACETS)] = 3
    regions[model.facet_tag == FACETS["base"]] = 4
    if model.coordinates is None:
        return {"regions": regions}
    walls = np.clip(thickness(model.coordinates.wall_mm[owner]), 0, 1)
    return {
        "regions": regions,
        "segments": model.coordinates.aha[owner] - 1,
        "thickness": np.rint(255 * np.ma.filled(walls, 0.0)),
    }


def thinned(points_mm: np.ndarray, triangles: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and at most about `most` triangles (quadric error: Garland and Heckbert, SIGGRAPH 1997)."""
    if len(triangles) <= most:
        return points_mm, triangles
    surface = pyvista.PolyData.from_regular_faces(points_mm, triangles)
    surface = surface.decimate(1.0 - most / len(triangles))
    return np.asarray(surface.points, dtype=float), surface.regular_faces


def quantised(points_mm: np.ndarray) -> dict:
    """Points (N, 3) as 16-bit integers: mm = origin_mm + step_mm * integer, wrong by half a step at most."""
    # rounded outwards, so that nothing leaves the box
    origin = np.floor(points_mm.min(axis=0) * 1e3) / 1e3
    step = np.ceil(np.ptp(points_mm - origin, axis=0).max() / (LEVELS - 1) * 1e6 + 1e3 / LEVELS) / 1e6
    return {
        "origin_mm": origin.tolist(),
        "step_mm": float(step),
        "points": encoded(np.rint((points_mm - origin) / step), "<u2"),
    }


def stepped(steps_mm: np.ndarray) -> dict:
    """Steps (T, N, 3) as 8-bit integers: mm = move_mm * integer, wrong by half of it at most."""
    move = max(float(np.abs(steps_mm).max()) / 127, 1e-6)
    return {"move_mm": move, "steps": encoded(np.rint(steps_mm / move), "i1")}


def indices(name: str, rows: np.ndarray, n_points: int) -> dict:
    """Indices of points as 16-bit integers, as 32-bit ones where there are more points."""
    bits = 16 if n_points <= LEVELS + 1 else 32
    return {name: encoded(rows, f"<u{bits // 8}"), f"{name}_bits": bits}


def encoded(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()
