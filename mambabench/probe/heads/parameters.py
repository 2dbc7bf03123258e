"""Heads: [Linear, BatchNorm, dropout, ReLU] x hidden layers and a last Linear, trained with Adam.

Source: hear-eval-kit 2021.1.3, its fully connected predictor. `CompiledHead` runs on one CPU thread
through compiled kernels and plain matrix products; `TorchHead` is the same head in plain torch,
for machines without numba. `exact.ExactHead` has the numbers of the second at nearly the speed of
the first. All draw the same random numbers.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.protocols import HeadConfig

if TYPE_CHECKING:
    from mambabench.probe.heads.exact import ExactHead

__all__ = [
    "Batch",
    "CompiledHead",
    "HeadParameters",
    "TorchHead",
    "initial_parameters",
    "make_head",
    "numba_available",
    "padded_columns",
]

F32 = npt.NDArray[np.float32]


@functools.cache
def numba_available() -> bool:
    """Say whether numba can be imported."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def _multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """Set out = a @ b by the way that is fastest for these shapes on this machine."""
    if numba_available():
        from mambabench.probe.heads.products import multiply

        multiply(a, b, out)
    else:
        torch.mm(a, b, out=out)


@dataclass(frozen=True)
class Batch:
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
        return _evaluated(W, b, self.norms, self.running, columns)

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


def _evaluated(
    W: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    norms: Sequence[F32],
    running: Sequence[F32],
    columns: torch.Tensor,
) -> torch.Tensor:
    """Return logits [n_labels, n]; the running statistics are folded into scale and shift."""
    for i in range(len(norms)):
        Z = torch.empty(len(W[i]), columns.shape[1])
        _multiply(W[i], columns, Z)
        columns = Z
        scale = norms[i][0] / np.sqrt(running[i][1] + np.float32(1e-5))
        shift = norms[i][1] + (b[i].numpy() - running[i][0]) * scale
        if numba_available():
            from mambabench.probe.heads.kernels import scale_shift_relu

            scale_shift_relu(columns.numpy(), scale, shift)
        else:
            columns.mul_(torch.from_numpy(scale).unsqueeze(1))
            columns.add_(torch.from_numpy(shift).unsqueeze(1)).relu_()
    logits = torch.empty(len(W[-1]), columns.shape[1])
    _multiply(W[-1], columns, logits)
    return logits.add_(b[-1].unsqueeze(1))


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

    def step(self, batch: Batch) -> None:
        """Do one optimiser step."""
        from mambabench.probe.heads.kernels import norm_backward, norm_forward

        n, padded = batch.rows.shape[0], batch.columns.shape[1]
        if n not in self._buffers:
            self._buffers[n] = _Buffers(self._dims, self._n_labels, n, padded)
        buf = self._buffers[n]
        keep = 1.0 - self._config.dropout
        scale = np.float32(1.0 / keep)
        inputs = batch.columns
        for i, dim in enumerate(self._dims):
            _multiply(self._W[i], inputs, buf.Z[i])
            self._streams.masks.draw(n, dim, keep, buf.bits[i])
            norm_forward(
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
        _multiply(self._W[-1], inputs[:, :n], buf.logits)
        buf.logits.add_(self._b[-1].unsqueeze(1))
        delta = buf.delta
        delta[:, :n] = _loss_gradient(buf.logits, batch)
        torch.sum(delta, 1, out=self._grad_b)
        for i in range(len(self._dims) - 1, -1, -1):
            _multiply(delta[:, :n], buf.A[i][:, :n].t(), self._grad_W[i + 1])
            _multiply(self._W[i + 1].t(), delta, buf.D[i])
            norm_backward(
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
        _multiply(delta[:, :n], batch.rows, self._grad_W[0])
        self._update()

    def _update(self) -> None:
        from mambabench.probe.heads.kernels import adam_step

        self._steps += 1
        lr = self._config.lr
        rate = np.float32(lr / (1 - 0.9**self._steps))
        second_scale = np.float32(1 / math.sqrt(1 - 0.999**self._steps))
        shrink = np.float32(1 - lr * self._config.weight_decay)
        for weight, gradient, first, second, decays in self._state:
            adam_step(
                weight, gradient, first, second, rate, second_scale, shrink if decays else ONE
            )

    def logits(self, columns: torch.Tensor) -> torch.Tensor:
        """Return [n_labels, n] of inputs [dim, n], in evaluation mode."""
        return _evaluated(self._W, self._b, self._norms, self._running, columns)

    def parameters(self) -> HeadParameters:
        """Return a copy of all numbers."""
        return HeadParameters.copied(self._W, self._b, self._norms, self._running)


ONE = np.float32(1.0)


def _loss_gradient(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Turn logits [n_labels, n] into the gradient of the mean loss, in place."""
    if batch.multilabel:
        return logits.sigmoid_().sub_(batch.target).mul_(1.0 / logits.numel())
    probability = torch.softmax(logits, 0)
    return probability.sub_(batch.target).mul_(1.0 / logits.shape[1])


