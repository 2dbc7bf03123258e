"""Token embeddings of a sentiment task's texts, computed once.

``OUT/text/<key>/<task>/`` holds, per split, ``<split>.hidden.npy`` [n_tokens, dim] float32,
``<split>.offsets.npy`` [n_clips + 1] int64 and ``<split>.pooled.npy`` [n_clips, dim] float32, the
same three with ``context_`` for the texts before each clip, and ``manifest.json``, written last.
Padding is never stored: every token of the store is real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.affect import read_affect
from mambabench.benchmarks.depression.sessions import SPLITS
from mambabench.benchmarks.sentiment.mmsa import context_of, of_split, read_utterances
from mambabench.benchmarks.sentiment.prepare import clip_name, scoring
from mambabench.errors import DataError, EncoderError, StoreError
from mambabench.files import atomic_write, sha256_file, write_json
from mambabench.models.encoder import Encoded, TextEncoder
from mambabench.reading.arrays import read_array
from mambabench.reading.json_files import read_json_object

if TYPE_CHECKING:
    from mambabench.benchmarks.task import Task

__all__ = ["StoredText", "extract_text", "extract_texts", "load_text_encoder", "read_text"]

SCHEMA = "mambabench.text/1"
_REMEDY = "remove the folder and extract the texts again"
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredText:
    """The stored texts of one split, in the order of `clip_names`."""

    clip_names: tuple[str, ...]
    texts: tuple[Encoded, ...]
    contexts: tuple[Encoded, ...]


def _words(text: str) -> list[str]:
    cleaned = "".join(c.lower() if c.isalnum() else " " for c in text)
    return ["<s>", *cleaned.split(), "</s>"]


def _word_vector(word: str, dim: int) -> Array:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    vector: Array = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return vector


def _hashed_words(dim: int) -> TextEncoder:
    """One fixed random vector per word and their mean: a baseline that needs no weights."""

    def encode(texts: Sequence[str]) -> list[Encoded]:
        out = []
        for text in texts:
            hidden = np.stack([_word_vector(word, dim) for word in _words(text)])
            out.append(Encoded(hidden, hidden.mean(0)))
        return out

    identity = hashlib.sha256(f"words/{dim}/1".encode()).hexdigest()
    return TextEncoder(f"words:{dim}", identity, dim, encode)


def load_text_encoder(name: str, *, max_tokens: int = 96, device: str = "cpu") -> TextEncoder:
    """Return a text encoder: ``words`` or ``words:DIM`` (built in), or a local model directory.

    A directory is a Hugging Face one: config.json, the weights and its tokenizer's files. RoBERTa
    and BERT run on this package's own code, only their tokenizer needs transformers. Raises
    EncoderError where something is missing.
    """
    if name == "words" or name.startswith("words:"):
        _, _, dim = name.partition(":")
        if dim and not (dim.isdigit() and int(dim) > 0):
            raise EncoderError(f"text encoder {name!r}: the width after words: must be a number")
        return _hashed_words(int(dim or 64))
    directory = Path(name)
    if not directory.is_dir():
        raise EncoderError(
            f"text encoder {name!r} is neither words[:DIM] nor a local directory with config.json"
        )
    from mambabench.models.affect.hugging_face import text_encoder

    return text_encoder(directory, max_tokens=max_tokens, device=device)


def _pack(encoded: Sequence[Encoded]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    lengths = [len(item.hidden) for item in encoded]
    yield "hidden", np.concatenate([item.hidden for item in encoded]).astype(np.float32)
    yield "offsets", np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    yield "pooled", np.stack([item.pooled for item in encoded]).astype(np.float32)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    def write(file: BinaryIO) -> None:
        np.save(file, array, allow_pickle=False)

    atomic_write(path, write)


def text_folder(out: Path, encoder: str, task: str) -> Path:
    """Return the folder of one text encoder's store of one task."""
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in Path(encoder).name or encoder)
    return out / "text" / safe.replace(":", "_") / task


