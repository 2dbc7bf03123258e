"""Every stored score as one JSON object a line, as `load_results(metrics="all")` has them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from mambabench.report.formats import Format
from mambabench.report.results import COLUMNS, group_runs, score_rows

if TYPE_CHECKING:
    from mambabench.report.rows import Summary
    from mambabench.report.view import View

__all__ = ["FORMAT", "as_jsonl"]


def as_jsonl(summary: Summary) -> str:
    """Return one line per encoder, task, protocol, seed, fold and metric; null where undefined."""

    lines = []
    for group in group_runs(summary.runs):
        for run in group.runs:
            for row in score_rows(group, run):
                one = {
                    name: None if isinstance(value, float) and not math.isfinite(value) else value
                    for name, value in zip(COLUMNS, row, strict=True)
                }
                lines.append(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines)


def _render(summary: Summary, view: View) -> str:
    return as_jsonl(summary)


FORMAT = Format("jsonl", _render)
