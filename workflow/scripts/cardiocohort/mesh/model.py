"""The solver-neutral biventricular mesh that every exporter starts from. Owned by the meshing stage."""

from dataclasses import dataclass, field

import numpy as np

from .tetrahedron_geometry import boundary_facets, row_keys, signed_volumes

REGIONS = {"lv": 1, "rv": 2, "septum": 3}
FACETS = {"epi": 1, "base": 2, "lv_endo": 3, "rv_endo": 4}
DIRECTIONS = ("f0", "s0", "n0")
COORDINATES = ("apicobasal", "transmural", "rotational", "transventricular")


@dataclass(frozen=True)
class Microstructure:
    """Fibre, sheet and sheet-normal unit vectors on tets (M, 3) and on nodes (N, 3), orthonormal."""

    f0: np.ndarray
    s0: np.ndarray
    n0: np.ndarray
    node_f0: np.ndarray
    node_s0: np.ndarray
    node_n0: np.ndarray


def orthonormal(f0: np.ndarray, s0: np.ndarray, n0: np.ndarray) -> tuple[np.ndarray, ...]:
    """The nearly orthonormal directions (n, 3) made so, the fibre's kept; zero vectors stay."""
    f0 = _unit(f0)
    s0 = _unit(s0 - _dot(s0, f0) * f0)
    across = np.cross(f0, s0)
    return f0, s0, across * np.sign(_dot(across, n0))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a * b, axis=1, keepdims=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


@dataclass(frozen=True)
class VentricularCoordinates:
    """Where the muscle lies, on tets (M,) and on nodes (N,); how: `microstructure.coordinates`.

    apicobasal, transmural in [0, 1]; rotational in [0, 1), which goes round: average sine and cosine of its
    turn, never itself; transventricular 0 LV, 1 RV; aha (M,): segments 1 to 26; wall_mm (M,): thickness.
    """

    apicobasal: np.ndarray
    transmural: np.ndarray
    rotational: np.ndarray
    transventricular: np.ndarray
    node_apicobasal: np.ndarray
    node_transmural: np.ndarray
    node_rotational: np.ndarray
    node_transventricular: np.ndarray
    aha: np.ndarray
    wall_mm: np.ndarray

    def on_tets(self) -> dict[str, np.ndarray]:
        """Arrays (M,) by the names that files give them: coordinates with sine and cosine, aha, wall_mm."""
        return self._named("") | {"aha": self.aha, "wall_mm": self.wall_mm}

    def on_nodes(self) -> dict[str, np.ndarray]:
        """Arrays (N,) by the names that files give them: coordinates with sine and cosine."""
        return self._named("node_")

    def _named(self, prefix: str) -> dict[str, np.ndarray]:
        named = {name: getattr(self, prefix + name) for name in COORDINATES}
        turn = 2 * np.pi * named["rotational"]
        return named | {"rotational_sin": np.sin(turn), "rotational_cos": np.cos(turn)}


@dataclass(frozen=True, eq=False)  # by identity: equal arrays would have no hash
class BiventricularModel:
    """A tagged tetrahedral mesh of both ventricles.

    points_mm (N, 3) float64, RAS+, in `frame` ("heart" or "scanner", `mesh.frames`); tets (M, 4), positively
    oriented; region (M,), see REGIONS; facets (F, 3), all boundary facets, normals outward; facet_tag (F,),
    see FACETS; microstructure once the fibre rule has run, coordinates once they have been found; provenance:
    how it was made, JSON-able; world_from_heart (4, 4), rigid: from the heart frame to the scanner's
    coordinates, None for a heart without a scan.
    Raises ValueError naming the block whose shape, index or value does not fit.
    """

    points_mm: np.ndarray
    tets: np.ndarray
    region: np.ndarray
    facets: np.ndarray
    facet_tag: np.ndarray
    microstructure: Microstructure | None = None
    coordinates: VentricularCoordinates | None = None
    provenance: dict = field(default_factory=dict)
    units: str = "mm"
    world_from_heart: np.ndarray | None = None
    frame: str = "heart"

    def __post_init__(self):
        m = len(self.tets)
        check_mesh(self, {"region": (m,), "facet_tag": (len(self.facets),)})
        for name, allowed in (("region", REGIONS), ("facet_tag", FACETS)):
            wrong = np.setdiff1d(getattr(self, name), list(allowed.values()))
            if wrong.size:
                raise ValueError(f"{name}: value {wrong[0]} is not one of {allowed}")
        check_directions(self)
        if self.coordinates is not None:
            for name in (*COORDINATES, "aha", "wall_mm"):
                _check_shape(f"coordinates.{name}", getattr(self.coordinates, name), (m,))
            for name in COORDINATES:
                _check_shape(
                    f"coordinates.node_{name}",
                    getattr(self.coordinates, f"node_{name}"),
                    (len(self.points_mm),),
                )

    @property
    def tet_volumes_mm3(self) -> np.ndarray:
        """(M,) signed volumes."""
        return signed_volumes(self.points_mm, self.tets)

    @property
    def wall_volume_ml(self) -> float:
        return float(self.tet_volumes_mm3.sum()) / 1000.0

    def nodes_of(self, tag: str) -> np.ndarray:
        """Sorted node indices of the facets tagged `tag` (a key of FACETS)."""
        return np.unique(self.facets[self.facet_tag == FACETS[tag]])

    def cavity_volume_ml(self, ventricle: str) -> float:
        """Volume (mL) enclosed by an endocardium ("lv" or "rv") and a lid over its opening.

        The lid is the fan from the rim's centroid: exact for a plane opening, close for the slightly
        curved ones of two valve planes.
        """
        # facets point out of the muscle, that is into the cavity
        return enclosed_ml(self.points_mm, self.facets[self.facet_tag == FACETS[f"{ventricle}_endo"]])


