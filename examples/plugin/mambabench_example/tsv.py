"""A report format: a line a number, separated by tabs."""

from mambabench.report.formats import Format
from mambabench.report.rows import Summary
from mambabench.report.view import View


def render(summary: Summary, view: View) -> str:
    """Return encoder, task, metric, mean and its interval over clips."""
    lines = ["encoder\ttask\tmetric\tmean\tlow\thigh"]
    for row in summary.rows:
        numbers = (row.mean, row.boot_low, row.boot_high)
        shown = ["" if number is None else f"{number:.4f}" for number in numbers]
        lines.append("\t".join([row.encoder, row.task, row.metric, *shown]))
    return "\n".join(lines) + "\n"


FORMAT = Format("tsv", render)
