"""What can be set when a heart is meshed. Owned by the meshing stage; light: the Snakefile imports it."""

from dataclasses import dataclass, fields, replace

from ..runtime.errors import InputError
from ..runtime.keys import check, from_section, key, section

REGIONAL_WALLS = ("rv_wall_basal_mm", "rv_wall_apical_mm")
# segments of the RV's free wall (`free_wall`), from the base and from anterior
LEVELS = ("basal", "mid", "apical")
SECTORS = ("anterior", "lateral", "inferior")
SEGMENT_KEY = "rv_wall_segments_mm"

LEAST_EDGE_MM = 0.5
NO_LIMIT_MM = 1000.0  # an edge length that no tetrahedron of a heart reaches
THINNEST_WALL = 0.7  # edge lengths, domain `four_chamber`: nodes reach 0.6 from the middle of a cell
# Solver formats of the domains `labels` and `four_chamber`; the others need cavities and fibres everywhere
LABEL_FORMATS = ("calculix", "fenicsx", "opencarp", "surfaces", "vtu")
# of a biventricular mesh's provenance: its own domain has no use for them
FOUR_CHAMBER_KEYS = (
    "atrial_wall_mm",
    "artery_wall_mm",
    "vein_wall_mm",
    "blood",
    "blood_edge_length_mm",
    "blood_volume_tolerance",
)
NOT_RECORDED = ("frame", "domain", "region_volume_tolerance", *FOUR_CHAMBER_KEYS)


def _of_segment(level: str, sector: str):
    otherwise = "rv_wall_mm" if level == "mid" else f"rv_wall_{level}_mm"
    return key(
        None,
        f"Thickness in the {level} {sector} segment; null is as {otherwise} of `meshing` (mm).",
        minimum=1,
        maximum=15,
    )


@dataclass(frozen=True)
class RvWallSegments:
    """Thickness of the nine segments of the RV's free wall; null is the thickness of the segment's third."""

    basal_anterior: float | None = _of_segment("basal", "anterior")
    basal_lateral: float | None = _of_segment("basal", "lateral")
    basal_inferior: float | None = _of_segment("basal", "inferior")
    mid_anterior: float | None = _of_segment("mid", "anterior")
    mid_lateral: float | None = _of_segment("mid", "lateral")
    mid_inferior: float | None = _of_segment("mid", "inferior")
    apical_anterior: float | None = _of_segment("apical", "anterior")
    apical_lateral: float | None = _of_segment("apical", "lateral")
    apical_inferior: float | None = _of_segment("apical", "inferior")


