"""The command, and every format that it prints or writes."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import json
import math
import os
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import click
import numpy as np
import pytest
from click.testing import CliRunner
from synthetic_results import write_events, write_scene

import mambabench
from mambabench.cli.report import command
from mambabench.errors import MambabenchError
from mambabench.files import write_json
from mambabench.report.formats import page_data
from mambabench.report.formats.page import as_page
from mambabench.report.formats.page_clips import clips_of, estimated_bytes
from mambabench.report.formats.page_data import packed_details
from mambabench.report.results import group_runs
from mambabench.report.statistics.versus import Versus
from mambabench.report.summary import summarise


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for name, skill in (("weak_one", 0.8), ("strong", 2.0)):
        write_scene(folder, name, "esc50-v2.0.0-full", skill=skill, seeds=3)
        write_scene(folder, name, "a_b-v1-5h", skill=skill, seeds=3, metric="mAP", multilabel=True)
    write_events(folder, "strong", "dcase2016_task2-hear2021-full", skill=0.5)
    return folder


def test_the_page_says_how_much_audio_there_was_where_every_task_has_it(tmp_path):
    seconds = {"first": 3600.0, "second": 7200.0}
    for task in seconds:
        for name in ("one", "two"):
            write_scene(tmp_path, name, task, skill=1.0, seeds=1, folds={"test": 20})

    def page(stated):
        for task, body in stated.items():
            file = tmp_path / "embeddings" / "two" / task / "provenance.json"
            write_json(file, {"run": body})
        return as_page(summarise([tmp_path]))

    older = {"audio_s": 3600.0, "worker_s": 1.0, "device": "cpu"}  # may lack what was there before
    assert "audio in all splits" not in page({})
    assert "audio in all splits" not in page({"first": {"task_audio_s": 3600.0}, "second": older})
    stated = {task: {"task_audio_s": audio_s} for task, audio_s in seconds.items()}
    assert "; 3 hours of audio in all splits; 4 runs;" in page(stated)
    short = {task: {"task_audio_s": 45.0} for task in seconds}
    assert "; 1.5 min of audio in all splits;" in page(short)


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], standalone_mode=False)


def test_json_alone_on_stdout(out):
    result = run("--out", out, "--format", "json")
    assert result.exception is None
    assert json.loads(result.stdout)["schema"] == "mambabench.report/2"


def test_terminal_shows_scores_metrics_missing_cells_and_files(out):
    text = run("--out", out).stdout
    for part in ("Protocol ssam2024", "top1_acc %", "mAP %", "event_onset_200ms_fms %", "missing"):
        assert part in text
    assert "strong" in text
    assert "report.html" in text
    assert "\x1b" not in text  # not a terminal: no colours


def test_terminal_colours_only_where_asked(out):
    assert "\x1b[1m" in mambabench.report(out, color=True).text


def test_wrong_format_is_answered_with_the_nearest(out):
    result = run("--out", out, "--format", "latx")
    assert "did you mean 'latex'?" in str(result.exception)


def test_csv_is_the_json_rows(out):
    rows = list(
        csv.DictReader(io.StringIO(run("--out", out, "--format", "csv", "--table", "long").stdout))
    )
    body = json.loads(run("--out", out, "--format", "json").stdout)
    assert len(rows) == len(body["rows"])
    for one, other in zip(rows, body["rows"], strict=True):
        assert one["encoder"] == other["encoder"]
        assert one["mean"] == ("" if other["mean"] is None else repr(other["mean"]))


def test_markdown_tables_are_rectangular(out):
    text = run("--out", out, "--format", "markdown").stdout
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "**" in text
    once = "the same bytes on the same machine and versions"
    long = run("--out", out, "--format", "markdown", "--table", "long").stdout
    assert text.count(once) == long.count(once) == 1


def test_long_latex_escapes_and_balances(out):
    text = run("--out", out, "--format", "latex", "--table", "long").stdout
    assert text.count("\\begin{longtable}") == text.count("\\end{longtable}") == 1
    assert "weak\\_one" in text
    assert "\\toprule" in text
    body = "".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%_#]", body)
    rows = [line for line in text.splitlines() if line.endswith("\\\\") and " & " in line]
    assert {line.count(" & ") for line in rows} == {8}


class _Balance(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []
        self.links = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "line", "circle", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "circle"):
            assert self.open.pop() == tag


def test_page_is_whole_and_loads_nothing(out):
    run("--out", out)
    text = (out / "report" / "report.html").read_text(encoding="utf-8")
    parser = _Balance()
    parser.feed(text)
    assert parser.open == []
    assert parser.links == []
    assert "default-src 'none'" in text
    script = re.search(r"<script>(.*)</script>", text, flags=re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", script)


def test_page_without_script_has_matrix_notes_and_provenance(out):
    summary = mambabench.report(out).summary
    text = (out / "report" / "report.html").read_text(encoding="utf-8")
    shown = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    for row in summary.rows:
        if row.mean is not None:
            assert f"<b>{100 * row.mean:.1f}</b>" in shown
    for part in ("Encoder", "missing", "bootstrap interval over test clips", "Provenance"):
        assert part in shown
    assert shown.index("<table") < shown.index("How to read")


def details_of(out, **options):
    """Return the page, what it unpacks to, and a reader of the places in its bytes."""
    page = out / "report" / "report.html"
    page.unlink(missing_ok=True)  # an equal one would be left as it is
    mambabench.report(out, **options)
    text = page.read_text(encoding="utf-8")
    packed = re.search(r'id="packed">([^<]*)<', text).group(1)
    raw = zlib.decompress(base64.b85decode(packed.replace(",", "<")))
    end = 4 + int.from_bytes(raw[:4], "little")

    def numbers(place, n):
        start, length = place
        planes = np.frombuffer(raw[end + start : end + start + length], np.uint8).reshape(-1, n)
        return sum(plane.astype(int) << 8 * k for k, plane in enumerate(planes))

    return text, json.loads(raw[4:end]), numbers


def clips_in(body, numbers, key):
    """Undo the order of difficulty and the distances: targets [n], predictions [n_seeds, n]."""
    cell = body["cells"][key]
    task = body["tasks"][cell["task"]]
    n = task["difficulty"][1]
    order = np.argsort(numbers(task["difficulty"], n), kind="stable")
    targets = np.empty(n, int)
    targets[order] = numbers(task["targets"], n)
    if "right" in cell:
        right = np.empty(n, int)
        twos = numbers(cell["right"], (n + 1) // 2)  # of two clips in a byte
        most = len(cell["seeds"]) + 1
        right[order] = np.stack([twos // most, twos % most], axis=1).ravel()[:n]
        return targets, None, right
    n_seeds = len(cell["seeds"])
    rows = np.empty((n_seeds, n), int)
    rows[:, order] = numbers(cell["predicted"], n * n_seeds).reshape(n_seeds, n)
    first = (targets + rows[0]) % task["n_labels"]
    rest = (first + rows[1:]) % task["n_labels"]
    predicted = np.concatenate([first[None], rest])
    return targets, predicted, (predicted == targets).sum(axis=0)


def decoded(code, unit):
    """Undo a code of page_data.py: 0 is none, odd ones are not negative."""
    return None if code == 0 else (code // 2 if code % 2 else -code // 2) / unit


def folds_in(body, numbers, key):
    """Return a row per seed and fold: seed, fold, score, chosen point, epoch, head."""
    cell = body["cells"][key]
    about = cell["folds"]
    table = numbers(about["place"], 6 * about["n"]).reshape(6, -1).T.tolist()
    return [
        (
            cell["seeds"][seed],
            about["names"][fold],
            score / about["of"][fold] if "of" in about else decoded(score, about["unit"]),
            about["chosen"][point],
            decoded(epoch, 1),
            f"{head:08x}" if head else None,
        )
        for seed, fold, point, epoch, score, head in table
    ]


def test_page_knows_every_comparison(out):
    """Each number as the report has it, to a step of 10^-6; p on the same side of .05."""
    _, body, numbers = details_of(out)
    found = {}
    for one in body["pairs"]:
        columns = [numbers(place, one["n"]).tolist() for place in one["places"]]
        for a, b, *codes, p in zip(*columns, strict=True):
            names = [one["names"][i] for i in (a, b)]
            means = [
                body["cells"]["|".join((one["protocol"], one["task"], name))]["mean"]
                for name in names
            ]
            rest, low, high = (decoded(code, one["unit"]) for code in codes)
            difference = means[0] - means[1] + rest
            ends = difference - low, difference + high
            found[one["protocol"], one["task"], *names] = (difference, *ends, p)
    expected = [c for c in mambabench.report(out).summary.comparisons if c.difference is not None]
    assert len(expected) == len(found) > 0
    for c in expected:
        *numbers_, p = found[c.protocol, c.task, c.encoder, c.other]
        assert numbers_ == pytest.approx([c.difference, c.boot_low, c.boot_high], abs=2e-6)
        assert p == (0 if c.p_holm is None else 1 + math.floor(1e6 * c.p_holm))


@pytest.mark.parametrize(
    ("values", "unit"), [([0.5, None], 1e6), ([-150.0, 3e3], 1e4), ([float("inf")], 1e6)]
)
def test_codes_of_numbers_hold_seven_digits_of_the_largest(values, unit):
    assert page_data._unit(values) == unit
    for value in (*values, 0.0, -0.25):
        if value is not None and np.isfinite(value):
            code = page_data._code(value, unit)
            assert 0 < code < 2**32
            assert decoded(code, unit) == pytest.approx(value, abs=0.5 / unit)
        else:
            assert page_data._code(value, unit) == 0


def test_page_knows_every_number_down_to_its_clips(out):
    """Seeds and folds as stored; every prediction is the one that the records hold."""
    _, body, numbers = details_of(out)
    frame = mambabench.load_results(out)
    key = "ssam2024|esc50-v2.0.0-full|strong"
    cell = body["cells"][key]
    own = frame[(frame.encoder == "strong") & (frame.task == "esc50-v2.0.0-full")]
    rows = folds_in(body, numbers, key)
    assert [row[:2] for row in rows] == list(zip(own.seed, own.fold, strict=True))
    assert [row[2] for row in rows] == pytest.approx(own.score.tolist(), abs=1e-12)  # accuracies
    assert [row[4] for row in rows] == own.best_epoch.tolist()
    assert "scores" not in cell  # of a seed: they follow from its folds
    other = "ssam2024|a_b-v1-5h|strong"  # mAP: no share of the clips
    theirs = frame[(frame.encoder == "strong") & (frame.task == "a_b-v1-5h") & frame.primary]
    scores = [row[2] for row in folds_in(body, numbers, other)]
    assert scores == pytest.approx(theirs.score.tolist(), abs=1e-6)
    targets, predicted, right = clips_in(body, numbers, key)
    assert right.sum() / (3 * len(right)) == pytest.approx(own.score.mean(), abs=1e-12)
    clips = mambabench.load_clips(out, encoder="strong", task="esc50-v2.0.0-full")
    assert predicted.ravel().tolist() == clips.prediction.tolist()
    assert np.tile(targets, 3).tolist() == clips.target.tolist()
    task = body["tasks"]["esc50-v2.0.0-full"]
    assert task["names"] == clips["clip"].tolist()[: len(right)]
    assert "predicted" not in body["cells"]["ssam2024|a_b-v1-5h|strong"]  # multilabel
    assert cell["command"].startswith("mambabench probe --encoder strong --task esc50-v2.0.0-full")


def test_page_knows_the_events_of_each_label(tmp_path):
    """Summed over the seeds from the clips' counts; the order of clips does not matter."""
    write_events(tmp_path, "one", "events", skill=0.5, n=30)
    _, body, numbers = details_of(tmp_path)
    (cell,) = body["cells"].values()
    found = numbers(cell["labels"], 33).reshape(3, 11).T
    expected = np.zeros((11, 3), int)
    for file in sorted((tmp_path / "probes").rglob("seed-*.npz")):
        for clip, counts in enumerate(np.load(file)["test/counts:event_onset_200ms_fms"]):
            expected[clip % 11] += counts.astype(int)
    assert found.tolist() == expected.tolist()
    assert cell["n_labels"] == 11


