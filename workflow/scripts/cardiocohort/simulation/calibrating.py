"""Factors of an arm, fitted to targets on its mean heart. Owned by the simulation stage.

The mean heart is a real one of the cohort: the meshed heart whose volumes are nearest to the arm's means.
Each run simulates it as the stage simulates any heart; `fitting` says which factors are next. A run is
written when it is done, so that a killed job repeats none.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..mechanics.settings import Mechanics
from ..runtime import artifacts
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome
from . import beat_output, fitting, output, subject
from .calibration import FAILED, NOT_REACHED, REACHED, Calibration, Run
from .scaling import LEAST, MOST, Scaling
from .settings import SimulationSettings
from .targets import ANSWERED_BY, SCALARS, Calibrate

log = logging.getLogger(__name__)

VOLUMES = ("lv_cavity_ml", "rv_cavity_ml", "wall_volume_ml")  # of the mesh table
HEARTS = 3  # that are tried where a heart fails with the config's own settings
RUNS = "runs.json"
KEPT = (output.CURVE, beat_output.LOOPS, beat_output.FIGURE)  # of a run's files
DIGITS = 4  # of a factor: rounding of other processors does not change what is tried


def nearest_to_mean(meshes: pd.DataFrame) -> list[str]:
    """Accepted hearts (rows of the mesh table) by their distance from the arm's mean heart, nearest first.

    The distance is the root of the summed squares of the relative differences of VOLUMES from their means.
    """
    accepted = meshes[meshes["verdict"] == Outcome.ACCEPTED].sort_values("subject")
    volumes = accepted[list(VOLUMES)].astype(float)
    away = np.sqrt((((volumes - volumes.mean()) / volumes.mean()) ** 2).sum(axis=1))
    return accepted["subject"].iloc[np.argsort(away.to_numpy(), kind="stable")].tolist()


def calibrate(
    arm: str, hearts: list[str], settings: Calibrate, simulate: Callable[[str, Scaling], Run]
) -> Calibration:
    """Fit the factors that answer the targets on the first of `hearts` that beats without any factor.

    simulate: one run of a heart. At most HEARTS hearts are tried.
    """
    targets = settings.targets
    found = Calibration(arm, FAILED, "", "", targets, {}, settings.tolerance, Scaling())
    if not hearts:
        return replace(found, detail="no heart of the arm has a mesh; nothing is scaled")
    failed: list[Run] = []
    for heart in hearts[:HEARTS]:
        runs = _fit(heart, settings, simulate)
        if runs[0].figures:
            return _ended(replace(found, heart=heart, runs=failed + runs), runs, settings)
        failed += runs
        log.warning("arm %s: %s does not beat without factors: %s", arm, heart, runs[0].detail)
    tried = "; ".join(f"{run.heart}: {run.detail}" for run in failed)
    return replace(found, runs=failed, detail=f"no heart beats without factors ({tried}); nothing is scaled")


def simulated(
    folder: Path, rows: dict[str, tuple[dict, Path]], mechanics: Mechanics, settings: SimulationSettings,
    threads: int, inputs: str, bsa_m2: dict[str, float] | None = None,
) -> Callable[[str, Scaling], Run]:  # fmt: skip
    """A function that simulates a heart with factors; finished runs are in `folder` and are not repeated.

    rows: of the mesh table by heart, and the folder of the mesh's files. inputs: digest of all that a run
    depends on besides heart and factors; runs of others are removed. bsa_m2: body surface by heart.
    """
    done = _read(folder, inputs)
    _write(folder, inputs, done)  # so that a beat that is cut off in the first run goes on, too
    # the curve between rest and full load is of no use here
    settings = replace(settings, curve_points=2, calibrate=Calibrate())

    def simulate(heart: str, scaling: Scaling) -> Run:
        for run in done:
            if (run.heart, run.scaling) == (heart, scaling):
                return run
        row, meshes = rows[heart]
        own = folder / f"{len(done) + 1:02d}-{heart}"
        area = (bsa_m2 or {}).get(heart, math.nan)
        payload = subject.task(row, meshes, *scaling.of(mechanics, settings), threads, inputs, area).payload
        start = time.perf_counter()
        try:
            record = subject.simulate_subject(own / output.FIELD, payload)
        except SubjectError as error:
            record = error.ending.columns()
        for path in own.iterdir() if own.is_dir() else ():
            if path.name not in KEPT:
                artifacts.remove(path)
        done.append(_run(heart, scaling, record, time.perf_counter() - start))
        _write(folder, inputs, done)
        return done[-1]

    return simulate


def _fit(heart: str, settings: Calibrate, simulate: Callable[[str, Scaling], Run]) -> list[Run]:
    """All runs of a heart, the first one without factors; the search ends at the first that reaches all."""
    targets = settings.targets
    scalars = [name for name in SCALARS if name in map(ANSWERED_BY.get, targets)]
    measured = fitting.measured_slopes(list(targets), scalars)
    runs, points, errors, point = [], [], [], np.zeros(len(scalars))
    while point is not None and len(runs) < settings.max_runs:
        values = [float(f"{factor:.{DIGITS}g}") for factor in np.exp(point)]
        run = simulate(heart, Scaling(**dict(zip(scalars, values, strict=True))))
        runs.append(run)
        points.append(np.log(values))
        errors.append(_errors(run, targets))
        _tell(run, targets, len(runs))
        if errors[-1] is not None and _within(errors[-1], settings.tolerance):
            break
        point = fitting.next_point(points, errors, measured)
    return runs


def _ended(found: Calibration, runs: list[Run], settings: Calibrate) -> Calibration:
    """With verdict, detail and factors of the best run."""
    targets = settings.targets
    errors = [_errors(run, targets) for run in runs]
    last = errors[-1] is not None and _within(errors[-1], settings.tolerance)
    best = runs[-1] if last else runs[fitting.best_of(errors)]
    found = replace(found, reached={name: best.figures[name] for name in targets}, scaling=best.scaling)
    if last and best.periodic:
        return replace(found, verdict=REACHED)
    said = [
        f"{name} is {best.figures[name]:.4g} for {wanted:g}"
        for name, wanted in targets.items()
        if not _within(np.log(best.figures[name] / wanted), settings.tolerance)
    ]
    for scalar in dict.fromkeys(map(ANSWERED_BY.get, targets)):
        factor = getattr(best.scaling, scalar)
        if factor in (LEAST, MOST):
            end = "largest" if factor == MOST else "least"
            said.append(f"the factor of the {scalar} is {factor:g}, the {end} that is tried")
    if not last and len(runs) >= settings.max_runs:
        said.append(f"the search ended after {len(runs)} runs (max_runs)")
    if not runs[-1].figures:
        said.append(f"the last run failed: {runs[-1].detail}")
    if not best.periodic:
        said.append("the heart's last beat does not repeat the one before")
    return replace(found, verdict=NOT_REACHED, detail="; ".join(said))


def _errors(run: Run, targets: dict[str, float]) -> np.ndarray | None:
    """log(reached / target) of each target; None where the run failed."""
    if not run.figures:
        return None
    return np.log([run.figures[name] / wanted for name, wanted in targets.items()])


def _within(errors: np.ndarray, tolerance: float) -> bool:
    return bool(np.all(np.abs(np.expm1(errors)) <= tolerance))


def _tell(run: Run, targets: dict[str, float], number: int) -> None:
    factors = ", ".join(f"{name} {value:g}" for name, value in asdict(run.scaling).items())
    if run.figures:
        found = ", ".join(f"{name} {run.figures[name]:.4g} ({wanted:g})" for name, wanted in targets.items())
    else:
        found = f"failed, {run.detail}"
    log.info("run %d of %s, factors of %s: %s", number, run.heart, factors, found)


def _run(heart: str, scaling: Scaling, record: dict, seconds: float) -> Run:
    figures = {name: float(record.get(name, np.nan)) for name in ANSWERED_BY}
    detail = ": ".join(filter(None, (record["reason"], record["detail"])))
    if record["verdict"] == Outcome.ACCEPTED:
        if all(np.isfinite(value) and value > 0 for value in figures.values()):
            return Run(heart, scaling, figures, bool(record["periodic"]), detail, round(seconds, 1))
        detail = "a figure of its beat is not above 0"
    return Run(heart, scaling, {}, False, detail, round(seconds, 1))


def _write(folder: Path, inputs: str, done: list[Run]) -> None:
    content = {"inputs": inputs, "runs": [asdict(run) for run in done]}
    artifacts.write_text(folder / RUNS, artifacts.readable_json(content))


def _read(folder: Path, inputs: str) -> list[Run]:
    """Finished runs of the same inputs; a folder of others is emptied."""
    try:
        content = json.loads((folder / RUNS).read_text(encoding="utf-8"))
        if content["inputs"] == inputs:
            return [Run.of(run) for run in content["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return []
