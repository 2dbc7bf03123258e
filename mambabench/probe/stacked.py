"""Train heads of one shape side by side: the way to fill a GPU.

Weights of all heads lie in one array per layer, so that a step has the same few operations for one
head as for hundreds. Every head stops for itself; those that go on are packed together. Initial
weights and the order of rows are those of the same trial on a CPU; dropout masks come from one
generator on the device, seeded by the trials of the stack, so that results follow from the plan.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mambabench.engine.jobs import Stopped
from mambabench.probe.heads.parameters import HeadParameters, initial_parameters
from mambabench.probe.heads.streams import TrialStreams, stream_seed
from mambabench.probe.protocols import HeadConfig
from mambabench.probe.trainer import PreparedFold, Progressing, TrialResult, batch_edges

__all__ = ["StackedTrial", "stack_key", "train_stack"]


@dataclass(frozen=True)
class StackedTrial:
    """One head of a stack."""

    config: HeadConfig
    seed: int  # of the trial's streams


def stack_key(config: HeadConfig) -> HeadConfig:
    """Return what stacked heads share: all but rate, dropout, decay and the form of Xavier."""
    return replace(config, lr=0.0, dropout=0.0, weight_decay=0.0, initialization="uniform")


class _Stack:
    """Parameters and optimiser state of the heads that still train."""

    def __init__(
        self, trials: Sequence[StackedTrial], starts: Sequence[HeadParameters], device: str
    ) -> None:
        def stacked(field: str, i: int) -> torch.Tensor:
            return torch.from_numpy(np.stack([getattr(s, field)[i] for s in starts])).to(device)

        n_hidden = len(starts[0].norms)
        self.trained = [stacked("weights", i) for i in range(n_hidden + 1)]
        self.trained += [stacked("norms", i) for i in range(n_hidden)]
        self.trained += [stacked("biases", n_hidden)]
        self.first = [torch.zeros_like(p) for p in self.trained]
        self.second = [torch.zeros_like(p) for p in self.trained]
        self.biases = [stacked("biases", i) for i in range(n_hidden)]
        self.running = [stacked("running", i) for i in range(n_hidden)]
        numbers = [
            [t.config.lr, 1.0 - t.config.dropout, 1.0 - t.config.lr * t.config.weight_decay]
            for t in trials
        ]
        self.numbers = torch.tensor(numbers, device=device)
        self.n_hidden = n_hidden
        self.n_steps = 0

    def keep(self, index: list[int]) -> None:
        """Drop the heads that are not in `index`."""
        chosen = torch.tensor(index, device=self.numbers.device)
        for name in ("trained", "first", "second", "biases", "running"):
            setattr(self, name, [t[chosen] for t in getattr(self, name)])
        self.numbers = self.numbers[chosen]

    def logits(
        self, columns: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return [heads, n_labels, n] of inputs [dim, n] or [heads, dim, n].

        With a generator in training mode: batch statistics, which enter the running ones, and
        dropout.
        """
        x = columns
        for i in range(self.n_hidden):
            x = torch.matmul(self.trained[i], x) + self.biases[i].unsqueeze(2)
            x = torch.relu(self._normalised(i, x, generator))
        return torch.matmul(self.trained[self.n_hidden], x) + self.trained[-1].unsqueeze(2)

    def _normalised(
        self, i: int, x: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        norm = self.trained[self.n_hidden + 1 + i]
        if generator is None:
            mean, variance = self.running[i][:, 0], self.running[i][:, 1]
        else:
            variance, mean = torch.var_mean(x, 2, correction=0)
            n = x.shape[2]
            seen = torch.stack([mean.detach(), variance.detach() * (n / (n - 1))], 1)
            self.running[i] = self.running[i].lerp(seen, 0.1)
        scale = norm[:, 0] * torch.rsqrt(variance + 1e-5)
        shift = norm[:, 1] - mean * scale
        x = torch.addcmul(shift.unsqueeze(2), x, scale.unsqueeze(2))
        if generator is None:
            return x
        kept = self.numbers[:, 1].view(-1, 1, 1)
        mask = torch.rand(x.shape, generator=generator, device=x.device) < kept
        return x * mask / kept

    def step(
        self,
        columns: torch.Tensor,
        target: torch.Tensor,
        multilabel: bool,
        generator: torch.Generator,
    ) -> None:
        """Do one Adam step of every head; target [n_labels, n] or [heads, n_labels, n]."""
        for parameter in self.trained:
            parameter.requires_grad_(True)
        logits = self.logits(columns, generator)
        target = target.expand_as(logits)
        if multilabel:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, target, reduction="none"
            ).mean((1, 2))
        else:
            loss = -(torch.log_softmax(logits, 1) * target).sum(1).mean(1)
        gradients = torch.autograd.grad(loss.sum(), self.trained)
        self._update(gradients)

    @torch.no_grad()
    def _update(self, gradients: Sequence[torch.Tensor]) -> None:
        self.n_steps += 1
        second_scale = 1 / math.sqrt(1 - 0.999**self.n_steps)
        for i, gradient in enumerate(gradients):
            parameter = self.trained[i].requires_grad_(False)
            shape = (-1, *[1] * (parameter.dim() - 1))
            rate = self.numbers[:, 0].view(shape) / (1 - 0.9**self.n_steps)
            self.first[i].lerp_(gradient, 0.1)
            self.second[i].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            if i <= self.n_hidden:
                parameter.mul_(self.numbers[:, 2].view(shape))
            denominator = self.second[i].sqrt().mul_(second_scale).add_(1e-8)
            parameter.sub_(rate * self.first[i] / denominator)

    def parameters(self, head: int) -> HeadParameters:
        """Return a copy of one head's numbers."""

        def copied(tensors: Sequence[torch.Tensor]) -> tuple[np.ndarray, ...]:
            return tuple(t[head].detach().cpu().numpy().copy() for t in tensors)

        n = self.n_hidden
        return HeadParameters(
            copied(self.trained[: n + 1]),
            (*copied(self.biases), *copied(self.trained[-1:])),
            copied(self.trained[n + 1 : 2 * n + 1]),
            copied(self.running),
        )


