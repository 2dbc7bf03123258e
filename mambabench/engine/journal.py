"""What a running command says of itself: one small file below ``OUT/jobs``, for whoever asks.

Nothing is decided by it: what is done stands in the store and in the records. It is written every
few seconds, goes when the command has finished, and stays behind where the command was killed.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mambabench.files import write_json

__all__ = ["CellKey", "Journal", "Told", "read_journals"]

SCHEMA = "mambabench.job/1"
BEAT_S = 5.0
SILENT_S = 60.0  # after which a command on another machine counts as ended
CellKey = tuple[str, str, str]  # encoder, task, "extract", "train" or the protocol


@dataclass(frozen=True)
class Told:
    """What one command said last."""

    verb: str
    engine: str
    host: str
    pid: int
    alive: bool
    workers: int
    cells: dict[CellKey, tuple[int, int]]  # -> units that it has to do or did, units in hand


class Journal:
    """The file of one command, kept up by a thread."""

    def __init__(self, out: Path, verb: str, engine: str, *, workers: int = 0) -> None:
        host, pid = socket.gethostname(), os.getpid()
        self._path = out / "jobs" / f"{verb}-{host}-{pid}.json"
        self._head = {"schema": SCHEMA, "verb": verb, "engine": engine, "host": host, "pid": pid}
        self._total: dict[CellKey, int] = {}
        self._in_hand: dict[CellKey, int] = {}
        self.workers = workers
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def plan(self, totals: Mapping[CellKey, int]) -> None:
        """Note how many units every cell has, those included that are done already."""
        with self._lock:
            self._total.update(totals)

    def begin(self, cell: CellKey) -> None:
        """Note that a unit is given out."""
        with self._lock:
            self._in_hand[cell] = self._in_hand.get(cell, 0) + 1

    def end(self, cell: CellKey) -> None:
        """Note that a unit is done, or has failed."""
        with self._lock:
            self._in_hand[cell] = max(0, self._in_hand.get(cell, 0) - 1)

    @contextmanager
    def working_on(self, cell: CellKey) -> Iterator[None]:
        """Note at once that one long unit of `cell` is in hand, until the end of the block."""
        self.begin(cell)
        if self._thread.is_alive():
            self._write()
        try:
            yield
        finally:
            self.end(cell)

    def __enter__(self) -> Journal:
        self._forget_the_dead()
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join(BEAT_S)
        with suppress(OSError):
            if kind is None:
                self._path.unlink(missing_ok=True)
                self._path.parent.rmdir()  # refused where somebody else's files lie there
            else:
                self._in_hand.clear()
                self._write(ended=True)

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            self._write()

    def _write(self, *, ended: bool = False) -> None:
        with self._lock:
            cells = [
                {"cell": list(cell), "total": total, "in_hand": self._in_hand.get(cell, 0)}
                for cell, total in self._total.items()
            ]
        said = {"beat_unix": time.time(), "ended": ended, "workers": self.workers, "cells": cells}
        with suppress(OSError):  # a courtesy: the work itself says where a disk refuses
            write_json(self._path, {**self._head, **said})

    def _forget_the_dead(self) -> None:
        """Remove what commands of this verb left that have ended: this one takes their place."""
        for path, told in _told_files(self._path.parent.parent):
            if told.verb == self._head["verb"] and not told.alive:
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def read_journals(out: Path) -> tuple[Told, ...]:
    """Return what commands on `out` say, and what those said that were cut off."""
    return tuple(told for _, told in _told_files(out))


def _told_files(out: Path) -> Iterator[tuple[Path, Told]]:
    for path in sorted((out / "jobs").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            yield path, _told(json.loads(path.read_bytes()))


def _told(value: dict[str, Any]) -> Told:
    if value["schema"] != SCHEMA:
        raise ValueError(value["schema"])
    cells: dict[CellKey, tuple[int, int]] = {}
    for one in value["cells"]:
        encoder, task, part = map(str, one["cell"])
        cells[encoder, task, part] = (int(one["total"]), int(one["in_hand"]))
    return Told(
        verb=str(value["verb"]),
        engine=str(value["engine"]),
        host=str(value["host"]),
        pid=int(value["pid"]),
        alive=not value["ended"] and _is_alive(value),
        workers=int(value["workers"]),
        cells=cells,
    )


def _is_alive(value: dict[str, Any]) -> bool:
    if value["host"] != socket.gethostname():
        return time.time() - float(value["beat_unix"]) < SILENT_S
    try:
        os.kill(int(value["pid"]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's
    return True
