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


def other_schema(path: Path) -> None:
    edit(path, schema="mambabench.record/99")


def folder_record(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop_record(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def cut_record(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def cut_predictions(path: Path) -> None:
    file = path.with_suffix(".npz")
    file.write_bytes(file.read_bytes()[:200])


def predictions_with(path: Path, **changes: Any) -> None:
    """Write other predictions, and the record with the hashes that belong to them."""
    arrays = {**read_predictions(path), **{f"test/{name}": x for name, x in changes.items()}}
    with path.with_suffix(".npz").open("wb") as out:
        np.savez_compressed(out, **{name: x for name, x in arrays.items() if x is not None})
    forge(path)


def no_targets(path: Path) -> None:
    predictions_with(path, target=None)


def flat_probabilities(path: Path) -> None:
    predictions_with(path, probability=np.zeros(3, np.float32))


def texts_as_targets(path: Path) -> None:
    predictions_with(path, target=np.full(240, "dog"))


def other_metric(path: Path) -> None:
    record = read_record(path)
    folds = (replace(record.folds[0], scores={"uar": record.score}),)
    forge(path, metric="uar", folds=folds)


BROKEN = {
    other_schema: "seed-001.json is of schema 'mambabench.record/99', which this version",
    folder_record: "seed-001.json cannot be read (Is a directory)",
    loop_record: "seed-001.json cannot be read (Too many levels of symbolic links)",
    cut_record: "seed-001.json is no run record",
    cut_predictions: "seed-001.npz has not the hash that its record states",
    no_targets: "seed-001.npz cannot be scored (it has no array 'target')",
    flat_probabilities: "seed-001.npz cannot be scored",
    texts_as_targets: "in the record, its predictions give 0",
    other_metric: "seed-001.json has metric 'uar', but seed-000.json has 'top1_acc'",
}


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda one: one.__name__)
def test_a_broken_file_is_a_named_line_and_costs_nothing_else(tmp_path, paths, break_it):
    before = rows(tmp_path)
    break_it(paths[1])
    result = mambabench.report(tmp_path, "markdown")
    after = {(row.encoder, row.task): row for row in result.summary.rows}
    for key in (("weak", "other"), ("good", "other")):
        assert after[key] == before[key]
    row = after["good", "task"]
    assert row.mean is row.boot_low is None
    assert BROKEN[break_it] in row.reason
    assert BROKEN[break_it] in result.text
    assert len(result.summary.defects) == 1


def test_predictions_that_may_not_be_read_are_refused(tmp_path, paths, monkeypatch):
    """As without permission, which does not hold for the user root."""
    real = Path.open

    def opened(self, *given, **options):
        if self.name == "seed-001.npz" and self.parent == paths[1].parent:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *given, **options)

    monkeypatch.setattr(Path, "open", opened)
    found = rows(tmp_path)
    reason = found["good", "task"].reason
    assert "refused: seed-001.npz cannot be read (Permission denied)" in reason
    assert found["good", "other"].mean is not None


def test_a_lone_broken_file_is_a_line_in_every_format(tmp_path, paths):
    from click.testing import CliRunner

    from mambabench.cli.report import command

    (lone,) = write_scene(tmp_path, "lone", "task", skill=1.0, seeds=1)
    folder_record(lone)
    for format in ("terminal", "markdown", "latex", "json"):
        with pytest.warns(UserWarning, match="left out"):
            text = mambabench.report(tmp_path, format).text
        said = " ".join(text.replace("\\", "").split())
        assert "lone/task/ssam2024/seed-000.json" in said, format
        assert "cannot be read (Is a directory)" in said, format
    with pytest.warns(UserWarning, match="left out"):
        done = CliRunner().invoke(command, ["--out", str(tmp_path)], standalone_mode=False)
    assert done.return_value == 1
    assert "other" in done.stdout


def test_where_nothing_can_be_read_the_error_names_the_files(tmp_path):
    (one,) = write_scene(tmp_path, "one", "task", skill=1.0, seeds=1)
    (two,) = write_scene(tmp_path, "two", "task", skill=1.0, seeds=1)
    other_schema(one)
    folder_record(two)
    with pytest.raises(StoreError) as caught:
        mambabench.report(tmp_path)
    assert all(str(path) in str(caught.value) for path in (one, two))


@pytest.mark.parametrize("warm", [False, True])
def test_a_score_whose_predictions_are_gone_is_marked_and_never_best(tmp_path, paths, warm):
    """Deleting what contradicts a number is no way to have it believed."""
    if warm:
        mambabench.report(tmp_path)
    for path in paths:
        record = read_record(path)
        better = (replace(record.folds[0], scores={"top1_acc": 0.99}),)
        forge(path, score=0.99, folds=better)
        path.with_suffix(".npz").unlink()
    found = rows(tmp_path)
    row = found["good", "task"]
    assert row.mean == pytest.approx(0.99)
    assert [flag.code for flag in row.flags] == ["changed"]
    assert not row.best
    assert row.boot_low is None
    assert found["weak", "task"].best
    summary = mambabench.report(tmp_path).summary
    assert all(one.encoder != "good" for one in summary.ranks if one.task == "task")
    for format in ("terminal", "markdown", "latex", "csv"):
        text = mambabench.report(tmp_path, format).text
        assert "**99.0**" not in text, format
        assert "\\textbf{99.0" not in text, format
        if format != "csv":
            assert "[X]" in text, format
            assert "seed-000.npz is not there" in " ".join(text.split()), format
    assert "seed-000.npz is not there" in mambabench.report(tmp_path, "json").text
    assert "seed-000.npz is not there" in mambabench.report(tmp_path, "csv", table="long").text
    assert "[X]" in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_predictions_that_come_back_are_believed_again(tmp_path, paths):
    before = rows(tmp_path)
    file = paths[0].with_suffix(".npz")
    data = file.read_bytes()
    file.unlink()
    row = rows(tmp_path)["good", "task"]
    assert row.flags
    assert "the predictions of seed 0 are missing" in row.reason
    file.write_bytes(data)
    assert rows(tmp_path) == before


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
