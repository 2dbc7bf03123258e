"""Heads: [Linear, BatchNorm, dropout, ReLU] x hidden layers and a last Linear, trained with Adam.

Source: hear-eval-kit 2021.1.3, its fully connected predictor. `CompiledHead` runs on one CPU thread
through compiled kernels and plain matrix products; `TorchHead` is the same head in plain torch,
for machines without numba. `exact.ExactHead` has the numbers of the second at nearly the speed of
the first. All draw the same random numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.heads.with_numba import kernels, numba_available
from mambabench.probe.protocols import HeadConfig

__all__ = ["HeadParameters", "RowBatch", "initial_parameters", "padded_columns"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RowBatch:
    """Some training rows in both orientations, so that every product is a plain one."""

    rows: torch.Tensor  # [n, dim] float32
    columns: torch.Tensor  # [dim, padded n] float32, contiguous, zeros behind
    target: torch.Tensor  # [n_labels, n] float32: one-hot or multi-hot
    multilabel: bool


def padded_columns(rows: torch.Tensor) -> torch.Tensor:
    """Return rows [n, dim] as columns [dim, n padded to a multiple of 16] with zeros behind.

    Products of a ragged width take up to twice as long (47 columns: 2.2 ms, 48: 1.2 ms).
    """
    n, dim = rows.shape
    columns = torch.zeros(dim, -(-n // 16) * 16)
    columns[:, :n] = rows.t()
    return columns


@dataclass(frozen=True)
class HeadParameters:
    """All numbers of a head, layer by layer, in torch's own shapes."""

    weights: tuple[F32, ...]  # [out, in]
    biases: tuple[F32, ...]  # [out]
    norms: tuple[F32, ...]  # [2, out]: weight, bias
    running: tuple[F32, ...]  # [2, out]: mean, variance

    @staticmethod
    def copied(
        W: Sequence[torch.Tensor],
        b: Sequence[torch.Tensor],
        norms: Sequence[F32],
        running: Sequence[F32],
    ) -> HeadParameters:
        """Copy the numbers of a head in training."""
        return HeadParameters(
            tuple(w.numpy().copy() for w in W),
            tuple(bias.numpy().copy() for bias in b),
            tuple(n.copy() for n in norms),
            tuple(r.copy() for r in running),
        )

    def arrays(self) -> dict[str, F32]:
        """Return every array by name, in a fixed order."""
        named = {}
        for field in ("weights", "biases", "norms", "running"):
            for i, array in enumerate(getattr(self, field)):
                named[f"{field}.{i}"] = array
        return named

    @staticmethod
    def from_arrays(arrays: dict[str, npt.NDArray[Any]]) -> HeadParameters:
        """Undo `arrays`."""

        def field(name: str) -> tuple[F32, ...]:
            n = sum(key.startswith(f"{name}.") for key in arrays)
            return tuple(arrays[f"{name}.{i}"] for i in range(n))

        return HeadParameters(field("weights"), field("biases"), field("norms"), field("running"))

    def logits(self, columns: torch.Tensor) -> torch.Tensor:
        """Return [n_labels, n] of inputs [dim, n], in evaluation mode."""
        W = [torch.from_numpy(w) for w in self.weights]
        b = [torch.from_numpy(b) for b in self.biases]
        return evaluated_logits(W, b, self.norms, self.running, columns)

    def sha256(self) -> str:
        """Return the hash of the arrays' bytes in their fixed order."""
        digest = hashlib.sha256()
        for array in self.arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def initial_parameters(
    config: HeadConfig, dim: int, n_labels: int, streams: TrialStreams
) -> HeadParameters:
    """Draw a head as the kit does: for each Linear torch's default weight (dropped) and bias, then
    Xavier with gain 1 for the first and sqrt(2) for every later one."""
    generator = streams.generator
    weights, biases, norms, running = [], [], [], []
    fan_in, gain = dim, 1.0
    for out in [config.hidden_dim] * config.hidden_layers + [n_labels]:
        weight = torch.empty(out, fan_in)
        bound = 1 / math.sqrt(fan_in)
        weight.uniform_(-bound, bound, generator=generator)
        bias = torch.empty(out).uniform_(-bound, bound, generator=generator)
        if config.initialization == "uniform":
            torch.nn.init.xavier_uniform_(weight, gain, generator=generator)
        else:
            torch.nn.init.xavier_normal_(weight, gain, generator=generator)
        weights.append(weight.numpy())
        biases.append(bias.numpy())
        norms.append(np.stack([np.ones(out, np.float32), np.zeros(out, np.float32)]))
        running.append(np.stack([np.zeros(out, np.float32), np.ones(out, np.float32)]))
        fan_in, gain = out, math.sqrt(2.0)
    streams.summarised(dim)
    return HeadParameters(tuple(weights), tuple(biases), tuple(norms[:-1]), tuple(running[:-1]))


def evaluated_logits(
    W: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    norms: Sequence[F32],
    running: Sequence[F32],
    columns: torch.Tensor,
) -> torch.Tensor:
    """Return logits [n_labels, n]; the running statistics are folded into scale and shift."""
    for i in range(len(norms)):
        Z = torch.empty(len(W[i]), columns.shape[1])
        torch.mm(W[i], columns, out=Z)
        columns = Z
        scale = norms[i][0] / np.sqrt(running[i][1] + np.float32(1e-5))
        shift = norms[i][1] + (b[i].numpy() - running[i][0]) * scale
        if numba_available():
            kernels().scale_shift_relu(columns.numpy(), scale, shift)
        else:
            columns.mul_(torch.from_numpy(scale).unsqueeze(1))
            columns.add_(torch.from_numpy(shift).unsqueeze(1)).relu_()
    logits = torch.empty(len(W[-1]), columns.shape[1])
    torch.mm(W[-1], columns, out=logits)
    return logits.add_(b[-1].unsqueeze(1))
