"""What is measured on a finished mesh, and the gates it must pass. Owned by the meshing stage."""

import numpy as np
import pyvista
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..mesh.model import FACETS, REGIONS, BiventricularModel, all_boundary_tagged, rim_edges
from ..mesh.tetrahedron_geometry import boundary_facets, row_keys, scaled_jacobian
from ..runtime.errors import SubjectError
from .free_wall import FreeWall
from .settings import LEVELS, SECTORS, MeshSettings
from .signed_distance import Field
from .surface import edges_of, facet_pairs, is_closed, patches


def measure(model: BiventricularModel, labelmap: LabelMap, anatomy: Anatomy) -> dict[str, float]:
    """Quality figures of a mesh against the label map it came from; names as in the mesh table."""
    quality = scaled_jacobian(model.points_mm[model.tets])
    volumes = {v: model.cavity_volume_ml(v) for v in ("lv", "rv")}
    voxel_ml = float(np.prod(labelmap.spacing_mm)) / 1000.0
    labels = {
        "lv": labelmap.labels == anatomy.label("left_ventricle"),
        "rv": labelmap.labels == anatomy.label("right_ventricle"),
    }
    kept = {v: volumes[v] / (labels[v].sum() * voxel_ml) for v in volumes}
    distance = np.concatenate([surface_distance(model, labelmap, v, labels[v]) for v in volumes])
    return {
        "n_nodes": len(model.points_mm),
        "n_tets": len(model.tets),
        "min_scaled_jacobian": float(quality.min()),
        "p1_scaled_jacobian": float(np.quantile(quality, 0.01)),
        "wall_volume_ml": model.wall_volume_ml,
        "rv_wall_mm": rv_wall_mm(model),
        "lv_cavity_ml": volumes["lv"],
        "rv_cavity_ml": volumes["rv"],
        "lv_volume_kept": float(kept["lv"]),
        "rv_volume_kept": float(kept["rv"]),
        "surface_distance_mean_mm": float(distance.mean()),
        "surface_distance_p95_mm": float(np.quantile(distance, 0.95)),
        "openings": n_openings(model),
    }


def rv_wall_mm(model: BiventricularModel) -> float:
    """Median distance from the RV endocardium of the free wall to the epicardium, away from the base."""
    _, thickness = _rv_wall(model)
    return float(np.median(thickness)) if len(thickness) else 0.0


def rv_wall_by_region_mm(model: BiventricularModel, wall: FreeWall | None) -> dict[str, float]:
    """`rv_wall_mm` of each level and of each segment, as `rv_wall_<level>_mm`, `rv_wall_<level>_<sector>_mm`.

    0 where a region has no node, NaN where the regions are not known.
    """
    nodes, thickness = _rv_wall(model)
    if wall is None:
        level = sector = np.full(len(nodes), -1)
    else:
        level, sector = wall.segments(model.points_mm[nodes])
    inside = {name: level == i for i, name in enumerate(LEVELS)}
    inside |= {
        f"{name}_{side}": (level == i) & (sector == k)
        for i, name in enumerate(LEVELS)
        for k, side in enumerate(SECTORS)
    }
    missing = np.nan if wall is None else 0.0
    return {
        f"rv_wall_{name}_mm": float(np.median(thickness[part])) if part.any() else missing
        for name, part in inside.items()
    }


def _rv_wall(model: BiventricularModel) -> tuple[np.ndarray, np.ndarray]:
    """Endocardial nodes of the RV's free wall, away from the base, and their distances to the epicardium."""
    septal = np.unique(model.tets[model.region != REGIONS["rv"]])
    nodes = np.setdiff1d(model.nodes_of("rv_endo"), np.union1d(septal, _near_base(model)))
    if not len(nodes):
        return nodes, np.zeros(0)
    return nodes, distances_mm(model.points_mm[nodes], _patch(model, "epi"))


def surface_distance(model: BiventricularModel, labelmap: LabelMap, ventricle: str, blood) -> np.ndarray:
    """Distance (mm) of endocardial nodes, away from the base, to the surface of the blood's label."""
    mask = np.pad(blood, 1).astype(np.float32)
    image = pyvista.ImageData(
        dimensions=mask.shape,
        spacing=labelmap.spacing_mm,
        origin=[a[0] - s for a, s in zip(labelmap.axes_mm, labelmap.spacing_mm, strict=True)],
    )
    image.point_data["blood"] = mask.ravel(order="F")
    surface = image.contour([0.5], "blood", method="flying_edges")
    nodes = np.setdiff1d(model.nodes_of(f"{ventricle}_endo"), _near_base(model))
    return distances_mm(model.points_mm[nodes], surface)


def distances_mm(points: np.ndarray, surface: pyvista.PolyData) -> np.ndarray:
    """(N,) unsigned distance of points (N, 3) to a surface.

    By a cell locator: the implicit distance of VTK, which has a sign, can crash on triangles without an area.
    """
    if not len(points):
        return np.zeros(0)
    _, closest = surface.find_closest_cell(points, return_closest_point=True)
    return np.linalg.norm(points - closest, axis=1)


def rim_distance_mm(model: BiventricularModel, base: Field) -> float:
    """Largest distance (mm) of a node on a cavity's rim from the basal surface, the zero level of `base`."""
    rims = [rim_edges(model.facets[model.facet_tag == FACETS[f"{v}_endo"]]) for v in ("lv", "rv")]
    points = model.points_mm[np.unique(np.concatenate(rims))]
    slope = np.linalg.norm(base.gradient(points), axis=1)
    return float((np.abs(base(points)) / slope).max())


