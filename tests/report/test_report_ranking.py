"""Weighted average precision and AUC against scikit-learn."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mambabench.report.statistics import ranking


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    target = rng.random((80, 5)) < 0.3
    score = np.round(rng.normal(size=(80, 5)) + target, 1).astype(np.float32)  # many ties
    weights = rng.multinomial(80, np.ones(80) / 80, size=40).T.astype(np.uint8)
    return target, score, weights


def test_weighted_scores_equal_scikit_learn_on_repeated_clips(data):
    target, score, weights = data
    found = ranking.weighted(target, score, weights)
    for column in range(weights.shape[1]):
        clips = np.repeat(np.arange(80), weights[:, column])
        for label in range(5):
            truth, ours = target[clips, label], score[clips, label]
            precision = average_precision_score(truth, ours)
            assert found.average_precision[label, column] == pytest.approx(precision, abs=1e-9)
            area = roc_auc_score(truth, ours)
            assert found.auc[label, column] == pytest.approx(area, abs=1e-9)


def test_without_numba_the_same_numbers_come_with_one_warning(data, monkeypatch):
    real = builtins.__import__

    def without_numba(name, *rest, **kwargs):
        if name == "numba":
            raise ImportError("not here")
        return real(name, *rest, **kwargs)

    compiled = ranking.weighted(*data)
    ranking._kernel.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without_numba)
    with pytest.warns(RuntimeWarning, match="numba cannot be imported"):
        plain = ranking.weighted(*data)
    ranking._kernel.cache_clear()
    np.testing.assert_allclose(plain.average_precision, compiled.average_precision, atol=1e-12)
    np.testing.assert_allclose(plain.auc, compiled.auc, atol=1e-12)


def test_class_without_positives_or_negatives_is_nan():
    score = np.array([[0.9, 0.1], [0.2, 0.3]])
    target = np.array([[False, True], [False, True]])
    found = ranking.weighted(target, score, np.ones((2, 1), np.uint8))
    assert np.isnan(found.average_precision[0, 0])
    assert found.average_precision[1, 0] == 1.0
    assert np.isnan(found.auc).all()
