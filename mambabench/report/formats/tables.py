"""The report as JSON, CSV, Markdown and LaTeX.

Scores of humans' tables are in percent where the metric is a share, as the metric's heading says;
JSON and CSV hold fractions.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from mambabench.report.flags import letters
from mambabench.report.runs import Flag
from mambabench.report.statistics.comparison import Comparison

if TYPE_CHECKING:
    from mambabench.report.rows import Overall, PublishedRow, Row, Summary
    from mambabench.report.statistics.versus import Versus

__all__ = [
    "JSON_SCHEMA",
    "ROW_KEYS",
    "as_csv",
    "as_json",
    "as_latex",
    "as_markdown",
    "comparisons_csv",
    "notes",
    "pools",
    "shown",
    "shown_interval",
    "tables_of",
]

JSON_SCHEMA = "mambabench.report/2"
ROW_KEYS = (
    "encoder",
    "task",
    "metric",
    "higher_is_better",
    "protocol",
    "n_seeds",
    "n_test",
    "mean",
    "std",
    "ci95_low",
    "ci95_high",
    "boot_low",
    "boot_high",
    "reason",
    "ties",
    "best",
    "smallest_difference",
    "flags",
    "boot_share",
    "note",
)
_OVERALL_KEYS = (
    "encoder",
    "protocol",
    "normalisation",
    "score",
    "n_tasks",
    "tasks",
    "pool",
    "n_imputed",
    "reason",
)
_UNSCALED = ("d_prime", "segment_1s_er")  # not shares of anything: printed as they are


def as_json(summary: Summary) -> str:
    """Return the whole report as one JSON object of schema `JSON_SCHEMA`, without NaN."""
    body = {
        "schema": JSON_SCHEMA,
        "rows": [{key: _plain(getattr(row, key)) for key in ROW_KEYS} for row in summary.rows],
        "overall": [
            {key: _plain(getattr(one, key)) for key in _OVERALL_KEYS} for one in summary.overall
        ],
        "pairs": [asdict(one) for one in summary.versus],
    }
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    """Return a value as JSON has it: no infinities, flags as objects."""
    if isinstance(value, tuple):
        return [asdict(one) if isinstance(one, Flag) else one for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(summary: Summary) -> str:
    """Return the rows as CSV: the keys of the JSON rows and the source; empty where null."""
    columns = (*ROW_KEYS, "source")
    return _csv(columns, ([getattr(row, key) for key in columns] for row in summary.rows))


def comparisons_csv(summary: Summary) -> str:
    """Return every comparison of two encoders as CSV."""
    columns = [field.name for field in fields(Comparison)]
    return _csv(columns, ([getattr(one, name) for name in columns] for one in summary.comparisons))


def _csv(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "; ".join(f"{one.code}: {one.text}" for one in value)
    return repr(value) if isinstance(value, float) else value


def shown(metric: str, value: float | None) -> str:
    """Return a score as printed: percent with two decimals, or three decimals where no share."""
    if value is None:
        return "–"
    return f"{value:.3f}" if metric in _UNSCALED else f"{100 * value:.2f}"


def shown_interval(metric: str, low: float | None, high: float | None) -> str:
    """Return "low … high" as printed, or a dash."""
    if low is None or high is None:
        return "–"
    return f"{shown(metric, low)} … {shown(metric, high)}"


def unit(metric: str, higher_is_better: bool) -> str:
    """Return what stands behind a metric's name: its unit, and the direction if it is unusual."""
    text = "" if metric in _UNSCALED else " %"
    return text + ("" if higher_is_better else " (lower is better)")


def tables_of(rows: Sequence[Row]) -> list[tuple[str, list[list[Row]]]]:
    """Return per protocol the rows of each task, the best encoder first: one table a protocol."""
    result = []
    for protocol, members in itertools.groupby(rows, key=lambda row: row.protocol):
        tasks = []
        for _, own in itertools.groupby(members, key=lambda row: row.task):
            tasks.append(sorted(own, key=_order))
        result.append((protocol, tasks))
    return result


def _order(row: Row) -> tuple[bool, float, str]:
    mean = row.mean or 0.0
    return row.mean is None, -mean if row.higher_is_better else mean, row.encoder


def marked(row: Row) -> str:
    """Return the mean as printed: † where the best's interval overlaps another's, ‡ where the
    checkpoint was selected on the test set; then the letters of its flags."""
    overlap = "†" if row.best and row.overlaps else ""
    return (
        shown(row.metric, row.mean)
        + overlap
        + ("‡" if row.selected_on_test else "")
        + letters(row.flags)
    )


