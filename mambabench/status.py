"""The verb ``status``: how far encoders are on tasks, and trainings. It only reads."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mambabench.engine.journal import CellKey, Told, read_journals
from mambabench.errors import MambabenchError, StoreError
from mambabench.store.embeddings import MANIFEST
from mambabench.store.hear_eval_kit_files import DONE, read_sidecar
from mambabench.store.records import read_record, record_paths
from mambabench.store.seal import sealed_missing
from mambabench.store.shards import plan_path, work_folder
from mambabench.store.shards import read_record as read_shard

__all__ = ["CellStatus", "Status", "status"]

_LAST_BYTES = 65536  # of a log, which hold its last line


@dataclass(frozen=True)
class CellStatus:
    """One encoder on one task: its extraction, or its probes by one protocol; or a training."""

    encoder: str  # of a training: system and run
    task: str
    part: str  # "extract", "train", or a protocol
    unit: str  # "shards", "seeds", or "folds" of an encoder's training
    done: int
    running: int  # given to workers by commands that are alive
    failed: int  # units: shards with clips that failed, seeds without a score
    waiting: int
    finished: bool  # sealed; all seeds or folds done
    said: str = ""  # where a training stands that has begun and is not done


@dataclass(frozen=True)
class Status:
    """What lies in an output folder, and who works on it."""

    out: Path
    cells: tuple[CellStatus, ...]
    commands: tuple[Told, ...]


def status(out: Path | str = "mambabench-out") -> Status:
    """Return how far every (encoder, task) below `out` is; nothing is written.

    What is done and failed stands in the store and the records; what runs and waits is told by the
    commands at work, or was told last by one that was cut off. Raises MambabenchError where there
    is no such folder.
    """
    out = Path(out)
    if not out.is_dir():
        raise MambabenchError(f"{out} is no folder: give the --out of the command that works in it")
    told = read_journals(out)
    totals: dict[CellKey, int] = {}
    running: Counter[CellKey] = Counter()
    for one in told:
        for cell, (total, in_hand) in one.cells.items():
            totals[cell] = max(total, totals.get(cell, 0))
            running[cell] += in_hand if one.alive else 0
    cells = {
        **_extractions(out, totals, running),
        **_probes(out, totals, running),
        **_trainings(out, totals, running),
    }
    for cell, total in totals.items():
        if cell not in cells:
            cells[cell] = _cell(cell, 0, running[cell], 0, total)
    return Status(out, tuple(cells[cell] for cell in sorted(cells)), told)


def _cell(cell: CellKey, done: int, running: int, failed: int, total: int) -> CellStatus:
    encoder, task, part = cell
    left = max(0, total - done - failed)
    running = min(running, left)
    unit = {"extract": "shards", "train": "folds"}.get(part, "seeds")
    finished = left == 0 and failed == 0 and part != "extract"
    return CellStatus(encoder, task, part, unit, done, running, failed, left - running, finished)


def _extractions(
    out: Path, totals: dict[CellKey, int], running: Counter[CellKey]
) -> dict[CellKey, CellStatus]:
    found = {}
    for folder in sorted(p for p in (out / "embeddings").glob("*/*") if p.is_dir()):
        encoder, task = folder.parent.name, folder.name
        if (folder / MANIFEST).is_file() or (folder / DONE).is_file():
            cell = (encoder, task, "extract")
            n = totals.get(cell, 1)
            n_missing = 1 if _missing(folder) else 0
            found[cell] = CellStatus(*cell, "shards", n, 0, n_missing, 0, True)
            continue
        plan = _plan(folder)
        if plan is None:
            continue
        cell = (str(plan.get("encoder", encoder)), task, "extract")
        n_done = n_failed = 0
        for path in sorted(work_folder(folder).glob("*/*.json")):
            record = read_shard(folder, path.parent.name, path.stem)
            if record is not None:
                n_failed += bool(record.failures)
                n_done += not record.failures
        total = max(totals.get(cell, 0), int(plan.get("shards", 0)), n_done + n_failed)
        found[cell] = _cell(cell, n_done, running[cell], n_failed, total)
    return found


def _missing(folder: Path) -> dict[str, str]:
    if (folder / MANIFEST).is_file():
        with suppress(StoreError):
            return sealed_missing(folder)
        return {}
    with suppress(StoreError):
        sidecar = read_sidecar(folder)
        return dict(sidecar["missing"]) if sidecar else {}
    return {}


def _plan(folder: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        value = json.loads(plan_path(folder).read_bytes())
        return value if isinstance(value, dict) else None
    return None


def _probes(
    out: Path, totals: dict[CellKey, int], running: Counter[CellKey]
) -> dict[CellKey, CellStatus]:
    done: defaultdict[CellKey, list[int]] = defaultdict(lambda: [0, 0])
    for path in record_paths(out):
        with suppress(StoreError):  # being replaced, or damaged: `verify` says so
            record = read_record(path)
            failed = not record.folds
            done[record.encoder, record.task, record.protocol][failed] += 1
    return {
        cell: _cell(cell, ok, running[cell], bad, max(totals.get(cell, 0), ok + bad))
        for cell, (ok, bad) in done.items()
    }


def _trainings(
    out: Path, totals: dict[CellKey, int], running: Counter[CellKey]
) -> dict[CellKey, CellStatus]:
    """Look at every ``train/SYSTEM/TASK/RUN`` that has its settings or is told of."""
    cells = {cell for cell in totals if cell[2] == "train"}
    for settings in (out / "train").rglob("settings.json"):
        place = settings.parent.relative_to(out / "train").parts
        if len(place) > 2:
            cells.add((f"{place[0]} {'/'.join(place[2:])}", place[1], "train"))
    found = {}
    for cell in cells:
        system, _, run = cell[0].partition(" ")
        folder = out / "train" / system / cell[1] / run
        folds = sorted({path.parent for path in folder.rglob("log.jsonl")}) or [folder]
        done = [p for p in folds if (p / "fold.json").is_file() or (p / "run.json").is_file()]
        n_failed = int((folder / "failed.json").is_file())
        total = max(totals.get(cell, 0), len(folds))
        said = "; ".join(line for p in folds if p not in done and (line := _last_said(p, folder)))
        found[cell] = replace(_cell(cell, len(done), running[cell], n_failed, total), said=said)
    return found


def _last_said(folder: Path, run: Path) -> str:
    """Say where a training stands, by the last whole line of its log; "" where there is none."""
    with suppress(OSError, ValueError):
        with (folder / "log.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _LAST_BYTES))
            lines = file.read().splitlines(keepends=True)
        last = json.loads(next((one for one in reversed(lines) if one.endswith(b"\n")), b"{}"))
        place = "" if folder == run else f"{folder.name} "
        return place + ", ".join(f"{key} {last[key]}" for key in ("epoch", "step") if key in last)
    return ""
