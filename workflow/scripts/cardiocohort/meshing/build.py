"""From a label map to a checked biventricular mesh. Owned by the meshing stage."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..mesh.model import FACETS, REGIONS, BiventricularModel
from ..runtime.errors import SubjectError
from . import quality
from .crossings import REASON as CROSSED
from .crossings import check_crossings, open_crossings
from .domain import Domain, domain, smoothing_mm
from .free_wall import QUICK_TREE
from .settings import LEAST_EDGE_MM, NOT_RECORDED, MeshSettings
from .surface import TaggedSurface, surface
from .tetrahedra import TIMED_OUT, refine, split_large, tetrahedralize

log = logging.getLogger(__name__)

SURFACE_REACH = 0.12  # edge lengths that a surface node may move for the sake of a flat tet
SMOOTHING_STEPS = (1.0, 1.5, 2.0)  # of the set smoothing, tried in turn
# (smoothing, edge length) over the set ones, where tetrahedra were flat, as in walls thinner than an edge
SHORTER_EDGES = ((1.5, 0.85), (1.5, 0.7))
FLAT = "scaled_jacobian"  # in the reason of the gates on it

# surface, its domain, edge length by region -> surface without crossings, and what was changed
Cure = Callable[[TaggedSurface, Domain, dict[str, float]], tuple[TaggedSurface, str]]


def build(
    labelmap: LabelMap, anatomy: Anatomy, settings: MeshSettings
) -> tuple[BiventricularModel, dict[str, float]]:
    """Mesh of both ventricles, without microstructure, and its quality figures.

    Label maps of 1 to 3 mm voxels. An anatomy that fails is tried again with more smoothing
    (`smoothing_mm` of the figures). If no smoothing gives a mesh, surfaces that crossed themselves are tried
    again with these places opened, and hearts whose tetrahedra were flat with shorter edges. `changes` of the
    figures says what was done besides smoothing. Raises the first attempt's SubjectError where the anatomy
    cannot be meshed or the mesh fails a gate (`quality.check`) every time.
    """
    first: SubjectError | None = None
    least, set_mm = smoothing_mm(labelmap, settings), settings.edge_length_mm
    attempts = [(step, 1.0, check_crossings) for step in SMOOTHING_STEPS]
    shorter = [(*steps, check_crossings) for steps in SHORTER_EDGES]
    if min(settings.edge_lengths_mm.values()) * min(share for _, share, _ in shorter) < LEAST_EDGE_MM:
        shorter = []
    flat = False
    for step, share, cure in attempts:  # grows
        tried = replace(settings, smoothing_mm=step * least).with_edges(share * set_mm)
        try:
            model, figures = _build(labelmap, anatomy, tried, cure)
        except SubjectError as error:
            if error.reason == TIMED_OUT:  # says as much of the machine as of the surface
                raise first or error from None
            # without the detail, whose advice is for a heart that stays without a mesh
            how = f"smoothing of {step * least:.2g} mm" + f" and {share:g} of the edge lengths" * (share < 1)
            log.info("%s does not do: %s", how, error.reason)
            first = first or error
            flat = flat or FLAT in error.reason
            if error.reason == CROSSED and cure is check_crossings and share == 1:
                attempts.append((step, 1.0, open_crossings))
            if flat and (step, share, cure) == attempts[-1]:
                attempts += shorter
                shorter = []
            continue
        if share < 1:
            shortened = f"edges of {tried.edge_length_mm:.2f} instead of {set_mm:g} mm"
            figures["changes"] = "; ".join(filter(None, (shortened, figures["changes"])))
        return model, figures
    raise first


def _build(labelmap: LabelMap, anatomy: Anatomy, settings: MeshSettings, cure: Cure):
    parts = [time.perf_counter()]
    muscle = domain(labelmap, anatomy, settings)
    parts.append(time.perf_counter())
    edges = settings.edge_lengths_mm

    def size_mm(points):
        region = muscle.region(points)
        return np.select([region == name for name in edges], list(edges.values()))

    skin, changes = cure(surface(muscle, size_mm), muscle, edges)
    parts.append(time.perf_counter())
    points, tets = tetrahedralize(
        skin.points_mm, skin.facets, max(edges.values()), settings.tetgen_seconds, settings.tetgen_mb
    )
    if len(set(edges.values())) > 1:
        points, tets = split_large(points, tets, size_mm)
    points, tets, facets, tag = refine(
        points, tets, skin.facets, skin.tag, SURFACE_REACH * min(edges.values())
    )
    model = BiventricularModel(
        points_mm=points,
        tets=tets,
        region=region_of(points, tets, facets, tag),
        facets=facets,
        facet_tag=tag,
        provenance={
            "meshing": {key: value for key, value in asdict(settings).items() if key not in NOT_RECORDED}
        },
    )
    parts.append(time.perf_counter())
    figures = quality.measure(model, labelmap, anatomy) | quality.rv_wall_by_region_mm(model, muscle.wall)
    figures |= {
        "base": settings.base,
        "rim_distance_mm": quality.rim_distance_mm(model, muscle.base),
        "lv_base_lowered_mm": muscle.lowered_mm[0],
        "rv_base_lowered_mm": muscle.lowered_mm[1],
        "pits_filled_ml": muscle.filled_ml,
        "smoothing_mm": settings.smoothing_mm,
        "changes": changes,
    }
    quality.check(model, figures, settings)
    parts.append(time.perf_counter())
    return model, figures | _seconds(parts)


def _seconds(moments: list[float]) -> dict[str, float]:
    """Seconds of each part of a mesh's making, as in the mesh table."""
    names = ("domain", "surface", "tetrahedra", "gates")
    return {
        f"seconds_{name}": round(end - start, 1)
        for name, (start, end) in zip(names, pairwise(moments), strict=True)
    }


def region_of(points: np.ndarray, tets: np.ndarray, facets: np.ndarray, tag: np.ndarray) -> np.ndarray:
    """(M,) region by the farthest of the three walls: the septum's is the epicardium, the LV's the RV's."""
    centroids = points[tets].mean(axis=1)
    farthest = {"septum": "epi", "lv": "rv_endo", "rv": "lv_endo"}
    trees = []
    for wall in farthest.values():
        patch = facets[tag == FACETS[wall]]
        sample = np.concatenate([points[np.unique(patch)], points[patch].mean(axis=1)])
        trees.append(cKDTree(sample, **QUICK_TREE))

    def distances(places):
        return np.array([tree.query(places)[0] for tree in trees])

    # from a tet's first node the distances differ by no more than its way to the centroid
    at_node = distances(points)[:, tets[:, 0]]
    way = np.linalg.norm(centroids - points[tets[:, 0]], axis=1)
    _, second, first = np.sort(at_node, axis=0)
    found = np.argmax(at_node, axis=0)
    unsure = first - second <= 2.001 * way
    found[unsure] = np.argmax(distances(centroids[unsure]), axis=0)
    return np.array([REGIONS[region] for region in farthest])[found]
