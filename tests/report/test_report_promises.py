"""What the tables promise their readers: every task a column, marks that hold, nothing unsaid."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import mambabench
from mambabench.benchmarks import demo
from mambabench.benchmarks.hear import DIRECTORIES
from mambabench.cli.probe import command as probe
from mambabench.store.records import parse_record, record_bytes, stated_predictions_sha256
from tests.report.synthetic_results import write_scene
from tests.report.test_report_formats import details_of

TASKS = [f"task_{letter}" for letter in "abcdefghijklm"]
ENCODERS = [f"enc{number}" for number in range(8)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight encoders on thirteen tasks."""
    out = tmp_path_factory.mktemp("many")
    for number, encoder in enumerate(ENCODERS):
        for task in TASKS:
            skill = 0.3 + number / 4
            write_scene(out, encoder, task, skill=skill, seeds=2, folds={"test": 40})
    return out


def test_latex_has_every_task_as_a_column_and_marks_what_is_best(many: Path) -> None:
    """Bold and underline, recomputed from the JSON; at most twelve columns a table."""
    text = mambabench.report(many, "latex", plot="none").text
    tables = re.findall(r"\\begin\{tabular\}\{(.*?)\}\n(.*?)\\end\{tabular\}", text, flags=re.S)
    assert all(len(re.findall(r"[lcr]", form)) - 1 <= 12 for form, _ in tables)
    rows = json.loads(mambabench.report(many, "json", plot="none").text)["rows"]
    seen: dict[str, dict[str, str]] = {}
    for _, body in tables:
        lines = [line.split("&") for line in body.split("\\\\")]
        heads = [re.sub(r"\\[a-z]+\{?|[{}\s]|\\", "", cell) for cell in lines[0]]
        for line in lines:
            name = line[0].split("\n")[-1].strip(" {}")
            if name in ENCODERS:
                for head, cell in zip(heads[1:], line[1:], strict=True):
                    seen.setdefault(head, {})[name] = cell
    for task in TASKS:
        means = {row["encoder"]: row["mean"] for row in rows if row["task"] == task}
        found = next(cells for head, cells in seen.items() if head == task)
        assert set(found) == set(ENCODERS)
        values = sorted(set(means.values()), reverse=True)
        for encoder, cell in found.items():
            assert f"{100 * means[encoder]:.1f}" in cell
            assert ("\\textbf" in cell) == (means[encoder] == values[0]), (task, encoder)
            assert ("\\underline" in cell) == (means[encoder] == values[1]), (task, encoder)


@pytest.mark.parametrize(
    ("n_encoders", "n_tasks"), [(3, 4), pytest.param(30, 19, marks=pytest.mark.slow)]
)
def test_a_first_report_writes_few_files(tmp_path: Path, n_encoders: int, n_tasks: int) -> None:
    """At most 30 files, plots included, for people; their number does not depend on the seeds.

    Files of numbers that the next report reads are not among the 30. They lie in ``cache/`` alone:
    one for each encoder and task, one for the tests on each set of clips, here the same one for
    all tasks, and three on the whole.
    """
    tasks = list(DIRECTORIES)[:n_tasks]
    for number in range(n_encoders):
        for task in tasks:
            write_scene(
                tmp_path, f"enc{number}", task, skill=0.3 + number / 8, seeds=2, folds={"test": 24}
            )
    result = mambabench.report(tmp_path)
    report = tmp_path / "report"
    assert [path.name for path in report.iterdir() if path.is_dir()] == ["cache"]
    shown = {path for path in report.iterdir() if path.is_file()}
    assert shown == set(result.files), "what is written is announced"
    assert {"report.html", "scores.ssam2024.png"} <= {path.name for path in shown}
    assert len(shown) <= 30
    kept = sorted(path.suffix for path in (report / "cache").rglob("*"))
    assert kept == (1 + 3) * [".json"] + n_encoders * n_tasks * [".npz"]


@pytest.mark.parametrize("format", ["terminal", "markdown", "latex", "json"])
def test_the_baseline_and_its_tests_are_named(many: Path, format: str) -> None:
    text = mambabench.report(many, format, "enc3", plot="none").text
    page = (many / "report" / "report.html").read_text("utf-8")
    said = " ".join(text.split())
    if format == "json":
        body = json.loads(text)
        assert body["baseline"] == "enc3"
        assert {(c["encoder"], c["other"]) for c in body["comparisons"]} == {
            (encoder, "enc3") for encoder in ENCODERS if encoder != "enc3"
        }
    else:
        assert "enc3" in said
        assert "Holm-corrected over the 7 comparisons of the task" in said
    assert "Baseline: enc3." in page
    assert "Holm-corrected over the 7 comparisons of the task" in page


@pytest.mark.parametrize("format", ["terminal", "markdown", "latex", "csv", "json"])
def test_clips_that_were_left_out_are_said_at_the_number(tmp_path: Path, format: str) -> None:
    """One encoder lacks a clip: its number is flagged everywhere, and the pair shares clips."""
    write_scene(tmp_path, "whole", "scenes", skill=1.5, seeds=2, folds={"test": 20})
    for path in write_scene(tmp_path, "short", "scenes", skill=1.0, seeds=2, folds={"test": 19}):
        record = parse_record(path, path.read_bytes())
        predictions = stated_predictions_sha256(path.read_bytes())
        short = replace(record, missing=("test/test-clip00019.wav",))
        path.write_bytes(record_bytes(short, predictions))
    text = mambabench.report(tmp_path, format, table="long", plot="none").text
    said = " ".join(text.replace("\\", "").split())
    assert "1 clip left out" in said or "clips-left-out" in said
    if format in ("terminal", "markdown"):
        assert "19 test clips" in said, "the pair is compared on what both have"
        assert "[C]" in mambabench.report(tmp_path, format, plot="none").text
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "1 clip left out" in page


def test_the_pages_command_makes_the_number_again(tmp_path: Path) -> None:
    """From the same store, in an empty folder, to the last digit."""
    demo.generate(tmp_path / "tasks")
    name = "demo_vowel-v1-demo"
    out = tmp_path / "out"
    common = {"out": out, "protocol": "linear", "jobs": 1}
    mambabench.run("logmel_stats", tmp_path / "tasks", name, **common)
    _, body, _ = details_of(out, plot="none")
    (cell,) = body["cells"].values()
    words = shlex.split(cell["command"])
    assert words[:2] == ["mambabench", "probe"]
    shutil.copytree(out / "embeddings", tmp_path / "again" / "embeddings")
    done = CliRunner().invoke(probe, [*words[2:], "--out", str(tmp_path / "again"), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    before, after = (mambabench.load_results(x) for x in (out, tmp_path / "again"))
    assert before.score.tolist() == after.score.tolist()
