"""Downloads survive broken lines and faulty hosts, and never yield a wrong file."""

from __future__ import annotations

import fcntl
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest

from mambabench.acquire.fetch import RemoteFile, fetch, remote_size
from mambabench.errors import DataError

DATA = random.Random(5).randbytes(700_000)
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def waits() -> list[float]:
    return []


def get(host: Any, folder: Path, waits: list[float], checksum: str | None = SHA256) -> Path:
    file = RemoteFile("a.bin", f"{host.url}/a.bin", checksum)
    return fetch(file, folder, wait=waits.append)


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_plain_download(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA
    seen: list[tuple[str, int, int | None]] = []
    file = RemoteFile("a.bin", f"{host.url}/a.bin", "md5:" + hashlib.md5(DATA).hexdigest())
    path = fetch(file, tmp_path / "x", progress=lambda *a: seen.append(a))
    assert path.read_bytes() == DATA
    assert leftovers(tmp_path / "x") == ["a.bin"]
    assert seen[-1] == ("a.bin", len(DATA), len(DATA))


def test_right_file_is_not_fetched_again(host: Any, tmp_path: Path, waits: list[float]) -> None:
    (tmp_path / "a.bin").write_bytes(DATA)
    get(host, tmp_path, waits)
    assert host.requests == []


def test_wrong_file_is_replaced(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA
    (tmp_path / "a.bin").write_bytes(b"old")
    assert get(host, tmp_path, waits).read_bytes() == DATA


def test_interrupted_and_resumed(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA
    host.cut_after = [100_000, 300_000]
    assert get(host, tmp_path, waits).read_bytes() == DATA
    starts = [int(r.strip("bytes=-")) for _, r in host.requests if r]
    assert len(starts) == 2
    assert 80_000 < starts[0] <= 100_000
    assert 360_000 < starts[1] <= 400_000
    assert leftovers(tmp_path) == ["a.bin"]


def test_resumed_by_a_later_call(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA
    host.cut_after = [50_000] * 6
    with pytest.raises(DataError, match=r"failed 6 times.*294,912 bytes are kept"):
        get(host, tmp_path, waits)
    assert not (tmp_path / "a.bin").exists()
    host.cut_after = []
    assert get(host, tmp_path, waits).read_bytes() == DATA
    assert host.requests[-1][1] == "bytes=294912-"


def test_host_without_ranges(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA
    host.ranges = False
    host.cut_after = [200_000]
    assert get(host, tmp_path, waits).read_bytes() == DATA
    assert len(host.requests) == 2


def test_file_that_changed_in_between(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = bytes(len(DATA))
    host.cut_after = [60_000] * 6
    with pytest.raises(DataError, match="failed 6 times"):
        get(host, tmp_path, waits)
    host.files["a.bin"], host.etag, host.cut_after = DATA, '"v2"', []
    assert get(host, tmp_path, waits).read_bytes() == DATA


def test_part_that_is_complete_already(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA
    (tmp_path / "a.bin.part").write_bytes(DATA)
    assert get(host, tmp_path, waits).read_bytes() == DATA
    (tmp_path / "a.bin").unlink()
    (tmp_path / "a.bin.part").write_bytes(DATA + b"more")
    assert get(host, tmp_path, waits).read_bytes() == DATA


def test_wrong_hash(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA[:-1] + b"x"
    with pytest.raises(DataError, match=r"not the published file: its sha256 is another than"):
        get(host, tmp_path, waits)
    assert leftovers(tmp_path) == []


def test_truncated_without_a_length(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA[:400_000]
    host.say_length = False
    with pytest.raises(DataError, match="not the published file"):
        get(host, tmp_path, waits)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "404: it has no such file"), (403, "requester-pays"), (410, "removed"), (401, "login")],
)
def test_refusals_are_not_repeated(
    host: Any, tmp_path: Path, waits: list[float], status: int, text: str
) -> None:
    host.statuses = [status]
    with pytest.raises(DataError, match=text):
        get(host, tmp_path, waits)
    assert len(host.requests) == 1


def test_busy_host_is_waited_for(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.files["a.bin"] = DATA
    host.statuses, host.retry_after = [429, 503], "7"
    assert get(host, tmp_path, waits).read_bytes() == DATA
    assert waits == [7.0, 7.0]


def test_host_that_stays_busy(host: Any, tmp_path: Path, waits: list[float]) -> None:
    host.statuses, host.retry_after = [429] * 6, "soon"
    with pytest.raises(DataError, match=r"failed 6 times, at last: the host answered 429"):
        get(host, tmp_path, waits)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_no_network(tmp_path: Path, waits: list[float]) -> None:
    file = RemoteFile("a.bin", "http://127.0.0.1:9/a.bin")
    with pytest.raises(DataError, match=r"cannot be reached .*import command"):
        fetch(file, tmp_path, wait=waits.append)
    with pytest.raises(DataError, match="cannot be reached"):
        remote_size(file)


def test_offline_forbids_everything(
    host: Any, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.files["a.bin"] = DATA
    monkeypatch.setenv("MAMBABENCH_OFFLINE", "1")
    with pytest.raises(DataError, match="MAMBABENCH_OFFLINE forbids it"):
        get(host, tmp_path, waits)
    with pytest.raises(DataError, match="MAMBABENCH_OFFLINE forbids it"):
        remote_size(RemoteFile("a.bin", f"{host.url}/a.bin"))
    assert host.requests == []
    (tmp_path / "a.bin").write_bytes(DATA)
    assert get(host, tmp_path, waits).read_bytes() == DATA  # what is there needs no network


def test_two_processes_do_not_share_a_part_file(
    host: Any, tmp_path: Path, waits: list[float]
) -> None:
    host.files["a.bin"] = DATA
    with (tmp_path / "a.bin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"another process is downloading a\.bin"):
            get(host, tmp_path, waits)


def test_size_is_known_before_the_download(host: Any) -> None:
    host.files["a.bin"] = DATA
    assert remote_size(RemoteFile("a.bin", f"{host.url}/a.bin")) == len(DATA)
    with pytest.raises(DataError, match="no such file"):
        remote_size(RemoteFile("b.bin", f"{host.url}/b.bin"))
