"""A head on one CPU thread: compiled kernels and plain matrix products."""

from __future__ import annotations

import math

import numpy as np
import torch

from mambabench.probe.heads.parameters import F32, HeadParameters, RowBatch, evaluated_logits
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.heads.with_numba import kernels
from mambabench.probe.protocols import HeadConfig

__all__ = ["CompiledHead"]


class _Buffers:
    """Activations of one batch size, allocated once; the columns behind the batch stay 0."""

    def __init__(self, dims: list[int], n_labels: int, batch: int, padded: int) -> None:
        self.Z = [torch.zeros(d, padded) for d in dims]
        self.A = [torch.zeros(d, padded) for d in dims]
        self.D = [torch.zeros(d, padded) for d in dims]
        self.logits = torch.empty(n_labels, batch)
        self.delta = torch.zeros(n_labels, padded)
        self.moments = [np.empty((2, d), np.float32) for d in dims]
        self.bits = [np.empty(((batch + 31) // 32, d), np.uint32) for d in dims]


class CompiledHead:
    """A head trained by compiled kernels on the calling thread.

    Biases before a BatchNorm have zero gradient and stay as drawn (in torch they drift by rounding
    noise); they enter the running mean, as they must.
    """

    def __init__(self, config: HeadConfig, start: HeadParameters, streams: TrialStreams) -> None:
        self._config = config
        self._streams = streams
        self._W = [torch.from_numpy(w.copy()) for w in start.weights]
        self._b = [torch.from_numpy(b.copy()) for b in start.biases]
        self._norms = [n.copy() for n in start.norms]
        self._running = [r.copy() for r in start.running]
        self._n_labels = len(start.biases[-1])
        self._dims = [len(b) for b in start.biases[:-1]]
        self._grad_W = [torch.empty_like(w) for w in self._W]
        self._grad_norms = [np.empty_like(n) for n in self._norms]
        self._grad_b = torch.empty_like(self._b[-1])
        self._state = [
            (w, g, np.zeros_like(w), np.zeros_like(w), np.float32(decays))
            for w, g, decays in self._trained()
        ]
        self._steps = 0
        self._buffers: dict[int, _Buffers] = {}

    def _trained(self) -> list[tuple[F32, F32, bool]]:
        """Return flat (parameter, gradient, decays) of everything that Adam moves."""
        groups = [
            (w.view(-1).numpy(), g.view(-1).numpy(), True)
            for w, g in zip(self._W, self._grad_W, strict=True)
        ]
        groups += [
            (n.reshape(-1), g.reshape(-1), False)
            for n, g in zip(self._norms, self._grad_norms, strict=True)
        ]
        return [*groups, (self._b[-1].numpy(), self._grad_b.numpy(), False)]

    def step(self, batch: RowBatch) -> None:
        """Do one optimiser step."""
        n, padded = batch.rows.shape[0], batch.columns.shape[1]
        if n not in self._buffers:
            self._buffers[n] = _Buffers(self._dims, self._n_labels, n, padded)
        buf = self._buffers[n]
        keep = 1.0 - self._config.dropout
        scale = np.float32(1.0 / keep)
        inputs = batch.columns
        for i, dim in enumerate(self._dims):
            torch.mm(self._W[i], inputs, out=buf.Z[i])
            self._streams.masks.draw(n, dim, keep, buf.bits[i])
            kernels().norm_forward(
                n,
                buf.Z[i].numpy(),
                self._norms[i],
                self._running[i],
                self._b[i].numpy(),
                buf.bits[i],
                scale,
                buf.A[i].numpy(),
                buf.moments[i],
            )
            inputs = buf.A[i]
        torch.mm(self._W[-1], inputs[:, :n], out=buf.logits)
        buf.logits.add_(self._b[-1].unsqueeze(1))
        delta = buf.delta
        delta[:, :n] = _loss_gradient(buf.logits, batch)
        torch.sum(delta, 1, out=self._grad_b)
        for i in range(len(self._dims) - 1, -1, -1):
            torch.mm(delta[:, :n], buf.A[i][:, :n].t(), out=self._grad_W[i + 1])
            torch.mm(self._W[i + 1].t(), delta, out=buf.D[i])
            kernels().norm_backward(
                n,
                buf.D[i].numpy(),
                buf.A[i].numpy(),
                buf.Z[i].numpy(),
                buf.moments[i],
                self._norms[i],
                self._grad_norms[i],
                scale,
            )
            delta = buf.D[i]
        torch.mm(delta[:, :n], batch.rows, out=self._grad_W[0])
        self._update()

    def _update(self) -> None:
        self._steps += 1
        lr = self._config.lr
        rate = np.float32(lr / (1 - 0.9**self._steps))
        second_scale = np.float32(1 / math.sqrt(1 - 0.999**self._steps))
        shrink = np.float32(1 - lr * self._config.weight_decay)
        for weight, gradient, first, second, decays in self._state:
            kernels().adam_step(
                weight, gradient, first, second, rate, second_scale, shrink if decays else ONE
            )

    def logits(self, columns: torch.Tensor) -> torch.Tensor:
        """Return [n_labels, n] of inputs [dim, n], in evaluation mode."""
        return evaluated_logits(self._W, self._b, self._norms, self._running, columns)

    def parameters(self) -> HeadParameters:
        """Return a copy of all numbers."""
        return HeadParameters.copied(self._W, self._b, self._norms, self._running)


ONE = np.float32(1.0)


def _loss_gradient(logits: torch.Tensor, batch: RowBatch) -> torch.Tensor:
    """Turn logits [n_labels, n] into the gradient of the mean loss, in place."""
    if batch.multilabel:
        return logits.sigmoid_().sub_(batch.target).mul_(1.0 / logits.numel())
    probability = torch.softmax(logits, 0)
    return probability.sub_(batch.target).mul_(1.0 / logits.shape[1])
