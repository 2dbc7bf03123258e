"""``mambabench evaluate``: judge trained systems and affect probes on the test sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mambabench.cli import options
from mambabench.cli.lines import plain_text, terminal_width, wrapped
from mambabench.cli.tables import table_lines

__all__ = ["command"]

_COLUMNS = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "balanced_acc": "balanced",
    "auc": "AUC",
    "acc": "accuracy",
    "precision": "precision",
    "recall": "recall",
}


@click.command("evaluate")
@click.argument("checkpoint", type=click.Path(path_type=Path), required=False)
@click.option(
    "--run",
    default=None,
    type=click.Path(path_type=Path),
    help="Folder of `mambabench train` (an experiment or one seed), or an output folder of probes.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="PATH|KEY=PATH",
    help="Corpus folder, or an encoder's lists as in `train`. Repeatable.",
)
@click.option("--task", default=None, metavar="NAME", help="What CHECKPOINT was trained for.")
@click.option("--recipe", default=None, metavar="NAME", help="Recipe that CHECKPOINT is of.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting. Repeatable."
)
@click.option(
    "--mode",
    type=options.Named(["published", "sound"]),
    default=None,
    help="How clips are read and losses reckoned.  [default: the run's]",
)
@click.option(
    "--store", type=click.Path(path_type=Path), default=None, help="Output folder of extract."
)
@options.device
@click.option(
    "--resamples", "n_resamples", type=click.IntRange(min=1), default=1000, show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def command(as_json: bool, checkpoint: Path | None, **arguments: Any) -> int:
    """Score on test data and print what makes the numbers honest; nothing is trained.

    CHECKPOINT is a classifier's: a run folder of `mambabench train`, or a file of ours or the
    authors'. --run is for depmamba, mmml and probes of depression or sentiment tasks: not a
    diagnostic of any person.
    """
    own = {k: arguments.pop(k) for k in ("task", "recipe", "overrides", "mode")}
    data = arguments.pop("data")
    if checkpoint is not None:
        return _encoder(checkpoint, data, arguments["device"], as_json, **own)
    if arguments["run"] is None:
        raise click.UsageError("give a CHECKPOINT, or --run FOLDER")
    from mambabench.train.evaluate import evaluate

    if len(data) > 1:
        raise click.UsageError("--run takes one --data folder")
    done = evaluate(**arguments, data=Path(data[0]) if data else None)
    if as_json:
        import json

        click.echo(json.dumps(list(done.rows), indent=2, ensure_ascii=False))
        return 0
    for row in done.rows:
        for line in describe(row, terminal_width()):
            click.echo(plain_text(line))
    for path in done.files:
        click.echo(f"written: {path}")
    return 0


def _encoder(
    checkpoint: Path,
    data: tuple[str, ...],
    device: str,
    as_json: bool,
    *,
    task: str | None,
    recipe: str | None,
    overrides: tuple[str, ...],
    mode: str | None,
) -> int:
    from mambabench.train.recipes import parse_override
    from mambabench.train.scored import evaluate_checkpoint
    from mambabench.train.verb import resolve_device

    found = evaluate_checkpoint(
        checkpoint,
        data=data,
        task=task,
        recipe=recipe,
        settings=dict(parse_override(text) for text in overrides),
        mode=mode,
        device=resolve_device(device),
    )
    if as_json:
        import json

        click.echo(json.dumps(found.as_json(), indent=2))
        return 0
    dagger = "; ‡ selected on the test clips" if "‡" in found.selection else ""
    click.echo(f"{found.system} on {found.task}: {found.n_clips} test clips, mode {found.mode}")
    click.echo(f"  selection: {found.selection}{dagger}")
    for name, label in (("acc", "accuracy"), ("mAP", "mAP"), ("auc", "AUC"), ("d_prime", "d'")):
        if name in found.scores:
            mark = "  <- decides" if name == found.metric else ""
            each = "  folds: " + " ".join(f"{f[name]:.4f}" for f in found.folds)
            click.echo(f"  {label:<9}{found.scores[name]:8.4f}{mark}{each if found.folds else ''}")
    if found.record is not None:
        click.echo(f"written: {found.record}")
    if found.scores.get("left_out_classes"):
        n = found.scores["left_out_classes"]
        click.echo(f"  {n:g} classes without a positive or a negative clip are left out")
    if found.published_note:
        click.echo(f"  published: {found.published_note}")
    for model, metric, value in found.published:
        click.echo(f"  published: {model}: {metric} {value:g} %")
    return 0


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"


def _cell(entry: dict[str, float | None]) -> str:
    return f"{_percent(entry['value'])} [{_percent(entry['low'])}, {_percent(entry['high'])}]"


def describe(row: dict[str, Any], width: int | None = None) -> list[str]:
    """Return the lines that the command prints for one row, `width` wide where words allow it."""
    result = row["result"]
    lines = [
        f"{row['model']} on {row['task']} ({row['split']}: {result['n_sessions']} sessions, "
        f"{result['n_positive']} positive, {result['n_clusters']} clusters; "
        f"{result['n_seeds']} seeds)",
        f"  selection: {row['selection']}; threshold: {row['threshold']}",
    ]
    lines += _set_in(_scores(row, width))
    probe = row["baselines"]["metadata_probe"]
    if probe["result"] is None:
        lines.append("  metadata probe: no metadata known")
    else:
        lines.append(f"  metadata probe: a classifier of {', '.join(probe['fields'])} alone")
    for counts in result["confusion"]:
        shown = ", ".join(f"{name} {value}" for name, value in counts.items())
        lines.append(f"  confusion: {shown}")
    lines += _set_in(_genders(result["genders"], width))
    lines.append(f"  audit: {row['audit']['verdict']}")
    lines += _set_in(_published(row, width)) + _severity_lines(row)
    lines += [f"  note: {note}" for note in row["notes"]]
    if result["n_seeds"] < 5:
        lines.append("  note: fewer than five seeds")
    lines.append(f"  {row['disclaimer']}")
    return [part for line in lines for part in wrapped(line, width)]


def _set_in(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _table(headings: list[str], rows: list[list[str]], width: int | None) -> list[str]:
    """Return the lines of a table, two columns of the terminal narrower, numbers to the right."""
    return table_lines(
        headings, rows, None if width is None else width - 2, numbers=tuple(headings[1:])
    )


_CONSTANT = {
    "always_positive": "positive",
    "always_negative": "negative",
    "majority": "majority",
}


def _scores(row: dict[str, Any], width: int | None) -> list[str]:
    """Return a line per metric: the model, what knows nothing, and what knows metadata only."""
    headings = ["in %", "model [95 %]", *_CONSTANT.values()]
    probe = row["baselines"]["metadata_probe"]["result"]
    if probe is not None:
        headings.append("metadata [95 %]")
    lines = []
    for metric, name in _COLUMNS.items():
        cells = [name, _cell(row["result"]["metrics"][metric])]
        cells += [_percent(row["baselines"][one][metric]) for one in _CONSTANT]
        if probe is not None:
            cells.append(_cell(probe["metrics"][metric]))
        lines.append(cells)
    said = "positive, negative, majority: who always says that"
    return [*_table(headings, lines, width), said]


def _genders(genders: dict[str, Any], width: int | None) -> list[str]:
    """Return a line per metric, a column per gender."""
    if not genders:
        return []
    parts = list(genders.values())
    headings = [
        "in %",
        *(f"{name} ({part['n_sessions']} sessions)" for name, part in genders.items()),
    ]
    lines = [
        [name, *(_cell(part["metrics"][metric]) for part in parts)]
        for metric, name in list(_COLUMNS.items())[:4]
    ]
    return _table(headings, lines, width)


def _published(row: dict[str, Any], width: int | None) -> list[str]:
    """Return a line per column of the published table: the mean, and every seed."""
    if "published_columns" not in row:
        return []
    table = row["published_columns"]
    seeds = "seeds " + ", ".join(map(str, row["seeds"]))
    lines = [
        [
            name,
            _plain(table["mean"][name]),
            " ".join(_plain(one[name]) for one in table["per_seed"]),
        ]
        for name in row["columns"]
    ]
    room = None if width is None else width - 2
    return table_lines(["", "mean", seeds], lines, room, numbers=("mean",))


def _plain(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _severity_lines(row: dict[str, Any]) -> list[str]:
    found = row.get("severity")
    if found is None:
        return []
    cells = []
    for name, value in found["scores"].items():
        low, high = found["intervals"][name]
        cells.append(f"{name} {_plain(value)} [{low:.4f}, {high:.4f}]")
    trivial = ", ".join(f"{k} {_plain(v)}" for k, v in found["trivial_mean"].items())
    return [f"  severity: {', '.join(cells)}; the training mean: {trivial}"]
