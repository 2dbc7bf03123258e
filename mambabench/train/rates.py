"""Learning rates of the four systems, set before the forward of a step (steps count from 0).

A `Rates` object writes into its optimiser's groups, whose rates are its memory: a decay multiplies
what stands there, a warm-up may write over it. Sources: the authors' training code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

__all__ = [
    "Constant",
    "Cosine",
    "EpicRates",
    "Milestones",
    "Plateau",
    "Rates",
    "Stairs",
    "cosine_rate",
    "epic_rate",
    "milestones",
]


class Rates(Protocol):
    """How the loop drives a schedule; `snapshot` and `restore` are for continuing a run."""

    def before_step(self, step: int) -> None:
        """Set the rates of step `step` of the whole run."""

    def after_epoch(self, epoch: int) -> None:
        """Note that epoch `epoch` (from 1) has ended."""

    def after_evaluation(self, score: float) -> None:
        """Note an evaluation's score, higher is better."""

    def snapshot(self) -> dict[str, Any]:
        """Return everything that must survive, as JSON."""

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Put back what `snapshot` returned."""


class _Kept:
    """What every schedule shares: the optimiser's groups and their first rates."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        self.peaks = [float(group["lr"]) for group in self.groups]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups as they are now: loading a state makes new ones."""
        return self._optimiser.param_groups

    def before_step(self, step: int) -> None:
        """Change nothing."""

    def after_epoch(self, epoch: int) -> None:
        """Change nothing."""

    def after_evaluation(self, score: float) -> None:
        """Change nothing."""

    def write(self, rates: Sequence[float]) -> None:
        """Give each group its rate."""
        for group, rate in zip(self.groups, rates, strict=True):
            group["lr"] = rate

    def snapshot(self) -> dict[str, Any]:
        """Return the rates as they are."""
        return {"rates": [float(group["lr"]) for group in self.groups]}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Put the rates back."""
        self.write(kept["rates"])


class Constant(_Kept):
    """The first rates throughout; with `fresh` the optimiser forgets its moments every epoch."""

    def __init__(self, optimiser: torch.optim.Optimizer, *, fresh: bool = False) -> None:
        super().__init__(optimiser)
        self.fresh = fresh

    def after_epoch(self, epoch: int) -> None:
        """Make the optimiser as good as a new one, where wanted."""
        if self.fresh:
            self._optimiser.state.clear()


def cosine_rate(
    x: float, peak: float, floor: float = 0.0, warmup: float = 10, epochs: float = 100
) -> float:
    """Return SSAM's rate at `x` epochs: linear up to `peak`, then half a cosine to `floor`."""
    if x < warmup:
        return peak * x / warmup
    share = (x - warmup) / (epochs - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * share)) / 2


class Cosine(_Kept):
    """SSAM's schedule. The fraction of an epoch starts anew in each, so nothing drifts."""

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        steps_per_epoch: int,
        *,
        floor: float = 0.0,
        warmup: float = 10,
        epochs: int = 100,
    ) -> None:
        super().__init__(optimiser)
        self.n, self.floor, self.warmup, self.epochs = steps_per_epoch, floor, warmup, epochs

    def before_step(self, step: int) -> None:
        """Set the rate of `step`."""
        x = step // self.n + step % self.n / self.n
        self.write([cosine_rate(x, p, self.floor, self.warmup, self.epochs) for p in self.peaks])


