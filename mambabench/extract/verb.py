"""Encode the clips of tasks into embedding stores: the verb ``extract``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks import discover
from mambabench.benchmarks.demo import generate
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.limit import limited_task, parse_limit
from mambabench.engine.choice import make_engine, wanted_engine
from mambabench.engine.journal import CellKey, Journal
from mambabench.engine.units import Crew, Engine
from mambabench.errors import DataError, EncoderError, MambabenchError, StoreError, nearest_names
from mambabench.extract.belt import Belt
from mambabench.extract.discard import discard_others
from mambabench.extract.estimate import Open, estimate
from mambabench.extract.labels import tell_apart
from mambabench.extract.plan import Budget, plan_task
from mambabench.extract.reopen import reopen
from mambabench.extract.settings import ExtractSettings
from mambabench.extract.sizes import FrameSize, frame_size, frames_per_s, require_room
from mambabench.extract.unit import forget, load, make_unit, one_thread
from mambabench.files import write_json
from mambabench.models.registry import encoder_list, in_python, with_option
from mambabench.provenance import provenance, usable_cores
from mambabench.settings import Names, Paths, parse_share, settings_of
from mambabench.store import hear_eval_kit, seal
from mambabench.store.embeddings import store_folder
from mambabench.store.estimate import Estimate, PlannedTask, estimates_html
from mambabench.store.gather import missing_clips, shard_notes
from mambabench.store.notebook import html_table
from mambabench.store.open import read_embeddings
from mambabench.store.plan import EncoderSpec, Shard, TaskPlan, pooling_of
from mambabench.store.seal import MISSING, claim, finish_work
from mambabench.store.shards import drop_shard, read_record
from mambabench.store.sources import changed_in_shard, looked_at_again

if TYPE_CHECKING:
    from mambabench.benchmarks.task import Task
    from mambabench.models.encoder import LoadedEncoder

__all__ = [
    "DEMO_ENCODERS",
    "ExtractProgress",
    "Extracted",
    "TaskOutcome",
    "extract",
    "extract_with",
]

DEMO_ENCODERS = ("logmel_stats", "ssam_tiny_random")
MOST_AGAIN = 3  # times that clips may change under the hands of one run
# seconds of audio in a batch and in a shard, by device: part of the plan, hence of the result
BUDGETS = {
    "cpu": Budget(batch_s=16.0, shard_s=120.0),
    "cuda": Budget(batch_s=120.0, shard_s=1200.0),
}


@dataclass(frozen=True)
class ExtractProgress:
    """How far a run is."""

    clips: int
    n_clips: int
    audio_s: float
    total_audio_s: float
    elapsed_s: float  # since the first clip was given out
    sizes: tuple[str, ...] = ()  # once, before the first clip: what stored frames will take
    crew: Crew | None = None  # who works, where that is not this machine alone
    n_there: int = 0  # clips of other shards, which an earlier run has encoded


@dataclass(frozen=True)
class TaskOutcome:
    """What became of one encoder on one task."""

    encoder: str  # label
    task: str
    directory: Path
    state: str  # "sealed", "already" (sealed before), "waiting" (for other shards), "incomplete"
    n_clips: int
    missing: dict[str, str]  # "<split>/<clip>" -> reason
    warnings: dict[str, str] = field(default_factory=dict)  # likewise, of clips that are embedded
    # "<split>/<clip>" -> number (from 1) of its shard, for clips whose audio is not what was
    # encoded before; their shards were encoded anew
    changed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Extracted:
    """What a run of `extract` did."""

    out: Path
    outcomes: tuple[TaskOutcome, ...]
    audio_s: float  # seconds of audio encoded by this run
    elapsed_s: float
    estimates: tuple[Estimate, ...] = ()  # of a dry run, which encodes nothing
    planned: tuple[PlannedTask, ...] = ()  # likewise
    broken: tuple[EncoderError, ...] = ()  # of encoders that failed while others went on

    @property
    def failed(self) -> bool:
        """Say whether an encoder is broken, or a task not sealed because clips are missing."""
        return bool(self.broken) or any(outcome.state == "incomplete" for outcome in self.outcomes)

    def _repr_html_(self) -> str:
        """Show a row per encoder and task in a notebook."""
        if self.estimates:
            return estimates_html(self.estimates)
        rows = [(o.encoder, o.task, o.n_clips, len(o.missing), o.state) for o in self.outcomes]
        said = f"embeddings in {self.out}: {self.audio_s:.0f} s of audio in {self.elapsed_s:.1f} s"
        return html_table(said, ("encoder", "task", "clips", "missing", "state"), rows)


def extract(
    encoder: Names = (),
    tasks: Paths = (),
    task: Names = (),
    out: Path | str = "mambabench-out",
    *,
    layers: str = "last",
    frames: str = "store",
    precision: str = "fp32",
    hop_ms: float | None = None,
    python: Path | str | None = None,
    device: str = "auto",
    gpus: int | None = None,
    jobs: int | None = None,
    engine: str = "local",
    per_node: int | None = None,
    timeout: float | None = None,
    shard: str | None = None,
    layout: str = "store",
    on_error: str = "stop",
    replace: bool = False,
    verify: bool = False,
    limit: int | float | str | None = None,
    dry_run: bool = False,
    progress: Callable[[ExtractProgress], None] | None = None,
) -> Extracted:
    """Embed every clip of `tasks` with every `encoder` into ``out/embeddings``.

    The options are those of ``mambabench extract`` (docs/commands.md); a string alone is one name.
    Without `tasks` the demo is generated below ``out/tasks``, without `encoder` the two demo
    encoders run. Clips that cannot be embedded are named in the outcome; their task is sealed
    without them only with ``on_error="skip"``. The same call continues an interrupted one and ends
    in the same bytes. Clips whose audio has changed since are encoded anew: what looks as it did
    (size, time, inode) is believed, unless `verify`, which also holds sealed arrays against their
    hashes. `limit` (clips, or a share below 1) makes a part of every split a task of its own.
    `dry_run` encodes a few batches only and returns, in `estimates`, what the rest would take.
    Raises MambabenchError (DataError, EncoderError, StoreError) on bad input.
    """
    given = dict(locals())
    del given["progress"]
    return extract_with(settings_of(ExtractSettings, given), progress)


def extract_with(
    settings: ExtractSettings, progress: Callable[[ExtractProgress], None] | None = None
) -> Extracted:
    """Do what `extract` does, told by settings.

    An encoder that fails does not stop the others: they are done one by one, and its error is in
    `broken`. Of a single encoder, or where all fail, the error is raised.
    """
    names = encoder_list(settings.encoder or DEMO_ENCODERS)
    try:
        return _extract(changed(settings, encoder=names), progress)
    except EncoderError as error:
        if len(names) < 2:
            raise
        first = error
    done: list[Extracted] = []
    broken: list[EncoderError] = []
    for name in names:
        try:
            done.append(_extract(changed(settings, encoder=(name,)), progress))
        except EncoderError as error:
            broken.append(error)
    if not done or not broken:  # what failed is no single encoder
        raise first
    return Extracted(
        settings.out,
        tuple(outcome for one in done for outcome in one.outcomes),
        sum(one.audio_s for one in done),
        sum(one.elapsed_s for one in done),
        tuple(row for one in done for row in one.estimates),
        tuple(plan for one in done for plan in one.planned),
        tuple(broken),
    )


def _extract(
    settings: ExtractSettings, progress: Callable[[ExtractProgress], None] | None
) -> Extracted:
    """Encode all tasks with the encoders that are named; EncoderError for the first that fails."""
    share = parse_share(settings.shard)
    wanted = wanted_engine(settings.engine)
    if settings.frames == "recompute" and settings.layout != "store":
        raise MambabenchError(
            f"--frames recompute has no place in --layout {settings.layout}: leave one of them out"
        )
    setups = _setups(settings.gpus, settings.device)
    out = settings.out
    # providers may change the working directory while their threads run: absolute from here on
    chosen_tasks = _tasks(settings)
    device = "cuda" if settings.gpus else settings.device
    hop_ms = settings.hop_ms
    works = []
    start = time.perf_counter()
    try:
        names = settings.encoder
        for name in names if settings.python is None else in_python(names, settings.python):
            chosen = name if hop_ms is None else with_option(name, "hop_ms", hop_ms)
            works += _plans(chosen, chosen_tasks, settings, device)
        tell_apart(works, out.absolute())
        if settings.dry_run:
            planning_s = time.perf_counter() - start
            jobs = _jobs(settings.jobs, settings.gpus, works)
            return _estimated(out, works, _layout(settings.layout), jobs, planning_s)
        if settings.replace:
            for work in works:
                discard_others(_layout(settings.layout), work.directory, work.plan)
        run = _ShardRun(works, settings.layout, settings.on_error, share, verify=settings.verify)
        open_sizes = [w.size for w in works if w.size is not None and w.state != "already"]
        require_room(out, open_sizes)
        if open_sizes and progress is not None:
            progress(
                ExtractProgress(0, run.n_clips, 0.0, run.total_s, 0.0, tuple(map(str, open_sizes)))
            )
        jobs = _jobs(settings.jobs, settings.gpus, works)
        engine = make_engine(
            wanted,
            out,
            jobs=min(jobs, max(1, run.n_todo)) if wanted.is_local else jobs,
            setups=setups,
            on_gpu=any(work.plan.spec.device != "cpu" for work in works),
            per_node=settings.per_node,
            timeout_s=settings.timeout,
            separate=settings.on_error == "skip",
        )
        journal = Journal(out, "extract", wanted.name)
        journal.plan({work.cell: len(work.plan.shards) for work in works})
        with closing(engine), journal:
            return run.go(out, engine, progress or (lambda _: None), journal)
    finally:
        forget()


def _estimated(
    out: Path, works: Sequence[_TaskWork], layout: Any, jobs: int, planning_s: float
) -> Extracted:
    """Return what the works would take; nothing is written."""
    open_works = []
    for work in works:
        sealed = layout.is_sealed(work.directory, work.plan)
        left = tuple(
            shard
            for shard in work.plan.shards
            if not sealed and read_record(work.directory, shard.split, shard.key) is None
        )
        open_works.append(Open(PlannedTask(work.plan, work.rate), left))
    rows = estimate(open_works, jobs, planning_s)
    planned = tuple(one.planned for one in open_works)
    return Extracted(out, (), 0.0, 0.0, estimates=rows, planned=planned)


def _setups(gpus: int | None, device: str) -> tuple[dict[str, Any], ...]:
    if gpus is None:
        return ({},)
    import torch

    present = torch.cuda.device_count()
    if device == "cpu" or not 1 <= gpus <= present:
        raise EncoderError(
            f"--gpus {gpus} with --device {device}: torch sees {present} GPUs on this machine; "
            "leave --gpus out or name fewer"
        )
    return tuple({"device": f"cuda:{i}"} for i in range(gpus))


def _jobs(jobs: int | None, gpus: int | None, works: Sequence[_TaskWork]) -> int:

    if gpus is not None:
        return gpus
    if jobs is not None:
        return max(1, jobs)
    return 1 if any(work.plan.spec.device != "cpu" for work in works) else usable_cores()


def _tasks(settings: ExtractSettings) -> tuple[Task, ...]:

    directories, out = settings.tasks, settings.out
    if not directories:
        try:
            directories = generate(out / "tasks")
        except OSError as error:
            raise StoreError(
                f"cannot write {out / 'tasks'}: {error.strerror or error}; choose another --out"
            ) from error
    found = discover(directories, settings.task)
    if settings.limit is not None:
        limit = parse_limit(settings.limit)
        below = out / "tasks-in-part"
        found = tuple(load_task(limited_task(task.directory, below, limit)) for task in found)
    return tuple(changed(task, directory=task.directory.absolute()) for task in found)


@dataclass
class _TaskWork:
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
        return sum(len(shard.clips) for shard in self.plan.shards)


def _plans(
    name: str, tasks: Sequence[Task], settings: ExtractSettings, device: str
) -> list[_TaskWork]:

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
        works.append(_TaskWork(plan, directory, dict(encoder.configuration), size=size, rate=own))
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


class _ShardRun:
    """Give out the shards that are to do, and seal each task when its last one is committed."""

    def __init__(
        self,
        works: list[_TaskWork],
        layout: str,
        on_error: str,
        share: tuple[int, int],
        *,
        verify: bool = False,
    ) -> None:
        self._works = works
        self._on_error = on_error
        self._layout = _layout(layout)
        self._verify = verify
        self._todo: list[tuple[_TaskWork, Shard]] = []
        self._n_clips, self._total_s = 0, 0.0
        self._n_there = 0
        self._done_clips, self._done_s = 0, 0.0
        number = 0
        for work in works:
            sealed = self._is_sealed(work)
            if sealed:
                work.state = "already"
                work.missing = self._layout.sealed_missing(work.directory)
                work.warnings = self._layout.sealed_warnings(work.directory)
            for one in work.plan.shards:
                mine = number % share[1] == share[0]
                number += 1
                if mine and not sealed:
                    self._add(work, one)

    def _is_sealed(self, work: _TaskWork) -> bool:
        """Tell whether the task is sealed and its audio is still what was encoded.

        A store whose clips changed is opened again: the rows of their shards are taken out.
        """
        if not self._layout.is_sealed(work.directory, work.plan):
            return False
        if self._verify:
            _check_arrays(self._layout, work)
        changed = self._layout.changed_clips(work.directory, work.plan, full=self._verify)
        if not changed:
            return True

        redo = reopen(self._layout, work.directory, work.plan, full=self._verify)
        for shard in redo.values():
            names = {clip.name for clip in shard.clips}
            work.note_changed(shard, sorted(names.intersection(changed.get(shard.split, ()))))
        return not redo

    @property
    def n_todo(self) -> int:
        """Shards that this run has to encode."""
        return len(self._todo)

    @property
    def n_clips(self) -> int:
        """Clips that this run has to encode."""
        return self._n_clips

    @property
    def total_s(self) -> float:
        """Seconds of audio that this run has to encode."""
        return self._total_s

    def _add(self, work: _TaskWork, shard: Shard) -> None:
        record = read_record(work.directory, shard.split, shard.key)
        changed = changed_in_shard(work.directory, shard, full=self._verify)
        if changed:
            drop_shard(work.directory, shard)
            work.note_changed(shard, changed)
        retry = self._on_error == "stop"
        if not changed and record is not None and not (record.failures and retry):
            self._n_there += len(shard.clips)
            return
        self._give_out(work, shard)

    def _give_out(self, work: _TaskWork, shard: Shard) -> None:
        work.n_open += 1
        self._todo.append((work, shard))
        self._n_clips += len(shard.clips)
        self._total_s += shard.duration_s

    def go(
        self,
        out: Path,
        engine: Engine,
        progress: Callable[[ExtractProgress], None],
        journal: Journal,
    ) -> Extracted:
        start = time.perf_counter()
        crew: Crew | None = None

        def on_report(report: Sequence[float]) -> None:
            self._done_clips += int(report[0])
            self._done_s += report[1]
            show()

        def on_crew(found: Crew) -> None:
            nonlocal crew
            journal.workers = found.workers
            if crew != found:
                crew = found
                show()

        def show() -> None:
            elapsed = time.perf_counter() - start
            sums = (self._done_clips, self._n_clips, self._done_s, self._total_s)
            progress(ExtractProgress(*sums, elapsed, crew=crew, n_there=self._n_there))

        for work in self._works:
            if work.state != "already":
                claim(work.directory, work.plan)
        for work in self._works:
            if work.state != "already" and not work.n_open:
                self._finish(work)

        def on_begin(work: _TaskWork) -> None:
            journal.begin(work.cell)

        belt = Belt(engine, self._on_error, on_report, on_crew, on_begin)
        while self._todo:
            todo, self._todo = self._todo, []
            for work, cost in belt.encode(todo, _unit_of):
                journal.end(work.cell)
                work.seconds += cost["seconds"]
                work.audio_s += cost["audio_s"]
                work.n_halvings += cost["n_halvings"]
                work.n_reused += cost["n_reused"]
                work.n_open -= 1
                if not work.n_open:
                    self._finish(work)
        elapsed = time.perf_counter() - start
        outcomes = tuple(_outcome(work) for work in self._works)
        return Extracted(out, outcomes, sum(work.audio_s for work in self._works), elapsed)

    def _finish(self, work: _TaskWork) -> None:
        """Seal the task, or note why not yet."""

        missing = missing_clips(work.directory, work.plan)
        work.warnings = shard_notes(work.directory, work.plan)
        if missing is None and self._layout.is_sealed(work.directory, work.plan):
            finish_work(work.directory)  # sealed by another process, which may have left before us
            work.state = "sealed"
            work.missing = self._layout.sealed_missing(work.directory)
            work.warnings = self._layout.sealed_warnings(work.directory)
        elif missing is None:
            work.state = "waiting"
        elif missing and self._on_error == "stop":
            work.state, work.missing = "incomplete", missing
            write_json(work.directory / MISSING, missing)
        elif not self._encode_changed(work):
            work.state, work.missing = "sealed", missing
            self._layout.seal(work.directory, work.plan, work.configuration, _provenance(work))

    def _encode_changed(self, work: _TaskWork) -> bool:
        """Give out once more what changed between its encoding and now; False if nothing did."""
        again = False
        for shard in work.plan.shards:
            changed = changed_in_shard(work.directory, shard, full=True)
            if not changed:
                continue
            if work.n_again == MOST_AGAIN:
                raise DataError(
                    f"task {work.plan.task.name}: {shard.split}/{changed[0]} keeps changing while "
                    "it is encoded: give the same command again when its file is finished"
                )
            again = True
            drop_shard(work.directory, shard)
            work.note_changed(shard, changed)
            self._give_out(work, looked_at_again(shard))
        work.n_again += again
        return again


def _unit_of(work: _TaskWork, shard: Shard) -> dict[str, Any]:

    plan = work.plan
    clip_s = plan.task.sample_duration_s
    return make_unit(work.directory, pooling_of(plan.task), plan.spec, shard, clip_s)


def _check_arrays(layout: Any, work: _TaskWork) -> None:
    """Hold every array of a sealed store against its hash; StoreError where one is damaged."""

    stored = layout.stored_task(work.directory)
    for split in stored.task.splits if stored is not None else ():
        read_embeddings(stored, split)


def _layout(name: str) -> Any:
    """Return the module that seals in this layout."""
    if name == "hear-eval-kit":
        return hear_eval_kit

    return seal


def _outcome(work: _TaskWork) -> TaskOutcome:
    return TaskOutcome(
        encoder=work.plan.spec.label,
        task=work.plan.task.name,
        directory=work.directory,
        state=work.state,
        n_clips=work.n_clips,
        missing=work.missing,
        warnings=work.warnings,
        changed=work.changed,
    )


def _provenance(work: _TaskWork) -> dict[str, Any]:
    from mambabench.models.blocks.fused import describe_computation

    spent = {
        "finished_unix_s": round(time.time(), 1),
        "precision": work.plan.spec.precision,
        "device": work.plan.spec.device,
        "audio_s": round(work.audio_s, 3),
        "worker_s": round(work.seconds, 3),
        "times_real_time_per_worker": round(work.audio_s / work.seconds, 2)
        if work.seconds
        else None,
        "batches_halved": work.n_halvings,
        "clips_of_other_tasks": work.n_reused,
    }
    computation = describe_computation(str(work.plan.spec.device), work.plan.spec.precision)
    return {"run": spent, "computation": computation, **provenance()}
