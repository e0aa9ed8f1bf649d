"""Cost of sampling: unguided, `dps` and `polyak`, in tensors of several subjects (target `bench`).

Every setting runs in a process of its own, so that its peak memory is its own.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cardiocohort.diffusion.bundle import load_sampler
from cardiocohort.diffusion.device import resolve_device
from cardiocohort.generation.constraints import make_constraints
from cardiocohort.generation.sampling import sample_labels
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.runtime.peak_memory import peak_mb

METHODS = ("unguided", "dps", "polyak")


def measure(bundle: str, rows: list[pd.DataFrame], method: str, settings: dict, device: str, threads: int):
    """Seconds a sample and peak memory (MB) of sampling the targets `rows` together, after a warm-up."""
    device = resolve_device(device)
    torch.set_num_threads(threads)
    prior = load_sampler(bundle, device)
    seeds = [np.random.SeedSequence([1, i]) for i in range(len(rows))]
    if method == "unguided":
        rows = [own.assign(constrained="") for own in rows]
    else:
        settings = settings | {"method": method}
    constraints = make_constraints(rows, prior, Path(bundle))
    sample_labels(prior, constraints, seeds, GuidanceSettings.from_config(settings | {"steps": 2}))
    started = time.perf_counter()
    # labels come back on the CPU: the device is done by then
    sample_labels(prior, constraints, seeds, GuidanceSettings.from_config(settings))
    seconds = (time.perf_counter() - started) / len(rows)
    if device == "cuda":
        return seconds, torch.cuda.max_memory_allocated() / 1e6
    return seconds, peak_mb()


def table(
    bundle: str,
    rows: list[pd.DataFrame],
    settings: dict,
    device: str,
    threads: int,
    batches: tuple[int, ...] = (1, 4, 8),
    repeats: int = 2,
) -> pd.DataFrame:
    """One row per batch size and method: best of `repeats`, methods in turn, ratio to unguided."""
    out = []
    for batch in batches:
        rounds = []
        for _ in range(repeats):
            for method in METHODS:
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    job = pool.submit(measure, bundle, rows[:batch], method, settings, device, threads)
                    rounds.append((method, *job.result()))
        found = pd.DataFrame(rounds, columns=["method", "seconds_per_sample", "peak_mb"])
        best = found.groupby("method", sort=False).agg({"seconds_per_sample": "min", "peak_mb": "max"})
        best.insert(0, "batch", batch)
        unguided = best.loc["unguided", "seconds_per_sample"]
        best.insert(2, "ratio_to_unguided", best["seconds_per_sample"] / unguided)
        out.append(best.reset_index())
    return pd.concat(out, ignore_index=True).round(
        {"seconds_per_sample": 3, "ratio_to_unguided": 2, "peak_mb": 0}
    )
