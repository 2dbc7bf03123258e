"""EPIC-SOUNDS' segments by role: what trains, what selects, what is tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambabench.errors import DataError
from mambabench.train.encoder_data import parse_data
from mambabench.train.encoder_settings import EncoderSettings
from mambabench.train.epic import Segment, read_segments
from mambabench.train.orders import stream

__all__ = ["EpicData", "open_epic", "select_segments"]

EPIC_CLASSES = 44


@dataclass(frozen=True)
class EpicData:
    """EPIC-SOUNDS' segments as they were given, and where their audio lies."""

    train: tuple[Segment, ...]
    valid: tuple[Segment, ...]
    test: tuple[Segment, ...]
    audio: Path
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    restricted: bool = False
    folds: tuple[Any, ...] = ("",)

    @property
    def tested(self) -> tuple[Segment, ...]:
        """The segments scored in the end: an only evaluation list is that, whatever its name."""
        return self.test or self.valid


def open_epic(values: Sequence[str]) -> EpicData:
    """Read the annotations behind --data: train=, valid= and/or test=, audio=."""
    roles = parse_data(values)
    found = {
        role: tuple(s for path in roles.get(role, []) for s in read_segments(path))
        for role in ("train", "valid", "test")
    }
    held = (*found["valid"], *found["test"])
    if not found["train"] or not held or len(roles.get("audio", [])) != 1:
        raise DataError(
            "EPIC-SOUNDS needs --data train=CSV --data test=CSV --data audio=HDF5_OR_FOLDER (and "
            "valid=CSV where segments to select on are at hand)"
        )
    n = max(EPIC_CLASSES, 1 + max(s.label for s in (*found["train"], *held)))
    labels = tuple(str(i) for i in range(n))
    return EpicData(found["train"], found["valid"], found["test"], roles["audio"][0], labels)


def select_segments(
    data: EpicData, settings: EncoderSettings
) -> tuple[tuple[Segment, ...], tuple[Segment, ...], str]:
    """Return (training segments, segments that select, what these are).

    Where both evaluation lists are given, the first selects. Where there is one, it is tested:
    published, it selects as well, as the authors do with theirs; sound, whole recordings of the
    training list are held out, until they make `held_out` of its segments.
    """
    if data.valid and data.test:
        return data.train, data.valid, "validation segments"
    if settings.mode == "published":
        return data.train, data.tested, "test segments ‡"
    videos = sorted({s.video for s in data.train})
    held: set[str] = set()
    n = 0
    for i in stream(0, "held out").permutation(len(videos)):
        if n >= settings.held_out * len(data.train):
            break
        held.add(videos[int(i)])
        n += sum(s.video == videos[int(i)] for s in data.train)
    if not 0 < len(held) < len(videos):
        raise DataError(
            f"{len(videos)} training recordings and held_out = {settings.held_out:g} leave nothing "
            "to select on, or to train on; give --data valid=CSV beside test=CSV"
        )
    train = tuple(s for s in data.train if s.video not in held)
    valid = tuple(s for s in data.train if s.video in held)
    return train, valid, f"{n} segments held out of training ({len(held)} recordings)"
