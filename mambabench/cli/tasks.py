"""``mambabench tasks``: list, show and check tasks."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import completion, options

if TYPE_CHECKING:
    from mambabench.benchmarks.family import TaskRow
    from mambabench.benchmarks.layout.check import TaskCheck
    from mambabench.benchmarks.task import Task

__all__ = ["command"]

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
_folders = click.option(
    "--tasks",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Look in this task directory or parent of several. Repeatable. Default: known tasks.",
)


@click.group(name="tasks")
def command() -> None:
    """List, show and check tasks."""


@command.command("list")
@click.argument("names", nargs=-1, shell_complete=completion.tasks)
@_folders
@_as_json
def list_command(names: tuple[str, ...], tasks: tuple[Path, ...], as_json: bool) -> None:
    """List the tasks known by name, or those found in folders.

    NAMES choose: short names, globs, and the groups hear, superb, affect, demo, speech, music,
    sound and small (at most three hours of audio).
    """
    from mambabench.benchmarks.tasks import list as list_tasks
    from mambabench.cli.tables import print_table

    rows = list_tasks(tasks, names)
    if as_json:
        _print_json({"schema": "mambabench.tasks/1", "tasks": [_plain(row) for row in rows]})
        return
    header = ("task", "metric", "clips", "hours", "labels", "domain", "type", "splits", "licence")
    lines: list[tuple[str, ...]] = []
    family = ""
    for row in rows:
        if row.family != family:
            family = row.family
            lines.append((_heading(family),))
        lines.append(_cells(row))
    optional = ("splits", "type", "domain", "licence", "labels")
    print_table(header, lines, optional=optional, numbers=("clips", "hours", "labels"))


_HEADINGS = {
    "demo": "demo: generated here in seconds",
    "hear": "hear: HEAR 2021; `mambabench data get NAME` fetches one",
    "found": "found in these folders",
}


def _heading(family: str) -> str:
    """Say how to come by the tasks of a family."""
    from mambabench.benchmarks.known import FAMILIES

    prepared = (one for one in FAMILIES.values() if one.prepare is not None)
    if any(row.family == family for one in prepared for row in one.rows()):
        return f"{family}: `mambabench tasks prepare NAME --data DIR` makes one from its corpus"
    return _HEADINGS.get(family, family)


@command.command("show")
@click.argument("task", shell_complete=completion.tasks)
@_folders
@_as_json
def show_command(task: str, tasks: tuple[Path, ...], as_json: bool) -> None:
    """Show TASK: a known name, a task directory, or a name in the folders of --tasks."""
    from mambabench.benchmarks.task import Task
    from mambabench.benchmarks.tasks import show
    from mambabench.cli.tables import print_facts

    found = show(task, tasks)
    facts = _facts(found) if isinstance(found, Task) else _plain(found)
    if as_json:
        _print_json({"schema": "mambabench.task/1", **facts})
        return
    print_facts(
        [
            (_SAID.get(key, key.replace("_", " ")), _spoken(value))
            for key, value in facts.items()
            if value not in (None, "", (), [], {})
        ]
    )


@command.command("check")
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.jobs
@_as_json
@click.pass_context
def check_command(
    context: click.Context, directories: tuple[Path, ...], jobs: int | None, as_json: bool
) -> None:
    """Check task directories, or folders of them, and print every defect with its remedy.

    Exit code 1 if there is an error; warnings alone leave it 0.
    """
    import os

    from mambabench.benchmarks.tasks import check

    results = check(*directories, jobs=jobs or os.cpu_count() or 1)
    if as_json:
        tasks = [_check_facts(result) for result in results]
        _print_json({"schema": "mambabench.tasks-check/1", "tasks": tasks})
    else:
        for result in results:
            _print_check(result)
    if not all(result.ok for result in results):
        context.exit(1)


@command.command("prepare")
@options.as_json
@click.argument("task")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the corpus in its own layout.",
)
@click.option(
    "--to",
    default=Path("tasks"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder in which the task directory is written.",
)
def prepare_command(task: str, data: Path, to: Path) -> None:
    """Make the task directory of TASK from a corpus; it points there, no audio is copied."""
    from mambabench.benchmarks.tasks import prepare
    from mambabench.cli.json_out import tell
    from mambabench.cli.lines import print_wrapped

    done = prepare(task, data, to)
    tell(directory=done.directory, clips=done.n_clips, notes=done.notes)
    sizes = ", ".join(f"{split} {count:,}" for split, count in done.n_clips.items())
    click.echo(f"{done.directory}: {sizes}")
    for note in done.notes:
        print_wrapped(f"note: {note}")


@command.command("make")
@click.option(
    "--csv",
    "table",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Table with a header: file and label, perhaps split, group, start and end (seconds).",
)
@click.option(
    "--audio",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder that the files of the table are seen from.",
)
@click.option(
    "--to",
    default=Path("tasks"),
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder in which the task directory is written.",
)
@click.option("--name", metavar="NAME", help="Of the task.  [default: that of the table]")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="ROLE=NAME",
    help="What a column is called: file, label, split, group, start or end. Repeatable.",
)
@click.option(
    "--separator", default=";", show_default=True, help="Between several labels of a file."
)
@click.option("--folds", type=click.IntRange(min=3), help="Make so many folds of it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of splits made here.")
@_as_json
def make_command(columns: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Make a task directory from a table of files and labels, and check it.

    It points at the audio, none is copied. Splits that the table does not name are made here: whole
    groups, labels in like shares, the same for the same seed. Exit code 1 if the check finds an
    error.
    """
    from mambabench.benchmarks.tasks import check, make
    from mambabench.cli.lines import print_wrapped

    wrong = [one for one in columns if "=" not in one]
    if wrong:
        raise click.UsageError(f"--column {wrong[0]!r} is not ROLE=NAME, such as file=Dateiname")
    named = dict(one.split("=", 1) for one in columns)
    done = make(given.pop("table"), given.pop("audio"), columns=named, **given)
    (result,) = check(done.directory)
    if as_json:
        facts = {**_check_facts(result), "clips": dict(done.n_clips), "notes": list(done.notes)}
        _print_json({"schema": "mambabench.tasks-make/1", **facts})
    else:
        sizes = ", ".join(f"{split} {count:,}" for split, count in done.n_clips.items())
        click.echo(f"{done.directory}: {sizes}")
        for note in done.notes:
            print_wrapped(f"note: {note}")
        _print_check(result)
    return 0 if result.ok else 1


