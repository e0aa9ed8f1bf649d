"""A sampled label map after the bounded repairs, against the gate and its targets (generation stage).

The same for cohorts and for the evaluation of the prior.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import topology
from ..anatomy import domains, moments
from ..anatomy.moments import THICKNESS
from ..diffusion.bundle import Prior, load_sampler
from ..diffusion.device import resolve_device
from ..runtime.outcomes import Ending, Outcome, Stage
from .constraints import missed, residuals
from .settings import GuidanceSettings
from .topology_guidance import topology_steps

NO_THICKNESS = "a wall left its domain"
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

    def rules_without(self, absent: tuple[int, ...]) -> topology.Rules:
        """The rules that hold for hearts without the labels `absent`."""
        if not absent:
            return self.rules
        return self.rules.holding(set(range(1, self.prior.anatomy.n_channels)) - set(absent))


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

    @property
    def accepted(self) -> bool:
        """By the gate, with no target missed by far."""
        return not self.diverged and self.miss is None and self.verdict.accepted


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
    *field, _ = sampler.gate
    rules = sampler.rules_without(absent)
    if absent:
        labels = np.where(np.isin(labels, absent), 0, labels).astype(labels.dtype)
    if labels.any():
        labels, repairs, verdict = topology.judge(labels, *field, rules, raw)
    prior = sampler.prior
    achieved = domains.measure_rows(labels, rows, prior.anatomy, prior.grid)
    errors = residuals(rows, achieved, sampler.bundle, prior.anatomy)
    miss = missed(errors, sampler.settings.max_miss) or _unmeasured(sampler, rows, labels)
    return Judged(labels, repairs, verdict, achieved, errors, miss)


def _unmeasured(sampler: Sampler, rows: pd.DataFrame, labels: np.ndarray) -> Ending | None:
    """The ending of a sample (X, Y, Z) where a wall left its domain: its thickness would mean nothing."""
    walls = rows[rows[THICKNESS].notna()] if THICKNESS in rows.columns else rows[:0]
    prior = sampler.prior
    for name, weights in zip(walls["structure"], domains.weights_of(walls, prior.grid), strict=True):
        if problem := domains.no_wall(labels, name, weights, prior.anatomy):
            return Ending(Outcome.FAILED, NO_THICKNESS, f"{name}: {problem}", Stage.GENERATION)
    return None


def improved(
    sampler: Sampler,
    rows: pd.DataFrame,
    judged: Judged,
    z: torch.Tensor,
    absent: tuple[int, ...] = (),
    free: torch.Tensor | None = None,
) -> Judged:
    """The sample after topology guidance (`topology_guidance`), if the gate then accepts it; else as it was.

    z (1, L, m, m, m): its latent; free: as for `topology_steps`. Samples that are accepted, that diverged or
    that miss their targets are not changed, and none of another method than `polyak`.
    """
    if judged.diverged or judged.miss or judged.verdict.accepted:
        return judged
    rules = sampler.rules_without(absent)
    s = sampler.settings
    most = s.topology_steps if s.method == "polyak" else 0  # the others stay as published
    steps = topology_steps(sampler.prior, z, judged.labels, judged.verdict, rules, most, free)
    for number, labels in enumerate(steps, 1):
        changed = judge(sampler, rows, labels, absent=absent)
        if changed.accepted:
            note = f"topology guidance, {number} step{'s' if number > 1 else ''}"
            return replace(changed, repairs=(note, *changed.repairs))
    return judged


def to_restart(judged: Judged, s: GuidanceSettings) -> bool:
    """Whether the gate rejects a sample, or its targets are off by more than `restart.residual`."""
    if judged.diverged:
        return False
    far = max(judged.residuals.values(), default=0.0) > s.restart.residual
    return far or not judged.accepted


def failing(judged: Judged) -> tuple:
    """What speaks against a sample, to be compared: a target missed, rules of the gate broken, residuals."""
    if judged.diverged:
        return (True, np.inf, np.inf)
    rms = float(np.sqrt(np.mean(np.square(list(judged.residuals.values()) or [0.0]))))
    return (judged.miss is not None, len(judged.verdict.failures), rms)
