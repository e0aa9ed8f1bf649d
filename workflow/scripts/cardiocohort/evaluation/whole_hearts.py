"""Real hearts that a prior has never seen, each asked for by its own moments (evaluation stage).

Beside the guided samples stand three others, to see where overlap is lost: the autoencoder's reconstruction,
the best fit of an atlas, and the nearest training heart grown to the same volumes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import topology
from ..anatomy import moments
from ..anatomy.label_map import LabelMap, write_label_map
from ..anatomy.labels import Anatomy, Grid
from ..atlas import flow, registering
from ..atlas import model as atlas_model
from ..atlas.hearts import read_prepared
from ..atlas.model import Drawer
from ..atlas.registration import LEVELS
from ..diffusion.device import autocast
from ..diffusion.networks import to_blocks, to_occupancy
from ..generation import anatomies
from ..generation.judging import Sampler
from ..label_maps.folder import subject_of
from ..label_maps.importing import repaired
from ..label_maps.on_grid import read_on_grid
from ..label_maps.reading import Convention
from ..metrics.overlap import dice, surface_distance_mm
from ..prior.deformation import DeformationSettings, Growth, deform, make_template
from ..runtime import artifacts
from ..runtime.batch_runner import Task
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome, ending_of

GUIDED, AUTOENCODER, ATLAS, NEAREST = "guided", "autoencoder", "atlas", "nearest"
STILL = DeformationSettings(turn_sd_deg=0, stretch=0, coarse_mm=0, fine_mm=0, growth_steps=8)


@dataclass(frozen=True)
class Opened:
    """What a worker process needs, loaded once."""

    sampler: Sampler
    convention: Convention
    atlas: str | None  # a file of `snakemake atlas`
    training: dict[str, str]  # label maps of training hearts by subject


def open_all(
    bundle, rules, guidance, attempts, device, convention: Convention, atlas: str | None, training: dict
) -> Opened:
    """Initializer of a worker."""
    return Opened(
        anatomies.open_generator(bundle, rules, guidance, attempts, device), convention, atlas, training
    )


def tasks(hearts: dict[str, str], seeds: int, methods: list[str], inputs: str) -> list[Task]:
    """`seeds` guided samples of every heart, and one task of each other method."""
    listed = []
    for name, path in hearts.items():
        own = [inputs, artifacts.sha256(path)]
        for method in methods:
            for seed in range(seeds if method == GUIDED else 1):
                subject = f"{name}-{method}-{seed}"
                payload = (str(path), method, seed)
                listed.append(Task(subject, f"{subject}.nii.gz", artifacts.digest([own, *payload]), payload))
    return listed


def work(s: Opened, path: Path, payload: tuple[str, str, int]) -> dict:
    """Make one heart anew by one method, and compare it with the heart.

    Raises SubjectError for a sample that the gate or its targets refuse, with the attempts in its record.
    """
    source, method, seed = payload
    g = s.sampler
    anatomy, grid = g.prior.anatomy, g.prior.grid
    heart = read(source, anatomy, grid, g.rules, s.convention)
    if method == GUIDED:
        record = _guided(g, path, heart, seed)
        made = read_prepared(path, anatomy)
    else:
        make = {AUTOENCODER: _reconstructed, ATLAS: _fitted, NEAREST: _grown}[method]
        made, record = make(s, heart), {"verdict": Outcome.ACCEPTED, "reason": ""}
        write_label_map(path, made, grid)
    distance = surface_distance_mm(made, heart, anatomy, grid.spacing_mm)
    return record | {"dice": dice(made, heart, anatomy).tolist(), "distance_mm": distance.tolist()}


def read(source, anatomy: Anatomy, grid: Grid, rules: topology.Rules, convention: Convention) -> np.ndarray:
    """Labels (X, Y, Z) of a heart on the grid, repaired as scans are."""
    labels, _ = read_on_grid(source, anatomy, grid, rules, convention)
    whole, _ = repaired(LabelMap(labels, grid.affine()), anatomy, grid, rules)
    return whole.labels


def _guided(g: Sampler, path: Path, heart: np.ndarray, seed: int) -> dict:
    anatomy = g.prior.anatomy
    present = [k for k in range(1, anatomy.n_channels) if (heart == k).any()]
    measured = moments.measure_labels(heart, [(k,) for k in present], g.prior.grid.axes_mm())
    rows = pd.DataFrame(moments.to_columns(measured))
    rows.insert(0, "structure", [anatomy.structures[k - 1] for k in present])
    rows["constrained"] = "size,position,shape"
    (record,) = anatomies.work(g, [path], [(rows.to_dict("records"), seed, "whole_hearts", 0, None)])
    if isinstance(record, SubjectError):
        raise record
    labels = read_prepared(path, anatomy)
    verdict = topology.examine(labels, g.prior.grid.spacing_mm, anatomy, g.rules)
    if not verdict.accepted:
        return record | {"verdict": Outcome.REJECTED, "reason": "; ".join(verdict.reasons)}
    return record | {"verdict": Outcome.ACCEPTED}


def _reconstructed(s: Opened, heart: np.ndarray) -> np.ndarray:
    prior = s.sampler.prior
    target = to_occupancy(to_blocks(torch.from_numpy(heart)[None]).to(prior.device), prior.anatomy.n_channels)
    with torch.no_grad(), autocast(prior.device):
        mean = prior.autoencoder.encode(target)[0].float()
        return prior.labels((mean - prior.mean) / prior.spread)[0].cpu().numpy()


def _fitted(s: Opened, heart: np.ndarray) -> np.ndarray:
    """The atlas's nearest heart: the template's velocity onto this one, projected onto the modes."""
    prior = s.sampler.prior
    anatomy, grid = prior.anatomy, prior.grid
    shape, _ = atlas_model.load(s.atlas, anatomy, grid)
    rotation, velocity = registering.onto(shape.template, heart, anatomy, grid, LEVELS)
    own = flow.upsampled(velocity, shape.mean.shape[1:]).numpy()
    fitted = Drawer(shape, anatomy, grid).labels(shape.coefficients(own))
    return registering.turned_labels(fitted, rotation.T, grid, anatomy)


def _grown(s: Opened, heart: np.ndarray) -> np.ndarray:
    """The training heart that overlaps most, grown to the volumes of this one."""
    anatomy, grid = s.sampler.prior.anatomy, s.sampler.prior.grid
    best, overlap = None, -1.0
    for path in s.training.values():
        labels = read_prepared(path, anatomy)
        now = dice(labels[::2, ::2, ::2], heart[::2, ::2, ::2], anatomy).mean()
        if now > overlap:
            best, overlap = labels, now
    volumes = np.bincount(heart.ravel(), minlength=anatomy.n_channels) * grid.voxel_volume_ml
    growth = Growth({k: volumes[k] for k in range(1, anatomy.n_channels) if volumes[k] > 0}, {})
    template = make_template("nearest", best, anatomy, grid)
    return deform(template, growth, anatomy, np.random.default_rng(0), STILL)


def table(records: list[dict], made_by: list[Task], anatomy: Anatomy) -> pd.DataFrame:
    """One row per sample: heart, method, seed, verdict, attempts, Dice and surface distance by structure."""
    rows = []
    for record, task in zip(records, made_by, strict=True):
        source, method, seed = task.payload
        row = {"heart": subject_of(source), "method": method, "seed": seed}
        row |= {"verdict": str(record["verdict"]), "reason": ending_of(record).text}
        row["attempts"] = record.get("attempts", 0)
        for what in ("dice", "distance_mm"):
            values = record.get(what) or [np.nan] * len(anatomy.structures)
            row |= {f"{what}.{name}": v for name, v in zip(anatomy.structures, values, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame, anatomy: Anatomy) -> pd.DataFrame:
    """By heart and over all, and by method: how many are accepted, mean Dice and distance of the accepted."""
    out = []
    every = [("all", rows), *rows.groupby("heart", sort=True)]
    for heart, part in every:
        for method, own in part.groupby("method", sort=False):
            accepted = own[own["verdict"] == Outcome.ACCEPTED]
            row = {"heart": heart, "method": method, "n": len(own), "accepted": len(accepted)}
            for what in ("dice", "distance_mm"):
                for name in anatomy.structures:
                    row[f"{what}.{name}"] = accepted[f"{what}.{name}"].mean()
            out.append(row)
    return pd.DataFrame(out)
