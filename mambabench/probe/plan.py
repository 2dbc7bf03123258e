"""What is to be trained: a plan of one (encoder, task, protocol) and its units, one a seed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from mambabench.benchmarks.task import Fold
from mambabench.probe.cache import TrialCache
from mambabench.probe.data import TaskRows
from mambabench.probe.monitor import Monitor
from mambabench.probe.protocols import HeadConfig, Protocol
from mambabench.probe.trainer import PreparedFold, prepare_fold

__all__ = ["ProbePlan", "ProbeUnit", "StackableTrial"]


@dataclass(frozen=True)
class StackableTrial:
    """What a job trains, for a device that trains many heads at once."""

    prepared: Callable[[], PreparedFold]
    config: HeadConfig
    seed: int
    kit: bool


class ProbePlan:
    """What all units of one (encoder, task, protocol) share: rows and prepared folds."""

    def __init__(
        self,
        rows: TaskRows,
        protocol: Protocol,
        stop: threading.Event | None = None,
        device: str = "cpu",
    ) -> None:
        self.rows = rows
        self.task = rows.task
        self.protocol = protocol
        self.stop = stop
        self.device = device  # of trials that are not stacked
        self._prepared: dict[tuple[str, str, int], PreparedFold] = {}
        self._locks: dict[tuple[str, str, int], threading.Lock] = {}
        self._lock = threading.Lock()

    def prepared(self, fold: Fold, batch_size: int) -> PreparedFold:
        """Return the resident batches of a fold, made at their first use."""
        key = (fold.test, fold.valid, batch_size)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._prepared:
                validation = self.rows.validation(fold)
                monitor = Monitor(
                    self.task,
                    validation,
                    multilabel=self.rows.multilabel,
                    kit=self.protocol.kit,
                )
                self._prepared[key] = prepare_fold(
                    self.protocol,
                    self.rows.training(fold),
                    validation,
                    monitor,
                    n_labels=len(self.task.labels),
                    multilabel=self.rows.multilabel,
                    batch_size=batch_size,
                )
            return self._prepared[key]


@dataclass(frozen=True)
class ProbeUnit:
    """One (encoder, task, protocol, seed)."""

    plan: ProbePlan
    seed: int
    inputs_sha256: str
    cache: TrialCache | None = None
