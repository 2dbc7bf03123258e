"""The frames and controls of the page's charts; the script draws into them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mambabench.report.matrix import Matrix

__all__ = ["charts"]

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
    saving = "".join(
        f'<button data-save="{name}" data-as="{kind}" '
        f'aria-label="Save {title} as {kind.upper()}">Save {kind.upper()}</button>'
        for kind in ("svg", "png")
    )
    return (
        f'<h3>{title}</h3><div class="bar">{controls}{saving}</div>'
        f'<div class="scroll chart" id="{name}" tabindex="0" role="region" aria-label="{title}">'
        "</div>"
    )
