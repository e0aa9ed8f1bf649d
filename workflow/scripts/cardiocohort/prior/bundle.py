"""The bundle on disk: bundle.json, weights.safetensors, reference moments (prior stage; read by generation).

Only safetensors are read, never a pickle; names, shapes and digests are checked before use.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .. import files
from ..anatomy import Anatomy, Grid
from ..bundle_card import FORMAT, read_anatomy, read_card
from ..errors import InputError
from . import edm
from .device import autocast
from .networks import REFINEMENT, Autoencoder, Denoiser, NetworkSettings, trilinear_weights


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

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Clean estimate of z (B, L, m, m, m) at noise levels sigma (B,), float32."""
        with autocast(self.device):
            return edm.precondition(self.denoiser)(z, sigma)

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


def save_bundle(folder: Path, card: dict, autoencoder, denoiser, mean, spread) -> None:
    """Write weights.safetensors (bfloat16) and bundle.json with its digest."""
    tensors = {f"autoencoder.{k}": v for k, v in autoencoder.state_dict().items()}
    tensors |= {f"denoiser.{k}": v for k, v in denoiser.state_dict().items()}
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in tensors.items()}
    tensors |= {"latent.mean": mean.contiguous(), "latent.spread": spread.contiguous()}
    weights = folder / "weights.safetensors"
    with files.atomic_path(weights) as temporary:
        save_file(tensors, temporary)
    card = {"format": FORMAT, **card, "weights_sha256": files.sha256(weights)}
    files.write_text(folder / "bundle.json", files.readable_json(card))


def load_prior(folder: str | Path, device: str) -> Prior:
    """Load a bundle; InputError naming the file for a wrong digest, a missing or misshapen tensor."""
    folder = Path(folder)
    card = read_card(folder / "bundle.json")
    anatomy, grid = read_anatomy(folder / "bundle.json")
    weights = check_weights(folder, card)
    try:
        settings = NetworkSettings(**card["networks"])
        with torch.device("meta"):
            autoencoder, denoiser = Autoencoder(settings), Denoiser(settings)
        expected = {f"autoencoder.{k}": v.shape for k, v in autoencoder.state_dict().items()}
        expected |= {f"denoiser.{k}": v.shape for k, v in denoiser.state_dict().items()}
        expected |= dict.fromkeys(("latent.mean", "latent.spread"), (settings.latent_channels, 1, 1, 1))
        tensors = {}
        with safe_open(weights, framework="pt") as archive:
            for name, shape in expected.items():
                if name not in archive.keys() or tuple(archive.get_slice(name).get_shape()) != tuple(shape):  # noqa: SIM118
                    raise InputError(f"{weights}: tensor {name!r} is missing or not of shape {tuple(shape)}")
                tensors[name] = archive.get_tensor(name).to(torch.float32)
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{folder}: not a usable bundle ({error!r})") from error
    autoencoder.detail.trilinear = trilinear_weights()  # not saved, and on the meta device so far
    for name, network in (("autoencoder.", autoencoder), ("denoiser.", denoiser)):
        state = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
        network.load_state_dict(state, assign=True)
        network.to(device, memory_format=torch.channels_last_3d).eval().requires_grad_(False)
    mean, spread = (tensors[f"latent.{name}"].to(device) for name in ("mean", "spread"))
    return Prior(anatomy, grid, settings.latent_shape, autoencoder, denoiser, mean, spread, device, card)


def check_weights(folder: Path, card: dict) -> Path:
    """Path of the weights if their sha256 is the card's; InputError otherwise."""
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        raise InputError(f"{weights}: missing; a bundle has bundle.json and weights.safetensors")
    found, stated = files.sha256(weights), card.get("weights_sha256")
    if found != stated:
        raise InputError(
            f"{weights}: its sha256 is {found}, bundle.json states {stated}; fetch the bundle again"
        )
    return weights
