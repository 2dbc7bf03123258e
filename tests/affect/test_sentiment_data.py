"""MMSA's layout: order, contexts, broken clips, preparation, text stores, audio from video."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from mambabench.benchmarks.affect import read_affect
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.sentiment import generated
from mambabench.benchmarks.sentiment.metrics import sentiment_scores, weighted_f1
from mambabench.benchmarks.sentiment.mmsa import (
    broken_clips,
    context_of,
    of_split,
    read_audio,
    read_utterances,
)
from mambabench.benchmarks.sentiment.prepare import prepare
from mambabench.benchmarks.sentiment.video import extract_audio, read_video_audio, video_path
from mambabench.benchmarks.tasks import prepare as prepare_task
from mambabench.errors import DataError, EncoderError, ProtocolError, StoreError
from mambabench.store.texts import extract_text, extract_texts, load_text_encoder, read_text

HEADER = "video_id,clip_id,text,label,annotation,mode\n"


def _mosi(root: Path, *, audio: bool = True) -> None:
    rows = []
    for k, split in enumerate(("train", "valid", "test")):
        for clip in (2, 10, 1):
            label = (-1.5, 0.0, 2.2)[(clip + k) % 3]
            rows.append(f"v{k},{clip},SOME Text {clip},{label},x,{split}")
            if audio:
                path = root / "wav" / f"v{k}" / f"{clip}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng(clip).standard_normal((1600, 2)) * 0.1
                soundfile.write(path, noise, 16000)
    (root / "label.csv").write_text(HEADER + "\n".join(rows) + "\n")


def test_clips_are_sorted_by_number_and_texts_lowered(tmp_path: Path) -> None:
    _mosi(tmp_path)
    items = of_split(read_utterances(tmp_path, "mosi"), "train")
    assert [item.clip for item in items] == ["1", "2", "10"]
    assert items[0].text == "Some text 1"
    context = context_of(items, 2, n_texts=5, n_clips=1)
    assert context.text == "Some text 1</s>Some text 2"
    assert [c.clip for c in context.audio] == ["2"]
    assert context_of(items, 0).text == ""


def test_wrong_label_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="comes with MMSA's copy of the dataset"):
        read_utterances(tmp_path, "mosi")
    path = tmp_path / "label.csv"
    path.write_text("video_id,clip_id,text,label,modes\n")
    with pytest.raises(DataError, match=r"no column 'mode' in .*; did you mean 'modes'"):
        read_utterances(tmp_path, "mosi")
    path.write_text(HEADER + "v,1,a,0,x,training\n")
    with pytest.raises(
        DataError, match="line 2: mode is 'training', not one of train, valid, test"
    ):
        read_utterances(tmp_path, "mosi")
    path.write_text(HEADER + "v,1,a,zero,x,train\n")
    with pytest.raises(DataError, match="label is 'zero', not a number"):
        read_utterances(tmp_path, "mosi")
    path.write_text(HEADER + "v,1,a,0,x,train\nv,1,b,0,x,train\n")
    with pytest.raises(DataError, match="clip v/1 is listed twice"):
        read_utterances(tmp_path, "mosi")


def test_broken_clips_are_reported_not_fatal(tmp_path: Path) -> None:
    _mosi(tmp_path)
    (tmp_path / "wav" / "v0" / "1.wav").write_bytes(b"not audio")
    (tmp_path / "wav" / "v1" / "2.wav").unlink()
    soundfile.write(tmp_path / "wav" / "v2" / "10.wav", np.zeros(0), 16000)
    items = read_utterances(tmp_path, "mosi")
    found = {clip.name: clip.reason for clip in broken_clips(tmp_path, items)}
    assert set(found) == {"v0/1", "v1/2", "v2/10"}
    assert "is missing" in found["v1/2"]
    assert "holds no samples" in found["v2/10"]
    assert {clip.name for clip in prepare("mosi", tmp_path, tmp_path / "tasks")} == set(found)
    task = load_task(tmp_path / "tasks" / "mosi")
    assert {c.name for c in task.clips["train"]} == {"v0__2.wav", "v0__10.wav"}
    assert any("left out: v0/1" in note for note in task.notes)
    assert task.restricted


def test_prepared_tasks_carry_targets_and_videos(tmp_path: Path) -> None:
    _mosi(tmp_path)
    prepare("mosi", tmp_path, tmp_path / "tasks")
    scene = load_task(tmp_path / "tasks" / "mosi")
    frames = load_task(tmp_path / "tasks" / "mosi_frames")
    assert (scene.pooling, frames.pooling) == ("scene", "frames")
    assert scene.clips == frames.clips
    assert {c.cluster for c in scene.clips["test"]} == {"v2"}
    affect = read_affect(tmp_path / "tasks" / "mosi")
    assert affect is not None
    assert affect.targets["train/v0__1.wav"]["M"] == affect.sessions["v0/1"].score
    for split, clips in scene.clips.items():
        for clip in clips:
            label = affect.targets[f"{split}/{clip.name}"]["M"] >= 0
            assert clip.labels == (("negative", "non_negative")[label],)


def test_a_corpus_without_any_audio_is_refused(tmp_path: Path) -> None:
    _mosi(tmp_path, audio=False)
    with pytest.raises(DataError, match="none of 9 clips can be read"):
        prepare("mosi", tmp_path, tmp_path / "tasks")


def test_other_rates_are_resampled(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.sin(np.arange(8000) / 10), 8000)
    assert len(read_audio(path)) == 16000


def test_text_stores_hold_texts_and_contexts(tmp_path: Path) -> None:
    _mosi(tmp_path)
    prepare("mosi", tmp_path, tmp_path / "tasks")
    task = load_task(tmp_path / "tasks" / "mosi")
    encoder = load_text_encoder("words:16")
    folder = extract_text(encoder, task, tmp_path / "out")
    stored = read_text(folder, "train")
    assert stored.clip_names == ("v0__1.wav", "v0__2.wav", "v0__10.wav")
    want = encoder.encode(["Some text 2", "Some text 1"])
    np.testing.assert_array_equal(stored.texts[1].hidden, want[0].hidden)
    np.testing.assert_array_equal(stored.contexts[1].pooled, want[1].pooled)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert extract_text(encoder, task, tmp_path / "out") == folder
    assert extract_texts("words:16", [tmp_path / "tasks"], (), tmp_path / "out") == (folder,)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    with pytest.raises(StoreError, match="was made with another n_texts"):
        extract_text(encoder, task, tmp_path / "out", n_texts=1)
    joined = extract_text(encoder, task, tmp_path / "joined", context="joined")
    longest = max(len(t.hidden) for t in read_text(joined, "train").texts)
    assert longest > max(len(t.hidden) for t in stored.texts)


def test_text_encoders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="neither words"):
        load_text_encoder(str(tmp_path / "model"))
    with pytest.raises(EncoderError, match="after words: must be a number"):
        load_text_encoder("words:many")
    with pytest.raises(StoreError, match="run `mambabench extract --text-encoder DIR` first"):
        read_text(tmp_path, "train")


def test_generated_corpus_needs_both_sides(tmp_path: Path) -> None:
    generated.generate(tmp_path, seed=1)
    items = read_utterances(tmp_path, "mosi")
    assert not broken_clips(tmp_path, items[:20])
    kind = [any(w in i.text.lower() for w in ("lovely", "bright", "gentle", "warm")) for i in items]
    positive = [i.M > 0 for i in items]
    assert abs(np.corrcoef(kind, positive)[0, 1]) < 0.1


def _fake_av(samples: np.ndarray | None, *, streams: bool = True) -> ModuleType:
    """The part of PyAV that is used, over samples [n, 2] int16."""

    class Container:
        def __init__(self) -> None:
            self.streams = SimpleNamespace(audio=[0] if streams else [])

        def __enter__(self) -> Container:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def decode(self, _stream: object) -> list[Any]:
            return [samples[:5], samples[5:]]

    class Resampler:
        def __init__(self, format: str, rate: int) -> None:
            assert (format, rate) == ("s16", 16000)

        def resample(self, frame: Any) -> list[Any]:
            if frame is None:
                return []
            packed = frame.reshape(1, -1)
            layout = SimpleNamespace(channels=[0, 1])
            return [SimpleNamespace(to_ndarray=lambda: packed, layout=layout)]

    module = ModuleType("av")
    module.FFmpegError = type("FFmpegError", (ValueError,), {})  # type: ignore[attr-defined]
    module.open = lambda path: Container()  # type: ignore[attr-defined]
    module.AudioResampler = Resampler  # type: ignore[attr-defined]
    return module


def test_audio_is_extracted_from_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mosi(tmp_path, audio=False)
    samples = np.arange(40, dtype=np.int16).reshape(20, 2)
    monkeypatch.setitem(sys.modules, "av", _fake_av(samples))
    video = tmp_path / "Raw" / "v0" / "1.mp4"
    video.parent.mkdir(parents=True)
    video.touch()
    written, broken = extract_audio(tmp_path, "mosi")
    assert (written, len(broken)) == (1, 8)
    found, rate = soundfile.read(tmp_path / "wav" / "v0" / "1.wav", dtype="int16")
    np.testing.assert_array_equal(found, samples)
    assert rate == 16000
    assert extract_audio(tmp_path, "mosi")[0] == 0  # what exists is left alone
    edited = video.with_name("1-edited.mp4")
    edited.touch()
    assert video_path(tmp_path, "v0", "1") == edited
    monkeypatch.setitem(sys.modules, "av", _fake_av(samples, streams=False))
    with pytest.raises(DataError, match="has no audio stream"):
        read_video_audio(video)


def test_preparing_makes_audio_from_videos_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mosi(tmp_path, audio=False)
    for item in read_utterances(tmp_path, "mosi"):
        video = tmp_path / "Raw" / item.video / f"{item.clip}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        video.touch()
    samples = np.arange(40, dtype=np.int16).reshape(20, 2)
    monkeypatch.setitem(sys.modules, "av", _fake_av(samples))
    done = prepare_task("mosi", tmp_path, tmp_path / "tasks")
    assert dict(done.n_clips) == {"train": 3, "valid": 3, "test": 3}
    assert len(list((tmp_path / "wav").rglob("*.wav"))) == 9


def test_the_decoder_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match="needs the package av: pip install av"):
        extract_audio(tmp_path, "mosi")


def test_scores_agree_with_an_independent_implementation() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        true, pred = rng.integers(0, 4, 30), rng.integers(0, 4, 30)
        want = f1_score(true, pred, average="weighted", zero_division=0)
        assert weighted_f1(true, pred) == pytest.approx(want, abs=1e-9)


def test_scores_that_cannot_be(tmp_path: Path) -> None:
    values = np.array([0.5, -0.5], np.float32)
    with pytest.raises(ProtocolError, match="no scores for dataset 'mosy'; did you mean"):
        sentiment_scores(values, values, "mosy")
    with pytest.raises(DataError, match="1 predictions for 2 labels"):
        sentiment_scores(values[:1], values, "mosi")
    with pytest.raises(DataError, match="no items to score"):
        sentiment_scores(values[:0], values[:0], "mosi")
    with pytest.raises(DataError, match="every label is neutral"):
        sentiment_scores(values, values * 0, "mosi")
    with pytest.raises(DataError, match="item 1 is NaN"):
        sentiment_scores(np.array([0.5, np.nan], np.float32), values, "sims")
    with pytest.raises(ProtocolError, match="no three-class scores for sims"):
        sentiment_scores(np.zeros((2, 3)), np.zeros(2), "sims")
