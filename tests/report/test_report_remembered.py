"""A report is recalled while no file changed, and never when one did."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

import mambabench
import mambabench.report.verb
from mambabench.files import write_bytes
from tests.report.synthetic_results import write_events, write_scene


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr("mambabench.report.verb.can_draw", lambda: False)  # plots take their time
    for encoder, skill in (("a", 1.0), ("b", 1.5), ("c", 0.5)):
        write_scene(tmp_path, encoder, "scenes", skill=skill, seeds=2)
        write_events(tmp_path, encoder, "events", skill=skill / 2, seeds=2)
    return tmp_path


def told_again(monkeypatch, out, **options):
    """Report and say whether the records were left alone."""
    calls = []
    real = mambabench.report.verb.summarise

    def counted(*args, **kwargs):
        calls.append(1)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("mambabench.report.verb.summarise", counted)
        result = mambabench.report(out, **options)
    return not calls, result


def test_recalled_report_says_the_same_in_every_format(out, monkeypatch):
    formats = mambabench.report.formats.FORMATS
    first = {f: mambabench.report(out, f).text for f in formats if not formats[f].binary}
    for name, text in first.items():
        again, result = told_again(monkeypatch, out, format=name)
        assert again, name
        assert result.text == text, name
    fresh = mambabench.report(out, task="*").summary
    assert fresh.rows == result.summary.rows
    assert fresh.comparisons == result.summary.comparisons
    assert (fresh.ranks, fresh.versus) == (result.summary.ranks, result.summary.versus)
    assert (fresh.overall, fresh.published) == (result.summary.overall, result.summary.published)
    assert {run.path for run in fresh.runs} == {run.path for run in result.summary.runs}
    assert len(fresh.runs) == len(result.summary.runs) == 12


@contextmanager
def executed():
    """Yield what is executed of this package: "folder/file.py:function", of all threads."""
    package = str(Path(mambabench.__file__).parent) + os.sep
    found = set()

    def note(frame, event, argument):
        code = frame.f_code
        if code.co_filename.startswith(package) and code.co_name != "<module>":
            found.add(f"{code.co_filename.removeprefix(package)}:{code.co_name}")

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def test_recalled_report_reads_no_predictions_and_draws_nothing(tmp_path):
    """Neither resamples nor plots: by what is executed, which no clock of a busy machine blurs."""
    for encoder, skill in (("a", 1.0), ("b", 1.5)):
        write_scene(tmp_path, encoder, "scenes", skill=skill, seeds=2)
    work = {
        "store/records.py:read_predictions": "predictions",
        "store/records.py:parse_record": "records",
        "report/statistics/evidence.py:gather": "resamples or what is kept of them",
        "report/statistics/comparison.py:compare": "tests",
        "report/formats/page.py:as_page": "the page",
        "report/plots/draw.py:draw": "plots",
    }
    with executed() as cold:
        first = mambabench.report(tmp_path, jobs=1)
    assert not work.keys() - cold
    with executed() as warm:
        again = mambabench.report(tmp_path, jobs=1)
    assert not {work[one] for one in work.keys() & warm}
    told = {"report/statistics/comparison.py:too_few"}  # words for what is remembered
    worked = {one for one in warm if one.startswith(("report/statistics/", "report/plots/d"))}
    assert not worked - told
    assert (again.text, again.files) == (first.text, first.files)


def test_baselines_are_remembered_each(out, monkeypatch):
    for baseline in (None, "a", "b"):
        mambabench.report(out, baseline=baseline)
    for baseline in (None, "a", "b"):
        again, result = told_again(monkeypatch, out, baseline=baseline)
        assert again
        assert result.summary.baseline == baseline


def test_changed_prediction_of_equal_size_and_time_is_found(out, monkeypatch):
    mambabench.report(out)
    file = out / "probes" / "a" / "scenes" / "ssam2024" / "seed-000.npz"
    data, status = bytearray(file.read_bytes()), file.stat()
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again, result = told_again(monkeypatch, out)
    assert not again
    assert any(row.reason and "refused: seed-000.npz" in row.reason for row in result.summary.rows)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_replaced_file_is_found_and_refused(out, monkeypatch, suffix):
    mambabench.report(out)
    file = out / "probes" / "a" / "scenes" / "ssam2024" / f"seed-000{suffix}"
    write_bytes(file, file.read_bytes().replace(b"0", b"1"))
    again, result = told_again(monkeypatch, out)
    assert not again
    assert any(row.reason and "refused" in row.reason for row in result.summary.rows)
    again, _ = told_again(monkeypatch, out)
    assert not again  # what is refused is looked at every time


def test_new_missing_and_foreign_results_are_found(out, monkeypatch):
    mambabench.report(out)
    write_scene(out, "d", "scenes", skill=1.0, seeds=2)
    again, result = told_again(monkeypatch, out)
    assert not again
    assert {row.encoder for row in result.summary.rows} == {"a", "b", "c", "d"}
    shutil.rmtree(out / "probes" / "d")
    again, result = told_again(monkeypatch, out)
    assert not again
    assert {row.encoder for row in result.summary.rows} == {"a", "b", "c"}
    kit = out / "hearts" / "module" / "task"
    kit.mkdir(parents=True)
    (kit / "test.predicted-scores.json").write_text("{}")
    with pytest.warns(UserWarning, match="left out: .* is no result of hear-eval-kit"):
        again, result = told_again(monkeypatch, out)
    assert not again
    assert {row.encoder for row in result.summary.rows} == {"a", "b", "c"}


def test_files_that_were_touched_are_written_again(out, monkeypatch):
    first = mambabench.report(out)
    page, table = out / "report" / "report.html", out / "report" / "report.json"
    whole, text = page.read_text(), table.read_text()
    page.unlink()
    table.write_text("{}")
    again, result = told_again(monkeypatch, out, format="json")
    assert again
    assert result.files == first.files
    assert page.read_text() == whole
    assert result.text == table.read_text() == text


def test_other_files_are_written_where_asked_for(out, monkeypatch):
    mambabench.report(out)
    again, result = told_again(monkeypatch, out, export=["ssam"])
    assert again
    assert any(file.name == "all_results.csv" for file in result.files)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"key": 1}', b"[]"])
def test_damaged_memory_is_no_loss(out, monkeypatch, damage):
    text = mambabench.report(out).text
    (file,) = (out / "report" / "cache").glob("report-*.json")
    file.write_bytes(damage)
    again, result = told_again(monkeypatch, out)
    assert not again
    assert result.text == text


def test_memory_lacks_what_a_name_lacks(out, monkeypatch):
    mambabench.report(out)
    (file,) = (out / "report" / "cache").glob("report-*.json")
    body = json.loads(file.read_text())
    del body["summary"]["rows"]["names"][0]
    file.write_text(json.dumps(body))
    assert not told_again(monkeypatch, out)[0]


def test_unknown_records_are_warned_of_every_time(out, monkeypatch):
    file = out / "probes" / "z" / "scenes" / "ssam2024" / "seed-000.json"
    file.parent.mkdir(parents=True)
    file.write_text("no record")
    for _ in range(2):
        with pytest.warns(UserWarning, match="left out"):
            again, _ = told_again(monkeypatch, out)
        assert not again
    shutil.rmtree(out / "probes" / "z")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mambabench.report(out)
