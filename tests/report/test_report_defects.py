"""Records and predictions that do not hold: refused by file name, and nothing else suffers."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_results import write_events, write_scene

import mambabench
from mambabench.errors import StoreError
from mambabench.files import canonical_json, sha256_file
from mambabench.report.checked import check_records
from mambabench.report.results import collect, group_runs
from mambabench.store.records import read_predictions, read_record, record_bytes, record_paths


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    """Plots have a test of their own and take a second each."""
    monkeypatch.setattr("mambabench.report.written.draw_plots", lambda *arguments: [])


def edit(path: Path, **changes: Any) -> None:
    """Change a record as one does by hand: its own hash stays what it was."""
    path.write_bytes(canonical_json({**json.loads(path.read_bytes()), **changes}))


def forge(path: Path, **changes: Any) -> None:
    """Change a record and give it the hash that belongs to it then."""
    record = replace(read_record(path), **changes)
    path.write_bytes(record_bytes(record, sha256_file(path.with_suffix(".npz"))))


def rows(out: Path) -> dict[tuple[str, str], Any]:
    summary = mambabench.report(out).summary
    return {(row.encoder, row.task): row for row in summary.rows}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three seeds of an encoder, beside a weaker one and another task."""
    write_scene(tmp_path, "weak", "task", skill=0.5, seeds=3)
    write_scene(tmp_path, "weak", "other", skill=0.5, seeds=3)
    write_scene(tmp_path, "good", "other", skill=1.5, seeds=3)
    return write_scene(tmp_path, "good", "task", skill=1.5, seeds=3)


@pytest.mark.parametrize("warm", [False, True])
def test_a_score_written_by_hand_is_refused(tmp_path, paths, warm):
    before = rows(tmp_path)
    assert before["good", "task"].best
    if not warm:
        (tmp_path / "report" / "cache" / "verified.json").unlink()
    edit(paths[1], score=read_record(paths[1]).score + 0.0009)
    after = rows(tmp_path)
    row = after["good", "task"]
    assert row.mean is row.boot_low is row.ci95_low is None
    assert not row.best
    assert "seed 1: refused: seed-001.json was edited or damaged" in row.reason
    for key in (("weak", "other"), ("good", "other")):
        assert after[key] == before[key]
    assert after["weak", "task"].mean == before["weak", "task"].mean
    frame = mambabench.load_results(tmp_path)
    refused = frame[(frame.encoder == "good") & (frame.task == "task") & (frame.seed == 1)]
    assert refused.score.isna().all()
    assert refused.reason.str.contains("refused: seed-001.json").all()


def test_a_refused_record_keeps_its_row_where_no_other_seed_tells_what_it_was(tmp_path):
    (path,) = write_scene(tmp_path, "lone", "task", skill=1.0, seeds=1)
    write_scene(tmp_path, "other", "task", skill=1.0, seeds=1)
    edit(path, score=0.99)
    row = rows(tmp_path)["lone", "task"]
    assert (row.metric, row.n_seeds, row.mean) == ("top1_acc", 1, None)
    assert row.reason.startswith("seed 0: refused: seed-000.json was edited or damaged")


def test_records_are_checked_without_a_memory_and_with_a_damaged_one(tmp_path, paths):
    memory = tmp_path / "verified.json"
    memory.write_text("{")
    for cache in (None, memory):
        assert [one.defect for one in check_records(paths, cache)] == [None] * 3


@pytest.mark.parametrize("changes", [{"score": 0.99}, {"folds": "0.99"}, {"folds": "n_test"}])
def test_a_record_with_a_hash_that_fits_is_held_against_its_predictions(tmp_path, paths, changes):
    record = read_record(paths[0])
    if changes.get("folds") == "0.99":
        changes = {"score": 0.99, "folds": (replace(record.folds[0], scores={"top1_acc": 0.99}),)}
    elif changes.get("folds") == "n_test":
        changes = {"folds": (replace(record.folds[0], n_test=999),)}
    forge(paths[0], **changes)
    assert read_record(paths[0])  # its own hash holds
    row = rows(tmp_path)["good", "task"]
    assert row.mean is None
    assert row.reason.startswith("seed 0: refused: seed-000.json ")


