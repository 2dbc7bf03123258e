"""Train encoders: what the verb ``train`` does for SSAM, SSAST, SSAMBA and AuM."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mambabench.engine.journal import CellKey, Journal
from mambabench.errors import MambabenchError, StoreError
from mambabench.files import read_json, write_json
from mambabench.train.encoder_settings import EncoderSettings
from mambabench.train.finish import finish_fold, finish_folds
from mambabench.train.initial import initial_path
from mambabench.train.log import RunLog
from mambabench.train.loop import LoopEvent, Progress, Tick, Work, run_training
from mambabench.train.probing import Probing
from mambabench.train.ranks import Ranks, find_ranks, joined
from mambabench.train.recipes import Recipe, RecipeRow
from mambabench.train.seeds import TrainedSeed, cell_of
from mambabench.train.state import save_tensors, weights_of
from mambabench.train.system import Call, EncoderData, PreparedTraining, System, find_system

__all__ = [
    "SCHEMA",
    "EncoderRun",
    "Options",
    "planned_runs",
    "run_folder",
    "train_recipe",
]

SCHEMA = "mambabench.train/2"
Show = Callable[[str, Tick], None]  # name of the run, what the step says


@dataclass(frozen=True)
class Options:
    """What a call adds to a recipe."""

    data: tuple[str, ...]
    out: Path
    device: str = "cpu"
    resume: bool = False
    init: str | None = None
    log: tuple[str, ...] = ()
    probe: Probing | None = None
    save_steps: int | None = None
    show: Show | None = None


def run_folder(out: Path, system: System, row: RecipeRow, seed: int) -> Path:
    """Return where a seed of a row lies."""
    settings = row.settings
    name = system.run_name(settings, row.name, seed)
    return out / "train" / system.name / settings.task / name


def train_recipe(recipe: Recipe, options: Options) -> tuple[TrainedSeed, ...]:
    """Train every row and seed; a finished one is left alone, a failed one is recorded."""
    ranks = find_ranks()
    device = options.device
    if device == "cuda":
        torch.cuda.set_device(ranks.local)
        device = f"cuda:{ranks.local}"
    done: list[TrainedSeed] = []
    journal = Journal(options.out, "train", "local", workers=ranks.world)
    with joined(ranks, device) as group, ExitStack() as stack:
        for one in planned_runs(recipe, options, group, device):
            if isinstance(one, TrainedSeed):
                done.append(one)
                continue
            journal.plan({one.cell: len(one.data.folds)})
            if group.first and all(before.state == "already" for before in done):
                stack.enter_context(journal)  # with the first that is to be trained
            with journal.working_on(one.cell):
                done.append(one.attempt())
    return tuple(done)


def planned_runs(
    recipe: Recipe, options: Options, ranks: Ranks, device: str
) -> Iterator[TrainedSeed | EncoderRun]:
    """Yield every row and seed, each when it is asked for: what is finished, and what is to do."""
    system = find_system(recipe.system)
    init = initial_path(options.init)
    for row in recipe.rows:
        assert isinstance(row.settings, EncoderSettings)
        data: EncoderData | None = None
        for seed in row.settings.seeds:
            folder = run_folder(options.out, system, row, seed)
            check_begun(folder, row.settings, seed, options)
            if (folder / "run.json").is_file():
                found = read_json(folder / "run.json")
                yield TrainedSeed(row.name, seed, folder, "already", found)
                continue
            data = data or system.open_data(row.settings, options.data)
            yield EncoderRun(system, row, seed, data, folder, options, ranks, device, init)


def settings_json(settings: EncoderSettings, seed: int, init: str | None) -> dict[str, Any]:
    """Return what a run was told, without what cannot change its result."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}
    for key in ("seeds", "workers", "checkpointing"):
        del values[key]
    return {**values, "seed": seed, "init": init}


def check_begun(folder: Path, settings: EncoderSettings, seed: int, options: Options) -> None:
    """Refuse to mix settings in one folder, and to continue a begun run unasked."""
    path = folder / "settings.json"
    if not path.is_file():
        return
    found, wanted = read_json(path), settings_json(settings, seed, options.init)
    differ = [k for k, v in wanted.items() if found.get(k) != v]
    if differ:
        raise StoreError(
            f"{folder} was trained with another {', '.join(differ)}; use another --out or remove "
            "the folder"
        )
    begun = any(folder.rglob("state.safetensors")) and not (folder / "run.json").is_file()
    if begun and not options.resume:
        raise StoreError(f"{folder} holds a run that was cut off; continue it with --resume")


