"""Run units as job arrays of SLURM, by way of submitit, or of its stand-in on one machine.

The planned units are dealt into shares, a share is an element of the array. What a job has done
stands line by line in a file below ``--out/jobs``, so that a job that is preempted, runs out of
time or dies goes on where it stopped, and the one who asked hears of every unit as it is done. All
nodes see the output folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambabench.engine.units import (
    MOST_ATTEMPTS,
    Crew,
    Lost,
    Unit,
    answered,
    told_error,
)
from mambabench.errors import MambabenchError, nearest_names

__all__ = ["OPTIONS", "ShareOfUnits", "SlurmEngine", "slurm_options"]

LOOK_EVERY_S = 1.0
# ours, then those of submitit that need another name
OPTIONS = {
    "shares": "elements of the array (default 16)",
    "parallel": "elements that run at once",
    "cluster": "slurm, or local: processes of this machine, to try it out",
    "time": "minutes that an element may run before it goes on as a new one",
    "cpus": "cores of an element",
    "gpus": "GPUs of an element",
    "mem_gb": "memory of an element",
    "partition": "as sbatch has it",
    "account": "as sbatch has it",
    "qos": "as sbatch has it",
    "constraint": "as sbatch has it",
    "exclude": "as sbatch has it",
}
_NUMBERS = ("shares", "parallel", "time", "cpus", "gpus", "mem_gb")
_THEIRS = {
    "time": "timeout_min",
    "cpus": "cpus_per_task",
    "gpus": "gpus_per_node",
    "mem_gb": "mem_gb",
    "parallel": "slurm_array_parallelism",
    "constraint": "slurm_constraint",
    "exclude": "slurm_exclude",
    "partition": "slurm_partition",
    "account": "slurm_account",
    "qos": "slurm_qos",
}
DEFAULTS: dict[str, Any] = {"shares": 16, "cluster": "slurm", "time": 240, "cpus": 1}


def slurm_options(text: str) -> dict[str, Any]:
    """Parse "KEY=VALUE,..." after ``slurm:``; MambabenchError names a wrong key and the nearest."""
    found: dict[str, Any] = dict(DEFAULTS)
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if key not in OPTIONS or not equals:
            known = ", ".join(OPTIONS)
            near = nearest_names(key, OPTIONS)
            raise MambabenchError(f"--engine slurm: {item!r} is no KEY=VALUE of {known}{near}")
        if key in _NUMBERS:
            if not value.isdigit() or int(value) < 1:
                raise MambabenchError(f"--engine slurm: {key} is {value!r}, not a whole number > 0")
            found[key] = int(value)
        else:
            found[key] = value
    if found["cluster"] not in ("slurm", "local"):
        raise MambabenchError(
            f"--engine slurm: cluster is {found['cluster']!r}, not slurm or local"
        )
    return found


class ShareOfUnits:
    """What an element of the array does: its units one after another, those that are done left out.

    The class is what submitit stores; at a preemption or time-out it is asked for its successor.
    """

    def __init__(self, function: str, units: str, results: str) -> None:
        self.function, self.units, self.results = function, units, results

    def __call__(self) -> int:
        """Do the units of the file `units`, lines of [index, spec]; return how many were done."""
        with Path(self.units).open(encoding="utf-8") as file:
            units = [json.loads(line) for line in file]
        done = {line["index"] for line in _lines(Path(self.results)) if "began" not in line}
        n = 0
        with Path(self.results).open("a", encoding="utf-8") as file:

            def note(value: Mapping[str, Any]) -> None:
                file.write("\n" + json.dumps(value) + "\n")  # a torn line before it is ended
                file.flush()

            for index, spec in units:
                if index in done:
                    continue
                note({"index": index, "began": time.time()})
                note({"index": index, **_answer(self.function, spec)})
                n += 1
        return n

    def checkpoint(self, *arguments: Any, **named: Any) -> Any:
        """Return the submission that goes on: this very share, whose results file knows how far."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments, **named)


def _answer(function: str, spec: dict[str, Any]) -> dict[str, Any]:
    reports: list[Any] = []
    return {**answered(function, spec, reports.append), "reports": reports}


def _lines(path: Path, start: int = 0) -> list[dict[str, Any]]:
    """Return the whole lines of a results file; a torn one is left out."""
    found = []
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start)
        for line in file.read().split(b"\n"):
            with suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append(value)
    return found


