"""How the walls of beating hearts move, simulated ones beside a real one (not part of `make bench`).

    python benchmarks/wall_motion.py TABLE.tsv HEART ...

HEART is `<mesh>.vtu:<motion>.vtu` of a simulated heart, with the mesh's surface beside it, or an .npz of a
fitted cine examination: arrays V_<surface> (T, n, 3) in mm and F_<surface> (m, 3) of LV_ENDOCARDIAL,
RV_ENDOCARDIAL and EPICARDIAL, such as those of biv-me (github.com/UOA-Heart-Mechanics-Research/biv-me).

All are measured alike, from the frame with the largest left ventricle to the one with the smallest. The long
axis runs from the middle of the left endocardium's rim to the point of it that is farthest away. `mid` is the
wall between a third and two thirds of the axis; the septum is what faces the right ventricle there, the free
wall what faces away from it.
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

SURFACES = {"LV_ENDOCARDIAL": "lv_endo", "RV_ENDOCARDIAL": "rv_endo", "EPICARDIAL": "epi"}
MID = (1 / 3, 2 / 3)
FACING = 0.5  # cosine of the angle within which a wall faces the right ventricle, or away from it


@dataclass(frozen=True)
class Heart:
    """Points (T, N, 3) of the frames in mm, and triangles (m, 3) of them by surface."""

    points: np.ndarray
    facets: dict[str, np.ndarray]

    @classmethod
    def read(cls, name: str) -> "Heart":
        if name.endswith(".npz"):
            arrays, facets, points = np.load(name), {}, []
            for key, surface in SURFACES.items():
                facets[surface] = arrays[f"F_{key}"] + sum(part.shape[1] for part in points)
                points.append(arrays[f"V_{key}"].astype(float))
            return cls(np.concatenate(points, axis=1), facets)
        volume, motion = map(Path, name.split(":"))
        model = read_model(volume, volume.with_suffix(".surface.vtp"))
        moved, count = pyvista.read(motion), len(model.points_mm)
        frames = sorted(key for key in moved.point_data if key.startswith("displacement_"))
        points = np.array([moved.points + moved.point_data[key] for key in frames])[:, :count]
        facets = {name: model.facets[model.facet_tag == FACETS[name]] for name in SURFACES.values()}
        return cls(points, facets)

    def volume_ml(self, frame: int, surface: str) -> float:
        """Enclosed by an endocardium and the fan over its rim."""
        return abs(enclosed_ml(self.points[frame], self.facets[surface]))


def wall_motion(heart: Heart) -> dict[str, float]:
    """Volumes (mL), movements (mm) and their shares, from end-diastole to end-systole."""
    volumes = np.array([heart.volume_ml(t, "lv_endo") for t in range(len(heart.points))])
    frames = [int(volumes.argmax()), int(volumes.argmin())]
    right = [heart.volume_ml(t, "rv_endo") for t in frames]
    lv, rv = heart.facets["lv_endo"], heart.facets["rv_endo"]
    rim, right_rim = np.unique(rim_edges(lv)), np.unique(rim_edges(rv))
    before, after = (heart.points[t] for t in frames)
    middle, own = before[rim].mean(axis=0), np.unique(lv)
    apex = own[np.linalg.norm(before[own] - middle, axis=1).argmax()]
    length = np.linalg.norm(before[apex] - middle)
    axis = (before[apex] - middle) / length
    base = float((after[rim].mean(axis=0) - middle) @ axis)
    tip = float((before[apex] - after[apex]) @ axis)

    height = (before[own] - middle) @ axis / length
    mid = own[(height > MID[0]) & (height < MID[1])]
    outward = _from_axis(before[mid], middle, axis)
    to_right = _from_axis(before[np.unique(rv)].mean(axis=0), middle, axis)
    cosine = outward @ to_right / np.linalg.norm(outward, axis=1) / np.linalg.norm(to_right)
    walls = {"septum": mid[cosine > FACING], "free_wall": mid[cosine < -FACING]}
    found = {
        "lv_end_diastolic_ml": volumes.max(),
        "lv_ejection_fraction": np.ptp(volumes) / volumes.max(),
        "rv_ejection_fraction": 1 - right[1] / right[0],
        "long_axis_mm": length,
        "long_axis_shortening": (base + tip) / length,
        "base_to_apex_mm": base,
        "apex_to_base_mm": tip,
        "rv_rim_to_apex_mm": (after[right_rim] - before[right_rim]).mean(axis=0) @ axis,
    }
    # of the wall's own axis at each time, so that a heart that swings as a whole does not count
    start, end = ((p[rim].mean(axis=0), p[apex] - p[rim].mean(axis=0)) for p in (before, after))
    for name, nodes in walls.items():
        radii = [
            np.linalg.norm(_from_axis(p[nodes], origin, along / np.linalg.norm(along)), axis=1).mean()
            for p, (origin, along) in zip((before, after), (start, end), strict=True)
        ]
        found[f"{name}_inward_mm"] = radii[0] - radii[1]
        found[f"{name}_inward"] = 1 - radii[1] / radii[0]
    thick = [_distances(p[walls["free_wall"]], p, heart.facets["epi"]).mean() for p in (before, after)]
    return found | {"free_wall_mm": thick[0], "free_wall_thickening": thick[1] / thick[0] - 1}


def _from_axis(points: np.ndarray, origin: np.ndarray, axis: np.ndarray) -> np.ndarray:
    away = points - origin
    return away - (away @ axis)[..., None] * axis


def _distances(places: np.ndarray, points: np.ndarray, facets: np.ndarray) -> np.ndarray:
    """(k,) of places (k, 3) from the triangles."""
    surface = pyvista.PolyData.from_regular_faces(points, facets)
    _, closest = surface.find_closest_cell(places, return_closest_point=True)
    return np.linalg.norm(places - closest, axis=1)


def main(table: Path, names: list[str]) -> None:
    found = pd.DataFrame({Path(name.split(":")[0]).stem: wall_motion(Heart.read(name)) for name in names})
    with atomic_path(table) as temporary:
        found.to_csv(temporary, sep="\t", index_label="quantity", float_format="%.4g")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
