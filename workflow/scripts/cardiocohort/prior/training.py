"""Training of the autoencoder and of the denoiser (prior stage).

Deterministic by seed and resumable: what a step sees depends on (seed, step) alone, checkpoints are
safetensors (weights, EMA, optimiser moments) with a JSON header, written whole or not at all, and a
killed run continues from the last one to the same result (same machine, threads and processes).
Several processes may share the steps (`processes`). Held-out hearts are looked at now and then: by the
first process, with the averaged weights, and always with the same noise.
"""

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from ..anatomy.label_map import read_label_map
from ..diffusion import conditioning, edm
from ..diffusion.bundle import Prior, load_prior
from ..diffusion.device import autocast
from ..diffusion.networks import CERTAIN, Autoencoder, Denoiser, NetworkSettings, to_blocks, to_occupancy
from ..runtime import artifacts
from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome
from . import checkpoints
from .checkpoints import History
from .distributed import share

log = logging.getLogger(__name__)
CHECKPOINT_EVERY_S = 120
VALIDATE_EVERY = 100  # steps
VALIDATION_HEARTS = 16
VALIDATION_DRAWS = 4  # noise levels of each held-out latent: the loss varies with them
DETAIL_CELLS = 2048  # refined in a step, a heart
DETAIL_WEIGHT = 0.2

Watch = Callable[[torch.nn.Module, History], None]  # the averaged network, after each validation


@dataclass(frozen=True)
class FitSettings:
    """One training run: cosine cycles of the learning rate, each with a warm-up of 2 % of its steps.

    Further cycles are warm restarts (Loshchilov and Hutter, ICLR 2017): they train a finished run on.
    No cycle keeps the network as it came. `start` is the sha256 of the bundle that the network came from,
    empty for random weights. Training ends early after `max_minutes`, those of killed starts included.
    """

    cycles: tuple[int, ...]
    batch: int
    learning_rate: float
    seed: int
    start: str = ""
    max_minutes: float | None = None
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


def read_hearts(
    table: Path, anatomy, leave_out: tuple[str, ...] = (), split: str = "train", most: int | None = None
) -> tuple[pd.DataFrame, torch.Tensor]:
    """The hearts of a split, from hearts.tsv: their rows and their voxels as blocks (N, R^3, n, n, n) uint8.

    leave_out: origins that are not used. Of more than `most` hearts, as many spread over the table. Raises
    InputError if there is none, and for a file that is not the one the table lists.
    """
    hearts = pd.read_csv(table, sep="\t", keep_default_na=False, dtype={"subject": str})
    used = hearts[(hearts["split"] == split) & (hearts["verdict"] == Outcome.ACCEPTED)]
    used = used[~used["origin"].isin(leave_out)]
    if used.empty:
        raise InputError(
            f"{table}: no heart with split {split!r}; column 'reason' says why each was refused, config key "
            "'prior.held_out_share' how many of the others are held out"
        )
    if most is not None and len(used) > most:
        used = used.iloc[np.linspace(0, len(used) - 1, most).round().astype(int)]
    used = used.assign(size=pd.to_numeric(used["size"]).astype(int))  # refused hearts have none
    out = None
    for i, row in enumerate(used.itertuples()):
        path = artifacts.check_file(table.parent / "hearts" / row.file, row.size, row.sha256)
        blocks = to_blocks(torch.from_numpy(read_label_map(path, anatomy).labels)[None])[0]
        if out is None:
            out = torch.empty((len(used), *blocks.shape), dtype=torch.uint8)
        out[i] = blocks
    return used, out


def start_from(card: str | list | None, networks: NetworkSettings) -> Prior | None:
    """The prior of a bundle.json, whose weights training starts from, or None.

    A denoiser that takes heat maps can start from one that does not: their weights are zero at first.
    Raises InputError if its networks are others.
    """
    if not card:  # Snakemake gives an input that is not there as an empty list
        return None
    prior = load_prior(Path(card).parent, "cpu")
    trained = NetworkSettings(**prior.card["networks"])
    if replace(trained, condition_channels=networks.condition_channels) != networks or (
        trained.condition_channels and trained != networks
    ):
        raise InputError(
            f"{card}: its networks are {prior.card['networks']}; config key 'prior.networks' and the grid of "
            f"'prior.anatomy' need {networks.to_dict()}: they must be the same to start from its weights"
        )
    if trained != networks:
        denoiser = Denoiser(networks)
        state = prior.denoiser.state_dict()
        stem = torch.zeros_like(denoiser.stem.weight)
        stem[:, : state["stem.weight"].shape[1]] = state["stem.weight"]
        denoiser.load_state_dict(state | {"stem.weight": stem})
        prior = replace(prior, denoiser=denoiser.to(memory_format=torch.channels_last_3d))
    return prior


