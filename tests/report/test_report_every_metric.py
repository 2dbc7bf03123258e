"""A report comes out of every metric, and a defect of one task stays with that task."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from synthetic_results import write_run, write_scene

import mambabench
from mambabench.benchmarks.metrics import METRICS
from tests.report.test_report_drawn import queries, trials, write

SCENES = tuple(name for name, metric in METRICS.items() if metric.kind == "scene")
COUNTED = tuple(
    name for name, metric in METRICS.items() if metric.kind != "scene" and not metric.of_arrays
)


# of trials and of queries: a score of whole arrays
CROSSED = {"eer": trials, "mtwv": queries}
COUNTED_OR_CROSSED = (*COUNTED, *CROSSED)


def test_no_metric_is_left_out():
    assert {*SCENES, *COUNTED_OR_CROSSED} == set(METRICS)


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    """Plots have a test of their own and take a second each."""
    monkeypatch.setattr("mambabench.report.written.draw_plots", lambda *arguments: [])


def write_counts(out, encoder, task, metric, seed, n=30):
    """Write a record of a metric of counts, of the width that the metric takes."""
    rng = np.random.default_rng([seed, sum(encoder.encode())])
    k = {"segment_1s_er": 6, "joint_acc": 2, "per": 2}.get(metric, 3)
    counts = np.full((n, k), 10.0) if metric != "joint_acc" else np.ones((n, k))
    counts[:, 0] = rng.binomial(int(counts[0, 0]), 0.6, n)
    own = {"clip": np.array([f"c{i:03d}.wav" for i in range(n)]), "cluster": np.full(n, "")}
    arrays = {f"test/{name}": value for name, value in own.items()}
    arrays[f"test/counts:{metric}"] = counts
    results = [("test", {metric: float(METRICS[metric].score(counts.sum(axis=0)))}, n)]
    write_run(out, encoder, task, seed, results, arrays, metric=metric, n_labels=5)


@pytest.mark.parametrize("n_encoders", [1, 2, 3])
def test_every_metric_number_of_labels_and_of_seeds(tmp_path, n_encoders):
    """Every scene metric x {2, 3, 5 labels} x {1, 3 seeds}, every other metric x seeds."""
    cases = list(itertools.product(SCENES, (2, 3, 5), (1, 3)))
    for name in "abc"[:n_encoders]:
        for metric, n_labels, seeds in cases:
            write_scene(
                *(tmp_path, name, f"{metric}-{n_labels}-{seeds}"),
                skill=0.8,
                metric=metric,
                n_labels=n_labels,
                seeds=seeds,
                folds={"test": 40},
                multilabel=metric == "mAP",
            )
        for metric, seeds in itertools.product(COUNTED, (1, 3)):
            for seed in range(seeds):
                write_counts(tmp_path, name, f"{metric}-{seeds}", metric, seed)
        for (metric, make), seeds in itertools.product(CROSSED.items(), (1, 3)):
            for seed in range(seeds):
                arrays = make(seed=10 * seed + ord(name))
                write(tmp_path, name, metric, arrays, f"{metric}-{seeds}", seed)
    summary = mambabench.report(tmp_path).summary
    assert len(summary.rows) == n_encoders * (len(cases) + 2 * len(COUNTED_OR_CROSSED))
    for row in summary.rows:
        assert row.boot_low < row.mean < row.boot_high, row
    n_pairs = n_encoders * (n_encoders - 1) // 2
    assert len(summary.comparisons) == n_pairs * (len(cases) + 2 * len(COUNTED_OR_CROSSED))
    for one in summary.comparisons:
        assert 0 < one.p <= one.p_holm <= 1, one
        assert one.reason is None


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("mambabench.report.statistics.evidence.fold_score", AssertionError("columns")),
        ("mambabench.report.statistics.evidence.fold_score", IndexError("axis")),
        ("mambabench.report.statistics.comparison.exchange", ZeroDivisionError("by zero")),
    ],
)
def test_a_defect_in_one_task_is_a_line_and_the_other_tables_stay(
    tmp_path, monkeypatch, place, error
):
    from mambabench.report.statistics import evidence, swaps

    for name in "ab":
        write_scene(tmp_path, name, "whole", skill=1.0, seeds=2, folds={"test": 40})
        write_scene(
            *(tmp_path, name, "broken"),
            skill=1.0,
            seeds=2,
            metric="macro_f1",
            folds={"test": 40},
        )
    module = swaps if place.endswith("exchange") else evidence
    real = getattr(module, place.rpartition(".")[2])

    def planted(metric, *seeds):
        if metric == "macro_f1":
            raise error
        return real(metric, *seeds)

    monkeypatch.setattr(place, planted)
    result = mambabench.report(tmp_path)
    good = [row for row in result.summary.rows if row.task == "whole"]
    assert all(row.boot_low is not None for row in good)
    by_task = {one.task: one for one in result.summary.comparisons}
    assert by_task["whole"].p is not None
    assert by_task["broken"].p is None
    assert type(error).__name__ in by_task["broken"].reason
    assert type(error).__name__ in result.text
    assert all(row.mean is not None for row in result.summary.rows)


def test_damaged_predictions_cost_their_row_only(tmp_path):
    for name in "ab":
        write_scene(tmp_path, name, "task", skill=1.0, seeds=2, folds={"test": 40})
    (first, *_) = write_scene(tmp_path, "c", "task", skill=1.0, seeds=2, folds={"test": 40})
    first.with_suffix(".npz").write_bytes(b"PK\x03\x04 not an archive")
    summary = mambabench.report(tmp_path).summary
    rows = {row.encoder: row for row in summary.rows}
    assert rows["a"].boot_low is not None
    assert rows["c"].boot_low is None
    assert "seed-000.npz" in rows["c"].reason
    assert {one.encoder: one.p for one in summary.comparisons if one.other == "b"}["a"] is not None
