"""The matrix: what stands in it, how it is chosen, named, sorted and turned."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from synthetic_results import without_predictions, write_run, write_scene

import mambabench
from mambabench.errors import DataError, MambabenchError
from mambabench.report.matrix import matrices
from mambabench.report.statistics.ranks import RankingEntry, mean_ranks, task_ranks
from mambabench.report.view import View

ESC, CREMA = "esc50-v2.0.0-full", "tfds_crema_d-1.0.0-full"
SKILLS = {"weak_one": 0.8, "strong": 2.0, "near": 1.95, "low": 0.2}


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr("mambabench.report.written.draw_plots", lambda *arguments: [])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for name, skill in SKILLS.items():
        for task in (ESC, "nsynth_pitch-v2.2.3-5h", "own_task"):
            write_scene(folder, name, task, skill=skill, seeds=5, protocol="hear2021")
        if name != "low":
            write_scene(folder, name, CREMA, skill=skill, seeds=5, protocol="hear2021")
    return folder


@pytest.fixture(scope="module")
def summary(out):
    return mambabench.report(out).summary


def table(text):
    """Return the first Markdown table as lists of cells."""
    (body,) = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)[:1]
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in body.splitlines()]


def test_markdown_matrix_is_encoders_by_tasks(out):
    rows = table(mambabench.report(out, "markdown", published=0).text)
    assert [head.split("<br>")[0] for head in rows[0][:6]] == [
        *("| Encoder".strip("| "), "CREMA-D", "ESC-50", "NSynth 5h", "own_task", "Rank"),
    ]
    assert len(rows) == len(SKILLS) + 2
    assert {len(row) for row in rows} == {len(rows[0])}
    assert {row[0] for row in rows[2:]} == set(SKILLS)
    assert next(row for row in rows if row[0] == "low")[1] == "missing"


def test_cells_are_means_half_widths_and_marks(summary):
    """Recomputed from the rows: best, second, and what shares a letter with the best."""
    (one,) = matrices(summary, View(published=0))
    rows = {(row.encoder, row.task): row for row in summary.rows}
    seen = 0
    for index, head in enumerate(one.columns):
        if head.kind != "task":
            continue
        own = {x: rows[x, head.key] for x in SKILLS if rows[x, head.key].mean is not None}
        order = sorted(own, key=lambda name: -own[name].mean)
        for line in one.lines:
            cell, row = line.cells[index], own.get(line.head.key)
            if row is None:
                assert cell.value is None
                continue
            assert cell.text == f"{100 * row.mean:.1f}"
            assert cell.half == f"{50 * (row.boot_high - row.boot_low):.1f}"
            assert cell.best == (line.head.key == order[0])
            assert cell.second == (line.head.key == order[1])
            shares = set(row.ties) & set(own[order[0]].ties)
            assert cell.same == (bool(shares) and not cell.best)
            seen += cell.same
    assert seen > 0


@pytest.mark.parametrize(
    ("interval", "half"),
    [
        ("clips", lambda row: (row.boot_high - row.boot_low) / 2),
        ("seeds", lambda row: (row.ci95_high - row.ci95_low) / 2),
        ("sd", lambda row: row.std),
    ],
)
def test_interval_chooses_what_plus_minus_is(out, summary, interval, half):
    (one,) = matrices(summary, View(interval=interval, digits=3))
    rows = {(row.encoder, row.task): row for row in summary.rows}
    cell = next(line for line in one.lines if line.head.key == "strong").cells[1]
    assert one.columns[1].key == ESC
    assert cell.half == f"{100 * half(rows['strong', ESC]):.3f}"
    said = {"clips": "test clips", "seeds": "t-interval over seeds", "sd": "standard deviation"}
    assert said[interval] in mambabench.report(out, "latex", interval=interval).text


def test_turned_matrix_has_the_same_cells(summary):
    (across,) = matrices(summary, View())
    (down,) = matrices(summary, View(rows="tasks"))
    assert [line.head for line in down.lines] == list(across.columns)
    assert list(down.columns) == [line.head for line in across.lines]
    for i, line in enumerate(down.lines):
        assert list(line.cells) == [other.cells[i] for other in across.lines]


@pytest.mark.parametrize("fmt", ["terminal", "markdown", "latex", "csv"])
def test_turned_matrix_in_every_format(out, fmt):
    lines = mambabench.report(out, fmt, rows="tasks").text.splitlines()
    assert any("ESC-50" in line for line in lines)
    first = next(line for line in lines if "strong" in line)
    assert "near" in first  # encoders stand in one line: the head


def test_choice_of_tasks_and_encoders_is_made_before_anything_is_compared(out):
    result = mambabench.report(out, "csv", task="nsynth*", encoder=["near", "s*"])
    (one,) = result.summary.comparisons
    assert one.p_holm == one.p  # a family of one
    assert {row.task for row in result.summary.rows} == {"nsynth_pitch-v2.2.3-5h"}
    assert result.files == ()
    by_short_name = mambabench.report(out, "csv", task="ESC-50")
    assert {row.task for row in by_short_name.summary.rows} == {ESC}
    with pytest.raises(MambabenchError, match=r"--task 'own_tsk'.*did you mean 'own_task'"):
        mambabench.report(out, task="own_tsk")


def test_sort_by_name_task_and_score(out, summary):
    def order(sort):
        (one,) = matrices(summary, View(sort=sort, published=0))
        return [line.head.key for line in one.lines]

    assert order("name") == sorted(SKILLS)
    assert order("rank")[-1] == "low"  # lacks a task: no rank
    rows = {row.encoder: row.mean for row in summary.rows if row.task == "own_task"}
    assert order("own_task") == sorted(rows, key=lambda name: -rows[name])
    assert order("min-max")[:3] == order("rank")[:3]
    with pytest.raises(MambabenchError, match="did you mean 'ESC-50'"):
        mambabench.report(out, sort="ESC50")


def test_names_file_renames_and_groups(out, tmp_path):
    file = tmp_path / "names.csv"
    file.write_text(f"label,name,group\nstrong,Strong & <co>,Ours\nnear,Near,Ours\n{ESC},ESC,\n")
    text = mambabench.report(out, "latex", names=file).text
    assert "\\emph{Ours}" in text
    assert "Strong \\& $<$co$>$" in text
    assert re.search(r"& ESC ", text)
    file.write_text("label,name\nstrang,Strong\n")
    with pytest.warns(UserWarning, match="no encoder or task 'strang'.*did you mean 'strong'"):
        mambabench.report(out, names=file)
    file.write_text("label,name\nstrong,\n")
    with pytest.raises(DataError, match=r"names.csv, line 2: label and name are needed"):
        mambabench.report(out, names=file)


def test_csv_matrix_is_unrounded(out, summary):
    text = mambabench.report(out, "csv", published=0).text
    rows = {(row.encoder, row.task): row for row in summary.rows}
    for line in csv.DictReader(io.StringIO(text)):
        row = rows[line["encoder"], ESC]
        assert float(line["ESC-50"]) == row.mean
        assert float(line["ESC-50 +-"]) == (row.boot_high - row.boot_low) / 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_terminal_lines_fit_and_hold_every_number(out, summary, width):
    text = mambabench.report(out, width=width).text
    assert max(map(len, text.splitlines())) <= width
    for row in summary.rows:
        if row.mean is not None:
            assert f"{100 * row.mean:.1f} ±" in text


def test_width_bounds_the_columns_of_a_block(out):
    text = mambabench.report(out, "latex", columns=2, published=0).text
    assert {len(found) for found in re.findall(r"tabular\}\{l(r+)\}", text)} == {2}


def test_lower_is_better_is_ranked_the_other_way_round(tmp_path):
    for name, value in (("a", 0.9), ("b", 0.3), ("c", 0.5)):
        results = [("test", {"segment_1s_er": value}, 10)]
        path = write_run(tmp_path, name, "t", 0, results, {}, metric="segment_1s_er", n_labels=2)
        without_predictions(path)
    summary = mambabench.report(tmp_path).summary
    assert {rank.encoder: rank.rank for rank in summary.ranks} == {"b": 1, "c": 2, "a": 3}
    (one,) = matrices(summary, View(sort="t"))
    assert [line.head.key for line in one.lines] == ["b", "c", "a"]
    assert [line.cells[0].text for line in one.lines] == ["0.300", "0.500", "0.900"]
    assert [line.cells[0].second for line in one.lines] == [False, True, False]


@pytest.mark.parametrize(("task", "metric"), [("superb_asv", "eer"), ("superb_ks", "top1_acc")])
def test_published_rows_stand_the_best_first_whichever_way_is_better(tmp_path, task, metric):
    own = {"metric": metric, "n_labels": 2, "protocol": "superb"}
    path = write_run(tmp_path, "a", task, 0, [("test", {metric: 0.5}, 10)], {}, **own)
    without_predictions(path)
    summary = mambabench.report(tmp_path).summary
    (one,) = matrices(summary, View(published=6))
    shown = [line.cells[0].value for line in one.lines if line.head.kind == "published"]
    scores = [row.score for row in summary.published if row.protocol == "superb"]
    assert shown == sorted(scores, reverse=metric != "eer")[:6]
    assert len(set(shown)) > 3


def test_rank_intervals_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    tasks = {
        task: {
            name: RankingEntry(mean, rng.normal(mean, 0.1, 500), f"clips of {task}")
            for name, mean in (("a", 0.5), ("b", 0.55), ("c", 0.9))
        }
        for task in ("one", "two")
    }
    drawn = {name: [] for name in "abc"}
    for b in range(500):
        places = dict.fromkeys("abc", 0.0)
        for of in tasks.values():
            order = sorted("abc", key=lambda name: -of[name].resampled[b])
            for place, name in enumerate(order, start=1):
                places[name] += place / 2
        for name in "abc":
            drawn[name].append(places[name])
    found = {one.encoder: one for one in mean_ranks("p", tasks)}
    assert {name: one.rank for name, one in found.items()} == {"a": 3.0, "b": 2.0, "c": 1.0}
    for name, values in drawn.items():
        assert (found[name].low, found[name].high) == pytest.approx(
            tuple(np.quantile(values, [0.025, 0.975]))
        )


def test_ranks_without_shared_clips_have_no_interval_and_ties_share_a_place():
    draws = np.linspace(0, 1, 100)
    of = {
        "a": RankingEntry(0.5, draws, "these"),
        "b": RankingEntry(0.5, draws, "those"),
        "c": RankingEntry(0.1, draws, "these"),
    }
    found = {one.encoder: one for one in task_ranks("p", "t", of)}
    assert [found[name].rank for name in "abc"] == [1.5, 1.5, 3.0]
    assert {one.low for one in found.values()} == {None}
    assert mean_ranks("p", {"t": of, "u": {"a": of["a"]}}) == []  # one encoder has both tasks


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "matrx"}, "did you mean 'matrix'"),
        ({"interval": "clip"}, "did you mean 'clips'"),
        ({"rows": "task"}, "did you mean 'tasks'"),
        ({"digits": 9}, "digits is 9; it is 0 to 6"),
        ({"intervall": "sd"}, "did you mean 'interval'"),
        ({"export": ["sam"]}, "did you mean 'ssam'"),
    ],
)
def test_wrong_options_are_answered_with_the_nearest(out, options, said):
    with pytest.raises(MambabenchError, match=said):
        mambabench.report(out, **options)


def test_ascii_terminal_gets_every_format(out, monkeypatch):
    """A terminal without these letters gets plain ones, and no traceback."""
    import subprocess
    import sys

    for encoding in ("ascii", "latin-1"):
        done = subprocess.run(
            [sys.executable, "-m", "mambabench", "report", "--out", str(out)],
            capture_output=True,
            check=False,
            env={"PYTHONIOENCODING": encoding, "PATH": "/usr/bin", "MPLBACKEND": "agg"},
        )
        assert done.returncode == 0, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        assert b"strong" in done.stdout
