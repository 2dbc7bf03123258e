"""Every command takes --json and prints one object, on errors too."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from mambabench import cli
from mambabench.cli import VERBS


def _commands() -> Iterator[tuple[str, click.Command]]:
    for verb in VERBS:
        command = import_module(f"mambabench.cli.{verb}").command
        if isinstance(command, click.Group):
            yield from ((f"{verb} {name}", part) for name, part in command.commands.items())
        else:
            yield verb, command


COMMANDS = dict(_commands())


def _said(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, Any]:
    monkeypatch.setattr(sys, "argv", ["mambabench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr().out
    code = ended.value.code
    assert isinstance(code, int)
    return code, json.loads(out)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json(name: str) -> None:
    flags = [flag for parameter in COMMANDS[name].params for flag in parameter.opts]
    assert flags.count("--json") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_usage_is_an_object(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, value = _said([*name.split(), "--json", "--nonesuch"], monkeypatch, capsys)
    assert code == 2
    assert value["error"]["kind"] == "UsageError"
    assert "--nonesuch" in value["error"]["message"]


WRONG = {
    "extract --tasks nowhere": "DataError",
    "extract --encoder nothing": "EncoderError",
    "probe": "StoreError",
    "report": "StoreError",
    "verify": "StoreError",
    "run --config nowhere.toml": "MambabenchError",
    "config check nowhere.toml": "MambabenchError",
    "tasks show nothing": "DataError",
    "tasks make --csv a.csv --audio .": "DataError",
    "models show nothing": "EncoderError",
    "weights show nothing": "EncoderError",
    "weights import nothing": "EncoderError",
    "data get unknown": "DataError",
    "forget --task x": "StoreError",
    "train depmamba --recipe nothing": "ProtocolError",
    "embed nothing.wav --encoder logmel_stats -o a.npz": "DataError",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_bad_input_is_an_object(
    arguments: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, value = _said([*arguments.split(), "--json"], monkeypatch, capsys)
    assert code == 2
    assert value["error"]["kind"] == WRONG[arguments]
    assert value["error"]["exit_code"] == 2
    assert value["error"]["message"]


def test_what_succeeds_is_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "run --encoder logmel_stats --task demo_vowel --protocol linear --jobs 1 --json"
    code, run = _said(words.split(), monkeypatch, capsys)
    assert code == 0
    assert run["schema"] == "mambabench.run/1"
    assert run["report"]["rows"][0]["encoder"] == "logmel_stats"
    assert run["probed"]["n_trained"] == 1
    words = "probe --protocol linear --jobs 1 --json"
    assert _said(words.split(), monkeypatch, capsys)[1]["n_present"] == 1
    words = "extract --encoder logmel_stats --task demo_vowel --json"
    assert _said(words.split(), monkeypatch, capsys)[1]["outcomes"][0]["state"] == "already"
    assert _said(["report", "--json"], monkeypatch, capsys)[1]["schema"] == "mambabench.report/2"
    for words in ("weights list", "data list", "data status", "train --list", "info", "verify"):
        code, value = _said([*words.split(), "--json"], monkeypatch, capsys)
        assert code == 0
        assert isinstance(value, dict), words
