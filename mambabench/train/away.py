"""Independent trainings on another engine: a unit is a seed, or one fold of an encoder's seed.

A worker that sees the output folder trains in it, so that a training that was cut off goes on from
its last state. One that does not trains in a folder of its own and hands the files back.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambabench.engine.choice import Elsewhere
from mambabench.engine.journal import CellKey, Journal
from mambabench.engine.scratch import scratch_folder
from mambabench.engine.units import Crew, Lost, Shared, Unit
from mambabench.errors import DataError, MambabenchError, StoreError
from mambabench.files import read_json, write_bytes
from mambabench.train.encoder_verb import EncoderRun, Options, planned_runs, run_folder
from mambabench.train.probing import Probing
from mambabench.train.ranks import Ranks
from mambabench.train.recipes import Recipe, RecipeRow
from mambabench.train.seeds import TrainedSeed, cell_of, check_folder, fail, train_row
from mambabench.train.seeds import run_folder as row_folder
from mambabench.train.settings import SYSTEMS, resolve
from mambabench.train.sources import Sources
from mambabench.train.system import find_system

__all__ = ["Note", "train_recipe_elsewhere", "train_rows_elsewhere", "train_unit"]

Note = Callable[[str], None]  # told a line when a unit is done
_LAST = ("fold.json", "run.json")  # what says that a training is whole is written last
_FUNCTION = "mambabench.train.away:train_unit"


@dataclass
class _Todo:
    """One unit: what it is called, where its files lie, and what it is told."""

    name: str
    folder: Path
    spec: dict[str, Any]
    cell: CellKey


def train_recipe_elsewhere(
    recipe: Recipe, options: Options, elsewhere: Elsewhere, note: Note
) -> tuple[TrainedSeed, ...]:
    """Do what `train_recipe` does, every fold of every seed on a worker of another engine."""
    runs: list[TrainedSeed | EncoderRun] = []
    todo: list[_Todo] = []
    of_run: list[int] = []  # unit -> its place in `runs`
    totals: dict[CellKey, int] = {}
    for run in planned_runs(recipe, options, Ranks(), options.device):
        runs.append(run)
        if isinstance(run, TrainedSeed):
            continue
        totals[run.cell] = len(run.data.folds)
        spec = _encoder_spec(recipe.system, run.row, run.seed, options, run.init)
        for fold in run.data.folds:
            below = run.below(fold)
            if not (below / "fold.json").is_file():
                fold_name = getattr(fold, "name", "")
                name = f"{run.row.name} seed {run.seed} {fold_name}".strip()
                todo.append(_Todo(name, below, {**spec, "fold": fold_name}, run.cell))
                of_run.append(len(runs) - 1)
    errors: dict[int, MambabenchError] = {}
    for index, answer in _answers(todo, options.out, options.device, elsewhere, totals, note):
        if isinstance(answer, MambabenchError):
            errors.setdefault(of_run[index], answer)
    return tuple(
        one if isinstance(one, TrainedSeed) else one.attempt(errors.get(place))
        for place, one in enumerate(runs)
    )


def train_rows_elsewhere(
    planned: Recipe,
    sources: Sequence[Sources],
    out: Path,
    *,
    resume: bool,
    log: tuple[str, ...],
    elsewhere: Elsewhere,
    note: Note,
) -> tuple[TrainedSeed, ...]:
    """Do what `train` does for DepMamba and MMML, every seed on a worker of another engine.

    `sources` are of the rows.
    """
    todo: list[_Todo] = []
    done: list[TrainedSeed] = []
    at: list[int] = []
    totals: dict[CellKey, int] = {}
    for row, own in zip(planned.rows, sources, strict=True):
        for seed in row.settings.seeds:
            folder = row_folder(out, planned.system, row) / f"seed-{seed:03d}"
            check_folder(folder, row.settings, seed, resume)
            if (folder / "run.json").is_file():
                found = read_json(folder / "run.json")
                done.append(TrainedSeed(row.name, seed, folder, "already", found))
                continue
            begun = (folder / "state.safetensors").is_file()
            done.append(
                TrainedSeed(row.name, seed, folder, "resumed" if begun else "trained", None)
            )
            spec = {
                **_spec(planned.system, row, seed, out),
                "sources": _plain_sources(own),
                "log": list(log),
            }
            cell = cell_of(out, folder)
            totals[cell] = 1
            todo.append(_Todo(f"{row.name} seed {seed}", folder, spec, cell))
            at.append(len(done) - 1)
    device = sources[0].device if sources else "cpu"
    for index, answer in _answers(todo, out, device, elsewhere, totals, note):
        place, folder = at[index], todo[index].folder
        one = done[place]
        if isinstance(answer, MambabenchError):
            done[place] = fail(one.row, one.seed, folder, answer)
        elif answer["error"] is not None:
            done[place] = replace(one, state="failed", error=answer["error"])
        else:
            done[place] = replace(one, result=read_json(folder / "run.json"))
    return tuple(done)


def _answers(
    todo: Sequence[_Todo],
    out: Path,
    device: str,
    elsewhere: Elsewhere,
    totals: Mapping[CellKey, int],
    note: Note,
) -> Iterator[tuple[int, Any]]:
    """Yield (index of the unit, its answer or its MambabenchError); files have been written."""
    if not todo:
        return
    token = secrets.token_hex(16)
    journal = Journal(out, "train", elsewhere.wanted.name)
    journal.plan(totals)
    with (
        _sign(out, token) as sign,
        closing(elsewhere.start(on_gpu=device == "cuda")) as engine,
        journal,
    ):

        def units() -> Iterator[Unit]:
            for one in todo:
                spec = {**one.spec, "sign": [str(sign), token]}
                journal.begin(one.cell)
                if engine.shares_out:
                    yield Unit(spec)
                else:
                    yield Unit(spec, _begun(one.folder, out))

        def on_crew(crew: Crew) -> None:
            journal.workers = crew.workers

        results = engine.run(_FUNCTION, units(), on_crew=on_crew)
        with closing(results):  # type: ignore[type-var]
            for index, answer in results:
                one = todo[index]
                journal.end(one.cell)
                if isinstance(answer, Lost):
                    answer = StoreError(f"{answer.reason}; the same command tries it again")
                if isinstance(answer, MambabenchError):
                    note(f"{one.name}: {answer}")
                else:
                    _write(out, one.folder, answer.get("files"))
                    note(f"{one.name}: done on {answer['node']}")
                yield index, answer


@contextmanager
def _sign(out: Path, token: str) -> Iterator[Path]:
    """Put up a sign by which a worker knows whether it sees the output folder."""
    path = out.absolute() / "jobs" / f"sign-{token[:8]}"
    try:
        write_bytes(path, token.encode(), durable=False)
    except OSError as error:
        raise StoreError(
            f"cannot write {out}: {error.strerror or error}; choose another --out"
        ) from error
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
            path.parent.rmdir()  # refused where others work


def _begun(folder: Path, out: Path) -> Shared | None:
    """Return the files of a training that was begun, for a worker that cannot see them."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if not paths:
        return None
    newest = max(path.stat().st_mtime_ns for path in paths)

    def load() -> dict[str, Any]:
        return {str(path.relative_to(out)): np.fromfile(path, np.uint8) for path in paths}

    return Shared(f"{folder} {newest}", load)


