"""The two networks of the prior: an occupancy autoencoder and the latent denoiser (prior stage).

Both work on soft occupancies at twice the voxel spacing (4 mm for the heart): full-resolution layers
would take nearly all of the time on a CPU. Voxels are resolved only where a cell is not all one
structure, by a head that looks at such cells alone (after PointRend, Kirillov et al., CVPR 2020);
walls and gaps of a voxel or two, which the cells do not resolve, depend on it.
"""

import contextlib
import math
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

REFINEMENT = 2  # voxels per occupancy cell and axis
SMALLEST_BFLOAT16 = 3  # cells an axis: on 2^3, oneDNN's bfloat16 gradients of 3^3 convolutions are wrong
CERTAIN = 0.99  # cells of a structure that is at least as probable as this are not refined


@dataclass(frozen=True)
class NetworkSettings:
    """Widths of the networks; `cells` is the occupancy grid's edge (48), the latent's a quarter of it.

    condition_channels: heat maps of moments that the denoiser takes (`conditioning`); by default none.
    """

    channels: int
    cells: int
    latent_channels: int = 8
    fine_width: int = 48
    coarse_width: int = 112
    detail_width: int = 16
    denoiser_width: int = 96
    denoiser_depth: int = 2
    condition_channels: int = 0

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
        )
        # kernel 4 at stride 2 overlaps, so that neighbouring cells agree
        self.occupancy = nn.ConvTranspose3d(fine, s.channels, 4, stride=2, padding=1)
        self.detail = Detail(fine, s.detail_width, s.channels)

    def encode(self, occupancy):
        """Mean and log variance of the latents."""
        mean, log_variance = self.encoder(occupancy).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)

    def decode(self, latent):
        """Logits (B, C, n, n, n), float32."""
        return self.occupancy(self.decoder(latent)).float()

    def decode_with_features(self, latent):
        """Logits as from `decode`, and the features that `detail` refines cells from."""
        features = self.decoder(latent)
        return self.occupancy(features).float(), features

    def labels(self, latent):
        """Labels (B, X, Y, Z) uint8 at full resolution; cells that are certain are of one label."""
        logits, features = self.decode_with_features(latent)
        probability, label = logits.softmax(1).max(1)
        blocks = label.to(torch.uint8)[:, None].repeat(1, REFINEMENT**3, 1, 1, 1)
        cells = torch.where(probability < CERTAIN)
        if len(cells[0]):
            b, *at = cells
            blocks[b, :, at[0], at[1], at[2]] = self.detail(features, logits, cells).argmax(2).to(torch.uint8)
        return from_blocks(blocks)


