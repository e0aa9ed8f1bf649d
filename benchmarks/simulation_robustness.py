"""Which hearts reach the full load, by material and base, and what that costs (not part of `make bench`).

    python benchmarks/simulation_robustness.py MESHES TABLE.tsv [--in-turn] [--solver pardiso]

MESHES is a folder of meshes as the workflow writes them: `<heart>.vtu` and `<heart>.surface.vtp`. Pressures
and parameters are the defaults. Every run has a process of its own, so that its peak memory is its own, and
the table is written after each; a run whose row is there is not repeated. With `--in-turn` each heart has one
run, and materials and bases take turns over the hearts.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from cardiocohort.mechanics.settings import BASES, MATERIALS, Mechanics
from cardiocohort.mesh.storage import read_model
from cardiocohort.runtime.artifacts import atomic_path
from cardiocohort.runtime.peak_memory import peak_mb
from cardiocohort.simulation import measures
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.settings import LIBRARIES, MUMPS, SimulationSettings
from cardiocohort.simulation.subject import state_heart

KEYS = ["heart", "material", "base"]


def measure(volume: Path, material: str, base: str, solver: str) -> dict:
    """How the inflation of a heart ended, without a pressure-volume curve."""
    begun = time.process_time()
    model = read_model(volume, volume.with_suffix(".surface.vtp"))
    settings = SimulationSettings(curve_points=2, solver=solver)
    stated, _, _ = state_heart(model, Mechanics(material=material, base=base), settings)
    run = inflate(stated, settings, lambda step: None)
    moved = np.linalg.norm(measures.corner_displacements(stated), axis=1)
    return {
        "n_tets": len(model.tets),
        "status": "complete" if run.complete else "failed",
        "cause": run.reason,
        "load_share": run.share,
        "lv_loaded_ml": measures.cavity_volume_ml(stated, model, "lv"),
        "rv_loaded_ml": measures.cavity_volume_ml(stated, model, "rv"),
        "max_displacement_mm": moved.max(),
        "steps": run.steps,
        "halvings": run.halvings,
        "factorisations": run.factorisations,
        "cpu_s": round(time.process_time() - begun, 1),
        "peak_mb": round(peak_mb()),
    }


def runs_of(meshes: Path, in_turn: bool) -> list[tuple[Path, str, str]]:
    """Heart, material and base of every run: all hearts with the first pair before any with the next."""
    hearts, pairs = sorted(meshes.glob("*.vtu")), list(product(MATERIALS, BASES))
    if in_turn:
        return [(heart, *pairs[k % len(pairs)]) for k, heart in enumerate(hearts)]
    return [(heart, *pair) for pair in pairs for heart in hearts]


def main(meshes: Path, table: Path, in_turn: bool, solver: str) -> None:
    rows = pd.read_csv(table, sep="\t").to_dict("records") if table.exists() else []
    done = {tuple(row[key] for key in KEYS) for row in rows}
    for volume, material, base in runs_of(meshes, in_turn):
        which = (volume.stem, material, base)
        if which in done:
            continue
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            try:
                found = pool.submit(measure, volume, material, base, solver).result()
            except Exception as error:  # also a heart that ends the process: its row says so
                found = {"status": "crashed", "cause": f"{type(error).__name__}: {error}"}
        rows.append(dict(zip(KEYS, which, strict=True)) | found)
        print(rows[-1], flush=True)
        with atomic_path(table) as temporary:
            pd.DataFrame(rows).to_csv(temporary, sep="\t", index=False, float_format="%.6g")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("meshes", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--in-turn", action="store_true")
    parser.add_argument("--solver", choices=LIBRARIES, default=MUMPS)
    main(**vars(parser.parse_args()))
