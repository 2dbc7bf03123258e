"""One experiment of DepMamba or MMML, seed by seed: what the verb ``train`` does for them."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mambabench.engine.journal import CellKey, Journal
from mambabench.errors import MambabenchError, StoreError
from mambabench.files import write_json
from mambabench.reading.json_files import read_json_object
from mambabench.train.log import JsonLog, WandbLog
from mambabench.train.recipes import RecipeRow
from mambabench.train.settings import DepMambaSettings, Settings
from mambabench.train.sources import Sources

__all__ = [
    "RUN_SCHEMA",
    "OnEpoch",
    "TrainedSeed",
    "cell_of",
    "check_folder",
    "fail",
    "run_folder",
    "system_module",
    "train_row",
]

RUN_SCHEMA = "mambabench.train/1"
_REMEDY = "delete the folder of this seed and train again"
_PROJECTS = {"depmamba": "mamnba_ad", "mmml": "mmml"}  # the first as published, typo included

OnEpoch = Callable[[str, int, dict[str, Any]], None]  # (run name, seed, epoch's row)


@dataclass(frozen=True)
class TrainedSeed:
    """What became of one seed."""

    row: str
    seed: int
    folder: Path
    state: str  # trained, resumed, already or failed
    result: dict[str, Any] | None
    error: str | None = None


def run_folder(out: Path, system: str, row: RecipeRow) -> Path:
    """Return the folder of one experiment: its seeds lie below."""
    return out / "train" / system / row.settings.task / row.name


def cell_of(out: Path, folder: Path) -> CellKey:
    """Return what `mambabench status` calls the training of a seed; a unit is a fold."""
    system, task, *run = folder.relative_to(out / "train").parts
    return (f"{system} {'/'.join(run)}", task, "train")


def train_row(
    system: str,
    row: RecipeRow,
    sources: Sources,
    out: Path,
    resume: bool,
    log: tuple[str, ...],
    progress: OnEpoch | None,
    journal: Journal | None,
) -> list[TrainedSeed]:
    """Train the seeds of one experiment; a finished one is left alone, a failed one is recorded.

    `journal` is kept up meanwhile.
    """
    folder = run_folder(out, system, row)
    folders = {seed: folder / f"seed-{seed:03d}" for seed in row.settings.seeds}
    for seed, path in folders.items():
        check_folder(path, row.settings, seed, resume)
    todo = [seed for seed, path in folders.items() if not (path / "run.json").is_file()]
    data = system_module(system).open_data(row.settings, sources) if todo else None
    done = []
    with ExitStack() as stack:
        if journal is not None and todo:
            journal.plan({cell_of(out, folders[seed]): 1 for seed in todo})
            stack.enter_context(journal)
        for seed, path in folders.items():
            if seed not in todo:
                record = read_json_object(path / "run.json", remedy=_REMEDY, error=StoreError)
                done.append(TrainedSeed(row.name, seed, path, "already", record))
                continue
            state = "resumed" if (path / "state.safetensors").is_file() else "trained"
            with journal.working_on(cell_of(out, path)) if journal else nullcontext():
                try:
                    result = _train_seed(system, row, data, seed, path, sources, log, progress)
                except MambabenchError as error:
                    done.append(fail(row.name, seed, path, error))
                    continue
            done.append(TrainedSeed(row.name, seed, path, state, result))
    return done


def fail(row: str, seed: int, folder: Path, error: MambabenchError) -> TrainedSeed:
    """Record that a seed failed."""
    write_json(folder / "failed.json", {"seed": seed, "error": str(error)})
    return TrainedSeed(row, seed, folder, "failed", None, str(error))


def check_folder(path: Path, settings: Settings, seed: int, resume: bool) -> None:
    """Refuse to mix settings in one folder, and to continue a begun run unasked."""
    if (path / "settings.json").is_file():
        found = read_json_object(path / "settings.json", remedy=_REMEDY, error=StoreError)
        if found != _settings_json(settings, seed):
            differ = [k for k, v in _settings_json(settings, seed).items() if found.get(k) != v]
            raise StoreError(
                f"{path} was trained with another {', '.join(differ)}; use another --out or "
                "remove the folder"
            )
    begun = (path / "state.safetensors").is_file() and not (path / "run.json").is_file()
    if begun and not resume:
        raise StoreError(f"{path} holds a run that was cut off; continue it with --resume")


def _settings_json(settings: Settings, seed: int) -> dict[str, Any]:
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}
    del values["seeds"]  # adding seeds later must not disturb finished ones
    return {**values, "seed": seed}


def _train_seed(
    system: str,
    row: RecipeRow,
    data: Any,
    seed: int,
    folder: Path,
    sources: Sources,
    log: tuple[str, ...],
    progress: OnEpoch | None,
) -> dict[str, Any]:
    started = time.time()
    write_json(folder / "settings.json", _settings_json(row.settings, seed))
    (folder / "failed.json").unlink(missing_ok=True)
    lines = JsonLog(folder / "log.jsonl")
    wandb = (
        WandbLog(_PROJECTS[system], _wandb_name(row), _settings_json(row.settings, seed))
        if "wandb" in log
        else None
    )

    def emit(epoch: dict[str, Any]) -> None:
        lines(epoch)
        if wandb is not None:
            wandb(epoch)
        if progress is not None:
            progress(row.name, seed, epoch)

    result = system_module(system).train_seed(
        row.settings, data, seed, folder, device=sources.device, log=emit
    )
    record = {
        "schema": RUN_SCHEMA,
        "system": system,
        "name": row.name,
        "seed": seed,
        "settings": _settings_json(row.settings, seed),
        "notes": list(data.notes),
        "restricted": data.restricted,
        **result,
    }
    if wandb is not None:
        wandb.close({"best_epoch": result["best_epoch"], **(result["validation"] or {})})
    write_json(folder / "provenance.json", _provenance(sources, started))
    write_json(folder / "run.json", record)
    (folder / "state.safetensors").unlink(missing_ok=True)
    return record


def system_module(system: str) -> Any:
    """Return the module that opens data, trains a seed and predicts for `system`."""
    from importlib import import_module

    # only one: the other has its own costs
    return import_module(f"mambabench.train.systems.{system}")


def _wandb_name(row: RecipeRow) -> str:
    settings = row.settings
    if isinstance(settings, DepMambaSettings):
        return f"{settings.model}-{settings.train_gender}-{settings.test_gender}"
    return row.name


def _provenance(sources: Sources, started: float) -> dict[str, Any]:
    import numpy
    import torch

    return {
        "data": None if sources.data is None else str(sources.data.resolve()),
        "store": None if sources.store is None else str(sources.store.resolve()),
        "encoder": sources.encoder,
        "text_encoder": sources.text_encoder,
        "device": sources.device,
        "started": started,
        "elapsed_s": time.time() - started,
        "host": platform.node(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
    }
