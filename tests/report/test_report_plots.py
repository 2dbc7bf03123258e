"""Plots: what is drawn, how large, on how many pages; groups of ranks; costs and their front."""

from __future__ import annotations

import math
import struct
import sys

import pytest
from click.testing import CliRunner
from synthetic_results import write_scene

import mambabench
from mambabench.cli.report import command
from mambabench.errors import DataError, MambabenchError
from mambabench.files import write_json
from mambabench.report.costs import front
from mambabench.report.plots.canvas import cut_apart
from mambabench.report.plots.options import PlotOptions
from mambabench.report.rows import EncoderCost
from mambabench.report.together import standing

SKILLS = {"weak": 0.3, "middle": 1.6, "equal": 1.6, "strong": 3.0}
TASKS = [f"task{i:02d}" for i in range(13)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for salt, (name, skill) in enumerate(SKILLS.items()):
        for number, task in enumerate(TASKS):
            own = {"seeds": 2, "folds": {"test": 50}, "salt": 100 * salt + number}
            write_scene(folder, name, task, skill=skill, **own)
    return folder


@pytest.fixture(scope="module")
def summary(out):
    return mambabench.report(out, plot="none").summary


def inches(png, dpi):
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    return width / dpi, height / dpi


def printed(out, *options):
    arguments = ["--out", str(out), *options]
    return CliRunner().invoke(command, arguments, standalone_mode=False).output


def plots(result):
    return {file.name for file in result.files if file.suffix in (".png", ".pdf")}


@pytest.mark.parametrize(
    ("figure", "width", "height", "dpi"),
    [("column", 3.35, 8.6, 300), ("page", 6.9, 8.6, 200), ("slide", 13.33, 7.5, 150)],
)
def test_sizes_pages_and_only_what_is_there(out, figure, width, height, dpi):
    pytest.importorskip("matplotlib")
    result = mambabench.report(out, figure=figure, plot=("scores", "ranks", "forest"))
    drawn = plots(result)
    assert {"scores.ssam2024.png", "scores.ssam2024-2.pdf", "ranks.ssam2024.pdf"} <= drawn
    assert not {name for name in drawn if name.startswith(("forest", "cost"))}
    for file in result.files:
        if file.suffix == ".png":
            w, h = inches(file, dpi)
            assert w == pytest.approx(width, abs=0.01)
            assert h <= height + 0.01
    on_disk = {file.name for file in (out / "report").glob("*.p[dn][fg]")}
    assert on_disk == drawn  # pages that another size had are gone


def test_output_names_what_was_written_and_nothing_else(out):
    pytest.importorskip("matplotlib")
    assert "plots (PDF and PNG): ranks.ssam2024" in printed(out, "--plot", "ranks")
    assert "plots" not in printed(out, "--plot", "none")
    chosen = ("--task", "task0[0-3]", "--highlight", "str*")
    text = printed(out, "--baseline", "weak", "--plot", "forest", *chosen)
    assert "plots (PDF and PNG): forest.ssam2024" in text
    assert (out / "report" / "chosen" / "forest.ssam2024.pdf").is_file()


def test_wrong_words_are_answered(out):
    with pytest.raises(MambabenchError, match="plot 'rank' is not one of .* did you mean 'ranks'"):
        mambabench.report(out, plot="rank")
    with pytest.raises(MambabenchError, match="figure 'colum' .* did you mean 'column'"):
        mambabench.report(out, figure="colum")
    with pytest.raises(MambabenchError, match="--highlight 'stronk'.* did you mean 'strong'"):
        mambabench.report(out, highlight="stronk")


def test_groups_are_maximal_runs_without_a_pair_that_differs(summary):
    found = standing(summary, "ssam2024")
    assert found.ranks[0].encoder == "strong"
    assert found.ranks[-1].encoder == "weak"
    assert found.groups == ((1, 2),)  # middle and equal, drawn from one distribution


def test_ranks_over_few_tasks_are_called_coarse(out, summary):
    assert "coarse" not in standing(summary, "ssam2024").note
    few = mambabench.report(out, task="task0[0-3]", plot="none").summary
    assert "Only 4 tasks: ranks are coarse." in standing(few, "ssam2024").note


def test_joined_tests_are_stouffers(summary):
    from scipy import stats

    (pair,) = [
        one for one in standing(summary, "ssam2024").pairs if {one.encoder, one.other} ==
        {"middle", "equal"}
    ]  # fmt: skip
    own = [one for one in summary.comparisons if {one.encoder, one.other} == {"middle", "equal"}]
    # scipy joins one-sided p-values: both sides of the same sum
    sides = [one.p / 2 if one.difference > 0 else 1 - one.p / 2 for one in own if one.p < 1]
    z = stats.combine_pvalues(sides, "stouffer").statistic * math.sqrt(len(sides) / len(own))
    assert pair.z == pytest.approx(z, abs=1e-9)
    assert pair.p == pytest.approx(2 * stats.norm.sf(abs(z)), abs=1e-12)
    assert pair.n_tasks == len(TASKS)


def test_joined_tests_keep_their_size():
    """Uniform p-values with fair signs: at most 5 % (of 2,000, three deviations) below .05."""
    import numpy as np

    from mambabench.report.statistics.comparison import Comparison
    from mambabench.report.together import _deviate

    rng = np.random.default_rng(0)
    blank = {"boot_low": None, "boot_high": None, "p_holm": None, "reason": None}
    rejected = 0
    for _ in range(2000):
        zs = [
            _deviate(
                Comparison("t", "p", "top1_acc", "a", "b", rng.choice([-1.0, 1.0]), p=p, **blank),
                True,
            )
            for p in rng.random(8)
        ]
        rejected += abs(sum(zs)) / math.sqrt(8) > 1.959964
    assert 0.035 < rejected / 2000 < 0.065


def test_no_groups_with_a_baseline(out):
    summary = mambabench.report(out, baseline="weak", plot="none").summary
    found = standing(summary, "ssam2024")
    assert found.groups == ()
    assert "baseline" in found.note


def test_front_is_what_nobody_beats():
    points = {
        "a": (1.0, 10.0),
        "b": (2.0, 9.0),
        "c": (2.0, 20.0),
        "d": (3.0, 20.0),
        "e": (9.0, 21.0),
    }
    assert front(points) == ["a", "c", "e"]


def test_costs_come_from_the_table_then_catalogue_and_stores(tmp_path):
    for name in ("logmel_stats", "ssamba_tiny", "mine"):
        for task in ("t1", "t2"):
            write_scene(tmp_path, name, task, skill=1.0, seeds=2, folds={"test": 30})
    for task, audio, worker in (("t1", 100.0, 1.0), ("t2", 300.0, 5.0)):
        body = {"audio_s": audio, "worker_s": worker, "device": "cpu", "precision": "fp32"}
        write_json(tmp_path / "embeddings" / "mine" / task / "provenance.json", {"run": body})
    table = tmp_path / "costs.csv"
    table.write_text("encoder,parameters,gflops,seconds\nlogmel_stats,,0.5,0.001\n")
    costs = mambabench.report(tmp_path, costs=table, plot="none").summary.costs
    known = {one.encoder: one for one in costs}
    assert known["mine"].seconds == pytest.approx(6 / 400)
    assert known["mine"].parameters is None
    assert (known["logmel_stats"].gflops, known["logmel_stats"].seconds) == (0.5, 0.001)
    assert known["ssamba_tiny"].parameters > 1e6
    table.write_text("encoder,parameters\nmime,3\n")
    with pytest.raises(DataError, match="costs.csv, line 2: encoder is 'mime'.*'mine'"):
        mambabench.report(tmp_path, costs=table)


def test_points_of_the_front_are_filled(out):
    pytest.importorskip("matplotlib")
    from mambabench.report.plots.canvas import ONE, Canvas
    from mambabench.report.plots.cost import cost_figure

    costs = [
        EncoderCost(name, seconds=seconds)
        for name, seconds in (("fast", 0.01), ("slow", 1.0), ("beaten", 2.0))
    ]
    canvas = Canvas(PlotOptions())
    with canvas.style():
        figure = cost_figure(canvas, costs, "min-max", {"fast": 50.0, "slow": 60.0, "beaten": 55.0})
    (panel,) = figure.axes
    dots = {tuple(line.get_xydata()[0]): line for line in panel.lines if line.get_marker() == "o"}
    filled = {point: line.get_markerfacecolor() for point, line in dots.items()}
    assert filled == {(0.01, 50.0): ONE, (1.0, 60.0): ONE, (2.0, 55.0): "white"}


def test_a_panel_has_every_mean_with_its_intervals_and_a_dash_for_what_is_missing(summary):
    pytest.importorskip("matplotlib")
    from mambabench.report.plots.canvas import Canvas
    from mambabench.report.plots.scores import in_order, score_figures

    lacking = ("task00", "weak")
    panels = [
        [row for row in summary.rows if row.task == task and (task, row.encoder) != lacking]
        for task in ("task00", "task01")
    ]
    encoders = in_order(panels)
    for size, legend in (("page", "ends); pale bar"), ("column", "ends);\npale bar")):
        canvas = Canvas(PlotOptions(figure=size))
        with canvas.style():
            (figure,) = score_figures(canvas, panels)
        assert legend in figure.get_supxlabel()
        drawn = [axes for axes in figure.axes if axes.axison]
        for axes, rows in zip(drawn, panels, strict=True):
            means, spans = {}, {}
            for line in axes.lines:
                encoder = encoders[int(line.get_ydata()[0])]
                if line.get_marker() == "o":
                    means[encoder] = line.get_xdata()[0]
                else:
                    spans.setdefault(encoder, []).append(tuple(line.get_xdata()))
            assert means == pytest.approx({row.encoder: 100 * row.mean for row in rows})
            for row in rows:  # two seeds: no interval over them
                assert spans[row.encoder] == [(100 * row.boot_low, 100 * row.boot_high)]
            dashes = [text.get_position()[1] for text in axes.texts if text.get_text() == "–"]
            assert [encoders[y] for y in dashes] == sorted(SKILLS.keys() - means.keys())


def test_shades_of_the_heat_map_are_shares_of_the_others_that_are_worse(summary):
    pytest.importorskip("matplotlib")
    from mambabench.report.plots.canvas import Canvas
    from mambabench.report.plots.heat import heat_figures

    rows = [row for row in summary.rows if row.task == "task00"]
    canvas = Canvas(PlotOptions())
    with canvas.style():
        (figure,) = heat_figures(canvas, [rows])
    (axes,) = figure.axes
    (image,) = axes.images
    names = [label.get_text() for label in axes.get_yticklabels()]
    means = {row.encoder: row.mean for row in rows}
    worse = [sum(one < means[name] for one in means.values()) / 3 for name in names]
    assert image.get_array()[:, 0].tolist() == pytest.approx(worse)
    assert {0.0, 1.0} <= set(worse)
    assert [label.get_rotation() for label in axes.get_xticklabels()] == [45]


def test_a_heat_map_is_one_figure_where_there_is_room(summary):
    pytest.importorskip("matplotlib")
    from mambabench.report.plots.canvas import Canvas
    from mambabench.report.plots.heat import heat_figures

    def of(task):
        return [row for row in summary.rows if row.task == task]

    canvas = Canvas(PlotOptions())
    with canvas.style():
        assert len(heat_figures(canvas, [of("task00"), of("task01")])) == 1
        assert len(heat_figures(canvas, [of(task) for task in TASKS])) == 2, "twelve tasks a page"


def test_a_filled_point_of_the_forest_differs(out):
    pytest.importorskip("matplotlib")
    from mambabench.report.plots.canvas import Canvas
    from mambabench.report.plots.forest import forest_figures

    found = mambabench.report(out, plot="none", baseline="weak").summary
    canvas = Canvas(PlotOptions())
    with canvas.style():
        (figure,) = forest_figures(canvas, found.comparisons, found.rows, "weak")
    for panel in figure.axes:
        encoder = panel.get_title(loc="left")
        own = {one.task: one for one in found.comparisons if encoder in (one.encoder, one.other)}
        dots = [line for line in panel.lines if line.get_marker() == "o"]
        assert len(dots) == len(TASKS)
        for line in dots:
            one = own[TASKS[int(line.get_ydata()[0])]]
            assert (line.get_markerfacecolor() != "white") == (one.p_holm < 0.05)
            sign = 1 if one.other == "weak" else -1
            assert line.get_xdata()[0] == pytest.approx(100 * sign * one.difference)


def test_highlighted_encoders_alone_have_colours():
    pytest.importorskip("matplotlib")
    from mambabench.report.plots.canvas import GREY, ONE, Canvas

    assert Canvas(PlotOptions()).color("a") == ONE
    chosen = Canvas(PlotOptions(highlight=("a", "b")))
    colours = [chosen.color(name) for name in "abc"]
    assert colours[2] == GREY
    assert len(set(colours)) == 3


def drawn_apart(folder, summary, options=None):
    from mambabench.report.plots.apart import begin_to_draw

    with begin_to_draw(folder, summary, options or PlotOptions(), jobs=2) as drawing:
        return drawing()


@pytest.mark.parametrize("fails", [False, True])
def test_another_process_draws_the_same_files(out, summary, tmp_path, monkeypatch, fails):
    """Where it fails, too; pages that an earlier report has left are gone."""
    pytest.importorskip("matplotlib")
    from mambabench.report.plots import apart
    from mambabench.report.plots.draw import draw

    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "scores.ssam2024-9.png").write_bytes(b"old")
        (folder / "forest.ssam2024.pdf").write_bytes(b"old")
    options = PlotOptions(highlight=("strong",), labels={"weak": ("Weak one", "")})
    expected = draw(one, summary, options)
    monkeypatch.setattr(apart, "_pays", lambda *arguments: True)
    if fails:
        monkeypatch.setattr(apart, "__name__", "mambabench.no_such_module")
    else:
        monkeypatch.setattr("mambabench.report.plots.scores.score_figures", None)
    found = drawn_apart(two, summary, options)
    assert [file.name for file in found] == [file.name for file in expected]
    assert [file.read_bytes() for file in found] == [file.read_bytes() for file in expected]
    assert {file.name for file in two.iterdir()} == {file.name for file in one.iterdir()}
    assert "scores.ssam2024-2.png" in {file.name for file in found}


