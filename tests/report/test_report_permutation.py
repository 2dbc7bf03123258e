"""Paired tests by exchanging clips: exact cases, validity, and agreement with plain recomputing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from synthetic_results import write_events, write_run, write_scene

import mambabench
from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.metrics.targets import multilabel
from mambabench.report.statistics import permutation
from mambabench.report.statistics.ranking import falling_order
from mambabench.report.statistics.segment_kernels import (
    has_numba,
    segments,
    sweep_segments,
)
from mambabench.report.statistics.swap_kernels import (
    _merge_numpy,
    merge,
    sweep_both_sides,
)
from mambabench.report.statistics.swaps import exchange, prepared

KEY = "5" * 64


@pytest.fixture(autouse=True)
def _no_files(monkeypatch):
    """Files have tests of their own: these look at numbers only."""
    monkeypatch.setattr("mambabench.report.verb.write_report", lambda *arguments: ([], None))


def write(out, encoder, metric, target, probability, task="task", clusters=None, seed=0):
    """Write one seed of one encoder on a train/valid/test task."""
    n = len(target)
    own = {
        "clip": np.array([f"c{i:05d}.wav" for i in range(n)]),
        "cluster": np.array([""] * n if clusters is None else clusters),
        "target": target,
        "probability": probability.astype(np.float32),
    }
    arrays = {f"test/{name}": value for name, value in own.items()}
    results = [("test", {metric: METRICS[metric](target, own["probability"])}, n)]
    n_labels = probability.shape[1]
    write_run(out, encoder, task, seed, results, arrays, metric=metric, n_labels=n_labels)


def compared(out):
    (one,) = mambabench.report(out).summary.comparisons
    return one


def rare_clips():
    """Sixty clips of which two encoders differ on three, all of the rarest class."""
    target = np.repeat([0, 1, 2], [48, 9, 3])
    right = np.eye(3)[target]
    wrong = right.copy()
    wrong[target == 2] = [0.6, 0.4, 0.0]
    return target, right, wrong


@pytest.mark.parametrize("metric", ["uar", "macro_f1"])
def test_a_difference_on_three_rare_clips_is_neither_certain_nor_a_tie(tmp_path, metric):
    """Of the 2^3 exchanges of the clips that differ, two are as extreme: p is .25."""
    target, right, wrong = rare_clips()
    for task in ("one", "two"):
        write(tmp_path, "a", metric, target, right, task=task)
        write(tmp_path, "b", metric, target, wrong, task=task)
    result = mambabench.report(tmp_path, "markdown")
    error = (0.25 * 0.75 / 255) ** 0.5 if metric == "macro_f1" else 0.003  # of so many draws
    for one in result.summary.comparisons:
        assert one.difference > 0.3
        assert one.p == pytest.approx(0.25, abs=3 * error)
        assert one.p_holm == one.p
        assert (one.n_moving, one.n_units) == (3, 60)
    assert {row.ties for row in result.summary.rows} == {""}
    (pair,) = result.summary.versus
    assert (pair.ties, pair.untested) == (0, 2)
    said = "a and b on two: too few clips to separate: 3 of 60 differ"
    assert said in result.text
    judged = mambabench.report(tmp_path, "markdown", "a").text
    assert "does not differ from the baseline" not in judged
    assert "too few clips to separate: 3 of 60 differ" in judged


def test_the_drawn_p_value_of_three_clips_is_a_quarter_on_average():
    """40 keys of 255 draws each: the mean has an error of .0043."""
    target, *scores = rare_clips()
    one, other = ([{"target": target, "probability": x.astype(np.float32)}] for x in scores)
    fold = [(exchange("macro_f1", one, other), np.arange(60))]
    p = [permutation.exchange_test(fold, 60, f"{key:032x}").p for key in range(40)]
    assert np.mean(p) == pytest.approx((0.25 * 255 + 1) / 256, abs=0.013)


@pytest.mark.parametrize("metric", ["mAP", "aucroc"])
def test_one_positive_clip_is_no_certainty(tmp_path, metric):
    """One label with one positive among 40 clips, on rank 1 with one encoder and 21 with other."""
    rng = np.random.default_rng(0)
    target = np.zeros((40, 1), np.uint8)
    target[7] = 1
    others = rng.random(39)
    scores = {}
    for name, rank in (("a", 1), ("b", 21)):
        falling = np.sort(others)[::-1]
        own = 2.0 if rank == 1 else (falling[rank - 2] + falling[rank - 1]) / 2
        scores[name] = np.insert(others, 7, own)[:, None]
    for name, score in scores.items():
        write(tmp_path, name, metric, target, score)
    one = compared(tmp_path)
    assert one.difference > 0.4
    assert one.p >= 0.2
    assert one.too_few == "too few clips to separate: 1 of 40 differ"


def test_five_clips_cannot_be_separated_and_are_no_tie(tmp_path):
    target = np.array([0, 1, 0, 1, 0])
    for name, probability in (("a", np.eye(2)[target]), ("b", np.eye(2)[1 - target])):
        write(tmp_path, name, "top1_acc", target, probability)
    result = mambabench.report(tmp_path)
    (one,) = result.summary.comparisons
    assert one.reason == "too few clips to separate: with 5 no p-value is below 0.0625"
    assert one.p == pytest.approx(0.0625)
    assert one.p_holm is None
    assert {row.ties for row in result.summary.rows} == {""}
    assert "too few clips to separate" in mambabench.report(tmp_path, "markdown").text


def test_few_clusters_change_sides_as_wholes(tmp_path):
    """Sixty clips of five clusters are five units: p is 2 / 2^5 at the least."""
    target = np.arange(60) % 2
    clusters = [f"speaker{i % 5}" for i in range(60)]
    write(tmp_path, "a", "macro_f1", target, np.eye(2)[target], clusters=clusters)
    write(tmp_path, "b", "macro_f1", target, np.eye(2)[1 - target], clusters=clusters)
    one = compared(tmp_path)
    assert one.p == pytest.approx(2 / 2**5)
    assert one.n_units == 5
    assert one.reason.startswith("too few clusters to separate")


def test_a_test_that_cannot_reject_is_outside_the_family(tmp_path):
    for name, skill in (("a", 1.0), ("b", 2.0)):
        write_scene(tmp_path, name, "large", skill=skill, seeds=1)
        write_scene(tmp_path, name, "small", skill=skill, seeds=1, folds={"test": 5})
    by_task = {one.task: one for one in mambabench.report(tmp_path).summary.comparisons}
    assert by_task["large"].p_holm == by_task["large"].p  # a family of one
    assert by_task["small"].p_holm is None


def test_holm_multiplies_by_the_family(tmp_path):
    """Three encoders on two tasks: the smallest of six p-values is multiplied by six."""
    for number, name in enumerate("abc"):
        for task in ("one", "two"):
            write_scene(tmp_path, name, task, skill=1 + 0.2 * number, seeds=2)
    found = mambabench.report(tmp_path).summary.comparisons
    ordered = sorted(found, key=lambda one: one.p)
    assert len(found) == 6
    assert ordered[0].p_report == pytest.approx(min(1.0, 6 * ordered[0].p))
    expected = 0.0
    for rank, one in enumerate(ordered):
        expected = max(expected, min(1.0, (6 - rank) * one.p))
        assert one.p_report == pytest.approx(expected)


def random_pair(metric, seed, n=9, n_labels=3, n_seeds=2):
    rng = np.random.default_rng(seed)
    if metric == "mAP":
        target = (rng.random((n, n_labels)) < 0.4).astype(np.uint8)
        target[:n_labels] |= np.eye(n_labels, dtype=np.uint8)
    else:
        target = np.arange(n) % n_labels
    names = np.array([f"{i}" for i in range(n)])
    both = []
    for _ in range(2):
        rounded = [rng.integers(1, 9, (n, n_labels)) / 9 for _ in range(n_seeds)]  # with ties
        both.append([{"clip": names, "target": target, "probability": p} for p in rounded])
    return both


def standardised(probability):
    """Log odds of mean 0 and deviation 1 per label: their ranks are those of the probabilities."""
    odds = np.log(probability / (1 - probability))
    return (odds - odds.mean(axis=0)) / odds.std(axis=0)


@pytest.mark.parametrize("metric", ["uar", "macro_f1", "mAP", "aucroc"])
def test_sides_are_the_metric_of_the_exchanged_predictions(metric):
    one, other = random_pair(metric, 1)
    kept = np.random.default_rng(2).integers(0, 2, (9, 300)).astype(np.uint8)
    first, second = exchange(metric, one, other).sides(kept)
    table = standardised if metric in ("mAP", "aucroc") else np.asarray
    for column in (0, 1, 255, 256, 299):
        stays = kept[:, column, None].astype(bool)
        sides = [[], []]
        for a, b in zip(one, other, strict=True):
            own, theirs = table(a["probability"]), table(b["probability"])
            for side, mixed in enumerate(
                (np.where(stays, own, theirs), np.where(stays, theirs, own))
            ):
                sides[side].append(METRICS[metric](a["target"], mixed))
        assert first[column] == pytest.approx(np.mean(sides[0]), abs=1e-12)
        assert second[column] == pytest.approx(np.mean(sides[1]), abs=1e-12)


@pytest.mark.parametrize("metric", ["macro_f1", "mAP", "aucroc", "d_prime"])
def test_few_clips_are_exchanged_in_every_way(metric):
    """p by trying every exchange with the metric itself: all seeds of a clip move together."""
    one, other = random_pair(metric, 3)
    table = standardised if metric != "macro_f1" else np.asarray
    own = np.stack([table(seed["probability"]) for seed in one])
    theirs = np.stack([table(seed["probability"]) for seed in other])
    target = one[0]["target"]

    def difference(stays):
        stays = np.array(stays, bool)[None, :, None]
        sides = (np.where(stays, own, theirs), np.where(stays, theirs, own))
        means = [np.mean([METRICS[metric](target, p) for p in side]) for side in sides]
        return abs(means[0] - means[1])

    with np.errstate(invalid="ignore"):
        every = np.array([difference(s) for s in itertools.product([1, 0], repeat=9)])
    exact = np.mean(~(every < every[0] - 1e-9))
    found = permutation.exchange_test([(exchange(metric, one, other), np.arange(9))], 9, KEY)
    assert found.p == pytest.approx(exact)
    assert found.n_permutations == 2**9


@pytest.mark.parametrize("metric", ["top1_acc", "uar", "macro_f1"])
def test_p_over_folds_and_seeds_is_that_of_every_exchange(tmp_path, metric):
    """Two folds of five and six clips, three seeds: 2^11 exchanges by the metric itself."""
    rng = np.random.default_rng(11)
    sizes, n_seeds = {"fold0": 5, "fold1": 6}, 3
    target = {fold: np.arange(n) % 3 for fold, n in sizes.items()}
    scores = {
        (name, seed, fold): rng.random((n, 3)).astype(np.float32) + skill * np.eye(3)[target[fold]]
        for name, skill in (("a", 0.15), ("b", 0.45))
        for seed in range(n_seeds)
        for fold, n in sizes.items()
    }
    for name in "ab":
        for seed in range(n_seeds):
            arrays, results = {}, []
            for fold, n in sizes.items():
                own = {
                    "clip": np.array([f"{fold}-{i}.wav" for i in range(n)]),
                    "cluster": np.full(n, ""),
                    "target": target[fold],
                    "probability": scores[name, seed, fold],
                }
                arrays |= {f"{fold}/{key}": value for key, value in own.items()}
                score = METRICS[metric](own["target"], own["probability"])
                results.append((fold, {metric: score}, n))
            write_run(tmp_path, name, "task", seed, results, arrays, metric=metric, n_labels=3)

    def side(one, other, stays):
        means = []
        for fold, n in sizes.items():
            kept, stays = np.array(stays[:n], bool)[:, None], stays[n:]
            for seed in range(n_seeds):
                mixed = np.where(kept, scores[one, seed, fold], scores[other, seed, fold])
                means.append(METRICS[metric](target[fold], mixed))
        return np.mean(means)

    every = [
        side("a", "b", stays) - side("b", "a", stays)
        for stays in itertools.product([1, 0], repeat=11)
    ]
    exact = np.mean(np.abs(every) >= abs(every[0]) - 1e-9)
    one = compared(tmp_path)
    assert one.p == pytest.approx(exact)
    assert one.difference == pytest.approx(every[0])
    assert one.n_permutations == 2**11


def test_sweep_and_merge_without_numba_are_the_same():
    """With ties within and between the encoders; the order within a tie is free."""
    one, other = ([prepared("mAP", seed) for seed in own] for own in random_pair("mAP", 5, n=30))
    merged = [seed[0][name] for seed in (one, other) for name in ("order", "falling")]
    order, marks, places = merge(*merged, one[0]["positive"])
    plain_order, plain_marks, plain = _merge_numpy(*merged, one[0]["positive"])
    np.testing.assert_array_equal(places, plain)
    kept = np.random.default_rng(4).integers(0, 2, (2, 30, 48)).astype(np.uint8)
    assert has_numba()
    found = segments(one[0], other[0])
    for entries in ((order, marks), (plain_order, plain_marks)):
        for precision, plain_scores in zip(
            (True, False), sweep_both_sides(*entries, kept), strict=True
        ):
            scores = sweep_segments(found, kept, precision)
            expected = plain_scores.reshape(scores.shape)
            np.testing.assert_allclose(scores, expected, atol=1e-12)
            mean = sweep_segments(found, kept, precision, mean=True)
            np.testing.assert_allclose(mean, np.nanmean(expected, axis=1), atol=1e-12)


@pytest.mark.parametrize("disagree", [False, True])
@pytest.mark.parametrize("metric", ["mAP", "aucroc", "d_prime"])
def test_sides_and_slopes_without_numba_are_the_same(metric, disagree, monkeypatch):
    """Where records disagree on the targets, those of the first count: nothing is read beyond."""
    one, other = random_pair(metric, 6, n=30)
    if disagree:
        fewer = np.zeros_like(one[0]["target"])  # one clip of every label, or of all but the first
        fewer[:3] = np.eye(3, dtype=np.uint8) if metric == "mAP" else np.arange(3)
        other = [seed | {"target": fewer} for seed in other]
    kept = np.random.default_rng(4).integers(0, 2, (30, 40)).astype(np.uint8)
    compiled = exchange(metric, one, other)
    sides, slopes = compiled.sides(kept), compiled.slopes()
    monkeypatch.setattr("mambabench.report.statistics.swaps.has_numba", lambda: False)
    plain = exchange(metric, one, other)
    np.testing.assert_allclose(sides, plain.sides(kept), atol=1e-12)
    np.testing.assert_allclose(slopes, plain.slopes(), atol=1e-14)


@pytest.mark.parametrize("metric", ["mAP", "aucroc"])
def test_p_values_are_those_of_weighted_sweeps_of_the_pooled_ranks(metric, monkeypatch):
    """The kernels against cumulative sums over both encoders' entries, sorted together."""
    pairs = [random_pair(metric, seed, n=40) for seed in range(4)]
    for strength, (one, _) in enumerate(pairs):  # from no difference to a clear one
        for seed in one:
            hot = multilabel(seed["target"], 3)
            seed["probability"] = (seed["probability"] + 0.5 * strength * hot) / 3
    units = np.repeat(np.arange(20), 2)

    def p_values():
        folds = [[(exchange(metric, *pair), units)] for pair in pairs]
        return [permutation.exchange_test(fold, 20, KEY) for fold in folds]

    found = p_values()
    assert found[0].p > 0.05 > 1e-4 > found[-1].p
    monkeypatch.setattr("mambabench.report.statistics.swaps.has_numba", lambda: False)
    for one, plain in zip(found, p_values(), strict=True):
        assert one.p == pytest.approx(plain.p, rel=1e-12)
        assert one.n_permutations == plain.n_permutations


