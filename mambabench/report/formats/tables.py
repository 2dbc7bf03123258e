"""The cells of the tables of a row a score, and the notes below: what formats for people share.

Scores are in percent where the metric is a share, as the metric's heading says.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mambabench.benchmarks.metrics import metric_of
from mambabench.report.cells import column_of
from mambabench.report.flags import letters

if TYPE_CHECKING:
    from mambabench.report.rows import Overall, PublishedRow, Row, Summary
    from mambabench.report.statistics.comparison import Comparison
    from mambabench.report.statistics.versus import Versus

__all__ = [
    "HEADINGS",
    "notes",
    "pools",
    "remarks",
    "shown",
    "shown_interval",
    "tables_of",
    "with_beside",
]


def shown(metric: str, value: float | None) -> str:
    """Return a score as printed: percent with two decimals, or three decimals where no share."""
    if value is None:
        return "–"
    return f"{100 * value:.2f}" if metric_of(metric).share else f"{value:.3f}"


def shown_interval(metric: str, low: float | None, high: float | None) -> str:
    """Return "low … high" as printed, or a dash."""
    if low is None or high is None:
        return "–"
    return f"{shown(metric, low)} … {shown(metric, high)}"


def unit(metric: str, higher_is_better: bool) -> str:
    """Return what stands behind a metric's name: its unit, and the direction if it is unusual."""
    text = " %" if metric_of(metric).share else ""
    return text + ("" if higher_is_better else " (lower is better)")


def tables_of(rows: Sequence[Row]) -> list[tuple[str, list[list[Row]]]]:
    """Return per protocol the rows of each task, the best encoder first: one table a protocol.

    What stands beside a task's score (`with_beside`) is a task of its own there.
    """
    result = []
    for protocol, members in itertools.groupby(rows, key=lambda row: row.protocol):
        tasks = []
        for _, own in itertools.groupby(members, key=lambda row: (row.task, row.metric)):
            tasks.append(sorted(own, key=_order))
        result.append((protocol, tasks))
    return result


def with_beside(summary: Summary) -> list[Row]:
    """Return the rows and, behind those of their task, what stands beside them."""
    found = [(row.protocol, row.task, False, row.encoder, row) for row in summary.rows]
    found += [(row.protocol, row.task, True, row.encoder, row) for row in summary.beside]
    return [one[-1] for one in sorted(found, key=lambda one: one[:-1])]


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


_DIFFERENCES = (
    "Differences: the interval is a bootstrap interval of this one pair, uncorrected; p and "
    "letters are of permutation tests, corrected over the pairs. So an interval may leave out 0 "
    "where the letters are the same."
)


def notes(summary: Summary) -> list[str]:
    """Return the lines that explain the long table of scores: legend first, then remarks."""
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
    if any(one.p is not None for one in summary.comparisons):
        lines.append(_DIFFERENCES)
    return lines + remarks(summary)


def remarks(summary: Summary) -> list[str]:
    """Return what must be known of single numbers: marks, flags, missing cells, warnings."""
    lines = [words] if (words := summary.choice.words()) else []
    for defect in summary.left_out:
        lines.append(f"left out: {'/'.join(defect.path.parts[-4:])}: {defect.problem}")
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
    for row in (*summary.rows, *summary.beside):
        for reason in (*(row.note or "").split("; "), row.reason or ""):
            if reason:
                reasons.setdefault(reason, []).append(row)
    for reason, rows in reasons.items():
        cells = [
            f"{row.encoder} on {column_of(row.task, row.metric)} ({row.protocol})" for row in rows
        ]
        more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
        lines.append(f"{', '.join(cells[:3])}{more}: {reason}")
    return lines + _untested(summary) + _common(summary) + _warned(summary)


def _untested(summary: Summary) -> list[str]:
    """Return a line per reason why encoders could not be compared on a task."""
    found: dict[str, list[str]] = {}
    few: dict[str, list[str]] = {}
    for one in summary.comparisons:
        pair = f"{one.encoder} and {one.other} on {one.task}"
        if one.p is None and one.reason:
            found.setdefault(one.reason, []).append(pair)
        elif one.too_few:
            few.setdefault(one.too_few, []).append(pair)
    return [
        f"no tie: {', '.join(pairs[:3])}"
        + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else "")
        + f": {reason}"
        for reason, pairs in few.items()
    ] + [
        f"not compared: {', '.join(pairs[:3])}"
        + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else "")
        + f": {reason}"
        for reason, pairs in found.items()
    ]


def _common(summary: Summary) -> list[str]:
    """Return a line per comparison that rests on a part of both encoders' clips or seeds."""
    found: dict[str, list[str]] = {}
    for one in summary.comparisons:
        if one.common:
            found.setdefault(one.common, []).append(f"{one.encoder} − {one.other} on {one.task}")
    return [
        f"Compared {common}: {', '.join(pairs[:3])}"
        + (f" and {len(pairs) - 3} more pairs" if len(pairs) > 3 else "")
        for common, pairs in found.items()
    ]


def _warned(summary: Summary) -> list[str]:
    """Return one line per encoder and task in whose embeddings clips are that need a warning."""
    return [
        f"{encoder} on {task}: {'; '.join(found[:3])}"
        + (f" and {len(found) - 3} more warnings" if len(found) > 3 else "")
        for encoder, task, found in summary.warned
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


HEADINGS = ("Task", "Metric", "Encoder", "Seeds", "Mean", "SD", "CI seeds", "CI clips", "Ties")


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
    """Return a line per normalisation that names the models it rests on, at most `most`.

    One that gives a score to nobody rests on none.
    """
    lines = {}
    for one in summary.overall:
        if one.score is None:
            continue
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
    few = f", {one.too_few}" if one.too_few else ""
    return [
        one.protocol,
        one.task,
        f"{one.encoder} − {one.other}",
        mean if one.difference is None or one.difference < 0 else f"+{mean}",
        shown_interval(one.metric, one.boot_low, one.boot_high),
        _p(one.p) if one.p is not None else one.reason or "–",
        one.reason if one.p is not None and one.reason else _p(one.p_holm) + few,
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
