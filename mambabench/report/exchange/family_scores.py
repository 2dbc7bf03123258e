"""The scores that families of tasks define for themselves, from the rows of their protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mambabench.benchmarks.family import FamilyScore
from mambabench.benchmarks.known import FAMILIES
from mambabench.report.rows import Overall

if TYPE_CHECKING:
    from mambabench.report.rows import Row
    from mambabench.report.runs import Group

__all__ = ["defined_for", "family_scores", "own_scores"]


def own_scores() -> tuple[FamilyScore, ...]:
    """Return the scores of the families that have one, in the families' order."""
    return tuple(family.score for family in FAMILIES.values() if family.score is not None)


def defined_for(score: FamilyScore, protocol: str) -> bool:
    """Say whether the score counts heads of a protocol, as recorded ("superb/fast")."""
    return protocol.partition("/")[0] in score.protocols


def family_scores(rows: Sequence[Row], groups: Sequence[Group] = ()) -> list[Overall]:
    """Return each family's score of each encoder and protocol, and the points of each task.

    A score needs all tasks of the family; without them the row says which are missing. Points
    stand for every task that is there. `groups` give the further metrics of a task that has some.
    """
    return [one for score in own_scores() for one in _of_one(score, rows, groups)]


def _of_one(score: FamilyScore, rows: Sequence[Row], groups: Sequence[Group]) -> list[Overall]:
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in rows:
        if defined_for(score, row.protocol) and row.task in score.tasks and row.mean is not None:
            values = found.setdefault((row.protocol, row.encoder), {})
            values[row.task] = {row.metric: 100.0 * row.mean}
    for group in groups:
        owned = found.get((group.protocol, group.encoder), {}).get(group.task)
        if owned is not None:
            owned |= _further_metrics(group)
    result = []
    for (protocol, encoder), values in sorted(found.items()):
        points = {task: score.points(task, values[task]) for task in values}
        for task, value in points.items():
            short = score.tasks[task]
            name = f"{score.points_name}, {short}"
            result.append(_overall(score, encoder, protocol, name, value, (short,), None))
        there = tuple(score.tasks[task] for task in values)
        missing = [name for task, name in score.tasks.items() if task not in values]
        reason = _reason(len(score.tasks), missing) if missing else None
        mean = None if missing else _mean([points[task] for task in score.tasks])
        result.append(_overall(score, encoder, protocol, score.name, mean, there, reason))
    return result


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _reason(n_tasks: int, missing: Sequence[str]) -> str:
    number = _NUMBERS[n_tasks] if n_tasks < len(_NUMBERS) else str(n_tasks)
    return f"no score without all {number} tasks; missing {', '.join(missing)}"


def _mean(points: Sequence[float | None]) -> float | None:
    """Return the mean of all tasks' points; None where one of them has none."""
    known = [value for value in points if value is not None]
    return sum(known) / len(known) if len(known) == len(points) else None


def _further_metrics(group: Group) -> dict[str, float]:
    """Return the means over seeds and folds of a task's metrics beside the first, in per cent."""
    values: dict[str, list[float]] = {}
    for run in group.runs:
        for fold in run.record.folds:
            for metric, score in fold.scores.items():
                if metric != group.metric and score is not None:
                    values.setdefault(metric, []).append(100.0 * score)
    return {name: sum(scores) / len(scores) for name, scores in values.items()}


def _overall(
    score: FamilyScore,
    encoder: str,
    protocol: str,
    name: str,
    value: float | None,
    tasks: tuple[str, ...],
    reason: str | None,
) -> Overall:
    return Overall(
        encoder=encoder,
        protocol=protocol,
        normalisation=name,
        score=value,
        n_tasks=len(tasks),
        tasks=tasks,
        pool=score.references,
        n_imputed=0,
        reason=reason,
    )
