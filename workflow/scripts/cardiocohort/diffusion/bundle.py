"""The bundle on disk: bundle.json, weights.safetensors, reference moments (prior stage; read by generation).

Only safetensors are read, never a pickle; names, shapes and digests are checked before use.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..anatomy.bundle_metadata import FORMAT, read_anatomy, read_card
from ..anatomy.labels import Anatomy, Grid
from ..runtime import artifacts
from ..runtime.errors import InputError
from . import edm
from .device import autocast, number_format
from .first_level import LatentGaussian
from .networks import REFINEMENT, SMALLEST_BFLOAT16, Autoencoder, Denoiser, NetworkSettings, trilinear_weights

FLOATS = ("F32", "BF16", "F16")
POPULATION = ("population.mean", "population.modes")  # tensors that a bundle may have
# least, most and what it is a multiple of: normalisation works on groups of 8, attention on 4 heads
NETWORK_SIZES = {
    "channels": (2, 256, 1),
    "cells": (8, 256, 8),
    "latent_channels": (1, 256, 1),
    "fine_width": (8, 2048, 8),
    "coarse_width": (8, 2048, 8),
    "detail_width": (1, 2048, 1),
    "denoiser_width": (8, 4096, 8),
    "denoiser_depth": (0, 64, 1),
    "condition_channels": (0, 256, 1),
}


@dataclass(frozen=True)
class Prior:
    """A loaded bundle: the clean-estimate function D(z, sigma) and the decoder, in latent units.

    Latents are standardised per channel; `latent_shape` is (L, m, m, m).
    """

    anatomy: Anatomy
    grid: Grid
    latent_shape: tuple[int, int, int, int]
    autoencoder: Autoencoder
    denoiser: Denoiser
    mean: torch.Tensor
    spread: torch.Tensor
    device: str
    card: dict
    population: LatentGaussian | None = None

    def start(self, noise: torch.Tensor, sigma: float) -> torch.Tensor:
        """Where sampling starts, in units of its first level, from noise (B, L, m, m, m) of unit variance.

        The noise itself for a bundle that does not describe its population's latents (`first_level`).
        """
        return noise if self.population is None else self.population.start(noise, sigma)

    def denoise(
        self, z: torch.Tensor, sigma: torch.Tensor, condition: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Clean estimate of z (B, L, m, m, m) at noise levels sigma (B,), float32.

        condition: heat maps (`conditioning`), for a denoiser that was trained with them.
        """
        with autocast(self.device):
            return edm.precondition(lambda x, level: self.denoiser(x, level, condition))(z, sigma)

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (B, K+1, n, n, n) of clean latents."""
        with autocast(self.device):
            return self.autoencoder.decode(z * self.spread + self.mean)

    def labels(self, z: torch.Tensor) -> torch.Tensor:
        """Label maps (B, X, Y, Z) uint8 of clean latents."""
        with autocast(self.device):
            return self.autoencoder.labels(z * self.spread + self.mean)

    @property
    def cell_axes_mm(self):
        """Coordinates of the occupancy cells' centres, float32 tensors on the device."""
        return tuple(
            torch.tensor(a, dtype=torch.float32, device=self.device) for a in self.grid.axes_mm(REFINEMENT)
        )


def save_bundle(
    folder: Path, card: dict, autoencoder, denoiser, mean, spread, population: LatentGaussian | None = None
) -> None:
    """Write weights.safetensors (bfloat16) and bundle.json with its digest."""
    tensors = {f"autoencoder.{k}": v for k, v in autoencoder.state_dict().items()}
    tensors |= {f"denoiser.{k}": v for k, v in denoiser.state_dict().items()}
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in tensors.items()}
    tensors |= {"latent.mean": mean.contiguous(), "latent.spread": spread.contiguous()}
    if population is not None:
        tensors |= {name: getattr(population, name.split(".")[1]).half().contiguous() for name in POPULATION}
    weights = folder / "weights.safetensors"
    with artifacts.atomic_path(weights) as temporary:
        save_file(tensors, temporary)
    card = {"format": FORMAT, **card, "weights_sha256": artifacts.sha256(weights)}
    artifacts.write_text(folder / "bundle.json", artifacts.readable_json(card))


