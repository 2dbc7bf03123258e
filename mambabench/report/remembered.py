"""Keep the last report's numbers, to be told again while no file that they follow from has changed.

A report is remembered only if all that it read held against its hashes. It is recalled while every
file of the output folders, its record, predictions and provenance, has the size, the times and the
inode that it had then, and this program and its published tables are the same. Any difference, and
any doubt, costs a report from the records. Deleting what is kept is harmless.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, overload

from mambabench import __version__
from mambabench.files import write_bytes
from mambabench.package_data import package_data
from mambabench.report.cache import keep
from mambabench.report.choice import Choice
from mambabench.report.rows import EncoderCost, Overall, PublishedRow, Row, Summary
from mambabench.report.runs import Flag, Run
from mambabench.report.statistics.comparison import Comparison
from mambabench.report.statistics.ranks import Rank
from mambabench.report.statistics.versus import Versus

__all__ = ["Memory", "Recalled", "look"]

_VERSION = 4  # of the file's layout
_KIT_FILE = "test.predicted-scores.json"  # results of hear-eval-kit are read anew every time
_KIT_DEPTH = 3  # folders below an output folder in which they may lie
_OF = {"probes": 4}  # how deep what our records follow from lies, by the folder's name
_PARTS: dict[str, type] = {
    "rows": Row,
    "comparisons": Comparison,
    "overall": Overall,
    "published": PublishedRow,
    "versus": Versus,
    "ranks": Rank,
    "costs": EncoderCost,
    "beside": Row,
}


@dataclass(frozen=True)
class Recalled:
    """A report made before, and those of its files that nobody has touched since."""

    summary: Summary
    files: tuple[Path, ...] | None  # None: some are missing or changed, or were made otherwise


@dataclass(frozen=True)
class Memory:
    """Where one report is kept, and what it follows from."""

    file: Path
    outs: tuple[Path, ...]
    choice: Choice
    key: str

    def recall(self, made_with: object, read: Callable[[], Sequence[Run]]) -> Recalled | None:
        """Return the report kept for this key, else None.

        `made_with` are the options of its files, JSON-able; `read` gives the runs when needed.
        """
        try:
            body = json.loads(self.file.read_bytes())
            if body["key"] != self.key:
                return None
            found = replace(_unpacked(body["summary"], read), choice=self.choice)
            files = [Path(name) for name, _ in body["files"]]
            same = body["made_with"] == _plain(made_with) and all(
                _look(file) == seen for file, (_, seen) in zip(files, body["files"], strict=True)
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None  # nothing kept, or damaged
        return Recalled(found, tuple(files) if same else None)

    def keep(self, summary: Summary, made_with: object, files: Sequence[Path]) -> None:
        """Keep a report, unless a defect was found or a file changed while it was made."""
        key = _key(self.outs, summary.baseline, self.choice)
        if summary.defects or summary.left_out or self.key != key:
            return
        body = {
            "key": self.key,
            "made_with": made_with,
            "files": [(str(file), _look(file)) for file in files],
            "summary": _packed(summary),
        }
        keep(
            lambda: write_bytes(
                self.file, json.dumps(body, default=_number).encode(), durable=False
            )
        )


def look(outs: Sequence[Path], baseline: str | None, choice: Choice, cache: Path) -> Memory | None:
    """Look at every file that a report of `outs` follows from; None where that cannot be told."""
    key = _key(outs, baseline, choice)
    if key is None:
        return None
    name = hashlib.sha256(repr((baseline, choice)).encode()).hexdigest()[:16]
    return Memory(cache / f"report-{name}.json", tuple(outs), choice, key)


def _key(outs: Sequence[Path], baseline: str | None, choice: Choice) -> str | None:
    """Return the hash of all that can be seen of the files without opening them."""
    digest = hashlib.sha256(json.dumps([_VERSION, baseline, choice.plain()]).encode())
    try:
        for file in _program():
            digest.update(repr(file).encode())
        for out in outs:
            for name, status in _below(out, 0):
                if name.rpartition(os.sep)[2] == _KIT_FILE:
                    return None
                digest.update(repr((os.path.abspath(name), *status)).encode())
    except OSError:
        return None
    return digest.hexdigest()


_FileSeen = tuple[int, int, int, int]


def _status(status: os.stat_result) -> _FileSeen:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _look(file: Path) -> list[int] | None:
    try:
        return list(_status(file.stat()))
    except OSError:
        return None


def _below(
    folder: Path | str, depth: int, *, ours: bool = False
) -> Iterator[tuple[str, _FileSeen]]:
    """Yield the files that a report reads: all of the probes, elsewhere hear-eval-kit's alone."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir():
            mine = ours or (depth == 0 and entry.name in _OF)
            if depth < (_OF["probes"] if mine else _KIT_DEPTH):
                yield from _below(entry.path, depth + 1, ours=mine)
        elif (ours and depth == _OF["probes"]) or entry.name == _KIT_FILE:
            yield entry.path, _status(entry.stat())


def _program() -> Iterator[tuple[str, int, int]]:
    """Yield this package's modules and the published tables: name, size and time of change."""

    yield __version__, 0, 0
    package = Path(__file__).parents[1]
    folders = [package / name for name in ("report", "benchmarks", "store")]
    for folder in (*folders, package_data("published")):
        for place, _, names in os.walk(folder):
            for name in sorted(names):
                if not name.endswith((".pyc", ".nbi", ".nbc")):
                    status = os.stat(os.path.join(place, name))
                    yield name, status.st_size, status.st_mtime_ns


def _packed(summary: Summary) -> dict[str, Any]:
    body: dict[str, Any] = {"baseline": summary.baseline, "warned": summary.warned}
    body["n_runs"] = len(summary.runs)
    body["catalogued"] = summary.catalogued
    for part, kind in _PARTS.items():
        names = [field.name for field in fields(kind)]
        rows = [[getattr(one, name) for name in names] for one in getattr(summary, part)]
        if kind is Row:
            place = names.index("flags")
            for row in rows:
                row[place] = [(flag.code, flag.text, flag.shown) for flag in row[place]]
        body[part] = {"names": names, "values": rows}
    return body


def _unpacked(body: dict[str, Any], read: Callable[[], Sequence[Run]]) -> Summary:
    parts: dict[str, Any] = {}
    for part, kind in _PARTS.items():
        names = body[part]["names"]
        found = []
        for values in body[part]["values"]:
            own = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in zip(names, values, strict=True)
            }
            if kind is Row:
                own["flags"] = tuple(Flag(*flag) for flag in own["flags"])
            found.append(kind(**own))
        parts[part] = tuple(found)
    warned = tuple((encoder, task, tuple(lines)) for encoder, task, lines in body["warned"])
    runs = _Later(int(body["n_runs"]), read)
    catalogued = tuple((encoder, name) for encoder, name in body["catalogued"])
    return Summary(
        baseline=body["baseline"], runs=runs, warned=warned, catalogued=catalogued, **parts
    )


class _Later(Sequence[Run]):
    """Runs that are read when somebody asks for one."""

    def __init__(self, n: int, read: Callable[[], Sequence[Run]]) -> None:
        self._n = n
        self._read = read
        self._runs: Sequence[Run] | None = None

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        if self._runs is None:
            self._runs = self._read()
        return self._runs[index]


def _number(value: Any) -> Any:
    """Return NumPy's numbers as Python's."""
    return value.item()


def _plain(value: object) -> object:
    return json.loads(json.dumps(value))


def can_draw() -> bool:
    """Whether plots can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None