def _print_check(result: TaskCheck) -> None:
    from mambabench.cli.lines import print_wrapped

    for defect in result.defects:
        print_wrapped(f"{defect.severity}: {result.directory}/{defect}")
    n_errors = sum(defect.severity == "error" for defect in result.defects)
    n_warnings = len(result.defects) - n_errors
    click.echo(
        f"{result.name}: {result.n_clips} clips, {result.n_files} audio files, "
        f"{result.duration_s / 60:.1f} min; "
        + (f"{n_errors} errors, {n_warnings} warnings" if result.defects else "no defect")
    )


def _check_facts(result: TaskCheck) -> dict[str, Any]:
    return {
        "task": result.name,
        "directory": str(result.directory),
        "ok": result.ok,
        "n_clips": result.n_clips,
        "n_files": result.n_files,
        "duration_s": result.duration_s,
        "defects": [_plain(defect) for defect in result.defects],
    }


def _cells(row: TaskRow) -> tuple[str, ...]:
    return (
        row.name,
        row.metric,
        f"{row.n_clips:,}" if row.n_clips else "-",
        "-" if row.hours is None else f"{row.hours:.2f}" if row.hours < 10 else f"{row.hours:.0f}",
        _text(row.n_labels),
        row.domain or "-",
        f"{row.embedding_type} {row.prediction_type}",
        f"{row.n_splits} folds" if row.split_mode.endswith("kfold") else "train/valid/test",
        _licence(row.name),
    )


def _licence(name: str) -> str:
    from mambabench.acquire.archives import ARCHIVES

    known = {archive.directory: archive.licence for archive in ARCHIVES}
    return known.get(name, "-").partition(" (")[0]


def _facts(task: Task) -> dict[str, Any]:
    facts = _plain(task)
    facts["directory"] = str(task.directory)
    facts["clips"] = {split: len(clips) for split, clips in task.clips.items()}
    return facts


def _plain(item: Any) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in fields(item)}


# what people read; JSON keeps the keys
_SAID = {
    "embedding_type": "embeds",
    "prediction_type": "predicts",
    "split_mode": "split as",
    "n_splits": "number of splits",
    "n_labels": "number of labels",
    "n_clips": "clips",
    "sample_duration_s": "seconds a clip",
    "evaluation": "metrics",
    "sample_rates_hz": "sample rates in Hz",
    "use_scoring_for_early_stopping": "stops early on its metric",
    "median_filter_ms": "median filters in ms",
    "min_duration_ms": "shortest events in ms",
    "task_specific_param_grid": "own grid",
    "limited": "limited to",
}
_WORDS = {
    "presplit_kfold": "folds of the corpus' own, each tested once",
    "new_split_kfold": "folds made by HEAR, each tested once",
    "trainvaltest": "train, valid and test",
    "scene": "one embedding a clip",
    "event": "one embedding a frame",
    "multiclass": "one label",
    "multilabel": "any number of labels",
}


def _spoken(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return _WORDS.get(value, _text(value)) if isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, tuple):
        shown = ", ".join(_text(part) for part in value[:12])
        return f"{shown} and {len(value) - 12} more" if len(value) > 12 else shown or "-"
    return str(value)


def _print_json(value: object) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
