"""The table that papers print: encoders down, tasks across, or the other way round.

It is built once, as cells with all that a format needs, and drawn by each format.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mambabench.benchmarks.metrics import metric_of
from mambabench.errors import MambabenchError, nearest_names
from mambabench.report.beside import with_columns_beside
from mambabench.report.cells import Cell, Head, Line, Matrix, column_of
from mambabench.report.exchange.citations import published_key
from mambabench.report.flags import letters, unsound
from mambabench.report.formats.tables import unit
from mambabench.report.names import short_task
from mambabench.report.places import counted_tasks

if TYPE_CHECKING:
    from mambabench.report.rows import PublishedRow, Row, Summary
    from mambabench.report.view import View

__all__ = [
    "Cell",
    "Head",
    "Line",
    "Matrix",
    "half_width",
    "lines_of",
    "matrices",
    "printed",
    "shown_cell",
    "turned",
]

_LEVEL = 0.05
# normalisation -> head of its column
OVERALL_NAMES = {
    "hear-leaderboard": "HEAR score",
    "hear-leaderboard+published": "HEAR score, published",
    "min-max": "min-max",
}


def printed(metric: str, value: float | None, digits: int) -> str:
    """Return a score as printed: percent, or two more decimals where it is no share."""
    if value is None:
        return "–"
    return f"{100 * value:.{digits}f}" if metric_of(metric).share else f"{value:.{digits + 2}f}"


def half_width(row: Row, interval: str) -> float | None:
    """Return half the width of the interval asked for, or the standard deviation."""
    if interval == "sd":
        return row.std
    ends = (row.boot_low, row.boot_high)
    if interval == "seeds":
        ends = (row.ci95_low, row.ci95_high)
    return None if ends[0] is None or ends[1] is None else (ends[1] - ends[0]) / 2


def matrices(summary: Summary, view: View) -> tuple[Matrix, ...]:
    """Return the matrix of every protocol; MambabenchError where `view.sort` names no column."""
    protocols = sorted({row.protocol for row in summary.rows})
    found = [_matrix(summary, view, protocol) for protocol in protocols]
    names = {name for one in found for name in _sortable(one)}
    if view.sort not in names:
        raise MambabenchError(
            f"--sort {view.sort!r} is not one of {', '.join(sorted(names))}"
            f"{nearest_names(view.sort, sorted(names))}"
        )
    found = [_sorted(one, view.sort) for one in found]
    return tuple(turned(one) if view.rows == "tasks" else one for one in found)


def shown_cell(cell: Cell, line: Head, column: Head) -> tuple[str, str]:
    """Return a cell as printed: the number, and what stands behind it, spaces included."""
    if cell.value is None:
        return "missing" if cell.row is not None and cell.row.reason else cell.text, ""
    rank = "rank" in (line.kind, column.kind)
    half = ""
    if cell.half:
        half = f" [{cell.half}]" if rank else f" ±{cell.half}"
    flags = f" [{cell.flags}]" if cell.flags else ""
    marks = f" {cell.marks}" if cell.marks.startswith("(") else cell.marks
    return cell.text, half + ("=" if cell.same else "") + marks + flags


def lines_of(matrix: Matrix, block: Sequence[int]) -> list[Line]:
    """Return the lines of some columns; published rows that say nothing there are left out."""
    return [
        line
        for line in matrix.lines
        if line.head.kind != "published" or any(line.cells[i].value is not None for i in block)
    ]


def turned(matrix: Matrix) -> Matrix:
    """Return the matrix with lines as columns."""
    lines = tuple(
        Line(column, tuple(line.cells[i] for line in matrix.lines))
        for i, column in enumerate(matrix.columns)
    )
    columns = tuple(line.head for line in matrix.lines)
    return replace(matrix, corner="Task", columns=columns, lines=lines)


def _matrix(summary: Summary, view: View, protocol: str) -> Matrix:
    rows = [row for row in summary.rows if row.protocol == protocol]
    tasks = counted_tasks(sorted({row.task for row in rows}))
    by_cell = {(row.encoder, row.task): row for row in rows}
    columns = [_task_head([r for r in rows if r.task == task], view) for task in tasks]
    encoders = sorted({row.encoder for row in rows})
    extra = [
        *_rank_columns(summary, protocol, encoders, view),
        *_overall_columns(summary, protocol),
    ]
    versus = _versus_columns(summary, protocol, encoders)
    columns.sort(key=lambda head: head.title.lower())
    columns, beside = with_columns_beside(columns, summary, protocol)
    seconds = {head.key: _second([r for r in rows if r.task == head.key]) for head in columns}
    same = _like_baseline(summary, protocol)
    lines = []
    for encoder in encoders:
        title, group = view.labels.get(encoder, (encoder, ""))
        cells = [
            _cell(by_cell.get((encoder, head.key)), rows, seconds[head.key], view, same)
            if head.kind == "task"
            else _beside(beside.get((encoder, head.key)), view)
            for head in columns
        ]
        cells += [own.get(encoder, Cell()) for _, own in (*extra, *versus)]
        lines.append(Line(Head(encoder, title, "", "encoder", group), tuple(cells)))
    heads = (*columns, *(head for head, _ in (*extra, *versus)))
    others, more = _published(summary, protocol, heads, view)
    seeds = tuple(sorted({row.n_seeds for row in rows if row.n_seeds}))
    return Matrix(protocol, "Encoder", heads, (*lines, *others), seeds, more)


def _task_head(rows: Sequence[Row], view: View) -> Head:
    row = next((one for one in rows if one.mean is not None), rows[0])
    title = view.labels.get(row.task, (short_task(row.task), ""))[0]
    return Head(row.task, title, row.metric + unit(row.metric, row.higher_is_better))


def _cell(
    row: Row | None,
    rows: Sequence[Row],
    second: float | None,
    view: View,
    like_baseline: Mapping[tuple[str, str], bool] | None,
) -> Cell:
    if row is None or row.mean is None:
        return Cell(row=row)
    half = half_width(row, view.interval)
    text = "" if half is None else printed(row.metric, half, view.digits)
    star = "*" if row.clustered and view.interval == "clips" and half is not None else ""
    marks = ("†" if row.best and row.overlaps else "") + ("‡" if row.selected_on_test else "")
    if like_baseline is None:
        top = {c for r in rows if r.task == row.task and r.best for c in r.ties}
        same = bool(top & set(row.ties)) and not row.best and not unsound(row.flags)
    else:
        same = like_baseline.get((row.encoder, row.task), False)
    return Cell(
        printed(row.metric, row.mean, view.digits),
        text,
        row.mean,
        half,
        best=row.best,
        second=second is not None and row.mean == second and not unsound(row.flags),
        same=same,
        flags=letters(row.flags).strip(" []"),
        marks=marks + star,
        row=row,
    )


def _beside(row: Row | None, view: View) -> Cell:
    """Return the cell of a score that is in no comparison: number and interval, no marks."""
    if row is None or row.mean is None:
        return Cell()
    half = half_width(row, view.interval)
    text = "" if half is None else printed(row.metric, half, view.digits)
    star = "*" if row.clustered and view.interval == "clips" and half is not None else ""
    flags = letters(row.flags).strip(" []")
    return Cell(
        printed(row.metric, row.mean, view.digits), text, row.mean, half, flags=flags, marks=star
    )


def _second(rows: Sequence[Row]) -> float | None:
    """Return the best mean below the best one; None below three encoders."""
    known = [r for r in rows if r.mean is not None and not unsound(r.flags)]
    values = sorted({r.mean for r in known if r.mean is not None})
    if len(known) < 3 or len(values) < 2:
        return None
    return values[-2] if known[0].higher_is_better else values[1]


def _like_baseline(summary: Summary, protocol: str) -> dict[tuple[str, str], bool] | None:
    """Return which cells do not differ from the baseline's; None without a baseline."""
    if summary.baseline is None:
        return None
    found = {}
    for one in summary.comparisons:
        if one.protocol == protocol and one.p_holm is not None and not one.too_few:
            other = one.other if one.encoder == summary.baseline else one.encoder
            found[other, one.task] = one.p_holm >= _LEVEL
    return found


