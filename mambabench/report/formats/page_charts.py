"""The page's charts: mean ranks drawn, of the others the frames and controls for the script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mambabench.report.matrix import Matrix
    from mambabench.report.rows import Summary
    from mambabench.report.statistics.ranks import Rank

__all__ = ["charts", "ranking"]

_NONE = '<option value="">choose</option>'


def charts(found: Sequence[Matrix], costs: bool) -> str:
    """Return every chart's controls and frame; that of costs where some are known."""
    task = _tasks(found, ("task",))
    names = {
        line.head.key: line.head.title
        for one in found
        for line in one.lines
        if line.head.kind == "encoder"
    }
    encoders = _NONE + "".join(
        f'<option value="{escape(key)}">{escape(name)}</option>' for key, name in names.items()
    )
    protocols = "".join(
        f'<option value="{number}">{escape(one.protocol)}</option>'
        for number, one in enumerate(found)
    )
    parts = [
        _part("critical", "Which encoders differ", _select("protocol", "Protocol", protocols)),
        _part("onetask", "One task", _select("task", "Task", _NONE + task)),
        _part("seeds", "Stability over seeds", _select("seedtask", "Task", _NONE + task)),
        _part(
            "twoencoders",
            "Two encoders",
            _select("first", "Encoder", encoders) + _select("second", "minus", encoders),
        ),
        _part("beside", "Beside published rows", _select("ours", "Encoder", encoders)),
    ]
    if costs:
        score = _select("score", "Score", _tasks(found, ("overall", "rank", "task")))
        parts.append(_part("cost", "Score against cost", score + _select("price", "Cost", "")))
    return '<section class="only"><h2>Charts</h2>' + "".join(parts) + "</section>"


def _tasks(found: Sequence[Matrix], kinds: Sequence[str]) -> str:
    return "".join(
        f'<option value="{number}|{index}">{escape(f"{head.title} ({one.protocol})")}</option>'
        for kind in kinds
        for number, one in enumerate(found)
        for index, head in enumerate(one.columns)
        if head.kind == kind
    )


def _select(name: str, label: str, options: str) -> str:
    return f'<label>{label} <select id="{name}">{options}</select></label>'


def _part(name: str, title: str, controls: str) -> str:
    """Return one chart: its heading, its controls and where it is drawn."""
    bar = f'<div class="bar">{controls}{_saving(name, title)}</div>'
    return f"<h3>{title}</h3>{bar}{_frame(name, title)}"


def _saving(name: str, title: str) -> str:
    return "".join(
        f'<button data-save="{name}" data-as="{kind}" '
        f'aria-label="Save {title} as {kind.upper()}">Save {kind.upper()}</button>'
        for kind in ("svg", "png")
    )


def _frame(name: str, title: str, drawn: str = "") -> str:
    """Return where a chart is drawn; what is wider than the page scrolls, so that text stays."""
    return (
        f'<div class="scroll chart" id="{name}" tabindex="0" role="region" aria-label="{title}">'
        f"{drawn}</div>"
    )


def ranking(summary: Summary, matrix: Matrix, number: int) -> str:
    """Return mean ranks with their intervals as a chart and its table in words."""
    own = [r for r in summary.ranks if r.protocol == matrix.protocol and r.task is None]
    if not own:
        return ""
    own.sort(key=lambda one: (one.rank, one.encoder))
    text = "".join(_rank_row(one, place) for place, one in enumerate(own))
    height = 22 * len(own) + 30
    ticks = "".join(
        f'<text x="{_rank_x(tick, len(own)):.1f}" y="{height - 8}" text-anchor="middle">'
        f"{tick}</text>"
        for tick in _ticks(len(own))
    )
    said = ", ".join(f"{one.encoder} {one.rank:.1f}" for one in own[:40])
    name, title = f"ranks{number}", f"Mean ranks, {escape(matrix.protocol)}"
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" '
        f'viewBox="0 0 760 {height}" font-size="12" font-family="sans-serif" role="img" '
        f'aria-label="Mean ranks over {own[0].n_tasks} tasks: {escape(said)}">{text}{ticks}</svg>'
    )
    return (
        f'<section data-protocol="{escape(matrix.protocol)}"><h2>{title}</h2>'
        f'<div class="bar">{_saving(name, title)}</div>{_frame(name, title, drawn)}</section>'
    )


def _ticks(count: int) -> list[int]:
    step = max(1, count // 8)
    return sorted({1, *range(step, count + 1, step), count})


def _rank_x(rank: float, count: int) -> float:
    return 260 + 440 * (rank - 1) / max(1, count - 1)


def _rank_row(one: Rank, place: int) -> str:
    y, count = 22 * place + 14, one.n_encoders
    line = ""
    if one.low is not None and one.high is not None:
        line = (
            f'<line x1="{_rank_x(one.low, count):.1f}" x2="{_rank_x(one.high, count):.1f}" '
            f'y1="{y}" y2="{y}" stroke="var(--acc)" stroke-width="3"/>'
        )
    name = one.encoder if len(one.encoder) < 36 else f"{one.encoder[:17]}…{one.encoder[-17:]}"
    return (
        f'<text x="0" y="{y + 4}">{escape(name)}</text>{line}'
        f'<circle cx="{_rank_x(one.rank, count):.1f}" cy="{y}" r="4.5" fill="var(--acc)"/>'
        f'<text x="715" y="{y + 4}">{one.rank:.1f}</text>'
    )
