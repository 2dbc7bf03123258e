"""The report as a model card of Hugging Face: a model-index in YAML and a section in Markdown.

The block between the lines of dashes goes to the head of an encoder's README.md, the rest below it.
Several encoders give one card each, one after the other; choose one with ``--encoder``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mambabench import __version__
from mambabench.report.formats import Format
from mambabench.report.formats.legend import legend
from mambabench.report.formats.tables import remarks, shown, shown_interval, unit
from mambabench.report.matrix import matrices
from mambabench.report.names import short_task

if TYPE_CHECKING:
    from mambabench.report.rows import Row, Summary
    from mambabench.report.view import View

__all__ = ["FORMAT", "model_card"]


def model_card(summary: Summary, view: View, encoder: str) -> str:
    """Return the card of one encoder; strings in YAML are JSON strings, which YAML reads alike."""
    rows = [row for row in summary.rows if row.encoder == encoder and row.mean is not None]
    name = view.labels.get(encoder, (encoder, ""))[0]
    lines = ["---", "model-index:", f"- name: {json.dumps(name)}", "  results:"]
    for row in rows:
        lines += _result(row)
    lines += ["---", "", "## Evaluation", ""]
    lines += ["| Task | Protocol | Metric | Mean | 95 % over clips |", "|---|---|---|---|---|"]
    for row in rows:
        interval = shown_interval(row.metric, row.boot_low, row.boot_high)
        metric = row.metric + unit(row.metric, row.higher_is_better)
        cells = (short_task(row.task), row.protocol, metric, shown(row.metric, row.mean), interval)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    found = matrices(summary, view)
    said = [legend(found, summary, view)[0].split(";")[0] + ".", *remarks(summary)]
    return "\n".join([*lines, "", *(f"- {line}" for line in said), ""])


def _result(row: Row) -> list[str]:
    """Return one result of the model-index; values are fractions, as in report.json."""

    label = json.dumps(short_task(row.task))
    lines = [
        "  - task:",
        "      type: audio-classification",
        "    dataset:",
        f"      name: {label}",
        f"      type: {json.dumps(row.task)}",
        "      split: test",
        "    metrics:",
        f"    - type: {json.dumps(row.metric)}",
        f"      name: {json.dumps(f'{row.metric} ({row.protocol}, mean of {row.n_seeds} seeds)')}",
        f"      value: {row.mean!r}",
    ]
    if row.boot_low is not None and row.boot_high is not None:
        lines += [
            "      args:",
            f"        ci95_clips: [{row.boot_low!r}, {row.boot_high!r}]",
            f"        mambabench: {json.dumps(__version__)}",
        ]
    return lines


def _render(summary: Summary, view: View) -> str:
    encoders = sorted({row.encoder for row in summary.rows})
    return "\n".join(model_card(summary, view, encoder) for encoder in encoders)


FORMAT = Format("model-card", _render)
