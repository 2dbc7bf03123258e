"""The one training loop: steps, precision, ranks, evaluation, selection, saving, continuing.

What differs between systems comes in as data and small functions (`Work`). All that a run is lies
in `state.safetensors`: weights, optimiser, scaler, schedule, sums, history. Random numbers are
functions of (seed, epoch, place), so a run that is killed ends in the weights it would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from mambabench.errors import ProtocolError, StoreError
from mambabench.train.batches import Batch, Source, Step
from mambabench.train.optimise import clip_gradients
from mambabench.train.ranks import Ranks
from mambabench.train.rates import Rates
from mambabench.train.state import (
    load_tensors,
    optimiser_tensors,
    plain,
    restore_optimiser,
    save_tensors,
    unplain,
)

__all__ = ["Evaluation", "Losses", "Progress", "Tick", "Work", "restore", "run_training", "writing"]

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
MAX_SKIPPED = 0.01  # share of steps with a loss that is no number, where they are skipped


class Losses(NamedTuple):
    """What an objective returns, as means over the batch's clips."""

    loss: torch.Tensor  # scalar, with gradient
    shown: Mapping[str, torch.Tensor]  # logged beside it


class Evaluation(NamedTuple):
    """What an evaluation found."""

    score: float  # higher is better: what the schedule looks at
    selection: float  # higher is better: what chooses the best weights
    row: Mapping[str, Any]  # written into the history


@dataclass
class Progress:
    """Where a run stands; JSON apart from the tensors of model and optimiser."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs done
    clips: int = 0
    skipped: int = 0  # steps without an update, for a loss that was no number
    overflows: int = 0  # steps without an update, for fp16 gradients out of range
    seconds: float = 0.0
    since_epoch: dict[str, float] = field(default_factory=dict)  # sums, weighted by clips
    since_evaluation: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)  # of the last step
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_step: int = 0

    def mean(self, name: str, since: Literal["epoch", "evaluation"]) -> float:
        """Return the mean of a value over the clips since then; NaN before the first."""
        sums = self.since_epoch if since == "epoch" else self.since_evaluation
        n = sums.get("clips", 0.0)
        return sums[name] / n if n else math.nan


class Tick(NamedTuple):
    """What a step has to say."""

    step: int  # steps done
    n_steps: int
    epoch: int  # from 0
    rate: float
    shown: dict[str, float]  # loss first
    clips_per_s: float
    left_s: float
    clip_s: float  # seconds of audio in a clip


LoopEvent = Literal["start", "step", "evaluation", "epoch", "end"]


@dataclass
class Work:
    """A training with everything that belongs to its system."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    rates: Rates
    objective: Callable[[nn.Module, Batch], Losses]
    source: Source
    n_epochs: int
    device: str = "cpu"
    precision: str = "fp32"
    accumulate: int = 1
    clip_norm: float | None = None
    log_norm: bool = False  # log the gradients' norm
    on_nan: Literal["stop", "skip"] = "stop"
    evaluate: Callable[[Progress, Ranks], Evaluation] | None = None
    evaluate_every: int | None = None  # steps; None: after each epoch
    files: Callable[[LoopEvent, Work, Progress], None] | None = None  # the authors' files, rank 0
    after_epoch: Callable[[Work, Progress, Ranks], None] | None = None
    kept: dict[str, torch.Tensor] = field(default_factory=dict)  # tensors that must survive
    max_steps: int | None = None  # stop here, for trials
    enough: Callable[[Progress], bool] = lambda _: False  # asked before every epoch
    clip_s: float = 0.0  # seconds of audio in a clip: for the speed
    scaler: torch.amp.GradScaler | None = None

    def __post_init__(self) -> None:
        if self.precision == "fp16" and self.scaler is None:
            kind = self.device.partition(":")[0]
            self.scaler = torch.amp.GradScaler(kind, init_scale=65536.0)

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        n = self.n_epochs * self.source.steps_per_epoch
        return n if self.max_steps is None else min(n, self.max_steps)


