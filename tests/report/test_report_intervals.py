"""Intervals over clips and what rows say of them, through the report on written records."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_results import write_run, write_scene

import mambabench
from mambabench.benchmarks.metrics import METRICS
from mambabench.report.statistics import evidence
from mambabench.report.statistics.clip_intervals import Units, clip_interval, far_seeds
from mambabench.report.statistics.resampling import FoldClips, TestClips
from mambabench.report.statistics.scoring import fold_score


@pytest.fixture(autouse=True)
def _no_files(monkeypatch):
    """Files have tests of their own: these look at numbers only."""
    monkeypatch.setattr("mambabench.report.verb.write_report", lambda *arguments: ([], None))


def write_answers(out, task, correct, clusters=None, encoder="a", folds=("test",), seed=0):
    """Write one seed of two-class answers, `correct` a list of bool arrays, one per fold."""
    arrays, results = {}, []
    for number, fold in enumerate(folds):
        own = correct[number]
        target = np.arange(len(own)) % 2
        probability = np.eye(2, dtype=np.float32)[np.where(own, target, 1 - target)]
        arrays |= {
            f"{fold}/clip": np.array([f"{fold}-{i:05d}.wav" for i in range(len(own))]),
            f"{fold}/cluster": np.array([""] * len(own) if clusters is None else clusters[number]),
            f"{fold}/target": target,
            f"{fold}/probability": probability,
        }
        results.append((fold, {"top1_acc": float(np.mean(own))}, len(own)))
    write_run(out, encoder, task, seed, results, arrays, metric="top1_acc", n_labels=2)


def rows_of(out):
    return mambabench.report(out).summary.rows


def test_no_error_at_all_leaves_room_for_errors(tmp_path):
    """Wilson's interval of 100 of 100, with Student's t: 100 / (100 + t^2) to 1."""
    write_answers(tmp_path, "task", [np.ones(100, bool)])
    (row,) = rows_of(tmp_path)
    assert row.mean == 1.0
    assert row.boot_low == pytest.approx(100 / (100 + 1.9842**2), abs=1e-4)
    assert row.boot_high == pytest.approx(1.0)
    assert "Wilson's interval" in row.note


def test_no_hit_at_all_is_the_mirror_image(tmp_path):
    write_answers(tmp_path, "task", [np.zeros(100, bool)])
    (row,) = rows_of(tmp_path)
    assert row.boot_low == pytest.approx(0.0)
    assert row.boot_high == pytest.approx(1 - 100 / (100 + 1.9842**2), abs=1e-4)


def test_no_error_among_clusters_counts_clusters(tmp_path):
    write_answers(tmp_path, "task", [np.ones(100, bool)], [[f"c{i % 10}" for i in range(100)]])
    (row,) = rows_of(tmp_path)
    assert row.boot_low == pytest.approx(10 / (10 + 2.2622**2), abs=1e-4)


@pytest.mark.parametrize(
    ("p", "n", "n_folds", "n_clusters"),
    [(0.95, 30, 1, 0), (0.99, 100, 1, 0), (2 / 3, 20, 5, 2), (2 / 3, 120, 1, 6)],
)
def test_intervals_cover(tmp_path, p, n, n_folds, n_clusters):
    """150 sets: an interval that covers 95 % covers fewer than 132 with probability .001."""
    rng = np.random.default_rng(int(1000 * p) + n)
    folds = [f"fold{i}" for i in range(n_folds)] if n_folds > 1 else ["test"]
    for number in range(150):
        correct, clusters = [], []
        for fold in folds:
            chance = np.full(n, p)
            if n_clusters:
                chance = np.repeat(rng.beta(2, 1, n_clusters), n // n_clusters)
                clusters.append([f"{fold}-{i * n_clusters // n}" for i in range(n)])
            correct.append(rng.random(n) < chance)
        write_answers(tmp_path, f"set{number}", correct, clusters or None, folds=folds)
    rows = rows_of(tmp_path)
    assert sum(row.boot_low <= p <= row.boot_high for row in rows) >= 132
    assert all(row.boot_low < row.boot_high for row in rows)


def test_clusters_of_a_small_fold_are_drawn_over_all_folds():
    def folds(n_clusters):
        clips = range(40)
        return tuple(
            FoldClips(
                name,
                tuple(f"{name}{i}" for i in clips),
                tuple(f"{name}{i % n_clusters}" for i in clips),
            )
            for name in "ab"
        )

    assert len(TestClips(folds(4)).strata) == 1
    assert len(TestClips(folds(10)).strata) == 2


def ranked(tmp_path, metric, target, probability, name="a"):
    own = {
        "clip": np.array([f"{i:05d}.wav" for i in range(len(target))]),
        "cluster": np.full(len(target), ""),
        "target": target,
        "probability": probability.astype(np.float32),
    }
    arrays = {f"test/{key}": value for key, value in own.items()}
    results = [("test", {metric: METRICS[metric](target, own["probability"])}, len(target))]
    write_run(tmp_path, name, "task", 0, results, arrays, metric=metric, n_labels=1)


def test_undefined_resamples_do_not_take_the_interval_away(tmp_path):
    """AUC with 5 positives in 100 clips: a resample in 160 draws none; warnings are errors here."""
    rng = np.random.default_rng(1)
    target = np.zeros((100, 1), np.uint8)
    target[:5] = 1
    for name in "ab":
        ranked(
            tmp_path, "aucroc", target, 1 / (1 + np.exp(-rng.normal(size=(100, 1)) - target)), name
        )
    summary = mambabench.report(tmp_path).summary
    row = summary.rows[0]
    assert row.boot_low < row.mean < row.boot_high
    assert 0.985 < row.boot_share < 1
    assert "interval over clips from the 99" in row.note
    assert "a label has 5 test clips" in row.note
    (one,) = summary.comparisons
    assert one.boot_low < one.difference < one.boot_high
    assert one.p is not None


def test_a_separated_label_has_no_interval_and_says_so(tmp_path):
    target = np.zeros((40, 1), np.uint8)
    target[:10] = 1
    ranked(tmp_path, "aucroc", target, np.linspace(0.9, 0.1, 40)[:, None])
    (row,) = rows_of(tmp_path)
    assert row.boot_low is None
    assert row.reason.startswith("no interval over clips: every resample has the same score")


def test_rows_say_what_their_clips_stand_for(tmp_path):
    write_scene(tmp_path, "a", "plain", skill=1.0, seeds=2)
    write_scene(tmp_path, "a", "named", skill=1.0, seeds=2, clusters=30)
    write_scene(tmp_path, "a", "few", skill=1.0, seeds=2, clusters=8)
    write_scene(tmp_path, "a", "ranks", skill=1.0, seeds=2, metric="mAP", multilabel=True)
    by_task = {row.task: row.note for row in rows_of(tmp_path)}
    assert by_task["plain"] == "clips taken as independent"
    assert by_task["named"] is None
    assert by_task["few"].startswith("8 clusters: few, so the interval over clips is widened")
    assert "the mAP of test sets of this size" in by_task["ranks"]
    for format in ("terminal", "markdown", "csv"):
        table = "long" if format == "csv" else "matrix"
        shown = mambabench.report(tmp_path, format, width=500, table=table).text
        assert "taken as independent" in shown


def test_file_names_of_hear_give_clusters(tmp_path):
    names = [f"1-{1000 + i // 4}-{'ABCD'[i % 4]}-{i % 2}.wav" for i in range(80)]
    target = np.arange(80) % 2
    probability = np.eye(2, dtype=np.float32)[target]
    probability[::7] = 0.5
    arrays = {
        "test/clip": np.array(names),
        "test/cluster": np.full(80, ""),
        "test/target": target,
        "test/probability": probability,
    }
    score = METRICS["top1_acc"](target, probability)
    for task in ("esc50-v2.0.0-full", "mine"):
        results = [("test", {"top1_acc": score}, 80)]
        write_run(tmp_path, "a", task, 0, results, arrays, metric="top1_acc", n_labels=2)
    by_task = {row.task: row for row in rows_of(tmp_path)}
    assert by_task["esc50-v2.0.0-full"].clustered
    assert by_task["esc50-v2.0.0-full"].n_units == 20
    assert by_task["mine"].n_units == 80


def test_recentred_scores_are_centred_on_the_score():
    """Average precision of resamples is too high: what is kept is their spread, not their mean."""
    rng = np.random.default_rng(2)
    target = (rng.random((80, 3)) < 0.2).astype(np.uint8)
    target[:3] |= np.eye(3, dtype=np.uint8)
    seed = {"target": target, "probability": rng.random((80, 3)).astype(np.float32)}
    score = fold_score("mAP", [seed])
    test = TestClips((FoldClips("test", tuple(f"{i:02d}" for i in range(80)), ("",) * 80),))
    plain = evidence._resample(test, [score], recentre=False)
    moved = evidence._resample(test, [score], recentre=True)
    assert plain.mean() > score.score + 0.01
    assert moved.mean() == pytest.approx(score.score, abs=1e-12)
    np.testing.assert_allclose(moved - moved.mean(), plain - plain.mean())


def test_few_units_widen_by_students_t():
    resampled = np.random.default_rng(3).normal(0.5, 0.05, 2000)
    wide, _, _ = clip_interval("uar", 0.5, resampled, Units(6, 240, 6.0, 1, True))
    narrow, _, _ = clip_interval("uar", 0.5, resampled, Units(10**6, 10**6, 1e6, 1, True))
    expected = 2.5706 / 1.9600 * np.sqrt(6 / 5)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("metric", "low", "high"), [("mAP", 0, 1), ("per", 0, 9), ("d_prime", -9, 9)]
)
def test_limits_stay_in_the_metrics_range(metric, low, high):
    resampled = np.random.default_rng(4).normal(0.5, 1.0, 2000)
    interval, _, _ = clip_interval(metric, 0.5, resampled, Units(50, 50, 50.0, 1, False))
    assert low <= interval.low < interval.high <= high
    assert (interval.high == 1) == (metric == "mAP")
    assert (interval.low == 0) == (metric in ("mAP", "per"))


def test_a_seed_far_from_the_others_is_named():
    scores = [0.84, 0.85, 0.83, 0.86, 0.21, 0.84]
    note = far_seeds(range(6), scores)
    assert note.startswith("seed 4 (0.210) far from the median 0.840")
    assert far_seeds(range(6), [0.84, 0.85, 0.83, 0.86, 0.82, 0.84]) is None
    assert far_seeds(range(4), scores[:4]) is None


def test_a_collapsed_seed_is_said_in_the_row(tmp_path):
    for seed in range(6):
        right = 30 if seed == 3 else 80 + seed
        write_answers(tmp_path, "task", [np.arange(100) < right], seed=seed)
    (row,) = rows_of(tmp_path)
    assert "seed 3 (0.300) far from the median" in row.note
