"""Give out the shards that are to do, and seal each task when its last one is committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.engine.journal import Journal
from mambabench.engine.units import Crew, Engine
from mambabench.errors import DataError
from mambabench.extract.belt import Belt
from mambabench.extract.reopen import reopen
from mambabench.files import write_json
from mambabench.provenance import provenance
from mambabench.store.gather import missing_clips, shard_notes
from mambabench.store.open import read_embeddings
from mambabench.store.plan import Shard
from mambabench.store.seal import MISSING, claim, finish_work
from mambabench.store.shards import drop_shard, read_record
from mambabench.store.sources import changed_in_shard, looked_at_again

if TYPE_CHECKING:
    pass
from mambabench.extract.outcome import Extracted, ExtractProgress, TaskOutcome
from mambabench.extract.works import TaskWork, layout_module, unit_of

__all__ = ["ShardRun", "provenance_of"]

MOST_AGAIN = 3  # times that clips may change under the hands of one run


class ShardRun:
    """Give out the shards that are to do, and seal each task when its last one is committed.

    Of all shards it takes every one whose number leaves `share[0]` when divided by `share[1]`.
    """

    def __init__(
        self,
        works: list[TaskWork],
        layout: str,
        on_error: str,
        share: tuple[int, int],
        *,
        verify: bool = False,
    ) -> None:
        self._works = works
        self._on_error = on_error
        self._layout = layout_module(layout)
        self._verify = verify
        self._todo: list[tuple[TaskWork, Shard]] = []
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

    def _is_sealed(self, work: TaskWork) -> bool:
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

    def _add(self, work: TaskWork, shard: Shard) -> None:
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

    def _give_out(self, work: TaskWork, shard: Shard) -> None:
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
        """Encode every shard on `engine`, seal what becomes whole, and say what became of all."""
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

        def on_begin(work: TaskWork) -> None:
            journal.begin(work.cell)

        belt = Belt(engine, self._on_error, on_report, on_crew, on_begin)
        while self._todo:
            todo, self._todo = self._todo, []
            for work, cost in belt.encode(todo, unit_of):
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

    def _finish(self, work: TaskWork) -> None:
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
            self._layout.seal(work.directory, work.plan, work.configuration, provenance_of(work))

    def _encode_changed(self, work: TaskWork) -> bool:
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


def _check_arrays(layout: Any, work: TaskWork) -> None:
    """Hold every array of a sealed store against its hash; StoreError where one is damaged."""

    stored = layout.stored_task(work.directory)
    for split in stored.task.splits if stored is not None else ():
        read_embeddings(stored, split)


def _outcome(work: TaskWork) -> TaskOutcome:
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


def provenance_of(work: TaskWork) -> dict[str, Any]:
    """Return what is recorded of a task's extraction."""
    from mambabench.models.blocks.fused import describe_computation

    spent = {
        "finished_unix_s": round(time.time(), 1),
        "precision": work.plan.spec.precision,
        "device": work.plan.spec.device,
        "task_audio_s": round(work.plan.duration_s, 3),  # of all its clips
        "audio_s": round(work.audio_s, 3),  # that this run encoded
        "worker_s": round(work.seconds, 3),
        "times_real_time_per_worker": round(work.audio_s / work.seconds, 2)
        if work.seconds
        else None,
        "batches_halved": work.n_halvings,
        "clips_of_other_tasks": work.n_reused,
    }
    computation = describe_computation(str(work.plan.spec.device), work.plan.spec.precision)
    return {"run": spent, "computation": computation, **provenance()}