def test_p_values_do_not_depend_on_how_many_draws_are_scored_at_once(monkeypatch):
    one, other = random_pair("mAP", 2, n=40)
    other[0]["probability"] = 0.1 + 0.2 * one[0]["target"] + 0.01 * other[0]["probability"]
    test = permutation._Test([(exchange("mAP", one, other), np.arange(40))], 40)
    p = []
    for scored in (1, 3 * 256 * 40, 4_000_000):
        monkeypatch.setattr(permutation, "_SCORED", scored)
        p.append(test.steered(permutation._SharedDraws(KEY, 40), 1500))
    assert p[0] < 0.05
    assert len(set(p)) == 1


def test_orders_of_packed_scores_are_those_of_a_stable_argsort():
    rng = np.random.default_rng(12)
    score = np.round(rng.normal(size=(5, 200)), 1).astype(np.float32)
    score[0, :50] = -0.0
    score[1, :4] = 0.0, -0.0, np.float32(1e-45), np.float32(-1e-45)
    for own in (score, score.astype(np.float64), np.where(score > 2, np.inf, score)):
        expected = np.argsort(-own, axis=1, kind="stable")
        np.testing.assert_array_equal(falling_order(own), expected)


@pytest.mark.parametrize("metric", ["mAP", "aucroc", "d_prime", "macro_f1"])
def test_slopes_point_where_the_difference_goes(metric):
    """Over random exchanges the slopes explain most of the difference of the sides."""
    one, other = random_pair(metric, 8, n=60, n_seeds=1)
    pair = exchange(metric, one, other)
    kept = np.random.default_rng(9).integers(0, 2, (60, 400)).astype(np.uint8)
    first, second = pair.sides(kept)
    explained = pair.slopes() @ (2.0 * kept - 1)
    assert np.corrcoef(explained, first - second)[0, 1] > 0.9


