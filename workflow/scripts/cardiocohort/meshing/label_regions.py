"""From a label map to a checked mesh of all its labels. Owned by the meshing stage."""

import logging
import time
from dataclasses import asdict
from functools import partial
from itertools import pairwise

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..mesh.label_model import OUTSIDE, LabelModel, wrong_facets
from ..mesh.tetrahedron_geometry import FACES, row_keys, scaled_jacobian, z_order
from ..runtime.errors import SubjectError
from .interfaces import Interfaces, interfaces
from .settings import MeshSettings
from .surface import patch_of
from .tetrahedra import BAD, TIMED_OUT, Finer, improve, tetrahedralize
from .walls import WalledMap, layered

log = logging.getLogger(__name__)

SURFACE_REACH = 0.12  # edge lengths that a node of an interface may move for the sake of a flat tet
SMOOTHING_STEPS = (1.0, 1.5, 2.0)  # of the set smoothing, tried in turn
WALLED_STEPS = (1.0, 0.9, 1.2)  # of maps with added walls, which more smoothing makes too thin
ROUNDS = 3  # of improvement
NOT_CONFORMING = "interfaces not conforming"
CONTACT_GATE = 2.5  # edge lengths between a facet and the nearest contact of its labels in the label map
WALLED_SHARE = 0.5  # of the gates on scaled Jacobians, where walls are thinner than an edge
SEED_DEPTH = 0.01  # edge lengths behind a facet; facets neither fold nor cross, so no other is as near
BIT_OF_A_WALL = 0.01  # of its volume: smaller pieces of a wall do not count
PARTS = ("surface", "tetrahedra", "gates")


def build_labels(
    labelmap: LabelMap,
    anatomy: Anatomy,
    settings: MeshSettings,
    walled: WalledMap | None = None,
) -> tuple[LabelModel, dict[str, float]]:
    """Mesh of every label of a label map, without fibres, and its quality figures.

    walled: what else is known of a map with added walls, which may be thinner than an edge.

    An anatomy that fails is tried again with other smoothing (`smoothing_mm` of the figures). Raises the
    first attempt's SubjectError where no attempt gives a mesh that passes the gates (`failures`).
    """
    first: SubjectError | None = None
    for step in SMOOTHING_STEPS if walled is None else WALLED_STEPS:
        smoothing = step * settings.smoothing_mm
        try:
            return _build(labelmap, anatomy, settings, smoothing, walled)
        except SubjectError as error:
            if error.reason == TIMED_OUT:
                raise first or error from None
            log.info("smoothing of %.2g mm does not do: %s", smoothing, error.reason)
            first = first or error
    raise first


def _build(
    labelmap: LabelMap,
    anatomy: Anatomy,
    settings: MeshSettings,
    smoothing_mm: float,
    walled: WalledMap | None,
):
    edge, moments = settings.edge_length_mm, [time.perf_counter()]
    walls, more = {}, {}
    if walled is not None:
        walls = walled.walls
        added = sorted(walls.values())[1:]  # the first is the myocardium, which is a label
        more = {"choose": partial(layered, walled=walled), "walls": added, "outside": walled.outside}
    skin = interfaces(labelmap, edge, smoothing_mm, **more)
    check_contacts(skin, anatomy, edge, tuple(walls.values()))
    moments.append(time.perf_counter())
    largest, finer = edge, None
    if walls and settings.blood_edges_mm > edge:
        largest, finer = settings.blood_edges_mm, Finer(inside(skin, list(walls.values()), edge), edge)
    points, tets = tetrahedralize(
        skin.points_mm, skin.facets, largest, settings.tetgen_seconds, settings.tetgen_mb, finer
    )
    region = regions(points, tets, skin)
    for _ in range(ROUNDS):
        if scaled_jacobian(points[tets]).min() >= BAD:
            break
        points = improve(points, tets, skin.points_mm, SURFACE_REACH * edge, surface=skin.facets)
    kept = z_order(points[tets].mean(axis=1))  # neighbours after each other: smaller files
    kept = kept[region[kept] > 0]
    used, compact = np.unique(tets[kept], return_inverse=True)
    model = LabelModel(
        points_mm=points[used],
        tets=compact.reshape(-1, 4),
        region=region[kept],
        facets=np.searchsorted(used, skin.facets),
        sides=skin.sides,
        structures=anatomy.structures,
        provenance={"meshing": {key: value for key, value in asdict(settings).items() if key != "frame"}},
    )
    moments.append(time.perf_counter())
    figures = measure(model, labelmap) | {
        "smoothing_mm": smoothing_mm,
        "changes": "; ".join(changes(model, labelmap, skin, list(walls.values()))),
    }
    if wrong := list(failures(model, labelmap, figures, settings, tuple(walls.values()))):
        raise SubjectError(*wrong[0])
    moments.append(time.perf_counter())
    seconds = {
        f"seconds_{part}": round(end - start, 1)
        for part, (start, end) in zip(PARTS, pairwise(moments), strict=True)
    }
    return model, figures | seconds