def _near_base(model: BiventricularModel) -> np.ndarray:
    """Nodes of the base and of all tets that touch it, which the cut shapes and not the wall."""
    base = model.nodes_of("base")
    return np.unique(model.tets[np.isin(model.tets, base).any(axis=1)])


def _patch(model: BiventricularModel, tag: str) -> pyvista.PolyData:
    return pyvista.PolyData.from_regular_faces(model.points_mm, model.facets[model.facet_tag == FACETS[tag]])


def n_openings(model: BiventricularModel) -> int:
    """Border loops of both endocardia: two where each cavity opens once."""
    return sum(
        _n_components(rim_edges(model.facets[model.facet_tag == FACETS[tag]]))
        for tag in ("lv_endo", "rv_endo")
    )


def _n_components(edges: np.ndarray) -> int:
    if not len(edges):
        return 0
    nodes, compact = np.unique(edges, return_inverse=True)
    compact = compact.reshape(-1, 2)
    graph = sparse.coo_array((np.ones(len(edges)), compact.T), shape=(len(nodes),) * 2)
    return int(connected_components(graph, directed=False)[0])


def check(model: BiventricularModel, quality: dict[str, float], settings: MeshSettings) -> None:
    """Raise SubjectError naming the first gate that the mesh fails."""
    for reason, detail in failures(model, quality, settings):
        raise SubjectError(f"mesh gate: {reason}", detail)


def failures(model: BiventricularModel, quality: dict[str, float], settings: MeshSettings):
    """Yield (reason, detail) of every gate the mesh fails, the topological ones first."""
    volumes = model.tet_volumes_mm3
    if not (volumes > 0).all():
        yield "inverted tetrahedra", f"{int((volumes <= 0).sum())} tets have no positive volume"
    if len(np.unique(model.tets)) != len(model.points_mm):
        yield "unused nodes", f"{len(model.points_mm) - len(np.unique(model.tets))} nodes belong to no tet"
    if not all_boundary_tagged(model):
        yield "boundary not tagged once", "the tagged facets are not the boundary of the tets, each once"
        return
    if not is_closed(model.facets):
        yield "surface not closed", "an edge of the boundary has other than two facets"
        return
    if n := len(rim_edges(model.facets)) // 2:
        yield "facets not outward", f"{n} edges have two facets that turn the same way"
    n_nodes = len(model.points_mm)
    edges = np.unique(row_keys(edges_of(model.facets)[0], n_nodes))
    euler = len(np.unique(model.facets)) - len(edges) + len(model.facets)
    if euler != 2:
        yield "Euler characteristic", f"{euler} instead of 2: the surface has handles or several pieces"
    wall = model.facets[model.facet_tag != FACETS["base"]]
    if (n := _n_components(edges_of(wall)[0])) != 3:
        yield "components without base", f"{n} instead of 3 (epicardium and two endocardia)"
    for name, value in FACETS.items():
        if (n := len(patches(model.facets, model.facet_tag, value))) != 1:
            yield "patches of a tag", f"{name} has {n} patches instead of one"
    pairs = model.facet_tag[facet_pairs(model.facets)[0]]
    off_base = (pairs[:, 0] != pairs[:, 1]) & (pairs != FACETS["base"]).all(axis=1)
    if off_base.any():
        yield "epicardium meets endocardium", f"{int(off_base.sum())} edges join walls without the base"
    for tag in FACETS:
        if n := int(np.isin(model.tets, model.nodes_of(tag)).all(axis=1).sum()):
            yield "tet on one surface", f"{n} tets have all four nodes on {tag}"
    facets, owner = boundary_facets(model.tets)
    septal, epi = facets[model.region[owner] == REGIONS["septum"]], model.facet_tag == FACETS["epi"]
    keys = [row_keys(np.sort(some, axis=1), n_nodes) for some in (septal, model.facets[epi])]
    if n := int(np.isin(*keys).sum()):
        yield "septum in epicardium", f"{n} epicardial facets belong to septal tets"
    for region, value in REGIONS.items():
        if not (model.region == value).any():
            yield "empty region", f"no tet lies in region {region}"
    yield from _failed_figures(quality, settings)


def _failed_figures(quality: dict[str, float], settings: MeshSettings):
    at_least = {
        "min_scaled_jacobian": settings.min_scaled_jacobian,
        "p1_scaled_jacobian": settings.p1_scaled_jacobian,
        "lv_volume_kept": settings.min_volume_kept,
        "rv_volume_kept": settings.min_volume_kept,
    }
    for name, bound in at_least.items():
        if not quality[name] >= bound:
            yield name, f"{quality[name]:.4f} is below {bound:g}"
    walls = {"rv_wall_mm": settings.rv_wall_mm}
    if settings.has_segment_walls:
        walls = {f"rv_wall_{segment}_mm": mm for segment, mm in settings.rv_segments_mm.items()}
    elif settings.has_regional_walls:
        segments = settings.rv_segments_mm
        walls = {f"rv_wall_{level}_mm": segments[f"{level}_{SECTORS[0]}"] for level in LEVELS}
    for name, target_mm in walls.items():
        error = quality[name] / target_mm - 1.0
        if not abs(error) <= settings.rv_wall_tolerance:
            yield name, f"{quality[name]:.2f} mm is off {target_mm:g} mm by {error:+.0%}"