def notes(summary: Summary) -> list[str]:
    """Return the lines that explain the table of scores: legend first, then missing cells."""
    lines = [
        "Mean and standard deviation over seeds; CI seeds: 95 % t-interval over seeds (same test "
        "clips); CI clips: 95 % bootstrap interval of the seed mean over test clips, or over "
        "clusters (*), for accuracies near 0 or 1 Wilson's."
    ]
    if any(row.best for row in summary.rows):
        lines.append(
            "Bold: best mean of the task (all of equal ones); †: its interval over clips overlaps "
            "another encoder's. Encoders that share a letter do not differ on this task (paired "
            "permutation test, Holm-corrected over the pairs of the task, p < .05)."
        )
    if any(row.selected_on_test for row in summary.rows):
        lines.append(
            "‡: the checkpoint was selected by its score on the test set, as s3prl does: better "
            "than it would be on new data."
        )
    if len({row.protocol for row in summary.rows}) > 1:
        lines.append("Protocols are never compared with each other.")
    lines += _smallest(summary.rows)
    reasons: dict[str, list[Row]] = {}
    for row in summary.rows:
        for flag in row.flags:
            reasons.setdefault(f"{letters([flag]).strip()} {flag.text}", []).append(row)
    for row in summary.rows:
        for reason in (*(row.note or "").split("; "), row.reason or ""):
            if reason:
                reasons.setdefault(reason, []).append(row)
    for reason, rows in reasons.items():
        cells = [f"{row.encoder} on {row.task} ({row.protocol})" for row in rows]
        more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
        lines.append(f"{', '.join(cells[:3])}{more}: {reason}")
    return lines + _warned(summary)


def _warned(summary: Summary) -> list[str]:
    """Return one line per encoder and task in whose embeddings clips are that need a warning."""
    warned = {(r.record.encoder, r.record.task): r.record.warnings for r in summary.runs}
    return [
        f"{encoder} on {task}: {'; '.join(found[:3])}"
        + (f" and {len(found) - 3} more warnings" if len(found) > 3 else "")
        for (encoder, task), found in sorted(warned.items())
        if found
    ]


def _smallest(rows: Sequence[Row]) -> list[str]:
    """Return the line on the smallest difference that each task can show, if any is known."""
    found = {
        (row.protocol, row.task): f"{row.task} {shown(row.metric, row.smallest_difference)}"
        for row in rows
        if row.smallest_difference is not None
    }
    if not found:
        return []
    several = len({protocol for protocol, _ in found}) > 1
    parts = [f"{text} ({key[0]})" if several else text for key, text in found.items()]
    return [
        "Smallest difference that a task's clips can show between these encoders (half the paired "
        f"interval, median of the pairs): {', '.join(parts)}."
    ]


_HEADINGS = ("Task", "Metric", "Encoder", "Seeds", "Mean", "SD", "CI seeds", "CI clips", "Ties")


def cells(row: Row) -> list[str]:
    """Return the printed cells of a row, in the order of the headings."""
    star = "*" if row.clustered and row.boot_low is not None else ""
    return [
        row.task,
        row.metric + unit(row.metric, row.higher_is_better),
        row.encoder,
        str(row.n_seeds) if row.n_seeds else "–",
        marked(row) if row.mean is not None else "missing",
        shown(row.metric, row.std),
        shown_interval(row.metric, row.ci95_low, row.ci95_high),
        shown_interval(row.metric, row.boot_low, row.boot_high) + star,
        row.ties or "–",
    ]


def as_markdown(summary: Summary) -> str:
    """Return the report as Markdown."""
    parts = []
    for protocol, tasks in tables_of(summary.rows):
        rows = [cells(row) for own in tasks for row in own]
        best = [row.best for own in tasks for row in own]
        for row, bold in zip(rows, best, strict=True):
            row[4] = f"**{row[4]}**" if bold else row[4]
        parts.append(f"## Protocol `{protocol}`\n\n" + _markdown_table(_HEADINGS, rows))
    parts.append("\n".join(f"- {line}" for line in notes(summary)) + "\n")
    if summary.overall:
        rows = [overall_cells(one) for one in summary.overall]
        parts.append("## Over all tasks\n\n" + _markdown_table(OVERALL_HEADINGS, rows))
        parts.append("\n".join(f"- {line}" for line in pools(summary)) + "\n")
    if summary.versus:
        rows = [versus_cells(one) for one in summary.versus]
        parts.append("## Pairs over all tasks\n\n" + _markdown_table(VERSUS_HEADINGS, rows))
    if summary.comparisons:
        rows = [comparison_cells(one) for one in summary.comparisons]
        parts.append("## Comparisons\n\n" + _markdown_table(COMPARISON_HEADINGS, rows))
    if summary.published:
        rows = [published_cells(one) for one in summary.published]
        parts.append("## Published results\n\n" + _markdown_table(PUBLISHED_HEADINGS, rows))
    return "\n".join(parts)