def check_contacts(
    skin: Interfaces, anatomy: Anatomy, edge_length_mm: float, walls: tuple[int, ...] = ()
) -> None:
    """SubjectError if two labels touch far from where they do in the label map, as through a thin wall.

    walls: labels that may touch any other; between them is a mere matter of whose wall it is.
    """
    middle = skin.points_mm[skin.facets].mean(axis=1)
    far = skin.contacts.distance_mm(skin.sides, middle) > CONTACT_GATE * edge_length_mm
    far &= ~np.isin(skin.sides, walls).any(axis=1)
    if far.any():
        k = far.argmax()
        one, two = ((OUTSIDE, *anatomy.structures)[label] for label in np.sort(skin.sides[k])[::-1])
        place = ", ".join(f"{mm:.0f}" for mm in middle[k])
        raise SubjectError(
            "false contact",
            f"{one} touches {two} near ({place}) mm, in the label map not; set meshing.edge_length_mm below "
            f"{edge_length_mm:g}",
        )


def inside(skin: Interfaces, labels: list[int], edge_length_mm: float) -> np.ndarray:
    """Points (R, 3) in the regions of `labels`, one behind the largest facet of each patch around them."""
    a, b, c = (skin.points_mm[skin.facets[:, i]] for i in range(3))
    normal, centre = np.cross(b - a, c - a), (a + b + c) / 3
    area = np.linalg.norm(normal, axis=1)
    found = []
    for label in labels:
        around = np.flatnonzero((skin.sides == label).any(axis=1))
        patch = patch_of(skin.facets[around])
        for number in np.unique(patch):
            facets = around[patch == number]
            k = facets[area[facets].argmax()]
            inward = -1.0 if skin.sides[k, 0] == label else 1.0
            found.append(centre[k] + inward * SEED_DEPTH * edge_length_mm * normal[k] / area[k])
    return np.array(found).reshape(-1, 3)


