"""What can be set when a heart is meshed, with its bounds. Owned by the meshing stage."""

from dataclasses import dataclass, fields

from ..errors import InputError


@dataclass(frozen=True)
class MeshSettings:
    """Lengths in mm, times in seconds.

    rv_wall_mm        thickness of the right-ventricular free wall, which label maps lack; 3.5 mm follows
                      the wall measured by CT and used by Strocchi et al. (PLoS ONE 2020)
    min_lv_wall_mm    thinnest muscle left around LV blood, septum included
    edge_length_mm    aimed edge length of the tetrahedra, below the RV wall thickness
    smoothing_mm      width of the Gaussian that smooths each boundary on its own; it is what removes the
                      steps of the voxels; at least three quarters of the voxel size are used
    valve_clearance   share of every valve's contact area that may lie below its valve plane, where the
                      opening is then closed by wall
    min_scaled_jacobian, p1_scaled_jacobian   gates on the scaled Jacobian: worst and 1st percentile
    min_volume_kept   gate on cavity volume of the mesh over that of the label map, each ventricle
    rv_wall_tolerance gate on the relative error of the median RV wall thickness
    tetgen_seconds    time limit for TetGen, after which the subject is rejected
    """

    rv_wall_mm: float = 3.5
    min_lv_wall_mm: float = 2.0
    edge_length_mm: float = 2.8
    smoothing_mm: float = 1.5
    valve_clearance: float = 0.1
    min_scaled_jacobian: float = 0.05
    p1_scaled_jacobian: float = 0.2
    min_volume_kept: float = 0.85
    rv_wall_tolerance: float = 0.15
    tetgen_seconds: float = 120.0

    def __post_init__(self):
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
                raise InputError(f"meshing.{name}: {value!r} is not a number >= 0")
        for name in ("rv_wall_mm", "min_lv_wall_mm", "edge_length_mm", "tetgen_seconds"):
            if getattr(self, name) == 0:
                raise InputError(f"meshing.{name}: must be above 0")
        if self.edge_length_mm >= self.rv_wall_mm:
            raise InputError(
                f"meshing.edge_length_mm: {self.edge_length_mm} must be below rv_wall_mm {self.rv_wall_mm}, "
                "so that the wall holds its tetrahedra"
            )

    @classmethod
    def of(cls, values: dict) -> "MeshSettings":
        """From the config's mapping; InputError naming a key that does not exist."""
        allowed = [f.name for f in fields(cls)]
        unknown = [name for name in values if name not in allowed]
        if unknown:
            raise InputError(f"meshing.{unknown[0]}: no such setting; allowed: {', '.join(allowed)}")
        return cls(**values)
