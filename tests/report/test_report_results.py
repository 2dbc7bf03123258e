"""Reading results: columns, unions, contradictions, and what a report makes of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from synthetic_results import write_events, write_run, write_scene

import mambabench
from mambabench.errors import EncoderError, MambabenchError, StoreError
from mambabench.report.formats.json_text import ROW_KEYS
from mambabench.report.results import COLUMNS

KFOLD = {f"fold{i:02d}": 50 for i in range(5)}
ESC = "esc50-v2.0.0-full"


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    """Plots have a test of their own and take a second each."""
    monkeypatch.setattr("mambabench.report.written.draw_plots", lambda *arguments: [])


@pytest.fixture
def out(tmp_path):
    """Two encoders on a k-fold task with clusters, one of them on a second task too."""
    write_scene(tmp_path, "weak", ESC, skill=1.0, folds=KFOLD)
    write_scene(tmp_path, "strong", ESC, skill=2.0, folds=KFOLD)
    write_scene(tmp_path, "strong", "speaker", skill=1.5, clusters=24)
    return tmp_path


def rows_of(out, **options):
    body = json.loads(mambabench.report(out, "json", **options).text, parse_constant=pytest.fail)
    return body, {(row["encoder"], row["task"]): row for row in body["rows"]}


def test_load_results_columns_are_pinned(out):
    assert (
        *("encoder", "encoder_identity", "task", "protocol", "seed", "fold", "metric", "primary"),
        *("higher_is_better", "score", "n_test", "n_labels", "grid_point", "validation_score"),
        *("best_epoch", "n_epochs", "head_sha256", "layers", "restricted", "reason", "source"),
    ) == COLUMNS
    frame = mambabench.load_results(out)
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 10 * (5 + 5 + 1)
    assert frame.score.dtype == "float64"
    assert str(frame.n_test.dtype) == "Int64"
    assert set(frame.encoder) == {"weak", "strong"}
    assert frame.score.between(0, 1).all()


def test_json_contract(out):
    body, rows = rows_of(out)
    assert (
        *("schema", "rows", "beside", "overall", "pairs", "ranks", "costs", "comparisons"),
        *("published", "left_out", "baseline", "chosen", "version"),
    ) == tuple(body)
    (one,) = body["comparisons"]
    assert {one["encoder"], one["other"]} == {"weak", "strong"}
    assert one["p"] is not None
    assert {rank["rank"] for rank in body["ranks"] if rank["task"] == ESC} == {1.0, 2.0}
    assert {row["task"] for row in body["published"]} == {ESC}
    assert body["version"] == mambabench.__version__
    assert body["schema"] == "mambabench.report/2"
    assert (
        *("encoder", "task", "metric", "higher_is_better", "protocol", "n_seeds", "n_test", "mean"),
        *("std", "ci95_low", "ci95_high", "boot_low", "boot_high", "reason"),
        *("ties", "best", "smallest_difference", "flags", "boot_share", "note"),
    ) == ROW_KEYS
    assert all(tuple(row) == ROW_KEYS for row in body["rows"])
    assert {(row["encoder"], row["task"]) for row in body["rows"]} == set(rows)


def test_row_numbers_follow_their_definitions(out):
    frame = mambabench.load_results(out)
    own = frame[(frame.encoder == "weak") & (frame.task == ESC)]
    per_seed = own.groupby("seed").score.mean()
    _, rows = rows_of(out)
    row = rows["weak", ESC]
    assert row["n_seeds"] == 10
    assert row["n_test"] == 250
    assert row["mean"] == pytest.approx(per_seed.mean())
    assert row["std"] == pytest.approx(per_seed.std(ddof=1))
    interval = stats.t.interval(0.95, 9, loc=per_seed.mean(), scale=stats.sem(per_seed))
    assert (row["ci95_low"], row["ci95_high"]) == pytest.approx(interval)
    assert row["boot_low"] < row["mean"] < row["boot_high"]
    assert row["reason"] is None


def test_bootstrap_agrees_with_a_plain_one(out):
    """Ten thousand plain resamples of the seed-mean accuracy within each fold."""
    from mambabench.store.records import read_predictions, record_paths

    paths = [path for path in record_paths(out) if "weak" in path.parts]
    seeds = [read_predictions(path) for path in paths]
    rng = np.random.default_rng(0)
    folds = []
    for fold in KFOLD:
        hits = [s[f"{fold}/probability"].argmax(1) == s[f"{fold}/target"] for s in seeds]
        correct = np.mean(hits, axis=0)
        folds.append(correct[rng.integers(0, 50, (10_000, 50))].mean(axis=1))
    low, high = np.quantile(np.mean(folds, axis=0), [0.025, 0.975])
    row = rows_of(out)[1]["weak", ESC]
    assert (row["boot_low"], row["boot_high"]) == pytest.approx((low, high), abs=0.004)


def test_missing_cell_is_a_row_with_its_reason(out):
    row = rows_of(out)[1]["weak", "speaker"]
    assert row["mean"] is row["n_test"] is row["boot_low"] is None
    assert row["n_seeds"] == 0
    assert row["reason"].startswith("missing: no run record")
    assert "missing" in mambabench.report(out).text


def test_clusters_widen_the_interval(tmp_path):
    for name, clusters in (("a", 6), ("b", 0)):
        write_scene(tmp_path / name, "weak", "task", skill=1.0, clusters=clusters)
    rows = {name: rows_of(tmp_path / name)[1]["weak", "task"] for name in "ab"}
    width = {name: row["boot_high"] - row["boot_low"] for name, row in rows.items()}
    assert rows["a"]["mean"] == rows["b"]["mean"]
    assert width["a"] != width["b"]
    assert "*" in mambabench.report(tmp_path / "a").text


def test_one_seed_has_no_interval_over_seeds(tmp_path):
    write_scene(tmp_path, "weak", "task", skill=1.0, seeds=1, protocol="knn")
    row = rows_of(tmp_path)[1]["weak", "task"]
    assert row["std"] is row["ci95_low"] is None
    assert row["boot_low"] is not None
    assert row["reason"] == "one seed: no spread over seeds"


def test_run_without_score_is_missing_with_its_reason(tmp_path):
    write_run(
        *(tmp_path, "weak", "events", 0, [], {}),
        metric="event_onset_200ms_fms",
        protocol="knn",
        n_labels=3,
        reason="knn cannot predict events",
    )
    row = rows_of(tmp_path)[1]["weak", "events"]
    assert row["mean"] is None
    assert row["reason"] == "seed 0: knn cannot predict events"
    frame = mambabench.load_results(tmp_path)
    assert len(frame) == 1
    assert frame.reason[0] == "knn cannot predict events"
    assert math.isnan(frame.score[0])


@pytest.mark.parametrize(
    ("metric", "multilabel"),
    [("mAP", True), ("aucroc", False), ("d_prime", False), ("uar", False), ("macro_f1", False)],
)
def test_every_kind_of_metric_has_intervals_and_comparisons(tmp_path, metric, multilabel):
    for name, skill in (("weak", 0.5), ("strong", 1.5)):
        write_scene(
            *(tmp_path, name, "task"),
            skill=skill,
            metric=metric,
            multilabel=multilabel,
            seeds=3,
            n_labels=3,
        )
    result = mambabench.report(tmp_path)
    row = result.summary.rows[0]
    assert row.boot_low < row.mean < row.boot_high
    (comparison,) = result.summary.comparisons
    assert comparison.p_holm < 0.05
    assert comparison.boot_low < comparison.difference < comparison.boot_high


def test_events_are_resampled_and_swapped(tmp_path):
    for name, skill in (("weak", 0.4), ("strong", 0.6)):
        write_events(tmp_path, name, "dcase2016_task2-hear2021-full", skill=skill)
    result = mambabench.report(tmp_path)
    assert all(row.boot_low < row.mean < row.boot_high for row in result.summary.rows)
    assert result.summary.comparisons[0].p < 0.01


def test_metric_without_a_rule_is_resampled_by_repetition(tmp_path, monkeypatch):
    from dataclasses import replace

    from mambabench.benchmarks.metrics import METRICS
    from mambabench.benchmarks.metrics.metric import Opaque
    from mambabench.report.statistics import resampling, scoring

    monkeypatch.setitem(
        METRICS, "odd", replace(METRICS["top1_acc"], name="odd", statistic=Opaque())
    )
    write_scene(tmp_path, "weak", "task", skill=1.0, metric="odd", seeds=2)
    seeds = [
        {"target": np.arange(60) % 3, "probability": np.random.default_rng(s).random((60, 3))}
        for s in range(2)
    ]
    weights = np.random.default_rng(1).multinomial(60, np.ones(60) / 60, 20).T.astype(np.uint8)
    generic = scoring.fold_score("odd", seeds)
    linear = scoring.fold_score("top1_acc", seeds)
    np.testing.assert_allclose(generic.resampled(weights), linear.resampled(weights))
    assert generic.parts is None
    assert resampling.N_RESAMPLES == 2000
    assert rows_of(tmp_path)[1]["weak", "task"]["boot_low"] is not None


def test_comparison_is_made_on_common_seeds_and_clips(tmp_path):
    """It equals the comparison in a folder that holds these seeds and clips alone."""
    from mambabench.store.records import read_predictions

    write_scene(tmp_path / "all", "one", "task", skill=1.0, seeds=3)
    write_scene(tmp_path / "all", "two", "task", skill=1.4, seeds=2, folds={"test": 100})
    paths = {
        name: write_scene(tmp_path / "cut", name, "task", skill=skill, seeds=2, folds={"test": n})
        for name, skill, n in (("one", 1.0, 240), ("two", 1.4, 100))
    }
    hits = {}
    for name, own in paths.items():
        arrays = [read_predictions(path) for path in own]
        hits[name] = np.mean(
            [(a["test/probability"].argmax(1) == a["test/target"])[:100] for a in arrays], axis=0
        )
    (one,) = mambabench.report(tmp_path / "all").summary.comparisons
    assert one.common == "on the common 2 seeds (0, 1) and 100 test clips of 100 and 240"
    assert one.difference == pytest.approx(float((hits["one"] - hits["two"]).mean()), abs=1e-12)
    difference = hits["one"] - hits["two"]
    signs = np.random.default_rng(0).choice([-1, 1], (20_000, 100))
    p = (np.abs(signs @ difference) >= abs(difference.sum()) - 1e-9).mean()
    assert one.p == pytest.approx(p, abs=0.01)
    assert one.boot_low < one.difference < one.boot_high
    assert one.reason is None
    text = mambabench.report(tmp_path / "all", "markdown").text
    assert "on the common 2 seeds (0, 1) and 100 test clips" in text


def test_nothing_in_common_is_said(tmp_path):
    write_scene(tmp_path, "one", "task", skill=1.0, seeds=2, folds={"fold00": 40, "fold01": 40})
    write_scene(tmp_path, "two", "task", skill=1.0, seeds=2, folds={"test": 100})
    (one,) = mambabench.report(tmp_path).summary.comparisons
    assert one.reason == "different folds of test clips"
    assert one.p is None


def test_baseline_compares_with_it_only(tmp_path):
    for name in ("a", "b", "c"):
        write_scene(tmp_path, name, "task", skill=1.0, seeds=2)
    result = mambabench.report(tmp_path, baseline="b")
    pairs = {(c.encoder, c.other) for c in result.summary.comparisons}
    assert pairs == {("a", "b"), ("c", "b")}
    with pytest.raises(EncoderError, match=r"no results of this encoder.*did you mean 'b'"):
        mambabench.report(tmp_path, baseline="bb")


def test_best_that_overlaps_says_so(tmp_path):
    write_scene(tmp_path, "a", "task", skill=1.00, seeds=3)
    write_scene(tmp_path, "b", "task", skill=1.05, seeds=3)
    write_scene(tmp_path, "c", "other", skill=4.0, seeds=3)
    write_scene(tmp_path, "a", "other", skill=0.5, seeds=3)
    rows = mambabench.report(tmp_path).summary.rows
    best = {row.task: row for row in rows if row.best}
    assert best["task"].overlaps
    assert not best["other"].overlaps
    assert {row.ties for row in rows if row.task == "task" and row.mean} == {"a"}
    assert [r.ties for r in rows if r.task == "other" and r.encoder == "c"] == ["a"]
    assert "†" in mambabench.report(tmp_path, "markdown").text


def test_protocols_stay_apart(tmp_path):
    write_scene(tmp_path, "a", "task", skill=1.0, seeds=2)
    write_scene(tmp_path, "b", "task", skill=1.0, seeds=2, protocol="hear2021")
    result = mambabench.report(tmp_path)
    assert not result.summary.comparisons
    assert result.text.index("Protocol hear2021") < result.text.index("Protocol ssam2024")
    assert "Protocols are never compared" in result.text


def test_union_of_two_outputs(out, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_scene(other, "third", ESC, skill=1.5, folds=KFOLD)
    write_scene(other, "weak", ESC, skill=1.0, folds=KFOLD)  # the same runs once more
    frame = mambabench.load_results([out, other])
    assert set(frame.encoder) == {"weak", "strong", "third"}
    assert len(frame[frame.encoder == "weak"]) == 50


def test_contradicting_outputs_name_both_files(out, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_scene(other, "weak", ESC, skill=1.2, folds=KFOLD, seeds=1)
    with pytest.raises(StoreError, match=r"seed-000\.json and .*seed-000\.json are the same run"):
        mambabench.load_results([out, other])


def test_same_name_and_other_identity_is_another_encoder(tmp_path):
    for digit in "ab":
        write_scene(tmp_path, "ssam", "task", skill=1.0, seeds=2, identity=digit * 64)
    assert set(mambabench.load_results(tmp_path).encoder) == {"ssam@aaaaaaaa", "ssam@bbbbbbbb"}


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(StoreError, match="no such output folder"):
        mambabench.report(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="holds no run records"):
        mambabench.load_results(tmp_path)
    with pytest.raises(MambabenchError, match="did you mean 'markdown'"):
        mambabench.report(tmp_path, "markdwn")


def test_seeds_on_different_clips_are_a_reason(tmp_path):
    write_scene(tmp_path, "weak", "task", skill=1.0, seeds=2)
    write_scene(tmp_path, "weak", "task", skill=1.0, seeds=1, folds={"test": 100})
    row = rows_of(tmp_path)[1]["weak", "task"]
    assert row["boot_low"] is None
    assert "test clips of fold 'test' are not those of seed-000.json" in row["reason"]
    assert "probe again" in row["reason"]


def test_cache_gives_the_same_report_and_survives_damage(out):
    first = mambabench.report(out, "json").text
    cache = out / "report" / "cache"
    stored = sorted(cache.glob("*.npz"))
    assert len(stored) == 3
    assert mambabench.report(out, "json").text == first
    stored[0].write_bytes(b"broken")
    for file in cache.glob("*.json"):
        file.write_text("broken")
    assert mambabench.report(out, "json").text == first


def test_cache_follows_the_content(out):
    before = rows_of(out)[1]["weak", ESC]
    write_scene(out, "weak", ESC, skill=1.3, folds=KFOLD)
    after = rows_of(out)[1]["weak", ESC]
    assert after["boot_low"] != before["boot_low"]


def test_beehive_has_two_rows_and_their_mean(tmp_path):
    for fold, salt in (("0", 1), ("1", 2)):
        write_scene(
            *(tmp_path, "weak", f"beehive_states_fold{fold}-v2-full"),
            skill=1.0,
            metric="aucroc",
            n_labels=2,
            seeds=4,
            salt=salt,
        )
    _, rows = rows_of(tmp_path)
    mean = rows["weak", "beehive_states_mean_of_folds-v2-full"]
    halves = [rows["weak", f"beehive_states_fold{fold}-v2-full"] for fold in "01"]
    assert mean["mean"] == pytest.approx(np.mean([half["mean"] for half in halves]))
    assert mean["n_test"] == sum(half["n_test"] for half in halves)
    assert mean["boot_low"] < mean["mean"] < mean["boot_high"]


def test_restricted_tasks_show_scores_and_no_clip(tmp_path):
    write_scene(tmp_path, "weak", "interviews", skill=1.0, seeds=2, clusters=30, restricted=True)
    result = mambabench.report(tmp_path)
    for file in [*result.files, *(tmp_path / "report" / "cache").iterdir()]:
        data = file.read_bytes()
        assert b"test-clip0" not in data, file
        assert b"test-c1" not in data, file
    assert mambabench.load_results(tmp_path).restricted.all()