@dataclass(frozen=True)
class MeshSettings:
    """Lengths in mm, times in seconds.

    The default wall of the right ventricle, 3.5 mm, follows the wall measured by CT and used by Strocchi et
    al. (PLoS ONE 2020). At the borders of thirds and segments the thickness changes smoothly. At least three
    quarters of the voxel size are used for `smoothing_mm`, which removes the steps of the voxels.
    """

    domain: str = key(
        "biventricular",
        "What is meshed: `biventricular`, the muscle of both ventricles; `labels`, every label of the label "
        "map as a region; or `four_chamber`, these regions with the walls that labels lack.",
        enum=["biventricular", "labels", "four_chamber"],
    )
    rv_wall_mm: float = key(
        3.5,
        "Thickness of the right ventricular free wall, which label maps do not have (mm).",
        minimum=1,
        maximum=15,
    )
    rv_wall_basal_mm: float | None = key(
        None,
        "Thickness in the third of the RV's length at the valves; null is as rv_wall_mm (mm).",
        minimum=1,
        maximum=15,
    )
    rv_wall_apical_mm: float | None = key(
        None,
        "Thickness in the third of the RV's length at its apex; null is as rv_wall_mm (mm).",
        minimum=1,
        maximum=15,
    )
    rv_wall_segments_mm: RvWallSegments = section(
        RvWallSegments,
        "Thickness of the nine segments of the RV's free wall in mm; null is the thickness of the segment's "
        "third (docs/meshing.md, RV wall).",
    )
    atrial_wall_mm: float = key(
        2.0,
        "Thickness of the walls of both atria, domain `four_chamber` (mm).",
        minimum=1,
        maximum=10,
    )
    artery_wall_mm: float = key(
        2.0,
        "Thickness of the walls of aorta and pulmonary artery, domain `four_chamber` (mm).",
        minimum=1,
        maximum=10,
    )
    vein_wall_mm: float | None = key(
        None,
        "Thickness of the walls of venae cavae and pulmonary veins, domain `four_chamber`; null leaves veins "
        "out, with an opening in the atrium (mm).",
        minimum=1,
        maximum=10,
    )
    blood: str = key(
        "regions",
        "Blood pools of the domain `four_chamber`: `regions` of tetrahedra, or `left_out`, walls alone.",
        enum=["regions", "left_out"],
    )
    blood_edge_length_mm: float | None = key(
        None,
        "Aimed edge length inside blood pools, away from their walls, domain `four_chamber`; null is as "
        "edge_length_mm (mm).",
        minimum=LEAST_EDGE_MM,
        maximum=20,
    )
    edge_length_mm: float = key(
        2.8,
        "Aimed edge length of the tetrahedra; in the RV it must be less than rv_wall_mm (mm).",
        minimum=LEAST_EDGE_MM,
        maximum=6,
    )
    septum_edge_length_mm: float | None = key(
        None,
        "Aimed edge length in the septum; null is as edge_length_mm (mm).",
        minimum=LEAST_EDGE_MM,
        maximum=6,
    )
    rv_edge_length_mm: float | None = key(
        None,
        "Aimed edge length in the RV's free wall, less than rv_wall_mm; null is as edge_length_mm (mm).",
        minimum=LEAST_EDGE_MM,
        maximum=6,
    )
    min_lv_wall_mm: float = key(
        2.0,
        "Thinnest muscle left around the left ventricle's blood, septum included (mm).",
        exclusiveMinimum=0,
        maximum=15,
    )
    smoothing_mm: float = key(
        1.5,
        "Width of the Gaussian that smooths each boundary; about the voxel size (mm).",
        minimum=0,
        maximum=6,
    )
    frame: str = key(
        "heart",
        "Coordinates of nodes and directions in meshes and decks: `heart`, the heart frame, or `scanner`, "
        "those of the scan, which only hearts of `label_maps` have.",
        enum=["heart", "scanner"],
    )
    base: str = key(
        "two_planes",
        "Where the muscle ends: `two_planes`, one per ventricle, blended across the septum, or "
        "`one_plane` below all valves.",
        enum=["two_planes", "one_plane"],
    )
    valve_clearance: float = key(
        0.1,
        "Share of a valve's contact area that may lie below its valve plane.",
        minimum=0,
        maximum=1,
    )
    min_scaled_jacobian: float = key(
        0.05,
        "Gate on the worst scaled Jacobian of a mesh.",
        minimum=0,
        maximum=1,
    )
    p1_scaled_jacobian: float = key(
        0.2,
        "Gate on the 1st percentile of the scaled Jacobians of a mesh.",
        minimum=0,
        maximum=1,
    )
    min_volume_kept: float = key(
        0.85,
        "Gate on the cavity volume of the mesh over that of the label map, each ventricle.",
        minimum=0,
        maximum=1,
    )
    rv_wall_tolerance: float = key(
        0.15,
        "Gate on the relative error of the median thickness of the right ventricular wall, by "
        "thirds where they differ; in the domain `four_chamber` of every added wall.",
        minimum=0,
        maximum=10,
    )
    region_volume_tolerance: float = key(
        0.03,
        "Gate on the relative error of the volume of each region, domains `labels` and `four_chamber`.",
        minimum=0,
        maximum=1,
    )
    blood_volume_tolerance: float = key(
        0.03,
        "Gate on the relative error of the blood of each chamber and artery, beside the label map without "
        "walls, domain `four_chamber`.",
        minimum=0,
        maximum=1,
    )
    tetgen_seconds: float = key(
        120.0,
        "Time limit for TetGen, after which the subject is rejected (s).",
        minimum=1,
        maximum=86400,
    )
    tetgen_mb: float = key(
        8000.0,
        "Limit of TetGen's address space, beyond which the subject is rejected (MB).",
        minimum=1000,
        maximum=1000000,
    )

    def __post_init__(self):
        check(self, "meshing")
        if self.domain == "biventricular":
            self.check_edges("meshing.{}")
        if self.domain == "four_chamber":
            self.check_walls()

    def check_walls(self) -> None:
        """InputError if a wall of the domain `four_chamber` is too thin for its edges, or by regions."""
        for name in ("rv_wall_mm", "atrial_wall_mm", "artery_wall_mm", "vein_wall_mm"):
            mm = getattr(self, name)
            if mm is not None and mm < THINNEST_WALL * self.edge_length_mm:
                raise InputError(
                    f"config key 'meshing.{name}': {mm:g} must be at least {THINNEST_WALL:g} of "
                    f"edge_length_mm, {self.edge_length_mm:g}, in the domain four_chamber; set "
                    f"edge_length_mm to {mm / THINNEST_WALL:.2g} or less"
                )
        if self.blood_edge_length_mm is not None and self.blood_edge_length_mm < self.edge_length_mm:
            raise InputError(
                f"config key 'meshing.blood_edge_length_mm': {self.blood_edge_length_mm:g} must be at least "
                f"edge_length_mm, {self.edge_length_mm:g}, which the surfaces of the pools have; set null"
            )
        own = {name: getattr(self, name) for name in REGIONAL_WALLS} | self._own_segments
        own |= {name: getattr(self, name) for name in ("rv_edge_length_mm", "septum_edge_length_mm")}
        for name, mm in own.items():
            if mm is not None:
                raise InputError(
                    f"config key 'meshing.{name}': the domain four_chamber has one thickness per wall and "
                    "one edge length; set null"
                )

    def check_edges(self, where: str) -> None:
        """InputError, naming the key by `where`, if the edges do not fit in the right ventricle's wall."""
        edge = "edge_length_mm" if self.rv_edge_length_mm is None else "rv_edge_length_mm"
        walls = {key: getattr(self, key) for key in ("rv_wall_mm", *REGIONAL_WALLS)} | self._own_segments
        wall = min((key for key, mm in walls.items() if mm is not None), key=walls.get)
        if getattr(self, edge) >= walls[wall]:
            raise InputError(
                f"config key '{where.format(edge)}': {getattr(self, edge):g} must be less than {wall}, "
                f"{walls[wall]}, so that the wall holds its tetrahedra"
            )

    @property
    def edge_lengths_mm(self) -> dict[str, float]:
        """Aimed edge length by region (lv, rv, septum)."""
        by_region = {"lv": None, "rv": self.rv_edge_length_mm, "septum": self.septum_edge_length_mm}
        return {region: self.edge_length_mm if mm is None else mm for region, mm in by_region.items()}

    @property
    def _own_segments(self) -> dict[str, float | None]:
        """Thickness by the full name of its key, None where a segment has none of its own."""
        return {
            f"{SEGMENT_KEY}.{f.name}": getattr(self.rv_wall_segments_mm, f.name)
            for f in fields(RvWallSegments)
        }

    @property
    def blood_edges_mm(self) -> float:
        """Aimed edge length inside blood pools of the domain `four_chamber`; no limit if left out."""
        if self.blood == "left_out":
            return NO_LIMIT_MM
        return self.blood_edge_length_mm or self.edge_length_mm

    @property
    def rv_walls_mm(self) -> dict[str, float]:
        """Thickness of the RV's wall in each of LEVELS, where a segment has none of its own."""
        by_level = {"basal": self.rv_wall_basal_mm, "mid": None, "apical": self.rv_wall_apical_mm}
        return {level: self.rv_wall_mm if mm is None else mm for level, mm in by_level.items()}

    @property
    def rv_segments_mm(self) -> dict[str, float]:
        """Thickness of each segment of the RV's wall, `<level>_<sector>`, in the order of LEVELS, SECTORS."""
        levels = self.rv_walls_mm
        own = {f"{level}_{sector}": level for level in LEVELS for sector in SECTORS}
        given = {name: getattr(self.rv_wall_segments_mm, name) for name in own}
        return {name: levels[level] if given[name] is None else given[name] for name, level in own.items()}

    @property
    def has_regional_walls(self) -> bool:
        return len(set(self.rv_segments_mm.values())) > 1

    @property
    def has_segment_walls(self) -> bool:
        """Whether segments of one level differ."""
        walls = list(self.rv_segments_mm.values())
        return any(len(set(walls[i : i + len(SECTORS)])) > 1 for i in range(0, len(walls), len(SECTORS)))

    def with_edges(self, edge_length_mm: float) -> "MeshSettings":
        """The same with another edge length; edge lengths of regions change in proportion."""
        factor = edge_length_mm / self.edge_length_mm
        regional = {
            key: factor * getattr(self, key)
            for key in ("septum_edge_length_mm", "rv_edge_length_mm", "blood_edge_length_mm")
            if getattr(self, key) is not None
        }
        return replace(self, edge_length_mm=edge_length_mm, **regional)

    @classmethod
    def of(cls, values: dict) -> "MeshSettings":
        """From the config's mapping; InputError naming a key that does not exist."""
        return from_section(cls, values, "meshing")
