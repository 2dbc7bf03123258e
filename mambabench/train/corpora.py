"""From a corpus in its own layout to the lists that classifiers train on (AST's form).

Each function writes train.json, valid.json or test.json and labels.csv into a folder, or one such
folder per fold; audio stays where it is, except UrbanSound8K's scenes, which are made.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.superb import er
from mambabench.errors import DataError, nearest_names
from mambabench.files import write_bytes
from mambabench.probe.families.utterances import pool_rows
from mambabench.train.clips import write_clips
from mambabench.train.encoder_data import AUDIO
from mambabench.train.loaders import read_wave

__all__ = ["CORPORA", "prepare_lists"]

Array = npt.NDArray[Any]
RATE_HZ = 16000
SCENE_S = 60
FileLabels = list[tuple[str, str]]  # (file, mids)


def prepare_lists(corpus: str, source: Path, to: Path) -> dict[str, int]:
    """Write the lists of a corpus; return file below `to` -> entries.

    Raises DataError for an unknown corpus, a missing file of its layout, or missing audio.
    """
    if corpus not in CORPORA:
        known = ", ".join(sorted(CORPORA))
        raise DataError(f"no corpus {corpus!r}{nearest_names(corpus, CORPORA)}; known: {known}")
    if not source.is_dir():
        raise DataError(f"{source} is no folder")
    return CORPORA[corpus](source.resolve(), to)


def _table(path: Path, delimiter: str = ",", fields: Sequence[str] | None = None) -> list[Any]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, fields, delimiter=delimiter, skipinitialspace=True))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _labels(to: Path, mids: Sequence[str], names: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerow(("index", "mid", "display_name"))
    writer.writerows((i, mid, name) for i, (mid, name) in enumerate(zip(mids, names, strict=True)))
    write_bytes(to / "labels.csv", text.getvalue().encode())


def _write(to: Path, lists: Mapping[str, FileLabels]) -> dict[str, int]:
    counts = {}
    for name, rows in lists.items():
        if not rows:
            raise DataError(f"no clip was found for {name}")
        write_clips(to / name, rows)
        counts[name] = len(rows)
    return counts


def _existing(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path} is listed and not there")
    return str(path)


def _folds(to: Path, rows: Sequence[tuple[int, str, str]]) -> dict[str, int]:
    """Write fold<k>/train.json and test.json from (fold, file, mids)."""
    folds = sorted({fold for fold, _, _ in rows})
    lists: dict[str, FileLabels] = {}
    for k in folds:
        lists[f"fold{k}/train.json"] = [(p, m) for fold, p, m in rows if fold != k]
        lists[f"fold{k}/test.json"] = [(p, m) for fold, p, m in rows if fold == k]
    return _write(to, lists)


def _esc50(source: Path, to: Path) -> dict[str, int]:
    """ESC-50's repository: meta/esc50.csv, audio/."""
    rows = _table(source / "meta" / "esc50.csv")
    names = {int(r["target"]): r["category"] for r in rows}
    mids = [f"/m/esc{i:02d}" for i in range(len(names))]
    _labels(to, mids, [names[i] for i in range(len(names))])
    listed = [
        (int(r["fold"]), _existing(source / "audio" / r["filename"]), mids[int(r["target"])])
        for r in rows
    ]
    return _folds(to, listed)


def _speechcommands(source: Path, to: Path) -> dict[str, int]:
    """Speech Commands v1 or v2: a folder per word, validation_list.txt, testing_list.txt."""
    held: dict[str, set[str]] = {}
    for role, file in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
        try:
            held[role] = set((source / file).read_text(encoding="utf-8").split())
        except OSError as error:
            raise DataError(f"cannot read {source / file}: {error}") from error
    words = sorted(p.name for p in source.iterdir() if p.is_dir() and not p.name.startswith("_"))
    mids = {word: f"/m/spcmd{i:02d}" for i, word in enumerate(words)}
    _labels(to, list(mids.values()), words)
    lists: dict[str, FileLabels] = {"train.json": [], "valid.json": [], "test.json": []}
    for word in words:
        for path in sorted((source / word).glob("*.wav")):
            key = f"{word}/{path.name}"
            role = next((r for r, names in held.items() if key in names), "train")
            lists[f"{role}.json"].append((str(path), mids[word]))
    return _write(to, lists)


