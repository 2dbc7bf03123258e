"""Who an encoder is: a hash of its weights, its configuration and what it does to one signal."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping

import torch
from torch.nn.parameter import is_lazy

from mambabench.files import canonical_json

__all__ = ["behaviour", "fixed_signal", "identity", "weights_hash"]


def fixed_signal(sample_rate_hz: int, duration_s: float = 0.5) -> torch.Tensor:
    """Return a fixed mono signal, float32 [1, n_samples]: a rising tone over two steady ones.

    Rounded to 16 bits, so that every machine makes the same samples.
    """
    time = torch.arange(int(sample_rate_hz * duration_s), dtype=torch.float64) / sample_rate_hz
    phase = 2 * torch.pi * time
    signal = (phase * (200 + 1500 * time)).sin() + (phase * 440).sin() + (phase * 3100).sin()
    return ((signal * 0.2 * 32767).round() / 32768).float()[None]


def behaviour(embedding: torch.Tensor) -> tuple[int, ...]:
    """Describe an embedding by its level and eight projections, coarse enough to be equal on
    every machine.

    The level is the logarithm of its norm in steps of 1/8 octave, each projection the cosine with
    a fixed pattern in steps of 0.02: rounding errors, of 1e-6, almost never show in them, another
    architecture or another set of weights does.
    """
    flat = embedding.detach().double().cpu().flatten()
    index = torch.arange(flat.numel(), dtype=torch.float64)
    norm = float(flat.norm()) or 1.0
    cosines = []
    for k in range(8):
        pattern = (index * (0.7 + k) + 0.37 * k * k).cos()
        cosines.append(float(flat @ pattern) / (norm * float(pattern.norm())))
    return round(8 * math.log2(norm)), *(round(cosine / 0.02) for cosine in cosines)


def weights_hash(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over keys, dtypes, shapes and bytes of a state dict, in key order."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key]
        if is_lazy(tensor):  # not made yet: behaviour tells
            digest.update(f"{key}|lazy|".encode())
            continue
        digest.update(f"{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.is_meta:
            continue
        plain = _dense(tensor.detach()).cpu().contiguous()
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a sparse, quantised or wrapped tensor as a plain one."""
    if tensor.is_quantized:
        return tensor.int_repr()
    if tensor.layout is not torch.strided:
        return tensor.to_dense()
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) and hasattr(tensor, "dequantize"):
        return tensor.dequantize()
    return tensor


def identity(
    weights: str,
    configuration: Mapping[str, object],
    scene: Callable[[torch.Tensor], torch.Tensor],
    sample_rate_hz: int,
    device: str = "cpu",
    duration_s: float = 0.5,
) -> str:
    """Return 64 hex digits of weights hash, configuration and behaviour on `fixed_signal`, of
    `duration_s` seconds."""
    embedding = scene(fixed_signal(sample_rate_hz, duration_s).to(device))
    described = {
        "weights": weights,
        "configuration": dict(configuration),
        "behaviour": list(behaviour(embedding)),
    }
    return hashlib.sha256(canonical_json(described)).hexdigest()
