"""Compare encoders on the same clips and seeds, and correct for how often that is done."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from mambabench.benchmarks.metrics import metric_of
from mambabench.benchmarks.metrics.metric import Drawn
from mambabench.errors import MambabenchError
from mambabench.files import canonical_json, read_json, write_bytes
from mambabench.report.cache import keep
from mambabench.report.runs import Group
from mambabench.report.statistics.clip_intervals import FEWEST_UNITS, difference_intervals
from mambabench.report.statistics.drawn import drawn_test
from mambabench.report.statistics.evidence import FENCED, Evidence, described, read_test
from mambabench.report.statistics.intervals import Interval, flip_test
from mambabench.report.statistics.permutation import ExchangeTest, exchange_test
from mambabench.report.statistics.resampling import N_PERMUTATIONS, N_RESAMPLES, TestClips
from mambabench.report.statistics.scoring import Seed
from mambabench.report.statistics.swaps import exchange, prepared
from mambabench.report.versions import other_versions

__all__ = ["Comparison", "compare"]

_VERSION = 5  # of the tests in the cache: raise it when they change


@dataclass(frozen=True)
class Comparison:
    """Two encoders on the same task, clips and seeds: `difference` is `encoder` minus `other`."""

    task: str
    protocol: str
    metric: str
    encoder: str
    other: str
    difference: float | None
    boot_low: float | None  # paired bootstrap interval of the difference, same draws
    boot_high: float | None
    p: float | None  # two-sided paired permutation test
    p_holm: float | None  # corrected over the pairs of this task and protocol
    p_report: float | None = field(default=None, kw_only=True)  # over all tasks of the protocol
    common: str | None = field(default=None, kw_only=True)  # seeds and clips, if not all of both
    reason: str | None
    n_permutations: int | None = None  # that p rests on
    n_units: int | None = None  # clips or clusters that could change sides
    n_moving: int | None = None  # those that differ in what the metric sees; None: not counted

    @property
    def too_few(self) -> str | None:
        """Say that what differs is too little for a verdict at .05: the pair is no tie either."""
        if self.reason or self.n_moving is None or self.n_moving >= FEWEST_UNITS:
            return None
        return f"too few clips to separate: {self.n_moving} of {self.n_units} differ"


def compare(
    groups: Sequence[Group],
    evidence: dict[Group, Evidence],
    baseline: str | None,
    cache: Path | None,
) -> list[Comparison]:
    """Compare every pair of encoders on each task, or every encoder with the baseline.

    P-values are as they stand: `families.corrected` fills in the corrected ones. Tests are kept in
    `cache`, named by the content of what they follow from. A test that fails is a reason in its
    pairs, and no others'.
    """
    result: list[Comparison] = []
    by_protocol: dict[str, dict[str, list[Group]]] = {}
    for group in groups:
        by_protocol.setdefault(group.protocol, {}).setdefault(group.task, []).append(group)
    for tasks in by_protocol.values():
        for own in tasks.values():
            pairs = [
                (a, b) if b.encoder == baseline or baseline is None else (b, a)
                for a, b in itertools.combinations(own, 2)
                if baseline is None or baseline in (a.encoder, b.encoder)
            ]
            result += _compare_task(pairs, evidence, cache)
    return result


def _compare_task(
    pairs: Sequence[tuple[Group, Group]], evidence: dict[Group, Evidence], cache: Path | None
) -> list[Comparison]:
    reasons = {pair: _incomparable(*pair, evidence) for pair in pairs}
    testable = [pair for pair in pairs if reasons[pair] is None]
    failure = None
    try:
        tests = dict(zip(testable, _tests(testable, evidence, cache), strict=True))
    except FENCED as error:
        failure = f"the comparison failed: {described(error)}"
        tests = {}
    intervals = dict(zip(testable, _intervals(testable, evidence), strict=True))
    result = []
    for pair in pairs:
        one, other = pair
        interval = intervals.get(pair)
        result.append(
            Comparison(
                task=one.task,
                protocol=one.protocol,
                metric=one.metric,
                encoder=one.encoder,
                other=other.encoder,
                difference=None if other_versions(one, other) else _difference(one, other),
                boot_low=interval.low if interval else None,
                boot_high=interval.high if interval else None,
                p=tests[pair].p if pair in tests else None,
                p_holm=None,
                reason=reasons[pair] or failure or _too_few(evidence[one]),
                n_permutations=tests[pair].n_permutations if pair in tests else None,
                n_units=_n_units(evidence[one]) if pair in tests else None,
                n_moving=tests[pair].n_moving if pair in tests else None,
            )
        )
    return result


def _n_units(evidence: Evidence) -> int:
    return evidence.units.n if evidence.units else 0


def _too_few(evidence: Evidence) -> str | None:
    """Say that so few units cannot be told apart at .05, whatever their scores."""
    n = _n_units(evidence)
    if n >= FEWEST_UNITS:
        return None
    kind = "clusters" if evidence.units and evidence.units.clustered else "clips"
    return f"too few {kind} to separate: with {n} no p-value is below {2.0 ** (1 - n):.4g}"


def _difference(one: Group, other: Group) -> float | None:
    a, b = _mean(one), _mean(other)
    return None if a is None or b is None else a - b


def _mean(group: Group) -> float | None:
    """Mean over seeds, as in the group's row; None where a seed has no score."""
    scores = [run.record.score for run in group.runs]
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if len(known) == len(scores) else None


