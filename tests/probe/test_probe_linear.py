"""The regression of `linear` against scikit-learn's, at every strength, and its failures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mambabench.errors import ProtocolError
from mambabench.probe.data import TaskRows
from mambabench.probe.families import linear
from mambabench.probe.families.linear import STRENGTHS, fit_linear, principal_axes, solve
from mambabench.probe.plan import ProbePlan
from mambabench.probe.protocols import PROTOCOLS
from mambabench.probe.verb import probe
from mambabench.store.records import read_predictions, read_record, record_paths


def _correlated(n: int, dim: int, n_labels: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return standardised rows whose columns are strongly correlated, float32, and labels."""
    generator = np.random.default_rng(n)
    label = generator.permutation(np.arange(n) % n_labels)
    rows = 0.3 * generator.normal(size=(n_labels, dim))[label] + generator.normal(size=(n, dim))
    rows = rows @ (generator.normal(size=(dim, dim)) * 0.9 ** np.arange(dim)[:, None])
    rows = (rows - rows.mean(0)) / rows.std(0)
    return torch.from_numpy(rows.astype(np.float32)), label


def _path(
    rows: torch.Tensor, target: torch.Tensor, *, multilabel: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weight and bias at every strength, each solved from the one before."""
    axes = principal_axes(rows)
    solution = np.zeros((len(target), axes.n_axes + 1))
    found = []
    for strength in STRENGTHS:
        solution = solve(axes, target, strength, solution, multilabel=multilabel)
        (weight,), (bias,) = axes.weight_and_bias(solution)
        found.append((weight, bias))
    return found


def test_the_strengths_are_the_eight_of_the_documentation() -> None:
    assert STRENGTHS == (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)


@pytest.mark.parametrize("largest", [4096, 1])
@pytest.mark.parametrize(("n", "dim"), [(240, 30), (60, 90)])
def test_every_strength_reaches_scikit_learns_optimum(
    monkeypatch: pytest.MonkeyPatch, n: int, dim: int, largest: int
) -> None:
    monkeypatch.setattr(linear, "_LARGEST_ROTATION", largest)  # 1: without a rotation
    rows, label = _correlated(n, dim, 4)
    target = torch.nn.functional.one_hot(torch.from_numpy(label), 4).double().t().contiguous()
    for strength, (weight, bias) in zip(
        STRENGTHS, _path(rows, target, multilabel=False), strict=True
    ):
        reference = LogisticRegression(C=strength, solver="newton-cg", tol=1e-9, max_iter=1000)
        reference.fit(rows.double().numpy(), label)
        size = np.abs(reference.coef_).max()
        np.testing.assert_allclose(weight, reference.coef_, rtol=0, atol=2e-5 * size)
        np.testing.assert_allclose(
            bias - bias.mean(), reference.intercept_ - reference.intercept_.mean(), atol=1e-4
        )


def test_every_label_of_multilabel_rows_reaches_scikit_learns_optimum() -> None:
    rows, label = _correlated(150, 20, 3)
    target = np.stack([label == 0, label != 1, (label + np.arange(150)) % 2 == 0]).astype(float)
    found = _path(rows, torch.from_numpy(target), multilabel=True)
    for strength, (weight, bias) in zip(STRENGTHS, found, strict=True):
        for i, positive in enumerate(target):
            reference = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-9)
            reference.fit(rows.double().numpy(), positive)
            size = np.abs(reference.coef_).max()
            np.testing.assert_allclose(weight[i], reference.coef_[0], rtol=0, atol=2e-5 * size)
            assert bias[i] == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_a_label_without_clips_has_an_end(scene: Any) -> None:
    """Its bias has no optimum, but the objective comes as near as rounding tells."""
    rows, label = _correlated(60, 8, 3)
    target = torch.zeros(4, 60).double()
    target[torch.from_numpy(label), torch.arange(60)] = 1.0
    for multilabel in (False, True):
        weight, bias = _path(rows, target, multilabel=multilabel)[-1]
        assert np.isfinite(weight).all()
        assert bias[3] < bias[:3].min() - 5


def test_a_search_that_ends_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_ITERATIONS", 3)
    rows, label = _correlated(240, 30, 4)
    target = torch.nn.functional.one_hot(torch.from_numpy(label), 4).double().t().contiguous()
    with pytest.raises(
        ProtocolError, match=r"at C = 0.\d+ did not reach its optimum: after 3 iterations"
    ):
        _path(rows, target, multilabel=False)


def test_a_value_that_is_not_finite_is_an_error() -> None:
    rows, label = _correlated(60, 8, 3)
    rows[3, 2] = float("inf")
    target = torch.nn.functional.one_hot(torch.from_numpy(label), 3).double().t().contiguous()
    axes = linear.Axes(rows.double(), torch.full((8,), 60.0).double(), None)
    with pytest.raises(ProtocolError, match=r"C = 0.0001 .*use --protocol sound"):
        solve(axes, target, STRENGTHS[0], np.zeros((3, 9)), multilabel=False)


def test_a_failed_regression_is_a_unit_with_its_reason(
    shelf: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_ITERATIONS", 1)
    shelf.add(*scene(n=30))
    (failure,) = probe(1, "linear", out=tmp_path).failures
    assert "did not reach its optimum" in failure.reason
    assert read_record(record_paths(tmp_path)[0]).reason == failure.reason


def test_test_rows_are_scaled_by_the_training_rows(shelf: Any, scene: Any, tmp_path: Path) -> None:
    """Probabilities are those of a regression on standardised rows, at the chosen strength.

    Columns of different scale and a test split that lies elsewhere show any other scaling.
    """
    task, sets = scene(n=45, dim=6)
    stretch = 10.0 ** np.arange(-2, 4)
    for split, part in sets.items():
        part.embeddings[:] = part.embeddings * stretch + (3.0 * stretch if split == "test" else 0)
    rows = TaskRows(shelf.add(task, sets), kit=False)
    probe(1, "linear", out=tmp_path)
    (path,) = record_paths(tmp_path)
    record = read_record(path)
    (fold,) = rows.folds
    training, test = rows.training(fold), rows.test(fold)
    mean, deviation = training.embeddings.mean(0), training.embeddings.std(0)
    reference = LogisticRegression(C=record.folds[0].grid_point["C"], tol=1e-9, max_iter=5000)
    reference.fit((training.embeddings - mean) / deviation, training.targets)
    expected = reference.predict_proba((test.embeddings - mean) / deviation)
    np.testing.assert_allclose(read_predictions(path)["test/probability"], expected, atol=2e-4)


def test_the_strongest_of_equals_wins(shelf: Any, scene: Any) -> None:
    """On rows that every strength separates, all validate alike."""
    task, sets = scene(n=30, spread=0.01)
    plan = ProbePlan(TaskRows(shelf.add(task, sets), kit=False), PROTOCOLS["linear"])
    fitted = fit_linear(plan.prepared(plan.rows.folds[0], 0))
    assert fitted.validation_score == 1.0
    assert fitted.grid_point == {"C": 1e-4}


def test_predicted_rows_do_not_depend_on_each_other(shelf: Any, scene: Any) -> None:
    task, sets = scene(n=40)
    plan = ProbePlan(TaskRows(shelf.add(task, sets), kit=False), PROTOCOLS["linear"])
    fitted = fit_linear(plan.prepared(plan.rows.folds[0], 0))
    rows = sets["test"].embeddings[:, 0]
    whole = fitted.predict(rows)
    for start, stop in itertools.pairwise((0, 1, 7, 40)):
        np.testing.assert_allclose(fitted.predict(rows[start:stop]), whole[start:stop], rtol=1e-5)
