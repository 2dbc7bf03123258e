"""Find what is wrong with a task directory: every defect, with the file and the remedy."""

from __future__ import annotations

from mambabench.benchmarks.layout import METADATA, VOCABULARY
from mambabench.benchmarks.task import Task
from mambabench.files import read_json

__all__ = ["stray_files"]


def stray_files(task: Task) -> tuple[str, ...]:
    """Return the entries of the task's directory that nothing names, relative to it, sorted."""
    expected = {METADATA, VOCABULARY, *(f"{split}.json" for split in task.splits)}
    clusters = read_json(task.directory / METADATA).get("clusters")
    if isinstance(clusters, str):
        expected.add(clusters)
    rates = {str(rate) for rate in task.sample_rates_hz}
    strangers = [p.name for p in task.directory.iterdir() if p.name not in expected | rates]
    for rate in rates:
        folder = task.directory / rate
        for entry in folder.iterdir():
            if entry.name not in task.splits:
                strangers.append(f"{rate}/{entry.name}")
                continue
            names = {clip.name for clip in task.clips[entry.name]}
            strangers += [
                f"{rate}/{entry.name}/{p.name}" for p in entry.iterdir() if p.name not in names
            ]
    return tuple(sorted(strangers))
