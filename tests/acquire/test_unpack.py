"""Archives are unpacked whole or not at all, and nothing gets out of the folder."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mambabench.acquire.data import status, verify
from mambabench.acquire.resample import resample_task
from mambabench.acquire.unpack import UnpackLimits, unpack_tasks
from mambabench.benchmarks import discover
from mambabench.errors import DataError

NAME = "tones-v1-small"


def wav(rate: int, hz: float = 440.0) -> bytes:
    buffer = io.BytesIO()
    t = np.arange(rate // 2) / rate
    soundfile.write(buffer, 0.4 * np.sin(2 * np.pi * hz * t), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def members(rate: int = 48000, prefix: str = "tasks/", version: str = "v1") -> dict[str, bytes]:
    metadata = {
        "task_name": "tones",
        "version": version,
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": ["train", "valid", "test"],
        "sample_duration": 0.5,
        "evaluation": ["top1_acc"],
    }
    root = f"{prefix}{NAME}/"
    files = {
        root + "task_metadata.json": json.dumps(metadata).encode(),
        root + "labelvocabulary.csv": b"idx,label\n0,high\n1,low\n",
    }
    for s, split in enumerate(metadata["splits"]):
        names = {f"{split}{i}.wav": ["low" if i % 2 else "high"] for i in range(4)}
        files[f"{root}{split}.json"] = json.dumps(names).encode()
        for i, name in enumerate(names):
            files[f"{root}{rate}/{split}/{name}"] = wav(rate, 200.0 + 50 * i + 7 * s)
    return files


def tar(
    path: Path, files: dict[str, bytes], extra: Iterable[tuple[tarfile.TarInfo, bytes]] = ()
) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info, data in extra:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if data else None)
    return path


def named(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("prefix", ["tasks/", "hear-2021.0.6/tasks/", "./tasks/", ""])
def test_archive_becomes_a_task_directory(tmp_path: Path, prefix: str) -> None:
    archive = tar(tmp_path / "a.tar.gz", members(prefix=prefix))
    (unpacked,) = unpack_tasks(archive, tmp_path / "tasks", source="a test")
    assert unpacked.directory == tmp_path / "tasks" / NAME
    assert unpacked.n_files == 17
    (task,) = discover([tmp_path / "tasks"])  # no stray file is warned of
    assert task.sample_rates_hz == (48000,)
    assert [p.name for p in (tmp_path / "tasks").iterdir()] == [NAME]
    record = json.loads((unpacked.directory / ".mambabench/archive-48000.json").read_text())
    assert record["archive"] == "a.tar.gz"
    assert len(record["files"]) == 17


def test_second_sample_rate_joins_the_first(tmp_path: Path) -> None:
    unpack_tasks(tar(tmp_path / "a.tar.gz", members(48000)), tmp_path / "tasks")
    second = tar(tmp_path / "b.tar.gz", members(16000))
    unpack_tasks(second, tmp_path / "tasks")
    unpack_tasks(second, tmp_path / "tasks")  # again: nothing to do
    (found,) = status(tmp_path / "tasks")
    assert found.rates == {16000: "archive", 48000: "archive"}
    assert found.n_clips == {16000: 12, 48000: 12}
    assert verify(found.directory).n_files == 29


def test_another_version_is_refused(tmp_path: Path) -> None:
    unpack_tasks(tar(tmp_path / "a.tar.gz", members()), tmp_path / "tasks")
    other = tar(tmp_path / "b.tar.gz", members(16000, version="v2"))
    with pytest.raises(DataError, match=r"task_metadata\.json differs from"):
        unpack_tasks(other, tmp_path / "tasks")
    same_rate = members()
    same_rate[f"tasks/{NAME}/48000/train/train0.wav"] = wav(48000, 999.0)
    with pytest.raises(DataError, match="exists and did not come from this archive"):
        unpack_tasks(tar(tmp_path / "c.tar.gz", same_rate), tmp_path / "tasks")


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (named("../evil.txt"), r"member '\.\./evil\.txt' leads out of the folder"),
        (named("tasks/x/../../../evil.txt"), "leads out of the folder"),
        (named("/evil.txt"), "has an absolute or odd path"),
        (named("C:\\evil.txt"), "has an absolute or odd path"),
        (named("tasks/l", tarfile.SYMTYPE, "/etc/passwd"), "member 'tasks/l' is a link"),
        (named("tasks/h", tarfile.LNKTYPE, "tasks/x"), "member 'tasks/h' is a link"),
        (named("tasks/d", tarfile.CHRTYPE), "is a device or other special file"),
        (named("tasks/f", tarfile.FIFOTYPE), "is a device or other special file"),
    ],
)
def test_dangerous_member_leaves_nothing(tmp_path: Path, info: tarfile.TarInfo, text: str) -> None:
    data = b"evil" if info.isreg() else b""
    archive = tar(tmp_path / "a.tar.gz", members(), [(info, data)])
    with pytest.raises(DataError, match=text):
        unpack_tasks(archive, tmp_path / "tasks")
    assert list((tmp_path / "tasks").iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()
    assert not (tmp_path.parent / "evil.txt").exists()


def test_bomb_is_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", members() | {f"tasks/{NAME}/zeros": bytes(5_000_000)})
    limits = UnpackLimits(free_bytes=1_000_000, ratio=3.0)
    with pytest.raises(DataError, match="refused as a decompression bomb"):
        unpack_tasks(archive, tmp_path / "tasks", limits=limits)
    assert list((tmp_path / "tasks").iterdir()) == []
    with pytest.raises(DataError, match="has over 5 members"):
        unpack_tasks(archive, tmp_path / "tasks", limits=UnpackLimits(n_members=5))


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_truncated_archive_leaves_nothing(tmp_path: Path, kept: float) -> None:
    whole = tar(tmp_path / "a.tar.gz", members()).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match=r"b\.tar\.gz is truncated or no tar archive"):
        unpack_tasks(tmp_path / "b.tar.gz", tmp_path / "tasks")
    assert list((tmp_path / "tasks").iterdir()) == []


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"<html>Sign in</html>"))
    with pytest.raises(DataError, match="is truncated or no tar archive"):
        unpack_tasks(tmp_path / "a.tar.gz", tmp_path / "tasks")
    with pytest.raises(DataError, match=r"no archive .*missing"):
        unpack_tasks(tmp_path / "missing.tar.gz", tmp_path / "tasks")
    other = tar(tmp_path / "b.tar.gz", {"readme.txt": b"hello"})
    with pytest.raises(DataError, match="holds no task directory"):
        unpack_tasks(other, tmp_path / "tasks")


def test_verify_finds_what_changed(tmp_path: Path) -> None:
    (unpacked,) = unpack_tasks(tar(tmp_path / "a.tar.gz", members()), tmp_path / "tasks")
    directory = unpacked.directory
    assert verify(directory).missing == verify(directory).changed == ()
    (directory / "48000/train/train0.wav").unlink()
    (directory / "48000/test/test1.wav").write_bytes(wav(48000, 1.0))
    result = verify(directory)
    assert result.missing == ("48000/train/train0.wav",)
    assert result.changed == ("48000/test/test1.wav",)


def test_resampling_is_parallel_repeatable_and_recorded(tmp_path: Path) -> None:
    for name in ("one", "two"):
        unpack_tasks(tar(tmp_path / "a.tar.gz", members()), tmp_path / name)
    a, b = tmp_path / "one" / NAME, tmp_path / "two" / NAME
    assert resample_task(a, 16000, jobs=1) == 12
    assert resample_task(b, 16000, jobs=4) == 12
    assert resample_task(a, 16000) == 0  # present
    for file in sorted((a / "16000").rglob("*.wav")):
        audio, rate = soundfile.read(file)
        assert (rate, audio.shape) == (16000, (8000,))
        assert file.read_bytes() == (b / "16000" / file.relative_to(a / "16000")).read_bytes()
    spectrum = np.abs(np.fft.rfft(soundfile.read(a / "16000/train/train1.wav")[0]))
    assert np.argmax(spectrum) * 2 == 250  # Hz: bins of 2 Hz
    record = json.loads((a / ".mambabench/resampled-16000.json").read_text())
    assert (record["source_rate_hz"], record["quality"], record["n_clips"]) == (48000, "VHQ", 12)
    (task,) = discover([tmp_path / "one"])
    assert task.sample_rates_hz == (16000, 48000)
    assert status(tmp_path / "one")[0].rates == {16000: "resampled", 48000: "archive"}


def test_resampling_names_a_broken_clip(tmp_path: Path) -> None:
    files = members() | {f"tasks/{NAME}/48000/train/train2.wav": b"no audio"}
    (unpacked,) = unpack_tasks(tar(tmp_path / "a.tar.gz", files), tmp_path / "tasks")
    with pytest.raises(DataError, match=r"train2\.wav is no readable audio"):
        resample_task(unpacked.directory, 16000)
    assert not (unpacked.directory / "16000").exists()
    with pytest.raises(DataError, match="is no task directory"):
        resample_task(tmp_path, 16000)