def test_long_runs_between_positives_are_counted_whole():
    """Seven hundred entries of one encoder in a row do not overflow the bytes that count them."""
    rng = np.random.default_rng(6)
    n = 1500
    target = np.zeros((n, 1), np.uint8)
    target[[3, 1400]] = 1
    modes = np.where(np.arange(n) < 700, 0.9, 0.1) + 1e-4 * rng.random(n)
    both = [
        [{"target": target, "probability": probability[:, None]}]
        for probability in (modes, rng.random(n))
    ]
    first, second = exchange("mAP", *both).sides(np.ones((n, 1), np.uint8))
    for side, seeds in ((first, both[0]), (second, both[1])):
        assert side[0] == pytest.approx(METRICS["mAP"](target, seeds[0]["probability"]), abs=1e-12)


def test_the_data_themselves_count_among_the_draws():
    """However few draws: a p-value of 0 would say that what was observed cannot happen."""
    one, other = random_pair("macro_f1", 10, n=40)
    test = permutation._Test([(exchange("macro_f1", one, other), np.arange(40))], 40)
    p = [test.steered(permutation._SharedDraws(f"{seed:032x}", 40), 1) for seed in range(60)]
    assert min(p) > 0


def test_steered_draws_estimate_the_exact_p_value(monkeypatch):
    """Twelve clips: all 4,096 exchanges against steered draws, over small and large p-values."""
    rng = np.random.default_rng(7)
    ratios = []
    for case in range(12):
        shared = rng.normal(size=12) + 1.0
        counts = []
        for skill in (0.0, 0.25 * case):
            chance = 1 / (1 + np.exp(-(skill + shared)))
            matched = rng.binomial(20, chance)
            counts.append(np.stack([matched, np.full(12, 20), matched + rng.poisson(4, 12)], 1))
        name = "counts:event_onset_200ms_fms"
        pair = exchange("event_onset_200ms_fms", [{name: counts[0]}], [{name: counts[1]}])
        fold = [(pair, np.arange(12))]
        exact = permutation.exchange_test(fold, 12, KEY).p
        steered = permutation._Test(fold, 12).steered(
            permutation._SharedDraws(f"{case:032x}", 12), 4999
        )
        ratios.append(steered / exact)
    assert np.max(np.abs(np.log(ratios))) < np.log(1.35)
    assert abs(np.mean(np.log(ratios))) < 0.08