def save_network(path: Path, network, extra: dict[str, torch.Tensor] | None = None) -> None:
    """Weights as bfloat16 (what networks run in, and half the size), `extra` tensors as they are."""
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in network.state_dict().items()}
    with artifacts.atomic_path(path) as temporary:
        save_file(tensors | (extra or {}), temporary)


def load_network(path: Path, network, extra: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Load weights written by `save_network` into `network`; returns the `extra` tensors."""
    tensors = load_file(path)
    kept = {name: tensors.pop(name) for name in extra}
    network.load_state_dict({k: v.float() for k, v in tensors.items()})
    network.to(memory_format=torch.channels_last_3d).eval().requires_grad_(False)
    return kept


def train_autoencoder(
    network: Autoencoder,
    blocks: torch.Tensor,
    channels: int,
    s: FitSettings,
    folder: Path,
    device: str,
    held_out: torch.Tensor | None = None,
    watch: Watch | None = None,
) -> tuple[Autoencoder, History]:
    """Minimise cross-entropy on soft occupancies + 0.5 soft Dice + 1e-3 KL + DETAIL_WEIGHT cross-entropy of
    voxels in cells that are mixed or uncertain; returns the EMA network.

    blocks: voxels to train on (N, R^3, n, n, n); held_out: those of hearts to validate by, if any.
    """
    mine = share().of(s.batch)

    def loss_of(network, voxels, rng: np.random.Generator, n: int, part: slice) -> torch.Tensor:
        """Of the hearts that are a part of n: all draw alike, whatever the number of processes."""
        voxels = voxels.to(device)
        target = to_occupancy(voxels, channels)
        with autocast(device):
            mean, log_variance = network.encode(target)
            noise = rng.standard_normal((n, *mean.shape[1:]), dtype=np.float32)[part]
            latent = mean + (0.5 * log_variance).exp() * torch.from_numpy(noise).to(device)
            logits, features = network.decode_with_features(latent)
        log_occupancy = F.log_softmax(logits, dim=1)
        occupancy = log_occupancy.exp()
        cross_entropy = -(target * log_occupancy).sum(1).mean()
        overlap = 2 * (occupancy * target).sum((2, 3, 4)) + 1
        dice = 1 - (overlap / (occupancy.sum((2, 3, 4)) + target.sum((2, 3, 4)) + 1)).mean()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()

        certain = torch.minimum(target.amax(1), occupancy.detach().amax(1)) >= CERTAIN
        b, x, y, z = _draw(~certain, rng.random((n, DETAIL_CELLS))[part])
        with autocast(device):
            detail = network.detail(features, logits, (b, x, y, z))
        labels = voxels[b, :, x, y, z].flatten().long()
        # the mean, 0 where no cell is mixed
        fine = F.cross_entropy(detail.flatten(0, 1), labels, reduction="sum") / max(1, len(labels))
        return cross_entropy + 0.5 * dice + 1e-3 * divergence + DETAIL_WEIGHT * fine

    def objective(step: int) -> torch.Tensor:
        rng = np.random.default_rng([s.seed, step])
        voxels = blocks[rng.choice(len(blocks), s.batch)[mine]]
        return loss_of(network, voxels, rng, s.batch, mine)

    def validate(averaged: Autoencoder) -> float:
        rng = np.random.default_rng([s.seed, 0, 1])
        losses = [loss_of(averaged, voxels, rng, 1, slice(0, 1)) for voxels in held_out.split(1)]
        return float(torch.stack(losses).mean())

    made_of = checkpoints.digest_of(network, blocks)
    return _fit(network, objective, s, folder, made_of, validate if held_out is not None else None, watch)


def _draw(eligible: torch.Tensor, uniform: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Indices (b, x, y, z) of cells drawn with replacement from the eligible ones of each heart.

    eligible (B, n, n, n) bool; uniform (B, K) in [0, 1) picks K of each. A heart without any gives none.
    """
    drawn = []
    for b, (heart, places) in enumerate(zip(eligible, uniform, strict=True)):
        cells = torch.nonzero(heart)
        picked = torch.from_numpy((places * len(cells)).astype(np.int64)).to(cells.device)
        cells = cells[picked[: len(places) if len(cells) else 0]]
        drawn.append(torch.cat([torch.full_like(cells[:, :1], b), cells], dim=1))
    return torch.cat(drawn).unbind(1)


def train_denoiser(
    network: Denoiser,
    latents: torch.Tensor,
    s: FitSettings,
    folder: Path,
    device: str,
    heat_maps: torch.Tensor | None = None,
    held_out: tuple[torch.Tensor, torch.Tensor | None] | None = None,
    watch: Watch | None = None,
) -> tuple[Denoiser, History]:
    """EDM training on standardised latents; returns the EMA network.

    latents (N, L, m, m, m); heat_maps (N, K, m, m, m) of the same hearts, for a conditioned network
    (`conditioning`). held_out: latents to validate by, if any, and their heat maps.
    """
    mine = share().of(s.batch)

    def loss_of(network, clean, maps, sigma: np.ndarray, noise: np.ndarray) -> torch.Tensor:
        maps = None if maps is None else maps.to(device)
        denoise = edm.precondition(lambda x, level: network(x, level, maps))
        sigma, noise = (torch.from_numpy(array).to(device) for array in (sigma, noise))
        with autocast(device):
            return edm.loss(denoise, clean.to(device), sigma, noise)

    def randomness(rng: np.random.Generator, n: int, shape: torch.Size) -> tuple[np.ndarray, np.ndarray]:
        sigma = np.exp(edm.NOISE_MEAN + edm.NOISE_SD * rng.standard_normal(n)).astype(np.float32)
        return sigma, rng.standard_normal((n, *shape), dtype=np.float32)

    def objective(step: int) -> torch.Tensor:
        rng = np.random.default_rng([s.seed, step])
        drawn = rng.choice(len(latents), s.batch)
        clean = latents[drawn[mine]]
        sigma, noise = randomness(rng, s.batch, clean.shape[1:])
        maps = None
        if heat_maps is not None:
            kept = conditioning.draw_kept(rng, s.batch, heat_maps.shape[1])
            maps = heat_maps[drawn[mine]] * kept[mine]
        return loss_of(network, clean, maps, sigma[mine], noise[mine]).mean()

    def validate(averaged: Denoiser) -> float:
        rng, losses = np.random.default_rng([s.seed, 0, 1]), []
        unseen, maps = held_out
        for i in range(len(unseen)):
            clean = unseen[i : i + 1].expand(VALIDATION_DRAWS, *[-1] * 4)
            of_heart = None if maps is None else maps[i : i + 1].expand(VALIDATION_DRAWS, *[-1] * 4)
            losses.append(loss_of(averaged, clean, of_heart, *randomness(rng, len(clean), clean.shape[1:])))
        return float(torch.cat(losses).mean())

    made_of = checkpoints.digest_of(network, latents, *([] if heat_maps is None else [heat_maps]))
    return _fit(network, objective, s, folder, made_of, validate if held_out is not None else None, watch)


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


def _fit(
    network,
    objective: Callable[[int], torch.Tensor],
    s: FitSettings,
    folder: Path,
    made_of: str,
    validate: Callable[[torch.nn.Module], float] | None,
    watch: Watch | None,
):
    network.to(memory_format=torch.channels_last_3d).train()
    ema = copy.deepcopy(network).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
    path, history = folder / "checkpoint.safetensors", History()
    first, minutes = checkpoints.resume(path, network, ema, optimiser, s, history, made_of)
    saved = time.monotonic()
    started = saved - 60 * minutes
    shared = share()
    for step in range(first, s.steps):
        if s.max_minutes is not None and shared.agree(minutes) >= s.max_minutes:
            log.warning("ended after %d of %d steps: max_minutes is %g", step, s.steps, s.max_minutes)
            checkpoints.save(path, network, ema, optimiser, s, history, minutes, made_of)
            break
        for group in optimiser.param_groups:
            group["lr"] = s.rate(step)
        loss = objective(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        loss = loss.detach()
        shared.average([loss, *(p.grad for p in network.parameters() if p.grad is not None)])
        if not torch.isfinite(loss):
            raise InputError(f"training diverged at step {step}: lower learning_rate ({s.learning_rate})")
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(s.ema, (1 + step) / (10 + step))
        for kept, new in zip(ema.parameters(), network.parameters(), strict=True):
            kept.lerp_(new.detach(), 1 - decay)
        history.losses.append(float(loss))
        if validate and shared.first and ((step + 1) % VALIDATE_EVERY == 0 or step + 1 == s.steps):
            with torch.no_grad():
                history.validation[step + 1] = validate(ema)
            log.info(
                "step %d/%d loss of held-out hearts %.4f", step + 1, s.steps, history.validation[step + 1]
            )
            if watch:
                watch(ema, history)
        minutes = (time.monotonic() - started) / 60
        if (step + 1) % 50 == 0 or step + 1 == s.steps:
            pace = minutes / (step + 1)
            log.info("step %d/%d loss %.4f, %.2f s a step, %.0f min left", step + 1, s.steps,
                     np.mean(history.losses[-50:]), 60 * pace, pace * (s.steps - step - 1))  # fmt: skip
        if time.monotonic() - saved > CHECKPOINT_EVERY_S or step + 1 == s.steps:
            checkpoints.save(path, network, ema, optimiser, s, history, minutes, made_of)
            saved = time.monotonic()
    return ema, history
