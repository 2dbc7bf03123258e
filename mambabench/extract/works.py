"""The works of a run of `extract`: an encoder on a task each, planned in shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.engine.journal import CellKey
from mambabench.errors import EncoderError, MambabenchError, nearest_names
from mambabench.extract.plan import Budget, plan_task
from mambabench.extract.settings import ExtractSettings
from mambabench.extract.sizes import FrameSize, frame_size, frames_per_s
from mambabench.extract.unit import load, make_unit, one_thread
from mambabench.store import hear_eval_kit, seal
from mambabench.store.embeddings import store_folder
from mambabench.store.plan import EncoderSpec, Shard, TaskPlan, pooling_of

if TYPE_CHECKING:
    from mambabench.benchmarks.task import Task
    from mambabench.models.encoder import LoadedEncoder

__all__ = ["BUDGETS", "TaskWork", "layout_module", "plan_works", "unit_of"]

# seconds of audio in a batch and in a shard, by device: part of the plan, hence of the result
BUDGETS = {
    "cpu": Budget(batch_s=16.0, shard_s=120.0),
    "cuda": Budget(batch_s=120.0, shard_s=1200.0),
}


@dataclass
class TaskWork:
    """One encoder on one task, and what this run has spent on it."""

    plan: TaskPlan
    directory: Path
    configuration: dict[str, Any]
    state: str = ""
    n_open: int = 0  # shards that this run still has to encode
    seconds: float = 0.0
    audio_s: float = 0.0
    n_halvings: int = 0
    n_reused: int = 0  # clips whose rows another task of this encoder had
    missing: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)  # as in TaskOutcome
    n_again: int = 0  # times that shards were encoded anew because clips changed meanwhile

    def note_changed(self, shard: Shard, clips: Iterable[str]) -> None:
        """Remember clips whose audio is not what was encoded before."""
        number = self.plan.shards.index(shard) + 1
        self.changed |= {f"{shard.split}/{clip}": number for clip in clips}

    size: FrameSize | None = None  # of frames of all layers
    rate: float = 0.0  # frames a second, where the task keeps frames

    @property
    def cell(self) -> CellKey:
        """What it is called in the journal."""
        return self.plan.spec.label, self.plan.task.name, "extract"

    @property
    def n_clips(self) -> int:
        """Clips of all its shards."""
        return sum(len(shard.clips) for shard in self.plan.shards)


def plan_works(
    name: str, tasks: Sequence[Task], settings: ExtractSettings, device: str
) -> list[TaskWork]:
    """Load an encoder and plan what it does on every task, in shards of its device's size.

    Raises EncoderError where it cannot be loaded or has not the layers that are asked for.
    """
    out, layers = settings.out.absolute(), settings.layers
    with one_thread(device):
        encoder = load(name, device, settings.precision)
    kind = encoder.device.partition(":")[0]
    spec = EncoderSpec(
        encoder=name,
        label=encoder.label,
        identity=encoder.identity,
        sample_rate_hz=encoder.sample_rate_hz,
        scene_embedding_size=encoder.scene_embedding_size,
        timestamp_embedding_size=encoder.timestamp_embedding_size,
        layers=_layers(encoder, layers),
        precision=settings.precision,
        device=kind,
        frames=settings.frames,
    )
    budget = BUDGETS.get(kind, BUDGETS["cuda"])
    keep_frames = any(pooling_of(task) == "frames" for task in tasks)
    with one_thread(device):
        rate = frames_per_s(encoder) if keep_frames else 0.0
    works = []
    for task in tasks:
        plan = plan_task(task, _spec_of(task, spec, encoder.n_hidden_states, layers), budget)
        directory = store_folder(out, encoder.label, task.name)
        size = frame_size(plan, rate)
        own = rate if pooling_of(task) == "frames" else 0.0
        works.append(TaskWork(plan, directory, dict(encoder.configuration), size=size, rate=own))
    return works


def _spec_of(task: Task, spec: EncoderSpec, n_hidden_states: int, layers: str) -> EncoderSpec:
    """Return the spec with all layers where the task wants them and the user names none."""
    if task.pooling != "frames":
        spec = changed(spec, frames="store")
    if task.layers == "all" and layers == "last":
        return changed(spec, layers=tuple(range(n_hidden_states)))
    return spec


def _layers(encoder: LoadedEncoder, text: str) -> tuple[int, ...] | None:
    """Parse "last", "all" or "0,3,6" into hidden states of the encoder."""
    if text == "last":
        return None
    if text == "all":
        return tuple(range(encoder.n_hidden_states))
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        near = nearest_names(text, ("last", "all"))
        raise MambabenchError(f"--layers {text!r} is not last, all or indices such as 0,3,6{near}")
    chosen = tuple(int(part) for part in parts)
    top = encoder.n_hidden_states - 1
    if max(chosen) > top:
        raise EncoderError(
            f"--layers {text}: encoder {encoder.label!r} has hidden states 0 to {top}"
        )
    if len(set(chosen)) < len(chosen):
        raise MambabenchError(f"--layers {text} names a layer twice")
    return chosen


def unit_of(work: TaskWork, shard: Shard) -> dict[str, Any]:
    """Return what a worker is told of a shard."""
    plan = work.plan
    clip_s = plan.task.sample_duration_s
    return make_unit(work.directory, pooling_of(plan.task), plan.spec, shard, clip_s)


def layout_module(name: str) -> Any:
    """Return the module that seals in the layout of this name."""
    if name == "hear-eval-kit":
        return hear_eval_kit

    return seal
