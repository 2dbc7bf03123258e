"""A family of tasks: folders of sounds, one a label, as a task directory."""

import json
import shutil
from pathlib import Path

from mambabench.benchmarks.family import Prepared, TaskFamily, TaskRow

METADATA = {
    "embedding_type": "scene",
    "prediction_type": "multiclass",
    "split_mode": "trainvaltest",
    "splits": ["train", "valid", "test"],
    "evaluation": ["reciprocal_rank", "top1_acc"],
}
ROW = TaskRow(
    *("folders", "example_tasks", "Folders of sounds", "scene", "multiclass", "trainvaltest"),
    *(3, None, "reciprocal_rank", None, None),
)


def prepare(name: str, data: Path, to: Path) -> Prepared:
    """Write `to`/folders from `data`/<label>/*.wav, of 16 kHz; a fifth validates, a fifth tests."""
    task, labels = to / name, sorted(p.name for p in data.iterdir() if p.is_dir())
    splits: dict[str, dict[str, list[str]]] = {"train": {}, "valid": {}, "test": {}}
    for label in labels:
        for i, file in enumerate(sorted((data / label).glob("*.wav"))):
            split = ("train", "train", "train", "valid", "test")[i % 5]
            splits[split][f"{label}-{file.name}"] = [label]
            (task / "16000" / split).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, task / "16000" / split / f"{label}-{file.name}")
    for split, clips in splits.items():
        (task / f"{split}.json").write_text(json.dumps(clips))
    rows = [f'{i},"{label}"\n' for i, label in enumerate(labels)]
    (task / "labelvocabulary.csv").write_text("idx,label\n" + "".join(rows))
    (task / "task_metadata.json").write_text(json.dumps(METADATA))
    return Prepared(task, {split: len(clips) for split, clips in splits.items()}, ())


FAMILY = TaskFamily("example_tasks", lambda: (ROW,), prepares=("folders",), prepare=prepare)
