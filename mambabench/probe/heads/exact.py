"""The head of the exact stream: torch's own numbers to the last bit, without its overhead.

The matrix products are the calls that automatic differentiation makes; everything between them runs
in kernels that round as torch's operators do, into buffers that are allocated once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from mambabench.probe.heads.compiled import ONE
from mambabench.probe.heads.parameters import (
    F32,
    HeadParameters,
    RowBatch,
    initial_parameters,
    padded_columns,
)
from mambabench.probe.heads.plain import TorchHead
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.heads.with_numba import exact_kernels, numba_available
from mambabench.probe.protocols import HeadConfig

__all__ = ["ExactHead", "exact_head", "rounds_as_torch"]

SUMMED = 64  # columns that torch sums at a time; narrower ones take another order


class _ExactBuffers:
    """Everything of one batch size, allocated once, with the views that the products take."""

    def __init__(self, dims: list[int], n_labels: int, batch: int) -> None:
        self.Z = [torch.empty(batch, d) for d in dims]
        self.A = [torch.empty(batch, d) for d in dims]
        self.D = [torch.empty(batch, d) for d in dims]
        self.logits = torch.empty(batch, n_labels)
        self.to_log = torch.empty(batch, n_labels)
        self.slope = torch.empty(batch, n_labels)
        self.moments = [np.empty((2, d), np.float32) for d in dims]
        self.bits = [np.empty(((batch + 31) // 32, d), np.uint32) for d in dims]


class ExactHead:
    """`TorchHead` without automatic differentiation; every number is equal to the last bit."""

    def __init__(self, config: HeadConfig, start: HeadParameters, streams: TrialStreams) -> None:
        self._config = config
        self._streams = streams
        self._dims = [len(b) for b in start.biases[:-1]]
        self._n_labels = len(start.biases[-1])
        self._W = [_aligned(w) for w in start.weights]
        self._grad_W = [torch.empty_like(w) for w in self._W]
        plain = np.concatenate([*start.biases, *(n.reshape(-1) for n in start.norms)])
        self._plain = _aligned(plain)  # what does not decay, in one piece
        self._grad_plain = torch.empty_like(self._plain)
        self._b, self._norms = self._views(self._plain)
        self._grad_b, self._grad_norms = self._views(self._grad_plain)
        self._running = [r.copy() for r in start.running]
        self._trained = [
            *(_trained(w, g, decays=True) for w, g in zip(self._W, self._grad_W, strict=True)),
            _trained(self._plain, self._grad_plain, decays=False),
        ]
        self._steps = 0
        self._buffers: dict[int, _ExactBuffers] = {}
        keep = 1.0 - config.dropout
        self._keep_scale = np.float32(torch.ones(1).div_(keep).item())

    def _views(self, flat: torch.Tensor) -> tuple[list[torch.Tensor], list[F32]]:
        """Return the biases and the norms [2, units] that lie behind one another in `flat`."""
        sizes = [*self._dims, self._n_labels, *(2 * d for d in self._dims)]
        parts = torch.split(flat, sizes)
        n = len(self._dims) + 1
        return list(parts[:n]), [part.view(2, -1).numpy() for part in parts[n:]]

    def step(self, batch: RowBatch) -> None:
        """Do one optimiser step."""
        n = batch.rows.shape[0]
        if n not in self._buffers:
            self._buffers[n] = _ExactBuffers(self._dims, self._n_labels, n)
        buf = self._buffers[n]
        self._forward(batch, buf)
        _loss_gradient(buf, batch)
        self._backward(batch, buf)
        self._update()

    def _forward(self, batch: RowBatch, buf: _ExactBuffers) -> None:
        keep = 1.0 - self._config.dropout
        inputs = batch.rows
        for i, dim in enumerate(self._dims):
            _multiply(inputs, self._W[i].t(), buf.Z[i], self._b[i])
            self._streams.masks.draw(len(inputs), dim, keep, buf.bits[i])
            exact_kernels().norm_forward(
                buf.Z[i].numpy(),
                self._norms[i],
                self._running[i],
                buf.bits[i],
                self._keep_scale,
                buf.A[i].numpy(),
                buf.moments[i],
            )
            inputs = buf.A[i]
        _multiply(inputs, self._W[-1].t(), buf.logits, self._b[-1])

    def _backward(self, batch: RowBatch, buf: _ExactBuffers) -> None:
        delta = buf.slope
        torch.sum(delta, 0, out=self._grad_b[-1])
        for i in range(len(self._dims) - 1, -1, -1):
            _multiply(delta.t(), buf.A[i], self._grad_W[i + 1])
            _multiply(delta, self._W[i + 1], buf.D[i])
            delta = buf.D[i]
            exact_kernels().norm_backward(
                delta.numpy(),
                buf.Z[i].numpy(),
                buf.bits[i],
                self._keep_scale,
                self._norms[i],
                buf.moments[i],
                self._grad_norms[i],
                self._grad_b[i].numpy(),
            )
            if self._dims[i] % SUMMED:
                torch.sum(delta, 0, out=self._grad_b[i])
        _multiply(delta.t(), batch.rows, self._grad_W[0])

    def _update(self) -> None:
        """Move every parameter; the square root is torch's, which is not the correctly rounded."""
        self._steps += 1
        lr = self._config.lr
        step_size = np.float32(-(lr / (1 - 0.9**self._steps)))
        correction = np.float32((1 - 0.999**self._steps) ** 0.5)
        shrink = np.float32(1 - lr * self._config.weight_decay)
        for t in self._trained:
            exact_kernels().adam_moments(t.gradient, t.first, t.second.numpy())
            torch.sqrt(t.second, out=t.root)
            decay = shrink if t.decays else ONE
            exact_kernels().adam_weights(
                t.weight, t.first, t.root.numpy(), step_size, correction, decay
            )

    def logits(self, columns: torch.Tensor) -> torch.Tensor:
        """Return [n_labels, n] of inputs [dim, n], in evaluation mode."""
        x = columns.t().contiguous()  # narrow products round by their operands' layout
        for i in range(len(self._dims)):
            z = torch.empty(len(x), self._dims[i])
            _multiply(x, self._W[i].t(), z, self._b[i])
            exact_kernels().evaluated(z.numpy(), self._norms[i], self._running[i])
            x = z
        return torch.addmm(self._b[-1], x, self._W[-1].t()).t()

    def parameters(self) -> HeadParameters:
        """Return a copy of all numbers."""
        return HeadParameters.copied(self._W, self._b, self._norms, self._running)


