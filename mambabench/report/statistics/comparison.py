"""Compare encoders on the same clips and seeds, and correct for how often that is done."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.files import canonical_json, read_json, write_json
from mambabench.report.cache import keep
from mambabench.report.results import Group
from mambabench.report.statistics.evidence import Evidence
from mambabench.report.statistics.intervals import flip_test, swap_test
from mambabench.report.statistics.resampling import N_PERMUTATIONS
from mambabench.report.statistics.scoring import score_of_counts

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Two encoders on the same task, clips and seeds: `difference` is `encoder` minus `other`."""

    task: str
    protocol: str
    metric: str
    encoder: str
    other: str
    difference: float | None
    boot_low: float | None  # paired percentile bootstrap of the difference
    boot_high: float | None
    p: float | None  # two-sided paired permutation test
    p_holm: float | None  # corrected over the pairs of this task and protocol
    p_report: float | None = field(default=None, kw_only=True)  # over all tasks of the protocol
    common: str | None = field(default=None, kw_only=True)  # seeds and clips, if not all of both
    reason: str | None


def compare(
    groups: Sequence[Group],
    evidence: dict[Group, Evidence],
    baseline: str | None,
    cache: Path | None,
) -> list[Comparison]:
    """Compare every pair of encoders on each task, or every encoder with the baseline.

    P-values are as they stand: `families.corrected` fills in the corrected ones. They are kept in
    `cache`, named by the content of what they follow from.
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
    p_values = dict(zip(testable, _p_values(testable, evidence, cache), strict=True))
    intervals = dict(zip(testable, _intervals(testable, evidence), strict=True))
    means = {group: _mean(group) for pair in pairs for group in pair}
    result = []
    for pair in pairs:
        one, other = pair
        a, b = means[one], means[other]
        low, high = intervals.get(pair, (None, None))
        result.append(
            Comparison(
                task=one.task,
                protocol=one.protocol,
                metric=one.metric,
                encoder=one.encoder,
                other=other.encoder,
                difference=None if a is None or b is None else a - b,
                boot_low=low,
                boot_high=high,
                p=p_values.get(pair),
                p_holm=None,
                reason=reasons[pair],
            )
        )
    return result


def _mean(group: Group) -> float | None:
    """Mean over seeds, as in the group's row; None where a seed has no score."""
    scores = [run.record.score for run in group.runs]
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if len(known) == len(scores) else None


def _intervals(
    pairs: Sequence[tuple[Group, Group]], evidence: dict[Group, Evidence]
) -> list[tuple[float | None, float | None]]:
    """Return the percentile intervals of the differences of comparable pairs, all at once."""
    if not pairs:
        return []
    members = list(dict.fromkeys(group for pair in pairs for group in pair))
    position = {group: index for index, group in enumerate(members)}
    table = np.stack([evidence[group].resampled for group in members])  # type: ignore[misc]
    left, right = (np.array([position[pair[side]] for pair in pairs]) for side in (0, 1))
    low, high = np.quantile(table[left] - table[right], [0.025, 0.975], axis=1)
    return [
        (float(a), float(b)) if np.isfinite(a) and np.isfinite(b) else (None, None)
        for a, b in zip(low, high, strict=True)
    ]


def _incomparable(one: Group, other: Group, evidence: dict[Group, Evidence]) -> str | None:
    """Return why two groups cannot be compared clip by clip, or None."""
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
    if a.parts is None or b.parts is None:
        return f"{one.metric} has no finite per-clip parts"
    return None


def _seeds(group: Group) -> str:
    return ",".join(map(str, group.seeds))


def _p_values(
    pairs: Sequence[tuple[Group, Group]], evidence: dict[Group, Evidence], cache: Path | None
) -> list[float]:
    """Return the p-values of comparable pairs of one task, from the cache where it has them."""
    if not pairs:
        return []
    members = list(dict.fromkeys(group for pair in pairs for group in pair))
    content = [N_PERMUTATIONS, [[evidence[a].key, evidence[b].key] for a, b in pairs]]
    key = hashlib.sha256(canonical_json(content)).hexdigest()
    file = cache / f"{key}.json" if cache else None
    if file and file.is_file():
        try:
            stored = [float(value) for value in read_json(file)["p"]]
        except (ValueError, KeyError, TypeError):
            stored = []
        if len(stored) == len(pairs):
            return stored
    position = {group: number for number, group in enumerate(members)}
    index = np.array([[position[a], position[b]] for a, b in pairs])
    p_values: list[float] = [float("nan")] * len(pairs)
    for test_key in {evidence[group].test_key for group in members}:
        chosen = [i for i, (a, _) in enumerate(pairs) if evidence[a].test_key == test_key]
        values = _test(members, index[chosen], evidence, test_key)
        for place, value in zip(chosen, values, strict=True):
            p_values[place] = value
    if file:
        keep(lambda: write_json(file, {"p": p_values}))
    return p_values


def _test(
    members: Sequence[Group],
    index: npt.NDArray[Any],
    evidence: dict[Group, Evidence],
    test_key: str,
) -> list[float]:
    """Test pairs on the same clips: exactly by swapping counts where kept, else by flipping."""
    used = sorted({int(i) for i in index.ravel()})
    position = np.searchsorted(used, index)
    own = [evidence[members[i]] for i in used]
    counts = [one.counts for one in own if one.counts is not None]
    if len(counts) == len(own):
        score = score_of_counts(members[used[0]].metric)
        return [float(p) for p in swap_test(counts, score, position, test_key)]
    parts = np.stack([one.parts for one in own if one.parts is not None], axis=1)
    return [float(p) for p in flip_test(parts, position, test_key)]
