"""Samples of the same targets and noise by many settings of guidance, timed (target `guidance_bench`)."""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.anatomy.attributes import principal_axis_degrees
from cardiocohort.anatomy.labels import Anatomy, Grid
from cardiocohort.diffusion.bundle import Prior, load_sampler
from cardiocohort.diffusion.device import resolve_device
from cardiocohort.generation import judging
from cardiocohort.generation.constraints import make_constraints
from cardiocohort.generation.sampling import make_samples, sample_labels
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.runtime.artifacts import atomic_path
from cardiocohort.runtime.batch_runner import Task, run_batch
from cardiocohort.runtime.outcomes import Outcome
from guidance_benchmark_settings import COHORT, METHODS, UNGUIDED, Setting


def sample(
    bundle: str,
    rules: str,
    targets: list[pd.DataFrame],
    settings: list[list[Setting]],
    device: str,
    workers: int,
) -> pd.DataFrame:
    """One row per setting, target and constrained structure: setting (name), target, seconds, kept, `errors`.

    `settings` has those of each target. seconds are of processor time, which other work on the machine leaves
    alone; on a GPU of wall time. Each sample has one attempt and one thread; a target's noise is the same in
    all settings, which take turns. kept: 1 if the gate accepts it after the bounded repairs, else 0. An
    attempt of COHORT takes the seconds of the gate too, which restarts depend on.
    """
    pairs = enumerate(zip(targets, settings, strict=True))
    jobs = [(setting, rows, number) for number, (rows, own) in pairs for setting in own]
    names = [
        (f"target {number}, {setting.name}", f"{number}/{setting.name}.parquet")
        for setting, _, number in jobs
    ]
    tasks = [Task(*name, "", job) for name, job in zip(names, jobs, strict=True)]
    brief = replace(jobs[0][0].guidance, steps=2)
    # a folder of its own: times of an earlier run are never reused
    with TemporaryDirectory() as folder:
        records = run_batch(
            folder,
            tasks,
            work,
            1 if resolve_device(device) == "cuda" else workers,
            initializer=open_prior,
            initargs=(bundle, rules, device, brief, targets[0]),
        )
        return pd.concat([pd.read_parquet(Path(folder, r["file"])) for r in records], ignore_index=True)


def errors(rows: pd.DataFrame, labels: np.ndarray, anatomy: Anatomy, grid: Grid) -> pd.DataFrame:
    """How far a heart (X, Y, Z) is from its target rows, one row per constrained structure.

    volume_percent and centroid_mm are absolute, shape is the norm of the difference of S^n, NaN for a
    structure that is not there; axes_degrees is the largest angle between a found and a wanted principal
    axis, NaN where no axis has a direction (`attributes.principal_axis_degrees`).
    """
    own = rows[rows["constrained"] != ""]
    groups = [anatomy.labels_of(name) for name in own["structure"]]
    found, wanted = moments.measure_labels(labels, groups, grid.axes_mm()), moments.from_columns(own)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = found.shape - wanted.shape
    angles = principal_axis_degrees(found, wanted)
    angles = np.where(np.isnan(angles).all(1), np.nan, np.nan_to_num(angles, nan=-1.0).max(1))
    angles[found.volume_ml == 0] = np.nan
    return pd.DataFrame(
        {
            "structure": own["structure"].to_numpy(),
            "volume_percent": 100.0 * np.abs(found.volume_ml / wanted.volume_ml - 1.0),
            "centroid_mm": np.linalg.norm(found.centroid_mm - wanted.centroid_mm, axis=-1),
            "shape": np.linalg.norm(difference, axis=(-2, -1)),
            "axes_degrees": angles,
        }
    )


def open_prior(
    bundle: str, rules: str, device: str, brief: GuidanceSettings, rows: pd.DataFrame
) -> tuple[Path, Prior, topology.Rules]:
    """Initializer of a worker: load everything once, one thread on the CPU; warm both rules' kernels."""
    device = resolve_device(device)
    if device == "cpu":
        torch.set_num_threads(1)
    prior = load_sampler(bundle, device)
    opened = Path(bundle), prior, topology.load_rules(rules, prior.anatomy)
    for method in METHODS:
        _sampled(opened, Setting(method, replace(brief, method=method)), rows, 0)
    return opened


def work(opened: tuple, path: Path, payload: tuple[Setting, pd.DataFrame, int]) -> dict:
    """Rows of one target and setting, written to `path` (for `batch_runner.run_batch`)."""
    found = _sampled(opened, *payload)
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        found.to_parquet(temporary, index=False)
    return {"verdict": Outcome.GENERATED, "reason": ""}


def _sampled(opened: tuple, setting: Setting, rows: pd.DataFrame, number: int) -> pd.DataFrame:
    bundle, prior, rules = opened
    targets = rows.assign(constrained="") if setting.method == UNGUIDED else rows
    noise = [np.random.SeedSequence([1, number])]
    clock = time.process_time if prior.device == "cpu" else time.perf_counter
    started = clock()
    sampler = judging.Sampler(bundle, prior, rules, setting.guidance)
    if setting.method == COHORT:
        judged = make_samples(sampler, [targets], noise, [None], ())[0].judged
        seconds = clock() - started
    else:
        constraints = make_constraints([targets], prior, bundle)
        # labels come back on the CPU: the device is done by then
        labels = sample_labels(prior, constraints, noise, setting.guidance)[0][0]
        seconds = clock() - started
        judged = judging.judge(sampler, targets, labels)
    labels, kept = judged.labels, not judged.diverged and judged.verdict.accepted
    found = errors(rows, labels, prior.anatomy, prior.grid)
    found.insert(0, "kept", int(kept))
    found.insert(0, "seconds", round(seconds, 3))
    found.insert(0, "target", number)
    found.insert(0, "setting", setting.name)
    return found
