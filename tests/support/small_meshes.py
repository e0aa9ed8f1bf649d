"""Small tetrahedral models for tests of meshing, fibres and exporters."""

import itertools

import numpy as np
import pyvista

from cardiocohort.mesh.label_model import LabelModel
from cardiocohort.mesh.model import BiventricularModel, Microstructure, VentricularCoordinates
from cardiocohort.mesh.tetrahedron_geometry import FACES, boundary_facets
from cardiocohort.meshing.build import region_of

# a cube's six tets around its diagonal (Kuhn); the same in every cube, so that neighbours conform
STEPS = [
    np.cumsum([np.zeros(3, int), *np.eye(3, dtype=int)[list(p)]], 0) for p in itertools.permutations(range(3))
]


def lattice_tets(shape, periodic=(False, False, False)):
    """Tets (M, 4), positive for right-handed coordinates, on a lattice of `shape` nodes."""
    cells = [range(n if loop else n - 1) for n, loop in zip(shape, periodic, strict=True)]
    corner = np.stack(np.meshgrid(*cells, indexing="ij"), -1).reshape(-1, 1, 3)
    found = []
    for steps in STEPS:
        index = (corner + steps) % shape
        tets = np.ravel_multi_index(np.moveaxis(index, -1, 0), shape)
        positive = np.linalg.det(np.diff(steps, axis=0)) > 0
        found.append(tets if positive else tets[:, [0, 2, 1, 3]])
    return np.concatenate(found)


def box(shape=(3, 4, 5), spacing=1.5, seed=0):
    """A block of tets with random regions, facet tags, orthonormal directions and coordinates."""
    rng = np.random.default_rng(seed)
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3) * spacing
    tets = lattice_tets(shape)
    facets, _ = boundary_facets(tets)
    directions = [np.linalg.qr(rng.normal(size=(n, 3, 3)))[0] for n in (len(tets), len(points))]
    return BiventricularModel(
        points_mm=points + rng.normal(scale=0.05, size=points.shape),
        tets=tets,
        region=rng.integers(1, 4, len(tets)),
        facets=facets,
        facet_tag=rng.integers(1, 5, len(facets)),
        microstructure=Microstructure(*(d[..., i] for d in directions for i in range(3))),
        coordinates=_anywhere(rng, len(tets), len(points)),
        provenance={"seed": seed},
    )


def _anywhere(rng, n_tets, n_nodes):
    """Random coordinates, within their ranges."""

    def drawn(n):
        return (*rng.random((3, n)), rng.integers(0, 2, n))

    aha, wall = rng.integers(1, 27, n_tets), rng.uniform(2, 15, n_tets)
    return VentricularCoordinates(*drawn(n_tets), *drawn(n_nodes), aha, wall)


def truncated_ellipsoid(
    shape=(6, 33, 48), inner=(20.0, 40.0), outer=(30.0, 50.0), apex_deg=0.3, base_deg=115.0
):
    """A left ventricle alone: nodes on (depth, polar angle from the apex, azimuth), azimuth periodic.

    Semi-axes (short, long) in mm. A pinhole is left at the apex, where the lattice would be flat.
    """
    depth, polar, azimuth = (
        np.linspace(0, 1, shape[0]),
        np.radians(np.linspace(apex_deg, base_deg, shape[1])),
        np.linspace(0, 2 * np.pi, shape[2], endpoint=False),
    )
    d, p, a = np.meshgrid(depth, polar, azimuth, indexing="ij")
    short, long = ((1 - d) * i + d * o for i, o in zip(inner, outer, strict=True))
    points = np.stack([short * np.sin(p) * np.cos(a), short * np.sin(p) * np.sin(a), -long * np.cos(p)], -1)
    tets = lattice_tets(shape, (False, False, True))
    index = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), -1)
    points = points.reshape(-1, 3)
    if np.linalg.det(points[tets[0, 1:]] - points[tets[0, 0]]) < 0:
        tets = tets[:, [0, 2, 1, 3]]
    facets, _ = boundary_facets(tets)
    sides = {3: index[:, 0] == 0, 1: index[:, 0] == shape[0] - 1, 2: index[:, 1] == shape[1] - 1}
    tag = np.zeros(len(facets), dtype=int)
    for value, nodes in sides.items():
        tag[nodes[facets].all(axis=1)] = value
    return BiventricularModel(points, tets, np.ones(len(tets), int), facets[tag > 0], tag[tag > 0])


def without_pinhole(model: BiventricularModel, radius_mm=3.0):
    """The model with the nodes around the apical pinhole drawn together, one per layer; its rim is gone."""
    points = model.points_mm
    near = np.hypot(points[:, 0], points[:, 1]) < radius_mm
    layer = np.where(near, np.round(points[:, 2], 6), np.inf)
    first = np.arange(len(points))
    for depth in np.unique(layer[near]):
        first[layer == depth] = np.flatnonzero(layer == depth)[0]
    used, node = np.unique(first, return_inverse=True)
    moved = np.where(near[:, None], points * [0, 0, 1], points)[used]

    def kept(cells):
        cells = node[cells]
        whole = np.array([len(set(cell)) == len(cell) for cell in cells.tolist()])
        return cells[whole], whole

    (tets, of_tets), (facets, of_facets) = kept(model.tets), kept(model.facets)
    micro = model.microstructure
    rows = {name: getattr(micro, name)[of_tets] for name in ("f0", "s0", "n0")}
    rows |= {name: getattr(micro, name)[used] for name in ("node_f0", "node_s0", "node_n0")}
    return BiventricularModel(
        moved, tets, model.region[of_tets], facets, model.facet_tag[of_facets], Microstructure(**rows)
    )


