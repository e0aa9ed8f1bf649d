"""From target rows to label maps that pass the gate: noise, guided sampling, attempts (generation stage).

A subject depends on its own targets and seed alone: noise comes from SeedSequence(seed, arm, index,
attempt), and on the CPU every subject is sampled by itself on one thread, several side by side.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import moments, topology
from ..anatomy import ATTRIBUTES
from ..cohort import seed_sequence
from ..errors import SubjectError
from ..labelmap import write_label_map
from ..prior import edm
from ..prior.bundle import Prior, load_prior
from ..prior.device import resolve_device
from .guidance import Constraint, GuidanceSettings, guided
from .sampler import sample

# Subjects sampled in one tensor. On the CPU one by one is as fast, and keeps a subject's arithmetic,
# and so its label map, independent of its neighbours; a GPU needs several to be busy.
GROUP = {"cpu": 1, "cuda": 8}


@dataclass(frozen=True)
class Generator:
    """What a worker process holds: the prior, the gate and how to sample."""

    prior: Prior
    rules: topology.Rules
    settings: GuidanceSettings
    max_attempts: int


_generator: Generator | None = None


def open_generator(bundle: str, rules: str, settings: dict, max_attempts: int, device: str) -> None:
    """Initializer of a worker: load everything once, one thread each on the CPU."""
    global _generator
    device = resolve_device(device)
    if device == "cpu":
        torch.set_num_threads(1)
    prior = load_prior(bundle, device)
    _generator = Generator(
        prior, topology.load_rules(rules, prior.anatomy), GuidanceSettings(**settings), max_attempts
    )


def arm_and_index(subject: str) -> tuple[str, int]:
    """`dilated-00003` -> ("dilated", 3)."""
    arm, _, index = subject.rpartition("-")
    return arm, int(index)


def make_constraints(rows: list[pd.DataFrame], prior: Prior) -> list[Constraint]:
    """Constraints of B subjects from their target rows (tables.TARGETS), one a structure.

    A structure that one subject constrains and another does not is inactive for the latter.
    """
    names = sorted({name for r in rows for name in r.loc[r["constrained"] != "", "structure"]})
    spreads, constraints = prior.card["moment_spread"], []
    for name in names:
        labels = prior.anatomy.labels_of(name)
        parts = [spreads[prior.anatomy.structures[label - 1]] for label in labels]
        found = [r[r["structure"] == name].iloc[0] for r in rows]
        target = moments.from_columns(pd.DataFrame(found))
        tensors = (target.volume_ml, target.centroid_mm, target.covariance_mm2)
        active = [[a in row["constrained"].split(",") for a in ATTRIBUTES] for row in found]
        constraints.append(
            Constraint(
                labels,
                moments.Moments(
                    *(torch.tensor(t, dtype=torch.float32, device=prior.device) for t in tensors)
                ),
                torch.tensor(active, dtype=torch.float32, device=prior.device),
                {key: float(np.mean([part[key] for part in parts])) for key in parts[0]},
            )
        )
    return constraints


def sample_labels(
    prior: Prior, rows: list[pd.DataFrame], seeds: list[np.random.SeedSequence], settings: GuidanceSettings
) -> tuple[np.ndarray, list[list[float]]]:
    """Label maps (B, X, Y, Z) uint8 of B subjects and, per subject, the guidance loss at each step."""
    noise = [np.random.Generator(np.random.Philox(s)).standard_normal(prior.latent_shape) for s in seeds]
    start = torch.tensor(np.stack(noise), dtype=torch.float32, device=prior.device)
    sigmas = edm.schedule(settings.steps, settings.sigma_min, settings.sigma_max)
    history: list[list[float]] = [[] for _ in seeds]

    def record(step):
        for own, loss in zip(history, step.loss.tolist(), strict=True):
            own.append(loss)

    denoise = guided(prior, make_constraints(rows, prior), settings, sigmas, record)
    z = sample(denoise, start, sigmas)
    bad = ~torch.isfinite(z).flatten(1).all(1)
    with torch.no_grad():
        labels = prior.labels(torch.nan_to_num(z)).cpu().numpy()
    labels[bad.cpu().numpy()] = 0  # an empty map: the caller's gate says so, per subject
    return labels, history


def work(paths: list[Path], payloads: list[tuple[list[dict], int, str, int]]) -> list[dict | SubjectError]:
    """Generate subjects together (for `subjects.run_batch`): payload is target rows, seed, arm, index.

    Attempts go on until the gate accepts; if none does, the one with the fewest violations is written
    and the topology stage will reject it. A subject whose samples all diverged is a SubjectError.
    """
    g = _generator
    best: list[Attempt | None] = [None] * len(payloads)
    tried: list[list[dict]] = [[] for _ in payloads]
    open_ones = list(range(len(payloads)))
    rows = [pd.DataFrame(own) for own, *_ in payloads]
    for number in range(g.max_attempts):
        seeds = [seed_sequence(*payloads[i][1:], "generation", number) for i in open_ones]
        labels, losses = sample_labels(g.prior, [rows[i] for i in open_ones], seeds, g.settings)
        for i, own_labels, own_losses in zip(open_ones, labels, losses, strict=True):
            attempt = _judge(number, own_labels, own_losses)
            tried[i].append({"attempt": number, "reasons": list(attempt.reasons)})
            if attempt.labels.any() and (best[i] is None or len(attempt.reasons) < len(best[i].reasons)):
                best[i] = attempt
        open_ones = [i for i in open_ones if best[i] is None or best[i].reasons]
        if not open_ones:
            break
    return [_finish(*each) for each in zip(paths, rows, best, tried, strict=True)]


@dataclass(frozen=True)
class Attempt:
    """One sample after the bounded repairs, what the gate holds against it, and its guidance losses."""

    number: int
    labels: np.ndarray
    repairs: tuple[str, ...]
    reasons: tuple[str, ...]
    losses: list[float]


def _judge(number: int, labels: np.ndarray, losses: list[float]) -> Attempt:
    g = _generator
    if not labels.any():
        return Attempt(number, labels, (), ("sampling diverged",), losses)
    gate = (g.prior.grid.spacing_mm, g.prior.anatomy, g.rules)
    labels, repairs = topology.repair(labels, *gate)
    return Attempt(number, labels, repairs, topology.examine(labels, *gate).reasons, losses)


def _finish(path: Path, rows: pd.DataFrame, best: Attempt | None, tried: list[dict]) -> dict | SubjectError:
    anatomy, grid = _generator.prior.anatomy, _generator.prior.grid
    if best is None:
        return SubjectError("sampling diverged", json.dumps(tried))
    write_label_map(path, best.labels, grid)
    groups = [anatomy.labels_of(name) for name in rows["structure"]]
    achieved = moments.to_columns(moments.measure_labels(best.labels, groups, grid.axes_mm()))
    return {
        "verdict": "generated",
        "reason": "",
        "attempts": len(tried),
        "attempt": best.number,
        "tried": tried,
        "repairs": list(best.repairs),
        "loss": best.losses,
        "moments": {name: np.asarray(values).tolist() for name, values in achieved.items()},
    }


def table(records: list[dict], targets: pd.DataFrame) -> pd.DataFrame:
    """The anatomies table (tables.ANATOMIES): achieved moments beside what was constrained."""
    by_subject, blocks = {r["subject"]: r for r in records}, []
    for subject, rows in targets.groupby("subject", sort=False):
        record = by_subject[subject]
        block = rows.copy()
        for name in moments.MOMENT_COLUMNS:
            block[name] = record["moments"][name] if "moments" in record else np.nan
        block["attempts"] = record.get("attempts", 0)
        block["status"], block["reason"] = record["verdict"], record["reason"]
        block["tried"] = json.dumps(record.get("tried", []))
        block["repairs"] = "; ".join(record.get("repairs", []))
        for name in ("file", "size", "sha256"):
            block[name] = record[name]
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True)
