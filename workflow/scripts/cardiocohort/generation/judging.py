"""A sampled label map after the bounded repairs, against the gate and its targets (generation stage).

The same for cohorts and for the evaluation of the prior.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import topology
from ..anatomy import domains, moments
from ..diffusion.bundle import Prior, load_sampler
from ..diffusion.device import resolve_device
from ..runtime.outcomes import Ending, Outcome, Stage
from .constraints import missed, residuals
from .settings import GuidanceSettings

DIVERGED = Ending(Outcome.FAILED, "sampling diverged", stage=Stage.GENERATION)


@dataclass(frozen=True)
class Sampler:
    """What a worker process holds: the prior, the gate and how to sample."""

    bundle: Path
    prior: Prior
    rules: topology.Rules
    settings: GuidanceSettings
    max_attempts: int = 1

    @property
    def gate(self) -> tuple:
        """What `topology.judge`, `examine` and `repair` take after the labels."""
        return self.prior.grid.spacing_mm, self.prior.anatomy, self.rules


def open_sampler(
    bundle: str, rules: str, settings: GuidanceSettings, device: str, max_attempts: int = 1
) -> Sampler:
    """Load everything once per worker, with one thread each on the CPU."""
    device = resolve_device(device)
    if device == "cpu":
        torch.set_num_threads(1)
    prior = load_sampler(bundle, device)
    return Sampler(Path(bundle), prior, topology.load_rules(rules, prior.anatomy), settings, max_attempts)


@dataclass(frozen=True)
class Judged:
    """A sample's labels (X, Y, Z) after the bounded repairs, and what speaks against it.

    verdict: of the gate; None where sampling diverged, which leaves no label. achieved: moments (K,) of the
    structures of the target rows; residuals: `constraints.residuals`; miss: the target that it misses by far.
    """

    labels: np.ndarray
    repairs: tuple[str, ...]
    verdict: topology.Verdict | None
    achieved: moments.Moments
    residuals: dict[str, float]
    miss: Ending | None

    @property
    def diverged(self) -> bool:
        return self.verdict is None


def judge(
    sampler: Sampler,
    rows: pd.DataFrame,
    labels: np.ndarray,
    raw: topology.Verdict | None = None,
    absent: tuple[int, ...] = (),
) -> Judged:
    """One sample (X, Y, Z) against its target rows; `raw`: its verdict before repairs, where it is known.

    Labels `absent`, which a sibling's base does not have, are taken out, and no rule needs them.
    """
    repairs, verdict = (), None
    *field, rules = sampler.gate
    if absent:
        labels = np.where(np.isin(labels, absent), 0, labels).astype(labels.dtype)
        rules = rules.holding(set(range(1, sampler.prior.anatomy.n_channels)) - set(absent))
    if labels.any():
        labels, repairs, verdict = topology.judge(labels, *field, rules, raw)
    prior = sampler.prior
    achieved = domains.measure_rows(labels, rows, prior.anatomy, prior.grid)
    errors = residuals(rows, achieved, sampler.bundle, prior.anatomy)
    return Judged(labels, repairs, verdict, achieved, errors, missed(errors, sampler.settings.max_miss))
