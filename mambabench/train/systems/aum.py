"""AuM: supervised training."""

from __future__ import annotations

from pathlib import Path

from mambabench.train.classifier_files import Files, classifier_files
from mambabench.train.judge import Judge

__all__ = ["training_files"]


def training_files(folder: Path, epochs: int, judge: Judge, keep_all: bool = True) -> Files:
    """Return what writes AuM's files; `keep_all` False keeps only the best weights."""
    return classifier_files(folder, epochs, judge, parallel=False, keep_all=keep_all)
