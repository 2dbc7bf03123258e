"""Lists from corpora in their own layouts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mambabench.errors import DataError
from mambabench.train.corpora import prepare_lists
from mambabench.train.encoder_data import open_clips, selection_split
from mambabench.train.encoder_settings import AumSettings, SsambaSettings


def wave(path: Path, seconds: float = 0.3, value: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(16000 * seconds), value), 16000, subtype="PCM_16")


def table(path: Path, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_esc50(tmp_path: Path) -> None:
    rows: list[list[object]] = [["filename", "fold", "target", "category"]]
    for i in range(10):
        rows.append([f"{i}.wav", i % 5 + 1, i // 5, ("dog", "rain, heavy")[i // 5]])
        wave(tmp_path / "esc" / "audio" / f"{i}.wav")
    table(tmp_path / "esc" / "meta" / "esc50.csv", rows)
    counts = prepare_lists("esc50", tmp_path / "esc", tmp_path / "lists")
    assert counts["fold1/train.json"] == 8
    data = open_clips([str(tmp_path / "lists")], AumSettings())
    assert data.labels == ("dog", "rain, heavy")
    assert [f.name for f in data.folds] == [f"fold{k}" for k in range(1, 6)]
    tested = sorted(c.path.name for f in data.folds for c in f.test)
    assert tested == sorted(f"{i}.wav" for i in range(10))
    (tmp_path / "esc" / "audio" / "3.wav").unlink()
    with pytest.raises(DataError, match=r"3\.wav is listed and not there"):
        prepare_lists("esc50", tmp_path / "esc", tmp_path / "lists")


def test_speech_commands(tmp_path: Path) -> None:
    for word in ("yes", "no", "_background_noise_"):
        for i in range(3):
            wave(tmp_path / "sc" / word / f"{i}.wav")
    (tmp_path / "sc" / "validation_list.txt").write_text("yes/0.wav\nno/0.wav\n")
    (tmp_path / "sc" / "testing_list.txt").write_text("yes/1.wav\nno/1.wav\n")
    counts = prepare_lists("speechcommands", tmp_path / "sc", tmp_path / "lists")
    assert counts == {"train.json": 2, "valid.json": 2, "test.json": 2}
    data = open_clips([str(tmp_path / "lists")], AumSettings())
    assert data.labels == ("no", "yes")


def test_voxceleb_vggsound_and_audioset(tmp_path: Path) -> None:
    vox = tmp_path / "vox"
    lines = []
    for i, split in enumerate((1, 1, 2, 3)):
        name = f"id1000{i % 2}/video/{i}.wav"
        lines.append(f"{split} {name}")
        wave(vox / "wav" / name)
    (vox / "iden_split.txt").write_text("\n".join(lines) + "\n")
    assert prepare_lists("voxceleb1", vox, tmp_path / "v")["train.json"] == 2
    assert open_clips([str(tmp_path / "v")], AumSettings()).labels == ("id10000", "id10001")
    vgg = tmp_path / "vgg"
    table(vgg / "vggsound.csv", [["a", 30, "dog, barking", "train"], ["b", 5, "rain", "test"],
                                 ["gone", 1, "rain", "test"]])  # fmt: skip
    wave(vgg / "audio" / "a_000030.wav")
    wave(vgg / "audio" / "b_000005.wav")
    assert prepare_lists("vggsound", vgg, tmp_path / "g") == {"train.json": 1, "test.json": 1}
    audioset = tmp_path / "as"
    table(audioset / "class_labels_indices.csv",
          [["index", "mid", "display_name"], [0, "/m/x", "X"], [1, "/m/y", "Y, y"]])  # fmt: skip
    for split, video in (("balanced_train", "one"), ("eval", "two")):
        text = f'# comment\n# YTID, start\n{video}, 0.000, 10.000, "/m/x,/m/y"\n'
        (audioset / f"{split}_segments.csv").write_text(text)
        wave(audioset / "audio" / f"{video}.wav")
    counts = prepare_lists("audioset", audioset, tmp_path / "a")
    assert counts == {"balanced.json": 1, "test.json": 1}
    values = [f"train={tmp_path / 'a' / 'balanced.json'}", str(tmp_path / "a")]
    data = open_clips(values, AumSettings())
    assert data.folds[0].train[0].labels == (0, 1)


def test_iemocap(tmp_path: Path) -> None:
    """A session each, four emotions; s3prl draws a fifth of the other sessions, seed 0."""
    source = tmp_path / "corpus"
    for session in range(1, 6):
        base = source / "IEMOCAP" / f"Session{session}"
        lines = []
        for turn, emotion in enumerate(("neu", "hap", "exc", "ang", "sad", "fru", "neu")):
            name = f"Ses0{session}F_impro01_F{turn:03d}"
            wave(base / "sentences" / "wav" / name[:14] / f"{name}.wav")
            lines.append(f"[{turn}.0 - {turn + 1}.0]\t{name}\t{emotion}\t[2.5, 2.5, 2.5]")
        (base / "dialog" / "EmoEvaluation").mkdir(parents=True)
        text = "\n".join(lines) + "\n"
        (base / "dialog" / "EmoEvaluation" / f"Ses0{session}F_impro01.txt").write_text(text)
    counts = prepare_lists("iemocap", source, tmp_path / "lists")
    assert len(counts) == 15
    assert [counts[f"fold3/{n}.json"] for n in ("train", "valid", "test")] == [19, 5, 6]
    settings = SsambaSettings(objective="classify", pooling="s3prl")
    data = open_clips([str(tmp_path / "lists")], settings)
    assert data.labels == ("neu", "hap", "ang", "sad")
    for k, fold in enumerate(data.folds, start=1):
        assert fold.name == f"fold{k}"
        assert {c.path.name[:5] for c in fold.test} == {f"Ses0{k}"}
        assert [c.labels for c in fold.test] == [(0,), (1,), (1,), (2,), (3,), (0,)]
        learned = [c.path.name for c in (*fold.train, *fold.valid)]
        assert len(set(learned)) == len(learned) == 24
        assert not [name for name in learned if name.startswith(f"Ses0{k}")]
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0)).tolist()
    pool = sorted(c.path.name for c in (*data.folds[0].train, *data.folds[0].valid))
    assert [c.path.name for c in data.folds[0].valid] == [pool[i] for i in order[19:]]
    chosen, why = selection_split(data.folds[0], settings, len(data.folds))
    assert (chosen.valid, why) == (data.folds[0].valid, "validation clips")


def test_urbansound8k_scenes(tmp_path: Path) -> None:
    rows: list[list[object]] = [["slice_file_name", "fold", "classID", "class"]]
    for fold in (1, 2):
        for i in range(30):
            name = f"{fold}-{i}.wav"
            rows.append([name, fold, i % 2, ("siren", "drill")[i % 2]])
            wave(tmp_path / "us" / "audio" / f"fold{fold}" / name, 2.3, 0.1 * (1 + i % 2))
    table(tmp_path / "us" / "metadata" / "UrbanSound8K.csv", rows)
    counts = prepare_lists("urbansound8k", tmp_path / "us", tmp_path / "lists")
    assert counts == {f"fold{k}/{n}.json": 2 for k in (1, 2) for n in ("train", "test")}
    settings = SsambaSettings(objective="classify", seconds=60)
    data = open_clips([str(tmp_path / "lists")], settings)
    scene = data.folds[0].test[0]
    audio, rate = soundfile.read(scene.path)
    assert (len(audio), rate, len(scene.seconds)) == (960_000, 16000, 60)
    for second, label in enumerate(scene.seconds):
        heard = audio[second * 16000]  # every clip begins on a full second
        assert heard == pytest.approx(0.1 * (1 + label), abs=1e-3)
    assert scene.seconds[:3] == (scene.seconds[0],) * 3


def test_unknown_corpora_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no corpus 'esc5'; did you mean 'esc50'"):
        prepare_lists("esc5", tmp_path, tmp_path / "x")
    with pytest.raises(DataError, match="cannot read"):
        prepare_lists("esc50", tmp_path, tmp_path / "x")
