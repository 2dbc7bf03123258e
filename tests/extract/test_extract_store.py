"""The whole way from audio files to a sealed store, and what the store then says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mambabench.errors import DataError, EncoderError, MambabenchError, StoreError
from mambabench.extract.plan import Budget
from mambabench.extract.verb import BUDGETS, ExtractProgress, extract
from mambabench.files import read_json
from mambabench.models.registry import load_encoder
from mambabench.store.embeddings import encoder_key, read_manifest
from mambabench.store.open import list_stored_tasks, read_embeddings

Make = Callable[..., Path]
Provide = Callable[..., str]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tiny tasks into several batches and shards."""
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=1.5, shard_s=2.0))


def test_rows_are_what_the_encoder_gives(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    import torch

    directory, name = make_task(lengths=(8000, 9000, 8000, 16000, 9000)), provider()
    done = extract(encoder=[name], tasks=[directory], out=tmp_path / "out", jobs=1)
    assert [outcome.state for outcome in done.outcomes] == ["sealed"]
    assert done.outcomes[0].n_clips == 15
    assert done.audio_s == pytest.approx(3 * 50000 / 16000)
    stated = read_json(done.outcomes[0].directory / "provenance.json")["run"]
    assert stated["task_audio_s"] == pytest.approx(3 * 50000 / 16000, abs=1e-3)
    (stored,) = list_stored_tasks(tmp_path / "out")
    encoder = load_encoder(name)
    assert (stored.encoder, stored.encoder_identity) == (encoder.label, encoder.identity)
    assert stored.layers is None
    for split in ("train", "valid", "test"):
        found = read_embeddings(stored, split)
        assert found.clip_names == tuple(f"{split}{i:03d}.wav" for i in range(5))
        assert found.timestamps_ms is None
        assert isinstance(found.embeddings, np.memmap)
        np.testing.assert_array_equal(found.offsets, np.arange(6))
        for i, clip in enumerate(found.clip_names):
            audio, _ = soundfile.read(directory / "16000" / split / clip, dtype="float32")
            alone = encoder.scene(torch.from_numpy(audio)[None], None).numpy()[0]
            np.testing.assert_allclose(found.embeddings[i], alone, rtol=1e-5, atol=1e-6)


def test_timestamp_rows_and_times(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    directory = make_task(kind="event", lengths=(8000, 4000, 12000))
    extract(encoder=[provider()], tasks=[directory], out=tmp_path / "out", jobs=1)
    (stored,) = list_stored_tasks(tmp_path / "out")
    found = read_embeddings(stored, "valid")
    n_frames = [(n - 400) // 320 + 1 for n in (8000, 4000, 12000)]
    np.testing.assert_array_equal(found.offsets, np.cumsum([0, *n_frames]))
    assert found.embeddings.shape == (sum(n_frames), 1, 6)
    assert found.timestamps_ms is not None
    for start, stop in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        np.testing.assert_allclose(
            found.timestamps_ms[start:stop], 12.5 + 20 * np.arange(stop - start)
        )
    audio, _ = soundfile.read(directory / "16000" / "valid" / "valid001.wav", dtype="float32")
    import torch

    frames, _ = load_encoder(provider()).timestamps(torch.from_numpy(audio)[None], None)
    np.testing.assert_allclose(
        found.embeddings[n_frames[0] : n_frames[0] + n_frames[1]], frames[0], rtol=1e-5, atol=1e-6
    )


def test_a_sealed_store_has_few_files_and_no_audio_is_needed(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    import shutil

    directory = make_task(kind="event", lengths=(8000,) * 30)
    extract(encoder=[provider()], tasks=[directory], out=tmp_path / "out", jobs=1)
    shutil.rmtree(directory)
    (stored,) = list_stored_tasks(tmp_path / "out")
    files = [path for path in stored.directory.rglob("*") if path.is_file()]
    assert len(files) <= 12 * 3
    assert len([path for path in files if path.name.startswith("train.")]) == 4
    assert stored.task.name == "noise-v1-test"
    assert stored.task.clips["train"][3].events[0].end_ms == 203.0
    assert len(read_embeddings(stored, "test").clip_names) == 30


def test_layers_are_kept_apart(make_task: Make, tmp_path: Path) -> None:
    directory = make_task(lengths=(8000, 8000))
    out = tmp_path / "out"
    extract(["ssam_tiny_random"], [directory], out=out, layers="0,12", jobs=1)
    (stored,) = list_stored_tasks(out)
    assert stored.layers == (0, 12)
    encoder = load_encoder("ssam_tiny_random")
    rows = read_embeddings(stored, "train").embeddings
    assert rows.shape == (2, 2, encoder.scene_embedding_size)
    with pytest.raises(StoreError, match="made with layers 0,12, now last is asked for"):
        extract(["ssam_tiny_random"], [directory], out=out, jobs=1)
    everything = tmp_path / "all"
    extract(["ssam_tiny_random"], [directory], out=everything, layers="all", jobs=1)
    (whole,) = list_stored_tasks(everything)
    assert whole.layers == tuple(range(encoder.n_hidden_states))
    np.testing.assert_array_equal(read_embeddings(whole, "train").embeddings[:, [0, 12]], rows)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_another_rate_is_resampled_and_recorded(
    make_task: Make, provider: Provide, tmp_path: Path, suffix: str
) -> None:
    directory = make_task(lengths=(22050, 44100), rate=44100, suffix=suffix)
    extract(encoder=[provider()], tasks=[directory], out=tmp_path / "out", jobs=1)
    (stored,) = list_stored_tasks(tmp_path / "out")
    manifest = read_manifest(stored.directory)
    assert manifest is not None
    assert (manifest["sample_rate_hz"], manifest["resampled_from_hz"]) == (16000, 44100)
    assert np.isfinite(read_embeddings(stored, "train").embeddings).all()


def test_the_encoders_own_rate_is_preferred(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory = make_task(lengths=(44100,), rate=44100)
    for split in ("train", "valid", "test"):
        folder = directory / "16000" / split
        folder.mkdir(parents=True)
        soundfile.write(folder / f"{split}000.wav", np.full(16000, 0.25), 16000)
    extract(encoder=[provider()], tasks=[directory], out=tmp_path / "out", jobs=1)
    (stored,) = list_stored_tasks(tmp_path / "out")
    manifest = read_manifest(stored.directory)
    assert manifest is not None
    assert manifest["resampled_from_hz"] is None


def test_the_same_call_again_does_nothing(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory, name = make_task(), provider()
    extract(encoder=[name], tasks=[directory], out=tmp_path / "out", jobs=1)
    (manifest,) = (tmp_path / "out").rglob("manifest.json")
    before = manifest.stat().st_mtime_ns
    seen: list[ExtractProgress] = []
    done = extract([name], [directory], out=tmp_path / "out", jobs=1, progress=seen.append)
    assert [outcome.state for outcome in done.outcomes] == ["already"]
    assert not seen
    assert manifest.stat().st_mtime_ns == before


def test_progress_ends_at_the_total(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    seen: list[ExtractProgress] = []
    extract([provider()], [make_task()], out=tmp_path / "out", jobs=1, progress=seen.append)
    assert (seen[-1].clips, seen[-1].n_clips) == (18, 18)
    assert seen[-1].audio_s == pytest.approx(seen[-1].total_audio_s) == pytest.approx(9.0)
    assert [p.clips for p in seen] == sorted(p.clips for p in seen)


def test_a_store_of_other_weights_says_which(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory = make_task()
    extract(encoder=[provider(width=6)], tasks=[directory], out=tmp_path / "out", jobs=1)
    with pytest.raises(StoreError, match=r"made by other weights: encoder 'enc' with identity"):
        extract(encoder=[provider(width=7)], tasks=[directory], out=tmp_path / "out", jobs=1)


def test_checkpoints_have_folders_of_their_own(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory, name = make_task(lengths=(8000,)), provider()
    for seed in "12":
        (tmp_path / seed).write_text(seed)
    both = [f"{name}@{tmp_path / seed}" for seed in "12"]
    extract(encoder=both, tasks=[directory], out=tmp_path / "out", jobs=1)
    stored = list_stored_tasks(tmp_path / "out")
    assert len({one.encoder for one in stored}) == 2
    assert all(one.encoder == f"{Path(name).stem}@{one.encoder_identity[:8]}" for one in stored)


def test_other_audio_under_a_sealed_store_is_noticed(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory, name = make_task(), provider()
    extract(encoder=[name], tasks=[directory], out=tmp_path / "out", jobs=1)
    soundfile.write(directory / "16000" / "test" / "test001.wav", np.zeros(7000), 16000)
    with pytest.raises(StoreError, match=r"made from other audio or labels than .*noise-v1-test"):
        extract(encoder=[name], tasks=[directory], out=tmp_path / "out", jobs=1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "bf61"}, "--precision 'bf61' is not one of .*did you mean 'bf16'"),
        ({"layout": "stores"}, "--layout 'stores' is not one of .*did you mean 'store'"),
        ({"on_error": "skp"}, "--on-error 'skp' is not one of .*did you mean 'skip'"),
        ({"device": "gpu"}, "--device 'gpu' is not one of auto, cpu, cuda"),
        ({"shard": "0/2"}, "--shard '0/2' is not i/n with 1 <= i <= n"),
        ({"shard": "3/2"}, "--shard '3/2'"),
        ({"layers": "lats"}, "--layers 'lats' is not last, all or indices .*did you mean 'last'"),
        ({"layers": "0,99"}, "has hidden states 0 to 0"),
        ({"gpus": 64}, "--gpus 64 with --device auto: torch sees"),
        ({"task": ["noise-v1-tset"]}, "no task named 'noise-v1-tset'.*did you mean"),
        ({"tasks": ["nowhere"]}, "tasks folder nowhere does not exist"),
        ({"encoder": ["logmel_stat"]}, "no encoder named 'logmel_stat'; did you mean"),
    ],
)
def test_wrong_options_are_answered(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    options: dict[str, object],
    text: str,
) -> None:
    arguments = {"encoder": [provider()], "tasks": [make_task()], "out": tmp_path / "out"}
    with pytest.raises(MambabenchError, match=text):
        extract(**{**arguments, **options})  # type: ignore[arg-type]


def test_the_same_task_under_two_roots_is_refused(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        make_task(root=root)
    with pytest.raises(DataError, match="two tasks are named 'noise-v1-test'"):
        extract(encoder=[provider()], tasks=roots, out=tmp_path / "out")


def test_no_audio_at_all(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    import shutil

    directory = make_task()
    shutil.rmtree(directory / "16000")
    with pytest.raises(DataError, match="holds no audio: expected a folder named by its sample"):
        extract(encoder=[provider()], tasks=[directory], out=tmp_path / "out")


def test_a_damaged_store_is_named(make_task: Make, provider: Provide, tmp_path: Path) -> None:
    extract(encoder=[provider()], tasks=[make_task()], out=tmp_path / "out", jobs=1)
    (stored,) = list_stored_tasks(tmp_path / "out")
    array = stored.directory / "train.embeddings.npy"
    whole = array.read_bytes()
    array.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match=r"train\.embeddings\.npy has \d+ bytes, its manifest"):
        read_embeddings(stored, "train")
    array.unlink()
    with pytest.raises(StoreError, match=r"train\.embeddings\.npy cannot be opened"):
        read_embeddings(stored, "train")
    with pytest.raises(StoreError, match="no split named 'tran'; did you mean 'train'"):
        read_embeddings(stored, "tran")
    manifest = stored.directory / "manifest.json"
    manifest.write_text(manifest.read_text().replace("store/2", "store/99"))
    with pytest.raises(StoreError, match=r"has schema 'mambabench\.store/99', this version reads"):
        list_stored_tasks(tmp_path / "out")
    manifest.write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        list_stored_tasks(tmp_path / "out")


def test_an_unsealed_store_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "embeddings" / "enc" / "task" / "work").mkdir(parents=True)
    assert list_stored_tasks(tmp_path) == ()
    with pytest.raises(StoreError, match="no layout named 'stor'"):
        list_stored_tasks(tmp_path, layout="stor")


def test_encoder_keys_are_file_names_and_differ() -> None:
    assert encoder_key("ssam_tiny") == "ssam_tiny"
    assert encoder_key("ssam_tiny@0123abcd") == "ssam_tiny@0123abcd"
    assert encoder_key("mambabench.hear_api.ssam_tiny") == "mambabench.hear_api.ssam_tiny"
    keys = [encoder_key(label) for label in ("/a/b/enc.py", "/a/c/enc.py", "../enc.py", "..", "ü/")]
    assert len(set(keys)) == 5
    assert all(key.isascii() and "/" not in key and not key.startswith(".") for key in keys)
    assert keys[0].startswith("enc.py-")


def test_an_encoder_that_changes_between_processes_is_refused(
    make_task: Make, tmp_path: Path
) -> None:
    from mambabench.benchmarks.layout.read import load_task
    from mambabench.extract import unit
    from mambabench.extract.plan import plan_task
    from mambabench.store.plan import EncoderSpec
    from mambabench.store.seal import claim

    spec = EncoderSpec("logmel_stats", "logmel_stats", "0" * 64, 16000, 1, 1, None, "fp32", "cpu")
    plan = plan_task(load_task(make_task()), spec, BUDGETS["cpu"])
    claim(tmp_path / "out", plan)
    work = unit.make_unit(tmp_path / "out", "scene", spec, plan.shards[0])
    with pytest.raises(EncoderError, match="is not the same in every process"):
        unit.encode_unit(work, lambda report: None)
