"""One file tells a run all; what is resolved lies beside the results."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import mambabench
from mambabench.cli.config import command as config
from mambabench.cli.run import command as run
from mambabench.errors import MambabenchError
from mambabench.experiment import experiment_of, read_experiment
from mambabench.pipeline import STORED_AS
from mambabench.preflight import problems
from mambabench.report.settings import TableSettings
from mambabench.report.verb import report
from mambabench.report.view import View
from mambabench.settings import options_of

FILE = """
seeds = 2
protocol = "linear"
task = ["demo_percussion-v1-demo"]
jobs = 1
[encoders]
Plain = "logmel_stats"
[report]
format = "markdown"
digits = 3
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "e.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_runs_and_its_resolved_form_runs_the_same(tmp_path: Path) -> None:
    file = _file(tmp_path, FILE)
    out = tmp_path / "out"
    done = CliRunner().invoke(run, ["--config", str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "| Plain" in done.stdout
    stored = read_experiment(out / STORED_AS)
    assert stored == read_experiment(file, {"out": out})
    assert (stored.extract.encoder, stored.probe.seeds) == (("Plain=logmel_stats",), 2)
    assert (stored.report.format, stored.table.digits) == ("markdown", 3)
    again = mambabench.run(config=out / STORED_AS)
    assert again.probed is not None
    assert again.probed.n_trained == 0
    assert again.reported is not None
    assert "Plain" in again.reported.text
    mambabench.run(config=file, out=out, seeds=3)
    assert read_experiment(out / "experiment-1.toml") == stored, "what was asked before stays"
    assert read_experiment(out / STORED_AS).probe.seeds == 3


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    file = _file(tmp_path, FILE)
    assert read_experiment(file, {"encoder": ("ssam_tiny_random",)}).extract.encoder == (
        "ssam_tiny_random",
    )
    assert read_experiment(file, {"seeds": 10}).probe.seeds == 10
    assert read_experiment(file, {"format": "csv"}).report.format == "csv"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sedes = 3", "e.toml: no setting 'sedes'; did you mean 'seeds'"),
        ("[report]\ntabel = 'long'", "e.toml: [report]: no setting 'tabel'; did you mean 'table'"),
        ("[reports]\ntable = 'long'", "e.toml: no setting 'reports'; did you mean 'report'?"),
        ("encoder = ['a']\n[encoders]\nb = 'c'", "e.toml: encoder and [encoders]: name all"),
        ("[encoders]\nb = 3", "e.toml: [encoders] is {'b': 3}, but must hold names"),
        ("seeds 3", "e.toml: Expected '='"),
    ],
)
def test_wrong_files_are_answered(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(MambabenchError) as caught:
        read_experiment(_file(tmp_path, text))
    assert said in str(caught.value)


def test_show_prints_what_can_be_read_again(tmp_path: Path) -> None:
    defaults = CliRunner().invoke(config, ["show"])
    assert defaults.exit_code == 0
    assert read_experiment(_file(tmp_path, defaults.stdout)) == experiment_of({})
    shown = CliRunner().invoke(config, ["show", str(_file(tmp_path, FILE)), "--json"])
    assert json.loads(shown.stdout)["settings"]["report"]["digits"] == 3


def test_check_finds_what_would_stop_a_run(tmp_path: Path) -> None:
    text = "encoder = ['ssam_tini', 'gone.py', 'ssam_tiny@gone.pth']\ntasks = ['nowhere']"
    file = _file(tmp_path, text + "\nprotocol = 'knn'\nexact = true")
    found = CliRunner().invoke(config, ["check", str(file)])
    assert found.exit_code != 2
    said = problems(read_experiment(file))
    assert len(said) == 5
    assert "did you mean 'ssam_tiny'" in said[1]
    assert [text in found.stdout for text in said] == [True] * 5
    fine = CliRunner().invoke(config, ["check", str(_file(tmp_path, FILE)), "--json"])
    assert json.loads(fine.stdout)["problems"] == []


def test_looks_are_those_of_the_report() -> None:
    known: dict[str, Any] = {f: o.default for f, o in options_of(TableSettings).items()}
    view = View()
    for name in ("table", "rows", "interval", "sort", "digits", "names", "published", "columns"):
        assert known.pop(name) == getattr(view, name)
    parameters = inspect.signature(report).parameters
    assert {name: parameters[name].default for name in known} == known
