"""Batches, and where they come from: the same clips and draws whatever ranks and workers there are.

A step's clips are places in the epoch's order; rank and micro-batch take slices of them. What is
random about a clip is drawn from the stream of (seed, epoch, place), in the worker that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from mambabench.errors import DataError, MambabenchError, ProtocolError
from mambabench.train.orders import Order, part_of
from mambabench.train.ranks import Ranks
from mambabench.train.state import seeded

__all__ = [
    "Batch",
    "ClipBatches",
    "Epochs",
    "Item",
    "LoaderSource",
    "Place",
    "Source",
    "Step",
    "collate",
    "first_of",
    "moved",
]


class Place(NamedTuple):
    """Where a clip stands: the key of its randomness."""

    epoch: int  # from 0
    place: int  # in the epoch's order
    clip: int  # in the list of clips


class Item(NamedTuple):
    """One clip as the reader returns it."""

    inputs: torch.Tensor
    target: torch.Tensor | None
    draws: Mapping[str, torch.Tensor]  # fed to the objective, one row per clip
    name: str


@dataclass(frozen=True)
class Batch:
    """Clips that go through the model together."""

    inputs: Any  # [n, ...], or whatever of tensors the model's forward takes
    targets: torch.Tensor | None  # [n, ...]
    draws: Mapping[str, torch.Tensor]  # name -> [n, ...]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs if self.targets is None else self.targets)

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        if device == "cpu":
            return self
        return replace(
            self,
            inputs=moved(self.inputs, device),
            targets=None if self.targets is None else self.targets.to(device, non_blocking=True),
            draws={k: v.to(device, non_blocking=True) for k, v in self.draws.items()},
        )


def moved(value: Any, device: str) -> Any:
    """Return a tensor, or a (named) tuple of such, on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    parts = (moved(part, device) for part in value)
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


class Step(NamedTuple):
    """One optimiser step's share of this rank."""

    n_clips: int  # of all ranks
    parts: list[Batch]  # micro-batches of this rank
    counts: list[int]  # clips of each part that count; 0 for the stand-in of a rank without any


BatchSteps = Generator[Step, None, None]  # closed where its training ends


class Source(Protocol):
    """Where training clips come from."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""

    def steps(self, epoch: int, first: int, ranks: Ranks, accumulate: int) -> BatchSteps:
        """Yield the steps of an epoch (from 0) from step `first` of it on."""


def collate(items: Sequence[Item]) -> Batch:
    """Stack clips; DataError names the one whose shape is not that of the first."""
    shape = items[0].inputs.shape
    for item in items:
        if item.inputs.shape != shape:
            raise DataError(
                f"clip {item.name} is {list(item.inputs.shape)}, the first of its batch "
                f"{list(shape)}: they cannot go through the model together"
            )
    targets = [item.target for item in items if item.target is not None]
    return Batch(
        torch.stack([item.inputs for item in items]),
        torch.stack(targets) if targets else None,
        {key: torch.stack([item.draws[key] for item in items]) for key in items[0].draws},
        tuple(item.name for item in items),
    )


class ClipBatches(Dataset[Any]):
    """Runs `read` in a worker; an error of ours comes back as a value, whole."""

    def __init__(self, read: Callable[[Place], Item]) -> None:
        self.read = read

    def __getitems__(self, places: Sequence[Place]) -> list[Batch | MambabenchError]:
        try:
            return [collate([self.read(place) for place in places])]
        except MambabenchError as error:
            return [error]


def first_of(found: list[Any]) -> Any:
    """Return the batch that a worker has collated itself."""
    return found[0]


@dataclass(frozen=True)
class LoaderSource:
    """Clips read by worker processes ahead of the step.

    order: epoch -> clip indices of the whole epoch. `drop_last`: a short last batch is left out.
    """

    order: Callable[[int], Order]
    read: Callable[[Place], Item]
    n_places: int  # length of every order
    batch_size: int  # of all ranks together
    drop_last: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        if self.steps_per_epoch == 0:
            raise DataError(
                f"{self.n_places} clips do not fill one batch of {self.batch_size}: use a smaller "
                "batch_size or more clips"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        whole = self.n_places // self.batch_size
        return whole if self.drop_last else -(-self.n_places // self.batch_size)

    def steps(self, epoch: int, first: int, ranks: Ranks, accumulate: int) -> BatchSteps:
        """Yield the steps of an epoch from step `first` of it on, for one rank."""
        check_division(self.batch_size, ranks.world, accumulate)
        order = self.order(epoch)
        n_parts = ranks.world * accumulate
        groups: list[list[Place]] = []
        counts: list[list[int]] = []
        for step in range(first, self.steps_per_epoch):
            begin = step * self.batch_size
            n = min(self.batch_size, len(order) - begin)
            parts = (part_of(n, ranks.rank * accumulate + m, n_parts) for m in range(accumulate))
            mine = [range(begin + p.start, begin + p.stop) for p in parts if p.stop > p.start]
            counts.append([len(places) for places in mine] or [0])
            # a rank without clips in a short last step takes part with one that does not count
            for places in mine or [range(begin, begin + 1)]:
                groups.append([Place(epoch, p, int(order[p])) for p in places])
        loader = iter(self._loader(groups))
        for step, own in zip(range(first, self.steps_per_epoch), counts, strict=True):
            n = min(self.batch_size, len(order) - step * self.batch_size)
            yield Step(n, [_raised(next(loader)) for _ in own], own)

    def _loader(self, groups: list[list[Place]]) -> DataLoader[Any]:
        return DataLoader(
            ClipBatches(self.read),
            batch_sampler=groups,
            num_workers=self.workers,
            collate_fn=first_of,
            prefetch_factor=4 if self.workers else None,
            pin_memory=torch.cuda.is_available(),
        )


@dataclass(frozen=True)
class Epochs:
    """Batches that are at hand: `batches(epoch)` gives the `steps_per_epoch` batches of an epoch.

    Torch's generators start every epoch from (seed, epoch) and run through it, so such a training
    continues from the end of an epoch only, on one rank.
    """

    batches: Callable[[int], Iterable[Batch]]
    steps_per_epoch: int
    seed: int = 0

    def steps(self, epoch: int, first: int, ranks: Ranks, accumulate: int) -> BatchSteps:
        """Yield the steps of an epoch; ProtocolError for anything but a whole one on one rank."""
        if first or ranks.world > 1 or accumulate > 1:
            raise ProtocolError("this training goes epoch by epoch, on one rank")
        n = 0
        with seeded(self.seed, "epoch", epoch):
            for batch in self.batches(epoch):
                n += 1
                yield Step(len(batch), [batch], [len(batch)])
        if n != self.steps_per_epoch:
            raise ProtocolError(f"epoch {epoch} has {n} batches, not {self.steps_per_epoch}")


def _raised(found: Batch | MambabenchError) -> Batch:
    if isinstance(found, MambabenchError):
        raise found
    return found


def check_division(batch_size: int, world: int, accumulate: int) -> None:
    """Raise ProtocolError where ranks and micro-batches do not divide the batch evenly."""
    if batch_size % (world * accumulate):
        near = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
        shown = ", ".join(str(n) for n in near[:12])
        raise ProtocolError(
            f"a batch of {batch_size} clips does not divide into {world} ranks x {accumulate} "
            f"micro-batches; their product must be one of {shown}"
        )
