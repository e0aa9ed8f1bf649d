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
from .networks import CERTAIN, Autoencoder, Denoiser, to_blocks, to_occupancy

log = logging.getLogger(__name__)
CHECKPOINT_EVERY_S = 120
DETAIL_CELLS = 2048  # refined in a step, a heart
DETAIL_WEIGHT = 0.2


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

    def cycle(self, step: int) -> int:
        """The cycle that a step belongs to, both 0-based."""
        return int(np.searchsorted(np.cumsum(self.cycles), step, side="right"))

    def rate(self, step: int) -> float:
        """Learning rate of a step, 0-based."""
        cycle = self.cycle(step)
        length, step = self.cycles[cycle], step - sum(self.cycles[:cycle])
        warm = min(1.0, (step + 1) / max(20, length // 50))
        return self.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / length)))


def read_hearts(table: Path, anatomy, leave_out: tuple[str, ...] = ()) -> tuple[pd.DataFrame, torch.Tensor]:
    """The hearts to train on, from hearts.tsv: their rows and their voxels as blocks (N, R^3, n, n, n) uint8.

    leave_out: origins that are not used. Raises InputError for a file that is not the one the table lists.
    """
    hearts = pd.read_csv(table, sep="\t", keep_default_na=False)
    used = hearts[(hearts["split"] == "train") & (hearts["verdict"] == "accepted")]
    used = used[~used["origin"].isin(leave_out)]
    if used.empty:
        raise InputError(f"{table}: no heart to train on; column 'reason' says why each was refused")
    used = used.assign(size=pd.to_numeric(used["size"]).astype(int))  # refused hearts have none
    out = None
    for i, row in enumerate(used.itertuples()):
        path = files.check_file(table.parent / "hearts" / row.file, row.size, row.sha256)
        blocks = to_blocks(torch.from_numpy(read_label_map(path, anatomy).labels)[None])[0]
        if out is None:
            out = torch.empty((len(used), *blocks.shape), dtype=torch.uint8)
        out[i] = blocks
    return used, out


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


def train_autoencoder(
    network: Autoencoder, blocks: torch.Tensor, channels: int, s: FitSettings, folder: Path, device: str
):
    """Minimise cross-entropy on soft occupancies + 0.5 soft Dice + 1e-3 KL + DETAIL_WEIGHT cross-entropy of
    voxels in cells that are mixed or uncertain; returns the EMA network.
    """

    def objective(step: int) -> torch.Tensor:
        rng = np.random.default_rng([s.seed, step])
        voxels = blocks[rng.choice(len(blocks), s.batch)].to(device)
        target = to_occupancy(voxels, channels)
        with autocast(device):
            mean, log_variance = network.encode(target)
            noise = torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32)).to(device)
            latent = mean + (0.5 * log_variance).exp() * noise
            logits, features = network.decode_with_features(latent)
        log_occupancy = F.log_softmax(logits, dim=1)
        occupancy = log_occupancy.exp()
        cross_entropy = -(target * log_occupancy).sum(1).mean()
        overlap = 2 * (occupancy * target).sum((2, 3, 4)) + 1
        dice = 1 - (overlap / (occupancy.sum((2, 3, 4)) + target.sum((2, 3, 4)) + 1)).mean()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()

        certain = torch.minimum(target.amax(1), occupancy.detach().amax(1)) >= CERTAIN
        cells = torch.nonzero(~certain)
        cells = cells[torch.from_numpy(rng.integers(len(cells), size=s.batch * DETAIL_CELLS)).to(device)]
        b, x, y, z = cells.unbind(1)
        with autocast(device):
            detail = network.detail(features, logits, (b, x, y, z))
        fine = F.cross_entropy(detail.flatten(0, 1), voxels[b, :, x, y, z].flatten().long())
        return cross_entropy + 0.5 * dice + 1e-3 * divergence + DETAIL_WEIGHT * fine

    return _fit(network, objective, s, folder)


def train_denoiser(network: Denoiser, pools: list[torch.Tensor], s: FitSettings, folder: Path, device: str):
    """EDM training on standardised latents; returns the EMA network.

    `pools` are the latents (N, L, m, m, m) of each cycle: a prior can first be trained on all hearts, then on
    those that it is to resemble.
    """
    denoise = edm.precondition(network)

    def objective(step: int) -> torch.Tensor:
        rng = np.random.default_rng([s.seed, step])
        seen = pools[s.cycle(step)]
        clean = seen[rng.choice(len(seen), s.batch)].to(device)
        sigma = np.exp(edm.NOISE_MEAN + edm.NOISE_SD * rng.standard_normal(s.batch)).astype(np.float32)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        with autocast(device):
            return edm.loss(denoise, clean, torch.from_numpy(sigma).to(device), noise).mean()

    return _fit(network, objective, s, folder)


def encode_all(network: Autoencoder, blocks: torch.Tensor, channels: int, device: str) -> torch.Tensor:
    """Latent means (N, L, m, m, m) float32 on the CPU."""
    out = []
    with torch.no_grad(), autocast(device):
        for some in blocks.split(8):
            out.append(network.encode(to_occupancy(some.to(device), channels))[0].float().cpu())
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
    """Load a checkpoint of the same settings, if there is one; returns the step to go on from.

    More cycles after those of the checkpoint are no other settings: they train a finished run on.
    """
    try:
        with safe_open(path, framework="pt") as checkpoint:
            header = checkpoint.metadata()
            saved = json.loads(header["settings"])
            cycles = tuple(saved.pop("cycles"))
            if (
                saved != {k: v for k, v in asdict(s).items() if k != "cycles"}
                or s.cycles[: len(cycles)] != cycles
            ):
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
