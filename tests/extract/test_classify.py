"""`classify` on real clips, with an AuM checkpoint whose head is trained here.

The checkpoint is a working one made by hand: patches are read by a cosine basis, the first layer
averages their rectified responses over time per band and hands them to the class token, the other
layers pass them on. Only its head is trained, on the embeddings of four folds of ESC-10.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest
import soundfile
import torch

from mambabench.cli.classify import command
from mambabench.errors import DataError, EncoderError
from mambabench.extract.classify import classify, read_labels
from mambabench.models.registry import find_entry, load_encoder
from mambabench.models.weights.recognise import expected_shapes

NAME = "aum_tiny_unpublished_audioset"
N_BANDS, WIDTH, INNER = 8, 192, 384
N_KERNELS = 12  # each with both signs: 24 features a band, 192 in all less one


def cosine_kernels() -> torch.Tensor:
    """Return the lowest two-dimensional cosines of a 16 x 16 patch, unit norm."""
    n = torch.arange(16) + 0.5
    basis = torch.stack([torch.cos(math.pi * k * n / 16) for k in range(4)])
    orders = sorted(((f, t) for f in range(4) for t in range(4)), key=lambda o: (sum(o), o))
    kernels = torch.stack([torch.outer(basis[f], basis[t]) for f, t in orders[:N_KERNELS]])
    return kernels / kernels.flatten(1).norm(dim=1)[:, None, None]


def handmade_state(n_classes: int) -> dict[str, torch.Tensor]:
    """Return the checkpoint with an empty head."""
    state = {k: torch.zeros(shape) for k, shape in expected_shapes(find_entry(NAME)).items()}
    for key, value in state.items():
        if "norm" in key:
            value.fill_(1.0)
    state["patch_embed.proj.weight"][N_BANDS : N_BANDS + N_KERNELS, 0] = cosine_kernels()
    positions = state["pos_embed.pos_embed"][0]
    level = 40.0  # of the band's mark; it also keeps the norm of a token from following its energy
    for band in range(N_BANDS):
        positions[1 + 64 * band : 1 + 64 * (band + 1), band] = level
    state["cls_token"][:] = 1.0
    mixer = {k.removeprefix("layers.0.mixer."): v for k, v in state.items() if "layers.0.m" in k}
    rms = level / math.sqrt(WIDTH)
    for e in range(1, WIDTH):
        band, feature = e % N_BANDS, e // N_BANDS
        sign = 1.0 if feature % 2 else -1.0
        scale = rms if feature // 2 else rms / 4  # the mean level is by far the largest
        mixer["in_proj.weight"][e, N_BANDS + feature // 2] = sign * scale
        mixer["in_proj.weight"][e, band] = 8.0 * rms / level  # silent in all other bands
        mixer["conv1d.bias"][e] = -8.0
    mixer["in_proj.weight"][INNER:] = 3.0 / WIDTH  # the gate: open at the class token
    mixer["conv1d.weight"][:, 0, -1] = 1.0
    mixer["conv1d.bias"][0] = 2.0  # channel 0 is constant, and B and C read nothing else
    rank = math.ceil(WIDTH / 16)
    mixer["x_proj.weight"][[rank, rank + 16], 0] = 1.0
    mixer["dt_proj.bias"][:] = math.log(math.expm1(1 / 64))
    for key in ("A_log", "A_b_log"):
        mixer[key][:] = -12.0  # nothing is forgotten: the scan is a sum
    mixer["out_proj.weight"][:, :WIDTH] = torch.eye(WIDTH) * 0.02
    state["head.weight"] = torch.zeros(n_classes, WIDTH)
    state["head.bias"] = torch.zeros(n_classes)
    return state


def esc10(test_data_dir: Path, folder: Path) -> Path:
    unpack = [sys.executable, test_data_dir / "unpack.py", folder, "esc50-v2.0.0-esc10"]
    subprocess.run(unpack, check=True, capture_output=True)
    return folder / "esc50-v2.0.0-esc10"


def clips_of(task: Path, fold: int) -> tuple[list[Path], list[str]]:
    labels = json.loads((task / f"fold0{fold}.json").read_text())
    return [task / "16000" / f"fold0{fold}" / n for n in labels], [v[0] for v in labels.values()]


def class_vectors(encoder: object, paths: list[Path]) -> np.ndarray:
    """Return what the head sees of each clip: the class vector at the published length."""
    runtime = encoder.model  # type: ignore[attr-defined]
    runtime.backbone.layers = runtime.backbone.layers[:1]  # the others add nothing
    rows = []
    for start in range(0, len(paths), 40):
        part = [soundfile.read(p, dtype="float32")[0] for p in paths[start : start + 40]]
        with torch.no_grad():
            stream = runtime.scene(torch.from_numpy(np.stack(part)), (1,))[:, 0]
            rows.append(runtime.backbone.finish(stream).numpy())
    return np.concatenate(rows)


@pytest.fixture(scope="module")
def trained(
    test_data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """The task, a checkpoint with a head trained on folds 1 to 4, and the file of names."""
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("esc10")
    task = esc10(test_data_dir, folder)
    torch.save(handmade_state(10), folder / "empty.pth")
    options = "num_classes=10,window=published"
    encoder = load_encoder(f"{NAME}:{options}@{folder / 'empty.pth'}", device="cpu")
    paths, targets = [], []
    for fold in range(1, 5):
        more, labels = clips_of(task, fold)
        paths += more
        targets += labels
    names = read_labels(task / "labelvocabulary.csv")
    rows = class_vectors(encoder, paths).astype(np.float64)
    mean, std = rows.mean(0), rows.std(0) + 1e-6
    index = [names.index(t) for t in targets]
    head = LogisticRegression(C=0.05, max_iter=2000).fit((rows - mean) / std, index)
    state = handmade_state(10)
    weight = head.coef_ / std
    state["head.weight"] = torch.from_numpy(weight).float()
    state["head.bias"] = torch.from_numpy(head.intercept_ - weight @ mean).float()
    torch.save(state, folder / "esc10.pth")
    return task, folder / "esc10.pth", task / "labelvocabulary.csv"


@pytest.mark.slow
def test_head_names_held_out_clips(trained: tuple[Path, Path, Path]) -> None:
    task, checkpoint, labels = trained
    encoder = load_encoder(f"{NAME}:num_classes=10@{checkpoint}", device="cpu")
    paths, targets = clips_of(task, 0)
    names = read_labels(labels)
    hits = [classify(p, encoder, top=1, labels=names)[0].label for p in paths]
    accuracy = float(np.mean([h == t for h, t in zip(hits, targets, strict=True)]))
    print(f"top-1 on the held-out fold: {accuracy:.3f} of {len(paths)} clips")
    assert accuracy >= 0.70


@pytest.mark.slow
def test_command_prints_names(trained: tuple[Path, Path, Path]) -> None:
    task, checkpoint, labels = trained
    (clip, *_), _ = clips_of(task, 0)
    common = [str(clip), "--encoder", f"{NAME}:num_classes=10@{checkpoint}"]
    named = click.testing.CliRunner().invoke(
        command, [*common, "--top", "3", "--labels", str(labels)], standalone_mode=False
    )
    lines = named.output.strip().splitlines()
    assert len(lines) == 3
    assert all(line.split(None, 1)[1] in read_labels(labels) for line in lines)
    values = [float(line.split()[0]) for line in lines]
    assert values == sorted(values, reverse=True)
    bare = click.testing.CliRunner().invoke(command, [*common, "--json"], standalone_mode=False)
    value = json.loads(bare.output)
    assert value["schema"] == "mambabench.classify/1"
    assert [sorted(c) for c in value["classes"]] == [["index", "label", "probability"]] * 5
    assert value["classes"][0]["label"] is None


def test_without_names_it_says_where_they_are(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 8000), 8000)
    result = click.testing.CliRunner().invoke(
        command, [str(tmp_path / "a.wav"), "--encoder", "aum_tiny_random"], standalone_mode=False
    )
    assert "class_labels_indices.csv" in result.output


def test_faults_are_named(tmp_path: Path) -> None:
    clip = tmp_path / "a.wav"
    soundfile.write(clip, np.zeros(8000), 16000)
    with pytest.raises(EncoderError, match="logmel_stats has no classification head"):
        classify(clip, load_encoder("logmel_stats", device="cpu"))
    encoder = load_encoder("aum_tiny_random", device="cpu")
    with pytest.raises(EncoderError, match="2 labels for a head of 527 classes"):
        classify(clip, encoder, labels=("a", "b"))
    with pytest.raises(DataError, match=r"missing\.wav is missing"):
        classify(tmp_path / "missing.wav", encoder)


def test_label_files(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text('index,mid,display_name\n1,/m/b,"Dog, bark"\n0,/m/a,Cat\n')
    assert read_labels(file) == ("Cat", "Dog, bark")
    file.write_text("idx,label\n0,7\n1,NA\n")
    assert read_labels(file) == ("7", "NA")
    file.write_text("dog\ncat, small\n")
    assert read_labels(file) == ("dog", "cat, small")
    file.write_text("idx,label\n0,a\n2,b\n")
    with pytest.raises(DataError, match="the indices are not 0 to 1, each once"):
        read_labels(file)
    file.write_text("idx,label\nx,a\n")
    with pytest.raises(DataError, match="a line has no whole number and name"):
        read_labels(file)
    file.write_text("")
    with pytest.raises(DataError, match="holds no labels"):
        read_labels(file)
