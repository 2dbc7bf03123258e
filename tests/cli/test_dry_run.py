"""A dry run names all that a run would do, stores nothing, and is right about what is no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mambabench
from mambabench.benchmarks import demo
from mambabench.cli.estimates import spoken, spoken_bytes


def test_a_dry_run_stores_nothing_and_counts_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.generate(tmp_path / "tasks")
    out = tmp_path / "out"
    common: dict[str, Any] = {
        "encoder": "logmel_stats",
        "tasks": tmp_path / "tasks",
        "task": "demo_vowel-v1-demo",
        "out": out,
        "jobs": 1,
        "protocol": "linear",
    }
    dry = mambabench.run(**common, dry_run=True)
    assert not out.exists()
    assert not dry.failed
    assert [(row.stage, row.n) for row in dry.estimates] == [("extract", 420), ("probe", 1)]
    assert all(row.seconds and row.memory_bytes > 1e7 for row in dry.estimates)
    mambabench.run(**common)
    arrays = (out / "embeddings").rglob("*.embeddings.npy")
    real = sum(path.stat().st_size for path in arrays)
    assert 0.5 < dry.estimates[0].disk_bytes / real < 2
    before = sorted(out.rglob("*"))
    again = mambabench.run(**common, dry_run=True)
    assert [(row.n, row.note) for row in again.estimates] == [(0, "there already")] * 2
    probes = mambabench.probe(out=out, protocol="knn", dry_run=True, jobs=1)
    assert [(row.stage, row.n) for row in probes.estimates] == [("probe", 1)]
    assert probes.estimates[0].seconds
    assert sorted(out.rglob("*")) == before
    assert capsys.readouterr().out == ""


def test_trials_are_timed_as_a_run_computes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one core each: matrix products that wait for other cores took twenty times as long."""
    import torch

    from mambabench.probe.measured import Stopwatch

    demo.generate(tmp_path / "tasks")
    seen = []
    real = Stopwatch.timed

    def timed(*arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return real(*arguments)

    monkeypatch.setattr(Stopwatch, "timed", timed)
    before = torch.get_num_threads()
    task = {"tasks": tmp_path / "tasks", "task": "demo_vowel", "out": tmp_path / "out"}
    dry = mambabench.run("logmel_stats", **task, seeds=2, jobs=1, dry_run=True)
    assert dry.estimates[-1].seconds
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("n", "said"), [(3_400, "3 kB"), (25e6, "25 MB"), (3.44e6, "3.4 MB"), (12e9, "12 GB")]
)
def test_sizes_are_spoken(n: float, said: str) -> None:
    assert spoken_bytes(n) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.2, "3 s"), (89.4, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_times_are_spoken(seconds: float, said: str) -> None:
    assert spoken(seconds) == said
