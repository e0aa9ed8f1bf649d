"""The figures of a bundle's card: reconstructions, unguided samples, nearest hearts (prior stage)."""

import numpy as np
import pandas as pd
import torch

from .. import topology
from ..anatomy.bundle_metadata import trained_on
from ..anatomy.folder import OF_HEARTS
from ..anatomy.labels import Anatomy
from ..diffusion import edm
from ..diffusion.bundle import Prior
from ..diffusion.networks import to_blocks, to_occupancy
from ..metrics.overlap import dice

NOT_CLINICAL = "Not for clinical use."


def reconstruct(autoencoder, labels: np.ndarray, channels: int) -> np.ndarray:
    """Label map decoded from its own latent mean, (X, Y, Z)."""
    device = next(autoencoder.parameters()).device
    with torch.no_grad():
        blocks = to_blocks(torch.from_numpy(labels)[None]).to(device)
        mean, _ = autoencoder.encode(to_occupancy(blocks, channels))
        return autoencoder.labels(mean)[0].cpu().numpy()


def mean_dice(hearts: dict[str, np.ndarray], others: dict[str, np.ndarray], anatomy: Anatomy) -> dict:
    """Mean over hearts of the Dice of every structure with the heart of the same name in `others`."""
    scores = np.mean([dice(labels, others[name], anatomy) for name, labels in hearts.items()], axis=0)
    return {name: round(float(score), 4) for name, score in zip(anatomy.structures, scores, strict=True)}


def unguided(prior: Prior, n: int, seed: int, steps: int = 30) -> list[np.ndarray]:
    """`n` samples of the prior without any guidance, each from its own seed."""
    from ..diffusion.sampler import sample

    sigmas, out = edm.schedule(steps, 0.02, 30.0), []
    for index in range(n):
        noise = np.random.default_rng([seed, index]).standard_normal((1, *prior.latent_shape))
        with torch.no_grad():
            noise = torch.tensor(noise, dtype=torch.float32, device=prior.device)
            z = sample(prior.denoise, prior.start(noise, sigmas[0]), sigmas)
            out.append(prior.labels(z)[0].cpu().numpy())
    return out


def gate_table(hearts: list[np.ndarray], prior: Prior, rules: topology.Rules) -> pd.DataFrame:
    """Verdict of the topology gate on each heart, before and after the bounded repairs."""
    rows, spacing = [], prior.grid.spacing_mm
    for labels in hearts:
        raw = topology.examine(labels, spacing, prior.anatomy, rules)
        _, _, after = topology.judge(labels, spacing, prior.anatomy, rules, raw)
        rows.append({"raw": raw.accepted, "repaired": after.accepted, "reasons": "; ".join(after.reasons)})
    return pd.DataFrame(rows)


def nearest_dice(hearts: list[np.ndarray], training: list[np.ndarray], anatomy: Anatomy) -> np.ndarray:
    """Largest mean Dice of each heart with any training heart, on every second voxel: (n,)."""
    mine, theirs = (np.stack([h[::2, ::2, ::2].ravel() for h in some]) for some in (hearts, training))
    mean = np.zeros((len(mine), len(theirs)))
    for k in range(1, anatomy.n_channels):
        a, b = mine == k, theirs == k
        shared = a.any(0) & b.any(0)
        # the overlaps of all pairs at once; voxel counts are exact in float32
        overlap = a[:, shared].astype(np.float32) @ b[:, shared].astype(np.float32).T
        mean += 2 * overlap / np.maximum(a.sum(1)[:, None] + b.sum(1), 1)
    return mean.max(1) / (anatomy.n_channels - 1)


def markdown(figures: dict, card: dict) -> str:
    """The model card, every number from `figures` (card.json) and `card` (bundle.json)."""
    training, names = card["training"], card["anatomy"]["structures"]
    hearts = set(OF_HEARTS) <= set(names)
    source, variation = trained_on(training, hearts)
    one, several = ("heart", "hearts") if hearts else ("label map", "label maps")
    columns = {f"held-out {several}": figures["reconstruction_dice_held_out"]}
    left_out = "No autoencoder was trained without a template for this card."
    if "reconstruction_dice_left_out" in figures:
        columns["left-out template"] = figures["reconstruction_dice_left_out"]
        columns["its deformations"] = figures["reconstruction_dice_left_out_deformed"]
        left_out = (
            f"Left out: a second autoencoder ({_run(training['autoencoder_left_out'])}) that never saw\n"
            f"{', '.join(training['leave_out'])} or its deformations."
        )
    rows = [f"| {name} | " + " | ".join(f"{c[name]:.3f}" for c in columns.values()) + " |" for name in names]
    table = "\n".join([f"| structure | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|", *rows])
    near, held = (figures[f"nearest_training_dice_{k}"] for k in ("samples", "held_out"))
    return f"""# Card of the prior `{card["name"]}`

Trained on {source}:
{training["n"]} label maps, {figures["held_out_hearts"]} of them held out.
**Not a clinical population**: {variation}. {NOT_CLINICAL} Weights sha256 `{figures["weights_sha256"]}`.

{_history(card)}

## Reconstruction, Dice at full resolution

{left_out}

{table}

Of the reconstructions of held-out {several},
{100 * figures["reconstruction_pass_share"]:.0f} % pass the topology gate after its repairs.

## Unguided samples

{figures["unguided_samples"]} samples, 30 steps:
{100 * figures["unguided_pass_share"]:.0f} % pass the topology gate as they are,
{100 * figures["unguided_pass_share_after_repairs"]:.0f} % after its bounded repairs.

## Nearest training {one}

Mean Dice over structures with the most similar training {one} (quartiles, largest). Samples that were copies
would lie near 1; held-out {several} show what new {several} of the same population have.

| | 25 % | median | 75 % | largest |
|---|---|---|---|---|
| unguided samples | {near["q25"]:.3f} | {near["q50"]:.3f} | {near["q75"]:.3f} | {near["q100"]:.3f} |
| held-out {several} | {held["q25"]:.3f} | {held["q50"]:.3f} | {held["q75"]:.3f} | {held["q100"]:.3f} |
"""


def _history(card: dict) -> str:
    """The training runs that led to a bundle, the first first."""
    training = card["training"]
    start = training.get("warm_start")
    before = (
        f"{_history(start)}\n\nThen, from those weights (sha256 `{start['weights_sha256']}`):\n"
        if start
        else ""
    )
    taken = [", ".join(names) or "all" for names in training.get("focus", [])]  # bundles of version 1
    return before + (
        (f"The denoiser's cycles took deformations of {'; then '.join(taken)}.\n" if taken else "")
        + f"Optimiser steps: autoencoder {_run(training['autoencoder'])},\n"
        f"denoiser {_run(training['denoiser'])}; {training['machine']}.\n"
        f"Code: commit `{training['commit'] or 'not recorded'}`."
    )


def _run(fit: dict) -> str:
    cycles = " + ".join(map(str, fit["cycles"]))
    limit = f", at most {fit['max_minutes']:g} minutes" if fit.get("max_minutes") else ""
    return f"{cycles} steps of {fit['batch']}{limit}" if cycles else "kept"
