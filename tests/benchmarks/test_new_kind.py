"""A kind of answer that this package does not have goes the whole way: extract, probe, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mambabench
from mambabench.benchmarks import demo
from mambabench.benchmarks.kinds import KINDS
from mambabench.benchmarks.layout.check import check_directory
from mambabench.benchmarks.metrics import METRICS
from mambabench.probe.protocols import PROTOCOLS

import new_kind  # isort: skip


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pitches of the demo as numbers: 0 for the lowest, 1 for the highest."""
    monkeypatch.setitem(KINDS, "numbers", new_kind.KIND)
    monkeypatch.setitem(METRICS, new_kind.METRIC.name, new_kind.METRIC)
    monkeypatch.setitem(PROTOCOLS, "most-alike", new_kind.PROTOCOL)
    (made,) = [p for p in demo.generate(tmp_path / "demo") if p.name.startswith("demo_pitch")]
    directory = tmp_path / "tasks" / "heights"
    made.rename(tmp_path / "heights")
    directory.parent.mkdir()
    (tmp_path / "heights").rename(directory)
    labels = set()
    for path in sorted(directory.glob("*.json")):
        clips = json.loads(path.read_text())
        if path.name == "task_metadata.json":
            clips |= {"prediction_type": "numbers", "evaluation": [new_kind.METRIC.name]}
        elif path.stem in ("train", "valid", "test"):
            kept = list(clips)[:: 3 if path.stem == "train" else 5]
            for name in clips.keys() - set(kept):
                for audio in directory.glob(f"*/{path.stem}/{name}"):
                    audio.unlink()
            clips = {name: [f"{(clips[name][0] - 48) / 23:.3f}"] for name in kept}
            labels |= {label for values in clips.values() for label in values}
        path.write_text(json.dumps(clips))
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(sorted(labels)))
    (directory / "labelvocabulary.csv").write_text("idx,label\n" + rows)
    return directory


def test_a_new_kind_goes_the_whole_way(task: Path, tmp_path: Path) -> None:
    assert [d for d in check_directory(task).defects if d.severity == "error"] == []
    out = tmp_path / "out"
    mambabench.extract(encoder="logmel_stats", tasks=task.parent, out=out, jobs=1)
    assert not mambabench.probe(protocol="most-alike", out=out, jobs=1).failed
    (row,) = mambabench.report(out).summary.rows
    assert (row.metric, row.task, row.protocol) == ("mean_error", "heights", "most-alike")
    assert row.mean is not None
    assert 0 < row.mean < 0.2, "numbers drawn at random are a third off"
    assert row.boot_low is not None
    assert row.boot_high is not None
    assert row.boot_low < row.mean < row.boot_high
    others = mambabench.probe(protocol="sound", seeds=1, out=out, jobs=1).unavailable
    said = "it has no family of heads for numbers tasks; use --protocol most-alike"
    assert [said in one.reason for one in others] == [True]