class Detail(nn.Module):
    """Logits of the voxels in chosen cells: the cells' logits upsampled trilinearly, plus a residual.

    The residual is seen from the 3^3 cells around. Only chosen cells are computed, a tenth of the field
    or less: a dense layer would cost as much as the rest of the decoder.
    """

    def __init__(self, features: int, width: int, channels: int):
        super().__init__()
        self.up = nn.ConvTranspose3d(features, width, 4, stride=2, padding=1)
        self.hidden = nn.Linear(27 * (width + channels), 6 * width)
        self.out = nn.Linear(6 * width, REFINEMENT**3 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("trilinear", trilinear_weights(), persistent=False)

    def forward(self, features, logits, cells):
        """features (B, F, n/2, ...), logits (B, C, n, n, n), cells 4 x (M,): logits (M, R^3, C) float32."""
        channels, edge = logits.shape[1], logits.shape[-1]
        whole = torch.cat([logits.to(features.dtype), F.silu(self.up(features))], dim=1)
        sample, x, y, z = (c[:, None, None, None] for c in cells)
        steps = torch.arange(-1, 2, device=logits.device)
        # clamped at the border as F.interpolate does
        x = (x + steps[:, None, None]).clamp(0, edge - 1)
        y = (y + steps[:, None]).clamp(0, edge - 1)
        z = (z + steps).clamp(0, edge - 1)
        flat = (((sample * edge + x) * edge + y) * edge + z).flatten(1)
        rows = whole.permute(0, 2, 3, 4, 1).reshape(-1, whole.shape[1])
        around = F.embedding(flat, rows)  # (M, 27, C + W)
        residual = self.out(F.silu(self.hidden(around.flatten(1)))).unflatten(1, (-1, channels))
        smooth = torch.einsum("mkc,kr->mrc", around[..., :channels].float(), self.trilinear)
        return smooth + residual.float()


class Denoiser(nn.Module):
    """The raw network F(x, noise level) inside the EDM preconditioning: a two-level U-Net."""

    def __init__(self, s: NetworkSettings):
        super().__init__()
        wide, deep, embedding = s.denoiser_width, 2 * s.denoiser_width, 4 * s.denoiser_width
        self.frequencies = 64
        self.embed = nn.Sequential(
            nn.Linear(2 * self.frequencies, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.condition_channels = s.condition_channels
        # position channels: anatomy is not translation invariant
        self.stem = nn.Conv3d(s.latent_channels + 3 + s.condition_channels, wide, 3, padding=1)
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

    def forward(self, x, noise_level, condition=None):
        """x (B, L, m, m, m), noise_level (B,), condition (B, condition_channels, m, m, m) -> (B, L, m, m, m).

        No condition is one of zeros.
        """
        steps = torch.arange(self.frequencies, device=x.device) / self.frequencies
        phase = noise_level[:, None] * torch.exp(steps * math.log(100.0))[None]
        embedding = self.embed(torch.cat([phase.sin(), phase.cos()], dim=1))
        axis = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).expand(
            x.shape[0], -1, -1, -1, -1
        )
        if condition is None:
            condition = x.new_zeros(len(x), self.condition_channels, *x.shape[2:])
        outer = self.stem(torch.cat([x, position, condition.to(x.dtype)], dim=1))
        for block in self.outer_in:
            outer = block(outer, embedding)
        inner = self.down(outer)
        small = inner.shape[-1] < SMALLEST_BFLOAT16
        with torch.autocast(x.device.type, enabled=False) if small else contextlib.nullcontext():
            inner, level = (inner.float(), embedding.float()) if small else (inner, embedding)
            for block, attend in zip(self.inner, self.attention, strict=True):
                inner = attend(block(inner, level))
        outer = self.join(torch.cat([outer, self.up(inner)], dim=1))
        for block in self.outer_out:
            outer = block(outer, embedding)
        return self.head(outer).float()


def trilinear_weights() -> torch.Tensor:
    """Weights (27, R^3) of the 3^3 cells around for the R^3 voxels in the middle one."""
    cells = torch.arange(-1, 2) + 0.5
    voxels = (torch.arange(REFINEMENT) + 0.5) / REFINEMENT
    axis = (1 - (cells[:, None] - voxels[None]).abs()).clamp_min(0)
    return torch.einsum("ar,bs,ct->abcrst", axis, axis, axis).reshape(27, REFINEMENT**3)


def to_blocks(labels: torch.Tensor) -> torch.Tensor:
    """Labels (B, X, Y, Z) -> (B, R^3, n, n, n): the voxels of every cell, in C order."""
    r = REFINEMENT
    x, y, z = (n // r for n in labels.shape[1:])
    return labels.reshape(-1, x, r, y, r, z, r).permute(0, 2, 4, 6, 1, 3, 5).reshape(-1, r**3, x, y, z)


def from_blocks(blocks: torch.Tensor) -> torch.Tensor:
    """Inverse of `to_blocks`."""
    r = REFINEMENT
    b, _, x, y, z = blocks.shape
    return blocks.reshape(b, r, r, r, x, y, z).permute(0, 4, 1, 5, 2, 6, 3).reshape(b, r * x, r * y, r * z)


def to_occupancy(blocks: torch.Tensor, channels: int) -> torch.Tensor:
    """Share of each label in every cell, (B, C, n, n, n) float32, from blocks (B, R^3, n, n, n)."""
    shape = (len(blocks), channels, *blocks.shape[2:])
    share = torch.full((1,), REFINEMENT**-3.0, device=blocks.device).expand(blocks.shape)
    out = torch.zeros(shape, device=blocks.device).scatter_add_(1, blocks.long(), share)
    return out.contiguous(memory_format=torch.channels_last_3d)
