"""The transformer block of SSAM's twin: pre-norm attention and a two-layer perceptron."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["TransformerBlock"]


class _Attention(nn.Module):
    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv_layer = nn.Linear(dim, 3 * dim)
        self.proj_layer = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length, dim = x.shape
        qkv = self.qkv_layer(x).reshape(n, length, 3, self.n_heads, dim // self.n_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: torch.Tensor = self.proj_layer(mixed.transpose(1, 2).reshape(n, length, dim))
        return out


class _Perceptron(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(dim, hidden)
        self.layer2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer2(F.gelu(self.layer1(x)))
        return out


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)); takes and returns a residual of None,
    so that stacks of either kind of block run alike."""

    def __init__(self, dim: int, n_heads: int, mlp_ratio: float, epsilon: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=epsilon)
        self.attn = _Attention(dim, n_heads)
        self.norm2 = nn.LayerNorm(dim, eps=epsilon)
        self.mlp = _Perceptron(dim, int(dim * mlp_ratio))

    def forward(self, x: torch.Tensor, residual: None = None) -> tuple[torch.Tensor, None]:
        """Return (x, None)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x)), None