def _write(out: Path, folder: Path, files: Mapping[str, Any] | None) -> None:
    """Write what a worker handed back; what it finished needs no state any more."""
    if files is None:
        return
    for name in sorted(files, key=lambda name: (Path(name).name in _LAST, name)):
        write_bytes(out / name, memoryview(files[name]))  # type: ignore[arg-type]
    state = folder / "state.safetensors"
    if str(state.relative_to(out)) not in files:
        state.unlink(missing_ok=True)


# --- what a unit is told ---


def _spec(system: str, row: RecipeRow, seed: int, out: Path) -> dict[str, Any]:
    settings = {**asdict(row.settings), "seeds": [seed]}
    return {
        "system": system,
        "row": row.name,
        "settings": settings,
        "seed": seed,
        "out": str(out.absolute()),
        "threads": torch.get_num_threads(),  # how many there are shows in the last bits
    }


def _encoder_spec(
    system: str, row: RecipeRow, seed: int, options: Options, init: Path | None
) -> dict[str, Any]:
    probe = options.probe
    if probe is not None:
        probe = replace(probe, tasks=tuple(task.absolute() for task in probe.tasks))
    return {
        **_spec(system, row, seed, options.out),
        "data": [_absolute(value) for value in options.data],
        "device": options.device,
        "init": options.init,
        "init_path": None if init is None else str(init.absolute()),
        "log": list(options.log),
        "probe": None
        if probe is None
        else {**asdict(probe), "tasks": [str(task) for task in probe.tasks]},
        "save_steps": options.save_steps,
    }


