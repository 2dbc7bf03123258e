"""The statistics themselves: coverage, size, corrections, tie groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from mambabench.report.statistics.intervals import flip_test, holm, t_interval, tie_groups
from mambabench.report.statistics.resampling import FoldClips, TestClips, draw, signs

N_SETS, N_TEST, N_SEEDS = 1000, 240, 10


def clips(n, clusters=None):
    names = tuple(f"{i:05d}" for i in range(n))
    return TestClips((FoldClips("test", names, clusters or ("",) * n),))


def simulate(rng, n_sets, n_units, shift=0.0):
    """Clips of random difficulty: which of ten seeds get each right, [n_sets, n_seeds, n]."""
    difficulty = rng.normal(size=(n_sets, n_units))
    chance = 1 / (1 + np.exp(-(0.8 + shift + difficulty)))
    return rng.random((n_sets, N_SEEDS, n_units)) < chance[:, None, :]


def test_seed_interval_covers_the_mean_over_seeds_of_these_clips():
    rng = np.random.default_rng(1)
    chance = 1 / (1 + np.exp(-(0.8 + rng.normal(size=(N_SETS, 1, N_TEST)))))
    scores = (rng.random((N_SETS, N_SEEDS, N_TEST)) < chance).mean(axis=2)
    truth = chance.mean(axis=(1, 2))
    intervals = [t_interval(row) for row in scores]
    covered = np.mean([i.low <= t <= i.high for i, t in zip(intervals, truth, strict=True)])
    assert 0.93 <= covered <= 0.97


def test_permutation_test_rejects_a_true_null_in_five_percent():
    rng = np.random.default_rng(5)
    difficulty = rng.normal(size=(N_SETS, 1, N_TEST))
    chance = 1 / (1 + np.exp(-(0.8 + difficulty)))
    both = [(rng.random((N_SETS, N_SEEDS, N_TEST)) < chance).mean(axis=1) for _ in range(2)]
    parts = np.concatenate(both).T / N_TEST  # [n_clips, 2 * n_sets]: set i is columns i, i + 1000
    pairs = np.array([[i, i + N_SETS] for i in range(N_SETS)])
    p = flip_test(parts, pairs, clips(N_TEST).key, n_permutations=1999)
    assert 0.03 <= np.mean(p < 0.05) <= 0.07
    for level in (0.01, 0.1, 0.25, 0.5):  # uniform; equal scores have p = 1 exactly
        error = np.sqrt(level * (1 - level) / N_SETS)
        assert abs(np.mean(p <= level) - level) < 3.3 * error


def test_permutation_test_finds_a_difference():
    rng = np.random.default_rng(6)
    weak, strong = (simulate(rng, 1, N_TEST, shift)[0].mean(axis=0) for shift in (0.0, 0.8))
    parts = np.stack([weak, strong], axis=1) / N_TEST
    assert flip_test(parts, np.array([[0, 1]]), clips(N_TEST).key)[0] < 1e-3


def test_flip_test_is_exact_on_few_units():
    parts = np.array([[0.3, 0.1], [0.2, 0.1], [0.25, 0.2], [0.1, 0.15], [0.3, 0.0]])
    difference = parts[:, 0] - parts[:, 1]
    sums = [abs(np.dot(s, difference)) for s in itertools.product([1, -1], repeat=5)]
    exact = np.mean(np.array(sums) >= abs(difference.sum()) - 1e-12)
    assert flip_test(parts, np.array([[0, 1]]), "0" * 64)[0] == pytest.approx(exact)


def test_hoeffding_resolves_what_counting_cannot_and_never_undercuts_the_exact_p():
    difference = np.full(400, 0.001)  # all of one sign: exact p is 2 / 2 ** 400
    parts = np.stack([difference, np.zeros(400)], axis=1)
    p = flip_test(parts, np.array([[0, 1]]), "1" * 64, n_permutations=99)[0]
    assert p == pytest.approx(2 * np.exp(-200))
    assert p > 2 / 2.0**400


def test_equal_encoders_have_p_one():
    parts = np.random.default_rng(7).random((50, 1)).repeat(2, axis=1)
    assert flip_test(parts, np.array([[0, 1]]), "2" * 64)[0] == 1.0


def test_t_interval_is_scipys_and_needs_two_seeds():
    scores = [0.7, 0.72, 0.69, 0.74]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(scores), scale=stats.sem(scores))
    assert t_interval(scores) == pytest.approx((low, high))
    assert t_interval([0.7]) is None
    assert t_interval([0.7, 0.7]) == pytest.approx((0.7, 0.7))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_tie_groups_share_letters_exactly_where_not_different():
    names = ["a", "b", "c", "d"]
    differ = {frozenset(pair) for pair in (("a", "c"), ("a", "d"), ("b", "d"))}
    groups = tie_groups(names, differ)
    assert groups == {"a": "a", "b": "ab", "c": "bc", "d": "c"}


def test_groups_without_a_pair_that_could_be_told_apart_have_no_letter():
    few = {frozenset("ab")}
    apart = {frozenset("ac"), frozenset("bc")}
    assert tie_groups("abc", apart, few) == {"a": "", "b": "", "c": "b"}
    assert tie_groups("abc", set(), few) == {"a": "a", "b": "a", "c": "a"}


def test_tie_groups_of_random_graphs_are_right():
    rng = np.random.default_rng(9)
    for _ in range(50):
        names = [f"e{i}" for i in range(7)]
        pairs = [frozenset(p) for p in itertools.combinations(names, 2)]
        differ = {pair for pair in pairs if rng.random() < 0.5}
        groups = tie_groups(names, differ)
        for pair in pairs:
            one, other = sorted(pair)
            assert (not set(groups[one]) & set(groups[other])) == (pair in differ)


def test_draws_follow_from_the_names_and_keep_fold_sizes():
    folds = tuple(
        FoldClips(f, tuple(f"{f}{i}" for i in range(n)), ("",) * n)
        for f, n in (("a", 30), ("b", 50))
    )
    test = TestClips(folds)
    weights = draw(test, 100)
    assert (weights[test.unit_of[0]].sum(axis=0) == 30).all()
    assert (weights[test.unit_of[1]].sum(axis=0) == 50).all()
    assert (weights == draw(TestClips(folds), 100)).all()
    assert (weights != draw(TestClips(folds[::-1]), 100)).any()


def test_speaker_per_fold_is_drawn_over_folds():
    folds = tuple(
        FoldClips(f"fold{k}", tuple(f"{k}-{i}" for i in range(20)), (f"speaker{k}",) * 20)
        for k in range(4)
    )
    test = TestClips(folds)
    assert test.n_units == 4
    assert len(test.strata) == 1


def test_all_sign_vectors_where_they_are_few():
    every = np.concatenate(list(signs("4" * 64, 4)))
    assert len(every) == 16
    assert len(np.unique(every, axis=0)) == 16
