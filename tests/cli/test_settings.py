"""An option is declared once: the command line and the Python functions have the same."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from mambabench.errors import MambabenchError, ProtocolError
from mambabench.experiment import RUN_OPTIONS, experiment_of
from mambabench.extract.settings import ExtractSettings
from mambabench.extract.verb import extract
from mambabench.probe.settings import ProbeSettings
from mambabench.probe.verb import probe
from mambabench.settings import as_plain, options_of, settings_of

ONLY_ON_THE_COMMAND_LINE = {"text_encoder", "traceback", "config", "json"}


def _command_line(verb: str) -> dict[str, click.Option]:
    command = import_module(f"mambabench.cli.{verb}").command
    found = {p.name: p for p in command.params if p.name not in ONLY_ON_THE_COMMAND_LINE}
    assert all(isinstance(p, click.Option) for p in found.values())
    return found


@pytest.mark.parametrize(
    ("settings", "function", "verb"),
    [(ExtractSettings, extract, "extract"), (ProbeSettings, probe, "probe")],
)
def test_python_and_command_line_have_the_settings(
    settings: type, function: Any, verb: str
) -> None:
    known = options_of(settings)
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "progress"
    }
    assert list(parameters) == list(known)
    for name, default in parameters.items():
        single = known[name].kind is Path and not known[name].many and default is not None
        shown = Path(default) if single else default
        assert shown == known[name].default, name
    assert list(_command_line(verb)) == list(known)


def test_run_has_the_options_of_its_stages() -> None:
    assert list(_command_line("run")) == list(RUN_OPTIONS)
    made = experiment_of({"jobs": 3, "seeds": 2, "format": "csv", "out": "o"})
    assert (made.extract.jobs, made.probe.jobs, made.probe.seeds) == (3, 3, 2)
    assert made.extract.out == made.probe.out == Path("o")
    assert experiment_of(made.plain()) == made, "what is stored gives the same run"


def test_a_string_alone_is_one_name() -> None:
    made = settings_of(ExtractSettings, {"encoder": "my.py", "tasks": "tasks", "task": "a"})
    assert (made.encoder, made.tasks, made.task) == (("my.py",), (Path("tasks"),), ("a",))
    assert settings_of(ExtractSettings, as_plain(made)) == made


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seedss": 3}, "x.toml: no setting 'seedss'; did you mean 'seeds'?"),
        ({"seeds": "3"}, "x.toml: seeds is '3', but must be a whole number"),
        ({"seeds": True}, "x.toml: seeds is True, but must be a whole number"),
        ({"seeds": 0}, "x.toml: seeds is 0; it must be at least 1"),
        ({"precision": "fp8"}, "x.toml: --precision 'fp8' is not one of fp32, bf16, int8"),
        ({"encoder": [3]}, "x.toml: encoder is 3, but must be a string"),
        ({"exact": 1}, "x.toml: exact is 1, but must be true or false"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(MambabenchError) as caught:
        experiment_of(values, "x.toml: ")
    assert str(caught.value).startswith(said)


def test_shares_of_probing_are_one_run(tmp_path: Path) -> None:
    from mambabench.benchmarks import demo

    demo.generate(tmp_path / "tasks")
    name = "demo_percussion-v1-demo"
    extract("logmel_stats", tmp_path / "tasks", name, tmp_path / "a", jobs=1)
    extract("logmel_stats", tmp_path / "tasks", name, tmp_path / "b", jobs=1)
    options: dict[str, Any] = {"task": name, "protocol": "sound", "jobs": 1}
    probe(3, out=tmp_path / "a", **options)
    shares = [probe(3, out=tmp_path / "b", shard=f"{i}/2", **options) for i in (1, 2)]
    assert [share.n_trained for share in shares] == [2, 1]
    files = [path for path in (tmp_path / "a" / "probes").rglob("seed-*") if path.is_file()]
    results = [path for path in files if not path.name.endswith(".provenance.json")]
    assert len(results) == 6
    for path in results:
        assert (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() == path.read_bytes()
    with pytest.raises(ProtocolError, match="no setting|must be a whole number"):
        probe("3")  # type: ignore[arg-type]
