"""Interruptions, several writers, bad clips, bad providers, a full disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mambabench.errors import EncoderError, StoreError
from mambabench.extract import unit
from mambabench.extract.plan import Budget
from mambabench.extract.verb import BUDGETS, Extracted, extract
from mambabench.files import read_json
from mambabench.store import shards
from mambabench.store.open import list_stored_tasks, read_embeddings

Make = Callable[..., Path]
Provide = Callable[..., str]
Bytes = Callable[[Path], dict[str, bytes]]
Start = Callable[..., "subprocess.Popen[str]"]

LENGTHS = (8000, 9000, 8000, 16000, 9000, 8000, 8000)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tiny tasks into several batches and shards."""
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=1.5, shard_s=1.6))


def run(name: str, directory: Path, out: Path, **options: Any) -> Extracted:
    return extract([name], [directory], out=out, **{"jobs": 1, **options})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scene", "event"])
def test_any_number_of_jobs_and_shares_gives_equal_bytes(
    make_task: Make, provider: Provide, tmp_path: Path, result_bytes: Bytes, kind: str
) -> None:
    directory, name = make_task(kind=kind, lengths=LENGTHS), provider()
    run(name, directory, tmp_path / "one")
    reference = result_bytes(tmp_path / "one")
    assert any(file.endswith("train.embeddings.npy") for file in reference)
    assert not any("work" in file or "lock" in file for file in reference)
    run(name, directory, tmp_path / "two", jobs=2)
    assert result_bytes(tmp_path / "two") == reference
    states = []
    for share in ("2/3", "1/3", "3/3"):
        states += run(name, directory, tmp_path / "shares", shard=share).outcomes
    assert [outcome.state for outcome in states] == ["waiting", "waiting", "sealed"]
    assert result_bytes(tmp_path / "shares") == reference


@pytest.mark.parametrize("replace", [False, True])
def test_committed_shards_are_not_encoded_again(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    replace: bool,
) -> None:
    directory, name = make_task(lengths=LENGTHS), provider()
    run(name, directory, tmp_path / "out", shard="1/2")
    encoded = []
    original = unit.commit_shard

    def spy(store: Path, shard: Any, rows: Any) -> Any:
        encoded.append(shard.key)
        return original(store, shard, rows)

    monkeypatch.setattr(unit, "commit_shard", spy)
    committed = {path.stem for path in (tmp_path / "out").rglob("*.rows")}
    done = run(name, directory, tmp_path / "out", replace=replace)
    assert done.outcomes[0].state == "sealed"
    assert committed
    assert encoded
    assert not committed & set(encoded)


def test_a_torn_shard_is_encoded_again(
    make_task: Make, provider: Provide, tmp_path: Path, result_bytes: Bytes
) -> None:
    directory, name = make_task(lengths=LENGTHS), provider()
    run(name, directory, tmp_path / "whole")
    run(name, directory, tmp_path / "torn", shard="1/2")
    first, second, third = sorted((tmp_path / "torn").rglob("*.rows"))[:3]
    first.write_bytes(first.read_bytes()[:-4])
    second.with_suffix(".json").write_text('{"key": ')
    third.unlink()
    run(name, directory, tmp_path / "torn")
    assert result_bytes(tmp_path / "torn") == result_bytes(tmp_path / "whole")


def test_a_shard_with_flipped_bytes_is_named_and_then_redone(
    make_task: Make, provider: Provide, tmp_path: Path, result_bytes: Bytes
) -> None:
    directory, name = make_task(lengths=LENGTHS), provider()
    run(name, directory, tmp_path / "whole")
    run(name, directory, tmp_path / "out", shard="1/2")
    rows = min((tmp_path / "out").rglob("*.rows"))
    rows.write_bytes(bytes(len(rows.read_bytes())))
    with pytest.raises(StoreError, match=rf"{rows.name} is damaged .* give the same command again"):
        run(name, directory, tmp_path / "out")
    run(name, directory, tmp_path / "out")
    assert result_bytes(tmp_path / "out") == result_bytes(tmp_path / "whole")


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_kill_and_resume_gives_equal_bytes(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    result_bytes: Bytes,
    start_command: Start,
    monkeypatch: pytest.MonkeyPatch,
    jobs: str,
    how: signal.Signals,
) -> None:
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=16.0, shard_s=120.0))
    directory = make_task(lengths=[16000 * n for n in (8, 20, 30, 40, 50, 60, 12, 13)])
    name, out = provider("sleep"), tmp_path / "out"
    arguments = ("extract", "--encoder", name, "--tasks", directory, "--out", out, "--jobs", jobs)
    process = start_command(*arguments)
    wait_for(lambda: any(out.rglob("work/*/*.json")), process)
    os.kill(process.pid, how)
    assert process.wait(timeout=30) == (-9 if how == signal.SIGKILL else 130)
    process.communicate()
    assert not any(out.rglob("manifest.json"))
    again = start_command(*arguments)
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert "24 clips, stored" in output
    run(name, directory, tmp_path / "whole")
    assert result_bytes(out / "embeddings") == result_bytes(tmp_path / "whole" / "embeddings")


