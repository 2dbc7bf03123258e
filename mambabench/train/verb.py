"""Train encoders, DepMamba or MMML: the verb ``train``."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import MambabenchError, ProtocolError, StoreError, nearest_names
from mambabench.files import write_json
from mambabench.reading.json_files import read_json_object
from mambabench.train.log import JsonLog, WandbLog, check_loggers
from mambabench.train.recipes import Recipe, RecipeRow, find_recipe, read_recipe
from mambabench.train.settings import SYSTEMS, DepMambaSettings, Settings, resolve

if TYPE_CHECKING:
    from mambabench.train.encoder_verb import SeedResult
    from mambabench.train.sources import Sources

__all__ = [
    "RUN_SCHEMA",
    "Trained",
    "TrainedSeed",
    "plan",
    "plan_encoder",
    "resolve_device",
    "run_folder",
    "system_module",
    "train",
    "train_encoder",
]

RUN_SCHEMA = "mambabench.train/1"
_REMEDY = "delete the folder of this seed and train again"
_PROJECTS = {"depmamba": "mamnba_ad", "mmml": "mmml"}  # the first as published, typo included

Progress = Callable[[str, int, dict[str, Any]], None]  # (run name, seed, epoch's row)


@dataclass(frozen=True)
class TrainedSeed:
    """What became of one seed."""

    row: str
    seed: int
    folder: Path
    state: str  # trained, resumed, already or failed
    result: dict[str, Any] | None
    error: str | None = None


@dataclass(frozen=True)
class Trained:
    """What a run of `train` did."""

    recipe: Recipe
    seeds: tuple[TrainedSeed, ...]

    @property
    def failed(self) -> bool:
        """Whether a seed failed."""
        return any(seed.state == "failed" for seed in self.seeds)


def plan(
    system: str,
    *,
    recipe: str | None = None,
    rows: Sequence[str] = (),
    task: str | None = None,
    seeds: int | Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the experiments with every setting resolved; nothing is read but the recipe.

    `seeds`: a number n replaces the recipe's seeds by its first n, continued with 0, 1, 2, ... that
    are not among them; a sequence is taken as it is.
    """
    if system not in SYSTEMS:
        raise ProtocolError(f"no system {system!r}{nearest_names(system, SYSTEMS)}")
    overrides = dict(settings or {})
    if task is not None:
        overrides["task"] = task
    if seeds is not None and not isinstance(seeds, int):
        overrides["seeds"] = tuple(seeds)
    if recipe is None:
        resolved = resolve(SYSTEMS[system], overrides, "settings")
        found = Recipe(system, system, "", "", (RecipeRow(system, resolved),))
    else:
        found = read_recipe(find_recipe(recipe), overrides, rows)
        if found.system != system:
            raise ProtocolError(f"recipe {recipe} is of system {found.system}, not {system}")
    if isinstance(seeds, int):
        found = Recipe(
            found.name,
            found.system,
            found.description,
            found.source,
            tuple(RecipeRow(row.name, _with_seeds(row.settings, seeds)) for row in found.rows),
        )
    return found


def _with_seeds(settings: Settings, n: int) -> Settings:
    if n < 1:
        raise ProtocolError(f"--seeds {n}: at least one")
    seeds = list(settings.seeds[:n])
    candidate = 0
    while len(seeds) < n:
        if candidate not in seeds:
            seeds.append(candidate)
        candidate += 1
    values = {**asdict(settings), "seeds": tuple(seeds)}
    return resolve(type(settings), values, "seeds")


def plan_encoder(
    system: str,
    *,
    recipe: str | None = None,
    rows: Sequence[str] = (),
    task: str | None = None,
    seeds: int | Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    mode: str | None = None,
    precision: str | None = None,
) -> Recipe:
    """Return `plan` for an encoder, with --mode and --precision in place of the recipe's."""
    given = {k: v for k, v in (("mode", mode), ("precision", precision)) if v is not None}
    return plan(
        system,
        recipe=recipe,
        rows=rows,
        task=task,
        seeds=seeds,
        settings={**(settings or {}), **given},
    )


