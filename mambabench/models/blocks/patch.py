"""Patch embedding, position tables and their adaptation to other grids."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "PatchEmbedding",
    "resample_kernel",
    "resample_positions",
    "sinusoidal_positions",
]


class PatchEmbedding(nn.Module):
    """A strided convolution that turns [n, channels, height, width] into a grid of tokens."""

    def __init__(
        self, dim: int, patch: tuple[int, int], stride: tuple[int, int], channels: int = 1
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch, stride=stride)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the grid [n, dim, rows, columns]."""
        grid: torch.Tensor = self.proj(image)
        return grid


def sinusoidal_positions(dim: int, grid: tuple[int, int], class_token: bool) -> torch.Tensor:
    """Return SSAM's fixed position table, float32 [1, rows * columns (+ 1), dim].

    The first half of the width encodes the second grid axis, the second half the first one, each
    as all sines and then all cosines of position / 10000^(i / (dim / 4)). The class token's row,
    the first, is zero.
    """
    omega = 1.0 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))

    def encode(position: torch.Tensor) -> torch.Tensor:
        angle = position.double().flatten()[:, None] * omega[None, :]
        return torch.cat((angle.sin(), angle.cos()), dim=1)

    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    table = torch.cat((encode(columns), encode(rows)), dim=1).float()
    if class_token:
        table = torch.cat((torch.zeros(1, dim), table))
    return table[None]


def resample_positions(
    table: torch.Tensor, old: tuple[int, int], new: tuple[int, int], n_prefix: int = 1
) -> torch.Tensor:
    """Resample the grid part of a position table [1, n_prefix + rows * columns, dim].

    Bilinear with antialiasing, as AuM does; the prefix rows stay.
    """
    if old == new:
        return table
    prefix, grid = table[:, :n_prefix], table[:, n_prefix:]
    image = grid.reshape(1, *old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=new, mode="bilinear", antialias=True)
    grid = image.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1)
    return torch.cat((prefix, grid), dim=1)


def resample_kernel(kernel: torch.Tensor, new: tuple[int, int]) -> torch.Tensor:
    """Resize a patch kernel [dim, channels, height, width] by the pseudo-inverse of resizing.

    The new kernel gives on a bilinearly resized patch (no antialiasing) what the old one gives on
    the patch itself, in the least-squares sense (PI-resize of FlexiViT, Beyer et al. 2023).
    Computed in float64: inverses of enlargements are ill-conditioned.
    """
    old = (kernel.shape[2], kernel.shape[3])
    if old == new:
        return kernel
    basis = torch.eye(old[0] * old[1], dtype=torch.float64, device=kernel.device)
    resized = F.interpolate(basis.reshape(-1, 1, *old), size=new, mode="bilinear")
    inverse: torch.Tensor = torch.linalg.pinv(
        resized.reshape(old[0] * old[1], -1)
    )  # [new pixels, old pixels]
    flat: torch.Tensor = kernel.double().reshape(*kernel.shape[:2], -1) @ inverse.T
    return flat.reshape(*kernel.shape[:2], *new).to(kernel.dtype)
