"""Train one head on one fold: batches, early stopping, the best epoch's parameters."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.engine.jobs import Stopped
from mambabench.errors import ProtocolError
from mambabench.probe.heads.choice import make_head
from mambabench.probe.heads.parameters import (
    HeadParameters,
    RowBatch,
    initial_parameters,
    padded_columns,
)
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.monitor import Monitor, Monitored, PostProcessing
from mambabench.probe.protocols import GridSettings, HeadConfig, Protocol, RowSettings
from mambabench.probe.rows import TrainingRows, ValidationRows

__all__ = [
    "EVALUATED",
    "PreparedFold",
    "Progressing",
    "Scaler",
    "TrialResult",
    "batch_edges",
    "prepare_fold",
    "train",
]

EVALUATED = 8192  # columns evaluated at a time, which bounds the memory of activations
# Smaller inputs change no digit of a head, but their products are subnormal numbers, which make
# matrix products several times as long.
_NEGLIGIBLE = 1e-20


@dataclass(frozen=True)
class Scaler:
    """Standardise columns by the training rows' mean and standard deviation."""

    mean: npt.NDArray[np.float32]  # [dim]
    scale: npt.NDArray[np.float32]  # [dim], 1 where the deviation is 0

    def __call__(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return [n, dim] float32."""
        return (embeddings - self.mean) / self.scale

    @staticmethod
    def fitted(embeddings: npt.NDArray[np.float32]) -> Scaler:
        """Return the scaler of training rows [n, dim]; moments in double precision."""
        mean = embeddings.mean(axis=0, dtype=np.float64)
        deviation = embeddings.std(axis=0, dtype=np.float64)
        noise = 1e-6 * np.abs(mean) + 1e-12  # a constant column's deviation is rounding noise
        scale = np.where(deviation > noise, deviation, 1.0)
        return Scaler(mean.astype(np.float32), scale.astype(np.float32))


@dataclass(frozen=True)
class PreparedFold:
    """What every trial of a fold shares, read-only: resident batches and the validation."""

    rows: torch.Tensor  # [n, dim] float32, training
    target: torch.Tensor  # [n_labels, n] float32: one-hot or multi-hot
    batches: tuple[RowBatch, ...]  # fixed batches; empty where every epoch makes new ones
    batch_size: int  # 0: the grid point's own
    validation: tuple[torch.Tensor, ...]  # columns [dim, up to 8192], padded
    n_validation: int
    monitor: Monitor
    scaler: Scaler | None
    multilabel: bool

    @property
    def dim(self) -> int:
        """Width of a row."""
        return int(self.rows.shape[1])

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return int(self.target.shape[0])

    @property
    def n_steps(self) -> int:
        """Optimiser steps of an epoch."""
        return len(self.batches) or len(batch_edges(len(self.rows), self.batch_size))

    def validation_logits(self, logits: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return `logits` of the validation rows, [n_labels, n]."""
        every = torch.cat([logits(part) for part in self.validation], 1)
        return every[:, : self.n_validation]


@dataclass(frozen=True)
class TrialResult:
    """A trained head at its best epoch."""

    value: float  # the monitored value, larger is better; NaN if never defined
    score: float  # the same as the metric (or the loss) gives it
    best_epoch: int | None  # 0-based; None without any validation
    n_epochs: int
    post_processing: PostProcessing | None
    parameters: HeadParameters


def prepare_fold(
    protocol: Protocol,
    training: TrainingRows,
    validation: ValidationRows,
    monitor: Monitor,
    *,
    n_labels: int,
    multilabel: bool,
    batch_size: int,
) -> PreparedFold:
    """Make the batches of a fold.

    ProtocolError where a kit protocol would meet a last batch of one row, which has no variance.
    """
    n = len(training.embeddings)
    settings = protocol.settings if isinstance(protocol.settings, RowSettings) else RowSettings()
    adapt = isinstance(settings, GridSettings) and settings.adapt_batch
    scaler = Scaler.fitted(training.embeddings) if settings.standardise else None
    rows, valid = (
        _tensor(part.embeddings if scaler is None else scaler(part.embeddings), protocol.exact)
        for part in (training, validation)
    )
    target = _target(training.targets, n_labels)
    batches: tuple[RowBatch, ...] = ()
    if protocol.kit:
        if n % batch_size == 1:
            raise ProtocolError(
                f"{n} training rows leave a last batch of 1 at batch size {batch_size}, which has "
                f"no variance to normalise by: the protocol {protocol.name} cannot train on them "
                "(nor can hear-eval-kit); use --protocol sound, which joins it to the batch before"
            )
        batches = tuple(
            _batch(rows, target, slice(i, i + batch_size), multilabel)
            for i in range(0, n, batch_size)
        )
    return PreparedFold(
        rows=rows,
        target=target,
        batches=batches,
        batch_size=_adapted(n, batch_size) if adapt else batch_size,
        validation=tuple(
            padded_columns(valid[i : i + EVALUATED]) for i in range(0, len(valid), EVALUATED)
        ),
        n_validation=len(valid),
        monitor=monitor,
        scaler=scaler,
        multilabel=multilabel,
    )


def _tensor(embeddings: npt.NDArray[np.float32], exact: bool) -> torch.Tensor:
    """Return an aligned copy: how a product rounds must not depend on where its input lies.

    What is too small to matter is zero, but for `exact`, which keeps the kit's bits.
    """
    rows = torch.empty(embeddings.shape)
    rows.copy_(torch.from_numpy(np.array(embeddings, np.float32)))
    if not exact:
        rows[rows.abs() < _NEGLIGIBLE] = 0
    return rows


def _target(targets: npt.NDArray[Any], n_labels: int) -> torch.Tensor:
    """Return float32 [n_labels, n]."""
    if targets.ndim == 2:
        return torch.from_numpy(np.ascontiguousarray(targets.T.astype(np.float32)))
    one_hot = np.zeros((n_labels, len(targets)), np.float32)
    one_hot[targets, np.arange(len(targets))] = 1.0
    return torch.from_numpy(one_hot)


def _batch(rows: torch.Tensor, target: torch.Tensor, which: slice, multilabel: bool) -> RowBatch:
    part = rows[which].clone()
    return RowBatch(part, padded_columns(part), target[:, which].contiguous(), multilabel)


def _adapted(n: int, largest: int) -> int:
    """Return the power of two nearest below n / 16, at least 32 and at most `largest`."""
    return max(32, min(largest, 1 << int(math.log2(max(n / 16, 1)))))


def _epoch(fold: PreparedFold, streams: TrialStreams) -> Iterator[RowBatch]:
    """Yield the batches of one epoch: the fixed ones, or new ones with a tail of one joined."""
    if fold.batches:
        yield from fold.batches
        return
    order = streams.order(len(fold.rows))
    shuffled, target = fold.rows[order], fold.target[:, order]
    for start, stop in batch_edges(len(fold.rows), fold.batch_size):
        part = shuffled[start:stop]
        yield RowBatch(
            part, padded_columns(part), target[:, start:stop].contiguous(), fold.multilabel
        )


def batch_edges(n: int, size: int) -> list[tuple[int, int]]:
    """Return start and stop of the batches of n shuffled rows, a last batch of one joined to the
    one before."""
    edges = [*range(0, n, size), n]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return list(itertools.pairwise(edges))


class Progressing:
    """Early stopping and the best epoch of one fit.

    Strict improvement; `patience` validations without one end the fit, and under the kit's
    protocols so does an undefined or infinite value.
    """

    def __init__(self, patience: int, *, kit: bool) -> None:
        self._patience = patience
        self._kit = kit
        self._best: TrialResult | None = None
        self._rank = (-math.inf, -math.inf)
        self._waited = 0
        self._n_epochs = 0
        self.ended = False

    def see(self, epoch: int, seen: Monitored, parameters: Callable[[], HeadParameters]) -> None:
        """Take the validation after `epoch` (0-based)."""
        rank = _rank(seen)
        self._n_epochs = epoch + 1
        if self._best is None or rank > self._rank:
            self._rank = rank
            self._waited = 0 if math.isfinite(seen.value) else self._waited + 1
            self._best = TrialResult(
                seen.value, seen.score, epoch, 0, seen.post_processing, parameters()
            )
        else:
            self._waited += 1
        undefined = self._kit and not math.isfinite(seen.value)
        self.ended = undefined or self._waited >= self._patience

    def close(self, n_epochs: int, parameters: Callable[[], HeadParameters]) -> None:
        """Say that a fit has come to its last epoch."""
        self._n_epochs = n_epochs
        if self._best is None:
            self._best = TrialResult(math.nan, math.nan, None, 0, None, parameters())

    def result(self) -> TrialResult:
        """Return the head at its best epoch."""
        assert self._best is not None
        return replace(self._best, n_epochs=self._n_epochs)


def train(
    config: HeadConfig,
    fold: PreparedFold,
    streams: TrialStreams,
    *,
    kit: bool,
    compiled: bool | None = None,
    stop: threading.Event | None = None,
) -> TrialResult:
    """Train one head to its early stop and return it at its best epoch.

    Validated every `check_every` epochs; see `Progressing` for when it stops.
    """
    start = initial_parameters(config, fold.dim, fold.n_labels, streams)
    head = make_head(config, start, streams, compiled)
    fit = Progressing(config.patience, kit=kit)
    for epoch in range(config.max_epochs):
        if stop is not None and stop.is_set():
            raise Stopped
        streams.iterated()
        for batch in _epoch(fold, streams):
            head.step(batch)
        if (epoch + 1) % config.check_every:
            continue
        streams.iterated()
        fit.see(epoch, fold.monitor(fold.validation_logits(head.logits)), head.parameters)
        if fit.ended:
            return fit.result()
    fit.close(config.max_epochs, head.parameters)
    return fit.result()


def _rank(seen: Monitored) -> tuple[float, float]:
    tie = -math.inf if math.isnan(seen.tie) else seen.tie
    return (-math.inf if math.isnan(seen.value) else seen.value, tie)