def _voxceleb1(source: Path, to: Path) -> dict[str, int]:
    """VoxCeleb1: iden_split.txt (1 train, 2 dev, 3 test), wav/."""
    rows = _table(source / "iden_split.txt", " ", ("split", "file"))
    speakers = sorted({r["file"].partition("/")[0] for r in rows})
    mids = {s: f"/m/voxclb{i:04d}" for i, s in enumerate(speakers, start=1)}
    _labels(to, list(mids.values()), speakers)
    names = {"1": "train.json", "2": "valid.json", "3": "test.json"}
    lists: dict[str, FileLabels] = {name: [] for name in names.values()}
    for r in rows:
        path = _existing(source / "wav" / r["file"])
        lists[names[r["split"]]].append((path, mids[r["file"].partition("/")[0]]))
    return _write(to, lists)


def _vggsound(source: Path, to: Path) -> dict[str, int]:
    """VGGSound: vggsound.csv (id, start, label, split), audio/<id>_<start:06>.*; absent clips are
    left out, as many are gone."""
    rows = _table(source / "vggsound.csv", fields=("id", "start", "label", "split"))
    names = sorted({r["label"] for r in rows})
    mids = {name: f"/m/vggsd{i:03d}" for i, name in enumerate(names)}
    _labels(to, list(mids.values()), names)
    there = _by_stem(source / "audio")
    lists: dict[str, FileLabels] = {"train.json": [], "test.json": []}
    for r in rows:
        path = there.get(f"{r['id']}_{int(r['start']):06d}")
        if path is not None:
            lists[f"{r['split']}.json"].append((path, mids[r["label"]]))
    return _write(to, lists)


def _audioset(source: Path, to: Path) -> dict[str, int]:
    """AudioSet: class_labels_indices.csv, <split>_segments.csv, audio/<id>.* (or below); absent
    clips are left out. The balanced and unbalanced lists train, the evaluation list tests."""
    labels = _table(source / "class_labels_indices.csv")
    _labels(to, [r["mid"] for r in labels], [r["display_name"] for r in labels])
    there = _by_stem(source / "audio")
    lists: dict[str, FileLabels] = {}
    for split, name in (
        ("balanced_train", "balanced.json"),
        ("unbalanced_train", "unbalanced.json"),
        ("eval", "test.json"),
    ):
        path = source / f"{split}_segments.csv"
        if path.is_file():
            lists[name] = [
                (there[video], mids) for video, mids in _segments(path) if video in there
            ]
    if not lists:
        raise DataError(f"{source} has none of AudioSet's *_segments.csv")
    return _write(to, lists)


def _segments(path: Path) -> Iterable[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file, skipinitialspace=True):
            if row and not row[0].startswith("#"):
                yield row[0], row[3]


def _by_stem(folder: Path) -> dict[str, str]:
    found = {p.stem: str(p) for p in sorted(folder.rglob("*")) if p.suffix.lower() in AUDIO}
    if not found:
        raise DataError(f"{folder} holds no audio ({', '.join(AUDIO)})")
    return found


def _iemocap(source: Path, to: Path) -> dict[str, int]:
    """IEMOCAP/Session1..5 (and s3prl's meta_data/, whose order its split depends on): fold k tests
    session k; of the other sessions' clips s3prl's fifth selects and the rest trains."""
    corpus = er.read(source)
    mids = {label: f"/m/iemocap{i}" for i, label in enumerate(corpus.labels)}
    _labels(to, list(mids.values()), corpus.labels)
    listed = {
        session: [(_existing(source / clip.path), mids[clip.labels[0]]) for clip in clips]
        for session, clips in corpus.splits.items()
    }
    lists: dict[str, FileLabels] = {}
    for k, session in enumerate(listed, start=1):
        pool = [(s, row) for s, rows in listed.items() if s != session for row in rows]
        train, valid = pool_rows([s for s, _ in pool], clean=False)
        lists[f"fold{k}/train.json"] = [pool[i][1] for i in train]
        lists[f"fold{k}/valid.json"] = [pool[i][1] for i in valid]
        lists[f"fold{k}/test.json"] = listed[session]
    return _write(to, lists)


