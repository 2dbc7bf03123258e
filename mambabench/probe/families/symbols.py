"""The symbols that CTC heads read: a blank, an end symbol, and what is spoken."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mambabench.benchmarks.task import Task
from mambabench.errors import DataError

__all__ = ["BLANKS", "ENDS", "SymbolTable", "share_too_long", "symbol_table"]

BLANKS = ("<pad>", "<s>")  # as the first symbol of a vocabulary
ENDS = ("<eos>", "</s>")  # of targets: learned, never scored


@dataclass(frozen=True)
class SymbolTable:
    """A vocabulary by index; 0 is CTC's blank."""

    symbols: tuple[str, ...]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    @property
    def dropped(self) -> tuple[int, ...]:
        """The end symbols: left out wherever a decoder finds them, and out of every rate."""
        return tuple(i for i, symbol in enumerate(self.symbols) if symbol in ENDS)

    def encode(self, labels: Sequence[str]) -> list[int]:
        """Return the index of every label."""
        return [self._index[label] for label in labels]

    def spoken(self, target: Sequence[int]) -> list[int]:
        """Return a target without its end symbol."""
        return [symbol for symbol in target if symbol not in self.dropped]


def symbol_table(task: Task) -> SymbolTable:
    """Return the task's symbols.

    Raises DataError where the vocabulary does not start with a blank or a target holds it.
    """
    where = task.directory / "labelvocabulary.csv"
    if task.labels[0] not in BLANKS:
        raise DataError(
            f"{where}: label 0 is {task.labels[0]!r}; a sequence task's vocabulary starts with "
            f"the blank of its loss: put {BLANKS[0]} first and number the others from 1"
        )
    for split, clips in task.clips.items():
        for clip in clips:
            if task.labels[0] in clip.labels:
                raise DataError(
                    f"{task.directory / split}.json: clip {clip.name!r} is labelled with the blank "
                    f"{task.labels[0]!r}, which no clip can say: take it out"
                )
    return SymbolTable(task.labels)


def share_too_long(targets: Sequence[Sequence[int]], n_frames: Sequence[int]) -> float:
    """Return the share of clips that CTC cannot spell with the encoder's frames.

    A target needs a frame for every symbol, and one more between two equal ones.
    """
    needed = [
        len(target) + sum(a == b for a, b in itertools.pairwise(target)) for target in targets
    ]
    long = sum(need > there for need, there in zip(needed, n_frames, strict=True))
    return long / len(needed) if needed else 0.0
