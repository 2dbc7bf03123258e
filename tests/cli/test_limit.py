"""A limited run is quick, fair to labels and clusters, and never passes for the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mambabench
from mambabench.benchmarks import demo
from mambabench.benchmarks.layout.check import check_directory
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.limit import limit_of, limited_task, parse_limit, whole_name
from mambabench.benchmarks.subset import subset_task
from mambabench.benchmarks.task import Clip
from mambabench.errors import DataError, MambabenchError, StoreError
from mambabench.report.formats import FORMATS
from mambabench.store.records import read_record, record_paths


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    demo.generate(folder)
    return folder


@pytest.mark.parametrize(
    ("text", "value"), [("100", 100), ("0.05", 0.05), ("5%", 0.05), ("1", 1), ("1e-3", 1e-3)]
)
def test_limits(text: str, value: float) -> None:
    assert parse_limit(text) == value
    assert type(parse_limit(text)) is type(value)


@pytest.mark.parametrize("text", ["0", "-3", "1.0", "150%", "nan", "many", "", "0.0"])
def test_wrong_limits(text: str) -> None:
    with pytest.raises(MambabenchError, match="is no number of clips a split"):
        parse_limit(text)


@pytest.mark.parametrize("limit", [4, 30, 0.25])
def test_a_part_is_a_sound_task(tasks: Path, tmp_path: Path, limit: int | float) -> None:
    for directory in sorted(tasks.iterdir()):
        whole = load_task(directory)
        part = load_task(limited_task(directory, tmp_path, limit))
        assert (whole_name(part.name), limit_of(part.name)) == (whole.name, f"limit {limit:g}")
        assert part.limited
        assert not whole.limited
        errors = [d for d in check_directory(part.directory).defects if d.severity == "error"]
        assert errors == []
        for split, clips in part.clips.items():
            full = whole.clips[split]
            labels = {x for c in full for x in (*c.labels, *(e.label for e in c.events))}
            kept = {x for c in clips for x in (*c.labels, *(e.label for e in c.events))}
            assert kept == labels
            most = limit if isinstance(limit, int) else int(limit * len(full) + 0.5)
            assert len(clips) <= max(most, len(labels) * _largest(full))
            groups = {clip.cluster for clip in clips if clip.cluster}
            left_out = {clip.cluster for clip in full if clip not in clips} - {None}
            assert not groups & left_out, "a cluster was torn apart"


def _largest(clips: tuple[Clip, ...]) -> int:
    names = [clip.cluster or clip.name for clip in clips]
    return max(map(names.count, names))


def test_clusters_of_a_file_stay_whole(tasks: Path, tmp_path: Path) -> None:
    import shutil

    directory = tmp_path / "clustered"
    shutil.copytree(tasks / "demo_vowel-v1-demo", directory)
    task = load_task(directory)
    clusters = {
        f"{split}/{clip.name}": f"{split}-{i // 7}"
        for split, clips in task.clips.items()
        for i, clip in enumerate(clips)
    }
    (directory / "clusters.json").write_text(json.dumps(clusters))
    metadata = json.loads((directory / "task_metadata.json").read_text())
    (directory / "task_metadata.json").write_text(
        json.dumps({**metadata, "clusters": "clusters.json"})
    )
    whole, part = load_task(directory), load_task(limited_task(directory, tmp_path, 0.5))
    for split, clips in part.clips.items():
        kept = {clip.cluster for clip in clips}
        assert {c.name for c in whole.clips[split] if c.cluster in kept} == {c.name for c in clips}
        assert len(clips) < len(whole.clips[split])


def test_limited_and_whole_are_never_mixed(tasks: Path, tmp_path: Path) -> None:
    name = "demo_percussion-v1-demo"
    out = tmp_path / "out"
    common = {"encoder": "logmel_stats", "tasks": tasks, "task": name, "out": out, "jobs": 1}
    mambabench.run(**common, protocol="linear")
    with pytest.raises(StoreError, match="nothing that is limited to 20"):
        mambabench.probe(out=out, limit=20)
    before = read_record(record_paths(out)[0])
    done = mambabench.run(**common, protocol="linear", limit=20)
    assert done.probed is not None
    assert done.probed.n_trained == 1
    records = [read_record(path) for path in record_paths(out)]
    assert len(records) == 2
    assert [r for r in records if not r.limited] == [before]
    assert [r.limited for r in records if r.limited] == ["at most 20 clips of each split"]
    assert mambabench.probe(out=out, limit="20", task=name, protocol="linear").n_present == 1
    summary = mambabench.report(out).summary
    assert {row.protocol for row in summary.rows} == {"linear", "linear (limit 20)"}
    assert all(row.reason is None or "missing" not in row.reason for row in summary.rows)
    assert summary.comparisons == ()
    for format in FORMATS:
        if format == "bibtex" or FORMATS[format].binary:
            continue
        text = mambabench.report(out, format).text
        assert "limit-20" in text or "limit 20" in text or "limited" in text, format
    page = (out / "report" / "report.html").read_text()
    assert "limit-20" in page


def test_tasks_judged_in_pairs_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace
    from unittest.mock import patch

    task = load_task(next(iter(demo.generate(tmp_path))))
    trials = replace(task, prediction_type="trials")
    with (
        patch("mambabench.benchmarks.subset.load_task", return_value=trials),
        pytest.raises(DataError, match="cannot be limited: its clips are judged together"),
    ):
        limited_task(task.directory, tmp_path, 3)
    with (
        patch("mambabench.benchmarks.subset.load_task", return_value=trials),
        pytest.raises(DataError, match="cannot be limited: its clips are judged together"),
    ):
        subset_task(task.directory, tmp_path, 3)