def _intervals(
    pairs: Sequence[tuple[Group, Group]], evidence: dict[Group, Evidence]
) -> list[Interval | None]:
    """Return the intervals of the differences of comparable pairs of one task, all at once."""
    if not pairs:
        return []
    members = list(dict.fromkeys(group for pair in pairs for group in pair))
    position = {group: index for index, group in enumerate(members)}
    table = np.stack([evidence[group].resampled for group in members])  # type: ignore[misc]
    left, right = (np.array([position[pair[side]] for pair in pairs]) for side in (0, 1))
    observed = np.array([_difference(*pair) for pair in pairs], np.float64)
    result: list[Interval | None] = [None] * len(pairs)
    for units in {evidence[one].units for one, _ in pairs}:
        chosen = np.array([i for i, (one, _) in enumerate(pairs) if evidence[one].units == units])
        if units is not None:
            own = table[left[chosen]] - table[right[chosen]]
            found = difference_intervals(own, observed[chosen], units)
            for place, interval in zip(chosen, found, strict=True):
                result[int(place)] = interval
    return result


def _incomparable(one: Group, other: Group, evidence: dict[Group, Evidence]) -> str | None:
    """Return why two groups cannot be compared clip by clip, or None."""
    if versions := other_versions(one, other):
        return versions
    a, b = evidence[one], evidence[other]
    for group, own in ((one, a), (other, b)):
        if own.reason:
            return f"{group.encoder}: {own.reason}"
    if one.metric != other.metric:
        return f"different metrics: {one.metric} and {other.metric}"
    if one.seeds != other.seeds:
        return f"different seeds: {_seeds(one)} and {_seeds(other)}"
    if a.test_key != b.test_key:
        return "different test clips"
    return None


def _seeds(group: Group) -> str:
    return ",".join(map(str, group.seeds))


def _tests(
    pairs: Sequence[tuple[Group, Group]], evidence: dict[Group, Evidence], cache: Path | None
) -> list[ExchangeTest]:
    """Return the tests of comparable pairs of one task, from the cache where it has them.

    A file holds the tests of one metric on the same clips, pair by pair: a new encoder costs its
    own pairs only.
    """
    result: dict[tuple[Group, Group], ExchangeTest] = {}
    for kind in sorted({(evidence[one].test_key, one.metric) for one, _ in pairs}):
        own = [p for p in pairs if (evidence[p[0]].test_key, p[0].metric) == kind]
        key = hashlib.sha256(canonical_json([_VERSION, N_PERMUTATIONS, *kind])).hexdigest()
        file = cache / f"{key}.json" if cache else None
        stored = _stored(file) if file else {}
        names = {pair: _pair_name(*pair, evidence) for pair in own}
        new = [pair for pair in own if names[pair] not in stored]
        if new:
            found = _test(new, evidence, kind[0])
            stored |= {names[pair]: one for pair, one in zip(new, found, strict=True)}
            if file:
                tests = {name: list(one) for name, one in stored.items()}
                keep(partial(write_bytes, file, canonical_json({"tests": tests}), durable=False))
        result |= {pair: stored[names[pair]] for pair in own}
    return [result[pair] for pair in pairs]