def regions(points: np.ndarray, tets: np.ndarray, skin: Interfaces) -> np.ndarray:
    """(M,) label of each tet: that which the facets around its region name on its side.

    SubjectError if a facet is missing among the tets, or if facets around one region disagree.
    """
    n = len(points)
    faces = tets[:, FACES].reshape(-1, 3)
    key, wall = row_keys(np.sort(faces, axis=1), n), row_keys(np.sort(skin.facets, axis=1), n)
    by_wall = np.argsort(wall)
    facet = by_wall[np.minimum(np.searchsorted(wall[by_wall], key), len(wall) - 1)]
    on_wall = wall[facet] == key
    if len(np.unique(facet[on_wall])) < len(wall):
        raise SubjectError(
            NOT_CONFORMING, f"{len(wall) - len(np.unique(facet[on_wall]))} facets are not faces of tetrahedra"
        )
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    pairs = np.stack([order[same], order[same + 1]], axis=1)
    links = pairs[~on_wall[pairs[:, 0]]] // 4
    graph = sparse.coo_array((np.ones(len(links)), links.T), shape=(len(tets),) * 2)
    n_parts, part = connected_components(graph, directed=False)
    face = np.flatnonzero(on_wall)
    mine, own = faces[face], skin.facets[facet[face]]
    # a face of a tet is turned outward: a facet with the same turn has the tet behind it
    at = (own == mine[:, :1]).argmax(axis=1)
    same_turn = own[np.arange(len(own)), (at + 1) % 3] == mine[:, 1]
    label = np.where(same_turn, *skin.sides[facet[face]].T)
    named = np.unique(np.stack([part[face // 4], label], axis=1), axis=0)
    if len(named) != n_parts:
        raise SubjectError(NOT_CONFORMING, "facets around one region name different labels")
    return named[part, 1]


def measure(model: LabelModel, labelmap: LabelMap) -> dict[str, float]:
    """Quality figures of a mesh against its label map; names as in the mesh table."""
    return counts(model) | {"region_volume_error": float(np.nanmax(np.abs(volume_errors(model, labelmap))))}


def counts(model: LabelModel) -> dict[str, float]:
    """Those of the mesh alone."""
    quality = scaled_jacobian(model.points_mm[model.tets])
    return {
        "n_nodes": len(model.points_mm),
        "n_tets": len(model.tets),
        "min_scaled_jacobian": float(quality.min()),
        "p1_scaled_jacobian": float(np.quantile(quality, 0.01)),
        "regions": len(np.unique(model.region)),
        "interfaces": len(model.interfaces()),
    }


def volume_errors(model: LabelModel, labelmap: LabelMap) -> np.ndarray:
    """(K,) relative error of each region's volume from its label's; NaN for labels that the map lacks."""
    voxel = float(np.prod(labelmap.spacing_mm))
    labels = np.bincount(labelmap.labels.ravel(), minlength=len(model.structures) + 1)[1:] * voxel
    return np.divide(model.volumes_mm3, labels, out=np.full(len(labels), np.nan), where=labels > 0) - 1


def changes(model: LabelModel, labelmap: LabelMap, skin: Interfaces, walls: list[int]):
    """What is not as the label map has it, in words: nodes moved back, walls joined, bits, lost pieces."""
    if skin.moved_back:
        yield f"{skin.moved_back} nodes of interfaces moved back"
    if skin.added:
        cells = (f"{model.name(label)} {count}" for label, count in sorted(skin.added.items()))
        yield f"cells added that join pieces of walls: {', '.join(cells)}"
    for label in sorted(walls):
        share = pieces(model, label)
        if len(bits := share[share < BIT_OF_A_WALL]):
            yield f"{model.name(label)}: {len(bits)} bits apart, {100 * bits.sum():.2g} % of it"
    for label in sorted(set(np.unique(model.region).tolist()) - set(walls)):
        if (lost := left_out(pieces(model, label), label_pieces(labelmap, label))).any():
            share = f"{100 * lost.sum():.2g} % of its label"
            yield f"{model.name(label)}: {len(lost)} of its pieces left out, {share}"


def pieces(model: LabelModel, label: int) -> np.ndarray:
    """Share of its volume of each piece of a region; tets of a piece share faces."""
    rows = np.flatnonzero(model.region == label)
    tets = model.tets[rows]
    key = row_keys(np.sort(tets[:, FACES].reshape(-1, 3), axis=1), len(model.points_mm))
    order = np.argsort(key)
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    links = np.stack([order[same], order[same + 1]], axis=1) // 4
    graph = sparse.coo_array((np.ones(len(links)), links.T), shape=(len(tets),) * 2)
    piece = connected_components(graph, directed=False)[1]
    volume = np.bincount(piece, model.tet_volumes_mm3[rows])
    return volume / volume.sum()


def label_pieces(labelmap: LabelMap, label: int) -> np.ndarray:
    """Share of its volume of each piece of a label; voxels of a piece share faces, edges or corners."""
    inside = labelmap.labels == label
    (box,) = ndimage.find_objects(inside.view(np.int8))
    piece, count = ndimage.label(inside[box], np.ones((3, 3, 3)))
    volume = np.bincount(piece.ravel(), minlength=count + 1)[1:]
    return volume / volume.sum()


def left_out(pieces: np.ndarray, label_pieces: np.ndarray) -> np.ndarray:
    """Shares of the smallest pieces of a label, as many as its region has less: too small for the edges."""
    return np.sort(label_pieces)[: max(len(label_pieces) - len(pieces), 0)]


def failures(
    model: LabelModel,
    labelmap: LabelMap,
    figures: dict,
    settings: MeshSettings,
    walls: tuple[int, ...] = (),
):
    """Reason and detail of each gate that the mesh fails.

    Of a mesh with `walls`, which may be thinner than an edge, a share of the scaled Jacobians set is enough;
    bits of a wall in the gap between two pools are no pieces, and an added wall, which has no label, has the
    tolerance of walls.
    """
    share = WALLED_SHARE if walls else 1.0
    added = sorted(walls)[1:]  # the first is the myocardium, which has a label
    if count := wrong_facets(model):
        yield NOT_CONFORMING, f"{count} faces between regions are no facet, or the other way round"
    if (model.tet_volumes_mm3 <= 0).any():
        yield "inverted tetrahedra", f"{np.count_nonzero(model.tet_volumes_mm3 <= 0)} have no positive volume"
    for name in ("min_scaled_jacobian", "p1_scaled_jacobian"):
        if figures[name] < share * getattr(settings, name):
            yield name, f"{figures[name]:.3g}, must be at least {share * getattr(settings, name):g}"
    for label, error in enumerate(volume_errors(model, labelmap), start=1):
        name = model.name(label)
        tolerance = settings.rv_wall_tolerance if label in added else settings.region_volume_tolerance
        if abs(error) > tolerance:  # of NaN, which has no label, not
            yield (
                "region volume",
                f"{name}: {100 * error:+.1f} % of its label, allowed are "
                f"{100 * tolerance:g} %; set meshing.edge_length_mm below "
                f"{settings.edge_length_mm:g}",
            )
        elif np.isfinite(error):
            least = BIT_OF_A_WALL if label in walls else 0.0
            found, wanted = pieces(model, label), label_pieces(labelmap, label)
            count = np.count_nonzero(found >= least)
            if count > len(wanted) or left_out(found, wanted).sum() > tolerance:
                yield (
                    "region in pieces",
                    f"{name}: {count} pieces, its label has {len(wanted)}; set another "
                    "meshing.edge_length_mm",
                )
