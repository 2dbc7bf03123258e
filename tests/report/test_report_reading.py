"""What a reader is told: ranks, ties, flags and overall scores that say what they rest on."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from synthetic_results import scene_arrays, without_predictions, write_run, write_scene

import mambabench
from mambabench.benchmarks.metrics import METRICS
from mambabench.errors import MambabenchError
from mambabench.report.runs import Flag
from mambabench.report.statistics.seeds import seed_interval
from mambabench.store.records import (
    read_predictions,
    read_record,
    write_record,
)

FORMATS = ("terminal", "markdown", "latex", "csv", "json")
OF_FOLD = ("n_train", "batch_size", "n_steps", "grid_point")


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr("mambabench.report.written.draw_plots", lambda *arguments: [])


def change(paths, **fields):
    """Write records again with other fields; `n_train` and the like go to every fold."""
    of_fold = {k: fields.pop(k) for k in OF_FOLD if k in fields}
    for path in paths:
        record = read_record(path)
        folds = tuple(replace(fold, **of_fold) for fold in record.folds)
        predictions = read_predictions(path)
        write_record(path.with_suffix(""), replace(record, folds=folds, **fields), predictions, {})


def every_format(out):
    texts = {name: mambabench.report(out, name).text for name in FORMATS}
    return texts | {"page": (out / "report" / "report.html").read_text(encoding="utf-8")}


def test_p_values_are_corrected_within_the_task_and_over_the_report(tmp_path):
    """Holm by hand: the smallest of three times 3, the next times 2; other tasks change nothing."""
    skills = {"a": 1.0, "b": 1.25, "c": 1.6}
    for name, skill in skills.items():
        write_scene(tmp_path, name, "one", skill=skill, seeds=2)
    alone = mambabench.report(tmp_path).summary
    by_p = sorted(alone.comparisons, key=lambda one: one.p)
    expected, highest = [], 0.0
    for place, one in enumerate(by_p):
        highest = max(highest, min(1.0, one.p * (3 - place)))
        expected.append(highest)
    assert [one.p_holm for one in by_p] == pytest.approx(expected, rel=1e-12)
    assert by_p[0].p_holm > by_p[0].p
    assert [one.p_report for one in by_p] == [one.p_holm for one in by_p]
    for name in skills:
        write_scene(tmp_path, name, "two", skill=1.0, seeds=2)
    both = mambabench.report(tmp_path).summary
    own = sorted((c for c in both.comparisons if c.task == "one"), key=lambda one: one.p)
    assert [one.p_holm for one in own] == [one.p_holm for one in by_p]
    assert own[0].p_report == pytest.approx(6 * own[0].p)
    ties = [{r.encoder: r.ties for r in s.rows if r.task == "one"} for s in (alone, both)]
    assert ties[0] == ties[1]


def test_letters_follow_the_correction(tmp_path, monkeypatch):
    """p = .03 and .04 of three pairs are no difference once corrected, .01 is one."""
    p_values = {frozenset("ab"): 0.03, frozenset("ac"): 0.01, frozenset("bc"): 0.04}
    real = mambabench.report.summary.compare

    def made_up(*arguments):
        return [replace(c, p=p_values[frozenset((c.encoder, c.other))]) for c in real(*arguments)]

    monkeypatch.setattr("mambabench.report.summary.compare", made_up)
    for name, skill in (("a", 2.0), ("b", 1.5), ("c", 1.0)):
        write_scene(tmp_path, name, "task", skill=skill, seeds=2)
    rows = mambabench.report(tmp_path).summary.rows
    assert {row.encoder: row.ties for row in rows} == {"a": "a", "b": "ab", "c": "b"}


def test_smallest_difference_is_half_the_paired_interval(tmp_path):
    for name, skill in (("a", 1.0), ("b", 1.3)):
        write_scene(tmp_path, name, "task", skill=skill, seeds=2)
    summary = mambabench.report(tmp_path).summary
    (one,) = summary.comparisons
    half = (one.boot_high - one.boot_low) / 2
    assert [row.smallest_difference for row in summary.rows] == pytest.approx([half, half])
    for name in ("terminal", "markdown", "latex"):
        assert f"task {100 * half:.2f}" in " ".join(mambabench.report(tmp_path, name).text.split())


def test_equal_means_are_all_bold(tmp_path):
    for name in ("ab", "ba"):  # the generator's seed is the sum of the letters
        write_scene(tmp_path, name, "task", skill=1.0, seeds=2)
    write_scene(tmp_path, "cc", "task", skill=0.2, seeds=2)
    rows = mambabench.report(tmp_path).summary.rows
    assert {row.encoder: row.best for row in rows} == {"ab": True, "ba": True, "cc": False}
    assert mambabench.report(tmp_path, "markdown").text.count("**") == 4


FLAGGED = {
    "clips-left-out": ("C", {"missing": ("train/secret.wav", "test/other.wav")}, "2 clips left"),
    "reduced-precision": ("P", {"precision": "bf16"}, "computed in bf16"),
    "upsampled": (
        *("R", {"sample_rate_hz": 48000, "resampled_from_hz": 16000}),
        "audio of 16000 Hz, upsampled to the encoder's 48000 Hz",
    ),
    "limited": ("L", {"limited": "100 clips a split"}, "limited run: 100 clips a split"),
    "too-few-frames": (
        *("F25%", {"grid_point": {"targets_longer_than_frames": 0.25}}),
        "25 % of the test clips have a target with more symbols than the encoder has frames",
    ),
    "few-steps": ("S", {"n_train": 390, "batch_size": 1024, "n_steps": 30}, "--protocol sound"),
    "older-protocol": ("V", {"protocol_version": 0}, "version 0 of ssam2024, beside version 1"),
}


@pytest.mark.parametrize("code", FLAGGED)
def test_flag_stands_at_the_number_in_every_format(tmp_path, code):
    letter, fields, said = FLAGGED[code]
    write_scene(tmp_path, "plain", "task", skill=1.0, seeds=2)
    change(write_scene(tmp_path, "marked", "task", skill=0.2, seeds=2), **fields)
    texts = every_format(tmp_path)
    rows = {row["encoder"]: row for row in json.loads(texts["json"])["rows"]}
    mean = f"{100 * rows['marked']['mean']:.1f}"
    for name in ("terminal", "markdown", "latex", "page"):
        text = unescape(texts[name].replace("\\%", "%"))
        assert re.search(rf"{re.escape(mean)}[^|&\n]*\[{letter}\]", text), name
        assert said in " ".join(text.split()), name
    assert [flag["code"] for flag in rows["marked"]["flags"]] == [code]
    assert rows["plain"]["flags"] == []
    lines = {row["encoder"]: row for row in csv.DictReader(io.StringIO(texts["csv"]))}
    assert letter in lines["marked"]["task marks"].split()
    assert letter not in lines["plain"]["task marks"].split()
    long = mambabench.report(tmp_path, "csv", table="long").text
    lines = {row["encoder"]: row for row in csv.DictReader(io.StringIO(long))}
    assert lines["marked"]["flags"].startswith(f"{code}: ")
    assert lines["plain"]["flags"] == ""
    long = mambabench.report(tmp_path, "markdown", table="long").text
    assert f"{100 * rows['marked']['mean']:.2f} [{letter}]" in long
    assert not any("secret" in text for text in texts.values())


def test_versions_of_a_protocol_are_not_compared(tmp_path):
    """The better number of an older version is neither best nor ranked, compared or averaged."""
    for task in ("one", "two"):
        for name, skill in (("new", 1.0), ("newer", 1.4)):
            change(write_scene(tmp_path, name, task, skill=skill, seeds=2), protocol_version=2)
        own = write_scene(tmp_path, "old", task, skill=3.0, seeds=2)
        change(own, protocol_version=1 if task == "one" else 2)
    result = mambabench.report(tmp_path, "markdown")
    summary = result.summary
    rows = {(row.encoder, row.task): row for row in summary.rows}
    assert [row.flags != () for row in summary.rows] == [
        (row.encoder, row.task) == ("old", "one") for row in summary.rows
    ]
    assert rows["old", "one"].mean > rows["newer", "one"].mean
    assert not rows["old", "one"].best
    assert rows["old", "one"].ties == ""
    assert rows["newer", "one"].best
    assert rows["old", "two"].best
    found = {(one.task, one.encoder, one.other): one for one in summary.comparisons}
    assert found["one", "new", "newer"].p is not None
    assert found["two", "new", "old"].p is not None
    apart = found["one", "new", "old"]
    assert (apart.p, apart.difference, apart.boot_low) == (None, None, None)
    assert apart.reason == (
        "different versions of ssam2024: new has version 2, old has version 1; probe the older one "
        "again"
    )
    assert apart.reason in result.text
    ranked = {rank.encoder for rank in summary.ranks if rank.task == "one"}
    assert ranked == {"new", "newer"}
    assert {v.encoder for v in summary.versus} | {v.other for v in summary.versus} == {
        "new",
        "newer",
    }
    complete = {one.encoder for one in summary.overall if one.score is not None}
    assert "old" not in {one.encoder for one in summary.overall if "one" in one.tasks} & complete


def test_seeds_of_two_versions_are_no_one_number(tmp_path):
    _, second = write_scene(tmp_path, "mixed", "task", skill=1.0, seeds=2)
    change([second], protocol_version=2)
    change(write_scene(tmp_path, "new", "task", skill=0.8, seeds=2), protocol_version=2)
    change(write_scene(tmp_path, "twin", "task", skill=0.8, seeds=1), protocol_version=2)
    summary = mambabench.report(tmp_path, "csv").summary
    rows = {row.encoder: row for row in summary.rows}
    assert [flag.code for flag in rows["mixed"].flags] == ["older-protocol"]
    assert "versions 1 and 2 of ssam2024" in rows["mixed"].flags[0].text
    found = {(one.encoder, one.other): one for one in summary.comparisons}
    assert found["mixed", "new"].p is None
    assert found["mixed", "twin"].p is None  # nor on the one seed that both have
    assert found["new", "twin"].p is not None


def test_one_older_version_alone_is_a_report_like_any_other(tmp_path):
    for name in ("a", "b"):
        change(write_scene(tmp_path, name, "task", skill=1.0, seeds=2), protocol_version=1)
    summary = mambabench.report(tmp_path, "csv").summary
    assert all(row.flags == () for row in summary.rows)
    assert summary.comparisons[0].p is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"sample_rate_hz": 16000, "resampled_from_hz": 48000},
        {"precision": "fp32"},
        {"n_train": 5000, "batch_size": 1024, "n_steps": 50},
        {"grid_point": {"targets_longer_than_frames": 0.0}},
        {"protocol": "sound", "n_train": 390, "batch_size": 32, "n_steps": 50},
    ],
)
def test_no_flag_without_cause(tmp_path, fields):
    change(write_scene(tmp_path, "plain", "task", skill=1.0, seeds=2), **fields)
    (row,) = mambabench.report(tmp_path).summary.rows
    assert row.flags == ()


def test_changed_record_is_marked_and_never_bold(tmp_path, monkeypatch):
    real = mambabench.report.summary.collect
    flag = Flag("changed", "seed-000.json is not what was written")

    def read(*given):
        found = real(*given)
        runs = tuple(
            replace(run, flags=(flag,)) if run.record.encoder == "best" else run
            for run in found.runs
        )
        return replace(found, runs=runs)

    monkeypatch.setattr("mambabench.report.summary.collect", read)
    for name, skill in (("best", 2.0), ("next", 1.0)):
        write_scene(tmp_path, name, "task", skill=skill, seeds=2)
    rows = {row.encoder: row for row in mambabench.report(tmp_path).summary.rows}
    assert rows["best"].mean > rows["next"].mean
    assert not rows["best"].best
    assert rows["next"].best
    texts = every_format(tmp_path)
    for name in ("terminal", "markdown", "latex", "page"):
        assert re.search(r"\[X\]", texts[name]), name
    assert f"**{100 * rows['best'].mean:.2f}" not in texts["markdown"]


def write_score(out, encoder, task, metric, score, **options):
    """Write a record without predictions: there is neither an interval nor a comparison."""
    results = [("test", {metric: score}, 10)]
    without_predictions(
        write_run(out, encoder, task, 0, results, {}, metric=metric, n_labels=2, **options)
    )


def write_error_rates(out):
    """Three encoders: accuracy .5, .6, .7 and error rates .9, .3, .5: by hand 0, 75, 83.3."""
    for name, accuracy, error in (("a", 0.5, 0.9), ("b", 0.6, 0.3), ("c", 0.7, 0.5)):
        for metric, value in (("top1_acc", accuracy), ("segment_1s_er", error)):
            write_score(out, name, f"of_{metric}", metric, value)


def test_error_rates_count_as_losses(tmp_path):
    write_error_rates(tmp_path)
    summary = mambabench.report(tmp_path).summary
    scores = {o.encoder: o.score for o in summary.overall if o.normalisation == "min-max"}
    assert scores == pytest.approx({"a": 0.0, "b": 75.0, "c": (100 + 100 * 0.4 / 0.6) / 2})
    heard = {o.encoder: o.score for o in summary.overall if o.normalisation == "hear-leaderboard"}
    assert heard["a"] == pytest.approx(-1.0)
    assert heard["c"] > heard["b"] > heard["a"]
    best = {row.task: row.encoder for row in summary.rows if row.best}
    assert best == {"of_top1_acc": "c", "of_segment_1s_er": "b"}


def test_no_normalised_score_of_two_encoders_but_their_pair(tmp_path):
    for name, skill in (("a", 2.5), ("b", 1.0)):
        for task in ("one", "two"):
            write_scene(tmp_path, name, task, skill=skill, seeds=2)
        write_scene(tmp_path, name, "three", skill=1.2, seeds=2)
    result = mambabench.report(tmp_path)
    assert {one.score for one in result.summary.overall} == {None}
    assert all("below 3 encoders" in one.reason for one in result.summary.overall)
    (pair,) = result.summary.versus
    assert (pair.wins, pair.ties, pair.losses, pair.untested) == (2, 1, 0, 0)
    differences = [one.difference for one in result.summary.comparisons]
    halves = [(one.boot_high - one.boot_low) / 2 for one in result.summary.comparisons]
    assert pair.mean == pytest.approx(sum(differences) / 3)
    assert pair.high - pair.mean == pytest.approx(sum(h**2 for h in halves) ** 0.5 / 3)
    for name, text in every_format(tmp_path).items():
        assert "pool of" not in text, name  # of no score
        if name != "json":
            assert "Won/tied/lost" in text, name
            assert re.search(r"2/1/0", text), name
            assert re.search(r"0/1/2", text), name
    assert "wins" in mambabench.report(tmp_path, table="long").text.lower()


def test_superb_points_are_of_percentages(tmp_path):
    """FBANK's own accuracy has 0 points, the best of 2021 has 1000; error rates run downwards."""
    for encoder, accuracy, error in (("fbank", 0.413826674, 0.8201), ("best", 0.9666, 0.0353)):
        for task, metric, value in (("ks", "top1_acc", accuracy), ("pr", "per", error)):
            write_score(tmp_path, encoder, f"superb_{task}", metric, value, protocol="superb")
    overall = mambabench.report(tmp_path).summary.overall
    found = {
        (o.encoder, o.normalisation): o.score
        for o in overall
        if o.normalisation.startswith("SUPERB points")
    }
    for task in ("KS", "PR"):
        assert found["fbank", f"SUPERB points, {task}"] == pytest.approx(0, abs=1e-6)
        assert found["best", f"SUPERB points, {task}"] == pytest.approx(1000)


