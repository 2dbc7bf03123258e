"""`mambabench data` from the command line, against a local host."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click.testing
import pytest

from mambabench.acquire.archives import ARCHIVES, find_archives
from mambabench.cli.data import command
from mambabench.errors import DataError

_spec = importlib.util.spec_from_file_location("t", Path(__file__).with_name("test_unpack.py"))
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


def invoke(*args: object) -> click.testing.Result:
    runner = click.testing.CliRunner()
    return runner.invoke(command, [str(a) for a in args], standalone_mode=False)


@pytest.fixture
def served(host: Any, tmp_path: Path) -> Any:
    """A host that serves two archives, small tasks under published names."""
    for name in ("esc50-v2.0.0-full", "beijing_opera-v1.0-hear2021-full"):
        files = {k.replace(made.NAME, name): v for k, v in made.members().items()}
        archive = made.tar(tmp_path / "a.tar.gz", files)
        host.files[f"hear2021-{name}-48000.tar.gz"] = archive.read_bytes()
    return host


def test_get_several_and_resample(served: Any, tmp_path: Path) -> None:
    into = tmp_path / "tasks"
    common = ("--into", into, "--mirror", served.url, "--downloads", tmp_path / "d")
    result = invoke("get", "esc50", "beijing_opera", *common, "--resample", 16000)
    assert result.return_value == 0, result.output
    assert "no published checksum" in result.output
    assert "CC BY-NC 3.0" in result.output
    assert sorted(p.name for p in into.iterdir()) == [
        "beijing_opera-v1.0-hear2021-full",
        "esc50-v2.0.0-full",
    ]
    assert list((tmp_path / "d").iterdir()) == []  # archives are removed once unpacked
    n_requests = len(served.requests)
    assert invoke("get", "esc50", *common).return_value == 0
    assert len(served.requests) == n_requests  # present

    shown = invoke("status", "--into", into)
    assert "16000 Hz" in shown.output
    assert "resampled" in shown.output
    assert invoke("verify", "--into", into).return_value == 0
    (into / "esc50-v2.0.0-full/48000/train/train0.wav").unlink()
    broken = invoke("verify", "--into", into)
    assert broken.return_value == 1
    assert "missing: 48000/train/train0.wav" in broken.output


def test_one_failure_stops_no_other(served: Any, tmp_path: Path) -> None:
    name = "hear2021-esc50-v2.0.0-full-48000.tar.gz"
    served.files[name] = served.files[name][:500]
    result = invoke(
        "get",
        "esc50",
        "beijing_opera",
        "--into",
        tmp_path / "tasks",
        "--mirror",
        served.url,
        "--downloads",
        tmp_path / "d",
    )
    assert result.return_value == 1
    assert "is truncated or no tar archive" in result.output
    assert [p.name for p in (tmp_path / "tasks").iterdir()] == ["beijing_opera-v1.0-hear2021-full"]


def test_wrong_checksum(served: Any, tmp_path: Path) -> None:
    result = invoke(
        "get",
        "esc50",
        "--into",
        tmp_path / "tasks",
        "--mirror",
        served.url,
        "--downloads",
        tmp_path / "d",
        "--checksum",
        "md5:" + "0" * 32,
    )
    assert result.return_value == 1
    assert "is not the published file" in result.output


def test_size_is_stated_and_asked_for(served: Any, tmp_path: Path) -> None:
    served.say_length = False
    result = invoke(
        "get",
        "esc50",
        "--into",
        tmp_path / "tasks",
        "--mirror",
        served.url,
        "--downloads",
        tmp_path / "d",
    )
    assert isinstance(result.exception, click.exceptions.Abort)
    assert "unknown size" in result.output
    assert not any("esc50" in path for path, _ in served.requests)


def test_import_and_list(tmp_path: Path) -> None:
    archive = made.tar(tmp_path / "a.tar.gz", made.members())
    result = invoke("import", archive, "--into", tmp_path / "tasks")
    assert result.return_value == 0
    assert "17 files" in result.output
    assert invoke("import", tmp_path / "b.tar.gz", "--into", tmp_path / "t").return_value == 1
    resampled = invoke("resample", tmp_path / "tasks" / made.NAME, "--rate", 16000)
    assert "at 16000 Hz: 12 clips" in resampled.output
    listed = invoke("list")
    assert all(a.directory in listed.output for a in ARCHIVES)


def test_archives_of_small_real_tasks_import(test_data_dir: Path, tmp_path: Path) -> None:
    archives = sorted((test_data_dir / "hear_small").glob("*.tar.gz"))
    assert archives
    result = invoke("import", *archives, "--into", tmp_path / "tasks")
    assert result.return_value == 0, result.output
    found = sorted(p.name for p in (tmp_path / "tasks").iterdir())
    assert len(found) == len(archives)
    assert invoke("verify", "--into", tmp_path / "tasks").return_value == 0


def test_published_names() -> None:
    assert len(ARCHIVES) == 20
    (archive,) = find_archives(("mridangam_tonic",))
    assert archive.file_name(16000) == "hear2021-mridangam_tonic-v1.5-full-16000.tar.gz"
    (bees,) = find_archives(("beehive_states_fold0-v2-full",))
    assert bees.remote().checksum == "md5:f9e045f9b2ddf5643edc1143304c80aa"
    assert bees.remote().url.startswith("https://")
    assert len({a.task for a in ARCHIVES}) == 20
    with pytest.raises(DataError, match="requester-pays buckets only"):
        archive.remote(16000)
    with pytest.raises(DataError, match=r"named 'esc5O'; did you mean 'esc50'"):
        find_archives(("esc5O",))
