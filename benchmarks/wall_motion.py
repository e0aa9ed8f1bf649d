"""How the walls of beating hearts move, simulated ones beside a real one (not part of `make bench`).

    python benchmarks/wall_motion.py TABLE.tsv HEART ...

HEART is `<mesh>.vtu:<motion>.vtu` of a simulated heart, with the mesh's surface beside it, or an .npz of a
fitted cine examination: arrays V_<surface> (T, n, 3) in mm and F_<surface> (m, 3) of LV_ENDOCARDIAL,
RV_ENDOCARDIAL and EPICARDIAL, such as those of biv-me (github.com/UOA-Heart-Mechanics-Research/biv-me).

All are measured alike, from the frame with the largest left ventricle to the one with the smallest. Walls are
those of `cardiocohort.simulation.wall_motion`. Rim and apex move along the long axis of end-diastole, and
`long_axis_shortening` is the sum of both.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyvista

from cardiocohort.mesh.model import FACETS, enclosed_ml, rim_edges
from cardiocohort.mesh.storage import read_model
from cardiocohort.runtime.artifacts import atomic_path
from cardiocohort.simulation.wall_motion import SURFACES, lengths, walls

ARRAYS = {"lv_endo": "LV_ENDOCARDIAL", "rv_endo": "RV_ENDOCARDIAL", "epi": "EPICARDIAL"}  # by surface


@dataclass(frozen=True)
class Heart:
    """Points (T, N, 3) of the frames in mm, and triangles (m, 3) of them by surface."""

    points: np.ndarray
    facets: dict[str, np.ndarray]

    @classmethod
    def read(cls, name: str) -> "Heart":
        if name.endswith(".npz"):
            arrays, facets, points = np.load(name), {}, []
            for surface, key in ARRAYS.items():
                facets[surface] = arrays[f"F_{key}"] + sum(part.shape[1] for part in points)
                points.append(arrays[f"V_{key}"].astype(float))
            return cls(np.concatenate(points, axis=1), facets)
        volume, motion = map(Path, name.split(":"))
        model = read_model(volume, volume.with_suffix(".surface.vtp"))
        moved, count = pyvista.read(motion), len(model.points_mm)
        frames = sorted(key for key in moved.point_data if key.startswith("displacement_"))
        points = np.array([moved.points + moved.point_data[key] for key in frames])[:, :count]
        facets = {name: model.facets[model.facet_tag == FACETS[name]] for name in SURFACES}
        return cls(points, facets)

    def volume_ml(self, frame: int, surface: str) -> float:
        """Enclosed by an endocardium and the fan over its rim."""
        return abs(enclosed_ml(self.points[frame], self.facets[surface]))


def wall_motion(heart: Heart) -> dict[str, float]:
    """Volumes (mL), movements (mm) and their shares, from end-diastole to end-systole."""
    volumes = np.array([heart.volume_ml(t, "lv_endo") for t in range(len(heart.points))])
    frames = [int(volumes.argmax()), int(volumes.argmin())]
    right = [heart.volume_ml(t, "rv_endo") for t in frames]
    before, after = ends = heart.points[frames]
    where = walls(before, heart.facets)
    of = lengths(ends, heart.facets, where)
    length, moved = of["lv_long_axis_mm"][0], after - before
    axis = (before[where.apex[0]] - before[where.rim].mean(axis=0)) / length
    base = float(moved[where.rim].mean(axis=0) @ axis)
    tip = float(-moved[where.apex[0]] @ axis)
    found = {
        "lv_end_diastolic_ml": volumes.max(),
        "lv_ejection_fraction": np.ptp(volumes) / volumes.max(),
        "rv_ejection_fraction": 1 - right[1] / right[0],
        "long_axis_mm": length,
        "long_axis_shortening": (base + tip) / length,
        "base_to_apex_mm": base,
        "apex_to_base_mm": tip,
        "rv_rim_to_apex_mm": moved[np.unique(rim_edges(heart.facets["rv_endo"]))].mean(axis=0) @ axis,
    }
    for name, wall in {"septum": "septal", "free_wall": "lv_free_wall"}.items():
        (wide, narrow), (thin, thick) = of[f"{wall}_radius_mm"], of[f"{wall}_thickness_mm"]
        found |= {f"{name}_inward_mm": wide - narrow, f"{name}_inward": 1 - narrow / wide}
        found |= {f"{name}_mm": thin, f"{name}_thickening": thick / thin - 1}
    return found


def main(table: Path, names: list[str]) -> None:
    found = pd.DataFrame({Path(name.split(":")[0]).stem: wall_motion(Heart.read(name)) for name in names})
    with atomic_path(table) as temporary:
        found.to_csv(temporary, sep="\t", index_label="quantity", float_format="%.4g")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