def load_prior(folder: str | Path, device: str) -> Prior:
    """Load a bundle; InputError naming the file for a wrong digest, a missing or misshapen tensor."""
    folder = Path(folder)
    card = read_card(folder / "bundle.json")
    anatomy, grid = read_anatomy(folder / "bundle.json")
    weights = check_weights(folder, card)
    try:
        settings = NetworkSettings(**card["networks"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}: not a usable bundle ('networks' in bundle.json: {error!r})") from error
    _check_networks(folder, settings, anatomy, grid)
    with torch.device("meta"):
        autoencoder, denoiser = Autoencoder(settings), Denoiser(settings)
    expected = {f"autoencoder.{k}": v.shape for k, v in autoencoder.state_dict().items()}
    expected |= {f"denoiser.{k}": v.shape for k, v in denoiser.state_dict().items()}
    expected |= dict.fromkeys(("latent.mean", "latent.spread"), (settings.latent_channels, 1, 1, 1))
    expected |= _population_shapes(weights, settings.latent_shape)
    tensors = _read_tensors(weights, {name: tuple(shape) for name, shape in expected.items()})
    if not (tensors["latent.spread"] > 0).all():
        raise InputError(f"{weights}: tensor 'latent.spread' has values that are not above 0")
    autoencoder.detail.trilinear = trilinear_weights()  # not saved, and on the meta device so far
    for name, network in (("autoencoder.", autoencoder), ("denoiser.", denoiser)):
        state = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
        network.load_state_dict(state, assign=True)
        network.to(device, memory_format=torch.channels_last_3d).eval().requires_grad_(False)
    mean, spread = (tensors[f"latent.{name}"].to(device) for name in ("mean", "spread"))
    population = None
    if POPULATION[0] in tensors:
        population = LatentGaussian(*(tensors[name].to(device) for name in POPULATION))
        if not (population.modes.flatten(1).norm(dim=1) > 0).all():
            raise InputError(f"{weights}: tensor 'population.modes' has a mode of length 0")
    shape = settings.latent_shape
    return Prior(anatomy, grid, shape, autoencoder, denoiser, mean, spread, device, card, population)


def load_sampler(folder: str | Path, device: str) -> Prior:
    """`load_prior` for sampling alone: layers that multiply hold weights in the format they multiply in.

    Autocast would convert float32 weights anew at every call, which is a fifth of the time of a small
    denoiser. Results are the same to the bit.
    """
    prior = load_prior(folder, device)
    # of fewer cells the denoiser's inner level runs in float32
    if number_format(prior.device) == torch.bfloat16 and prior.latent_shape[1] // 2 >= SMALLEST_BFLOAT16:
        for module in (*prior.autoencoder.modules(), *prior.denoiser.modules()):
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
                module.to(torch.bfloat16)
    return prior


def _population_shapes(weights: Path, latent_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that describe the population's latents; empty for a bundle without them."""
    try:
        with safe_open(weights, framework="pt") as archive:
            names = set(archive.keys()) & set(POPULATION)
            if not names:
                return {}
            n_modes = archive.get_slice(POPULATION[1]).get_shape()[:1] if POPULATION[1] in names else [0]
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights.parent}: not a usable bundle ({error!r})") from error
    return {POPULATION[0]: latent_shape, POPULATION[1]: (*n_modes, *latent_shape)}


def _check_networks(folder: Path, s: NetworkSettings, anatomy: Anatomy, grid: Grid) -> None:
    """InputError unless the networks are of sane sizes and made for the bundle's anatomy and grid.

    Before they are built: an enormous depth would build for ever, an odd width fails inside torch.
    """
    sizes = s.to_dict()
    for name, (least, most, multiple) in NETWORK_SIZES.items():
        n = sizes[name]
        if type(n) is not int or not least <= n <= most or n % multiple:
            raise InputError(
                f"{folder}: not a usable bundle ('networks.{name}' in bundle.json is {str(n)[:80]}; allowed: "
                f"a multiple of {multiple}, {least} to {most})"
            )
    if s.channels != anatomy.n_channels or any(n != s.cells * REFINEMENT for n in grid.shape):
        raise InputError(
            f"{folder}: not a usable bundle ('networks' are for {s.channels} channels and "
            f"{s.cells * REFINEMENT} voxels an axis, anatomy and grid have "
            f"{anatomy.n_channels} and {grid.shape})"
        )


def _read_tensors(weights: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The named tensors as float32; InputError for a missing one, or one of another shape or type.

    Shape and type of all are judged by the file's header, before the first is read.
    """
    try:
        with safe_open(weights, framework="pt") as archive:
            names = set(archive.keys())
            for name, shape in shapes.items():
                if name not in names or tuple(archive.get_slice(name).get_shape()) != shape:
                    raise InputError(f"{weights}: tensor {name!r} is missing or not of shape {shape}")
                if (kind := archive.get_slice(name).get_dtype()) not in FLOATS:
                    raise InputError(
                        f"{weights}: tensor {name!r} is of type {kind}; allowed: {', '.join(FLOATS)}"
                    )
            tensors = {name: archive.get_tensor(name).to(torch.float32) for name in shapes}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights.parent}: not a usable bundle ({error!r})") from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{weights}: tensor {name!r} has values that are not finite")
    return tensors


def check_weights(folder: Path, card: dict) -> Path:
    """Path of the weights if their sha256 is the card's; InputError otherwise."""
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        raise InputError(f"{weights}: missing; a bundle has bundle.json and weights.safetensors")
    actual, stated = artifacts.sha256(weights), card.get("weights_sha256")
    if actual != stated:
        raise InputError(
            f"{weights}: its sha256 is {actual}, bundle.json states {stated}; fetch the bundle again"
        )
    return weights
