"""Replay a recorded run of hear-eval-kit fit by fit, and compare scores, epochs and curves."""

from __future__ import annotations

import base64
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambabench.benchmarks.task import Task
from mambabench.probe.data import TaskRows
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.monitor import Monitored
from mambabench.probe.plan import ProbePlan
from mambabench.probe.protocols import HeadConfig, grid_points, resolve_protocol
from mambabench.probe.trainer import train
from mambabench.store.embeddings import StoredTask
from mambabench.store.open import list_stored_tasks

FIELDS = {"check_val_every_n_epoch": "check_every"}
USED = (
    "batch_size",
    "check_val_every_n_epoch",
    "dropout",
    "hidden_dim",
    "hidden_layers",
    "lr",
    "max_epochs",
    "patience",
)


@dataclass(frozen=True)
class Replayed:
    """One fit of the kit and ours, started from the same state of the generator."""

    identical: bool  # best score, best epoch and number of epochs
    first_difference: float  # at the first validation that differs, in `unit`; 0 if none
    unit: str  # "clips" of an accuracy, else the monitored metric's name or "loss"
    kit_epochs: int
    our_epochs: int
    our_cpu_s: float
    hidden_layers: int


class _Listening:
    """A monitor that remembers what it has seen."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor
        self.curve: list[float] = []

    def __call__(self, logits: torch.Tensor) -> Monitored:
        seen: Monitored = self._monitor(logits)
        self.curve.append(seen.score)
        return seen


def config_of(conf: dict[str, Any]) -> HeadConfig:
    """Return the grid point of a recorded fit."""
    values = {FIELDS.get(key, key): conf[key] for key in USED}
    name = "uniform" if "xavier_uniform" in conf["initialization"] else "normal"
    return HeadConfig(initialization=name, **values)  # type: ignore[arg-type]


def stored_task(out: Path, encoder: str, task: str) -> StoredTask:
    """Return a task of a hear-eval-kit embeddings directory."""
    every = list_stored_tasks(out, "hear-eval-kit")
    (stored,) = (s for s in every if s.task.name == task and s.encoder == encoder)
    return stored


def replay(
    out: Path, encoder: str, task: str, record: dict[str, Any], compiled: bool | None = None
) -> list[Replayed]:
    """Train every recorded fit again from the recorded state of the generator."""
    torch.set_num_threads(1)
    stored = stored_task(out, encoder, task)
    protocol = resolve_protocol("hear2021", exact=True)
    plan = ProbePlan(TaskRows(stored, kit=True), protocol)
    by_test = {fold.test: fold for fold in plan.rows.folds}
    ours = []
    points = grid_points(protocol, stored.task, 42)
    for i, fit in enumerate(record["fits"]):
        config = config_of(fit["conf"])
        assert i >= len(points) or config == points[i], (config, points[i])
        prepared = plan.prepared(by_test[fit["splits"]["test"][0]], config.batch_size)
        listening = _Listening(prepared.monitor)
        object.__setattr__(prepared, "monitor", listening)
        streams = TrialStreams(0, exact=True)
        state = np.frombuffer(base64.b64decode(fit["rng_state"]), np.uint8).copy()
        streams.generator.set_state(torch.from_numpy(state))
        cpu = time.thread_time()
        result = train(config, prepared, streams, kit=True, compiled=compiled)
        cpu = time.thread_time() - cpu
        object.__setattr__(prepared, "monitor", listening._monitor)
        ours.append(_compared(stored.task, fit, result, listening.curve, prepared, cpu))
    return ours


def _same(theirs: float, ours: float) -> bool:
    """Say whether two validations agree: the kit logs float32, and NaN equals NaN."""
    if math.isnan(theirs) or math.isnan(ours):
        return math.isnan(theirs) and math.isnan(ours)
    return abs(theirs - ours) <= 1e-6 * max(1.0, abs(theirs))


def _compared(
    task: Task, fit: dict[str, Any], result: Any, curve: list[float], prepared: Any, cpu: float
) -> Replayed:
    unit = "loss" if not task.use_scoring_for_early_stopping else task.evaluation[0]
    scale = 1.0
    if unit == "top1_acc":
        unit, scale = "clips", float(prepared.n_validation)
    theirs = [score for _, score in fit["curve"]]
    pairs = zip(theirs, curve, strict=False)
    differing = [scale * abs(a - b) for a, b in pairs if not _same(a, b)]
    return Replayed(
        identical=(
            _same(fit["score"], result.score)
            and result.best_epoch == fit["best_epoch"]
            and result.n_epochs == fit["n_epochs"]
        ),
        first_difference=differing[0] if differing else 0.0,
        unit=unit,
        kit_epochs=fit["n_epochs"],
        our_epochs=result.n_epochs,
        our_cpu_s=cpu,
        hidden_layers=fit["conf"]["hidden_layers"],
    )
