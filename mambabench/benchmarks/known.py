"""The families of tasks that are known by name, and the rows of all their tasks."""

from __future__ import annotations

from mambabench.benchmarks.family import TaskFamily, TaskRow
from mambabench.plugins import Registry

__all__ = ["FAMILIES", "known_rows"]

FAMILIES: Registry[TaskFamily] = Registry(
    "tasks",
    TaskFamily,
    {
        "demo": "mambabench.benchmarks.demo.family:FAMILY",
        "hear": "mambabench.benchmarks.hear.family:FAMILY",
        "superb": "mambabench.benchmarks.superb.family:FAMILY",
        "affect": "mambabench.benchmarks.affect_tasks:FAMILY",
    },
)


def known_rows() -> tuple[TaskRow, ...]:
    """Return the rows of all families, in their order; those of other packages come last."""
    return tuple(row for family in FAMILIES for row in FAMILIES[family].rows())
