"""Train encoders, DepMamba or MMML: the verb ``train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.engine.choice import elsewhere
from mambabench.engine.journal import Journal
from mambabench.errors import ProtocolError, nearest_names
from mambabench.provenance import usable_cores
from mambabench.train.away import train_recipe_elsewhere, train_rows_elsewhere
from mambabench.train.encoder_verb import Options, train_recipe
from mambabench.train.generated import provide
from mambabench.train.log import check_loggers
from mambabench.train.probing import Probing, parse_probe
from mambabench.train.recipes import Recipe, RecipeRow, find_recipe, read_recipe
from mambabench.train.seeds import (
    RUN_SCHEMA,
    OnEpoch,
    TrainedSeed,
    run_folder,
    system_module,
    train_row,
)
from mambabench.train.settings import SYSTEMS, Settings, resolve
from mambabench.train.sources import Sources

if TYPE_CHECKING:
    from mambabench.train.away import Note

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
    engine: str = "local",
    per_node: int | None = None,
    note: Note | None = None,
) -> tuple[TrainedSeed, ...]:
    """Train SSAM, SSAST, SSAMBA or AuM: every row and seed of a recipe, or one of `settings`.

    The process joins the others that torchrun or srun started. With another `engine` than local
    every fold of every seed is trained by a worker of it, and `note` is told a line for each.
    Returns what became of every seed.
    """

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
    where = elsewhere(engine, options.out, usable_cores(), per_node)
    if where is None:
        return train_recipe(planned, options)
    return train_recipe_elsewhere(planned, options, where, note or (lambda line: None))


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
    progress: OnEpoch | None = None,
    engine: str = "local",
    per_node: int | None = None,
    note: Note | None = None,
) -> Trained:
    """Train every row and seed of a recipe, or one experiment made of `settings`.

    Each seed gets a folder with its weights, log and result; a finished one is left alone, a begun
    one continues with `resume` and is an error without. Test data are never read. A seed whose data
    turn out to be broken is recorded as failed and the others go on. With another `engine` than
    local every seed is trained by a worker of it, and `note` is told a line for each.
    """
    check_loggers(tuple(log), ("jsonl", "wandb"))
    planned = plan(system, recipe=recipe, rows=rows, task=task, seeds=seeds, settings=settings)

    sources = Sources(
        data=None if data is None else Path(data),
        store=Path(store) if store is not None else Path(out),
        encoder=encoder,
        text_encoder=text_encoder,
        device=resolve_device(device),
    )
    folder, loggers = Path(out), tuple(log)
    where = elsewhere(engine, folder, usable_cores(), per_node)
    done: list[TrainedSeed] = []
    of_rows: list[Sources] = []
    for row in planned.rows:
        sources = provide(row.settings, sources, folder)  # makes nothing twice
        of_rows.append(sources)
        if where is None:
            journal = Journal(folder, "train", "local", workers=1)
            done += train_row(system, row, sources, folder, resume, loggers, progress, journal)
    if where is not None:
        told = note or (lambda line: None)
        done += train_rows_elsewhere(
            planned, of_rows, folder, resume=resume, log=loggers, elsewhere=where, note=told
        )
    return Trained(planned, tuple(done))


def resolve_device(name: str) -> str:
    """Return "cpu" or "cuda" for "auto", other names as they are."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