def _pair_name(one: Group, other: Group, evidence: dict[Group, Evidence]) -> str:
    """Name a pair by the content of both: half of their hashes is enough to tell them apart."""
    return f"{evidence[one].key[:32]} {evidence[other].key[:32]}"


def _stored(file: Path) -> dict[str, ExchangeTest]:
    """Read cached tests by pair; none where there is no file or it is damaged."""
    if not file.is_file():
        return {}
    try:
        tests = read_json(file)["tests"].items()
        return {
            name: ExchangeTest(float(p), int(n), None if moving is None else int(moving))
            for name, (p, n, moving) in tests
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _test(
    pairs: Sequence[tuple[Group, Group]], evidence: dict[Group, Evidence], test_key: str
) -> list[ExchangeTest]:
    """Test pairs on the same clips: sums over clips by their parts, others by exchanging clips."""
    if isinstance(metric_of(pairs[0][0].metric).statistic, Drawn):
        return [_drawn_test(one, other, evidence) for one, other in pairs]
    members = list(dict.fromkeys(group for pair in pairs for group in pair))
    parts = [own for group in members if (own := evidence[group].parts) is not None]
    if len(parts) == len(members):
        position = {group: number for number, group in enumerate(members)}
        index = np.array([[position[a], position[b]] for a, b in pairs])
        table = np.stack(parts, axis=1)
        p_values = flip_test(table, index, test_key)
        n = min(N_PERMUTATIONS + 1, 2 ** min(len(table), 60))
        moving = [
            int(
                (~np.isclose(table[:, a], table[:, b], rtol=1e-9, atol=0.0)).sum()
            )  # but for rounding
            for a, b in index
        ]
        return [ExchangeTest(float(p), n, m) for p, m in zip(p_values, moving, strict=True)]
    predictions = _PredictionCache()
    found = []
    for one, other in pairs:
        (test, first), (_, second) = predictions.of(one), predictions.of(other)
        folds = [
            (exchange(one.metric, a, b), units)
            for a, b, units in zip(first, second, test.unit_of, strict=True)
        ]
        found.append(exchange_test(folds, test.n_units, test_key))
    return found


def _drawn_test(one: Group, other: Group, evidence: dict[Group, Evidence]) -> ExchangeTest:
    """Test one pair from the draws that both share."""
    a, b = evidence[one], evidence[other]
    difference = _difference(one, other)
    if a.resampled is None or b.resampled is None or a.units is None or difference is None:
        raise MambabenchError("no drawn scores to compare")
    p = drawn_test(a.resampled - b.resampled, difference, a.units)
    if p is None:
        raise MambabenchError("too few draws in which both encoders have a score")
    return ExchangeTest(p, N_RESAMPLES)


_Read = tuple[TestClips, list[list[Seed]]]  # the clips and, per fold and seed, what is compared


class _PredictionCache:
    """The predictions last read, up to a limit in bytes: an encoder stands in many pairs."""

    def __init__(self, most_bytes: int = 1_000_000_000) -> None:
        self._most = most_bytes
        self._read: dict[Group, _Read] = {}
        self._bytes: dict[Group, int] = {}

    def of(self, group: Group) -> _Read:
        found = self._read.pop(group, None) or self._prepared(group)
        self._read[group] = found  # the last used stands last
        seeds = (array for fold in found[1] for seed in fold for array in seed.values())
        self._bytes[group] = sum(array.nbytes for array in seeds)
        while sum(self._bytes.values()) > self._most and len(self._read) > 2:
            oldest = next(iter(self._read))
            del self._read[oldest], self._bytes[oldest]
        return found

    def _prepared(self, group: Group) -> _Read:
        test, folds = read_test(group)
        return test, [[prepared(group.metric, seed) for seed in fold] for fold in folds]
