"""SUPERB's metrics, score and DTW against independent computations."""

from __future__ import annotations

import hashlib
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from mambabench.benchmarks.metrics.edit_distance import (
    edit_distance,
    error_rate,
)
from mambabench.benchmarks.metrics.eer import equal_error_rate
from mambabench.benchmarks.metrics.mtwv import maximum_term_weighted_value
from mambabench.benchmarks.superb import ks
from mambabench.benchmarks.superb.family import SCORE
from mambabench.benchmarks.superb.score import points
from mambabench.probe.families import queries
from mambabench.probe.heads import query_search


def textbook_distance(a: list[int], b: list[int]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a) + 1), range(len(b) + 1)):
        if i == 0 or j == 0:
            table[i][j] = i + j
        else:
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
            )
    return table[-1][-1]


def test_edit_distance_equals_the_textbook_table():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a = rng.integers(0, 4, rng.integers(0, 12)).tolist()
        b = rng.integers(0, 4, rng.integers(0, 12)).tolist()
        assert edit_distance(a, b) == textbook_distance(a, b)


def test_error_rate_pools_errors_over_clips():
    rate, counts = error_rate([[1, 2, 3], [4]], [[1, 3], [5, 4]])
    assert rate == pytest.approx(2 / 4)
    assert counts.tolist() == [[1, 3], [1, 1]]
    assert np.isnan(error_rate([[]], [[1]])[0])


def test_equal_error_rate_solves_the_interpolated_roc():
    rng = np.random.default_rng(1)
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq

    for trial in range(30):
        same = rng.random(200) < 0.4
        scores = rng.normal(size=200) + same * rng.uniform(0, 2)
        if trial % 3 == 0:
            scores = np.round(scores, 1)  # ties
        fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
        roc = interp1d(fpr, tpr)
        expected = brentq(lambda x, roc=roc: 1.0 - x - roc(x), 0.0, 1.0)
        assert equal_error_rate(same, scores)[0] == pytest.approx(expected, abs=1e-9)


def test_equal_error_rate_edges():
    scores = np.array([3.0, 2.0, 1.0, 0.0])
    assert equal_error_rate(np.array([True, True, False, False]), scores)[0] == 0.0
    assert equal_error_rate(np.array([False, False, True, True]), scores)[0] == 1.0
    assert np.isnan(equal_error_rate(np.ones(4, bool), scores)[0])


def test_term_weighted_value_against_every_threshold():
    rng = np.random.default_rng(2)
    relevant = rng.random((5, 30)) < 0.2
    relevant[4] = False  # left out
    scores = rng.normal(size=(5, 30)) + relevant
    best = 0.0
    for threshold in scores[:4].ravel():
        yes = scores[:4] >= threshold
        miss = ((~yes) & relevant[:4]).sum(1) / relevant[:4].sum(1)
        false = (yes & ~relevant[:4]).sum(1) / (~relevant[:4]).sum(1)
        best = max(best, 1 - (miss + 2.0 * false).mean())
    assert maximum_term_weighted_value(relevant, scores, beta=2.0) == pytest.approx(best)


def test_score_reproduces_the_published_upstreams():
    hubert = {
        "PR": {"per": 5.41},
        "KS": {"acc": 96.30},
        "IC": {"acc": 98.34},
        "SID": {"acc": 81.42},
        "ER": {"acc": 64.92},
        "ASR": {"wer": 6.42},
        "QbE": {"mtwv": 7.36},
        "SF": {"f1": 88.53, "cer": 25.20},
        "ASV": {"eer": 5.11},
        "SD": {"der": 5.88},
    }
    assert list(SCORE.tasks.values()) == list(hubert)
    assert np.mean([points(task, hubert[task]) for task in hubert]) == pytest.approx(941.0, abs=0.1)
    assert SCORE.points("superb_sf", {"slot_type_f1": 88.53, "slot_value_cer": 25.20}) == points(
        "SF", hubert["SF"]
    )
    assert SCORE.points("superb_sf", {"slot_type_f1": 88.53}) is None
    assert points("SF", {"f1": 88.0}) is None
    assert points("KS", {"acc": 41.3826674}) == 0.0


def brute_dtw(cost: np.ndarray) -> float:
    n_query, n_frames = cost.shape
    best = np.inf

    def walk(row: int, column: int, total: float) -> float:
        total += cost[row, column]
        if row == n_query - 1:
            return total
        steps = [column + s for s in (0, 1, 2) if column + s < n_frames]
        return min(walk(row + 1, c, total) for c in steps)

    for start in range(n_frames):
        best = min(best, walk(0, start, 0.0))
    return best / n_query


def test_subsequence_dtw_equals_exhaustive_search():
    rng = np.random.default_rng(3)
    costs = [rng.random((4, n)) for n in (3, 6, 5)]
    padded = np.zeros((3, 4, 6))
    for index, cost in enumerate(costs):
        padded[index, :, : cost.shape[1]] = cost
    found = query_search.subsequence_dtw(padded, np.array([3, 6, 5]))
    assert found == pytest.approx([brute_dtw(cost) for cost in costs])


def test_query_is_found_where_it_was_spoken():
    rng = np.random.default_rng(4)
    query = rng.normal(size=(8, 16))
    documents = [rng.normal(size=(n, 16)) for n in (40, 30, 50)]
    documents[1][10:18] = query + 0.1 * rng.normal(size=query.shape)
    scores = query_search.query_scores(query, documents, batch=2)
    assert scores.argmax() == 1
    assert query_search.query_scores(query[:4], documents).tolist() == [0.0, 0.0, 0.0]


def test_scores_of_a_query_have_zero_mean_and_unit_deviation():
    scores = np.random.default_rng(5).normal(3.0, 7.0, size=(3, 20))
    scores[1] = 4.0
    found = query_search.z_normalise(scores)
    assert found.mean(axis=1) == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert found.std(axis=1) == pytest.approx([1.0, 0.0, 1.0])


def test_queries_are_found_alike_whatever_the_scale_of_a_dimension():
    rng = np.random.default_rng(6)
    frames = [rng.normal(size=(n, 1, 4)) for n in (30, 25, 20, 8, 9)]

    def scores(scale: np.ndarray) -> np.ndarray:
        made = [one * scale for one in frames]
        sides = (SimpleNamespace(frames=lambda own=own: own) for own in (made[:3], made[3:]))
        return queries._layer_scores(*sides, layer=0)

    found = scores(np.array([0.01, 1.0, 100.0, 0.3]))
    assert found == pytest.approx(scores(np.ones(4)), abs=1e-9)
    assert found.std() > 0.1


def test_hash_rule_on_names_worked_out_by_hand():
    # sha1("0a7c2a8d") mod 2^27 as a percentage, computed with the definition alone
    for name in ("0a7c2a8d", "00176480", "004ae714", "e9287461"):
        number = int(hashlib.sha1(name.encode()).hexdigest()[-7:], 16) % 2**27
        percent = number * 100 / (2**27 - 1)
        expected = "valid" if percent < 10 else None if percent < 20 else "train"
        assert ks.split_of(f"{name}_nohash_0.wav") == expected
        assert ks.split_of(f"{name}_nohash_3.wav") == expected
