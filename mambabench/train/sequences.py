"""Feature sequences with a binary label, and how they become batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mambabench.train.batches import Batch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FeatureSequence", "batches", "collate"]


@dataclass(frozen=True)
class FeatureSequence:
    """One sequence: its session's name, [frames, dim] float32 and its label (0 or 1)."""

    name: str
    features: npt.NDArray[np.float32]
    label: int


def collate(items: Sequence[FeatureSequence], *, parity: bool) -> Batch:
    """Return padded sequences [batch, frames, dim], labels [batch], draws mask [batch, frames].

    Zeros fill up to the longest. The mask, int64, marks the frames before each sequence's end; with
    `parity` those whose values do not sum to exactly 0, as published.
    """
    lengths = torch.tensor([len(item.features) for item in items])
    x = torch.zeros(len(items), int(lengths.max()), items[0].features.shape[1])
    for row, item in zip(x, items, strict=True):
        row[: len(item.features)] = torch.from_numpy(item.features)
    inside = torch.arange(x.shape[1]) < lengths[:, None]
    mask = x.sum(-1) != 0 if parity else inside
    labels = torch.tensor([item.label for item in items])
    return Batch(x, labels, {"mask": mask.long()}, tuple(item.name for item in items))


def batches(
    items: Sequence[FeatureSequence],
    size: int,
    *,
    parity: bool,
    order: torch.Generator | None = None,
) -> Iterator[Batch]:
    """Yield batches of `size` in the given order, or shuffled by `order`."""
    index = (
        list(range(len(items)))
        if order is None
        else torch.randperm(len(items), generator=order).tolist()
    )
    for start in range(0, len(index), size):
        yield collate([items[i] for i in index[start : start + size]], parity=parity)
