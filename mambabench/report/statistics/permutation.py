"""Paired permutation tests of metrics that are no sums over clips: whole clips change sides.

Under the null hypothesis two encoders' predictions of a clip are as likely to be the other's. Both
sides of an exchange are scored again, and p is the share of exchanges whose difference is at least
the observed one. Small p-values come from draws that are steered towards large differences and
weighted back, with Harrison's correction, which keeps them valid (Biometrika 99, 2012, equation 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mambabench.report.statistics.swaps import Exchange

__all__ = ["ExchangeTest", "exchange_test"]

Array = npt.NDArray[Any]
_MOST_UNITS = 15  # all exchanges of so few units are tried: at most 2^14, one side being the other
_FIRST = 255  # random exchanges that settle what is far from significant
_SETTLED = 32  # so many of them as extreme as the data: p is above .1, and no more are drawn
_FEWEST, _MOST = 255, 4_999  # steered exchanges
_WORK = 2e9  # elementary steps that one test may take before it draws fewer
_BATCH = 256
_SCORED = 4_000_000  # exchanges times units that are scored at once
_KEPT_BYTES = 64_000_000  # random numbers of a task that are kept for its next pair
_STRENGTHS = (0.0, 1.5, 3.0, 5.0, 7.5, 11.0, 16.0, 23.0, 32.0)  # of the steering, in deviations
_SIGNED = (*_STRENGTHS, *(-z for z in _STRENGTHS[1:]))


class ExchangeTest(NamedTuple):
    """The p-value and the number of exchanges that it rests on."""

    p: float
    n_permutations: int
    n_moving: int | None = None  # units that differ in what the metric sees; None: not counted


def exchange_test(folds: Sequence[tuple[Exchange, Array]], n_units: int, key: str) -> ExchangeTest:
    """Test two encoders, two-sided, from each fold's exchange and the unit of each of its clips.

    Units (clips or clusters) change sides as wholes; the score is the mean over folds. `key`, 32
    hex digits or more, seeds the draws. An exchange that leaves a score undefined counts as
    extreme. Up to fifteen units, all exchanges are tried and p is exact.
    """
    moving = [units[one.moves()] for one, units in folds]
    return _tested(folds, n_units, key)._replace(n_moving=len(np.unique(np.concatenate(moving))))


def _tested(folds: Sequence[tuple[Exchange, Array]], n_units: int, key: str) -> ExchangeTest:
    work = sum(one.work for one, _ in folds)
    if n_units <= _MOST_UNITS and work * 2 ** (n_units - 1) <= 10 * _WORK:
        return _Test(folds, n_units).every()
    draws = _draws(key, n_units)
    test = _Test(folds, n_units, draws.first())
    if test.hits >= _SETTLED:
        return ExchangeTest((test.hits + 1) / (_FIRST + 1), _FIRST)
    n = int(np.clip(_WORK / work, _FEWEST, _MOST))
    return ExchangeTest(test.steered(draws, n), n)


class _Steered(NamedTuple):
    """Draws whose unit i stays with probability 1 / (1 + exp(-2 z u_i)), whatever the slopes u.

    Solved for u_i: it stays where its slope is above a limit, or, where z < 0, below.
    """

    limits: Array  # [n_units, n] float64
    n_above: int  # so many columns have z >= 0; they come first

    def into(self, stays: Array, slopes: Array) -> None:
        """Write which units stay: bool [n_units, n]."""
        own, n = slopes[:, None], self.n_above
        np.greater(own, self.limits[:, :n], out=stays[:, :n])
        np.less(own, self.limits[:, n:], out=stays[:, n:])


class _SharedDraws:
    """Random numbers for tests of one task: all of its pairs take the same."""

    def __init__(self, key: str, n_units: int) -> None:
        self._seed = [int(key[:32], 16), 2]
        self._n_units = n_units
        self._first: Array | None = None
        self._kept: dict[int, list[_Steered]] = {}

    def first(self) -> Array:
        """Return random exchanges uint8 [n_units, _FIRST]."""
        if self._first is None:
            self._first = self._start()[1]
        return self._first

    def _start(self) -> tuple[np.random.Generator, Array]:
        rng = np.random.default_rng(self._seed)
        return rng, rng.integers(0, 2, (self._n_units, _FIRST), np.uint8)

    def steered(self, n: int) -> Iterable[_Steered]:
        """Yield `n` draws in batches."""
        if n in self._kept:
            return self._kept[n]
        if 8 * n * self._n_units > _KEPT_BYTES:
            return self._steered(n)
        self._kept = {n: list(self._steered(n))}
        return self._kept[n]

    def _steered(self, n: int) -> Iterator[_Steered]:
        rng, _ = self._start()
        signed = np.array(_SIGNED)
        for start in range(0, n, _BATCH):
            size = min(_BATCH, n - start)
            strength = signed[rng.integers(0, len(signed), size)]
            uniform = rng.random((self._n_units, size))
            order = np.argsort(strength < 0, kind="stable")
            strength, uniform = strength[order], uniform[:, order]
            with np.errstate(divide="ignore"):  # 0: as it should be, and strengths of 0
                limits = (np.log(uniform) - np.log1p(-uniform)) / (2 * strength)
            yield _Steered(limits, int((strength >= 0).sum()))


@lru_cache(maxsize=1)
def _draws(key: str, n_units: int) -> _SharedDraws:
    return _SharedDraws(key, n_units)


class _Test:
    """One pair of encoders: differences under exchanges [n_units, n] of zeros and ones."""

    def __init__(
        self, folds: Sequence[tuple[Exchange, Array]], n_units: int, first: Array | None = None
    ) -> None:
        self.folds = folds
        self.n_units = n_units
        stay = np.ones((n_units, 1), np.uint8)
        # scored as one: together they fill the lanes of the kernels
        kept = stay if first is None else np.concatenate([stay, first], axis=1)
        found = np.abs(self.differences(kept))
        observed = float(found[0])
        # what is equal but for rounding is equal: it would decide ties at random
        rounding = 1e-11 * max(1.0, observed) if np.isfinite(observed) else 0.0
        self.threshold = observed - rounding
        self.hits = int((~(found[1:] < self.threshold)).sum())  # of the first exchanges

    def differences(self, kept: Array) -> Array:
        total = np.zeros(kept.shape[1])
        with np.errstate(invalid="ignore"):  # inf - inf: undefined
            for one, units in self.folds:
                first, second = one.sides(kept[units])
                total += first - second
        return total / len(self.folds)

    def extreme(self, kept: Array) -> Array:
        return np.asarray(~(np.abs(self.differences(kept)) < self.threshold))

    def every(self) -> ExchangeTest:
        """Try all exchanges; one and its opposite have opposite differences."""
        count = 2 ** (self.n_units - 1)
        numbers = np.arange(count)
        hits = 0
        for start in range(0, count, 8 * _BATCH):
            chosen = numbers[start : start + 8 * _BATCH]
            kept = 1 - (chosen[None] >> np.arange(self.n_units)[:, None] & 1).astype(np.uint8)
            hits += int(self.extreme(kept).sum())
        return ExchangeTest(hits / count, 2 * count)

    def steered(self, draws: _SharedDraws, n: int) -> float:
        """Return Harrison's p-value from `n` draws of a mixture of steered exchanges.

        Unit i stays with probability 1 / (1 + exp(-2 z u_i)), u_i its slope in deviations of the
        sum of randomly signed slopes, z drawn from `_STRENGTHS` and their negatives. The mixture
        follows from the pooled predictions alone, which is what makes the p-value valid.
        """
        slopes = np.zeros(self.n_units)
        for one, units in self.folds:
            slopes += np.bincount(units, one.slopes(), self.n_units)
        spread = float(np.sqrt((slopes**2).sum()))
        slopes = slopes / spread if spread > 0 else slopes
        strengths = np.array(_SIGNED)
        log_cosh = _log_cosh(slopes, strengths)
        sums = slopes @ np.ones((self.n_units, 1))
        total = float(_weights(sums, strengths, log_cosh)[0])
        batches = iter(draws.steered(n))
        while some := list(islice(batches, max(1, _SCORED // (_BATCH * self.n_units)))):
            ends = np.cumsum([own.limits.shape[1] for own in some])
            stays = np.empty((self.n_units, ends[-1]), bool)
            parts = np.split(stays, ends[:-1], axis=1)
            for own, part in zip(some, parts, strict=True):
                own.into(part, slopes)
            extreme = self.extreme(stays.view(np.uint8))
            # batch by batch, so that sums are rounded alike for any `_SCORED`
            sums = np.concatenate([slopes @ part.astype(np.float64) for part in parts])
            weights = _weights(2 * sums - slopes.sum(), strengths, log_cosh)
            for own, hits in zip(
                *(np.split(x, ends[:-1]) for x in (weights, extreme)), strict=True
            ):
                total += float(own[hits].sum())
        return min(1.0, total / (n + 1))


def _log_cosh(slopes: Array, strengths: Array) -> Array:
    """Return the sum over units of log cosh(z u), per strength z."""
    steer = np.abs(np.outer(strengths, slopes))
    return np.asarray((steer + np.log1p(np.exp(-2 * steer)) - np.log(2)).sum(axis=1))


def _weights(sums: Array, strengths: Array, log_cosh: Array) -> Array:
    """Return how much likelier exchanges are at random than steered: [n].

    sums [n]: the slopes of what stays, less those of what changes sides.
    """
    from scipy.special import logsumexp

    log_ratio = np.outer(strengths, sums) - log_cosh[:, None]
    return np.asarray(np.exp(np.log(len(strengths)) - logsumexp(log_ratio, axis=0)))