def train_encoder(
    system: str,
    *,
    data: Sequence[Path | str] = (),
    recipe: str | None = None,
    rows: Sequence[str] = (),
    task: str | None = None,
    seeds: int | Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    mode: str | None = None,
    precision: str | None = None,
    init: str | None = None,
    out: Path | str = "mambabench-out",
    resume: bool = False,
    device: str = "auto",
    log: Sequence[str] = (),
    probe: str | None = None,
    tasks: Sequence[Path | str] = (),
    probe_method: str = "linear",
    save_steps: int | None = None,
    show: Any = None,
) -> tuple[SeedResult, ...]:
    """Train SSAM, SSAST, SSAMBA or AuM: every row and seed of a recipe, or one of `settings`.

    The process joins the others that torchrun or srun started. Returns what became of every seed.
    """
    from mambabench.train.encoder_verb import Options, train_recipe
    from mambabench.train.probing import Probing, parse_probe

    check_loggers(tuple(log))
    planned = plan_encoder(
        system,
        recipe=recipe,
        rows=rows,
        task=task,
        seeds=seeds,
        settings=settings,
        mode=mode,
        precision=precision,
    )
    probing = None
    if probe is not None:
        directories, every = parse_probe(probe, [Path(folder) for folder in tasks])
        probing = Probing(directories, every, probe_method)
    options = Options(
        tuple(str(value) for value in data),
        Path(out),
        resolve_device(device),
        resume,
        init,
        tuple(log),
        probing,
        save_steps,
        show,
    )
    return train_recipe(planned, options)


def run_folder(out: Path, system: str, row: RecipeRow) -> Path:
    """Return the folder of one experiment: its seeds lie below."""
    return out / "train" / system / row.settings.task / row.name


def train(
    system: str,
    *,
    data: Path | str | None = None,
    store: Path | str | None = None,
    encoder: str | None = None,
    text_encoder: str | None = None,
    recipe: str | None = None,
    rows: Sequence[str] = (),
    task: str | None = None,
    seeds: int | Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str = "mambabench-out",
    resume: bool = False,
    device: str = "auto",
    log: Sequence[str] = (),
    progress: Progress | None = None,
) -> Trained:
    """Train every row and seed of a recipe, or one experiment made of `settings`.

    Each seed gets a folder with its weights, log and result; a finished one is left alone, a begun
    one continues with `resume` and is an error without. Test data are never read. A seed whose data
    turn out to be broken is recorded as failed and the others go on.
    """
    check_loggers(tuple(log))
    planned = plan(system, recipe=recipe, rows=rows, task=task, seeds=seeds, settings=settings)
    from mambabench.train.generated import provide
    from mambabench.train.sources import Sources

    sources = Sources(
        data=None if data is None else Path(data),
        store=Path(store) if store is not None else Path(out),
        encoder=encoder,
        text_encoder=text_encoder,
        device=resolve_device(device),
    )
    done: list[TrainedSeed] = []
    for row in planned.rows:
        sources = provide(row.settings, sources, Path(out))  # makes nothing twice
        done += _train_row(system, row, sources, Path(out), resume, tuple(log), progress)
    return Trained(planned, tuple(done))


def resolve_device(name: str) -> str:
    """Return "cpu" or "cuda" for "auto", other names as they are."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _train_row(
    system: str,
    row: RecipeRow,
    sources: Sources,
    out: Path,
    resume: bool,
    log: tuple[str, ...],
    progress: Progress | None,
) -> list[TrainedSeed]:
    folder = run_folder(out, system, row)
    folders = {seed: folder / f"seed-{seed:03d}" for seed in row.settings.seeds}
    for seed, path in folders.items():
        _check_folder(path, row.settings, seed, resume)
    todo = [seed for seed, path in folders.items() if not (path / "run.json").is_file()]
    data = system_module(system).open_data(row.settings, sources) if todo else None
    done = []
    for seed, path in folders.items():
        if seed not in todo:
            record = read_json_object(path / "run.json", remedy=_REMEDY, error=StoreError)
            done.append(TrainedSeed(row.name, seed, path, "already", record))
            continue
        state = "resumed" if (path / "state.safetensors").is_file() else "trained"
        try:
            result = _train_seed(system, row, data, seed, path, sources, log, progress)
        except MambabenchError as error:
            write_json(path / "failed.json", {"seed": seed, "error": str(error)})
            done.append(TrainedSeed(row.name, seed, path, "failed", None, str(error)))
            continue
        done.append(TrainedSeed(row.name, seed, path, state, result))
    return done


def _check_folder(path: Path, settings: Settings, seed: int, resume: bool) -> None:
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
    progress: Progress | None,
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