def test_more_labels_and_clusters_than_a_byte_holds(tmp_path):
    options = {"skill": 1.0, "seeds": 2, "folds": {"a": 400, "b": 500}, "clusters": 300}
    for name in ("one", "two"):
        write_scene(tmp_path, name, "wide", n_labels=310, **options)
    _, body, numbers = details_of(tmp_path)
    for name in ("one", "two"):
        targets, predicted, _ = clips_in(body, numbers, f"ssam2024|wide|{name}")
        clips = mambabench.load_clips(tmp_path, encoder=name)
        assert predicted.ravel().tolist() == clips.prediction.tolist()
        assert targets.tolist() == clips.target.tolist()[:900]
        assert targets.max() > 255
    task = body["tasks"]["wide"]
    assert task["n_clusters"] == 600
    order = np.argsort(numbers(task["difficulty"], 900), kind="stable")
    names = sorted(set(clips["cluster"]))
    expected = [names.index(name) for name in clips["cluster"].tolist()[:900]]
    assert numbers(task["clusters"], 900).tolist() == np.array(expected)[order].tolist()


def test_a_quick_look_spares_the_page_a_search_in_vain(out, monkeypatch):
    """What it takes for too large is left out unseen; what fits it never does."""
    from mambabench.report.formats import page_data

    seen = []
    whole, looked = page_data._as_packed, page_data._may_fit
    monkeypatch.setattr(page_data, "_as_packed", lambda data: seen.append(data) or whole(data))
    details_of(out)
    data = seen.pop()
    assert looked(data, len(whole(data)))
    assert not looked(data, len(whole(data)) // 2)
    text, _, _ = details_of(out)
    assert "Single predictions" not in text
    seen.clear()
    monkeypatch.setattr(page_data, "_may_fit", lambda data, most: False)
    text, _, _ = details_of(out)
    assert len(seen) == 1
    assert "Single predictions were left out to keep the page small" in text


def test_page_drops_clips_when_asked_and_above_its_budget(out, monkeypatch):
    """First single predictions, then all clips; the page says so, and "all" keeps them."""
    key = "ssam2024|esc50-v2.0.0-full|strong"
    _, body, numbers = details_of(out)
    _, _, expected = clips_in(body, numbers, key)
    text, body, _ = details_of(out, page_clips="none")
    assert not any("right" in cell or "predicted" in cell for cell in body["cells"].values())
    assert "Clips were left out (--page-clips none)" in text
    text, _, _ = details_of(out, page_clips="all")
    whole = len(text.encode())
    monkeypatch.setattr("mambabench.report.formats.page_data._BUDGET", whole - 1)
    text, body, numbers = details_of(out)
    assert "Single predictions were left out to keep the page small" in text
    assert not any("predicted" in cell for cell in body["cells"].values())
    assert clips_in(body, numbers, key)[2].tolist() == expected.tolist()
    assert body["tasks"]["esc50-v2.0.0-full"]["names"]
    monkeypatch.setattr("mambabench.report.formats.page_data._BUDGET", 100)
    text, body, _ = details_of(out)
    assert not any("right" in cell or "predicted" in cell for cell in body["cells"].values())
    assert "names" not in body["tasks"]["esc50-v2.0.0-full"]
    assert "Clips were left out to keep the page small" in text
    text, body, _ = details_of(out, page_clips="all")
    assert any("predicted" in cell for cell in body["cells"].values())


def test_many_clips_have_the_larger_budget(out, monkeypatch):
    """Predictions that surely do not fit are not packed first; the estimate is the right size."""
    summary = mambabench.report(out).summary
    data = "mambabench.report.formats.page_data."
    monkeypatch.setattr(data + "_BUDGET", 100)
    monkeypatch.setattr(data + "_MANY", 200)
    assert packed_details(summary).note == ""  # 240 clips an encoder
    monkeypatch.setattr(data + "_LARGE", 100)
    found = clips_of(group_runs(summary.runs))
    entropy = estimated_bytes(found)
    calls = []
    real = page_data.write_clips
    monkeypatch.setattr(
        data + "write_clips",
        lambda *a, predictions: calls.append(predictions) or real(*a, predictions=predictions),
    )
    assert "Clips were left out" in packed_details(summary).note
    assert calls == [False, False]  # of each page tried
    n = 3 * 240 * 2
    assert 0.05 * n < entropy < n  # bytes


def test_page_never_names_clips_of_restricted_tasks(tmp_path):
    write_scene(tmp_path, "weak", "secret_task", skill=1.0, seeds=2, restricted=True)
    text, body, _ = details_of(tmp_path)
    assert "names" not in body["tasks"]["secret_task"]
    assert "clip00001" not in text + json.dumps(body)


def test_another_package_may_add_a_format(out, monkeypatch):
    from mambabench.report.formats import FORMATS, Format

    monkeypatch.setitem(FORMATS._builtin, "count", Format("count", lambda s, v: f"{len(s.rows)}"))
    assert run("--out", out, "--format", "count").stdout == "6"


def test_notebook_shows_the_matrix(out):
    result = mambabench.report(out)
    text = result._repr_html_()
    parser = _Balance()
    parser.feed(text)
    assert parser.open == []
    assert "<script" not in text
    for row in result.summary.rows:
        if row.mean is not None:
            assert f"<b>{100 * row.mean:.1f}</b>" in text


def test_model_card_is_read_by_its_own_reader(out):
    hub = pytest.importorskip("huggingface_hub")
    result = mambabench.report(out, "model-card", encoder="strong")
    body = hub.ModelCard(result.text).data.to_dict()
    (model,) = body["model-index"]
    assert model["name"] == "strong"
    rows = {row.task: row for row in result.summary.rows}
    evaluated = hub.repocard_data.model_index_to_eval_results(body["model-index"])[1]
    assert {one.dataset_type for one in evaluated} == set(rows)
    for one in evaluated:
        row = rows[one.dataset_type]
        assert one.metric_value == row.mean
        assert one.metric_type == row.metric
        assert one.dataset_split == "test"
    assert "## Evaluation" in result.text


def test_jsonl_is_every_stored_score(out):
    lines = [
        json.loads(line) for line in run("--out", out, "--format", "jsonl").stdout.splitlines()
    ]
    frame = mambabench.load_results(out, metrics="all")
    assert list(lines[0]) == list(frame.columns)
    assert sorted(one["score"] for one in lines) == sorted(frame.score.tolist())


def test_plots_are_drawn_once_per_content(out):
    pytest.importorskip("matplotlib")
    run("--out", out)
    png = out / "report" / "scores.ssam2024.png"
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (out / "report" / "scores.ssam2024.pdf").read_bytes()[:5] == b"%PDF-"
    first = png.stat().st_mtime_ns
    run("--out", out)
    assert png.stat().st_mtime_ns == first


def test_without_matplotlib_there_is_no_plot(out, tmp_path, monkeypatch):
    write_scene(tmp_path, "weak", "task", skill=1.0, seeds=2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    files = mambabench.report(tmp_path).files
    assert not [file for file in files if file.suffix == ".png"]
    assert (tmp_path / "report" / "report.html").is_file()


def test_folder_that_cannot_be_written_still_prints(tmp_path, monkeypatch):
    write_scene(tmp_path, "weak", "task", skill=1.0, seeds=2)
    (tmp_path / "report").write_text("a file in the way")
    result = run("--out", tmp_path)
    assert "weak" in result.stdout
    assert "no files written" in result.stderr


def test_file_that_cannot_be_written_is_named_below_the_tables(tmp_path, monkeypatch):
    write_scene(tmp_path, "weak", "task", skill=1.0, seeds=2)

    def full(path, write, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mambabench.report.exchange.exports.atomic_write", full)
    result = run("--out", tmp_path)
    assert result.exception is None
    assert "weak" in result.stdout
    assert "Written to" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert (
        "not written: report.json, scores.csv, comparisons.csv, references.bib, report.html" in line
    )
    assert "(No space left on device)" in line


def test_read_only_folder_prints_the_same_tables(tmp_path, monkeypatch):
    for name, skill in (("weak", 0.8), ("strong", 2.0)):
        write_scene(tmp_path, name, "task", skill=skill, seeds=2)
    expected = mambabench.report(tmp_path).text

    opens = os.open

    def read_only(path, *arguments, **options):
        if str(path).endswith(".tmp"):
            raise OSError(30, "Read-only file system")
        return opens(path, *arguments, **options)

    monkeypatch.setattr("mambabench.files.os.open", read_only)
    result = mambabench.report(tmp_path)
    assert result.text == expected
    assert result.files == ()
    assert "cannot be written (Read-only file system)" in result.note


def test_disk_that_fills_up_while_the_cache_is_written(tmp_path, monkeypatch):
    """The folder takes the first small file and no other."""
    from mambabench.report import cache

    for name in ("weak", "strong"):
        write_scene(tmp_path, name, "task", skill=len(name) / 3, seeds=2, metric="uar")
    monkeypatch.setattr("mambabench.report.written.usable_cache", lambda folder: folder)

    def full(path, write, **options):
        raise OSError(28, "No space left on device")

    expected = mambabench.report(tmp_path, "json").text
    for file in (tmp_path / "report").rglob("*.*"):
        file.unlink(missing_ok=True) if file.is_file() else None
    monkeypatch.setattr("mambabench.files.atomic_write", full)
    monkeypatch.setattr("mambabench.report.statistics.evidence.atomic_write", full)
    result = mambabench.report(tmp_path, "json")
    assert result.text == expected
    with pytest.raises(OSError, match="No space left"):
        cache.usable_cache(tmp_path / "report" / "cache")


def test_help_is_light():
    code = (
        "import sys; from mambabench.cli.report import command; import mambabench.report\n"
        "heavy = {'torch', 'scipy', 'pandas', 'numpy', 'matplotlib', 'rich', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parquet_is_the_table_of_all_scores(out):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    done = run("--out", out, "--format", "parquet")
    assert done.exception is None
    frame = pd.read_parquet(io.BytesIO(done.stdout_bytes))
    expected = mambabench.load_results(out, metrics="all")
    assert list(frame.columns) == list(expected.columns)
    assert len(frame) == len(expected) > 10
    for name in expected.columns:
        pairs = zip(frame[name], expected[name], strict=True)
        assert all((pd.isna(a) and pd.isna(b)) or a == b for a, b in pairs), name
    assert mambabench.report(out, "parquet").data == done.stdout_bytes
    assert mambabench.report(out, "parquet").text == ""


def test_columns_of_parquet_have_one_type_whatever_they_hold(out, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_scene(tmp_path, "lone", "x", skill=1.0, seeds=1)
    schemas = []
    for folder in (out, tmp_path):
        data = mambabench.report(folder, "parquet").data
        schemas.append(parquet.read_schema(io.BytesIO(data)).remove_metadata())
    assert schemas[0] == schemas[1]
    kinds = {field.name: str(field.type) for field in schemas[0]}
    assert kinds["score"] == "double"
    assert kinds["primary"] == kinds["higher_is_better"] == "bool"
    assert kinds["seed"] == kinds["best_epoch"] == "int64"
    assert kinds["layers"] == kinds["reason"] == kinds["encoder"]  # though all are null


def test_parquet_without_its_package_names_the_extra(out, monkeypatch):
    real = importlib.util.find_spec
    missing = {"pyarrow": None}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: missing.get(name, real) and real(name, *a)
    )
    error = run("--out", out, "--format", "parquet").exception
    assert str(error) == (
        "format parquet needs pyarrow, which is not installed: pip install 'mambabench[parquet]'"
    )
    with pytest.raises(MambabenchError, match="needs pyarrow"):  # before anything is computed
        mambabench.run(out=out / "none", format="parquet")
    assert not (out / "none").exists()


def test_a_terminal_is_not_shown_bytes(out, monkeypatch):
    monkeypatch.setattr("mambabench.cli.report.sys.stdout.isatty", lambda: True, raising=False)
    from mambabench.cli.report import refuse_terminal

    with pytest.raises(click.UsageError, match=r"with > scores\.parquet"):
        refuse_terminal("parquet")
    refuse_terminal("json")


def test_long_table_says_what_bold_and_letters_mean(tmp_path):
    for name, skill in (("weak", 0.8), ("strong", 2.0)):
        write_scene(tmp_path, name, "task", skill=skill, seeds=2)
    text = " ".join(mambabench.report(tmp_path, "markdown", table="long").text.split())
    assert "Bold: best mean of the task (all of equal ones)" in text
    assert "Encoders that share a letter do not differ on this task" in text


def test_one_score_selected_on_the_test_set_is_enough_to_say_what_its_mark_means(tmp_path):
    from mambabench.report.formats.tables import remarks

    for task in ("one", "two"):
        write_scene(tmp_path, "a", task, skill=1.0, seeds=1)
    summary = mambabench.report(tmp_path).summary
    assert "‡" not in "".join(remarks(summary))
    first, second = summary.rows
    marked = replace(summary, rows=(first, replace(second, selected_on_test=True)))
    assert "‡: the checkpoint was selected by its score on the test set" in "".join(remarks(marked))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.01, 0.02, "-1.00 … +2.00"), (None, 0.02, "–"), (-0.01, None, "–"), (None, None, "–")],
)
def test_interval_of_a_pair_needs_both_ends(low, high, said):
    from mambabench.report.formats.tables import versus_cells

    pair = Versus("sound", "a", "b", 1, 0, 0, untested=0, n_mean=1, mean=0.01, low=low, high=high)
    assert said in versus_cells(pair)


def test_json_keeps_letters_of_every_language(tmp_path):
    write_scene(tmp_path, "hörer", "task", skill=1.0, seeds=2)
    assert '"hörer"' in mambabench.report(tmp_path, "json").text