def run_training(
    work: Work,
    folder: Path | None,
    ranks: Ranks,
    *,
    save_steps: int | None = None,
    save_seconds: float = 600.0,
    tick: Callable[[Tick], None] | None = None,
    saved: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train from where `folder` stands to the end; return the final progress.

    The state is written after every evaluation and epoch, every `save_steps` steps and at least
    every `save_seconds`; `saved` hears of each, and of the state that a run continues from. None
    writes nothing. Raises ProtocolError where the loss is no number (step, clips, rate), or
    StoreError where a file cannot be written: the last good state stays.
    """
    progress = Progress() if folder is None else restore(work, folder / "state.safetensors")
    if saved is not None:
        saved(progress)
    begun, kept_at = time.perf_counter() - progress.seconds, time.perf_counter()
    if progress.step == 0:
        _files("start", work, progress, ranks)
        if work.after_epoch is not None:
            work.after_epoch(work, progress, ranks)  # where it starts from
    work.model.train()
    while not _finished(work, progress):
        first = progress.step - progress.epoch * work.source.steps_per_epoch
        started, clips = time.perf_counter(), progress.clips
        with closing(work.source.steps(progress.epoch, first, ranks, work.accumulate)) as steps:
            for step in steps:
                shown = _one_step(work, step, progress, ranks)
                now = time.perf_counter()
                progress.seconds = now - begun
                if tick is not None and ranks.first:
                    speed = (progress.clips - clips) / max(now - started, 1e-9)
                    left = (
                        (work.n_steps - progress.step)
                        * (now - started)
                        / ((progress.clips - clips) / max(step.n_clips, 1))
                    )
                    rate = float(work.optimiser.param_groups[0]["lr"])
                    at = (progress.step, work.n_steps, progress.epoch)
                    tick(Tick(*at, rate, shown, speed, left, work.clip_s))
                evaluated = False
                if work.evaluate_every and progress.step % work.evaluate_every == 0:
                    _evaluate(work, progress, ranks)
                    evaluated = True
                at_end = progress.step % work.source.steps_per_epoch == 0
                by_step = save_steps is not None and progress.step % save_steps == 0
                if not at_end and (evaluated or by_step or now - kept_at > save_seconds):
                    _save(work, folder, progress, ranks, saved)
                    kept_at = time.perf_counter()
                if progress.step >= work.n_steps:
                    break
        if progress.step % work.source.steps_per_epoch == 0:
            _end_epoch(work, progress, ranks)
        _save(work, folder, progress, ranks, saved)
        kept_at = time.perf_counter()
    _files("end", work, progress, ranks)
    return progress


def _finished(work: Work, progress: Progress) -> bool:
    over = progress.epoch >= work.n_epochs or progress.step >= work.n_steps
    return over or work.enough(progress)


def _one_step(work: Work, step: Step, progress: Progress, ranks: Ranks) -> dict[str, float]:
    """Do one optimiser step; return what is logged, averaged over all clips of all ranks."""
    work.rates.before_step(progress.step)
    work.optimiser.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    bad: list[str] = []  # clips of the batches whose loss is no number
    finite = True
    for batch, count in zip(step.parts, step.counts, strict=True):
        losses = _forward(work, batch.to(work.device))
        share = count / step.n_clips
        if not torch.isfinite(losses.loss):
            finite = False
            bad += batch.names
        if finite:
            loss = losses.loss * share
            (work.scaler.scale(loss) if work.scaler else loss).backward()  # type: ignore[no-untyped-call]
        for name, value in {"loss": losses.loss, **losses.shown}.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) * share
    names = sorted(sums)
    totals = ranks.total([*(sums[n] for n in names), float(not finite)], work.device)
    shown = dict(zip(names, totals[:-1], strict=True))
    shown = {"loss": shown.pop("loss"), **shown}
    if totals[-1]:
        bad = [name for names in ranks.gathered(bad) for name in names]
        _not_a_number(work, bad, progress, shown)
    else:
        norm = _update(work, progress, ranks)
        if work.log_norm:
            shown["grad_norm"] = norm
        _add(progress.since_epoch, shown, step.n_clips)
        _add(progress.since_evaluation, shown, step.n_clips)
        progress.last = shown
    progress.step += 1
    progress.clips += step.n_clips
    return shown


def _forward(work: Work, batch: Batch) -> Losses:
    dtype = DTYPES.get(work.precision)
    kind = work.device.partition(":")[0]
    with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
        return work.objective(work.model, batch)


def _update(work: Work, progress: Progress, ranks: Ranks) -> float:
    """Sum the ranks' gradients, clip, step; return their norm before clipping."""
    parameters = [p for group in work.optimiser.param_groups for p in group["params"]]
    ranks.add_gradients(parameters)
    if work.scaler is not None:
        work.scaler.unscale_(work.optimiser)
    norm = math.nan
    if work.log_norm or work.clip_norm is not None:
        norm = float(clip_gradients(parameters, work.clip_norm))
    if work.scaler is None:
        work.optimiser.step()
    else:
        before = work.scaler.get_scale()
        work.scaler.step(work.optimiser)
        work.scaler.update()
        progress.overflows += work.scaler.get_scale() < before
    return norm


def _add(sums: dict[str, float], shown: Mapping[str, float], n: int) -> None:
    sums["clips"] = sums.get("clips", 0.0) + n
    for name, value in shown.items():
        sums[name] = sums.get(name, 0.0) + value * n


def _not_a_number(
    work: Work, names: Sequence[str], progress: Progress, shown: Mapping[str, float]
) -> None:
    """Count a step whose loss is no number, or stop; either way nothing is updated."""
    rate = float(work.optimiser.param_groups[0]["lr"])
    clips = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    what = (
        f"step {progress.step}: the loss is {shown['loss']} at rate {rate:.3g}; clips of the "
        f"batch: {clips or 'not known'}"
    )
    if work.on_nan == "stop":
        raise ProtocolError(
            f"{what}. The last good state stays; continue from it with a lower lr or without these "
            "clips"
        )
    progress.skipped += 1
    if progress.skipped > max(1.0, MAX_SKIPPED * work.n_steps):
        raise ProtocolError(f"{what}. {progress.skipped} steps were skipped, more than 1 % of all")


def _evaluate(work: Work, progress: Progress, ranks: Ranks) -> None:
    """Evaluate, tell the schedule, remember the best."""
    if work.evaluate is None:
        return
    work.model.eval()
    with torch.no_grad():
        found = work.evaluate(progress, ranks)
    work.model.train()
    rate = float(work.optimiser.param_groups[0]["lr"])
    progress.history.append({"step": progress.step, **found.row, "lr": rate})
    better = progress.best is None or found.selection > progress.best
    if better and not math.isnan(found.selection):
        progress.best, progress.best_step = found.selection, progress.step
    work.rates.after_evaluation(found.score)
    _files("evaluation", work, progress, ranks)
    progress.since_evaluation = {}


def _end_epoch(work: Work, progress: Progress, ranks: Ranks) -> None:
    progress.epoch += 1
    if work.evaluate_every is None:
        _evaluate(work, progress, ranks)
    work.rates.after_epoch(progress.epoch)
    _files("epoch", work, progress, ranks)
    if work.after_epoch is not None:
        work.after_epoch(work, progress, ranks)
        work.model.train()
    progress.since_epoch = {}


def _files(event: LoopEvent, work: Work, progress: Progress, ranks: Ranks) -> None:
    if work.files is not None and ranks.first:
        with writing("its files"):
            work.files(event, work, progress)


class writing:  # noqa: N801 (a context manager that reads as a verb)
    """Turn the system's refusal to write into a StoreError that says what survives."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Translate OSError; torch.save reports a full disk as a RuntimeError."""
        full = isinstance(error, RuntimeError) and "write" in str(error).lower()
        if isinstance(error, OSError) or full:
            raise StoreError(
                f"cannot write {self.what}: {error}. The last good state stays: make room and "
                "continue with --resume"
            ) from error


def _save(
    work: Work,
    folder: Path | None,
    progress: Progress,
    ranks: Ranks,
    saved: Callable[[Progress], None] | None,
) -> None:
    if ranks.first and folder is not None:
        _write(work, folder / "state.safetensors", progress)
    if saved is not None:
        saved(progress)


def _write(work: Work, path: Path, progress: Progress) -> None:
    tensors = {f"model/{k}": v.detach().cpu() for k, v in work.model.state_dict().items()}
    tensors |= {f"optimiser/{k}": v for k, v in optimiser_tensors(work.optimiser).items()}
    tensors |= {f"kept/{k}": v.detach().cpu() for k, v in work.kept.items()}
    header = {
        "progress": plain(asdict(progress)),
        "rates": work.rates.snapshot(),
        "scaler": {} if work.scaler is None else work.scaler.state_dict(),
    }
    with writing(f"the state {path}"):
        save_tensors(path, tensors, header)


def restore(work: Work, path: Path) -> Progress:
    """Put a saved state into `work` and return its progress; a new one where there is none."""
    if not path.is_file():
        return Progress()
    tensors, header = load_tensors(path)
    if "progress" not in header:
        raise StoreError(f"{path} is of another version: remove its folder and train again")

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }

    work.model.load_state_dict(part("model/"))
    restore_optimiser(work.optimiser, part("optimiser/"))
    work.rates.restore(header["rates"])
    work.kept.clear()
    work.kept.update(part("kept/"))
    if work.scaler is not None and header["scaler"]:
        work.scaler.load_state_dict(header["scaler"])
    return Progress(**unplain(header["progress"]))
