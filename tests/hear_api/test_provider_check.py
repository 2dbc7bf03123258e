"""`check` passes a sound provider and finds a planted fault of every kind."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mambabench.cli.check import command
from mambabench.errors import EncoderError
from mambabench.hear_api import check_calls
from mambabench.hear_api.check import CheckReport, check

_spec = importlib.util.spec_from_file_location(
    "broken_providers", Path(__file__).with_name("broken_providers.py")
)
assert _spec is not None
assert _spec.loader is not None
broken = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(broken)

CASES = [(name, i) for name, faults in broken.FAULTS.items() for i in range(len(faults))]


def written(folder: Path, text: str, name: str = "provider.py") -> str:
    """Write a provider and return its path."""
    path = folder / name
    path.write_text(text)
    return str(path)


def statuses(report: CheckReport) -> dict[str, str]:
    return {c.name: c.status for c in report.checks}


def test_sound_provider_passes_every_check(tmp_path: Path) -> None:
    report = check(written(tmp_path, broken.SOUND))
    assert report.passed, report
    assert set(statuses(report).values()) == {"pass"}
    assert (report.sample_rate_hz, report.scene_embedding_size) == (16000, 6)
    assert report.hop_ms == pytest.approx(40.0)


def test_every_check_has_a_planted_fault(tmp_path: Path) -> None:
    report = check(written(tmp_path, broken.SOUND))
    assert {c.name for c in report.checks} == set(broken.FAULTS)


@pytest.mark.parametrize(("name", "i"), CASES)
def test_planted_fault_is_found(tmp_path: Path, name: str, i: int) -> None:
    old, new, text = broken.FAULTS[name][i]
    assert broken.SOUND.count(old) >= 1
    report = check(written(tmp_path, broken.SOUND.replace(old, new)))
    assert not report.passed
    found = {c.name: c for c in report.checks}[name]
    assert found.status == "fail", report
    assert text in found.message


def test_long_hop_is_a_warning_only(tmp_path: Path) -> None:
    text = broken.SOUND.replace("640", "1280").replace("20.0 + 40.0", "40.0 + 80.0")
    text = text.replace("800", "1600")
    report = check(written(tmp_path, text))
    assert statuses(report)["timestamps"] == "warn", report
    assert report.passed


def test_a_slow_long_clip_names_a_shorter_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(check_calls, "perf_counter", lambda: 40.0 * next(ticks))
    path = written(tmp_path, broken.SOUND)
    slow = CliRunner().invoke(command, [path], catch_exceptions=False)
    assert "this took 40 s: --long-s 15 is quicker" in " ".join(slow.output.split())
    least = check(path, long_s=6.0).checks[-1]
    assert least.message.endswith("this took 40 s: --long-s 5 is quicker")
    assert least.status == "pass"
    assert "quicker" not in check(path, long_s=5.0).checks[-1].message
    monkeypatch.setattr(check_calls, "perf_counter", lambda: 40.0)
    assert "quicker" not in check(path).checks[-1].message


def test_later_checks_do_not_run_without_a_model(tmp_path: Path) -> None:
    report = check(written(tmp_path, "import nothing_of_that_name\n"))
    assert statuses(report)["scene shape"] == "not run"
    assert report.sample_rate_hz is None


def test_argv_and_path_are_left_as_they_were(tmp_path: Path) -> None:
    argv, path = list(sys.argv), list(sys.path)
    text = "import sys\nassert len(sys.argv) == 1, sys.argv\nimport beside\n" + broken.SOUND
    written(tmp_path, "VALUE = 3\n", "beside.py")
    assert check(written(tmp_path, text)).passed
    assert (sys.argv, sys.path) == (argv, path)


def test_unknown_name_is_an_error() -> None:
    with pytest.raises(EncoderError, match=r"no encoder or importable module named 'no\.such'"):
        check("no.such")
    with pytest.raises(EncoderError, match="no provider file"):
        check("no/such.py")


def test_command_prints_a_table_and_fails(tmp_path: Path) -> None:
    from mambabench.cli.check import command

    good = written(tmp_path, broken.SOUND)
    result = CliRunner().invoke(command, [good], standalone_mode=False)
    assert result.return_value == 0, result.output
    assert "batch: alone" in result.output
    old, new, text = broken.FAULTS["batch: order"][0]
    bad = written(tmp_path, broken.SOUND.replace(old, new), "bad.py")
    result = CliRunner().invoke(command, [bad], standalone_mode=False)
    assert result.return_value == 1
    assert text[:20] in result.output
    assert " failed, 0 not run" in result.output


def test_json_keys_are_pinned(tmp_path: Path) -> None:
    from mambabench.cli.check import command

    good = written(tmp_path, broken.SOUND)
    result = CliRunner().invoke(command, [good, "--json"], standalone_mode=False)
    value = json.loads(result.output)
    assert sorted(value) == [
        "checks",
        "device",
        "encoder",
        "hop_ms",
        "passed",
        "sample_rate_hz",
        "scene_embedding_size",
        "schema",
        "timestamp_embedding_size",
    ]
    assert value["schema"] == "mambabench.check/1"
    assert {tuple(sorted(c)) for c in value["checks"]} == {
        ("limit", "message", "name", "status", "value")
    }
