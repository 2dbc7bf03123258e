"""Encode the clips of tasks into embedding stores: the verb ``extract``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks import discover
from mambabench.benchmarks.demo import generate
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.limit import limited_task, parse_limit
from mambabench.engine.choice import make_engine, wanted_engine
from mambabench.engine.journal import Journal
from mambabench.errors import EncoderError, MambabenchError, StoreError
from mambabench.extract.discard import discard_others
from mambabench.extract.estimate import Open, estimate
from mambabench.extract.labels import tell_apart
from mambabench.extract.outcome import Extracted, ExtractProgress
from mambabench.extract.settings import ExtractSettings
from mambabench.extract.shard_run import ShardRun, provenance_of
from mambabench.extract.sizes import require_room
from mambabench.extract.unit import forget
from mambabench.extract.works import BUDGETS, TaskWork, layout_module, plan_works
from mambabench.models.registry import encoder_list, in_python, with_option
from mambabench.provenance import usable_cores
from mambabench.settings import Names, Paths, parse_share, settings_of
from mambabench.store.estimate import PlannedTask
from mambabench.store.shards import read_record

if TYPE_CHECKING:
    from mambabench.benchmarks.task import Task

__all__ = ["BUDGETS", "DEMO_ENCODERS", "extract", "extract_with"]

DEMO_ENCODERS = ("logmel_stats", "ssam_tiny_random")


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
            works += plan_works(chosen, chosen_tasks, settings, device)
        tell_apart(works, out.absolute())
        if settings.dry_run:
            provenance_of(works[0])  # a run takes its time for that too
            planning_s = time.perf_counter() - start
            jobs = _jobs(settings.jobs, settings.gpus, works)
            return _estimated(out, works, layout_module(settings.layout), jobs, planning_s)
        if settings.replace:
            for work in works:
                discard_others(layout_module(settings.layout), work.directory, work.plan)
        run = ShardRun(works, settings.layout, settings.on_error, share, verify=settings.verify)
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
    out: Path, works: Sequence[TaskWork], layout: Any, jobs: int, planning_s: float
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
    rows, planned = estimate(open_works, jobs, planning_s)
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


def _jobs(jobs: int | None, gpus: int | None, works: Sequence[TaskWork]) -> int:
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