def _markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |\n"

    return line(headings) + line(["---"] * len(headings)) + "".join(line(row) for row in rows)


OVERALL_HEADINGS = ("Protocol", "Normalisation", "Encoder", "Score", "Tasks", "Note")


def overall_cells(one: Overall) -> list[str]:
    """Return the printed cells of an overall score."""
    note = one.reason or (
        f"{one.n_imputed} scores of other models imputed" if one.n_imputed else ""
    )
    digits = ".1f" if one.normalisation.startswith("min-max") else "+.3f"
    score = "–" if one.score is None else format(one.score, digits)
    score += " (imputed)" if one.n_imputed and one.score is not None else ""
    return [one.protocol, one.normalisation, one.encoder, score, str(one.n_tasks), note]


def pools(summary: Summary, most: int = 60) -> list[str]:
    """Return a line per normalisation that names the models it rests on, at most `most`."""
    lines = {}
    for one in summary.overall:
        names = ", ".join(one.pool[:most])
        more = f" and {len(one.pool) - most} more (report.json)" if len(one.pool) > most else ""
        key = (one.protocol, one.normalisation)
        lines[key] = f"{one.normalisation}, {one.protocol}: pool of {len(one.pool)}: {names}{more}"
    return list(lines.values())


VERSUS_HEADINGS = (
    *("Protocol", "Difference", "Wins", "Ties", "Losses", "Mean, points", "CI clips", "Over"),
)


def versus_cells(one: Versus) -> list[str]:
    """Return the printed cells of a pair over all tasks."""
    mean = "–" if one.mean is None else f"{100 * one.mean:+.2f}"
    interval = "–"
    if one.low is not None and one.high is not None:
        interval = f"{100 * one.low:+.2f} … {100 * one.high:+.2f}"
    untested = f", {one.untested} untested" if one.untested else ""
    return [
        *(one.protocol, f"{one.encoder} − {one.other}"),
        *(str(one.wins), str(one.ties), str(one.losses), mean, interval),
        f"{one.n_mean} tasks{untested}",
    ]


COMPARISON_HEADINGS = (
    *("Protocol", "Task", "Difference", "Mean", "CI clips", "p", "p (task)", "p (report)", "On"),
)


def comparison_cells(one: Comparison) -> list[str]:
    """Return the printed cells of one comparison."""
    mean = shown(one.metric, one.difference)
    return [
        one.protocol,
        one.task,
        f"{one.encoder} − {one.other}",
        mean if one.difference is None or one.difference < 0 else f"+{mean}",
        shown_interval(one.metric, one.boot_low, one.boot_high),
        _p(one.p) if one.p is not None else one.reason or "–",
        one.reason if one.p is not None and one.reason else _p(one.p_holm),
        _p(one.p_report),
        one.common or "all",
    ]


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< .0001" if value < 1e-4 else f"{value:.4f}".removeprefix("0")


PUBLISHED_HEADINGS = ("Task", "Metric", "Model", "Score", "Spread", "Protocol", "Source")


def published_cells(row: PublishedRow) -> list[str]:
    """Return the printed cells of a published row; another protocol than ours is marked."""
    spread = "–"
    if row.spread is not None:
        spread = f"{shown(row.metric, row.spread)} ({row.spread_kind})"
    other = "" if row.same_protocol else " (other protocol)"
    caution = f"; {row.caution}" if row.caution else ""
    return [
        row.task,
        row.metric + unit(row.metric, True),
        row.model,
        shown(row.metric, row.score),
        spread,
        row.protocol + other,
        f"{row.citation}, {row.location}{caution}",
    ]


def as_latex(summary: Summary) -> str:
    """Return one booktabs table a protocol; needs the packages booktabs and longtable."""
    parts = ["% needs \\usepackage{booktabs,longtable}\n"]
    for protocol, tasks in tables_of(summary.rows):
        parts.append("\\begin{longtable}{lllrrrccl}\n")
        parts.append(f"\\caption{{Protocol \\texttt{{{_tex(protocol)}}}.}}\\\\\n\\toprule\n")
        parts.append(" & ".join(_HEADINGS) + " \\\\\n\\midrule\n\\endhead\n")
        for number, own in enumerate(tasks):
            parts.append("\\midrule\n" if number else "")
            for row in own:
                values = [_tex(value) for value in cells(row)]
                values[4] = f"\\textbf{{{values[4]}}}" if row.best else values[4]
                parts.append(" & ".join(values) + " \\\\\n")
        parts.append("\\bottomrule\n\\end{longtable}\n")
    parts += [f"% {line}\n" for line in notes(summary)]
    return "".join(parts)


_TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "†": "$^\\dagger$",
    "‡": "$^\\ddagger$",
    "…": "\\,\\ldots\\,",
    "–": "--",
    "−": "$-$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in text)
