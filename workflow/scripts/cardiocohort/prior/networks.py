"""The two networks of the prior: an occupancy autoencoder and the latent denoiser (prior stage).

Both work on soft occupancies at twice the voxel spacing (4 mm for the heart): full-resolution layers
would take nearly all of the time on a CPU. Label maps come from logits upsampled smoothly.
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

REFINEMENT = 2  # voxels per occupancy cell and axis


@dataclass(frozen=True)
class NetworkSettings:
    """Widths of the networks; `cells` is the occupancy grid's edge (48), the latent's a quarter of it."""

    channels: int
    cells: int
    latent_channels: int = 8
    fine_width: int = 48
    coarse_width: int = 112
    denoiser_width: int = 96
    denoiser_depth: int = 2

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        return (self.latent_channels, *(3 * (self.cells // 4,)))


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, width)


class Residual(nn.Module):
    """Pre-norm residual block of two 3^3 convolutions; `embedding` scales and shifts in between."""

    def __init__(self, width: int, embedding: int = 0):
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.conv1 = nn.Conv3d(width, width, 3, padding=1)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)
        self.modulation = nn.Linear(embedding, 2 * width) if embedding else None

    def forward(self, x, embedding=None):
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.modulation is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return x + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Self-attention over all cells."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.norm, self.heads = norm(width), heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        cells = x.shape[2:]
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(mixed).transpose(1, 2).unflatten(2, cells)


class Autoencoder(nn.Module):
    """Occupancies (B, C, n, n, n) <-> latents (B, L, n/4, n/4, n/4)."""

    def __init__(self, s: NetworkSettings):
        super().__init__()
        fine, coarse = s.fine_width, s.coarse_width
        self.encoder = nn.Sequential(
            nn.Conv3d(s.channels, fine, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv3d(fine, coarse, 4, stride=2, padding=1),
            Residual(coarse),
            Residual(coarse),
            norm(coarse),
            nn.SiLU(),
            nn.Conv3d(coarse, 2 * s.latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv3d(s.latent_channels, coarse, 3, padding=1),
            Residual(coarse),
            Residual(coarse),
            nn.ConvTranspose3d(coarse, fine, 2, stride=2),
            Residual(fine),
            norm(fine),
            nn.SiLU(),
            # kernel 4 at stride 2 overlaps, so that neighbouring cells agree
            nn.ConvTranspose3d(fine, s.channels, 4, stride=2, padding=1),
        )

    def encode(self, occupancy):
        """Mean and log variance of the latents."""
        mean, log_variance = self.encoder(occupancy).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)

    def decode(self, latent):
        """Logits (B, C, n, n, n), float32."""
        return self.decoder(latent).float()


class Denoiser(nn.Module):
    """The raw network F(x, noise level) inside the EDM preconditioning: a two-level U-Net."""

    def __init__(self, s: NetworkSettings):
        super().__init__()
        wide, deep, embedding = s.denoiser_width, 2 * s.denoiser_width, 4 * s.denoiser_width
        self.frequencies = 64
        self.embed = nn.Sequential(
            nn.Linear(2 * self.frequencies, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        # position channels: anatomy is not translation invariant
        self.stem = nn.Conv3d(s.latent_channels + 3, wide, 3, padding=1)
        self.down = nn.Conv3d(wide, deep, 2, stride=2)
        self.up = nn.ConvTranspose3d(deep, wide, 2, stride=2)
        self.join = nn.Conv3d(2 * wide, wide, 1)
        self.outer_in = nn.ModuleList(Residual(wide, embedding) for _ in range(s.denoiser_depth))
        self.inner = nn.ModuleList(Residual(deep, embedding) for _ in range(s.denoiser_depth + 1))
        self.attention = nn.ModuleList(Attention(deep) for _ in range(s.denoiser_depth + 1))
        self.outer_out = nn.ModuleList(Residual(wide, embedding) for _ in range(s.denoiser_depth))
        self.head = nn.Sequential(norm(wide), nn.SiLU(), nn.Conv3d(wide, s.latent_channels, 3, padding=1))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)

    def forward(self, x, noise_level):
        """x (B, L, m, m, m), noise_level (B,) -> (B, L, m, m, m)."""
        steps = torch.arange(self.frequencies, device=x.device) / self.frequencies
        phase = noise_level[:, None] * torch.exp(steps * math.log(100.0))[None]
        embedding = self.embed(torch.cat([phase.sin(), phase.cos()], dim=1))
        axis = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).expand(
            x.shape[0], -1, -1, -1, -1
        )
        outer = self.stem(torch.cat([x, position], dim=1))
        for block in self.outer_in:
            outer = block(outer, embedding)
        inner = self.down(outer)
        for block, attend in zip(self.inner, self.attention, strict=True):
            inner = attend(block(inner, embedding))
        outer = self.join(torch.cat([outer, self.up(inner)], dim=1))
        for block in self.outer_out:
            outer = block(outer, embedding)
        return self.head(outer).float()


def pool(one_hot: torch.Tensor) -> torch.Tensor:
    """Occupancies of the cells, from a one-hot (B, C, X, Y, Z) at full resolution."""
    return F.avg_pool3d(one_hot, REFINEMENT)


def to_labels(logits: torch.Tensor) -> torch.Tensor:
    """Labels (B, X, Y, Z) uint8 at full resolution: argmax of the logits upsampled trilinearly."""
    full = F.interpolate(logits, scale_factor=REFINEMENT, mode="trilinear", align_corners=False)
    return full.argmax(dim=1).to(torch.uint8)
