"""A gate for continuous integration: what is worse than the baseline, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mambabench.report.formats.tables import shown
from mambabench.report.versions import same_version

if TYPE_CHECKING:
    from mambabench.report.rows import Summary
    from mambabench.report.runs import Flag
    from mambabench.report.statistics.comparison import Comparison

__all__ = ["Drop", "drops", "drops_text"]

_LEVEL = 0.05


@dataclass(frozen=True)
class Drop:
    """One encoder that is worse than the baseline on one task."""

    encoder: str
    task: str
    protocol: str
    metric: str
    loss: float  # how much worse, above 0 whichever way the metric runs; not compared: either
    p_holm: float | None
    why: str  # "p" (significantly worse), "margin", "missing", "version" or "changed"


def drops(summary: Summary, margin: float | None = None) -> tuple[Drop, ...]:
    """Return what is worse than the summary's baseline.

    That is what is significantly so (Holm within the task, .05), and, with `margin` (points: a
    hundredth of a share, or of a unit of other metrics), what is worse by more than it, tested or
    not. A task that the encoder lacks and the baseline has is worse by all of it. Numbers of two
    versions of a protocol are never compared, nor one whose predictions are gone: that one of them
    must be probed again is a drop too.
    """
    better = {row.metric: row.higher_is_better for row in summary.rows}
    found = []
    compared = _compared(summary)
    for one in compared:
        assert one.difference is not None
        forward = one.other == summary.baseline
        loss = -one.difference if forward else one.difference
        loss = loss if better[one.metric] else -loss
        significant = loss > 0 and one.p_holm is not None and one.p_holm < _LEVEL
        if significant or (margin is not None and 100 * loss > margin):
            name = one.encoder if forward else one.other
            why = "p" if significant else "margin"
            head = (name, one.task, one.protocol, one.metric)
            found.append(Drop(*head, loss, one.p_holm, why))
    return (*found, *_untested(summary, margin, compared))


def _compared(summary: Summary) -> list[Comparison]:
    """Return the comparisons with a difference between numbers that have their predictions."""
    gone = {(row.encoder, row.task, row.protocol) for row in summary.rows if _gone(row.flags)}
    return [
        one
        for one in summary.comparisons
        if one.difference is not None
        and not gone & {(name, one.task, one.protocol) for name in (one.encoder, one.other)}
    ]


def _gone(flags: Sequence[Flag]) -> bool:
    return any(flag.code == "changed" for flag in flags)


def _untested(
    summary: Summary, margin: float | None, comparisons: Sequence[Comparison]
) -> list[Drop]:
    """Return what no comparison covers: missing tasks and, with a margin, plain differences."""
    base = {
        (row.task, row.protocol): row
        for row in summary.rows
        if row.encoder == summary.baseline and row.mean is not None
    }
    compared = {
        (name, one.task, one.protocol) for one in comparisons for name in (one.encoder, one.other)
    }
    found = []
    for row in summary.rows:
        reference = base.get((row.task, row.protocol))
        key = (row.encoder, row.task, row.protocol)
        if reference is None or row.encoder == summary.baseline or key in compared:
            continue
        assert reference.mean is not None
        head = (row.encoder, row.task, row.protocol, row.metric)
        if row.mean is None:
            found.append(Drop(*head, abs(reference.mean), None, "missing"))
            continue
        loss = reference.mean - row.mean
        loss = loss if row.higher_is_better else -loss
        if _gone(row.flags) or _gone(reference.flags):
            found.append(Drop(*head, loss, None, "changed"))
            continue
        if not same_version(row.flags, reference.flags):
            found.append(Drop(*head, loss, None, "version"))
            continue
        if margin is not None and 100 * loss > margin:
            found.append(Drop(*head, loss, None, "margin"))
    return found


def drops_text(found: Sequence[Drop], baseline: str) -> str:
    """Return a line per drop, or that there is none."""
    if not found:
        return f"gate: nothing is worse than {baseline}\n"
    lines = []
    for one in found:
        by = f"worse than {baseline} by {shown(one.metric, one.loss)}"
        why = {
            "p": f"{by} (p {one.p_holm:.2g}, Holm)" if one.p_holm is not None else by,
            "margin": f"{by}, more than the margin",
            "missing": f"no score, and {baseline} has one",
            "version": f"another version of {one.protocol} than {baseline}'s, so not compared: "
            "probe the older one again",
            "changed": f"its predictions, or {baseline}'s, are not there, so not compared: "
            "probe again",
        }[one.why]
        lines.append(f"gate: {one.encoder} on {one.task} ({one.protocol}), {one.metric}: {why}\n")
    return "".join(lines)
