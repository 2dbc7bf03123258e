"""Clips as a table, and the gate for continuous integration."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from synthetic_results import without_predictions, write_run, write_scene

import mambabench
from mambabench.cli.clips import command as clips
from mambabench.cli.report import command as report
from mambabench.errors import MambabenchError
from mambabench.report.clips import CLIP_COLUMNS
from mambabench.report.gate import drops
from mambabench.store.records import read_predictions, read_record, write_record

ESC = "esc50-v2.0.0-full"
FOLDS = {"fold00": 40, "fold01": 60}


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr("mambabench.report.written.draw_plots", lambda *arguments: [])


@pytest.fixture
def out(tmp_path):
    for name, skill in (("weak", 0.8), ("strong", 2.0)):
        write_scene(tmp_path, name, ESC, skill=skill, seeds=3, folds=FOLDS, clusters=5)
        write_scene(tmp_path, name, "many", skill=skill, seeds=3, metric="mAP", multilabel=True)
    write_scene(tmp_path, "weak", "secret", skill=1.0, seeds=2, restricted=True, clusters=4)
    return tmp_path


def test_right_clips_give_the_stored_scores(out):
    frame = mambabench.load_clips(out, encoder="s*", task="ESC-50")
    assert tuple(frame.columns) == CLIP_COLUMNS
    assert len(frame) == 3 * 100
    stored = mambabench.load_results(out)
    stored = stored[(stored.encoder == "strong") & (stored.task == ESC)]
    for row in stored.itertuples():
        own = frame[(frame.seed == row.seed) & (frame.fold == row.fold)]
        assert own.right.mean() == pytest.approx(row.score, abs=1e-12)
    assert (frame.right == (frame.target == frame.prediction)).all()
    assert frame.probability.between(0.25, 1).all()
    assert frame.cluster.nunique() == 10


def test_wrong_keeps_the_others_out_and_restricted_clips_have_no_names(out):
    frame = mambabench.load_clips(out, wrong=True)
    assert not frame.right.any()
    assert set(frame.task) == {ESC, "secret"}
    secret = frame[frame.task == "secret"]
    assert not secret["clip"].str.contains("clip").any()
    assert not secret.cluster.str.contains("c", regex=False).any()


def test_choice_without_clips_is_an_error(out):
    with pytest.raises(MambabenchError, match="has a single label and stored predictions"):
        mambabench.load_clips(out, task="many")
    with pytest.raises(MambabenchError, match="--encoder 'wek'.*did you mean 'weak'"):
        mambabench.load_clips(out, encoder="wek")


def run(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], standalone_mode=False)


def test_command_lists_the_hardest_first_and_json_is_the_frame(out):
    chosen = ("--out", out, "--encoder", "strong", "--task", ESC, "--wrong")
    lines = run(clips, *chosen).stdout.splitlines()
    shares = [line.split("right ")[1].split(" ")[0] for line in lines]
    assert shares == sorted(shares)
    assert "3/3" not in shares
    rows = [json.loads(line) for line in run(clips, *chosen, "--json").stdout.splitlines()]
    frame = mambabench.load_clips(out, encoder="strong", task=ESC, wrong=True)
    assert [row["clip"] for row in rows] == frame["clip"].tolist()
    assert list(rows[0]) == list(CLIP_COLUMNS)
    assert len({(row["fold"], row["clip"]) for row in rows}) == len(lines)


def test_gate_is_red_where_an_encoder_is_significantly_worse(out):
    result = run(report, "--out", out, "--baseline", "strong", "--gate")
    assert result.return_value == 1
    assert f"gate: weak on {ESC} (ssam2024), top1_acc: worse than strong by" in result.stderr
    green = run(report, "--out", out, "--task", "many", "--baseline", "weak", "--gate")
    assert green.return_value == 0
    assert "gate: nothing is worse than weak" in green.stderr


def test_gate_names_a_task_that_is_missing(out):
    found = drops(mambabench.report(out, baseline="weak").summary)
    assert [(one.encoder, one.task, one.why) for one in found] == [("strong", "secret", "missing")]


def test_margin_counts_points_whichever_way_the_metric_runs(tmp_path):
    for name, error in (("base", 0.30), ("near", 0.31), ("far", 0.34)):
        results = [("test", {"segment_1s_er": error}, 10)]
        path = write_run(tmp_path, name, "t", 0, results, {}, metric="segment_1s_er", n_labels=2)
        without_predictions(path)
    summary = mambabench.report(tmp_path, baseline="base").summary
    assert drops(summary) == ()
    (one,) = drops(summary, margin=2.0)
    assert (one.encoder, one.why) == ("far", "margin")
    assert one.loss == pytest.approx(0.04)
    assert {drop.encoder for drop in drops(summary, margin=0.5)} == {"near", "far"}


def test_gate_does_not_hold_two_versions_of_a_protocol_against_each_other(tmp_path):
    """Whichever of the two is older, and however near they are: the gate says what to do."""
    for name, versions in (("base", 1), ("new", 2)):
        for task, version in (("same", 2), ("other", versions)):
            for path in write_scene(tmp_path, name, task, skill=1.0, seeds=2):
                record = replace(read_record(path), protocol_version=version)
                write_record(path.with_suffix(""), record, read_predictions(path), {})
    for baseline, name in (("base", "new"), ("new", "base")):
        result = run(report, "--out", tmp_path, "--baseline", baseline, "--gate", "--margin", 90)
        assert result.return_value == 1
        assert [line for line in result.stderr.splitlines() if line.startswith("gate: ")] == [
            f"gate: {name} on other (ssam2024), top1_acc: another version of ssam2024 than "
            f"{baseline}'s, so not compared: probe the older one again"
        ]
    result = run(report, "--out", tmp_path, "--task", "same", "--baseline", "base", "--gate")
    assert result.return_value == 0


def test_rows_of_one_older_version_are_held_against_the_margin(tmp_path):
    """Both flagged, beside a third of a newer version: two of one version may be compared."""
    versions = {"base": (1, 2), "near": (1, 2), "mixed": (1, 3), "third": (3, 3)}
    for name, of_seeds in versions.items():
        error = {"base": 0.30, "near": 0.34, "mixed": 0.30, "third": 0.30}[name]
        for seed, version in enumerate(of_seeds if name == "mixed" else (of_seeds[0],) * 2):
            results = [("test", {"segment_1s_er": error}, 10)]
            path = write_run(
                tmp_path, name, "t", seed, results, {}, metric="segment_1s_er", n_labels=2
            )
            record = replace(read_record(path), protocol_version=version)
            write_record(path.with_suffix(""), record, {}, {})
            without_predictions(path)
    found = drops(mambabench.report(tmp_path, baseline="base").summary, margin=2.0)
    assert {one.encoder: one.why for one in found} == {
        "near": "margin",
        "mixed": "version",
        "third": "version",
    }


@pytest.mark.parametrize("gone", ["base", "new"])
def test_gate_takes_no_score_whose_predictions_are_gone(tmp_path, gone):
    for name in ("base", "new"):
        paths = write_scene(tmp_path, name, "t", skill=1.0, seeds=2)
        if name == gone:
            paths[0].with_suffix(".npz").unlink()
    result = run(report, "--out", tmp_path, "--baseline", "base", "--gate", "--margin", 90)
    assert result.return_value == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("gate: ")] == [
        "gate: new on t (ssam2024), top1_acc: its predictions, or base's, are not there, "
        "so not compared: probe again"
    ]


def test_gate_needs_a_baseline(out):
    assert "--gate needs --baseline" in str(run(report, "--out", out, "--gate").exception)
    result = run(report, "--out", out, "--margin", 1)
    assert "--margin needs --gate" in str(result.exception)
