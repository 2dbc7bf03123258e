"""A task of a few clips is a task of its own, chosen the same way everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mambabench.benchmarks import discover
from mambabench.benchmarks.demo import generate
from mambabench.benchmarks.limit import limit_of, whole_name
from mambabench.benchmarks.subset import subset_task
from mambabench.errors import DataError


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return list(generate(tmp_path_factory.mktemp("demo")))


def test_every_demo_task_can_be_cut(folders: list[Path], tmp_path: Path) -> None:
    cut = [subset_task(folder, tmp_path, 4) for folder in folders]
    for whole, part in zip(discover(folders), discover(cut), strict=True):  # warnings are errors
        assert part.name == f"{whole.name}.max4"
        assert part.labels == whole.labels
        assert part.limited == "at most 4 clips of each split"
        assert (whole_name(part.name), limit_of(part.name)) == (whole.name, "max 4")
        for split in whole.splits:
            names = [clip.name for clip in part.clips[split]]
            assert len(names) == min(4, len(whole.clips[split]))
            assert names == [c.name for c in whole.clips[split] if c.name in set(names)]


def test_fewer_clips_are_part_of_more_and_labels_take_turns(
    folders: list[Path], tmp_path: Path
) -> None:
    task = next(t for t in discover(folders) if t.prediction_type == "multiclass")
    split = task.splits[0]
    chosen = [
        json.loads((subset_task(task.directory, tmp_path, n) / f"{split}.json").read_text())
        for n in (2, 4, 6)
    ]
    assert set(chosen[0]) < set(chosen[1]) < set(chosen[2])
    n_labels = len({c.labels for c in task.clips[split]})
    assert len({json.dumps(v) for v in chosen[1].values()}) == min(4, n_labels)


def test_no_clip_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="max_clips = 0"):
        subset_task(folders[0], tmp_path, 0)
