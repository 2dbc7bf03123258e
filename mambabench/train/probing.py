"""Probe the weights while they train: a frozen encoder on a task, every N epochs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Task, clip_path, folds
from mambabench.errors import DataError, ProtocolError, nearest_names
from mambabench.models.encoders.fbank_runtime import FbankOptions, FbankRuntime, Normalisation
from mambabench.models.encoders.frontends import NORMALISATIONS, EpicLogMel, KaldiFbank
from mambabench.models.encoders.ssam_runtime import SsamRuntime
from mambabench.train.encoder_settings import AumSettings, EncoderSettings
from mambabench.train.loaders import read_wave
from mambabench.train.loop import Progress, Work
from mambabench.train.ranks import Ranks

__all__ = [
    "Probing",
    "embed_task",
    "load_clips",
    "parse_probe",
    "probe_accuracy",
    "probe_answers",
    "runtime_of",
]

Array = npt.NDArray[Any]


def runtime_of(system: str, settings: EncoderSettings, model: nn.Module) -> nn.Module:
    """Return what `load_encoder` would wrap around the encoder of a training model."""

    if system in ("ssam", "ssast"):
        encoder: Any = getattr(model, "encoder", model)
        return SsamRuntime(encoder)
    epic = isinstance(settings, AumSettings) and settings.dataset == "epic_sounds"
    statistics = None if epic else Normalisation(*NORMALISATIONS[settings.normalisation])
    backbone: Any = getattr(model, "v", model)
    pooling = "class" if system == "aum" else "mean"
    if system == "aum" and backbone.configuration.class_token in ("none", "double"):
        pooling = "mean"
    return FbankRuntime(
        backbone,
        EpicLogMel() if epic else KaldiFbank(),
        statistics,
        FbankOptions(
            pooling=pooling,
            hop_ms=backbone.configuration.strides[0] * (5.0 if epic else 10.0),
            window="clip",
            stride=backbone.configuration.strides[0],
            crop_positions=True,
        ),
        sigmoid=settings.loss != "CE",
    )


def parse_probe(text: str, folders: Sequence[Path]) -> tuple[tuple[Path, ...], int]:
    """Return (task directories, epochs between probes) of TASK[,TASK]@EVERY."""
    found = re.fullmatch(r"(.+?)(?:@(\d+))?", text)
    assert found is not None
    every = int(found[2] or 1)
    if every < 1:
        raise ProtocolError(f"--probe {text}: every 0 epochs is never; write @1 or more")
    known = {
        p.name: p
        for folder in folders
        for p in ([folder] if (folder / "task_metadata.json").is_file() else folder.iterdir())
        if (p / "task_metadata.json").is_file()
    }
    tasks = []
    for name in found[1].split(","):
        path = Path(name)
        if (path / "task_metadata.json").is_file():
            tasks.append(path)
        elif name in known:
            tasks.append(known[name])
        else:
            raise ProtocolError(
                f"--probe {text}: no task {name!r}{nearest_names(name, known)}; give a task "
                "directory, or the folder of tasks with --tasks"
            )
    return tuple(tasks), every


@dataclass(frozen=True)
class Probing:
    """Which tasks are probed, how and how often."""

    tasks: tuple[Path, ...]
    every: int = 1
    method: str = "linear"  # or knn
    max_clips: int | None = None  # per split, the first ones

    def after_epoch(
        self, system: str, settings: EncoderSettings, log: Any
    ) -> Callable[[Work, Progress, Ranks], None]:
        """Return what the loop calls after each epoch."""
        clips = [load_clips(directory, self.max_clips) for directory in self.tasks]

        def probe(work: Work, progress: Progress, ranks: Ranks) -> None:
            if progress.epoch % self.every and progress.epoch != work.n_epochs:
                return
            if ranks.first:
                work.model.eval()
                found = {
                    name: probe_accuracy(
                        embed_task(runtime_of(system, settings, work.model), sets, work.device),
                        self.method,
                    )
                    for name, sets in clips
                }
                log.probe(progress, found)
            ranks.wait()

        return probe


RowsAndTargets = tuple[tuple[Array, ...], Array]  # waves, labels
Sets = dict[str, RowsAndTargets]


def load_clips(directory: Path, limit: int | None) -> tuple[str, tuple[Task, Sets]]:
    """Return (name, (task, split -> (waves, class ids))) of a task with one label per clip."""
    task = load_task(directory)
    if task.embedding_type != "scene" or task.prediction_type != "multiclass":
        raise DataError(f"--probe {directory}: needs a task with one label per clip")
    rate = 16000 if 16000 in task.sample_rates_hz else max(task.sample_rates_hz, default=16000)
    ids = {label: i for i, label in enumerate(task.labels)}
    sets: Sets = {}
    for split in task.splits:
        chosen = task.clips[split][:limit]
        waves = tuple(
            read_wave(clip_path(task, rate, split, c.name), 16000)[0][0].numpy() for c in chosen
        )
        sets[split] = (waves, np.array([ids[c.labels[0]] for c in chosen]))
    return task.name, (task, sets)


def embed_task(
    runtime: nn.Module, loaded: tuple[Task, Sets], device: str
) -> tuple[Task, dict[str, tuple[Array, Array]]]:
    """Return the scene embeddings of every split, float32 [n, dim], with their class ids."""
    task, sets = loaded
    runtime = runtime.to(device).eval()
    out: dict[str, tuple[Array, Array]] = {}
    with torch.no_grad():
        for split, (waves, labels) in sets.items():
            rows: list[Array] = [np.zeros(0)] * len(waves)
            lengths = sorted(range(len(waves)), key=lambda i: len(waves[i]))
            while lengths:
                first = len(waves[lengths[0]])
                same = [i for i in lengths[:16] if len(waves[i]) == first]
                lengths = lengths[len(same) :]
                audio = torch.from_numpy(np.stack([waves[i] for i in same])).to(device)
                scene: Any = runtime.scene
                found = scene(audio)[:, 0].float().cpu().numpy()
                for i, row in zip(same, found, strict=True):
                    rows[i] = row
            out[split] = (np.stack(rows), labels)
    return task, out


def probe_answers(
    embedded: tuple[Task, dict[str, tuple[Array, Array]]], method: str = "linear"
) -> tuple[Array, Array]:
    """Return (guessed, true) class ids of the test split, or of all folds one after the other.

    linear: ridge regression whose strength the validation rows choose, then trained on both; knn:
    ten nearest by cosine. Test labels are read after the choice.
    """
    task, splits = embedded
    guesses, truths = [], []
    for fold in folds(task):
        x = np.concatenate([splits[s][0] for s in (*fold.train, fold.valid)])
        y = np.concatenate([splits[s][1] for s in (*fold.train, fold.valid)])
        test_x, test_y = splits[fold.test]
        n_valid = len(splits[fold.valid][1])
        if method == "knn":
            guesses.append(_knn(x, y, test_x, len(task.labels)))
        else:
            guesses.append(_linear(x, y, n_valid, test_x, len(task.labels)))
        truths.append(test_y)
    return np.concatenate(guesses), np.concatenate(truths)


def probe_accuracy(
    embedded: tuple[Task, dict[str, tuple[Array, Array]]], method: str = "linear"
) -> float:
    """Return the share of test clips that are named right."""
    guesses, truths = probe_answers(embedded, method)
    return float(np.mean(guesses == truths))


def _knn(x: Array, y: Array, test: Array, n_classes: int, k: int = 10) -> Array:
    """Vote of the k nearest by cosine, weighted by similarity."""

    def unit(rows: Array) -> Array:
        centred = rows - x.mean(axis=0)
        result: Array = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        return result

    similar = unit(test) @ unit(x).T
    near = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    votes = np.zeros((len(test), n_classes))
    for i, row in enumerate(near):
        np.add.at(votes[i], y[row], np.exp(similar[i, row] / 0.07))
    result: Array = votes.argmax(axis=1)
    return result


def _linear(x: Array, y: Array, n_valid: int, test: Array, n_classes: int) -> Array:
    """Ridge regression onto one-hot classes; its strength is chosen on the validation rows."""
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6

    def scaled(rows: Array) -> Array:
        result: Array = ((rows - mean) / std).astype(np.float64)
        return result

    z, targets = scaled(x), np.eye(n_classes)[y]
    n = len(z) - n_valid
    strengths = [10.0**k for k in range(-1, 6)]
    valid = [
        np.mean(_ridge(z[:n], targets[:n], z[n:], s).argmax(axis=1) == y[n:]) for s in strengths
    ]
    best = strengths[int(np.argmax(valid))]
    result: Array = _ridge(z, targets, scaled(test), best).argmax(axis=1)
    return result


def _ridge(x: Array, targets: Array, test: Array, strength: float) -> Array:
    """Return predictions of kernel ridge regression with a bias."""
    centre = targets.mean(axis=0)
    gram = x @ x.T
    gram[np.diag_indices_from(gram)] += strength
    result: Array = test @ (x.T @ np.linalg.solve(gram, targets - centre)) + centre
    return result
