"""What can be set when a heart is meshed, with its bounds. Owned by the meshing stage."""

from dataclasses import dataclass, fields

from ..runtime.errors import InputError

BASES = ("two_planes", "one_plane")
REGIONAL_WALLS = ("rv_wall_basal_mm", "rv_wall_apical_mm")
REGIONAL = ("septum_edge_length_mm", "rv_edge_length_mm", *REGIONAL_WALLS)
# middle of each third of the RV's length, from its apex (0) to its valve plane (1)
THIRDS = {"apical": 1 / 6, "mid": 1 / 2, "basal": 5 / 6}


@dataclass(frozen=True)
class MeshSettings:
    """Lengths in mm, times in seconds.

    rv_wall_mm        thickness of the right-ventricular free wall, which label maps lack; 3.5 mm follows
                      the wall measured by CT and used by Strocchi et al. (PLoS ONE 2020)
    rv_wall_basal_mm, rv_wall_apical_mm   the same in the third at the valves and at the apex; None is as
                      rv_wall_mm, which is that of the third between; linear from middle to middle
    min_lv_wall_mm    thinnest muscle left around LV blood, septum included
    edge_length_mm    aimed edge length of the tetrahedra; that of the RV is below its wall's thickness
    septum_edge_length_mm, rv_edge_length_mm   the same in the septum and in the RV's free wall; None is as
                      edge_length_mm, which then is that of the LV's free wall alone
    smoothing_mm      width of the Gaussian that smooths each boundary on its own; it is what removes the
                      steps of the voxels; at least three quarters of the voxel size are used
    base              where the muscle ends: "two_planes", one a ventricle, blended across the septum, or
                      "one_plane" below all valves, which keeps less of the cavities
    valve_clearance   share of every valve's contact area that may lie below its valve plane, where the
                      opening is then closed by wall
    min_scaled_jacobian, p1_scaled_jacobian   gates on the scaled Jacobian: worst and 1st percentile
    min_volume_kept   gate on cavity volume of the mesh over that of the label map, each ventricle
    rv_wall_tolerance gate on the relative error of the median RV wall thickness, by thirds where they differ
    tetgen_seconds, tetgen_mb   limits of TetGen's time and memory (MB), beyond which the subject is rejected
    """

    rv_wall_mm: float = 3.5
    rv_wall_basal_mm: float | None = None
    rv_wall_apical_mm: float | None = None
    min_lv_wall_mm: float = 2.0
    edge_length_mm: float = 2.8
    septum_edge_length_mm: float | None = None
    rv_edge_length_mm: float | None = None
    smoothing_mm: float = 1.5
    base: str = "two_planes"
    valve_clearance: float = 0.1
    min_scaled_jacobian: float = 0.05
    p1_scaled_jacobian: float = 0.2
    min_volume_kept: float = 0.85
    rv_wall_tolerance: float = 0.15
    tetgen_seconds: float = 120.0
    tetgen_mb: float = 8000.0

    def __post_init__(self):
        if self.base not in BASES:
            raise InputError(f"meshing.base: {self.base!r} is not one of {', '.join(BASES)}")
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if name == "base" or (name in REGIONAL and value is None):
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
                raise InputError(f"meshing.{name}: {value!r} is not a number >= 0")
        for name in (
            "rv_wall_mm",
            "min_lv_wall_mm",
            "edge_length_mm",
            *REGIONAL,
            "tetgen_seconds",
            "tetgen_mb",
        ):
            if getattr(self, name) == 0:
                raise InputError(f"meshing.{name}: must be above 0")
        thin, mm = min(self.rv_walls_mm.items(), key=lambda wall: wall[1])
        if self.edge_lengths_mm["rv"] >= mm:
            name = "edge_length_mm" if self.rv_edge_length_mm is None else "rv_edge_length_mm"
            wall = "rv_wall_mm" if mm == self.rv_wall_mm else f"rv_wall_{thin}_mm"
            raise InputError(
                f"meshing.{name}: {getattr(self, name)} must be below {wall} {mm}, "
                "so that the wall holds its tetrahedra"
            )

    @property
    def edge_lengths_mm(self) -> dict[str, float]:
        """Aimed edge length by region (lv, rv, septum)."""
        by_region = {"lv": None, "rv": self.rv_edge_length_mm, "septum": self.septum_edge_length_mm}
        return {region: self.edge_length_mm if mm is None else mm for region, mm in by_region.items()}

    @property
    def rv_walls_mm(self) -> dict[str, float]:
        """Thickness of the RV's wall in each third (THIRDS)."""
        by_third = {"apical": self.rv_wall_apical_mm, "mid": None, "basal": self.rv_wall_basal_mm}
        return {third: self.rv_wall_mm if mm is None else mm for third, mm in by_third.items()}

    @property
    def has_regional_walls(self) -> bool:
        return len(set(self.rv_walls_mm.values())) > 1

    @classmethod
    def of(cls, values: dict) -> "MeshSettings":
        """From the config's mapping; InputError naming a key that does not exist."""
        allowed = [f.name for f in fields(cls)]
        unknown = [name for name in values if name not in allowed]
        if unknown:
            raise InputError(f"meshing.{unknown[0]}: no such setting; allowed: {', '.join(allowed)}")
        return cls(**values)
