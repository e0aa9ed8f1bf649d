"""From target rows to label maps that pass the gate: bases, attempts, records (generation stage).

A subject depends on its own targets and seed alone: noise comes from SeedSequence(seed, arm, index,
attempt), and on the CPU every subject is sampled by itself on one thread, several side by side.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import topology
from ..anatomy import attributes, domains, moments
from ..anatomy.label_map import write_label_map
from ..cohort.table import seed_sequence
from ..diffusion.device import describe
from ..label_maps.sibling_base import read_base
from ..metrics.overlap import dice_by_name
from ..runtime.artifacts import listed_in
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Ending, Outcome, Stage, ending_of
from .constraints import OUTSIDE, impossible
from .judging import DIVERGED, Judged, Sampler, open_sampler
from .sampling import OpenBase, make_samples
from .settings import GuidanceSettings
from .siblings import make_base, moved_mm

# Subjects sampled in one tensor. On the CPU one by one is as fast, and keeps a subject's arithmetic,
# and so its label map, independent of its neighbours; a GPU needs several to be busy.
GROUP = {"cpu": 1, "cuda": 8}
PATIENCE = 3  # attempts that miss the target before no more are made: another seed will not reach it either


def open_generator(bundle: str, rules: str, settings: dict, max_attempts: int, device: str) -> Sampler:
    """Initializer of a worker (`judging.open_sampler`)."""
    return open_sampler(bundle, rules, GuidanceSettings.from_config(settings), device, max_attempts)


def arm_and_index(subject: str) -> tuple[str, int]:
    """`dilated-00003` -> ("dilated", 3)."""
    arm, _, index = subject.rpartition("-")
    return arm, int(index)


def work(
    g: Sampler, paths: list[Path], payloads: list[tuple[list[dict], int, str, int, dict | None]]
) -> list[dict | SubjectError]:
    """Generate subjects together (for `batch_runner.run_batch`).

    A payload is target rows, seed, arm, index, base. The base (siblings; else None) is that of
    `sibling_base.of_table` or `sibling_base.of_map`.

    Attempts go on until the gate accepts one that meets its targets; if none does, the one with the fewest
    violations is written and the topology stage will reject it. A subject is a SubjectError if its samples
    all diverged, and if its target is outside the prior: beyond the field, or missed by all that were made.
    """
    rows = [pd.DataFrame(target_rows) for target_rows, *_ in payloads]
    bases = [_open_base(g, *each) for each in zip(rows, (p[4] for p in payloads), strict=True)]
    tried: list[list[Attempt]] = [[] for _ in payloads]
    refused = [
        base if isinstance(base, SubjectError) else _impossible(g, target_rows)
        for target_rows, base in zip(rows, bases, strict=True)
    ]
    for number in range(g.max_attempts):
        open_ones = [i for i in range(len(payloads)) if not refused[i] and _goes_on(tried[i])]
        if not open_ones:
            break
        given = payloads[open_ones[0]][4]  # subjects that are sampled together are of one arm
        edited = tuple(given["edited"]) if given else ()
        seeds = [seed_sequence(*payloads[i][1:4], "generation", number) for i in open_ones]
        samples = make_samples(g, [rows[i] for i in open_ones], seeds, [bases[i] for i in open_ones], edited)
        for i, sample in zip(open_ones, samples, strict=True):
            tried[i].append(Attempt(number, sample.losses, sample.judged))
    return [_finish(g, *each) for each in zip(paths, rows, tried, refused, bases, strict=True)]


def _impossible(g: Sampler, rows: pd.DataFrame) -> SubjectError | None:
    ending = impossible(rows, g.prior.grid)
    return SubjectError(ending.reason, ending.detail) if ending else None


def _open_base(g: Sampler, rows: pd.DataFrame, given: dict | None) -> OpenBase | SubjectError | None:
    """A sibling's base, what its latent decodes to, and the labels that it does not have.

    A SubjectError if the base was rejected.
    """
    if given is None:
        return None
    if given["refused"]:
        return SubjectError("base rejected", given["refused"], Outcome.BASE_REJECTED)
    prior, reach = g.prior, g.settings.sibling.reach_mm
    labels = read_base(given, prior.anatomy, prior.grid)
    edited_rows = rows[rows["structure"].isin(given["edited"])]
    edited, rest = [], []
    if impossible(rows, prior.grid) is None and len(edited_rows):
        masks = domains.masks_of(labels, edited_rows, prior.anatomy, prior.grid)
        before = domains.measure_rows(labels, edited_rows, prior.anatomy, prior.grid)
        after = moments.from_columns(edited_rows)
        edited = [(mask, moved_mm(before[k], after[k])) for k, mask in enumerate(masks)]
        rest_rows = rows[[domains.lies_beyond(name, given["edited"]) for name in rows["structure"]]]
        groups = [prior.anatomy.labels_of(domains.split(name)[0]) for name in rest_rows["structure"]]
        rest = list(zip(groups, domains.weights_of(rest_rows, prior.grid), strict=True))
    base = make_base(prior, labels, edited, reach, rest)
    with torch.no_grad():
        decoded = prior.labels(base.latent)[0].cpu().numpy()
    absent = tuple(k for k in range(1, prior.anatomy.n_channels) if not (labels == k).any())
    return base, np.where(np.isin(decoded, absent), 0, decoded), absent


@dataclass(frozen=True)
class Attempt:
    """One judged sample and its guidance losses. A sample with a `miss` is no candidate."""

    number: int
    losses: list[float]
    judged: Judged

    @property
    def miss(self) -> Ending | None:
        """Which target the sample misses by far, or that sampling diverged."""
        return DIVERGED if self.judged.diverged else self.judged.miss

    @property
    def failures(self) -> tuple[topology.Failure, ...]:
        """The rules of the gate that it breaks."""
        return () if self.judged.diverged else self.judged.verdict.failures

    def record(self) -> dict:
        misses = [self.miss.text] if self.miss else []
        return {"attempt": self.number, "reasons": [*misses, *map(str, self.failures)]}

    def causes(self) -> dict[str, list[str]]:
        """Names of what refuses the sample, by stage (`stage_tables.CAUSES`)."""
        names = {Stage.GENERATION: [self.miss.reason] if self.miss else []}
        names[Stage.TOPOLOGY] = [failure.rule for failure in self.failures]
        return {str(stage): reasons for stage, reasons in names.items() if reasons}


def _goes_on(tried: list[Attempt]) -> bool:
    if any(not attempt.miss and not attempt.failures for attempt in tried):
        return False
    return sum(attempt.miss is not None and attempt.miss.reason == OUTSIDE for attempt in tried) < PATIENCE


def _finish(
    g: Sampler, path: Path, rows: pd.DataFrame, tried: list[Attempt], refused: SubjectError | None, base
):
    if refused:
        return refused
    records = {
        "attempts": len(tried),
        "tried": [attempt.record() for attempt in tried],
        "tried_causes": [attempt.causes() for attempt in tried],
    }
    candidates = [attempt for attempt in tried if not attempt.miss]
    if not candidates:
        # a target out of reach can also drive samples apart, so it is the first reason
        first = min((attempt.miss for attempt in tried), key=lambda miss: miss.reason != OUTSIDE)
        return SubjectError(first.reason, first.detail, record=records)
    best = min(candidates, key=lambda attempt: len(attempt.failures))
    judged = best.judged
    overlap = dice_by_name(judged.labels, base[1], g.prior.anatomy) if base else {}
    write_label_map(path, judged.labels, g.prior.grid)
    achieved = moments.to_columns(judged.achieved)
    return {
        "verdict": Outcome.GENERATED,
        "reason": "",
        **records,
        "attempt": best.number,
        "repairs": list(judged.repairs),
        "networks": describe(g.prior.device),
        "loss": best.losses,
        "moments": {name: np.asarray(values).tolist() for name, values in achieved.items()},
        "residuals": judged.residuals,
        "dice_with_base": overlap,
        "absent": [g.prior.anatomy.structures[k - 1] for k in (base[2] if base else ())],
    }


def table(records: list[dict], targets: pd.DataFrame) -> pd.DataFrame:
    """The anatomies table (stage_tables.ANATOMIES, last CAUSES): achieved moments beside the constraints."""
    by_subject, blocks = {r["subject"]: r for r in records}, []
    for subject, rows in targets.groupby("subject", sort=False):
        record = by_subject[subject]
        block = rows.copy()
        for name in (name for name in (*moments.MOMENT_COLUMNS, moments.THICKNESS) if name in block):
            block[name] = record["moments"].get(name, np.nan) if "moments" in record else np.nan
        for name, values in _residual_columns(rows, record.get("residuals", {})).items():
            block[name] = values
        if record.get("dice_with_base"):
            block["dice_with_base"] = [
                record["dice_with_base"].get(name, np.nan) for name in rows["structure"]
            ]
        block["attempts"] = record.get("attempts", 0)
        block["status"], block["reason"] = str(record["verdict"]), ending_of(record).text
        block["tried"] = json.dumps(record.get("tried", []))
        block["repairs"] = "; ".join(record.get("repairs", []))
        block["absent"] = ",".join(record.get("absent", []))
        block = block.assign(**listed_in(record))
        blocks.append(block)
    frame = pd.concat(blocks, ignore_index=True)
    causes = {name: r["reason"] for name, r in by_subject.items()}
    tried = {name: json.dumps(r.get("tried_causes", [])) for name, r in by_subject.items()}
    return frame.assign(cause=frame["subject"].map(causes), tried_causes=frame["subject"].map(tried))


def _residual_columns(rows: pd.DataFrame, residuals: dict[str, float]) -> dict[str, list[float]]:
    """`<attribute>_residual_sd` of the structures that constrain it; of several relations, the worst."""
    columns: dict[str, dict[str, float]] = {}
    for key, value in residuals.items():
        structure, _, word = key.partition(".")
        column = columns.setdefault(f"{attributes.split(word)[0]}_residual_sd", {})
        column[structure] = max(value, column.get(structure, 0.0))
    return {name: [values.get(s, np.nan) for s in rows["structure"]] for name, values in columns.items()}