def train_stack(
    trials: Sequence[StackedTrial],
    fold: PreparedFold,
    *,
    kit: bool,
    device: str,
    stop: threading.Event | None = None,
) -> list[TrialResult]:
    """Train heads of one `stack_key` together and return each at its best epoch."""
    config = trials[0].config
    streams = [TrialStreams(trial.seed) for trial in trials]
    starts = [
        initial_parameters(trial.config, fold.dim, fold.n_labels, own)
        for trial, own in zip(trials, streams, strict=True)
    ]
    stack = _Stack(trials, starts, device)
    generator = torch.Generator(device).manual_seed(
        stream_seed("stack", *(trial.seed for trial in trials))
    )
    validation = [part.to(device) for part in fold.validation]
    fits = [Progressing(config.patience, kit=kit) for _ in trials]
    live = list(range(len(trials)))
    batches = _Batches(fold, device)
    for epoch in range(config.max_epochs):
        if stop is not None and stop.is_set():
            raise Stopped
        for columns, target in batches.epoch([streams[i] for i in live]):
            stack.step(columns, target, fold.multilabel, generator)
        if (epoch + 1) % config.check_every:
            continue
        with torch.no_grad():
            logits = torch.cat([stack.logits(part) for part in validation], 2)
        every = logits[:, :, : fold.n_validation].cpu()
        for head, i in enumerate(live):
            fits[i].see(epoch, fold.monitor(every[head]), lambda h=head: stack.parameters(h))  # type: ignore[misc]
        going = [head for head, i in enumerate(live) if not fits[i].ended]
        if len(going) < len(live):
            live = [live[head] for head in going]
            if not live:
                break
            stack.keep(going)
    for head, i in enumerate(live):
        fits[i].close(config.max_epochs, lambda h=head: stack.parameters(h))  # type: ignore[misc]
    return [fit.result() for fit in fits]


class _Batches:
    """A fold's batches on the device; with shuffling every head has its own order."""

    def __init__(self, fold: PreparedFold, device: str) -> None:
        self._fold = fold
        self._fixed = [(b.rows.t().to(device), b.target.to(device)) for b in fold.batches]
        if not self._fixed:
            self._rows = fold.rows.to(device)
            self._target = fold.target.t().contiguous().to(device)

    def epoch(self, streams: Sequence[TrialStreams]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield inputs and targets of the steps of one epoch."""
        if self._fixed:
            yield from self._fixed
            return
        n = len(self._fold.rows)
        orders = torch.stack([own.order(n) for own in streams]).to(self._rows.device)
        for start, stop in batch_edges(n, self._fold.batch_size):
            index = orders[:, start:stop]
            yield self._rows[index].transpose(1, 2), self._target[index].transpose(1, 2)
