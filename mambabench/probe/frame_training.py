"""The one training loop of SUPERB's heads on frames: accumulate, clip, step, evaluate, keep.

Source: s3prl 0.4.18, `downstream/runner.py`: a step is an optimiser update after `accumulation`
backward passes, the gradient norm of all parameters is clipped, a gradient that is not finite skips
the step. The order of batches and every other draw come from generators of the trial's own, so that
a loop that is cut off goes on from its snapshot to the same bytes.
"""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mambabench.engine.jobs import Stopped
from mambabench.files import write_bytes
from mambabench.models.weights.torch_files import save_torch

__all__ = ["EndlessBatches", "FrameLoop", "FrameSettings", "initialise", "window_batches"]

SNAPSHOT_EVERY_S = 60.0


@dataclass(frozen=True)
class FrameSettings:
    """How one head is trained. The defaults are PR's; others pass their own."""

    learning_rate: float = 1e-2
    total_steps: int = 100_000
    batch_size: int = 16  # clips of one backward pass
    accumulation: int = 2
    eval_every: int = 1_000
    gradient_norm: float = 1.0
    device: str = "cpu"
    stop: threading.Event | None = None
    snapshot: Path | None = None  # a loop that takes long keeps its state here


def window_batches(
    sizes: Sequence[int], n_samples: Sequence[int], batch_size: int, half_above: int = 300_000
) -> list[list[int]]:
    """Return the batches of one epoch of PR and SF: a window of neighbours for every clip.

    Clips are sorted by target length, longest first (equals keep their order); batch i holds the
    `batch_size` clips from min(i, n - batch_size), so that a clip is met up to `batch_size` times
    in an epoch. A window whose first clip has more than `half_above` samples keeps its first half.
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    size = min(batch_size, len(order))
    windows = []
    for i in range(len(order)):
        start = min(i, len(order) - size)
        window = order[start : start + size]
        if n_samples[window[0]] > half_above and len(window) > 1:
            window = window[: len(window) // 2]
        windows.append(window)
    return windows


class EndlessBatches:
    """Batches without end: every epoch is drawn anew from a generator of the trial's own."""

    def __init__(
        self, draw: Callable[[np.random.Generator], Sequence[Sequence[int]]], seed: Sequence[int]
    ) -> None:
        """`draw` returns the batches of one epoch, in their order."""
        self._draw = draw
        self._generator = np.random.default_rng(list(seed))
        self._start: Any = self._generator.bit_generator.state  # at the epoch's beginning
        self._batches: Sequence[Sequence[int]] = ()
        self._next = 0

    def __call__(self) -> Sequence[int]:
        """Return the rows of the next batch."""
        if self._next >= len(self._batches):
            self._start = self._generator.bit_generator.state
            self._batches, self._next = self._draw(self._generator), 0
        self._next += 1
        return self._batches[self._next - 1]

    def state(self) -> dict[str, Any]:
        """Return where the batches stand."""
        return {"start": self._start, "next": self._next, "drawn": len(self._batches) > 0}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._generator.bit_generator.state = state["start"]
        self._start = state["start"]
        if state["drawn"]:
            self._batches, self._next = self._draw(self._generator), state["next"]


def initialise(module: nn.Module, seed: int) -> nn.Module:
    """Give a module torch's default initial values from a generator of `seed` alone.

    Linear and Conv1d: uniform within 1/sqrt(fan in), weights and biases; LSTM: within
    1/sqrt(hidden). Other parameters keep what they have. Module by module, in order.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d):
            bound = 1.0 / math.sqrt(part.weight[0].numel())
        elif isinstance(part, nn.LSTM):
            bound = 1.0 / math.sqrt(part.hidden_size)
        else:
            continue
        for tensor in part.parameters(recurse=False):
            with torch.no_grad():
                tensor.uniform_(-bound, bound, generator=generator)
    return module


class FrameLoop:
    """One head's training, from the first step or from its snapshot to the last."""

    def __init__(
        self,
        modules: nn.ModuleDict,
        optimiser: torch.optim.Optimizer,
        epochs: EndlessBatches,
        settings: FrameSettings,
        noise: torch.Generator | None = None,
    ) -> None:
        """`modules` hold all that is trained; `noise` draws dropout and masks."""
        self.modules, self.optimiser, self.epochs = modules, optimiser, epochs
        self.settings, self.noise = settings, noise
        self.step = 0
        self.kept: dict[str, Any] = {}  # what the caller keeps at evaluations
        self._saved = time.monotonic()

    def run(
        self,
        loss: Callable[[Sequence[int]], torch.Tensor],
        evaluate: Callable[[int], None],
    ) -> None:
        """Train; `evaluate` is called every `eval_every` steps and at the last, with the step.

        `loss` is the mean loss of the clips of one batch. Raises Stopped where the run is ended.
        """
        self._restore()
        tensors = [t for group in self.optimiser.param_groups for t in group["params"]]
        while self.step < self.settings.total_steps:
            self.optimiser.zero_grad()
            for _ in range(self.settings.accumulation):
                part = loss(self.epochs()) / self.settings.accumulation
                part.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(tensors, self.settings.gradient_norm)
            if math.isfinite(float(norm)):
                self.optimiser.step()
            self.step += 1
            if self.step % self.settings.eval_every == 0 or self.step == self.settings.total_steps:
                self.modules.eval()
                with torch.no_grad():
                    evaluate(self.step)
                self.modules.train()
            self._pause()

    def state(self) -> dict[str, torch.Tensor]:
        """Return a copy of the parameters, on the CPU."""
        return {k: v.detach().to("cpu", copy=True) for k, v in self.modules.state_dict().items()}

    def _pause(self) -> None:
        stopped = self.settings.stop is not None and self.settings.stop.is_set()
        late = time.monotonic() - self._saved >= SNAPSHOT_EVERY_S
        if self.settings.snapshot is not None and (stopped or late):
            self._save(self.settings.snapshot)
        if stopped:
            raise Stopped

    def _save(self, path: Path) -> None:
        body = {
            "step": self.step,
            "modules": self.modules.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epochs": self.epochs.state(),
            "noise": None if self.noise is None else self.noise.get_state(),
            "kept": self.kept,
        }
        buffer = io.BytesIO()
        save_torch(body, buffer)
        write_bytes(path, buffer.getvalue())
        self._saved = time.monotonic()

    def _restore(self) -> None:
        path = self.settings.snapshot
        if path is None or not path.is_file():
            return
        body = torch.load(path, map_location=self.settings.device, weights_only=True)
        self.step = body["step"]
        self.modules.load_state_dict(body["modules"])
        self.optimiser.load_state_dict(body["optimiser"])
        self.epochs.restore(body["epochs"])
        if self.noise is not None:
            self.noise.set_state(body["noise"].cpu())
        self.kept = body["kept"]