@dataclass(frozen=True)
class EncoderRun:
    """One seed of one row."""

    system: System
    row: RecipeRow
    seed: int
    data: EncoderData
    folder: Path
    options: Options
    ranks: Ranks
    device: str
    init: Path | None

    def state_before(self) -> str:
        """Say "resumed" where files of a training lie that was cut off, else "trained"."""
        return "resumed" if any(self.folder.rglob("state.safetensors")) else "trained"

    @property
    def cell(self) -> CellKey:
        """What `mambabench status` calls it."""
        return cell_of(self.options.out, self.folder)

    def below(self, fold: Any) -> Path:
        """Return the folder of a fold."""
        name = getattr(fold, "name", "")
        return self.folder / name if name else self.folder

    @property
    def settings(self) -> EncoderSettings:
        settings = self.row.settings
        assert isinstance(settings, EncoderSettings)
        return settings

    def attempt(self, error: MambabenchError | None = None) -> TrainedSeed:
        """Train; an error of ours is recorded, and is the result, as is one met elsewhere."""
        state = self.state_before()
        if self.ranks.first:
            told = settings_json(self.settings, self.seed, self.options.init)
            write_json(self.folder / "settings.json", told)
            (self.folder / "failed.json").unlink(missing_ok=True)
        self.ranks.wait()
        try:
            if error is not None:
                raise error
            result = self.train()
        except MambabenchError as error:
            if self.ranks.first:
                write_json(self.folder / "failed.json", {"seed": self.seed, "error": str(error)})
            if self.ranks.world > 1:  # the others wait for this one: let the launcher end them
                raise
            return TrainedSeed(self.row.name, self.seed, self.folder, "failed", None, str(error))
        return TrainedSeed(self.row.name, self.seed, self.folder, state, result)

    def train(self) -> dict[str, Any]:
        """Train every fold, then write the record."""
        started = time.time()
        folds = [self.fold(fold) for fold in self.data.folds]
        record = {
            "schema": SCHEMA,
            "system": self.system.name,
            "name": self.row.name,
            "seed": self.seed,
            "mode": self.settings.mode,
            "settings": settings_json(self.settings, self.seed, self.options.init),
            "notes": list(self.data.notes),
            "restricted": self.data.restricted,
            "folds": folds,
            **finish_folds(self.settings, self.folder, folds, self.ranks),
        }
        if self.ranks.first:
            write_json(self.folder / "provenance.json", self._provenance(started))
            write_json(self.folder / "run.json", record)
        self.ranks.wait()
        return record

    def fold(self, fold: Any) -> dict[str, Any]:
        """Train a fold that is not done yet; return its record, written when it is."""
        below = self.below(fold)
        kept = below / "fold.json"
        if kept.is_file():
            found: dict[str, Any] = read_json(kept)
            return found
        record = self.train_fold(fold, getattr(fold, "name", ""), below)
        if self.ranks.first:
            write_json(kept, record)
            (below / "state.safetensors").unlink(missing_ok=True)
        return record

    def train_fold(self, fold: Any, name: str, below: Path) -> dict[str, Any]:
        """Train one fold from where it stands and return what its record says."""
        folder = self.system.run_name(self.settings, self.row.name, self.seed)
        with ExitStack() as stack:
            log = stack.enter_context(
                RunLog(
                    below,
                    self.options.log if self.ranks.first else (),
                    self.system.sent(self.settings),
                    f"{folder} {name}".strip(),
                    settings_json(self.settings, self.seed, self.options.init),
                    write=self.ranks.first,
                )
            )
            call = Call(self.device, self.ranks, self.init)
            prepared = self.system.prepare(self.settings, self.data, fold, self.seed, below, call)
            prepared.work.clip_s = prepared.clip_s
            self._watch(prepared, below, log)

            def tick(said: Tick) -> None:
                log.step(said)
                if self.options.show is not None:
                    self.options.show(f"{self.row.name} {name}".strip(), said)

            progress = run_training(
                prepared.work,
                below,
                self.ranks,
                save_steps=self.options.save_steps,
                tick=tick,
            )
            return finish_fold(self.settings, prepared, fold, name, below, progress, self.ranks)

    def _watch(self, prepared: PreparedTraining, below: Path, log: RunLog) -> None:
        """Let evaluations be logged, the best weights be kept, and probes run between epochs."""
        work, own, probe = prepared.work, prepared.work.files, self.options.probe

        def files(event: LoopEvent, work: Work, progress: Progress) -> None:
            if own is not None:
                own(event, work, progress)
            if event == "evaluation":
                log.evaluation(progress)
                if prepared.selection and progress.best_step == progress.step:
                    header = {"step": progress.step}
                    save_tensors(below / "best.safetensors", weights_of(work.model), header)

        work.files = files
        if probe is not None:
            work.after_epoch = probe.after_epoch(self.system.name, self.settings, log)

    def _provenance(self, started: float) -> dict[str, Any]:
        import numpy

        return {
            "data": list(self.options.data),
            "init": None if self.init is None else str(self.init),
            "device": self.device,
            "ranks": self.ranks.world,
            "started": started,
            "elapsed_s": time.time() - started,
            "host": platform.node(),
            "threads": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": numpy.__version__,
            },
        }