class TorchHead:
    """The same head in plain torch, operation for operation as hear-eval-kit trains it.

    It rounds as the kit does, so its fits are the kit's to the last bit where the random stream is;
    biases before a BatchNorm drift by rounding noise, as there. Also used where numba is missing.
    """

    def __init__(self, config: HeadConfig, start: HeadParameters, streams: TrialStreams) -> None:
        def tensors(arrays: Sequence[F32]) -> list[torch.Tensor]:
            return [torch.from_numpy(array.copy()) for array in arrays]

        self._config = config
        self._streams = streams
        self._W, self._b = tensors(start.weights), tensors(start.biases)
        self._norms = [tensors(list(norm)) for norm in start.norms]
        self._running = [tensors(list(running)) for running in start.running]
        plain = [*self._b, *(t for norm in self._norms for t in norm)]
        self._trained = [*self._W, *plain]
        self._moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self._trained]
        self._steps = 0
        for parameter in self._trained:
            parameter.requires_grad_()

    def step(self, batch: Batch) -> None:
        """Do one optimiser step."""
        keep = 1.0 - self._config.dropout
        x = batch.rows
        for i in range(len(self._norms)):
            x = self._normalised(i, torch.nn.functional.linear(x, self._W[i], self._b[i]), True)
            mask = self._streams.masks.dense(x.shape[0], x.shape[1], keep)
            x = torch.relu(x * mask.div_(keep))
        logits = torch.nn.functional.linear(x, self._W[-1], self._b[-1])
        target = batch.target.t()
        if batch.multilabel:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        else:
            loss = torch.nn.functional.cross_entropy(logits, target)
        self._update(torch.autograd.grad(loss, self._trained))

    @torch.no_grad()
    def _update(self, gradients: Sequence[torch.Tensor]) -> None:
        """Do what torch.optim's Adam or AdamW does; importing those takes seconds."""
        self._steps += 1
        lr = self._config.lr
        step_size = lr / (1 - 0.9**self._steps)
        correction = (1 - 0.999**self._steps) ** 0.5
        if self._config.weight_decay:
            for weight in self._W:
                weight.mul_(1 - lr * self._config.weight_decay)
        for parameter, g, (first, second) in zip(
            self._trained, gradients, self._moments, strict=True
        ):
            first.lerp_(g, 1 - 0.9)
            second.mul_(0.999).addcmul_(g, g, value=1 - 0.999)
            denominator = (second.sqrt() / correction).add_(1e-8)
            parameter.addcdiv_(first, denominator, value=-step_size)

    def _normalised(self, i: int, x: torch.Tensor, training: bool) -> torch.Tensor:
        (mean, variance), (weight, bias) = self._running[i], self._norms[i]
        return torch.nn.functional.batch_norm(
            x,
            mean,
            variance,
            weight,
            bias,
            training,
        )

    @torch.no_grad()
    def logits(self, columns: torch.Tensor) -> torch.Tensor:
        """Return [n_labels, n] of inputs [dim, n], in evaluation mode."""
        x = columns.t().contiguous()  # narrow products round by their operands' layout
        for i in range(len(self._norms)):
            x = torch.nn.functional.linear(x, self._W[i], self._b[i])
            x = torch.relu(self._normalised(i, x, False))
        return torch.nn.functional.linear(x, self._W[-1], self._b[-1]).t()

    def parameters(self) -> HeadParameters:
        """Return a copy of all numbers."""

        def copied(tensors: list[torch.Tensor]) -> tuple[F32, ...]:
            return tuple(t.detach().numpy().copy() for t in tensors)

        def pairs(tensors: list[list[torch.Tensor]]) -> tuple[F32, ...]:
            return tuple(np.stack(copied(pair)) for pair in tensors)

        return HeadParameters(
            copied(self._W), copied(self._b), pairs(self._norms), pairs(self._running)
        )


def make_head(
    config: HeadConfig, start: HeadParameters, streams: TrialStreams, compiled: bool | None = None
) -> CompiledHead | ExactHead | TorchHead:
    """Return the fastest head that can run here on a CPU (`compiled` forces one kind).

    The exact stream is for comparing with the kit fit by fit and takes a head that rounds as it.
    """
    if streams.exact and compiled is None:
        from mambabench.probe.heads.exact import exact_head

        return exact_head(config, start, streams)
    if numba_available() if compiled is None else compiled:
        return CompiledHead(config, start, streams)
    return TorchHead(config, start, streams)