def _urbansound8k(source: Path, to: Path) -> dict[str, int]:
    """UrbanSound8K: metadata/UrbanSound8K.csv, audio/fold<k>/; scenes of 60 s per fold.

    A fold's clips, in an order drawn once, are padded with silence to full seconds, each labelled
    with the clip's class, joined and cut into scenes; the last is padded with silence that
    carries the last label. Source: SSAMBA's preparation, whose order is not seeded.
    """
    import soundfile

    rows = _table(source / "metadata" / "UrbanSound8K.csv")
    names = {int(r["classID"]): r["class"] for r in rows}
    _labels(to, [f"/m/urban{i}" for i in range(len(names))], [names[i] for i in sorted(names)])
    folds = sorted({int(r["fold"]) for r in rows})
    scenes: dict[int, list[tuple[str, str]]] = {}
    for fold in folds:
        own = [r for r in rows if int(r["fold"]) == fold]
        order = np.random.default_rng(fold).permutation(len(own))
        clips = []
        for i in order:
            path = source / "audio" / f"fold{fold}" / own[int(i)]["slice_file_name"]
            wave = read_wave(path, RATE_HZ)[0][0].numpy()
            clips.append((wave, int(own[int(i)]["classID"])))
        folder = to / "scenes" / f"fold{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        scenes[fold] = []
        table = []
        for n, (wave, labels) in enumerate(_scenes(clips)):
            path = folder / f"concatenated_{n}.wav"
            soundfile.write(path, wave, RATE_HZ, subtype="PCM_16")
            text = ",".join(map(str, labels))
            scenes[fold].append((str(path.resolve()), text))
            table.append(f'{path.name},"{text}"')
        lines = "\n".join(["filename,labels", *table]) + "\n"
        write_bytes(folder / "concatenated_metadata.csv", lines.encode())
    return _scene_lists(to, scenes)


def _scenes(clips: Iterable[tuple[Array, int]]) -> Iterable[tuple[Array, list[int]]]:
    """Yield (60 s of audio, 60 class ids)."""
    waves: list[Array] = []
    labels: list[int] = []
    for wave, label in clips:
        seconds = -(-len(wave) // RATE_HZ)
        waves.append(np.pad(wave, (0, seconds * RATE_HZ - len(wave))))
        labels += [label] * seconds
    stream = np.concatenate(waves)
    missing = -len(labels) % SCENE_S
    stream = np.pad(stream, (0, missing * RATE_HZ))
    labels += [labels[-1]] * missing
    for first in range(0, len(labels), SCENE_S):
        span = slice(first * RATE_HZ, (first + SCENE_S) * RATE_HZ)
        yield stream[span], labels[first : first + SCENE_S]


def _scene_lists(to: Path, scenes: Mapping[int, Sequence[tuple[str, str]]]) -> dict[str, int]:
    import json

    counts = {}
    for k in scenes:
        parts = {
            "train": [row for fold, rows in scenes.items() if fold != k for row in rows],
            "test": list(scenes[k]),
        }
        for name, rows in parts.items():
            data = [{"wav": wav, "seconds": seconds} for wav, seconds in rows]
            path = f"fold{k}/{name}.json"
            write_bytes(to / path, json.dumps({"data": data}, indent=1).encode())
            counts[path] = len(rows)
    return counts


CORPORA: dict[str, Callable[[Path, Path], dict[str, int]]] = {
    "audioset": _audioset,
    "esc50": _esc50,
    "iemocap": _iemocap,
    "speechcommands": _speechcommands,
    "urbansound8k": _urbansound8k,
    "vggsound": _vggsound,
    "voxceleb1": _voxceleb1,
}
