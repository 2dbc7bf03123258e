"""Event metrics against brute force, and the way from frame probabilities to events."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import median_filter

from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.metrics.events import (
    Events,
    events_of_clips,
    frame_targets,
    label_counts,
    match_counts,
    segment_counts,
)
from mambabench.benchmarks.metrics.frames import events_from_probabilities, median_filter_active
from mambabench.benchmarks.task import Clip, Event

EVENT = [name for name, metric in METRICS.items() if metric.kind == "event"]
SPEC = {
    "event_onset_200ms_fms": (0.2, False),
    "event_onset_50ms_fms": (0.05, False),
    "event_onset_offset_50ms_20perc_fms": (0.05, True),
}


def random_events(
    rng: np.random.Generator, n_clips: int, n_events: int, n_labels: int = 2, length_ms: int = 1500
) -> Events:
    """Return events on a 10 ms grid, so that differences of exactly the collar occur."""
    start = rng.integers(0, length_ms // 10, n_events) * 10.0
    return Events(
        n_clips,
        rng.integers(0, n_clips, n_events),
        rng.integers(0, n_labels, n_events),
        start,
        start + rng.integers(0, 60, n_events) * 10.0,
    )


def none(n_clips: int) -> Events:
    return random_events(np.random.default_rng(0), n_clips, 0)


def brute_force_matches(
    reference: Events, predicted: Events, collar_s: float, offset: bool
) -> list[int]:
    """Return the size of a maximum matching per clip by augmenting paths over every pair."""

    def fits(i: int, j: int) -> bool:
        r, p = reference, predicted
        if r.clip[i] != p.clip[j] or r.label[i] != p.label[j]:
            return False
        rs, re = r.start_ms[i] / 1000.0, r.end_ms[i] / 1000.0
        ps, pe = p.start_ms[j] / 1000.0, p.end_ms[j] / 1000.0
        if abs(rs - ps) > collar_s:
            return False
        return not offset or abs(re - pe) <= max(collar_s, 0.2 * (re - rs))

    partner: dict[int, int] = {}

    def augment(i: int, seen: set[int]) -> bool:
        for j in range(len(predicted.clip)):
            if j not in seen and fits(i, j):
                seen.add(j)
                if j not in partner or augment(partner[j], seen):
                    partner[j] = i
                    return True
        return False

    counts = [0] * reference.n_clips
    for i in range(len(reference.clip)):
        counts[int(reference.clip[i])] += augment(i, set())
    return counts


@pytest.mark.parametrize("name", SPEC)
@pytest.mark.parametrize("seed", range(12))
def test_matching_is_optimal(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, predicted = random_events(rng, 3, 60), random_events(rng, 3, 50)
    counts = METRICS[name].counts(reference, predicted)
    expected = brute_force_matches(reference, predicted, *SPEC[name])
    assert counts[:, 0].tolist() == expected
    assert counts[:, 1].tolist() == np.bincount(reference.clip, minlength=3).tolist()
    assert counts[:, 2].tolist() == np.bincount(predicted.clip, minlength=3).tolist()


def test_optimal_is_more_than_greedy() -> None:
    # the nearest prediction of the first reference is the only one of the second
    reference = Events(
        1, np.zeros(2, int), np.zeros(2, int), np.array([0.0, 60]), np.full(2, 200.0)
    )
    predicted = Events(
        1, np.zeros(2, int), np.zeros(2, int), np.array([20.0, -40]), np.full(2, 200.0)
    )
    assert match_counts(reference, predicted, 0.05).tolist() == [[2.0, 2.0, 2.0]]


def brute_force_segments(reference: Events, predicted: Events, clip: int) -> list[float]:
    n_s = n_d = n_i = n_ref = n_pred = n_both = 0

    def of(events: Events) -> list[tuple[int, float, float]]:
        rows = zip(events.clip, events.label, events.start_ms, events.end_ms, strict=True)
        return [(int(k), a / 1000, b / 1000) for c, k, a, b in rows if c == clip]

    ends = [math.ceil(b) for _, _, b in of(reference) + of(predicted)]
    for second in range(max(ends, default=0)):
        active = [
            {k for k, a, b in of(events) if math.floor(a) <= second < math.ceil(b)}
            for events in (reference, predicted)
        ]
        both = len(active[0] & active[1])
        n_ref, n_pred, n_both = n_ref + len(active[0]), n_pred + len(active[1]), n_both + both
        n_s += min(len(active[0]), len(active[1])) - both
        n_d += max(0, len(active[0]) - len(active[1]))
        n_i += max(0, len(active[1]) - len(active[0]))
    return [n_s, n_d, n_i, n_ref, n_pred, n_both]


@pytest.mark.parametrize("seed", range(6))
def test_segments_against_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = random_events(rng, 4, 20, n_labels=4, length_ms=9000)
    predicted = random_events(rng, 4, 25, n_labels=4, length_ms=12000)
    counts = segment_counts(reference, predicted)
    for clip in range(4):
        assert counts[clip].tolist() == brute_force_segments(reference, predicted, clip)


@pytest.mark.parametrize("name", EVENT)
def test_perfect_none_and_empty(name: str) -> None:
    metric = METRICS[name]
    events = random_events(np.random.default_rng(1), 5, 12, n_labels=5, length_ms=60000)
    perfect, worst = (1.0, math.nan) if metric.higher_is_better else (0.0, 1.0)
    assert metric.score(metric.counts(events, events).sum(0)) == perfect
    nothing = metric.score(metric.counts(events, none(5)).sum(0))
    assert nothing == worst or (math.isnan(worst) and math.isnan(nothing))
    assert math.isnan(metric.score(metric.counts(none(5), events).sum(0)))
    assert math.isnan(metric.score(metric.counts(none(5), none(5)).sum(0)))
    assert metric.counts(none(0), none(0)).shape[0] == 0


def test_all_wrong_is_zero() -> None:
    reference = Events(1, np.array([0]), np.array([0]), np.array([0.0]), np.array([100.0]))
    predicted = Events(1, np.array([0]), np.array([1]), np.array([0.0]), np.array([100.0]))
    metric = METRICS["event_onset_200ms_fms"]
    assert metric.score(metric.counts(reference, predicted).sum(0)) == 0.0
    errors = METRICS["segment_1s_er"]
    assert errors.score(errors.counts(reference, predicted).sum(0)) == 1.0  # one substitution


def test_parts() -> None:
    counts = np.array([3.0, 4.0, 6.0])  # matched, reference, predicted
    parts = METRICS["event_onset_50ms_fms"].parts(counts)
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(
        {"f_measure": 0.6, "precision": 0.5, "recall": 0.75}
    )
    parts = METRICS["segment_1s_er"].parts(np.array([1.0, 2.0, 3.0, 8.0, 9.0, 5.0]))
    assert float(parts["error_rate"]) == pytest.approx(6 / 8)
    assert float(parts["precision"]) == pytest.approx(5 / 9)


@pytest.mark.parametrize("name", EVENT)
def test_a_bootstrap_is_a_matrix_product(name: str) -> None:
    metric = METRICS[name]
    rng = np.random.default_rng(5)
    reference, predicted = random_events(rng, 6, 40), random_events(rng, 6, 40)
    counts = metric.counts(reference, predicted)
    weights = rng.multinomial(6, np.full(6, 1 / 6), size=20).astype(np.float64)
    scores = metric.score(weights @ counts)
    assert scores.shape == (20,)
    for row, score in zip(weights, scores, strict=True):
        clips = np.repeat(np.arange(6), row.astype(int))
        assert score == pytest.approx(float(metric.score(counts[clips].sum(0))))


def test_reference_events_and_frame_targets() -> None:
    clips = [
        Clip("a.wav", events=(Event("dog", 50, 100), Event("cat", 0, 25))),
        Clip("b.wav"),
        Clip("c.wav", events=(Event("cat", 99, 99),)),
    ]
    events = events_of_clips(clips, ["cat", "dog"])
    assert events.clip.tolist() == [0, 0, 2]
    assert events.label.tolist() == [1, 0, 0]
    times = np.tile(np.arange(0, 125, 25, dtype=np.float32), 3)
    target = frame_targets(events, 2, times, np.array([0, 5, 10, 15]))
    assert target[:5].tolist() == [[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]  # ends included
    assert not target[5:].any()
    assert events_of_clips([], ["cat"]).n_clips == 0


def brute_force_events(
    probability: np.ndarray, times: np.ndarray, median_ms: float, min_ms: float
) -> list[tuple[int, float, float]]:
    width = round(median_ms / float(np.mean(np.diff(times))))
    smooth = median_filter(probability, size=(width, 1)) if width else probability
    found = []
    for label in range(probability.shape[1]):
        frames = enumerate(smooth[:, label] > 0.5)
        for active, group in itertools.groupby(frames, key=lambda frame: frame[1]):
            indices = [i for i, _ in group]
            start, end = float(times[indices[0]]), float(times[indices[-1]])
            if active and end - start >= min_ms:
                found.append((label, start, end))
    return found


@pytest.mark.parametrize("median_ms", [0.0, 10.0, 75.0, 150.0, 250.0, 4000.0])
def test_events_from_probabilities(median_ms: float) -> None:
    rng = np.random.default_rng(3)
    offsets = np.array([0, 40, 41, 41, 120])
    times = np.concatenate([25.0 + 50.0 * np.arange(n) for n in np.diff(offsets)])
    probability = rng.random((120, 3)).astype(np.float32)
    probability[:, 1] = np.repeat(rng.random(12), 10)
    events = events_from_probabilities(
        probability, times, offsets, median_filter_ms=median_ms, min_duration_ms=100.0
    )
    assert events.n_clips == 4
    for clip, rows in enumerate(itertools.pairwise(offsets)):
        part = slice(*rows)
        expected = []
        if rows[1] - rows[0] > 1:
            expected = brute_force_events(probability[part], times[part], median_ms, 100.0)
        mine = events.clip == clip
        found = zip(events.label[mine], events.start_ms[mine], events.end_ms[mine], strict=True)
        assert [tuple(map(float, event)) for event in found] == expected
    assert len(events.clip) > 0 or median_ms == 4000.0


def test_threshold_is_strict_and_nan_is_silence() -> None:
    probability = np.array([[0.5], [np.nan], [0.500001]], dtype=np.float32)
    events = events_from_probabilities(
        probability,
        np.array([0.0, 50, 100]),
        np.array([0, 3]),
        median_filter_ms=0,
        min_duration_ms=0,
    )
    assert (events.start_ms.tolist(), events.end_ms.tolist()) == ([100.0], [100.0])


@pytest.mark.parametrize("width", range(0, 14))
@pytest.mark.parametrize("n", [1, 2, 5, 33])
def test_counting_is_the_median(width: int, n: int) -> None:
    values = np.random.default_rng(n).random((n, 5))
    smooth = median_filter(values, size=(width, 1)) if width else values
    assert np.array_equal(median_filter_active(values > 0.5, width), smooth > 0.5)


@pytest.mark.peer
def test_sed_eval_agrees(tmp_path: Path) -> None:
    """Needs an environment with sed_eval: MAMBABENCH_SED_EVAL_PYTHON names its interpreter."""
    import os

    python = os.environ.get("MAMBABENCH_SED_EVAL_PYTHON", sys.executable)
    script = Path(__file__).resolve().parents[2] / "perf" / "sed_eval_peer.py"
    for seed in range(20):
        rng = np.random.default_rng(seed)
        reference = random_events(rng, 3, 40, n_labels=3, length_ms=4000)
        predicted = random_events(rng, 3, int(rng.integers(1, 60)), n_labels=3, length_ms=4000)
        request = tmp_path / f"{seed}.json"
        columns = ("clip", "label", "start_ms", "end_ms")
        request.write_text(
            json.dumps(
                {
                    "n_clips": 3,
                    "reference": {c: getattr(reference, c).tolist() for c in columns},
                    "predicted": {c: getattr(predicted, c).tolist() for c in columns},
                }
            )
        )
        run = subprocess.run(
            [python, str(script), str(request)], check=True, capture_output=True, text=True
        )
        theirs = json.loads(run.stdout)["scores"]
        for name in EVENT:
            metric = METRICS[name]
            parts = metric.parts(metric.counts(reference, predicted).sum(0))
            for part, value in theirs[name].items():
                assert float(parts[part]) == pytest.approx(value, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("name", SPEC)
def test_counts_of_labels_are_those_of_each_labels_events_alone(name: str) -> None:
    """Matched by augmenting paths over the events of one label; labels add up to the clips."""
    collar_s, offset = SPEC[name]
    rng = np.random.default_rng(len(name))
    reference, predicted = (random_events(rng, 4, 40, n_labels=3) for _ in range(2))
    found = label_counts(METRICS[name].counts, reference, predicted, 5)
    assert found.shape == (5, 3)
    assert not found[3:].any()  # labels without events
    for label in range(3):
        own, theirs = (
            Events(
                e.n_clips, *(x[e.label == label] for x in (e.clip, e.label, e.start_ms, e.end_ms))
            )
            for e in (reference, predicted)
        )
        matched = sum(brute_force_matches(own, theirs, collar_s, offset))
        assert found[label].tolist() == [matched, len(own.clip), len(theirs.clip)]
    total = METRICS[name].counts(reference, predicted).sum(axis=0)
    assert found.sum(axis=0).tolist() == total.tolist()


def test_a_score_without_predicted_events_is_undefined_and_silent() -> None:
    """Also a step beside the counts, where slopes are taken: what matches is then above 0."""
    near = np.array([[0.0, 3.0, 0.0], [1e-4, 3.0, 0.0], [0.0, 3.0, -1e-4], [1e-4, 0.0, 2.0]])
    assert np.isnan(METRICS["event_onset_200ms_fms"].score(near)).all()
    assert METRICS["event_onset_200ms_fms"].score(np.array([0.0, 3.0, 2.0])) == 0.0
