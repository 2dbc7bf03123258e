"""Hand shards to an engine and take what comes back: rows, or a worker that died of its clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from mambabench.engine.units import Crew, Engine, Lost, Unit
from mambabench.errors import MambabenchError
from mambabench.extract.away import absolute, commit_files, files_of_encoder
from mambabench.store.plan import PlannedClip, Shard
from mambabench.store.shards import ClipRows, commit_shard

__all__ = ["Belt"]

NAMED = 3  # clips in hand that a message names
NOTHING = {"seconds": 0.0, "audio_s": 0.0, "n_halvings": 0, "n_reused": 0}


class HasDirectory(Protocol):
    """One encoder on one task."""

    directory: Path


W = TypeVar("W", bound=HasDirectory)
MakeUnit = Callable[[W, Shard], dict[str, Any]]


class Belt(Generic[W]):
    """Shards on an engine."""

    def __init__(
        self,
        engine: Engine,
        on_error: str,
        on_report: Callable[[Any], None],
        on_crew: Callable[[Crew], None],
        on_begin: Callable[[W], None] = lambda work: None,
    ) -> None:
        self._on_begin = on_begin
        self._engine, self._skip = engine, on_error == "skip"
        self._retry = on_error == "stop"
        self._on_report, self._on_crew = on_report, on_crew
        name = "unit:encode_unit" if engine.shares_out else "away:encode_away"
        self._files: dict[str, dict[str, str]] = {}  # encoder -> Python files that travel with it
        self._function = f"mambabench.extract.{name}"

    def encode(
        self, todo: Sequence[tuple[W, Shard]], make: MakeUnit[W]
    ) -> Iterator[tuple[W, dict[str, Any]]]:
        """Yield what each shard cost, when it is committed, in any order.

        A shard whose worker dies of it, again and again, is committed with all its clips as
        failures; where clips may be skipped, without exactly those that the encoder does not
        survive. Raises the first error of a unit.
        """
        lost: list[tuple[W, Shard, str]] = []
        for index, result in self._run(todo, make, lambda i: {}):
            work, shard = todo[index]
            if not isinstance(result, Lost):
                yield work, self._committed(work, shard, result)
            elif self._skip:
                lost.append((work, shard, result.reason))
            else:
                self._give_up(work, shard, result.reason)
                yield work, NOTHING
        if lost:
            yield from self._without_the_guilty(lost, make)

    def _run(
        self,
        todo: Sequence[tuple[W, Shard]],
        make: MakeUnit[W],
        more: Callable[[int], dict[str, Any]],
        **options: Any,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index, result or Lost); units are described one by one, for want of room."""

        def units() -> Iterator[Unit]:
            for i, (work, shard) in enumerate(todo):
                self._on_begin(work)
                unit = {**make(work, shard), "retry": self._retry, **more(i)}
                yield Unit(unit if self._engine.shares_out else self._for_away(unit))

        results = self._engine.run(
            self._function, units(), on_report=self._on_report, on_crew=self._on_crew, **options
        )
        with closing(results):  # type: ignore[type-var]
            for index, result in results:
                if isinstance(result, MambabenchError):
                    raise result
                yield index, result

    def _for_away(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Return the unit for a worker that stands in another folder, perhaps on another node."""
        encoder = absolute(unit["spec"]["encoder"])
        if encoder not in self._files:
            self._files[encoder] = files_of_encoder(encoder)
        spec = {**unit["spec"], "encoder": encoder}
        return {**unit, "spec": spec, "files": self._files[encoder]}

    def _committed(self, work: W, shard: Shard, result: dict[str, Any]) -> dict[str, Any]:
        if "rows" in result:
            commit_files(work.directory, shard, result["record"], result["rows"])
        return result

    def _give_up(self, work: W, shard: Shard, reason: str) -> None:
        """Commit a shard of which nothing is known but that workers die of it."""
        names = [clip.name for clip in shard.clips]
        rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        said = f"{reason} while it encoded {', '.join(names[:NAMED])}{rest}"
        if len(names) > 1:
            said += "; --on-error skip finds those that are to blame and goes on without them"
        rows = (ClipRows(clip, None, None, None, said) for clip in shard.clips)
        commit_shard(work.directory, shard, rows)

    def _without_the_guilty(
        self, lost: Sequence[tuple[W, Shard, str]], make: MakeUnit[W]
    ) -> Iterator[tuple[W, dict[str, Any]]]:
        """Find the clips that workers die of, and encode the shards without them."""
        guilty = self._guilty([(work, shard) for work, shard, _ in lost], make)
        why = [
            dict.fromkeys(names, f"{reason} while it encoded this clip")
            for (_, _, reason), names in zip(lost, guilty, strict=True)
        ]
        todo = [(work, shard) for work, shard, _ in lost]
        for index, result in self._run(todo, make, lambda i: {"refused": why[i]}):
            work, shard, reason = lost[index]
            if isinstance(result, Lost):  # not for one clip's sake: of all together
                self._give_up(work, shard, reason)
                yield work, NOTHING
            else:
                yield work, self._committed(work, shard, result)

    def _guilty(self, todo: Sequence[tuple[W, Shard]], make: MakeUnit[W]) -> list[list[str]]:
        """Return the clips of each shard that a worker does not survive, by halving.

        All shards are halved at once, so that the workers have work.
        """
        found: list[list[str]] = [[] for _ in todo]
        suspects = [
            _Suspects(i, half) for i, (_, shard) in enumerate(todo) for half in _halves(shard.clips)
        ]
        while suspects:
            trials = [todo[one.shard] for one in suspects]
            only = [[clip.name for clip in one.clips] for one in suspects]
            following = []
            results = self._run(trials, make, lambda i, only=only: {"only": only[i]}, attempts=1)  # type: ignore[misc]
            for index, result in results:
                one = suspects[index]
                if not isinstance(result, Lost):
                    continue
                if len(one.clips) > 1:
                    following += [_Suspects(one.shard, half) for half in _halves(one.clips)]
                elif one.again:
                    found[one.shard].append(one.clips[0].name)
                else:  # once more: somebody else may have killed its worker
                    following.append(_Suspects(one.shard, one.clips, again=True))
            suspects = following
        return found


@dataclass(frozen=True)
class _Suspects:
    """Clips of a shard, some of which a worker may not survive."""

    shard: int
    clips: tuple[PlannedClip, ...]
    again: bool = field(default=False)


def _halves(clips: tuple[PlannedClip, ...]) -> list[tuple[PlannedClip, ...]]:
    middle = (len(clips) + 1) // 2
    return [half for half in (clips[:middle], clips[middle:]) if half]