# layers of nodes of `biventricle`: LV endocardium, RV side of the septum, RV endocardium, epicardium
SEPTUM_LAYER, RV_LAYER, OUTER_LAYER = 4, 6, 8
RV_DEG = 50.0


def biventricle(
    polar_nodes=28, azimuth_nodes=72, wall=10.0, cavity=14.0, rv_wall=4.0,
    layers=(SEPTUM_LAYER, RV_LAYER, OUTER_LAYER),
):  # fmt: skip
    """An LV ellipsoid with an RV at its side, base at 100 degrees from the apex; symmetric about y = 0.

    The LV endocardium has semi-axes 20, 20, 40 mm, apex at -z; the RV lies at +x within 50 degrees of
    azimuth to either side. The wall of the LV is `wall` thick, the septum at most. Anterior (+y) is
    long axis x direction of the RV. A pinhole is left at the apex, where the lattice would be flat.
    """
    septum_layer, rv_layer, outer_layer = layers
    shape = (outer_layer + 1, polar_nodes, azimuth_nodes)
    polar = np.radians(np.linspace(1.0, 100.0, polar_nodes))
    azimuth = np.linspace(-np.pi, np.pi, azimuth_nodes, endpoint=False)
    first = np.searchsorted(polar, np.radians(30.0))  # where the RV begins
    k, p, a = np.meshgrid(np.arange(shape[0]), polar, azimuth, indexing="ij")
    # how far the RV bulges: not at all at its edges
    bulge = _step((np.radians(RV_DEG) - np.abs(a)) / 0.5) * _step((p - polar[first]) / 0.6)
    layers = np.array([0, *layers])
    flat = np.interp(k, layers, wall * layers / outer_layer)
    bulged = np.interp(k, layers, np.cumsum([0, wall, cavity, rv_wall]))
    depth = (1 - bulge) * flat + bulge * bulged
    short, long = 20.0 + depth, 40.0 + (1 - bulge) * flat + bulge * np.minimum(bulged, wall)
    points = np.stack([short * np.sin(p) * np.cos(a), short * np.sin(p) * np.sin(a), -long * np.cos(p)], -1)
    points = points.reshape(-1, 3)
    index = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), -1)
    in_rv = (np.abs(azimuth) <= np.radians(RV_DEG) + 1e-9)[index[:, 2]] & (index[:, 1] >= first)
    blood = in_rv & (index[:, 0] >= septum_layer) & (index[:, 0] <= rv_layer)
    tets = lattice_tets(shape, (False, False, True))
    tets = tets[~blood[tets].all(axis=1)]
    used, tets = np.unique(tets, return_inverse=True)
    points, index, blood, tets = points[used], index[used], blood[used], tets.reshape(-1, 4)
    if np.linalg.det(points[tets[0, 1:]] - points[tets[0, 0]]) < 0:
        tets = tets[:, [0, 2, 1, 3]]
    facets, _ = boundary_facets(tets)
    sides = {
        4: blood, 3: index[:, 0] == 0, 1: index[:, 0] == outer_layer, 2: index[:, 1] == polar_nodes - 1,
    }  # fmt: skip
    tag = np.zeros(len(facets), dtype=int)
    for value, nodes in sides.items():
        tag[nodes[facets].all(axis=1)] = value
    facets, tag = facets[tag > 0], tag[tag > 0]
    region = region_of(points, tets, facets, tag)
    return BiventricularModel(points, tets, region, facets, tag)


def _step(x):
    """From 0 to 1 over x in [0, 1], smoothly."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def two_labels(structures=("lower", "upper")):
    """A label mesh, 10 x 10 x 20 mm in ten tetrahedra: `lower` with fibres along x, `upper` without."""
    grid = pyvista.ImageData(dimensions=(2, 2, 3), spacing=(10, 10, 10)).to_tetrahedra(5)
    tets, points = (
        grid.cells_dict[pyvista.CellType.TETRA].astype(np.int64),
        np.asarray(grid.points, dtype=float),
    )
    a, b, c = (points[tets[:, i]] - points[tets[:, 0]] for i in (1, 2, 3))
    flip = np.einsum("ij,ij->i", a, np.cross(b, c)) < 0
    tets[flip] = tets[flip][:, [0, 2, 1, 3]]
    region = np.where(points[tets].mean(axis=1)[:, 2] < 10, 1, 2)
    faces, owner = tets[:, FACES].reshape(-1, 3), np.repeat(np.arange(len(tets)), 4)
    facets, sides = [], []
    _, at = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    for face in range(at.max() + 1):
        both = np.flatnonzero(at.ravel() == face)
        labels = [*region[owner[both]], 0][:2]
        if labels[0] != labels[1]:
            facets.append(faces[both[0]])
            sides.append(labels)
    along = np.zeros((len(tets), 3))
    along[region == 1] = [1, 0, 0]
    node = np.zeros((len(points), 3))
    return LabelModel(
        points, tets, region, np.array(facets), np.array(sides), structures,
        microstructure=Microstructure(along, along[:, [1, 0, 2]], along[:, [2, 1, 0]], node, node, node),
    )  # fmt: skip
