"""One attempt at a heart: guided sampling from noise, the gate, restarts of what fails (generation stage).

A restart brings a sample back to a moderate noise level and steers it again, at each level: most of the heart
stays, what guidance tore heals, and targets of many structures are met closer than in one descent. Sampling
that goes back and forth between noise levels: Xu et al., Restart sampling, NeurIPS 2023; with guidance, Yu et
al., FreeDoM, ICCV 2023.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from .. import topology
from ..diffusion import edm
from ..diffusion.bundle import Prior
from ..diffusion.networks import REFINEMENT
from ..diffusion.sampler import sample
from .constraints import make_constraints
from .guidance import Constraint, guided
from .implicit import conditioned
from .judging import Judged, Sampler, failing, improved, judge, to_restart
from .settings import GuidanceSettings
from .siblings import Base, join
from .topology_guidance import lacking

# a sibling's base, what its latent decodes to (X, Y, Z), and the labels that it does not have
OpenBase = tuple[Base, np.ndarray, tuple[int, ...]]


def sample_labels(
    prior: Prior,
    constraints: list[Constraint],
    seeds: list[np.random.SeedSequence],
    settings: GuidanceSettings,
    base: Base | None = None,
    rules: topology.Rules | None = None,
    again: torch.Tensor | None = None,
) -> tuple[np.ndarray, list[list[float]], torch.Tensor]:
    """Label maps (B, X, Y, Z) uint8 of B subjects; per subject the guidance loss at each step; its latent.

    Subjects that have a `base` start from it, at the noise level of `settings.sibling`. Samples `again`
    (B, L, m, m, m) are noised and steered once more, as `settings.restart` says. With `rules`, subjects
    without base are held above the least of the gate (`topology_guidance.lacking`). A latent that diverged
    has an empty map, and zeros in place of what is not finite.
    """
    noise = [np.random.Generator(np.random.Philox(s)).standard_normal(prior.latent_shape) for s in seeds]
    start = torch.tensor(np.stack(noise), dtype=torch.float32, device=prior.device)
    if again is not None:
        highest = min(settings.restart.sigma, settings.sibling.sigma) if base else settings.restart.sigma
        sigmas = edm.schedule(settings.restart.steps, settings.sigma_min, highest)
        start = start + again / sigmas[0]
        settings = replace(settings, guide_every=1)
    elif base:
        sigmas = edm.schedule(settings.sibling.steps, settings.sigma_min, settings.sibling.sigma)
        start = start + base.latent / sigmas[0]
    else:
        sigmas = edm.schedule(settings.steps, settings.sigma_min, settings.sigma_max)
        start = prior.start(start, sigmas[0])
    history: list[list[float]] = [[] for _ in seeds]

    def record(step):
        for losses, loss in zip(history, step.loss.tolist(), strict=True):
            losses.append(loss)

    if settings.method == "implicit":
        denoise = conditioned(prior, constraints, base)
    else:
        lacks = None
        if rules is not None and base is None:  # a base says what is to be there
            cell_mm = prior.grid.spacing_mm * REFINEMENT
            lacks = partial(lacking, cell_mm=cell_mm, rules=rules)
        denoise = guided(prior, constraints, settings, sigmas, record, base, lacks)
    z = sample(denoise, start, sigmas)
    bad = ~torch.isfinite(z).flatten(1).all(1)
    z = torch.nan_to_num(z)
    with torch.no_grad():
        labels = prior.labels(z).cpu().numpy()
    labels[bad.cpu().numpy()] = 0  # an empty map: the caller's gate says so, per subject
    return labels, history, z


@dataclass(frozen=True)
class Sampled:
    """A sample that the gate has judged.

    losses: of guidance, step by step; latent (1, L, m, m, m); labels (X, Y, Z): what it decodes to, before
    steps and repairs; restarts: how many led to it.
    """

    losses: list[float]
    latent: torch.Tensor
    labels: np.ndarray
    judged: Judged
    restarts: int = 0


def make_samples(
    g: Sampler,
    rows: list[pd.DataFrame],
    seeds: list[np.random.SeedSequence],
    bases: list[OpenBase | None],
    edited: tuple[str, ...],
) -> list[Sampled]:
    """One attempt of each subject: target rows, seed and base of each; `edited` parts of the bases."""
    return restarted(g, _sampled(g, rows, seeds, bases, edited), rows, seeds, bases, edited)


def restarted(
    g: Sampler,
    samples: list[Sampled],
    rows: list[pd.DataFrame],
    seeds: list[np.random.SeedSequence],
    bases: list[OpenBase | None],
    edited: tuple[str, ...],
) -> list[Sampled]:
    """Samples after restarts of those that fail (`to_restart`): the best of each subject (`failing`)."""
    best = list(samples)
    most = g.settings.restart.most if g.settings.method == "polyak" else 0  # the others stay as published
    for number in range(1, most + 1):
        poor = [k for k, one in enumerate(best) if to_restart(one.judged, g.settings)]
        if not poor:
            break
        noise = [np.random.SeedSequence(s.entropy, spawn_key=(*s.spawn_key, number)) for s in seeds]
        off_target = [k for k in poor if best[k].judged.verdict.accepted]
        rejected = [k for k in poor if k not in off_target]
        # rules steer samples that break them alone: beside targets they would disturb the others
        for some, rules in ((rejected, g.rules), (off_target, None)):
            if not some:
                continue
            again = torch.cat([best[k].latent for k in some])
            theirs = ([each[k] for k in some] for each in (rows, noise, bases))
            for k, new in zip(some, _sampled(g, *theirs, edited, again, rules), strict=True):
                if failing(new.judged) < failing(best[k].judged):
                    best[k] = replace(new, losses=best[k].losses + new.losses, restarts=number)
    return [_noted(one) if one.restarts else one for one in best]


def _sampled(
    g: Sampler,
    rows,
    seeds,
    bases,
    edited,
    again: torch.Tensor | None = None,
    rules: topology.Rules | None = None,
) -> list[Sampled]:
    constraints = make_constraints(rows, g.prior, g.bundle, edited)
    base = join([own[0] for own in bases]) if bases[0] else None
    labels, losses, latents = sample_labels(g.prior, constraints, seeds, g.settings, base, rules, again)
    made = []
    for k, own in enumerate(bases):
        absent = own[2] if own else ()
        latent, free = latents[k : k + 1], base.free[k : k + 1] if base else None
        judged = judge(g, rows[k], labels[k], absent=absent)
        judged = improved(g, rows[k], judged, latent, absent, free)
        made.append(Sampled(losses[k], latent, labels[k], judged))
    return made


def _noted(one: Sampled) -> Sampled:
    repairs = (f"restart {one.restarts}", *one.judged.repairs)
    return replace(one, judged=replace(one.judged, repairs=repairs))
