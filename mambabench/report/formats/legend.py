"""The words below a matrix: what +- is, what the marks mean, what ranks and scores rest on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mambabench.report.matrix import Matrix
    from mambabench.report.rows import Summary
    from mambabench.report.view import View

__all__ = ["SAME_BYTES", "interval_words", "legend", "seeds_words", "test_words"]

SAME_BYTES = "The same commands make the same bytes on the same machine and versions."
_WORDS = {
    "clips": "half the width of the 95 % bootstrap interval over test clips (near 0, 1: Wilson's)",
    "seeds": "half the width of the 95 % t-interval over seeds, on the same test clips",
    "sd": "the standard deviation over seeds",
}


def interval_words(matrices: Sequence[Matrix], view: View) -> str:
    """Say what stands behind +-."""
    text = _WORDS[view.interval]
    cells = [cell for one in matrices for line in one.lines for cell in line.cells]
    if any("*" in cell.marks for cell in cells):
        text += " (*: over clusters of clips)"
    return text


def seeds_words(matrices: Sequence[Matrix]) -> str:
    """Say how many seeds a mean is over."""
    counts = sorted({n for one in matrices for n in one.n_seeds})
    if not counts:
        return "no seeds"
    most = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{most} seed{'' if counts[-1] == 1 else 's'}"


def test_words(summary: Summary) -> str:
    """Say when two encoders differ."""
    family = "pairs of the task"
    if summary.baseline is not None:
        others = len({row.encoder for row in summary.rows}) - 1
        family = f"{others} comparison{'' if others == 1 else 's'} of the task"
    return f"paired permutation test, Holm-corrected over the {family}, p < .05"


def legend(matrices: Sequence[Matrix], summary: Summary, view: View) -> list[str]:
    """Return the lines that explain the matrices."""
    cells = [cell for one in matrices for line in one.lines for cell in line.cells]
    lines = [f"Mean over {seeds_words(matrices)}; ±: {interval_words(matrices, view)}."]
    if any(cell.best for cell in cells):
        overlap = ""
        if any("†" in cell.marks for cell in cells):
            overlap = "; †: its interval over clips overlaps another encoder's"
        lines.append(f"Bold: best mean of the task{overlap}.")
    if any(cell.same for cell in cells):
        what = "the best" if summary.baseline is None else f"the baseline {summary.baseline}"
        lines.append(f"=: does not differ from {what} on this task ({test_words(summary)}).")
    if summary.baseline is not None:
        n_tasks = len({(one.protocol, one.task) for one in summary.comparisons})
        lines.append(f"Baseline: {summary.baseline}; {n_tasks} tasks ({test_words(summary)}).")
    heads = [head for one in matrices for head in (*one.columns, *(x.head for x in one.lines))]
    if any(head.kind == "rank" for head in heads):
        lines.append(
            "Rank: mean place over the tasks among the encoders that have all of them, with its 95 "
            "% interval over resamples of clips that all encoders share."
        )
    lines += _few(summary, heads)
    if any(head.kind == "published" for head in heads):
        more = sum(one.more_published for one in matrices)
        lines.append(
            "Below the rule: published rows, with their source and, where it is another, their "
            "protocol" + (f"; {more} more with --published" if more else "") + "."
        )
    return lines


def _few(summary: Summary, heads: Sequence[object]) -> list[str]:
    """Say why there are no normalised scores where two encoders have none."""
    keys = {getattr(head, "key", "") for head in heads}
    lines = []
    if "wins" in keys:
        who = summary.baseline or "the other encoder"
        lines.append(
            f"Won/tied/lost: tasks against {who}; difference: mean over the tasks whose metric is "
            "a share, in points, ± half its 95 % interval over clips."
        )
    if len({row.encoder for row in summary.rows}) < 3 and "wins" in keys:
        lines.append(
            "No normalised overall score below three encoders: two stand at the ends of every "
            "scale, however near they are."
        )
    return lines
