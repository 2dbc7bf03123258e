"""From a corpus in its own layout to a row of the report, for every SUPERB task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from trees import ENCODER, TREES

import mambabench
from mambabench.benchmarks.superb import asv
from mambabench.benchmarks.superb.prepare import prepare
from mambabench.cli.probe import command as probe_command
from mambabench.probe.families.recipes import LEARNING_RATES
from mambabench.probe.protocols import superb as superb_protocol
from mambabench.store.open import list_stored_tasks, read_embeddings
from mambabench.store.records import read_predictions, read_record, record_paths

ROOT = Path(__file__).resolve().parents[2]

STEPS = {
    "KS": 300,
    "IC": 400,
    "SID": 300,
    "ER": 200,
    "PR": 300,
    "ASV": 16,
    "ASR": 20,
    "SF": 20,
    "SD": 150,
}


DIFFERENT = ("superb_er", "superb_asv", "superb_sd")  # under `superb-clean`


def shortened(patch: pytest.MonkeyPatch) -> None:
    """Give every recipe few steps, and ASV small batches."""
    for name, steps in STEPS.items():
        recipe = replace(superb_protocol.RECIPES[name], total_steps=steps, evaluations=4)
        if name in ("KS", "IC", "SID", "ER"):
            recipe = replace(recipe, learning_rates=LEARNING_RATES[:3])
        if name == "ASV":
            recipe = replace(recipe, batch_size=16)
        if name in ("ASR", "SF", "SD"):
            recipe = replace(recipe, learning_rates=(1e-2,), width=32, batch_size=8, accumulation=1)
        if name == "PR":
            recipe = replace(recipe, learning_rates=(3e-2, 1e-2))  # few steps
        patch.setitem(superb_protocol.RECIPES, name, recipe)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("superb")
    (base / "bands.py").write_text(ENCODER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asv, "MIN_SAMPLES", 6_400)  # clips of half a second instead of two to eight
        patch.setattr(asv, "CROP_S", 1.0)
        for name, write in TREES.items():
            more = {"seconds": 0.5} if name == "superb_asv" else {}
            prepare(name, write(base / "corpora" / name, **more), base / "tasks")
    out = base / "out"
    done = mambabench.extract([str(base / "bands.py")], [base / "tasks"], out=out, jobs=1)
    assert not done.failed
    with pytest.MonkeyPatch.context() as patch:
        shortened(patch)
        first = mambabench.probe(1, out=out, jobs=1)
        clean = mambabench.probe(1, "superb-clean", out=out, task=DIFFERENT, jobs=2)
    assert not first.failures
    assert not clean.failures
    return out


def test_every_task_has_a_score_and_its_learning_rate(results):
    records = [read_record(path) for path in record_paths(results)]
    found = {(r.task, r.protocol): r for r in records}
    assert {task for task, _ in found} == set(TREES)
    scores = {task: found[task, "superb"].score for task in TREES}
    assert scores["superb_ks"] > 0.5
    assert scores["superb_ic"] > 0.05
    assert scores["superb_sid"] > 0.8
    assert scores["superb_er"] > 0.5
    assert scores["superb_pr"] < 0.05
    assert scores["superb_asv"] < 0.25
    assert scores["superb_qbe"] > 0.2
    assert scores["superb_sd"] < 0.02
    for task in ("superb_asr", "superb_sf"):  # too few steps to read
        assert len(found[task, "superb"].folds[0].scores) == 2
        assert found[task, "superb"].folds[0].grid_point["targets_longer_than_frames"] == 0
    for (task, _), record in found.items():
        for fold in record.folds:
            assert ("learning_rate" in fold.grid_point) == (task != "superb_qbe")
    assert found["superb_asv", "superb"].folds[0].grid_point["selected_on"] == "test"
    clean = found["superb_asv", "superb-clean"].folds[0].grid_point["selected_on"]
    assert clean == "held-out training speakers"
    assert [fold.fold for fold in found["superb_er", "superb"].folds] == [
        f"Session{i}" for i in range(1, 6)
    ]


def test_every_record_carries_its_differences_and_the_page_lists_them(results):
    page = " ".join((ROOT / "docs/superb.md").read_text().replace("`", "").split())
    facts = ("clip order: ", "training clips of at most 2 s after trimming, left out: 1")
    for path in record_paths(results):
        record = read_record(path)
        assert len(record.notes) >= 3
        for note in record.notes:
            assert note.startswith(facts) or note in page, note
    clean = {
        r.task: r.notes for r in map(read_record, record_paths(results)) if "clean" in r.protocol
    }
    assert any("superb-clean: ER" in note for note in clean["superb_er"])


def test_short_training_clips_are_left_out_and_long_ones_cropped(results):
    task = next(s.task for s in list_stored_tasks(results) if s.task.name == "superb_asv")
    names = [clip.name for clip in task.clips["train"]]
    assert not any("short" in name for name in names)
    assert sum("long" in name for name in names) == asv.STORED_CROPS
    assert {c.source.duration_s for c in task.clips["train"] if "long" in c.name} == {1.0}


def test_frames_are_stored_in_half_precision_and_means_in_single(results):
    stored = {s.task.name: s for s in list_stored_tasks(results)}
    frames = read_embeddings(stored["superb_pr"], "test")
    assert frames.embeddings.dtype == np.float16
    assert len(frames.timestamps_ms) == len(frames.embeddings)
    means = read_embeddings(stored["superb_ks"], "test")
    assert means.embeddings.dtype == np.float32
    assert means.embeddings.shape[0] == len(means.clip_names)


def test_time_means_are_the_means_of_the_encoders_frames(results, tmp_path):
    import soundfile
    import torch

    from mambabench.models.registry import load_encoder

    stored = {s.task.name: s for s in list_stored_tasks(results)}["superb_ks"]
    split = read_embeddings(stored, "valid")
    clips = {clip.name: clip for clip in stored.task.clips["valid"]}
    encoder = load_encoder(str(results.parent / "bands.py"))
    for row in (0, len(clips) - 1):  # a word, and a crop of noise
        clip = clips[split.clip_names[row]]
        samples, rate = soundfile.read(clip.source.path, dtype="float32")
        start = round(clip.source.start_s * rate)
        samples = samples[start : start + rate] * 10 ** (-3 / 20)
        frames, _ = encoder.timestamps(torch.from_numpy(samples.astype(np.float32))[None], None)
        expected = frames[0].mean(0).numpy()
        assert np.abs(split.embeddings[row] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_same_seed_gives_the_same_bytes_with_other_jobs(results, tmp_path, monkeypatch):
    import shutil

    shortened(monkeypatch)
    shutil.copytree(results / "embeddings", tmp_path / "embeddings")
    mambabench.probe(1, "superb", out=tmp_path, task=["superb_er"], jobs=2)
    (path,) = record_paths(tmp_path)
    (before,) = [
        p for p in record_paths(results) if "superb_er" in str(p) and "clean" not in str(p)
    ]
    assert path.read_bytes() == before.read_bytes()
    mine, theirs = read_predictions(path), read_predictions(before)
    assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)


def test_the_report_shows_them_and_the_score_stays_missing(results):
    text = mambabench.report(results, format="json").text
    rows = {(r["task"], r["protocol"]): r for r in json.loads(text)["rows"]}
    assert rows["superb_pr", "superb"]["higher_is_better"] is False
    assert rows["superb_pr", "superb"]["boot_low"] is not None
    assert rows["superb_asv", "superb"]["boot_low"] is None


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_a_score_selected_on_the_test_set_is_marked(results, form):
    text = mambabench.report(results, format=form).text
    marks = text.count("‡") + text.count(r"\ddagger")
    (clean, marked) = [
        row.selected_on_test
        for protocol in ("superb-clean", "superb")
        for row in mambabench.report(results).summary.rows
        if (row.task, row.protocol) == ("superb_asv", protocol)
    ]
    assert marked
    assert not clean
    assert marks == 3  # ASV's and SD's score, and what the mark means
    assert "selected by its score on the test set" in text.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["superb_asr", "superb_sf"])
def test_letters_are_read_by_a_short_preset(name, tmp_path, monkeypatch):
    (tmp_path / "bands.py").write_text(ENCODER)
    prepare(name, TREES[name](tmp_path / "corpus"), tmp_path / "tasks")
    done = mambabench.extract([str(tmp_path / "bands.py")], [tmp_path / "tasks"], out=tmp_path)
    assert not done.failed
    short = name[-3:].strip("_").upper()
    recipe = superb_protocol.RECIPES[short]
    few = {"total_steps": 80_000, "evaluations": 8, "batch_size": 8, "width": 1024}
    monkeypatch.setitem(
        superb_protocol.RECIPES, short, replace(recipe, **few, shortened_rates=(5e-3,))
    )
    mambabench.probe(1, "superb", "faster", out=tmp_path)
    (path,) = record_paths(tmp_path)
    scores = read_record(path).folds[0].scores
    if name == "superb_asr":
        assert scores["wer"] < 0.05
    else:
        assert scores["slot_type_f1"] > 0.95


def test_a_kit_protocol_says_why_it_cannot_do_sequences(results):
    done = CliRunner().invoke(
        probe_command,
        ["--out", str(results), "--protocol", "linear", "--task", "superb_pr", "--seeds", "1"],
    )
    assert "linear does not apply to superb_pr" in done.output


def test_published_rows_stand_beside_ours_and_fine_tuned_ones_are_marked(results):
    summary = mambabench.report(results).summary
    keyword = [row for row in summary.published if row.task == "superb_ks"]
    hubert = next(row for row in keyword if row.model == "HuBERT Base")
    assert hubert.score == pytest.approx(0.963)
    assert hubert.same_protocol
    tuned = [row for row in keyword if row.protocol == "finetuned"]
    assert tuned
    assert not any(row.same_protocol for row in tuned)