def test_clear_differences_have_small_p_values(tmp_path):
    """Beyond what counting exchanges could resolve; the same numbers every time."""
    for name, skill in (("weak", 0.3), ("strong", 2.5)):
        write_scene(tmp_path, name, "map", skill=skill, metric="mAP", multilabel=True, seeds=2)
        write_scene(tmp_path, name, "f1", skill=skill, metric="macro_f1", seeds=2)
    found = mambabench.report(tmp_path).summary.comparisons
    for one in found:
        assert one.p < 1e-8
        assert one.n_permutations > 200
    cache = tmp_path / "report" / "cache"
    for file in cache.glob("*.json"):
        file.unlink()
    assert mambabench.report(tmp_path).summary.comparisons == found


def null_set(rng, metric, n, chances, skill=1.0):
    """Two encoders of equal skill on the same clips, which both find hard or easy."""
    if metric in ("uar", "macro_f1"):
        target = rng.choice(len(chances), n, p=chances)
        hot = np.eye(len(chances))[target]
    else:
        target = (rng.random((n, len(chances))) < chances).astype(np.uint8)
        target[: len(chances)] |= np.eye(len(chances), dtype=np.uint8)
        hot = target
    shared = rng.normal(size=hot.shape)
    return target, [skill * hot + 0.7 * shared + 0.7 * rng.normal(size=hot.shape) for _ in "ab"]


