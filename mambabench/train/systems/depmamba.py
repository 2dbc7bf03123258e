"""DepMamba as a system that `train` and `evaluate` run: its data, its model, one seed, one test."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mambabench.benchmarks.affect import read_affect
from mambabench.benchmarks.depression import corpora
from mambabench.benchmarks.depression.scores import binary_scores
from mambabench.benchmarks.depression.sessions import (
    FeatureCorpus,
    Session,
    check_counts,
    crops,
    make_split,
    select,
)
from mambabench.errors import DataError, ProtocolError
from mambabench.models.affect.depmamba import DepMamba, DepMambaConfig, TMeanNet
from mambabench.store.embeddings import StoredTask
from mambabench.store.open import read_embeddings
from mambabench.train.batches import Epochs
from mambabench.train.depmamba import SplitLogits, fit, predict
from mambabench.train.sequences import FeatureSequence, batches
from mambabench.train.settings import DepMambaSettings
from mambabench.train.sources import Sources, stored_task
from mambabench.train.state import derived_seed, save_tensors, seeded, weights_sha256

__all__ = ["SequenceData", "build_model", "open_data", "predict_split", "train_seed"]

TRAINING = ("train", "valid")


@dataclass(frozen=True)
class SequenceData:
    """The sequences of the splits that were asked for, and what is known of every session."""

    sessions: tuple[Session, ...]  # of all splits: metadata only
    items: dict[str, tuple[FeatureSequence, ...]]
    video_size: int
    audio_size: int
    min_crop: int
    notes: tuple[str, ...]
    restricted: bool


def open_data(
    settings: DepMambaSettings, sources: Sources, splits: Sequence[str] = TRAINING
) -> SequenceData:
    """Read the sequences of `splits`; those of other splits are never opened.

    Raises DataError for missing features (listing all sessions) and ProtocolError for settings that
    the corpus cannot serve.
    """
    data = (
        _from_corpus(settings, sources, splits)
        if settings.features is None
        else _from_store(settings, sources, splits)
    )
    genders = {s.gender for s in data.sessions}
    if genders == {None} and (settings.train_gender, settings.test_gender) != ("both", "both"):
        raise ProtocolError(
            f"{settings.task} has no genders: train_gender and test_gender must be 'both'"
        )
    if settings.max_frames is not None:
        data = replace(
            data,
            items={
                split: tuple(replace(i, features=i.features[: settings.max_frames]) for i in items)
                for split, items in data.items.items()
            },
        )
    for split, items in data.items.items():
        if not items:
            raise DataError(f"{settings.task}: no sessions left in split {split!r}")
    return data


def _columns(corpus: FeatureCorpus, modalities: str) -> slice:
    first = corpus.video_size
    return {"both": slice(None), "video": slice(first), "audio": slice(first, None)}[modalities]


def _gender(settings: DepMambaSettings, split: str) -> str:
    return settings.train_gender if split == "train" else settings.test_gender


def _from_corpus(
    settings: DepMambaSettings, sources: Sources, splits: Sequence[str]
) -> SequenceData:
    corpus = corpora().get(settings.task)
    if not isinstance(corpus, FeatureCorpus):
        known = [name for name, c in corpora().items() if isinstance(c, FeatureCorpus)]
        raise ProtocolError(
            f"task {settings.task!r} is no feature corpus ({', '.join(known)}); to train on stored "
            "frames of an encoder, set features=ENCODER and modalities='audio'"
        )
    root = sources.corpus_root(f"corpus {corpus.name}")
    sessions = corpus.read_sessions(root)
    notes = list(check_counts(corpus, sessions))
    missing = set(corpus.missing(root, [s for s in sessions if s.split in splits]))
    if missing:
        known = sorted(missing & set(corpus.known_missing))
        text = f"{len(missing)} sessions without features: {', '.join(sorted(missing))}"
        if known:
            text += f" ({len(known)} of them are known to be missing from the distribution)"
        if not settings.allow_missing:
            raise DataError(f"{corpus.name}: {text}; go on without them with allow_missing=true")
        notes.append(text)
        sessions = tuple(s for s in sessions if s.name not in missing)
    if settings.make_split is not None:
        sessions = make_split(sessions, settings.make_split)
        notes.append(f"split made with seed {settings.make_split}, no speaker in two splits")
    columns = _columns(corpus, settings.modalities)

    def item(session: Session) -> FeatureSequence:
        features = corpus.features(root, session)
        return FeatureSequence(
            session.name, np.ascontiguousarray(features[:, columns]), session.label
        )

    items = {
        split: tuple(item(s) for s in select(sessions, split, _gender(settings, split)))
        for split in splits
    }
    return SequenceData(
        sessions=sessions,
        items=items,
        video_size=0 if settings.modalities == "audio" else corpus.video_size,
        audio_size=0 if settings.modalities == "video" else corpus.audio_size,
        min_crop=corpus.min_crop if settings.min_crop is None else settings.min_crop,
        notes=tuple(notes),
        restricted=corpus.restricted,
    )


def _from_store(
    settings: DepMambaSettings, sources: Sources, splits: Sequence[str]
) -> SequenceData:
    """Read stored frames of an encoder: a session's clips, one after the other."""
    if settings.modalities != "audio":
        raise ProtocolError("stored frames are one stream: set modalities='audio'")
    stored = stored_task(
        sources.store_root(f"task {settings.task}"), settings.task, settings.features
    )
    sessions, session_of = _stored_sessions(stored)
    wanted = {
        split: {s.name for s in select(sessions, split, _gender(settings, split))}
        for split in splits
    }
    items: dict[str, tuple[FeatureSequence, ...]] = {}
    width = 0
    label = {s.name: s.label for s in sessions}
    for split in splits:
        parts: dict[str, list[npt.NDArray[np.float32]]] = {}
        embeddings = read_embeddings(stored, split)
        for i, clip in enumerate(embeddings.clip_names):
            name = session_of[f"{split}/{clip}"]
            if name not in wanted[split]:
                continue
            rows = embeddings.embeddings[embeddings.offsets[i] : embeddings.offsets[i + 1]]
            parts.setdefault(name, []).append(np.asarray(rows[:, settings.layer], np.float32))
        items[split] = tuple(
            FeatureSequence(name, np.concatenate(rows), label[name]) for name, rows in parts.items()
        )
        width = int(embeddings.embeddings.shape[-1])
    notes = [f"missing in the store: {key}: {why}" for key, why in stored.missing.items()]
    return SequenceData(
        sessions,
        items,
        0,
        width,
        20 if settings.min_crop is None else settings.min_crop,
        tuple(notes),
        stored.task.restricted,
    )