def _multiply(
    a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, bias: torch.Tensor | None = None
) -> None:
    if bias is None:
        torch.mm(a, b, out=out)
    else:
        torch.addmm(bias, a, b, out=out)


@dataclass(frozen=True)
class _ParameterState:
    """Flat parameters, their gradient and what Adam keeps of them."""

    weight: F32
    gradient: F32
    first: F32
    second: torch.Tensor
    root: torch.Tensor
    decays: bool


def _trained(weight: torch.Tensor, gradient: torch.Tensor, *, decays: bool) -> _ParameterState:
    zeros = np.zeros(weight.numel(), np.float32)
    second = torch.zeros(weight.numel())
    w, g = weight.view(-1).numpy(), gradient.view(-1).numpy()
    return _ParameterState(w, g, zeros, second, torch.empty_like(second), decays)


def _aligned(array: F32) -> torch.Tensor:
    return torch.empty(array.shape).copy_(torch.from_numpy(array))


def _loss_gradient(buf: _ExactBuffers, batch: RowBatch) -> None:
    """Set buf.slope to the mean loss's gradient of buf.logits, as torch's derivatives have it."""
    if batch.multilabel:
        torch.sigmoid(buf.logits, out=buf.slope)
        buf.slope.sub_(batch.target.t()).div_(buf.logits.numel())
        return
    exact_kernels().scaled_rows(
        batch.target.numpy(), np.float32(-1.0 / len(buf.logits)), buf.to_log.numpy()
    )
    log_probability = torch.log_softmax(buf.logits, 1)
    torch._log_softmax_backward_data(buf.to_log, log_probability, 1, torch.float32, out=buf.slope)


@functools.cache
def rounds_as_torch() -> bool:
    """Say whether `ExactHead` equals `TorchHead` bit for bit on a small case on this machine.

    Its kernels follow how torch's binaries round on one thread, which another processor or build
    may do differently.
    """
    if not numba_available():
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _small_case_agrees()
    finally:
        torch.set_num_threads(threads)


def _small_case_agrees() -> bool:
    rows = torch.randn(53, 20, generator=torch.Generator().manual_seed(1))
    for multilabel in (False, True):
        target = torch.zeros(5, 53)
        target[torch.arange(53) % 5, torch.arange(53)] = 1.0
        batches = [
            RowBatch(r.clone(), padded_columns(r), t.contiguous(), multilabel)
            for r, t in zip(torch.split(rows, 37), torch.split(target, 37, 1), strict=True)
        ]
        config = HeadConfig(hidden_layers=2, hidden_dim=128, lr=1e-3, weight_decay=0.1)
        arms = []
        for kind in (ExactHead, TorchHead):
            streams = TrialStreams(1)
            head = kind(config, initial_parameters(config, 20, 5, streams), streams)
            for batch in batches * 4:
                head.step(batch)
            arms.append((head.parameters(), head.logits(batches[0].columns)))
        if arms[0][0].sha256() != arms[1][0].sha256() or not torch.equal(arms[0][1], arms[1][1]):
            return False
    return True


def exact_head(
    config: HeadConfig, start: HeadParameters, streams: TrialStreams
) -> ExactHead | TorchHead:
    """Return the fastest head that rounds as torch's modules do."""
    return (ExactHead if rounds_as_torch() else TorchHead)(config, start, streams)