def extract_text(
    encoder: TextEncoder,
    task: Task,
    out: Path,
    *,
    n_texts: int = 2,
    context: str = "separate",
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Encode the texts of a sentiment task and, apart or joined before them, their contexts.

    `context` is "separate" (as published) or "joined": the previous `n_texts` texts become part of
    the text itself. Returns the folder; a store of the same identity and settings is left alone.
    Raises DataError for a task without texts, StoreError for a store made by something else.
    """
    affect = read_affect(task.directory)
    if affect is None or affect.kind != "sentiment":
        raise DataError(f"task {task.name} has no texts: it is no prepared sentiment task")
    if context not in ("separate", "joined"):
        raise DataError(f"context must be 'separate' or 'joined', not {context!r}")
    folder = text_folder(out, encoder.name, affect.corpus)
    wanted = {
        "schema": SCHEMA,
        "encoder": encoder.name,
        "identity": encoder.identity,
        "labels": sha256_file(affect.root / "label.csv"),
        "n_texts": n_texts,
        "context": context,
    }
    if (folder / "manifest.json").is_file():
        found = _manifest(folder)
        differs = [key for key, value in wanted.items() if found.get(key) != value]
        if not differs:
            return folder
        raise StoreError(
            f"{folder} was made with another {', '.join(differs)}; remove it or use another --out"
        )
    items = read_utterances(affect.root, scoring(affect.corpus))
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        kept = {clip.name for clip in task.clips[split]}
        of = of_split(items, split)
        rows = [(i, item) for i, item in enumerate(of) if clip_name(item) in kept]
        before = [context_of(of, i, n_texts).text for i, _ in rows]
        texts = [item.text for _, item in rows]
        if context == "joined":
            texts = [f"{c}</s>{t}" if c else t for c, t in zip(before, texts, strict=True)]
        arrays = [*_pack(_encode(encoder, texts, split, progress))]
        arrays += [
            (f"context_{name}", array)
            for name, array in _pack(_encode(encoder, before, f"{split} context", progress))
        ]
        for name, array in arrays:
            _save(folder / f"{split}.{name}.npy", array)
        splits[split] = {"clips": [clip_name(item) for _, item in rows]}
    write_json(folder / "manifest.json", {**wanted, "dim": encoder.dim, "splits": splits})
    return folder


def extract_texts(
    name: str,
    tasks: Sequence[Path],
    task: Sequence[str],
    out: Path,
    *,
    n_texts: int = 2,
    context: str = "separate",
) -> tuple[Path, ...]:
    """Encode the texts of every sentiment task in the folders `tasks` (or those named by `task`).

    Raises DataError where there is none.
    """
    from mambabench.benchmarks import discover

    found = [t for t in discover([Path(p) for p in tasks], task) if _has_texts(t)]
    if not found:
        raise DataError("no sentiment task among the given ones: make one with `tasks prepare`")
    encoder = load_text_encoder(name)
    folders = [
        extract_text(encoder, one, Path(out), n_texts=n_texts, context=context) for one in found
    ]
    return tuple(dict.fromkeys(folders))


def _has_texts(task: Task) -> bool:
    affect = read_affect(task.directory)
    return affect is not None and affect.kind == "sentiment"


def _encode(
    encoder: TextEncoder,
    texts: Sequence[str],
    what: str,
    progress: Callable[[str, int, int], None] | None,
) -> list[Encoded]:
    out: list[Encoded] = []
    for start in range(0, len(texts), 32):
        out += encoder.encode(texts[start : start + 32])
        if progress is not None:
            progress(what, len(out), len(texts))
    for item in out:
        if not np.isfinite(item.hidden).all():
            raise DataError(f"text encoder {encoder.name}: NaN in {what}")
    return out


def _manifest(folder: Path) -> dict[str, Any]:
    return read_json_object(folder / "manifest.json", remedy=_REMEDY, error=StoreError)


def read_text(folder: Path, split: str) -> StoredText:
    """Open one split of a text store, memory-mapped; StoreError where there is none."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise StoreError(
            f"no text store in {folder}: run `mambabench extract --text-encoder DIR` first"
        )
    manifest = _manifest(folder)
    if manifest.get("schema") != SCHEMA:
        raise StoreError(f"{path} has schema {manifest.get('schema')!r}, not {SCHEMA!r}")
    try:
        names = tuple(manifest["splits"][split]["clips"])
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} lacks the clips of split {split!r}; {_REMEDY}") from error

    def load(prefix: str) -> tuple[Encoded, ...]:
        arrays = {
            name: read_array(
                folder / f"{split}.{prefix}{name}.npy",
                remedy=_REMEDY,
                error=StoreError,
                mapped=True,
            )
            for name in ("hidden", "offsets", "pooled")
        }
        if len(arrays["offsets"]) != len(names) + 1 or len(arrays["pooled"]) != len(names):
            raise StoreError(
                f"{folder}: split {split!r} has not the clips that are listed; {_REMEDY}"
            )
        offsets = arrays["offsets"]
        return tuple(
            Encoded(arrays["hidden"][offsets[i] : offsets[i + 1]], arrays["pooled"][i])
            for i in range(len(names))
        )

    return StoredText(names, load(""), load("context_"))
