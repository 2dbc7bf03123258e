"""The ranks of a report's encoders, per task and over the tasks of a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mambabench.report.exchange.overall import LEADERBOARD_COLUMNS
from mambabench.report.statistics.ranks import Rank, RankingEntry, mean_ranks, task_ranks

if TYPE_CHECKING:
    from mambabench.report.rows import Row
    from mambabench.report.runs import Group
    from mambabench.report.statistics.evidence import Evidence

__all__ = ["counted_tasks", "ranks_of"]

_BEEHIVE = LEADERBOARD_COLUMNS["Beehive"]
_HALVES = ("beehive_states_fold0-v2-full", "beehive_states_fold1-v2-full")


def counted_tasks(tasks: Sequence[str]) -> list[str]:
    """Return the tasks that count: Beehive's two directories once, as their mean."""
    return [task for task in tasks if _BEEHIVE not in tasks or task not in _HALVES]


def ranks_of(
    rows: Sequence[Row], groups: Sequence[Group], evidence: Mapping[Group, Evidence]
) -> tuple[Rank, ...]:
    """Rank every protocol's encoders on each task and over all tasks, with intervals.

    `rows` have the means, `evidence` the resampled scores, all of them on the same draws of clips
    where two encoders have the same test clips.
    """
    of: dict[tuple[str, str, str], Evidence] = {
        (group.protocol, group.task, group.encoder): evidence[group] for group in groups
    }
    result: list[Rank] = []
    for protocol in sorted({row.protocol for row in rows}):
        own = [row for row in rows if row.protocol == protocol]
        tables: dict[str, dict[str, RankingEntry]] = {}
        for row in own:
            table = tables.setdefault(row.task, {})
            if row.mean is not None:
                table[row.encoder] = _ranked(row, of)
        for task, table in sorted(tables.items()):
            result += task_ranks(protocol, task, table)
        counted = counted_tasks(sorted(tables))
        result += mean_ranks(protocol, {task: tables[task] for task in counted})
    return tuple(result)


def _ranked(row: Row, of: Mapping[tuple[str, str, str], Evidence]) -> RankingEntry:
    sign = 1.0 if row.higher_is_better else -1.0
    names = _HALVES if row.task == _BEEHIVE else (row.task,)
    parts = [of.get((row.protocol, name, row.encoder)) for name in names]
    known = [one for one in parts if one is not None and one.resampled is not None]
    resampled = None
    if len(known) == len(names):
        arrays = [one.resampled for one in known if one.resampled is not None]
        resampled = np.asarray(sign * np.mean(arrays, axis=0))
    assert row.mean is not None
    return RankingEntry(sign * row.mean, resampled, " ".join(one.test_key for one in known))
