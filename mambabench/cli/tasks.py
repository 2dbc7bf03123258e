"""``mambabench tasks``: list, show and check tasks."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options

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
@_folders
@_as_json
def list_command(tasks: tuple[Path, ...], as_json: bool) -> None:
    """List the tasks known by name, or those found in folders."""
    from mambabench.benchmarks.tasks import list as list_tasks

    rows = list_tasks(tasks)
    if as_json:
        _print_json({"schema": "mambabench.tasks/1", "tasks": [_plain(row) for row in rows]})
        return
    header = ("task", "type", "splits", "labels", "clips", "seconds", "metric")
    lines = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@command.command("show")
@click.argument("task")
@_folders
@_as_json
def show_command(task: str, tasks: tuple[Path, ...], as_json: bool) -> None:
    """Show TASK: a known name, a task directory, or a name in the folders of --tasks."""
    from mambabench.benchmarks.task import Task
    from mambabench.benchmarks.tasks import show

    found = show(task, tasks)
    facts = _facts(found) if isinstance(found, Task) else _plain(found)
    if as_json:
        _print_json({"schema": "mambabench.task/1", **facts})
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        click.echo(f"{key.ljust(width)}  {_text(value)}")


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

    done = prepare(task, data, to)
    sizes = ", ".join(f"{split} {count:,}" for split, count in done.n_clips.items())
    click.echo(f"{done.directory}: {sizes}")
    for note in done.notes:
        click.echo(f"note: {note}")


def _print_check(result: TaskCheck) -> None:
    for defect in result.defects:
        click.echo(f"{defect.severity}: {result.directory}/{defect}")
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
        f"{row.embedding_type} {row.prediction_type}",
        f"{row.n_splits} folds" if row.split_mode.endswith("kfold") else "train/valid/test",
        _text(row.n_labels),
        _text(row.n_clips),
        "varies" if row.sample_duration_s is None else f"{row.sample_duration_s:g}",
        row.metric,
    )


def _facts(task: Task) -> dict[str, Any]:
    facts = _plain(task)
    facts["directory"] = str(task.directory)
    facts["clips"] = {split: len(clips) for split, clips in task.clips.items()}
    return facts


def _plain(item: Any) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in fields(item)}


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
