"""Training of the autoencoder and of the denoiser (prior stage).

Deterministic by seed and resumable: what a step sees depends on (seed, step) alone, checkpoints are
safetensors (weights, EMA, optimiser moments) with a JSON header, written whole or not at all, and a
killed run continues from the last one to the same result (same machine and thread count).
"""

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from .. import files
from ..errors import InputError
from ..labelmap import read_label_map
from . import edm
from .device import autocast
from .networks import REFINEMENT, Autoencoder, Denoiser

log = logging.getLogger(__name__)
CHECKPOINT_EVERY_S = 120


@dataclass(frozen=True)
class FitSettings:
    """One training run: cosine cycles of the learning rate, each with a warm-up of 2 % of its steps.

    Further cycles are warm restarts (Loshchilov and Hutter, ICLR 2017): they train a finished run on.
    """

    cycles: tuple[int, ...]
    batch: int
    learning_rate: float
    seed: int
    weight_decay: float = 0.01
    ema: float = 0.998

    @property
    def steps(self) -> int:
        return sum(self.cycles)

    def rate(self, step: int) -> float:
        """Learning rate of a step, 0-based."""
        for length in self.cycles:
            if step < length:
                break
            step -= length
        warm = min(1.0, (step + 1) / max(20, length // 50))
        return self.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / length)))


def load_occupancies(folder: Path, hearts: pd.DataFrame, anatomy) -> np.ndarray:
    """Occupancies of the listed hearts as counts of fine voxels, (N, K+1, n, n, n) uint8.

    Raises InputError for a file that is not the one its table lists.
    """
    out = None
    for i, row in enumerate(hearts.itertuples()):
        path = files.check_file(folder / row.file, row.size, row.sha256)
        counts = count_cells(read_label_map(path, anatomy).labels, anatomy.n_channels)
        if out is None:
            out = np.empty((len(hearts), *counts.shape), dtype=np.uint8)
        out[i] = counts
    if out is None:
        raise InputError(f"{folder}: no heart to train on; see hearts.tsv beside it for the reasons")
    return out


def save_network(path: Path, network, extra: dict[str, torch.Tensor] | None = None) -> None:
    """Weights as bfloat16 (what networks run in, and half the size), `extra` tensors as they are."""
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in network.state_dict().items()}
    with files.atomic_path(path) as temporary:
        save_file(tensors | (extra or {}), temporary)


def load_network(path: Path, network, extra: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Load weights written by `save_network` into `network`; returns the `extra` tensors."""
    tensors = load_file(path)
    kept = {name: tensors.pop(name) for name in extra}
    network.load_state_dict({k: v.float() for k, v in tensors.items()})
    network.to(memory_format=torch.channels_last_3d).eval().requires_grad_(False)
    return kept


def count_cells(labels: np.ndarray, channels: int) -> np.ndarray:
    """Voxels of each label in every cell of REFINEMENT^3 voxels: (channels, n, n, n) uint8."""
    r = REFINEMENT
    blocks = labels.reshape(*(part for n in labels.shape for part in (n // r, r)))
    blocks = blocks.transpose(0, 2, 4, 1, 3, 5).reshape(*(n // r for n in labels.shape), r**3)
    return np.stack([(blocks == k).sum(-1, dtype=np.uint8) for k in range(channels)])


def as_occupancy(counts: np.ndarray) -> torch.Tensor:
    """Counts (B, C, n, n, n) uint8 -> occupancies float32 in [0, 1], channels last in memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(counts)).float() / REFINEMENT**3
    return tensor.contiguous(memory_format=torch.channels_last_3d)


def train_autoencoder(network: Autoencoder, counts: np.ndarray, s: FitSettings, folder: Path, device: str):
    """Minimise cross-entropy on soft occupancies + 0.5 soft Dice + 1e-3 KL; returns the EMA network."""

    def objective(step: int) -> torch.Tensor:
        rng = np.random.default_rng([s.seed, step])
        target = as_occupancy(counts[rng.choice(len(counts), s.batch)]).to(device)
        with autocast(device):
            mean, log_variance = network.encode(target)
            noise = torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32)).to(device)
            logits = network.decode(mean + (0.5 * log_variance).exp() * noise)
        cross_entropy = -(target * F.log_softmax(logits, dim=1)).sum(1).mean()
        occupancy = logits.softmax(1)
        overlap = 2 * (occupancy * target).sum((2, 3, 4)) + 1
        dice = 1 - (overlap / (occupancy.sum((2, 3, 4)) + target.sum((2, 3, 4)) + 1)).mean()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        return cross_entropy + 0.5 * dice + 1e-3 * divergence

    return _fit(network, objective, s, folder)


