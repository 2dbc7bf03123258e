"""The report as one self-contained HTML page: no script, no network, charts as inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from mambabench.report.formats.tables import (
    COMPARISON_HEADINGS,
    OVERALL_HEADINGS,
    PUBLISHED_HEADINGS,
    VERSUS_HEADINGS,
    cells,
    comparison_cells,
    notes,
    overall_cells,
    pools,
    published_cells,
    tables_of,
    unit,
    versus_cells,
)

if TYPE_CHECKING:
    from mambabench.report.rows import Row, Summary

__all__ = ["as_page"]

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;
color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;text-align:left;white-space:nowrap}
th{border-bottom:1.5px solid #1b1f24}tr.first td{border-top:1px solid #d0d7de}
td.n{text-align:right}.best{font-weight:700}.missing{color:#8c2f00}
ul{color:#57606a;font-size:.9rem}svg{max-width:100%;height:auto}summary{cursor:pointer}
"""
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")
_LEFT, _SPAN, _ROW = 260, 520, 20  # of the chart, in SVG units


def as_page(summary: Summary) -> str:
    """Return the page; it shows scores only, never a clip's name."""
    parts = ["<h1>mambabench report</h1>"]
    headings = ("Task", "Metric", "Encoder", "Seeds", "Mean", "SD", "CI seeds", "CI clips", "Ties")
    for protocol, tasks in tables_of(summary.rows):
        parts.append(f"<h2>Protocol <code>{escape(protocol)}</code></h2>")
        parts.append(_chart(tasks))
        body = "".join(_score_row(row, i == 0) for own in tasks for i, row in enumerate(own))
        parts.append(f'<div class="wide"><table>{_head(headings)}{body}</table></div>')
    parts.append("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in notes(summary)) + "</ul>")
    if summary.overall:
        parts.append("<h2>Over all tasks</h2>")
        parts.append(_plain_table(OVERALL_HEADINGS, map(overall_cells, summary.overall)))
        parts.append("<ul>" + "".join(f"<li>{escape(x)}</li>" for x in pools(summary)) + "</ul>")
    if summary.versus:
        rows = map(versus_cells, summary.versus)
        parts.append(_folded("Pairs over all tasks", VERSUS_HEADINGS, rows, len(summary.versus)))
    if summary.comparisons:
        rows = map(comparison_cells, summary.comparisons)
        parts.append(_folded("Comparisons", COMPARISON_HEADINGS, rows, len(summary.comparisons)))
    if summary.published:
        rows = map(published_cells, summary.published)
        parts.append(_folded("Published results", PUBLISHED_HEADINGS, rows, len(summary.published)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>mambabench report</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _head(headings: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<th>{escape(text)}</th>" for text in headings) + "</tr>"


def _score_row(row: Row, first: bool) -> str:
    values = []
    said = "; ".join([*(flag.text for flag in row.flags), *([row.reason] if row.reason else [])])
    for number, text in enumerate(cells(row)):
        kinds = ["n"] if number in (3, 4, 5) else []
        if number == 4:
            kinds += ["best"] if row.best else ["missing"] if row.mean is None else []
        note = f' title="{escape(said)}"' if number == 4 and said else ""
        css = f' class="{" ".join(kinds)}"' if kinds else ""
        values.append(f"<td{css}{note}>{escape(text)}</td>")
    return f"<tr{' class=first' if first else ''}>{''.join(values)}</tr>"


def _plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table>{_head(headings)}{body}</table></div>'


def _folded(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], count: int) -> str:
    return (
        f"<h2>{escape(title)}</h2><details{' open' if count <= 20 else ''}><summary>{count} rows"
        f"</summary>{_plain_table(headings, rows)}</details>"
    )


def _chart(tasks: Sequence[Sequence[Row]]) -> str:
    """Return dots (means) with lines (intervals over clips, else seeds), a band per task."""
    rows = [row for own in tasks for row in own if row.mean is not None]
    if not rows:
        return ""
    encoders = sorted({row.encoder for row in rows})
    parts, y = [], 10.0
    for own in tasks:
        known = [row for row in own if row.mean is not None]
        if not known:
            continue
        low, high = _limits(known)
        label = f"{known[0].metric}{unit(known[0].metric, known[0].higher_is_better)}"
        parts.append(
            f'<text x="0" y="{y + 14:.0f}" font-weight="600">{escape(known[0].task)}</text>'
            f'<text x="{_LEFT}" y="{y + 14:.0f}" fill="#57606a">{escape(label)}: '
            f"{_scaled(known[0], low)} to {_scaled(known[0], high)}</text>"
        )
        y += 22
        for row in known:
            color = _COLORS[encoders.index(row.encoder) % len(_COLORS)]
            parts.append(_mark(row, y, low, high, color))
            y += _ROW
        y += 8
    return (
        f'<svg viewBox="0 0 {_LEFT + _SPAN + 20} {y:.0f}" width="{_LEFT + _SPAN + 20}" '
        f'font-size="12" role="img" aria-label="Scores with intervals">{"".join(parts)}</svg>'
    )


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the task's axis: all intervals with a margin."""
    ends = [
        value
        for row in rows
        for value in (row.mean, row.boot_low, row.boot_high, row.ci95_low, row.ci95_high)
        if value is not None
    ]
    margin = 0.08 * (max(ends) - min(ends)) or 0.01
    return min(ends) - margin, max(ends) + margin


def _scaled(row: Row, value: float) -> str:
    from mambabench.report.formats.tables import shown

    return shown(row.metric, value)


def _mark(row: Row, y: float, low: float, high: float, color: str) -> str:
    def x(value: float) -> float:
        return _LEFT + _SPAN * (value - low) / (high - low)

    assert row.mean is not None
    ends = (row.boot_low, row.boot_high)
    if row.boot_low is None:
        ends = (row.ci95_low, row.ci95_high)
    line = ""
    if ends[0] is not None and ends[1] is not None:
        line = (
            f'<line x1="{x(ends[0]):.1f}" x2="{x(ends[1]):.1f}" y1="{y + 10:.1f}" '
            f'y2="{y + 10:.1f}" stroke="{color}" stroke-width="2.5"/>'
        )
    return (
        f'<line x1="{_LEFT}" x2="{_LEFT + _SPAN}" y1="{y + 10:.1f}" y2="{y + 10:.1f}" '
        f'stroke="#eaeef2"/>{line}<circle cx="{x(row.mean):.1f}" cy="{y + 10:.1f}" r="4.5" '
        f'fill="{color}"/><text x="12" y="{y + 14:.1f}">{escape(row.encoder)}</text>'
    )