@pytest.mark.slow
def test_two_processes_on_one_store(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    result_bytes: Bytes,
    start_command: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=16.0, shard_s=120.0))
    directory = make_task(lengths=[16000 * n for n in (8, 20, 30, 40, 50, 60, 12, 13)])
    name, out = provider("sleep"), tmp_path / "out"
    arguments = ("extract", "--encoder", name, "--tasks", directory, "--out", out, "--jobs", "1")
    both = [start_command(*arguments) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    run(name, directory, tmp_path / "whole")
    assert result_bytes(out / "embeddings") == result_bytes(tmp_path / "whole" / "embeddings")


def test_a_store_that_another_process_seals_meanwhile(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    result_bytes: Bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory, name, out = make_task(lengths=LENGTHS), provider(), tmp_path / "out"
    original, n_calls = unit.encode_shard, 0

    def faster(*arguments: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            with monkeypatch.context() as patch:
                patch.setattr(unit, "encode_shard", original)
                assert run(name, directory, out).outcomes[0].state == "sealed"
        yield from original(*arguments)

    monkeypatch.setattr(unit, "encode_shard", faster)
    assert run(name, directory, out).outcomes[0].state == "sealed"
    assert n_calls == 3
    assert not list(out.rglob("work"))
    run(name, directory, tmp_path / "whole")
    assert result_bytes(out) == result_bytes(tmp_path / "whole")


def spoil(directory: Path) -> None:
    folder = directory / "16000"
    (folder / "train" / "train001.wav").write_bytes(b"RIFF nonsense")
    (folder / "valid" / "valid000.wav").unlink()
    soundfile.write(folder / "test" / "test002.wav", np.zeros(0), 16000)
    soundfile.write(folder / "test" / "test003.wav", np.zeros(8000), 22050)
    bad = np.zeros(8000, np.float32)
    bad[7] = np.nan
    soundfile.write(folder / "test" / "test004.wav", bad, 16000, subtype="FLOAT")


MISSING = {
    "train/train001.wav": "is no readable audio",
    "valid/valid000.wav": "is missing",
    "test/test002.wav": "has no samples",
    "test/test003.wav": "has 22050 Hz but lies in the folder of 16000 Hz",
    "test/test004.wav": "has samples that are not finite",
}


@pytest.mark.parametrize("lengths", [(8000,) * 7, LENGTHS])
def test_bad_clips_are_named_and_the_rest_is_done(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    result_bytes: Bytes,
    lengths: tuple[int, ...],
) -> None:
    good = make_task(lengths=lengths, root=tmp_path / "good")
    directory, name, out = make_task(lengths=lengths), provider(), tmp_path / "out"
    spoil(directory)
    done = run(name, directory, out)
    assert done.failed
    (outcome,) = done.outcomes
    assert outcome.state == "incomplete"
    assert set(outcome.missing) == set(MISSING)
    for clip, reason in MISSING.items():
        assert outcome.missing[clip].startswith(reason)
    assert read_json(outcome.directory / "missing.json") == outcome.missing
    assert list_stored_tasks(out) == ()

    accepted = run(name, directory, tmp_path / "skip", on_error="skip")
    assert not accepted.failed
    (stored,) = list_stored_tasks(tmp_path / "skip")
    assert set(stored.missing) == set(MISSING)
    found = read_embeddings(stored, "test")
    assert found.clip_names == ("test000.wav", "test001.wav", "test005.wav", "test006.wav")
    assert len(found.embeddings) == 4

    for clip in MISSING:  # mended
        source = good / "16000" / clip
        (directory / "16000" / clip).write_bytes(source.read_bytes())
    assert run(name, directory, out).outcomes[0].state == "sealed"
    run(name, good, tmp_path / "reference")
    assert result_bytes(out) == result_bytes(tmp_path / "reference")


def test_skip_accepts_what_stop_has_recorded(
    make_task: Make, provider: Provide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    spoil(directory)
    run(name, directory, out)
    monkeypatch.setattr(unit, "commit_shard", None)  # nothing is encoded again
    done = run(name, directory, out, on_error="skip")
    assert done.outcomes[0].state == "sealed"
    assert not (done.outcomes[0].directory / "missing.json").exists()
    again = run(name, directory, out)
    assert (again.outcomes[0].state, len(again.outcomes[0].missing)) == ("already", 5)


@pytest.mark.slow
def test_missing_clips_on_the_command_line(
    make_task: Make, provider: Provide, tmp_path: Path, start_command: Start
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    (directory / "16000" / "train" / "train001.wav").write_bytes(b"RIFF nonsense")
    arguments = ("extract", "--encoder", name, "--tasks", directory, "--out", out)
    process = start_command(*arguments)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "18 clips, 1 missing, incomplete" in output
    assert "train/train001.wav: is no readable audio" in errors
    assert "--on-error skip" in errors
    process = start_command(*arguments, "--on-error", "skip")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "18 clips, 1 missing, stored" in output


def quiet_clip(directory: Path) -> None:
    path = directory / "16000" / "valid" / "valid002.wav"
    soundfile.write(path, np.zeros(8000), 16000)


def test_a_nan_embedding_is_named(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    directory = make_task()
    quiet_clip(directory)
    (outcome,) = run(provider("nan"), directory, tmp_path / "out").outcomes
    assert outcome.missing == {
        "valid/valid002.wav": "has an embedding with 6 values that are NaN or infinite"
    }


def test_a_clip_that_the_provider_refuses_is_named(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory, out = make_task(), tmp_path / "out"
    quiet_clip(directory)
    (outcome,) = run(provider("raise_quiet"), directory, out, on_error="skip").outcomes
    assert list(outcome.missing) == ["valid/valid002.wav"]
    assert "raised ValueError" in outcome.missing["valid/valid002.wav"]
    assert "too quiet for me" in outcome.missing["valid/valid002.wav"]
    (stored,) = list_stored_tasks(out)
    assert len(read_embeddings(stored, "valid").clip_names) == 5


def test_a_provider_that_always_raises_ends_the_run(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    with pytest.raises(
        EncoderError,
        match=r"failed on every clip of a part of split 'train'; the first is "
        r"train000\.wav: provider .* raised ValueError .*no such luck",
    ):
        run(provider("raise"), make_task(lengths=(7777,) * 6), tmp_path / "out")


def test_a_fault_in_a_worker_is_told_here(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match=r"failed on every clip .*no such luck"):
        run(provider("raise"), make_task(lengths=(7777,) * 6), tmp_path / "out", jobs=2)


def test_another_width_in_a_later_batch(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    directory = make_task(lengths=(9000, 7777, 9000))
    with pytest.raises(EncoderError, match=r"shape \[1, 5\].*expected \[1, 6\]"):
        run(provider("width"), directory, tmp_path / "out")


def test_timestamps_that_do_not_fit_the_frames(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory = make_task(kind="event", lengths=(7777,) * 6)
    with pytest.raises(EncoderError, match=r"train000\.wav: .*timestamps"):
        run(provider("times"), directory, tmp_path / "out")


def test_out_of_memory_halves_the_batch_and_is_recorded(
    make_task: Make, provider: Provide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=10.0, shard_s=100.0))
    directory = make_task(lengths=(8000,) * 9)
    (outcome,) = run(provider("memory"), directory, tmp_path / "small").outcomes
    assert outcome.state == "sealed"
    provenance = read_json(outcome.directory / "provenance.json")
    assert provenance["run"]["batches_halved"] == 2  # 9 -> 4 -> 2 clips
    run(provider(name="large"), directory, tmp_path / "large")
    (small,), (large,) = (list_stored_tasks(tmp_path / n) for n in ("small", "large"))
    np.testing.assert_allclose(
        read_embeddings(small, "test").embeddings,
        read_embeddings(large, "test").embeddings,
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("when", ["shard", "seal"])
def test_a_full_disk_loses_nothing(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    result_bytes: Bytes,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    code: int,
) -> None:
    import mambabench.store.seal as sealing

    directory, name, out = make_task(lengths=LENGTHS), provider(), tmp_path / "out"
    module = shards if when == "shard" else sealing
    original, n_writes = module.atomic_write, 0

    def failing(path: Path, write: Any) -> None:
        nonlocal n_writes
        n_writes += 1
        if n_writes < 3:
            original(path, write)
            return

        def full(file: Any) -> None:
            file.write(b"half")
            raise OSError(code, os.strerror(code))

        original(path, full)

    with monkeypatch.context() as patch:
        patch.setattr(module, "atomic_write", failing)
        with pytest.raises(
            StoreError, match=f"{os.strerror(code)}; free some space .* same command"
        ):
            run(name, directory, out)
    assert not list(out.rglob("*.tmp"))
    assert len(list(out.rglob("*.rows"))) >= 2
    assert list_stored_tasks(out) == ()
    run(name, directory, out)
    run(name, directory, tmp_path / "whole")
    assert result_bytes(out) == result_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_a_worker_that_dies_is_reported(make_task: Make, tmp_path: Path) -> None:
    path = tmp_path / "dying.py"
    path.write_text(
        "import os\n"
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    sample_rate = 16000\n"
        "    scene_embedding_size = timestamp_embedding_size = 1\n"
        "def load_model(path=''):\n"
        "    return Model()\n"
        "def get_scene_embeddings(audio, model):\n"
        "    if audio.shape[1] == 7777:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return audio.mean(1, keepdim=True)\n"
        "def get_timestamp_embeddings(audio, model):\n"
        "    return audio[:, :1, None], audio[:, :1]\n"
    )
    done = run(str(path), make_task(lengths=(7777,) * 6), tmp_path / "out", jobs=2)
    (outcome,) = done.outcomes
    assert outcome.state == "incomplete"
    assert all(
        "worker process ended with signal 9 (out of memory" in why
        for why in outcome.missing.values()
    )
    assert outcome.missing


def test_a_half_filled_store_of_other_weights_says_which(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory = make_task(lengths=LENGTHS)
    run(provider(width=6), directory, tmp_path / "out", shard="1/2")
    with pytest.raises(StoreError, match="made by other weights"):
        run(provider(width=7), directory, tmp_path / "out", shard="2/2")
