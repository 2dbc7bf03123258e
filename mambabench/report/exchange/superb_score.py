"""The SUPERB score of every encoder, from the rows of the presets `superb` and `superb-clean`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mambabench.benchmarks.superb import TASKS
from mambabench.benchmarks.superb.score import TASK_METRICS, points, superb_score
from mambabench.report.rows import Overall

if TYPE_CHECKING:
    from mambabench.report.rows import Row
    from mambabench.report.runs import Group

__all__ = ["superb_scores"]

# how the SUPERB website calls each task's metrics: those of our tasks, in the same order
_NAMES = {
    (task.name, ours): theirs
    for task in TASKS.values()
    for ours, theirs in zip(task.metrics, TASK_METRICS[task.superb_name], strict=False)
}


def superb_scores(rows: Sequence[Row], groups: Sequence[Group] = ()) -> list[Overall]:
    """Return SUPERB's score of each encoder and protocol, and the points of each task.

    A score needs all ten tasks; without them the row says which are missing. Points (0: FBANK,
    1000: the best of 2021) stand for every task that is there. `groups` give the second metric of
    a task that has two (SF).
    """
    result = []
    names = {task.name: task.superb_name for task in TASKS.values()}
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in rows:
        if row.protocol.startswith("superb") and row.task in names and row.mean is not None:
            values = found.setdefault((row.protocol, row.encoder), {})
            values[names[row.task]] = {_NAMES[row.task, row.metric]: 100.0 * row.mean}
    for group in groups:
        owned = found.get((group.protocol, group.encoder), {}).get(names.get(group.task, ""))
        if owned is not None:
            owned |= _second_metrics(group)
    for (protocol, encoder), values in sorted(found.items()):
        for task in values:
            result.append(
                _one(
                    encoder,
                    protocol,
                    f"SUPERB points, {task}",
                    points(task, values[task]),
                    (task,),
                    None,
                )
            )
        missing = [task for task in TASK_METRICS if task not in values]
        reason = (
            f"no score without all ten tasks; missing {', '.join(missing)}" if missing else None
        )
        score = superb_score(values)
        result.append(
            _one(
                encoder, protocol, "SUPERB score", score, tuple(values), reason if missing else None
            )
        )
    return result


def _second_metrics(group: Group) -> dict[str, float]:
    """Return the means over seeds and folds of a task's further SUPERB metrics, in per cent."""
    values: dict[str, list[float]] = {}
    for run in group.runs:
        for fold in run.record.folds:
            for metric, score in fold.scores.items():
                name = _NAMES.get((group.task, metric))
                if metric != group.metric and name is not None and score is not None:
                    values.setdefault(name, []).append(100.0 * score)
    return {name: sum(scores) / len(scores) for name, scores in values.items()}


def _one(
    encoder: str,
    protocol: str,
    normalisation: str,
    score: float | None,
    tasks: tuple[str, ...],
    reason: str | None,
) -> Overall:
    return Overall(
        encoder=encoder,
        protocol=protocol,
        normalisation=normalisation,
        score=score,
        n_tasks=len(tasks),
        tasks=tasks,
        pool=("FBANK", "best of 2021"),
        n_imputed=0,
        reason=reason,
    )