@pytest.mark.parametrize(
    ("metric", "n", "chances"),
    [("uar", 60, (0.80, 0.15, 0.05)), ("mAP", 60, (0.1, 0.1))],
)
def test_a_true_null_is_rarely_rejected(tmp_path, metric, n, chances):
    """100 sets: a test that rejects 5 % passes 12 with probability .001; perf/ has
    more sets and settings."""
    rng = np.random.default_rng(sum(metric.encode()))
    for number in range(100):
        target, scores = null_set(rng, metric, n, chances)
        for name, score in zip("ab", scores, strict=True):
            write(tmp_path, name, metric, target, score, task=f"set{number:03d}")
    p = np.array([one.p for one in mambabench.report(tmp_path).summary.comparisons])
    assert len(p) == 100
    assert (p < 0.05).sum() <= 12
    assert (p < 0.01).sum() <= 5
    assert (p < 0.5).mean() > 0.3  # and the test is no stone


def test_events_in_all_seeds_change_sides_together(tmp_path):
    for name, skill in (("weak", 0.4), ("strong", 0.6)):
        write_events(tmp_path, name, "events", skill=skill, n=8)
    one = compared(tmp_path)
    assert one.p == pytest.approx(2 / 2**8)
    assert one.n_permutations == 2**8


def test_a_new_encoder_costs_its_own_pairs_only(tmp_path, monkeypatch):
    from mambabench.report.statistics import comparison

    tested = []
    real = comparison.exchange_test

    def counted(*arguments):
        tested.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(comparison, "exchange_test", counted)
    for name, skill in (("a", 0.5), ("b", 0.8)):
        write_scene(tmp_path, name, "task", skill=skill, metric="macro_f1", seeds=1)
    before = mambabench.report(tmp_path).summary.comparisons[0]
    assert len(tested) == 1
    write_scene(tmp_path, "c", "task", skill=1.1, metric="macro_f1", seeds=1)
    after = mambabench.report(tmp_path).summary.comparisons
    assert len(tested) == 3
    assert (after[0].p, after[0].n_permutations) == (before.p, before.n_permutations)