def test_no_seed_interval_below_five_seeds_or_beyond_the_scale(tmp_path):
    assert seed_interval("top1_acc", [0.1, 0.9, 0.5, 0.4]) is None
    low, high = seed_interval("top1_acc", [0.9, 1.0, 1.0, 1.0, 1.0])
    assert 0.9 < low < 0.98
    assert high == 1.0
    assert seed_interval("segment_1s_er", [0.9, 1.3, 1.0, 1.0, 1.0]).high > 1
    assert seed_interval("d_prime", [0.1, -0.3, 0.0, 0.0, 0.0]).low < 0
    write_scene(tmp_path, "a", "task", skill=1.0, seeds=4)
    (row,) = mambabench.report(tmp_path).summary.rows
    assert row.ci95_low is row.ci95_high is None
    assert row.std is not None
    assert "4 seeds: no interval over seeds below 5" in row.reason


def test_load_results_gives_primary_scores_unless_asked_for_all(tmp_path):
    target, probability = scene_arrays(np.random.default_rng(0), 10, 2, 1.0, False)
    scores = {name: METRICS[name](target, probability) for name in ("top1_acc", "uar")}
    named = np.array([f"{i}.wav" for i in range(10)])
    arrays = {"clip": named, "cluster": np.full(10, ""), "target": target}
    arrays = {f"test/{k}": v for k, v in (arrays | {"probability": probability}).items()}
    results = [("test", scores, 10)]
    write_run(tmp_path, "a", "task", 0, results, arrays, metric="top1_acc", n_labels=2)
    frame = mambabench.load_results(tmp_path)
    assert frame.metric.tolist() == ["top1_acc"]
    assert frame.index.tolist() == [0]
    assert set(mambabench.load_results(tmp_path, metrics="all").metric) == {"top1_acc", "uar"}
    with pytest.raises(MambabenchError, match="metrics is 'every'; it is one of primary, all"):
        mambabench.load_results(tmp_path, metrics="every")