@dataclass
class _ArrayElement:
    """An element of the array, and how much of its results has been read."""

    number: int
    units: list[tuple[int, dict[str, Any]]]
    folder: Path
    job: Any = None
    told: set[int] = field(default_factory=set)
    deaths: dict[int, int] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.folder / f"results-{self.number}.jsonl"

    @property
    def open(self) -> list[int]:
        """Units that are not told yet."""
        return [index for index, _ in self.units if index not in self.told]

    def in_hand(self) -> int:
        """Return the unit that was begun last and has no result, else the first that is open."""
        begun = [line["index"] for line in _lines(self.results) if "began" in line]
        return next((i for i in reversed(begun) if i not in self.told), self.open[0])


class SlurmEngine:
    """Job arrays; the one who asks waits for them and tells what is done."""

    shares_out = True

    def __init__(
        self,
        options: Mapping[str, Any],
        folder: Path,
        *,
        on_gpu: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        if timeout_s is not None:
            raise MambabenchError(
                "--timeout is for the engines local and ray; a job of SLURM has a time of its own: "
                "--engine slurm:time=MINUTES"
            )
        self._options = dict(options)
        if on_gpu:
            self._options.setdefault("gpus", 1)
        self._folder = folder

    def run(
        self,
        function: str,
        units: Iterable[Unit],
        *,
        attempts: int = MOST_ATTEMPTS,
        on_report: Callable[[Any], None] = lambda report: None,
        on_crew: Callable[[Crew], None] = lambda crew: None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as `Engine.run` says."""
        shares = self._shares(units)
        if not shares:
            return
        try:
            self._submit(function, shares)
            while any(share.open for share in shares):
                for share in shares:
                    yield from self._news(share, on_report)
                yield from self._look(function, shares, attempts)
                running = sum(s.job.state in ("RUNNING", "COMPLETING") for s in shares if s.open)
                on_crew(Crew(running, running))
                if any(share.open for share in shares):
                    time.sleep(LOOK_EVERY_S)
        finally:
            for share in shares:
                if share.job is not None and share.open:
                    share.job.cancel(check=False)

    def close(self) -> None:
        """Nothing outlives a run."""

    def _shares(self, units: Iterable[Unit]) -> list[_ArrayElement]:
        """Deal the units, in runs of neighbours, and write each share's down."""
        numbered = [(index, unit.spec) for index, unit in enumerate(units)]
        n = min(self._options["shares"], len(numbered))
        stamp = f"{time.time_ns():x}"
        folder = self._folder / f"units-{stamp}"
        shares = []
        for i in range(n):
            part = numbered[i * len(numbered) // n : (i + 1) * len(numbered) // n]
            shares.append(_ArrayElement(i, part, folder))
            folder.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(unit) + "\n" for unit in part)
            (folder / f"share-{i}.jsonl").write_text(text, encoding="utf-8")
        return shares

    def _submit(self, function: str, shares: Sequence[_ArrayElement]) -> None:
        executor = self._executor()
        with executor.batch():
            for share in shares:
                todo = share.folder / f"share-{share.number}.jsonl"
                work = ShareOfUnits(function, str(todo.absolute()), str(share.results.absolute()))
                share.job = executor.submit(work)

    def _executor(self) -> Any:
        import submitit

        given = self._options
        try:
            executor = submitit.AutoExecutor(
                folder=str(self._folder / "%j"),
                cluster=given["cluster"],
                slurm_max_num_timeout=1000,
            )
            theirs = {t: given[o] for o, t in _THEIRS.items() if o in given}
            executor.update_parameters(name="mambabench", **theirs)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise MambabenchError(f"--engine slurm: {error}") from error
        return executor

    def _news(
        self, share: _ArrayElement, on_report: Callable[[Any], None]
    ) -> Iterator[tuple[int, Any]]:
        """Tell the units of a share whose results have come."""
        for line in _lines(share.results) if share.open else ():
            index = line["index"]
            if "began" in line or index in share.told:
                continue
            share.told.add(index)
            if "error" in line:
                yield index, told_error(line)
                continue
            for report in line["reports"]:
                on_report(report)
            yield index, line["result"]

    def _look(
        self, function: str, shares: Sequence[_ArrayElement], attempts: int
    ) -> Iterator[tuple[int, Any]]:
        """Submit shares again whose job has ended before its units; tell units that are lost."""
        ended = [share for share in shares if share.open and share.job.done()]
        again = []
        for share in ended:
            yield from self._news(share, lambda report: None)
            if not share.open:
                continue
            index = share.in_hand()
            share.deaths[index] = share.deaths.get(index, 0) + 1
            if share.deaths[index] >= attempts:
                share.told.add(index)
                with share.results.open("a", encoding="utf-8") as file:
                    file.write("\n" + json.dumps({"index": index, "error": "", "text": "lost"}))
                    file.write("\n")
                logs = share.job.paths.stderr
                yield index, Lost(f"its job ended as {share.job.state}; its words: {logs}")
            if share.open:
                again.append(share)
        if again:
            self._submit(function, again)