def enclosed_ml(points_mm: np.ndarray, facets: np.ndarray) -> float:
    """Volume (mL) that facets (F, 3), whose normals point inwards, enclose with the fan over their rim."""
    rim = rim_edges(facets)
    apex = points_mm[np.unique(rim)].mean(axis=0) if len(rim) else points_mm[facets[0, 0]]
    # cones over the facets from a point of the lid; the lid's own cones are flat
    a, b, c = (points_mm[facets[:, i]] - apex for i in range(3))
    return float(-np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6000.0


def rim_edges(facets: np.ndarray) -> np.ndarray:
    """Directed edges (E, 2) of oriented facets (F, 3) that have no opposite: the borders of the patch."""
    directed = np.concatenate([facets[:, [0, 1]], facets[:, [1, 2]], facets[:, [2, 0]]])
    n = directed.max(initial=0) + 1
    opposed = np.isin(row_keys(directed[:, ::-1], n), row_keys(directed, n))
    return directed[~opposed].astype(int)


def all_boundary_tagged(model: BiventricularModel) -> bool:
    """Whether the facets are exactly the boundary of the tets, each once."""
    key = np.sort(model.facets, axis=1)
    expected = np.sort(boundary_facets(model.tets)[0], axis=1)
    return len(key) == len(expected) and np.array_equal(_sorted_rows(key), _sorted_rows(expected))


def _sorted_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T[::-1])]


def check_mesh(model, shapes: dict[str, tuple]) -> None:
    """ValueError naming the block of a tetrahedral mesh that does not fit: points, tets, facets, `shapes`."""
    n, m, f = len(model.points_mm), len(model.tets), len(model.facets)
    for name, shape in ({"points_mm": (n, 3), "tets": (m, 4), "facets": (f, 3)} | shapes).items():
        _check_shape(name, getattr(model, name), shape)
    if not np.isfinite(model.points_mm).all():
        raise ValueError("points_mm: not all coordinates are finite")
    for name in ("tets", "facets"):
        nodes = getattr(model, name)
        if nodes.size and not (nodes.min() >= 0 and nodes.max() < n):
            raise ValueError(f"{name}: node indices outside 0..{n - 1}")


def check_directions(model) -> None:
    """ValueError naming the matrix or the directions of a tetrahedral mesh that do not fit."""
    if model.world_from_heart is not None:
        _check_rigid("world_from_heart", model.world_from_heart)
    if model.microstructure is not None:
        for name in DIRECTIONS:
            directions = model.microstructure
            _check_shape(f"microstructure.{name}", getattr(directions, name), (len(model.tets), 3))
            _check_shape(
                f"microstructure.node_{name}", getattr(directions, f"node_{name}"), (len(model.points_mm), 3)
            )


def _check_shape(name: str, array: np.ndarray, shape: tuple) -> None:
    if np.shape(array) != shape:
        raise ValueError(f"{name}: shape {np.shape(array)}, expected {shape}")


def _check_rigid(name: str, matrix: np.ndarray) -> None:
    _check_shape(name, matrix, (4, 4))
    turn = matrix[:3, :3]
    if not (np.allclose(turn @ turn.T, np.eye(3), atol=1e-6) and np.linalg.det(turn) > 0):
        raise ValueError(f"{name}: not a rotation and a translation")