class Stairs(_Kept):
    """A warm-up in stairs that writes over whatever stood there, as SSAMBA and AuM have it.

    At steps 0, `stair`, 2 `stair`, ... up to `length` a group's rate becomes its peak times
    step / length; in between it is left alone.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        warmup: bool = True,
        length: int = 1000,
        stair: int = 50,
    ) -> None:
        super().__init__(optimiser)
        self.warmup, self.length, self.stair = warmup, length, stair

    def before_step(self, step: int) -> None:
        """Climb a stair where one begins."""
        if self.warmup and step <= self.length and step % self.stair == 0:
            self.write([step / self.length * peak for peak in self.peaks])


class Plateau(Stairs):
    """Stairs, then a factor whenever the score has not improved for `patience` + 1 evaluations.

    Improvement means above best * (1 + 1e-4) for a positive best, as torch's ReduceLROnPlateau
    reckons in mode "max" with a relative threshold.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        warmup: bool = True,
        factor: float = 0.5,
        patience: int = 2,
    ) -> None:
        super().__init__(optimiser, warmup=warmup)
        self.factor, self.patience = factor, patience
        self.best, self.bad = -math.inf, 0

    def after_evaluation(self, score: float) -> None:
        """Count evaluations without improvement and lower the rates when there are too many."""
        better = math.isinf(self.best) or score > self.best * (1 + 1e-4)
        if better:
            self.best, self.bad = score, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.write([self._lowered(group["lr"]) for group in self.groups])
            self.bad = 0

    def _lowered(self, rate: float) -> float:
        new = rate * self.factor
        return new if rate - new > 1e-8 else rate  # torch ignores smaller changes

    def snapshot(self) -> dict[str, Any]:
        """Return rates, best score and the evaluations since."""
        best = None if math.isinf(self.best) else self.best
        return {**super().snapshot(), "best": best, "bad": self.bad}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Put rates and counts back."""
        super().restore(kept)
        self.best = -math.inf if kept["best"] is None else kept["best"]
        self.bad = kept["bad"]


def milestones(start: int, step: int, epochs: int) -> list[int]:
    """Return the epochs (from 1) after which the rates decay."""
    return [e for e in range(1, epochs + 1) if e >= start and (e - start) % step == 0]


class Milestones(Stairs):
    """Stairs if wanted, and a factor after epoch `start` and every `step` epochs from there.

    As published the factor multiplies whatever the rate is then, also in the middle of the stairs,
    and the next stair writes over it. With `after_warmup` (the sound mode) decays that fall into
    the warm-up count from the peak: a stair is multiplied by the decays so far.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        start: int,
        step: int,
        factor: float,
        warmup: bool = False,
        length: int = 1000,
        stair: int = 50,
        after_warmup: bool = False,
    ) -> None:
        super().__init__(optimiser, warmup=warmup, length=length, stair=stair)
        self.start, self.step, self.factor = start, step, factor
        self.after_warmup, self.decays = after_warmup, 0

    def before_step(self, step: int) -> None:
        """Climb a stair where one begins."""
        if not self.after_warmup:
            super().before_step(step)
        elif self.warmup and step <= self.length:
            # every step counts, and the decays so far are kept
            share = step / self.length * self.factor**self.decays
            self.write([share * peak for peak in self.peaks])

    def after_epoch(self, epoch: int) -> None:
        """Decay after the epochs that call for it."""
        if epoch >= self.start and (epoch - self.start) % self.step == 0:
            self.decays += 1
            self.write([group["lr"] * self.factor for group in self.groups])

    def snapshot(self) -> dict[str, Any]:
        """Return rates and decays."""
        return {**super().snapshot(), "decays": self.decays}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Put rates and decays back."""
        super().restore(kept)
        self.decays = kept["decays"]


def epic_rate(step: int, n: int, peak: float) -> float:
    """Return the rate of AuM's EPIC-SOUNDS warm-up: from 0.01 to 1 times `peak` in 2 epochs of `n`
    steps."""
    if step >= 2 * n:
        return peak
    return 0.01 * peak + step * 0.99 * peak / (2 * n)


class EpicRates(_Kept):
    """AuM's EPIC-SOUNDS schedule: two linear epochs, then x 0.05 from epoch 10, x 0.01 from 20.

    As published, with the warm-up on, its branch sets the rate at every step, so that the decay
    never shows; with `decay` it does.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        steps_per_epoch: int,
        *,
        warmup: bool = True,
        decay: bool = False,
    ) -> None:
        super().__init__(optimiser)
        self.n, self.warmup, self.decay = steps_per_epoch, warmup, decay

    def before_step(self, step: int) -> None:
        """Set the rate of `step`."""
        epoch = step // self.n
        factor = 1.0 if epoch < 10 else 0.05 if epoch < 20 else 0.01
        if self.warmup:
            rates = [epic_rate(step, self.n, peak) for peak in self.peaks]
            self.write([r * factor for r in rates] if self.decay else rates)
        else:
            self.write([peak * factor for peak in self.peaks])
