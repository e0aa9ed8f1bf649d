"""Tables and files of simulations as the simulation stage writes them, of motions that are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cardiocohort.cohort import stage_tables
from cardiocohort.mesh.second_order import second_order
from cardiocohort.mesh.storage import write_volume
from cardiocohort.report.function_section import OF_A_BEAT, OF_AN_INFLATION, PARTS, RUNS
from cardiocohort.runtime import artifacts, tables
from cardiocohort.simulation import animation, beat_output, output
from small_meshes import box

SHRINK = 0.9  # of the unloaded mesh
FRAMES = 30


def stretches(n=FRAMES):
    """Gradients (n, 3, 3) of the motion from the unloaded mesh: the first is end-diastole, not rest."""
    along = 1.1 - 0.3 * np.sin(np.linspace(0, np.pi, n))
    return np.stack([np.diag([a, 1.05, 1 / a]) for a in along])


def times(n=FRAMES):
    return np.linspace(0.0, 0.8, n)


def unloaded(model):
    return replace(model, points_mm=SHRINK * model.points_mm)


def write_run(batch: Path, subject: str, model=None, beat=False) -> dict:
    """Files of a complete run in the folder `batch`, and its row; E_ff is a hundredth of the segment."""
    model = unloaded(model or box())
    folder = batch / subject
    folder.mkdir(parents=True)
    points = second_order(model.points_mm, model.tets, model.facets)[0]
    moved = [points @ (f - np.eye(3)).T for f in stretches()]
    output.write_field(folder / output.FIELD, model, moved[0], {"E_ff": model.coordinates.aha / 100})
    names = {"": output.FIELD, "curve_": output.CURVE, "unloaded_": output.UNLOADED}
    write_volume(folder / output.UNLOADED, model)
    curve = [
        {"load_share": s} | {f"{v}_{q}": 10 + k + s for k, v in enumerate(("lv", "rv")) for q in QUANTITIES}
        for s in (0.0, 0.5, 1.0)
    ]
    output.write_rows(folder / output.CURVE, curve)
    if beat:
        names |= {"loops_": beat_output.LOOPS, "strains_": beat_output.STRAINS, "motion_": beat_output.MOTION}
        names |= {"animation_": beat_output.ANIMATION}
        shades = [Image.new("RGB", (32, 16), (8 * k, 0, 0)) for k in range(FRAMES)]
        animation.write(folder / beat_output.ANIMATION, shades, times())
        beat_output.write_motion(folder / beat_output.MOTION, model, moved, times())
        output.write_rows(folder / beat_output.STRAINS, beat_output.strains(model, moved, times()))
        columns = [f"{v}_{q}" for v in ("lv", "rv") for q in QUANTITIES]
        # beat 1 has another least volume: only the last one counts
        rows = [
            {"beat": n, "time_s": t} | dict.fromkeys(columns, 100 - 50 * np.sin(np.pi * (t / 0.8) ** n))
            for n in (1, 2)
            for t in times(81)
        ]
        output.write_rows(folder / beat_output.LOOPS, rows)
    row = dict.fromkeys(f"{part}{name}" for part in ("", *PARTS) for name in artifacts.NO_FILE)
    row |= {name: "" for name in row if name.endswith(("file", "sha256"))}
    for part, name in names.items():
        path = folder / name
        found = (f"{subject}/{name}", path.stat().st_size, artifacts.sha256(path))
        row |= dict(zip((f"{part}{key}" for key in artifacts.NO_FILE), found, strict=True))
    figures = dict.fromkeys((*OF_A_BEAT, *OF_AN_INFLATION), 0.5)
    state = {"verdict": "accepted", "reason": "", "detail": "", "load_share": 1.0, "periodic": float(beat)}
    return {"subject": subject} | state | row | figures


def failed_run(subject: str) -> dict:
    row = dict.fromkeys(RUNS, "") | {name: None for name in RUNS if name.endswith("size")}
    figures = dict.fromkeys((*OF_A_BEAT, *OF_AN_INFLATION), 77.0)  # of the last state
    ended = {"verdict": "failed", "reason": "simulation did not converge", "detail": "step 3, J < 0"}
    return row | {"subject": subject, **ended, "load_share": 0.4, "periodic": np.nan} | figures


def write_table(path: Path, rows: list[dict]) -> str:
    tables.write_table(path, pd.DataFrame(rows), stage_tables.SIMULATIONS)
    return str(path)


QUANTITIES = ("volume_ml", "pressure_kpa")
