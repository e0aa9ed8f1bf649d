"""Samples of an arm: one attempt each, judged and kept (evaluation stage)."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from .. import topology
from ..anatomy import moments
from ..anatomy.label_map import write_label_map
from ..anatomy.labels import Anatomy
from ..generation import judging
from ..generation.constraints import impossible, make_constraints
from ..generation.sampling import make_samples, sample_labels
from ..generation.settings import GuidanceSettings
from ..population.reference import read_reference
from ..runtime import artifacts
from ..runtime.batch_runner import Task
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome, ending_of
from .arms import COHORT, UNGUIDED, Arm

Payload = tuple[list[dict], int, int]  # target rows, seed, index


def settings_of(arm: Arm, guidance: dict) -> GuidanceSettings:
    """The config's guidance with the arm's method and strength."""
    s = GuidanceSettings.from_config(guidance)
    if arm.method in (UNGUIDED, COHORT):
        return s
    s = replace(s, method=arm.method)
    if arm.method == "dps":
        return replace(s, dps=replace(s.dps, weight=arm.strength * s.dps.weight))
    return replace(
        s, step_fraction=arm.strength * s.step_fraction, trust_radius=arm.strength * s.trust_radius
    )


def targets_of(arm: Arm, hearts: pd.DataFrame, bundle: Path, anatomy: Anatomy) -> list[pd.DataFrame]:
    """Target rows of every sample of an arm: structure, moments, `constrained` (attributes).

    `hearts` is the table of target hearts (`hearts.table`); extreme targets are made from the bundle's
    reference population instead.
    """
    if arm.deviations:
        return _extremes(arm, bundle, anatomy)
    words = ",".join(arm.attributes)
    targets = []
    for _, rows in hearts.groupby("subject", sort=True):
        constrained = [words if name in arm.constrained else "" for name in rows["structure"]]
        targets.append(rows[["structure", *moments.MOMENT_COLUMNS]].assign(constrained=constrained))
    return targets[: arm.samples]


def _extremes(arm: Arm, bundle: Path, anatomy: Anatomy) -> list[pd.DataFrame]:
    """The mean heart with one structure's log volume, or its place from right to left, far from the mean.

    One row per repeat, attribute and deviation (standard deviations of the reference population).
    """
    reference = read_reference(Path(bundle) / "reference_moments.parquet", anatomy)
    vectors = moments.to_vector(reference.moments)
    mean, spread = vectors.mean(axis=0), vectors.std(axis=0)
    k, targets = reference.structures.index(arm.constrained[0]), []
    for _ in range(arm.samples):
        for attribute in arm.attributes:
            entry = moments.VECTOR_ENTRIES.index({"size": "log_volume", "position": "x"}[attribute])
            for deviation in arm.deviations:
                vector = mean.copy()
                vector[k, entry] += deviation * spread[k, entry]
                rows = pd.DataFrame(moments.to_columns(moments.from_vector(vector)))
                rows.insert(0, "structure", reference.structures)
                rows["constrained"] = [attribute if i == k else "" for i in range(len(rows))]
                targets.append(rows)
    return targets


def tasks(targets: list[pd.DataFrame], seed: int, inputs: str) -> list[Task]:
    """One task per sample; `inputs` is the digest of what all of them depend on."""
    listed = []
    for index, rows in enumerate(targets):
        payload = (rows.to_dict("records"), seed, index)
        name = f"sample-{index:05d}"
        listed.append(Task(name, f"{name}.nii.gz", artifacts.digest([inputs, payload]), payload))
    return listed


def work(s: judging.Sampler, paths: list[Path], payloads: list[Payload]) -> list[dict | SubjectError]:
    """Sample hearts together, without topology guidance and restarts (for `batch_runner.run_batch`).

    Noise is that of seed and index, the same in every arm. What is written has the bounded repairs.
    """
    return _work(s, paths, payloads, _bare)


def attempts(s: judging.Sampler, paths: list[Path], payloads: list[Payload]) -> list[dict | SubjectError]:
    """The same by attempts as a cohort makes them; `raw_reasons` are of the kept sample, unrepaired."""
    return _work(s, paths, payloads, _as_in_cohorts)


Drawn = tuple[topology.Verdict | None, judging.Judged]  # before repairs, and after


def _bare(s: judging.Sampler, rows: list[pd.DataFrame], seeds: list) -> list[Drawn]:
    sampled, _, _ = sample_labels(s.prior, make_constraints(rows, s.prior, s.bundle), seeds, s.settings)
    raw = [_verdict(s, labels) for labels in sampled]
    return [(r, judging.judge(s, *each, r)) for r, *each in zip(raw, rows, sampled, strict=True)]


def _as_in_cohorts(s: judging.Sampler, rows: list[pd.DataFrame], seeds: list) -> list[Drawn]:
    samples = make_samples(s, rows, seeds, [None] * len(rows), ())
    return [(_verdict(s, one.labels), one.judged) for one in samples]


def _verdict(s: judging.Sampler, labels: np.ndarray) -> topology.Verdict | None:
    return topology.examine(labels, *s.gate) if labels.any() else None


def _work(
    s: judging.Sampler, paths: list[Path], payloads: list[Payload], draw: Callable[..., list[Drawn]]
) -> list[dict | SubjectError]:
    rows = [pd.DataFrame(target_rows) for target_rows, *_ in payloads]
    refused = [impossible(target_rows, s.prior.grid) for target_rows in rows]
    open_ones = [i for i, reason in enumerate(refused) if not reason]
    started, drawn = time.process_time(), {}
    if open_ones:
        seeds = [np.random.SeedSequence(payloads[i][1:]) for i in open_ones]
        made = draw(s, [rows[i] for i in open_ones], seeds)
        drawn = dict(zip(open_ones, made, strict=True))
    seconds = (time.process_time() - started) / max(len(open_ones), 1)
    return [
        SubjectError(ending.reason, ending.detail) if ending else _record(s, path, *drawn[i], seconds)
        for i, (path, ending) in enumerate(zip(paths, refused, strict=True))
    ]


def _record(
    s: judging.Sampler, path: Path, raw: topology.Verdict | None, judged: judging.Judged, seconds: float
) -> dict:
    write_label_map(path, judged.labels, s.prior.grid)
    columns = moments.to_columns(judged.achieved)
    return {
        "verdict": Outcome.GENERATED,
        "reason": judged.miss.text if judged.miss else "",
        "moments": {name: np.asarray(values).tolist() for name, values in columns.items()},
        "residuals": judged.residuals,
        "raw_reasons": _reasons(raw),
        "reasons": _reasons(judged.verdict),
        "raw_causes": _causes(raw),
        "causes": _causes(judged.verdict),
        "seconds": round(seconds, 3),
    }


def _reasons(verdict: topology.Verdict | None) -> list[str]:
    return list(verdict.reasons) if verdict else [judging.DIVERGED.text]


def _causes(verdict: topology.Verdict | None) -> list[str]:
    return list(verdict.failed_rules) if verdict else [judging.DIVERGED.reason]


def table(arm: Arm, records: list[dict], targets: list[pd.DataFrame]) -> pd.DataFrame:
    """One row per sample and structure: `table_columns.SAMPLES`, then file, size and sha256 of the label map.

    residual_sd: the worst residual of what the structure constrains, in reference standard deviations.
    seconds: of the processor, the gate included. ended: why a sample is none, or misses its target by far; ""
    otherwise. reasons: of the gate, as JSON, before the bounded repairs (raw) and after. causes: the same by
    name, as JSON: ids of the rules that the sample breaks, or the reason that there is no sample.
    """
    blocks = []
    for index, (record, rows) in enumerate(zip(records, targets, strict=True)):
        block = pd.DataFrame({"structure": list(rows["structure"]), "constrained": list(rows["constrained"])})
        block.insert(0, "sample", index)
        block.insert(0, "arm", arm.name)
        for name in moments.MOMENT_COLUMNS:
            block[name] = record["moments"][name] if "moments" in record else np.nan
            block[f"target_{name}"] = rows[name].to_numpy()
        worst = {}
        for key, value in record.get("residuals", {}).items():
            structure = key.partition(".")[0]
            worst[structure] = max(value, worst.get(structure, 0.0))
        block["residual_sd"] = [worst.get(name, np.nan) for name in rows["structure"]]
        ended = ending_of(record)
        block["ended"] = ended.text
        for name in ("raw_reasons", "reasons"):
            block[name] = json.dumps(record.get(name, [ended.text]))
        for name in ("raw_causes", "causes"):
            block[name] = json.dumps(record.get(name, [ended.reason]))
        block["seconds"] = record.get("seconds", np.nan)
        blocks.append(block.assign(**artifacts.listed_in(record)))
    return pd.concat(blocks, ignore_index=True)
