"""What the documentation of tasks shows works, and it names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mambabench.benchmarks import discover, tasks
from mambabench.benchmarks.metrics import METRICS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_example_of_adding_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, *_ = re.findall(
        r"```python\n(.*?)```", (DOCS / "adding-a-task.md").read_text(encoding="utf-8"), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "adding-a-task.md", "exec"), {})
    (result,) = tasks.check(tmp_path / "tasks")
    assert result.defects == ()
    (task,) = discover([tmp_path / "tasks"])
    assert (task.name, task.labels, len(task.clips["train"])) == (
        "beeps-v1-full",
        ("high", "low"),
        40,
    )


def test_every_metric_of_scenes_and_events_is_documented() -> None:
    text = (DOCS / "tasks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.]+)`", text))
    assert {name for name, m in METRICS.items() if m.kind in ("scene", "event")} <= named
