"""Scene metrics against scikit-learn to 1e-9, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.metrics.ranks import average_precisions, class_aucs

SCENE = [name for name, metric in METRICS.items() if metric.kind == "scene"]
RNG = np.random.default_rng(11)


def multiclass(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    probability = RNG.dirichlet(np.ones(k), n).astype(np.float32)
    target = np.where(RNG.random(n) < 0.5, probability.argmax(1), RNG.integers(0, k, n))
    return target.astype(np.int64), probability


def one_hot(target: np.ndarray, k: int) -> np.ndarray:
    return (target[:, None] == np.arange(k)).astype(np.uint8)


@pytest.mark.parametrize("n", [30, 400])
@pytest.mark.parametrize("k", [2, 7])
def test_multiclass_agrees_with_scikit_learn(n: int, k: int) -> None:
    target, probability = multiclass(n, k)
    hot, guess = one_hot(target, k), probability.argmax(1)
    expected = {
        "top1_acc": sk.accuracy_score(target, guess),
        "pitch_acc": sk.accuracy_score(target, guess),
        "chroma_acc": sk.accuracy_score(target % 12, guess % 12),
        "mAP": np.mean(
            [sk.average_precision_score(hot[:, c], probability[:, c]) for c in range(k)]
        ),
        "aucroc": np.mean([sk.roc_auc_score(hot[:, c], probability[:, c]) for c in range(k)]),
        "macro_f1": sk.f1_score(target, guess, average="macro"),
        "uar": sk.balanced_accuracy_score(target, guess),
    }
    for name, value in expected.items():
        assert METRICS[name](target, probability) == pytest.approx(value, abs=1e-9), name
        assert METRICS[name](hot, probability) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [3, 1000])
def test_multilabel_with_ties_agrees_with_scikit_learn(dtype: type, levels: int) -> None:
    target = RNG.random((300, 9)) < 0.2
    probability = (RNG.integers(0, levels, (300, 9)) / levels).astype(dtype)
    precision = sk.average_precision_score(target, probability, average="macro")
    area = sk.roc_auc_score(target, probability, average="macro")
    assert METRICS["mAP"](target, probability) == pytest.approx(precision, abs=1e-9)
    assert METRICS["aucroc"](target, probability) == pytest.approx(area, abs=1e-9)


def one_label(target: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """Precision and area of one label as they were computed first, threshold by threshold."""
    order = np.lexsort((target, -probability))
    positive, keys = target[order], probability[order]
    last = np.append(keys[1:] != keys[:-1], True)
    hits, misses = np.cumsum(positive, dtype=float), np.cumsum(~positive, dtype=float)
    reached = [np.maximum.accumulate(np.where(last, one, 0.0)) for one in (hits, misses)]
    before = [np.append(0.0, one[:-1]) for one in reached]
    gained = np.where(last, hits - before[0], 0.0)
    precision = (gained * (hits / np.arange(1, len(hits) + 1))).sum() / max(hits[-1], 1.0)
    area = (0.5 * (reached[0] + before[0]) * (reached[1] - before[1])).sum()
    pairs = hits[-1] * misses[-1]
    return precision, area / pairs if pairs else math.nan


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("least", [0.0, -0.5])
def test_labels_with_and_without_ties_have_the_same_bits(dtype: type, least: float) -> None:
    for _ in range(20):
        target = RNG.random((257, 8)) < RNG.random()
        probability = (RNG.random((257, 8)) + least).astype(dtype)
        probability[:, ::3] = np.round(probability[:, ::3], 1)  # these tie
        expected = [one_label(target[:, c], probability[:, c]) for c in range(8)]
        found = average_precisions(target, probability), class_aucs(target, probability)
        np.testing.assert_array_equal(np.stack(found, axis=1), expected)


def test_negative_scores_and_negative_zero_sort_as_numbers() -> None:
    score = np.array([[-2.0], [-0.0], [0.0], [1.5], [-1.0]], dtype=np.float32)
    target = np.array([[0], [1], [0], [1], [0]])
    expected = sk.average_precision_score(target[:, 0], score[:, 0])
    assert average_precisions(target, score)[0] == pytest.approx(expected, abs=1e-12)


def test_d_prime_is_the_quantile_of_the_area() -> None:
    from scipy.stats import norm

    target, probability = multiclass(200, 4)
    expected = np.mean(np.sqrt(2) * norm.ppf(class_aucs(target, probability)))
    assert METRICS["d_prime"](target, probability) == pytest.approx(expected, abs=1e-9)


def test_perfect_scores() -> None:
    target = np.arange(40) % 5
    probability = one_hot(target, 5).astype(np.float32)
    for name in SCENE:
        expected = math.inf if name == "d_prime" else 1.0
        assert METRICS[name](target, probability) == expected, name


@pytest.mark.parametrize("name", SCENE)
@pytest.mark.parametrize("shares", [(0.25, 0.25, 0.25, 0.25), (0.6, 0.2, 0.1, 0.1)])
def test_chance_is_what_guesses_get(name: str, shares: tuple[float, ...]) -> None:
    """Guesses are random probabilities, equal in law for every label; labels may be unequal."""
    target = np.repeat(np.arange(4), [round(500 * share) for share in shares])
    rng = np.random.default_rng(8)
    scores = [METRICS[name](target, rng.random((500, 4), np.float32)) for _ in range(60)]
    chance = METRICS[name].chance
    assert chance is not None
    error = np.std(scores) / np.sqrt(60)
    bias = 0.01 if name in ("mAP", "macro_f1") else 0.0  # of order 1 / clips
    assert chance(target, 4) == pytest.approx(np.mean(scores), abs=4 * error + bias)


def test_chroma_has_a_chance_of_every_octave() -> None:
    target = np.arange(480) % 24
    rng = np.random.default_rng(5)
    scores = [METRICS["chroma_acc"](target, rng.random((480, 24))) for _ in range(60)]
    chance = METRICS["chroma_acc"].chance
    assert chance is not None
    assert chance(target, 24) == pytest.approx(1 / 12)
    assert np.mean(scores) == pytest.approx(1 / 12, abs=0.01)


@pytest.mark.parametrize("name", SCENE)
def test_no_clips_and_nan_are_undefined(name: str) -> None:
    assert math.isnan(METRICS[name](np.zeros(0, np.int64), np.zeros((0, 3), np.float32)))
    target, probability = multiclass(20, 3)
    probability[4, 1] = np.nan
    assert math.isnan(METRICS[name](target, probability))


def test_a_label_of_one_value() -> None:
    target = np.zeros(12, dtype=np.int64)  # label 1 has no positive, label 0 no negative
    probability = RNG.dirichlet([1, 1], 12).astype(np.float32)
    assert math.isnan(METRICS["aucroc"](target, probability))
    assert math.isnan(METRICS["d_prime"](target, probability))
    assert METRICS["mAP"](target, probability) == 0.5  # 1 and, as in scikit-learn since 1.0, 0
    assert average_precisions(target, probability).tolist() == [1.0, 0.0]


def test_opposite_infinities_have_no_mean() -> None:
    target = np.array([[1, 1], [0, 0]])
    probability = np.array([[0.9, 0.1], [0.1, 0.9]], dtype=np.float32)
    assert math.isnan(METRICS["d_prime"](target, probability))


def test_chroma_forgives_octaves_only() -> None:
    target = np.array([0, 0, 5])
    probability = np.zeros((3, 24), dtype=np.float32)
    probability[[0, 1, 2], [12, 1, 17]] = 1
    assert METRICS["pitch_acc"](target, probability) == 0.0
    assert METRICS["chroma_acc"](target, probability) == pytest.approx(2 / 3)


def test_accuracy_of_multilabel_data_counts_the_first_positive_only() -> None:
    target = np.array([[0, 1, 1], [1, 0, 1]])
    probability = np.array([[0.1, 0.2, 0.9], [0.8, 0.1, 0.7]], dtype=np.float32)
    assert METRICS["top1_acc"](target, probability) == 0.5


def test_the_first_of_equal_probabilities_wins() -> None:
    probability = np.array([[0.5, 0.5], [0.5, 0.5]], dtype=np.float32)
    assert METRICS["top1_acc"](np.array([0, 1]), probability) == 0.5


def test_unseen_classes_do_not_dilute_recall() -> None:
    target = np.array([0, 0, 2, 2])
    probability = np.eye(4, dtype=np.float32)[[0, 0, 2, 3]]
    assert METRICS["uar"](target, probability) == 0.75
    assert METRICS["macro_f1"](target, probability) == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.kind in ("scene", "event")])
def test_every_metric_is_described(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert metric.title
    assert metric.higher_is_better is (name != "segment_1s_er")
    assert (metric.compute is None) == (metric.kind == "event")
