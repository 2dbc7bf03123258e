"""Audio that changes under a store: noticed by content, its shard encoded anew, nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mambabench.benchmarks.task import AudioPart
from mambabench.errors import DataError, StoreError
from mambabench.extract import unit
from mambabench.extract.plan import Budget, plan_task
from mambabench.extract.verb import BUDGETS, Extracted, extract
from mambabench.files import canonical_json
from mambabench.store import sources
from mambabench.store.open import list_stored_tasks, read_embeddings
from mambabench.store.plan import EncoderSpec, PlannedClip

Make = Callable[..., Path]
Provide = Callable[..., str]
Bytes = Callable[[Path], dict[str, bytes]]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tiny tasks into several batches and shards."""
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=1.0, shard_s=1.0))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record the clips of every shard that is encoded from here on."""
    seen: list[list[str]] = []
    original = unit.commit_shard

    def spy(store: Path, shard: Any, rows: Any) -> Any:
        seen.append([clip.name for clip in shard.clips])
        return original(store, shard, rows)

    monkeypatch.setattr(unit, "commit_shard", spy)
    return seen


def run(name: str, directory: Path, out: Path, **options: Any) -> Extracted:
    return extract([name], [directory], out=out, **{"jobs": 1, **options})


def other_noise(path: Path, seed: int = 5) -> None:
    """Write other samples of equal length into the same file."""
    n = soundfile.info(path).frames
    size = path.stat().st_size
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(n), 16000)
    assert path.stat().st_size == size


def clip(directory: Path, name: str = "test/test003.wav") -> Path:
    return directory / "16000" / name


@pytest.mark.parametrize(
    ("layout", "kind"), [("store", "scene"), ("store", "event"), ("hear-eval-kit", "scene")]
)
def test_a_changed_clip_has_its_shard_encoded_anew(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    result_bytes: Bytes,
    encoded: list[list[str]],
    layout: str,
    kind: str,
) -> None:
    directory, name, out = make_task(kind=kind), provider(), tmp_path / "out"
    run(name, directory, out, layout=layout)
    n_shards = len(encoded)
    encoded.clear()
    other_noise(clip(directory))
    (outcome,) = run(name, directory, out, layout=layout).outcomes
    assert outcome.state == "sealed"
    assert encoded == [["test002.wav", "test003.wav"]]
    assert outcome.changed == {"test/test003.wav": n_shards - 1}
    run(name, directory, tmp_path / "fresh", layout=layout)
    assert result_bytes(out) == result_bytes(tmp_path / "fresh")
    encoded.clear()
    (again,) = run(name, directory, out, layout=layout, verify=True).outcomes
    assert (again.state, again.changed, encoded) == ("already", {}, [])


def test_a_copied_dataset_is_hashed_once_and_not_encoded(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    encoded: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    run(name, directory, out)
    elsewhere = tmp_path / "elsewhere" / directory.name
    shutil.copytree(directory, elsewhere, copy_function=shutil.copyfile)
    encoded.clear()
    hashed = []
    original = sources.sha256_file

    def counting(path: Path) -> str:
        hashed.append(path)
        return original(path)

    monkeypatch.setattr(sources, "sha256_file", counting)
    (outcome,) = run(name, elsewhere, out).outcomes
    assert (outcome.state, outcome.changed, encoded) == ("already", {}, [])
    assert len(hashed) == 18
    run(name, elsewhere, out)
    assert len(hashed) == 18


def test_a_change_that_keeps_size_time_and_inode_takes_verify(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    run(name, directory, out)
    path = clip(directory)
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(name, directory, out).outcomes[0].state == "already"
    (outcome,) = run(name, directory, out, verify=True).outcomes
    assert list(outcome.changed) == ["test/test003.wav"]


def test_a_clip_that_changes_while_others_are_encoded(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    result_bytes: Bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    original, done = unit.commit_shard, []

    def disturbed(store: Path, shard: Any, rows: Any) -> Any:
        record = original(store, shard, rows)
        done.append(shard.key)
        if len(done) == 3:
            other_noise(clip(directory, "train/train000.wav"))
        return record

    monkeypatch.setattr(unit, "commit_shard", disturbed)
    (outcome,) = run(name, directory, out).outcomes
    assert (outcome.state, list(outcome.changed)) == ("sealed", ["train/train000.wav"])
    assert len(done) == 10
    monkeypatch.undo()
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=1.0, shard_s=1.0))
    run(name, directory, tmp_path / "fresh")
    assert result_bytes(out) == result_bytes(tmp_path / "fresh")


def test_a_clip_that_keeps_changing_or_grows_is_named(
    make_task: Make, provider: Provide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, name = make_task(), provider()
    original, path = unit.commit_shard, clip(directory, "train/train000.wav")
    grows = False

    def disturbed(store: Path, shard: Any, rows: Any) -> Any:
        record = original(store, shard, rows)
        if any(one.name == path.name for one in shard.clips):
            if grows:
                soundfile.write(path, np.zeros(9000), 16000)
            else:
                other_noise(path, seed=int.from_bytes(os.urandom(4)))
        return record

    monkeypatch.setattr(unit, "commit_shard", disturbed)
    with pytest.raises(DataError, match=r"train/train000\.wav keeps changing while it is encoded"):
        run(name, directory, tmp_path / "keeps")
    grows = True
    with pytest.raises(DataError, match=r"train000\.wav has \d+ bytes, \d+ when this command"):
        run(name, directory, tmp_path / "grows")


def test_a_committed_shard_of_an_unfinished_store_is_checked_too(
    make_task: Make, provider: Provide, tmp_path: Path, result_bytes: Bytes
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    run(name, directory, out, shard="1/2")
    other_noise(clip(directory, "train/train001.wav"))  # in the first shard
    (outcome,) = run(name, directory, out).outcomes
    assert outcome.changed == {"train/train001.wav": 1}
    run(name, directory, tmp_path / "fresh")
    assert result_bytes(out) == result_bytes(tmp_path / "fresh")


def test_clips_left_out_stay_left_out_and_mended_ones_are_noticed(
    make_task: Make, provider: Provide, tmp_path: Path, result_bytes: Bytes
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    bad = clip(directory, "valid/valid001.wav")
    data = np.zeros(8000, np.float32)
    data[7] = np.nan
    soundfile.write(bad, data, 16000, subtype="FLOAT")
    run(name, directory, out, on_error="skip")
    assert run(name, directory, out, on_error="skip").outcomes[0].state == "already"
    other_noise(clip(directory))
    (outcome,) = run(name, directory, out, on_error="skip").outcomes
    assert list(outcome.missing) == ["valid/valid001.wav"]
    run(name, directory, tmp_path / "fresh", on_error="skip")
    assert result_bytes(out) == result_bytes(tmp_path / "fresh")
    data[7] = 0.5
    soundfile.write(bad, data, 16000, subtype="FLOAT")  # mended, of the same size
    (outcome,) = run(name, directory, out).outcomes
    assert (outcome.state, outcome.missing) == ("sealed", {})


def as_older(store: Path) -> None:
    """Turn a store into what the version before wrote."""
    manifest = json.loads((store / "manifest.json").read_bytes())
    for field in ("own_sha256", "files", "audio"):
        manifest.pop(field, None)
    manifest["schema"] = "mambabench.store/1"
    (store / "manifest.json").write_bytes(canonical_json(manifest))
    for name in ("audio.json", "audio-seen.json"):
        (store / name).unlink()


def test_a_store_of_the_version_before_is_read_and_its_audio_checked(
    make_task: Make, provider: Provide, tmp_path: Path, encoded: list[list[str]]
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    (outcome,) = run(name, directory, out).outcomes
    whole = (outcome.directory / "audio.json").read_bytes()
    as_older(outcome.directory)
    encoded.clear()
    assert run(name, directory, out).outcomes[0].state == "already"
    assert (outcome.directory / "audio.json").read_bytes() == whole
    (stored,) = list_stored_tasks(out)
    assert read_embeddings(stored, "test").embeddings.shape == (6, 1, 6)
    as_older(outcome.directory)
    other_noise(clip(directory))
    (after,) = run(name, directory, out).outcomes
    assert after.state == "sealed"
    assert len(encoded) == 3  # which clip of the split it is was not recorded
    assert set(after.changed) == {f"test/test{i:03d}.wav" for i in range(6)}


def test_a_damaged_store_is_not_the_source_of_its_own_repair(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    (outcome,) = run(name, directory, out).outcomes
    array = outcome.directory / "train.embeddings.npy"
    data = bytearray(array.read_bytes())
    data[-3] ^= 4
    array.write_bytes(data)
    with pytest.raises(StoreError, match=r"train\.embeddings\.npy is damaged: .*verify --fix"):
        run(name, directory, out, verify=True)
    other_noise(clip(directory))
    with pytest.raises(StoreError, match=r"train\.embeddings\.npy is damaged"):
        run(name, directory, out)


def test_the_command_says_what_changed(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    from mambabench.cli.extract import command

    directory, name = make_task(), provider()
    arguments = ["--encoder", name, "--tasks", str(directory), "--out", str(tmp_path / "out")]
    arguments += ["--jobs", "1"]
    CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)
    other_noise(clip(directory))
    done = CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)
    assert "18 clips, stored; 1 changed clip: shard 8 encoded anew" in done.stdout
    assert "test/test003.wav: its audio is not what was encoded before" in done.stderr


def test_a_planned_clip_comes_to_a_worker_as_it_was() -> None:
    whole = PlannedClip(3, "a.wav", "/a.wav", 16000, 32044)
    for one in (whole, replace(whole, part=AudioPart(0.5, 1.0), seen=(1, 2, 3))):
        assert unit.clip_of(json.loads(json.dumps(asdict(one)))) == one


def test_a_shard_follows_from_the_sizes_of_its_files(make_task: Make) -> None:
    """Equal names and lengths, another sample format: another shard, another plan."""
    from mambabench.benchmarks.layout.read import load_task

    directory = make_task()
    spec = EncoderSpec("e", "e", "0" * 64, 16000, 6, 6, None, "fp32", "cpu")

    def keys() -> tuple[list[str], str]:
        plan = plan_task(load_task(directory), spec, BUDGETS["cpu"])
        return [shard.key for shard in plan.shards], plan.key

    before, plan_before = keys()
    samples, rate = soundfile.read(clip(directory))
    soundfile.write(clip(directory), samples, rate, subtype="PCM_24")
    after, plan_after = keys()
    assert [a == b for a, b in zip(before, after, strict=True)] == [True] * 7 + [False, True]
    assert plan_before != plan_after