def test_an_interrupt_leaves_nothing_of_another_process(summary, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from mambabench.report.plots import apart

    folder, temporary = tmp_path / "report", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(apart, "_pays", lambda *arguments: True)
    with (
        pytest.raises(KeyboardInterrupt),
        apart.begin_to_draw(folder, summary, PlotOptions(), None),
    ):
        assert list(temporary.iterdir())
        raise KeyboardInterrupt
    assert not list(temporary.iterdir())
    assert not list(folder.iterdir())


def test_a_process_is_begun_for_large_reports_only(summary, monkeypatch):
    from mambabench.report.plots import apart

    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    assert not apart._pays(summary, PlotOptions(), 2)
    monkeypatch.setattr(apart, "_WORTH_IT", len(summary.rows))
    assert apart._pays(summary, PlotOptions(), 2)
    assert not apart._pays(summary, PlotOptions(), 1)
    assert not apart._pays(summary, PlotOptions(plots=("heat",)), 2)
    monkeypatch.setitem(sys.modules, "matplotlib", object())
    assert not apart._pays(summary, PlotOptions(), 2), "it may have been set up"


def test_names_that_are_cut_stay_apart() -> None:
    one, other = "fsdd_digit-v1.0.9-full", "fsdd_digit_loso-v1.0.9-full"
    assert cut_apart([one], 18) == ["fsdd_digi…0.9-full"]
    assert cut_apart([one, "short", other, one], 18) == [
        "fsdd_digit-v1.0.9…",
        "short",
        "fsdd_digit_loso-v…",
        "fsdd_digit-v1.0.9…",
    ]
    ends = [f"{'x' * 20}{i}" for i in range(3)]
    assert [len(name) for name in cut_apart(ends, 18)] == [18] * 3
    assert len(set(cut_apart(ends, 18))) == 3
    middles = [f"{'a' * 30}{i}{'b' * 30}" for i in range(2)]
    assert cut_apart(middles, 18) == middles
