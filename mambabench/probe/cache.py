"""Keep finished trials of an unfinished unit, so that a resumed run does not train them again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mambabench.files import atomic_write
from mambabench.probe.heads.parameters import HeadParameters
from mambabench.probe.trainer import TrialResult
from mambabench.reading.arrays import UNREADABLE

__all__ = ["CACHED_FROM_S", "TrialCache"]

CACHED_FROM_S = 2.0  # a trial that took less is sooner trained again than kept


@dataclass(frozen=True)
class TrialCache:
    """Trial results in a folder beside the unit's record, named by what they follow from."""

    folder: Path
    inputs_sha256: str

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.inputs_sha256[:16]}-{name}.npz"

    def load(self, name: str) -> TrialResult | None:
        """Return a finished trial, or None; an unreadable file counts as not there."""
        try:
            with np.load(self._path(name), allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            numbers, post = arrays.pop("numbers"), arrays.pop("post_processing")
        except UNREADABLE:
            return None
        value, score, best_epoch, n_epochs = numbers
        return TrialResult(
            value=float(value),
            score=float(score),
            best_epoch=None if best_epoch < 0 else int(best_epoch),
            n_epochs=int(n_epochs),
            post_processing=(float(post[0]), float(post[1])) if len(post) else None,
            parameters=HeadParameters.from_arrays(arrays),
        )

    def save(self, name: str, result: TrialResult) -> None:
        """Write a finished trial atomically."""
        best_epoch = -1 if result.best_epoch is None else result.best_epoch
        numbers = [result.value, result.score, best_epoch, result.n_epochs]
        arrays: dict[str, Any] = {
            "numbers": np.array(numbers, np.float64),
            "post_processing": np.array(result.post_processing or (), np.float64),
            **result.parameters.arrays(),
        }
        atomic_write(self._path(name), lambda file: np.savez(file, **arrays))

    def remove(self) -> None:
        """Delete the folder once the unit's record is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