_Column = tuple[Head, dict[str, Cell]]


def _rank_columns(
    summary: Summary, protocol: str, encoders: Sequence[str], view: View
) -> list[_Column]:
    cells: dict[str, Cell] = {}
    tasks = 0
    for one in summary.ranks:
        if one.protocol == protocol and one.task is None and one.encoder in encoders:
            tasks = one.n_tasks
            interval = "" if one.low is None else f"{one.low:.1f}–{one.high:.1f}"
            cells[one.encoder] = Cell(f"{one.rank:.1f}", interval, one.rank)
    if not cells:
        return []
    return [(Head("rank", "Rank", f"mean of {tasks}", "rank"), cells)]


def _overall_columns(summary: Summary, protocol: str) -> list[_Column]:
    """Return a column for every normalisation that gives a score to somebody."""
    own = [one for one in summary.overall if one.protocol == protocol]
    result: list[_Column] = []
    for name, members in itertools.groupby(
        sorted(own, key=lambda one: one.normalisation), key=lambda one: one.normalisation
    ):
        scores = {one.encoder: one for one in members}
        if not any(one.score is not None and one.n_tasks > 1 for one in scores.values()):
            continue  # points of a single task stand in no column
        plain, _, common = name.partition(", ")
        if common and any(o.score is not None and o.normalisation == plain for o in own):
            continue  # the score over all tasks says more
        form = "+.2f" if name.startswith("hear") else ".1f"
        cells = {
            encoder: Cell(
                format(one.score, form), "", one.score, marks="(imputed)" if one.n_imputed else ""
            )
            for encoder, one in scores.items()
            if one.score is not None
        }
        title = OVERALL_NAMES.get(plain, plain) + (f", {common}" if common else "")
        count = max(one.n_tasks for one in scores.values())
        result.append((Head(name, title, f"{count} tasks", "overall"), cells))
    return result


