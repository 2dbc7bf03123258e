"""What MMML learns from: stored tokens and frames, scene embeddings, or samples and token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.affect import Affect, read_affect
from mambabench.benchmarks.depression.sessions import Session
from mambabench.benchmarks.sentiment.mmsa import (
    Utterance,
    broken_clips,
    context_of,
    of_split,
    read_utterances,
)
from mambabench.benchmarks.sentiment.prepare import clip_name, scoring
from mambabench.errors import DataError, StoreError
from mambabench.models.affect.mmml import Modality
from mambabench.models.encoder import Encoded
from mambabench.store.embeddings import EmbeddingSet
from mambabench.store.open import read_embeddings
from mambabench.store.texts import read_text, text_folder
from mambabench.train import audio_inputs
from mambabench.train.batches import Batch, moved
from mambabench.train.mmml import fusion_batch
from mambabench.train.settings import MmmlSettings
from mambabench.train.sources import Sources, stored_task
from mambabench.train.state import derived_seed

__all__ = ["FusionData", "FusionItem", "batches", "collate_frames", "open_data"]

Array = npt.NDArray[np.float32]
Tensor = torch.Tensor
TRAINING = ("train", "valid")


@dataclass(frozen=True)
class FusionItem:
    """One utterance: its inputs, its context's, and its targets."""

    name: str
    inputs: Any
    targets: Mapping[str, float]


@dataclass(frozen=True)
class FusionData:
    """The utterances of the splits that were asked for, and how they become a batch."""

    dataset: str  # whose scores count
    sessions: tuple[Session, ...]  # of all splits
    items: dict[str, tuple[FusionItem, ...]]
    collate: Callable[[Sequence[FusionItem]], Any]
    text_size: int
    audio_size: int
    notes: tuple[str, ...]
    restricted: bool


@dataclass(frozen=True)
class _UtteranceInputs:
    """Stored inputs of one utterance; the context is None where the variant has none."""

    text: Encoded | None
    audio: Array  # [n_frames, dim], at least one frame
    context_text: Encoded | None = None
    context_audio: Array | None = None


def batches(
    data: FusionData,
    split: str,
    size: int,
    *,
    order: tuple[int, int] | None = None,
    device: str = "cpu",
) -> Iterator[Batch]:
    """Yield the batches of a split, in order or shuffled by ``order=(seed, epoch)``."""
    items = data.items[split]
    index = list(range(len(items)))
    if order is not None:
        generator = torch.Generator().manual_seed(derived_seed(order[0], "order", order[1]))
        index = torch.randperm(len(items), generator=generator).tolist()
    for start in range(0, len(index), size):
        part = [items[i] for i in index[start : start + size]]
        targets = {
            head: torch.tensor([item.targets[head] for item in part], device=device)
            for head in "MTA"
        }
        yield fusion_batch(moved(data.collate(part), device), targets)


def _pad(arrays: Sequence[Array]) -> tuple[Tensor, Tensor]:
    """Return (padded [n, longest, dim], lengths [n])."""
    lengths = torch.tensor([len(a) for a in arrays])
    out = torch.zeros(len(arrays), int(lengths.max()), arrays[0].shape[-1])
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(np.array(array, dtype=np.float32))
    return out, lengths


def _modality(texts: Sequence[Encoded], audio: Sequence[Array]) -> Modality:
    hidden, n_tokens = _pad([text.hidden for text in texts])
    frames, n_frames = _pad(audio)
    mask = (torch.arange(hidden.shape[1]) < n_tokens[:, None]).long()
    pooled = torch.from_numpy(np.stack([text.pooled for text in texts]).astype(np.float32))
    return Modality(hidden, pooled, mask, frames, n_frames)


def collate_frames(items: Sequence[FusionItem]) -> tuple[Modality, ...]:
    """Pad stored tokens and frames: the utterances, and their contexts where there are any."""
    inputs: list[_UtteranceInputs] = [item.inputs for item in items]
    texts = [part.text for part in inputs if part.text is not None]
    parts = [_modality(texts, [part.audio for part in inputs])]
    contexts = [part.context_text for part in inputs if part.context_text is not None]
    if contexts:
        audio = [part.context_audio for part in inputs if part.context_audio is not None]
        parts.append(_modality(contexts, audio))
    return tuple(parts)


def collate_scenes(items: Sequence[FusionItem]) -> tuple[Tensor]:
    """Stack scene embeddings [n, dim]."""
    return (torch.from_numpy(np.stack([item.inputs for item in items]).astype(np.float32)),)


def open_data(
    settings: MmmlSettings, sources: Sources, splits: Sequence[str] = TRAINING
) -> FusionData:
    """Read the utterances of `splits`; those of other splits are never opened."""
    if settings.input in ("frames", "scene"):
        return _from_store(settings, sources, splits)
    return _from_corpus(settings, sources, splits)


