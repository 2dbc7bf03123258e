"""The same head in plain torch, for machines without numba."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mambabench.probe.heads.parameters import F32, HeadParameters, RowBatch
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.protocols import HeadConfig

__all__ = ["TorchHead"]


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

    def step(self, batch: RowBatch) -> None:
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
