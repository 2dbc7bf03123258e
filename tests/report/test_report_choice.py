"""A report of a part: chosen before anything is compared, said everywhere, written elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import mambabench
from mambabench.cli.report import command
from mambabench.errors import MambabenchError
from mambabench.pipeline import read_experiment
from tests.report.synthetic_results import write_run, write_scene


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mambabench.report.verb.can_draw", lambda: False)
    folder = tmp_path / "out"
    for encoder, skill in (("a", 1.0), ("b", 1.5), ("c", 0.5)):
        write_scene(folder, encoder, "scenes", skill=skill, seeds=4)
        write_scene(folder, encoder, "others", skill=skill, seeds=2, protocol="sound")
    return folder


def test_what_is_left_out_counts_nowhere(out: Path, tmp_path: Path) -> None:
    for encoder, skill in (("a", 1.0), ("b", 1.5)):
        write_scene(tmp_path / "part", encoder, "scenes", skill=skill, seeds=3)
    part = mambabench.report(tmp_path / "part").summary
    options = {"encoder": ["a", "b"], "protocol": "ssam*", "seeds": 3}
    chosen = mambabench.report(out, **options).summary
    assert (chosen.rows, chosen.comparisons) == (part.rows, part.comparisons)
    assert (chosen.ranks, chosen.overall) == (part.ranks, part.overall)
    assert len(chosen.runs) == 6


@pytest.mark.parametrize("format", ["terminal", "markdown", "latex", "json", "model-card"])
def test_every_format_for_people_says_what_was_chosen(out: Path, format: str) -> None:
    text = mambabench.report(out, format, protocol="sound", seeds=2).text
    if format == "json":
        body = json.loads(text)["chosen"]
        assert body == {"tasks": [], "encoders": [], "protocols": ["sound"], "seeds": 2}
        assert json.loads(mambabench.report(out, "json").text)["chosen"] is None
        return
    assert "Only of these results: protocol sound; seeds 0 to 1." in text


def test_files_go_where_they_are_wanted(out: Path, tmp_path: Path) -> None:
    whole = mambabench.report(out, "json").text
    page = (out / "report" / "report.html").read_bytes()
    to = tmp_path / "new" / "page"
    made = mambabench.report(out, task="scenes", to=to)
    assert {file.parent for file in made.files} == {to}
    assert "Only of these results: task scenes." in (to / "report.html").read_text("utf-8")
    assert "others" not in (to / "scores.csv").read_text("utf-8")
    assert (out / "report" / "report.html").read_bytes() == page, "that of everything stays"
    again = mambabench.report(out, "json", task="scenes", to=to)
    assert again.text == (to / "report.json").read_text("utf-8")
    assert again.files == made.files
    assert again.summary.choice == made.summary.choice
    assert {run.record.task for run in again.summary.runs} == {"scenes"}
    assert mambabench.report(out, "json").text == whole


def test_results_that_nobody_may_write_to_have_a_page_elsewhere(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *args: object, **options: object) -> None:
        raise AssertionError(f"{path} is written to")

    real = Path.mkdir

    def mkdir(self: Path, *args: object, **options: object) -> None:
        if self.is_relative_to(out):
            refuse(self)
        real(self, *args, **options)  # type: ignore[arg-type]

    before = sorted(out.rglob("*"))
    monkeypatch.setattr(Path, "mkdir", mkdir)
    done = mambabench.report(out, to=tmp_path / "mine", encoder="a")
    assert done.note is None
    assert (tmp_path / "mine" / "report.html").is_file()
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"protocol": "sond"}, "--protocol 'sond': no results of such; there are sound, ssam2024"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
        ({"protocol": "sound", "task": "scenes"}, "have no such results on these tasks"),
    ],
)
def test_choices_of_nothing_are_answered(out: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(MambabenchError) as caught:
        mambabench.report(out, **options)
    assert said in str(caught.value)


def test_seeds_that_nobody_has_are_answered(tmp_path: Path) -> None:
    for path in write_scene(tmp_path, "a", "scenes", skill=1.0, seeds=3)[:2]:
        path.unlink()
        path.with_suffix(".npz").unlink()
    with pytest.raises(MambabenchError, match="no results of these seeds; there are seeds 2"):
        mambabench.report(tmp_path, seeds=2)
    for seed in (16, 1):
        result = [("test", {"top1_acc": 0.5}, 10)]
        write_run(tmp_path, "b", "scenes", seed, result, {}, metric="top1_acc", n_labels=2)
    with pytest.raises(MambabenchError, match="there are seeds 1, 2, 16"):
        mambabench.report(tmp_path, seeds=1)


def test_a_file_of_a_run_knows_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text(
        'seeds = 5\n[report]\nprotocol = "sound"\nseeds = 3\nto = "mine"\nplot = "heat, ranks"\n'
        'figure = "slide"\nhighlight = ["a*"]\nexport = "ssam"\nencoder = "a"\n'
    )
    made = read_experiment(file)
    assert (made.probe.seeds, made.table.seeds, made.table.to) == (5, 3, Path("mine"))
    assert (made.table.plot, made.table.figure) == (("heat", "ranks"), "slide")
    assert (made.table.highlight, made.table.export) == (("a*",), ("ssam",))
    assert (made.extract.encoder, made.table.encoder) == ((), ("a",))
    file.write_text('[report]\nfigure = "slid"\n')
    with pytest.raises(MambabenchError, match="did you mean 'slide'"):
        read_experiment(file)


def test_the_command_takes_names_with_commas(out: Path, tmp_path: Path) -> None:
    options = ["--out", str(out), "--to", str(tmp_path / "p"), "--export", "ssam,hear-eval-kit"]
    done = CliRunner().invoke(command, [*options, "--plot", "heat,rank"])
    assert done.exit_code != 0
    assert "did you mean 'ranks'" in str(done.exception)
    done = CliRunner().invoke(command, [*options, "--plot", "none"])
    assert done.exit_code == 0
    assert (tmp_path / "p" / "ssam" / "all_results.csv").is_file()
    assert (tmp_path / "p" / "hear-eval-kit").is_dir()
