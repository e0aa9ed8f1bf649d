"""How the results of an inflation depend on the mesh (not part of `make bench`).

    python benchmarks/simulation_convergence.py MESHES TABLE.tsv [material]

MESHES is a folder of meshes of one heart as the workflow writes them: `<mesh>.vtu` and `<mesh>.surface.vtp`.
Pressures and parameters are the defaults. Each mesh has a process of its own, with as many threads as there
are cores. The table has a row per quantity and a column per mesh, from coarse to fine; a mesh whose column is
there is not repeated.
"""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from cardiocohort.anatomy.aha_segments import SEGMENTS
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.mesh.model import REGIONS
from cardiocohort.mesh.storage import read_model
from cardiocohort.runtime.artifacts import atomic_path
from cardiocohort.runtime.peak_memory import peak_mb
from cardiocohort.simulation import measures, output
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.finite_elements import ng
from cardiocohort.simulation.settings import SimulationSettings
from cardiocohort.simulation.subject import by_tet, state_heart


def measure(volume: Path, material: str) -> dict[str, float]:
    """Quantities of the loaded heart by name: mL, mm, and strains along the fibres."""
    begun, started = time.perf_counter(), time.process_time()
    threads = len(os.sched_getaffinity(0))
    ng.SetNumThreads(threads)
    model = read_model(volume, volume.with_suffix(".surface.vtp"))
    settings = SimulationSettings(curve_points=2)
    stated, order, axes = state_heart(model, Mechanics(material=material), settings, threads)
    rest = {v: measures.cavity_volume_ml(stated, model, v) for v in ("lv", "rv")}
    run = inflate(stated, settings, lambda step: None)
    if not run.complete:
        raise RuntimeError(f"{volume}: {run.reason}")
    found = {"tetrahedra": len(model.tets), "unknowns": int(stated.free.sum())}
    for v in rest:
        loaded = measures.cavity_volume_ml(stated, model, v)
        found |= {f"{v}_rest_ml": rest[v], f"{v}_loaded_ml": loaded, f"{v}_filled_ml": loaded - rest[v]}
    moved = measures.ten_node_displacements(stated, model, order)
    found["largest_displacement_mm"] = np.linalg.norm(moved, axis=1).max()
    for row in output.regional_displacements(model, moved):
        found[f"{row['part']}_displacement_mm"] = row["mean_mm"]
    strain = by_tet(measures.strains(stated, axes)["E_ff"], order)
    weights = model.tet_volumes_mm3
    parts = {name: model.region == tag for name, tag in REGIONS.items()}
    parts |= {f"aha_{n}": model.coordinates.aha == n for n in SEGMENTS}
    for name, inside in parts.items():
        found[f"{name}_fibre_strain"] = np.average(strain[inside], weights=weights[inside])
    return found | {
        "factorisations": run.factorisations,
        "wall_s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - started,
        "peak_mb": peak_mb(),
    }


def main(meshes: Path, table: Path, material: str = "holzapfel_ogden") -> None:
    found = pd.read_csv(table, sep="\t", index_col="quantity") if table.exists() else pd.DataFrame()
    for volume in sorted(meshes.glob("*.vtu")):
        if volume.stem in found:
            continue
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found[volume.stem] = pd.Series(pool.submit(measure, volume, material).result())
        found = found[found.loc["tetrahedra"].sort_values().index]
        with atomic_path(table) as temporary:
            found.to_csv(temporary, sep="\t", index_label="quantity", float_format="%.6g")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