def _from_store(settings: MmmlSettings, sources: Sources, splits: Sequence[str]) -> FusionData:
    frames = settings.input == "frames"
    name = f"{settings.task}_frames" if frames else settings.task
    root = sources.store_root(f"task {name}")
    stored = stored_task(root, name, sources.encoder)
    affect = read_affect(stored.directory)
    if affect is None or affect.kind != "sentiment":
        raise DataError(f"task {name} is no prepared sentiment task: `mambabench tasks prepare`")
    items, text_size, audio_size = {}, 0, 0
    for split in splits:
        audio = read_embeddings(stored, split)
        audio_size = int(audio.embeddings.shape[-1])
        if frames:
            folder = _text_folder(root, settings, sources)
            items[split] = _frame_items(settings, affect, split, audio, folder)
            first = items[split][0].inputs.text
            text_size = first.hidden.shape[-1]
        else:
            items[split] = tuple(
                FusionItem(
                    clip,
                    np.asarray(audio.embeddings[i, settings.layer], np.float32),
                    affect.targets[f"{split}/{clip}"],
                )
                for i, clip in enumerate(audio.clip_names)
            )
    return FusionData(
        scoring(affect.corpus),
        tuple(affect.sessions.values()),
        items,
        collate_frames if frames else collate_scenes,
        text_size,
        audio_size,
        tuple(f"missing in the store: {key}: {why}" for key, why in stored.missing.items()),
        stored.task.restricted,
    )


def _text_folder(root: Path, settings: MmmlSettings, sources: Sources) -> Path:
    """Return the text store of the task: the named one, or the only one."""
    if sources.text_encoder is not None:
        return text_folder(root, sources.text_encoder, settings.task)
    found = sorted((root / "text").glob(f"*/{settings.task}/manifest.json"))
    if len(found) != 1:
        shown = ", ".join(path.parent.parent.name for path in found) or "none"
        raise StoreError(
            f"{root / 'text'} holds texts of {settings.task} from: {shown}; extract them with "
            "`mambabench extract --text-encoder DIR`, or choose with --text-encoder"
        )
    return found[0].parent


def _frame_items(
    settings: MmmlSettings, affect: Affect, split: str, audio: EmbeddingSet, folder: Path
) -> tuple[FusionItem, ...]:
    texts = read_text(folder, split)
    at = {name: i for i, name in enumerate(texts.clip_names)}
    clips = {name: i for i, name in enumerate(audio.clip_names)}
    absent = [name for name in clips if name not in at]
    if absent:
        raise StoreError(f"{folder} lacks {len(absent)} clips of {split}, first {absent[0]}")
    width = int(audio.embeddings.shape[-1])

    def rows(name: str) -> Array:
        i = clips[name]
        part = audio.embeddings[audio.offsets[i] : audio.offsets[i + 1]]
        out: Array = np.asarray(part[:, settings.layer], np.float32)
        return out

    previous = _previous_clips(affect, split, settings.audio_context)
    items = []
    for name in audio.clip_names:
        before = [rows(clip) for clip in previous.get(name, ()) if clip in clips]
        # no previous clip: one frame of zeros, because an attention needs a key
        silence = np.zeros((1, width), np.float32)
        inputs = _UtteranceInputs(
            text=texts.texts[at[name]],
            audio=rows(name),
            context_text=texts.contexts[at[name]] if settings.context else None,
            context_audio=(np.concatenate(before) if before else silence)
            if settings.context
            else None,
        )
        items.append(FusionItem(name, inputs, affect.targets[f"{split}/{name}"]))
    return tuple(items)


def _previous_clips(affect: Affect, split: str, n: int) -> dict[str, tuple[str, ...]]:
    items = of_split(read_utterances(affect.root, scoring(affect.corpus)), split)
    return {
        clip_name(item): tuple(clip_name(c) for c in context_of(items, i, n, n).audio)
        for i, item in enumerate(items)
    }


def _from_corpus(settings: MmmlSettings, sources: Sources, splits: Sequence[str]) -> FusionData:
    """Read samples (and token ids) of the corpus itself."""

    root = sources.corpus_root(f"corpus {settings.task}")
    dataset = scoring(settings.task)
    everything = read_utterances(root, dataset)
    wanted = [item for item in everything if item.split in splits]
    broken = broken_clips(root, wanted)
    bad = {clip.name for clip in broken}
    kept = tuple(item for item in wanted if item.name not in bad)
    make, collate, size = audio_inputs.maker(settings, sources, kept)
    items = {}
    for split in splits:
        of = of_split(kept, split)
        if not of:
            raise DataError(f"{settings.task}: no readable clips in split {split!r} of {root}")
        items[split] = tuple(
            FusionItem(clip_name(item), make(root, of, i), {h: getattr(item, h) for h in "MTA"})
            for i, item in enumerate(of)
        )
    return FusionData(
        dataset,
        tuple(_session(item) for item in everything if item.name not in bad),
        items,
        collate,
        0,
        size,
        tuple(f"left out: {clip.name}: {clip.reason}" for clip in broken),
        settings.task != "generated",
    )


def _session(item: Utterance) -> Session:
    return Session(item.name, item.split, int(item.M >= 0), speaker=item.video, score=item.M)
