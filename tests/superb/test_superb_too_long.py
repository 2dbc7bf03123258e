"""Targets with more symbols than the encoder has frames: the share is printed beside the score."""

from __future__ import annotations

from dataclasses import replace

from trees import TREES

import mambabench
from mambabench.benchmarks.superb.prepare import prepare
from mambabench.probe.protocols import superb as superb_protocol
from mambabench.store.records import read_record, record_paths

TASKS = ("superb_pr", "superb_asr", "superb_sf")
FEW = {"total_steps": 2, "evaluations": 1, "learning_rates": (1e-2,), "batch_size": 4}


def test_the_share_stands_behind_the_score_and_shifted_windows_take_it_away(tmp_path, monkeypatch):
    """160 ms a frame cannot spell 100 ms a letter; the same encoder every 40 ms can."""
    for name, recipe in superb_protocol.RECIPES.items():
        width = recipe.width and 8
        monkeypatch.setitem(superb_protocol.RECIPES, name, replace(recipe, **FEW, width=width))
    for name in TASKS:
        prepare(name, TREES[name](tmp_path / name, 8), tmp_path / "tasks")
    for hop in (None, 40):
        mambabench.extract(
            ["aum_tiny_random"], [tmp_path / "tasks"], out=tmp_path / "out", jobs=1, hop_ms=hop
        )
    assert not mambabench.probe(1, "superb", out=tmp_path / "out", jobs=1).failures
    shares = {}
    for path in record_paths(tmp_path / "out"):
        record = read_record(path)
        share = record.folds[0].grid_point["targets_longer_than_frames"]
        shares[record.encoder, record.task] = share
    fine = "aum_tiny_random:hop_ms=40"
    assert len(shares) == 6
    summary = mambabench.report(tmp_path / "out").summary
    rows = {(row.encoder, row.task): row for row in summary.rows}
    for task in TASKS:
        assert shares["aum_tiny_random", task] > 0, task
        assert shares[fine, task] == 0, task
        (flag,) = [f for f in rows["aum_tiny_random", task].flags if f.code == "too-few-frames"]
        assert flag.shown == f"{100 * shares['aum_tiny_random', task]:.0f}%"
        assert "--hop-ms" in flag.text
        assert not [f for f in rows[fine, task].flags if f.code == "too-few-frames"]
    for form in ("terminal", "markdown", "latex", "csv"):
        text = mambabench.report(tmp_path / "out", form).text.replace("\\%", "%")
        for task in TASKS:
            assert f"F{100 * shares['aum_tiny_random', task]:.0f}%" in text, (form, task)