def _absolute(value: str) -> str:
    """Return --data's PATH or KEY=PATH with an absolute path."""
    key, equals, path = value.partition("=")
    if equals and not Path(value).exists():
        return f"{key}={Path(path).absolute()}"
    return str(Path(value).absolute())


def _plain_sources(sources: Sources) -> dict[str, Any]:
    values = asdict(sources)
    for key in ("data", "store"):
        if values[key] is not None:
            values[key] = str(values[key].absolute())
    return values


# --- the unit ---


def train_unit(spec: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    """Train one seed, or one fold of an encoder's; say on which node, and how it ended.

    Where the output folder is not to be seen, the files come with the answer.
    """
    node = socket.gethostname()
    before = torch.get_num_threads()
    torch.set_num_threads(spec["threads"])
    try:
        if _seen(*spec["sign"]):
            return {"node": node, "error": _trained(spec, Path(spec["out"]))}
        with scratch_folder("train") as out:
            for name, data in (spec.get("shared") or {}).items():
                write_bytes(out / name, memoryview(data), durable=False)  # type: ignore[arg-type]
            error = _trained(spec, out)
            files = {
                str(path.relative_to(out)): np.fromfile(path, np.uint8)
                for path in sorted(out.rglob("*"))
                if path.is_file()
            }
            return {"node": node, "error": error, "files": files}
    except DataError as error:
        raise DataError(f"node {node}: {error}") from error
    finally:
        torch.set_num_threads(before)


def _seen(path: str, token: str) -> bool:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8") == token
    return False


def _trained(spec: dict[str, Any], out: Path) -> str | None:
    """Train what a unit says below `out`; return the error that is recorded, or None."""
    system = spec["system"]
    settings = resolve(SYSTEMS[system], spec["settings"], spec["row"])
    row = RecipeRow(spec["row"], settings)
    if "sources" in spec:
        given = dict(spec["sources"])
        for key in ("data", "store"):
            given[key] = None if given[key] is None else Path(given[key])
        (one,) = train_row(system, row, Sources(**given), out, True, tuple(spec["log"]), None, None)
        return one.error
    probe = spec["probe"]
    if probe is not None:
        probe = Probing(**{**probe, "tasks": tuple(Path(task) for task in probe["tasks"])})
    options = Options(
        tuple(spec["data"]),
        out,
        spec["device"],
        True,
        spec["init"],
        tuple(spec["log"]),
        probe,
        spec["save_steps"],
    )
    found = find_system(system)
    data = found.open_data(settings, options.data)
    init = None if spec["init_path"] is None else Path(spec["init_path"])
    folder = run_folder(out, found, row, spec["seed"])
    device = "cuda:0" if options.device == "cuda" else options.device
    run = EncoderRun(found, row, spec["seed"], data, folder, options, Ranks(), device, init)
    (fold,) = (fold for fold in data.folds if getattr(fold, "name", "") == spec["fold"])
    run.fold(fold)
    return None