def _stored_sessions(stored: StoredTask) -> tuple[tuple[Session, ...], dict[str, str]]:
    """Return the sessions of a stored task and the session of every "<split>/<clip>"."""
    affect = read_affect(stored.directory)
    if affect is not None:
        return tuple(affect.sessions.values()), affect.session_of
    task = stored.task
    if len(task.labels) != 2 or task.prediction_type != "multiclass":
        raise ProtocolError(
            f"task {task.name} has {len(task.labels)} labels; a sequence probe needs two"
        )
    sessions, session_of = [], {}
    for split, clips in task.clips.items():
        for clip in clips:
            name = f"{split}/{clip.name}"
            number = task.labels.index(clip.labels[0])
            sessions.append(Session(name, split, number, speaker=clip.cluster))
            session_of[name] = name
    return tuple(sessions), session_of


def build_model(settings: DepMambaSettings, video_size: int, audio_size: int) -> nn.Module:
    """Return the model with fresh weights from torch's generator."""
    if settings.model == "TMeanNet":
        return TMeanNet(
            video_size + audio_size,
            settings.hidden_sizes,
            settings.dropout,
            masked=settings.mode == "masked",
        )
    return DepMamba(
        DepMambaConfig(
            audio_input_size=audio_size,
            video_input_size=video_size,
            mm_input_size=settings.mm_input_size,
            mm_output_sizes=settings.mm_output_sizes,
            dropout=settings.dropout,
            d_state=settings.d_state,
            expand=settings.expand,
            d_conv=settings.d_conv,
            mode=settings.mode,
        )
    )


def _augmented(
    data: SequenceData, settings: DepMambaSettings, seed: int
) -> tuple[FeatureSequence, ...]:
    """Put random crops after their sequences, drawn once for the whole run as published."""
    rng = random.Random(derived_seed(seed, "crops"))
    out: list[FeatureSequence] = []
    for item in data.items["train"]:
        out.append(item)
        if settings.augment:
            parts = crops(len(item.features), rng, data.min_crop, settings.crop_tries)
            out += [replace(item, features=item.features[part]) for part in parts]
    return tuple(out)


def train_seed(
    settings: DepMambaSettings,
    data: SequenceData,
    seed: int,
    folder: Path,
    *,
    device: str = "cpu",
    log: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train one seed into `folder` and return its result as JSON values; no test data are used."""
    with seeded(seed, "weights"):
        model = build_model(settings, data.video_size, data.audio_size).to(device)
    parity = settings.mode == "parity"
    train = _augmented(data, settings, seed)

    def order(epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(seed, "order", epoch))

    result = fit(
        model,
        Epochs(
            lambda epoch: batches(train, settings.batch_size, parity=parity, order=order(epoch)),
            -(-len(train) // settings.batch_size),
            seed,
        ),
        lambda: batches(data.items["valid"], settings.batch_size, parity=parity),
        epochs=settings.epochs,
        lr=settings.lr,
        select=settings.select,
        device=device,
        folder=folder,
        log=log,
    )
    model.load_state_dict(result.weights)
    valid = predict(model, batches(data.items["valid"], settings.batch_size, parity=parity), device)
    threshold = _threshold(valid) if settings.threshold == "valid" else 0.0
    shape = {"video_size": data.video_size, "audio_size": data.audio_size}
    save_tensors(folder / "weights.safetensors", result.weights, shape)
    chosen = result.history[result.best_epoch] if result.history else {}
    return {
        "best_epoch": result.best_epoch,
        "n_epochs": len(result.history),
        "selection": {"rule": settings.select, "split": "valid", "score": chosen.get("score")},
        "threshold": {"value": threshold, "source": settings.threshold},
        "validation": chosen.get("val"),
        "weights_sha256": weights_sha256(result.weights),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "n_train": len(train),
        "n_valid": len(data.items["valid"]),
    }


def _threshold(valid: SplitLogits) -> float:
    """Return the threshold of the best balanced accuracy, nearest to 0 among equals."""
    values = np.unique(valid.logit)
    candidates = sorted([0.0, *((values[1:] + values[:-1]) / 2).tolist()], key=abs)
    scores = [binary_scores(valid.logit, valid.label, t)["balanced_acc"] for t in candidates]
    return float(candidates[int(np.nanargmax(scores))])


def predict_split(
    settings: DepMambaSettings,
    data: SequenceData,
    split: str,
    weights: dict[str, torch.Tensor],
    device: str = "cpu",
) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Return (session names, logits) of a split with the given weights."""
    model = build_model(settings, data.video_size, data.audio_size).to(device)
    model.load_state_dict(weights)
    parity = settings.mode == "parity"
    items = data.items[split]
    result = predict(model, batches(items, settings.batch_size, parity=parity), device)
    return tuple(item.name for item in items), result.logit