def test_events_are_scored_again_from_their_counts(tmp_path):
    write_events(tmp_path, "good", "beeps", skill=0.6)
    paths = record_paths(tmp_path)
    assert rows(tmp_path)["good", "beeps"].mean is not None
    record = read_record(paths[0])
    (fold,) = record.folds
    better = {name: value + 0.001 for name, value in fold.scores.items() if value is not None}
    forge(paths[0], score=record.score + 0.001, folds=(replace(fold, scores=better),))
    assert "predictions give" in rows(tmp_path)["good", "beeps"].reason


def test_changed_predictions_are_refused_by_their_name(tmp_path, paths):
    file = paths[2].with_suffix(".npz")
    arrays = read_predictions(paths[2])
    arrays["test/probability"] = np.eye(4, dtype=np.float32)[arrays["test/target"]]
    with file.open("wb") as out:
        np.savez_compressed(out, **arrays)
    row = rows(tmp_path)["good", "task"]
    assert row.mean is None
    assert "refused: seed-002.npz has not the hash that its record states" in row.reason


def test_defects_are_typed_and_on_the_groups(tmp_path, paths):
    edit(paths[0], score=0.99)
    found = collect([tmp_path])
    (defect,) = found.defects
    assert defect.path == paths[0]
    assert "delete seed-000.json and probe again" in defect.remedy
    marked = [group for group in group_runs(found.runs) if group.defects]
    assert [(group.encoder, group.task) for group in marked] == [("good", "task")]


def test_a_record_that_is_no_json_keeps_its_place_beside_other_seeds(tmp_path, paths):
    paths[1].write_bytes(paths[1].read_bytes()[:100])
    row = rows(tmp_path)["good", "task"]
    assert row.n_seeds == 3
    assert row.mean is None
    assert "seed 1: refused: seed-001.json is no run record" in row.reason


def test_a_lone_record_that_is_no_json_is_left_out_with_a_warning(tmp_path, paths):
    (lone,) = write_scene(tmp_path, "lone", "task", skill=1.0, seeds=1)
    lone.write_text("{}")
    with pytest.warns(UserWarning, match=r"left out: .*seed-000\.json: is no run record"):
        found = rows(tmp_path)
    assert ("good", "task") in found


def test_another_schema_is_refused_by_name(tmp_path, paths):
    edit(paths[0], schema="mambabench.record/99")
    with pytest.raises(StoreError, match=r"seed-000\.json: schema is 'mambabench.record/99'"):
        mambabench.report(tmp_path)


def test_records_of_the_version_before_are_read(tmp_path, paths):
    before = rows(tmp_path)
    for path in paths:
        body = json.loads(path.read_bytes())
        del body["own_sha256"]
        path.write_bytes(canonical_json({**body, "schema": "mambabench.record/1"}))
    assert rows(tmp_path)["good", "task"].mean == before["good", "task"].mean
    body = json.loads(paths[0].read_bytes())
    paths[0].write_bytes(canonical_json({**body, "score": 0.99}))
    assert "the mean over its folds" in rows(tmp_path)["good", "task"].reason


def test_what_held_is_not_read_again(tmp_path, paths, monkeypatch):
    from mambabench.report import checked

    before = mambabench.report(tmp_path, "json").text
    monkeypatch.setattr(checked, "read_predictions", None)
    monkeypatch.setattr(checked, "sha256_file", None)
    assert mambabench.report(tmp_path, "json").text == before
    (tmp_path / "report" / "cache" / "verified.json").write_text("broken")
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collect([tmp_path]).defects == ()


def test_the_command_names_what_it_refuses(tmp_path, paths):
    from click.testing import CliRunner

    from mambabench.cli.report import command

    edit(paths[0], score=0.99)
    done = CliRunner().invoke(command, ["--out", str(tmp_path)], standalone_mode=False)
    assert done.return_value == 1
    assert f"refused: {paths[0]}: was edited or damaged" in done.stderr
    assert "other" in done.stdout