def train_denoiser(
    network: Denoiser,
    latents: torch.Tensor,
    s: FitSettings,
    folder: Path,
    device: str,
    focus: torch.Tensor | None = None,
):
    """EDM training on standardised latents (N, L, m, m, m); returns the EMA network.

    `focus` (M, L, m, m, m) replaces the latents in the last cycle: a prior that is first trained on all
    hearts, then on those it is to resemble.
    """
    denoise = edm.precondition(network)
    focus_from = s.steps if focus is None else s.steps - s.cycles[-1]

    def objective(step: int) -> torch.Tensor:
        rng = np.random.default_rng([s.seed, step])
        seen = latents if step < focus_from else focus
        clean = seen[rng.choice(len(seen), s.batch)].to(device)
        sigma = np.exp(edm.NOISE_MEAN + edm.NOISE_SD * rng.standard_normal(s.batch)).astype(np.float32)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        with autocast(device):
            return edm.loss(denoise, clean, torch.from_numpy(sigma).to(device), noise).mean()

    return _fit(network, objective, s, folder)


def encode_all(network: Autoencoder, counts: np.ndarray, device: str) -> torch.Tensor:
    """Latent means (N, L, m, m, m) float32 on the CPU."""
    out = []
    with torch.no_grad(), autocast(device):
        for start in range(0, len(counts), 8):
            out.append(network.encode(as_occupancy(counts[start : start + 8]).to(device))[0].float().cpu())
    return torch.cat(out)


def standardise(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel, each (L, 1, 1, 1)."""
    per_channel = latents.transpose(0, 1).flatten(1)
    return per_channel.mean(1)[:, None, None, None], per_channel.std(1)[:, None, None, None]


def _fit(network, objective: Callable[[int], torch.Tensor], s: FitSettings, folder: Path):
    network.to(memory_format=torch.channels_last_3d).train()
    ema = copy.deepcopy(network).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
    path, losses = folder / "checkpoint.safetensors", []
    first = _resume(path, network, ema, optimiser, s, losses)
    started = saved = time.monotonic()
    for step in range(first, s.steps):
        for group in optimiser.param_groups:
            group["lr"] = s.rate(step)
        loss = objective(step)
        if not torch.isfinite(loss):
            raise InputError(f"training diverged at step {step}: lower learning_rate ({s.learning_rate})")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(s.ema, (1 + step) / (10 + step))
        for kept, new in zip(ema.parameters(), network.parameters(), strict=True):
            kept.lerp_(new.detach(), 1 - decay)
        losses.append(float(loss.detach()))
        if (step + 1) % 50 == 0 or step + 1 == s.steps:
            pace = (time.monotonic() - started) / (step + 1 - first)
            left = pace * (s.steps - step - 1) / 60
            log.info("step %d/%d loss %.4f, %.2f s a step, %.0f min left",
                     step + 1, s.steps, np.mean(losses[-50:]), pace, left)  # fmt: skip
        if time.monotonic() - saved > CHECKPOINT_EVERY_S or step + 1 == s.steps:
            _save(path, network, ema, optimiser, s, losses)
            saved = time.monotonic()
    return ema, losses


def _save(path, network, ema, optimiser, s, losses):
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{k}": v for k, v in state.items()}
    header = {"settings": json.dumps(asdict(s)), "losses": json.dumps(losses)}
    with files.atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata=header)


def _resume(path, network, ema, optimiser, s, losses: list) -> int:
    """Load a checkpoint of the same settings, if there is one; returns the step to go on from."""
    try:
        with safe_open(path, framework="pt") as checkpoint:
            header = checkpoint.metadata()
            if header["settings"] != json.dumps(asdict(s)):
                return 0
            tensors = {k: checkpoint.get_tensor(k) for k in checkpoint.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, KeyError, ValueError):
        return 0
    losses.extend(json.loads(header["losses"]))
    for name, module in (("network.", network), ("ema.", ema)):
        module.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
    state = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    log.info("going on from step %d", len(losses))
    return len(losses)