def _versus_columns(summary: Summary, protocol: str, encoders: Sequence[str]) -> list[_Column]:
    """Return wins, ties and losses and the mean difference, of two encoders or to a baseline."""
    if len(encoders) != 2 and summary.baseline is None:
        return []
    own = [one for one in summary.versus if one.protocol == protocol]
    counts: dict[str, Cell] = {}
    means: dict[str, Cell] = {}
    for one in own:
        for name, sign in ((one.encoder, 1), (one.other, -1)):
            if name == summary.baseline:
                continue
            won, lost = (one.wins, one.losses)[::sign]
            counts[name] = Cell(f"{won}/{one.ties}/{lost}", value=float(won - lost))
            if one.mean is not None:
                half = None if one.high is None or one.low is None else (one.high - one.low) / 2
                text = "" if half is None else f"{100 * half:.1f}"
                mean = sign * one.mean
                means[name] = Cell(f"{100 * mean:+.1f}", text, mean, half)
    result: list[_Column] = []
    if counts:
        result.append((Head("wins", "Won/tied/lost", "tasks", "overall"), counts))
    if means:
        result.append((Head("difference", "Difference", "points", "overall"), means))
    return result


def _published(
    summary: Summary, protocol: str, heads: Sequence[Head], view: View
) -> tuple[list[Line], int]:
    """Return rows of others, those with most of the tasks first, and how many more there are."""
    tasks = {head.key for head in heads if head.kind in ("task", "beside")}
    models: dict[tuple[str, str, str], dict[str, PublishedRow]] = {}
    for row in summary.published:
        if (key := column_of(row.task, row.metric)) in tasks:
            own = models.setdefault((row.model, row.protocol, row.citation), {})
            own.setdefault(key, row)
    if not models:
        return [], 0
    falling = {
        column_of(row.task, row.metric)
        for row in (*summary.rows, *summary.beside)
        if not row.higher_is_better
    }
    places = _published_places(models, falling)
    base = protocol.removesuffix("+exact")
    order = sorted(models, key=lambda key: (key[1] != base, -len(models[key]), places[key], key))
    lines = []
    for model, theirs, citation in order[: view.published]:
        own = models[model, theirs, citation]
        cells = tuple(
            _published_cell(own[head.key], view) if head.key in own else Cell() for head in heads
        )
        other = "" if theirs == base else f", {theirs}"
        head = Head(model, model, published_key(citation) + other, "published")
        lines.append(Line(head, cells))
    return lines, max(0, len(order) - view.published)


def _published_cell(row: PublishedRow, view: View) -> Cell:
    half = None if row.spread is None else row.spread
    text = "" if half is None else printed(row.metric, half, view.digits)
    return Cell(printed(row.metric, row.score, view.digits), text, row.score, half)


def _published_places(
    models: Mapping[tuple[str, str, str], Mapping[str, PublishedRow]], falling: set[str]
) -> dict[tuple[str, str, str], float]:
    """Mean over a model's tasks of the share of models that are better there."""
    scores: dict[str, list[float]] = {}
    for own in models.values():
        for task, row in own.items():
            scores.setdefault(task, []).append(-row.score if task in falling else row.score)

    def behind(task: str, row: PublishedRow) -> float:
        score = -row.score if task in falling else row.score
        return sum(other > score for other in scores[task]) / len(scores[task])

    return {
        key: sum(behind(task, row) for task, row in own.items()) / len(own)
        for key, own in models.items()
    }


def _sortable(matrix: Matrix) -> set[str]:
    """Return what `--sort` takes: "rank", "name", a task by either of its names, or a score."""
    found = {"rank", "name"}
    for head in matrix.columns:
        found |= {head.key, head.title}
    return found


def _sorted(matrix: Matrix, by: str) -> Matrix:
    """Sort our lines, best first, groups kept together; published rows stay below."""
    own = [line for line in matrix.lines if line.head.kind == "encoder"]
    rest = [line for line in matrix.lines if line.head.kind != "encoder"]
    index = next((i for i, h in enumerate(matrix.columns) if by in (h.key, h.title)), None)
    groups = list(dict.fromkeys(line.head.group for line in own))

    def order(line: Line) -> tuple[int, bool, float, str]:
        value = None if index is None or by == "name" else line.cells[index].value
        sign = 1.0
        if index is not None and value is not None:
            row, head = line.cells[index].row, matrix.columns[index]
            falls = "lower is better" in head.sub or head.kind == "rank"
            falls = falls or (row is not None and not row.higher_is_better)
            sign = 1.0 if falls else -1.0
        name = line.head.title.lower()
        return groups.index(line.head.group), value is None, sign * (value or 0.0), name

    return replace(matrix, lines=(*sorted(own, key=order), *rest))
