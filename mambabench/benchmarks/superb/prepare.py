"""Write a SUPERB task directory that points into its corpus: labels, splits, sources; no audio."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mambabench.benchmarks.family import Prepared
from mambabench.benchmarks.kinds.kind import LENGTHS
from mambabench.benchmarks.kinds.queries import RELEVANCE
from mambabench.benchmarks.kinds.trials import TRIALS
from mambabench.benchmarks.layout.read import METADATA, SOURCE_COLUMNS, SOURCES, VOCABULARY
from mambabench.benchmarks.superb import SuperbTask, asv, qbe, superb_task
from mambabench.benchmarks.superb.lengths import lengths_of
from mambabench.benchmarks.superb.sources import Corpus, SourceClip
from mambabench.errors import DataError
from mambabench.files import write_bytes, write_json

__all__ = ["CLUSTERS", "prepare"]

CLUSTERS = "clusters.json"


def prepare(name: str, root: Path, to: Path) -> Prepared:
    """Read the corpus of SUPERB task `name` below `root` and write the task directory `to`/`name`.

    Audio stays where it is: the directory's sources.csv points at it. Equal corpora give equal
    bytes. Raises DataError where the corpus is incomplete in a way that changes splits or labels;
    everything else is listed by `mambabench tasks check`.
    """
    task = superb_task(name)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; it should hold {task.corpus}")
    corpus = task.read(root)
    directory = to / task.name
    empty = [split for split, clips in corpus.splits.items() if not clips]
    if empty:
        raise DataError(
            f"{root}: no clips for {', '.join(empty)}; the folder should hold {task.corpus}"
        )
    # queries have no labels, and a vocabulary is never empty
    vocabulary = corpus.labels or ("query",)
    labels = "".join(_csv_line([str(i), label]) for i, label in enumerate(vocabulary))
    _write_text(directory / VOCABULARY, "idx,label\n" + labels)
    for split, clips in corpus.splits.items():
        write_json(directory / f"{split}.json", {clip.name: _labels(clip) for clip in clips})
    _write_sources(directory / SOURCES, corpus)
    write_json(directory / CLUSTERS, _clusters(corpus))
    _write_relations(task, root, directory, corpus)
    if task.pooling == "frames":
        write_json(directory / LENGTHS, dict(lengths_of(root, corpus)))
    write_json(directory / METADATA, _metadata(task, root.resolve(), corpus))
    counts = {split: len(clips) for split, clips in corpus.splits.items()}
    return Prepared(directory, counts, corpus.notes)


def _labels(clip: SourceClip) -> list[object]:
    """Return a clip's labels, or its turns as the events of a timestamp task (milliseconds)."""
    if not clip.turns:
        return list(clip.labels)
    return [
        {
            "label": turn.speaker,
            "start": round(turn.start_s * 1000, 6),
            "end": round(turn.end_s * 1000, 6),
        }
        for turn in clip.turns
    ]


def _csv_line(fields: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()


def _write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def _write_sources(path: Path, corpus: Corpus) -> None:
    lines = [_csv_line(list(SOURCE_COLUMNS))]
    trimmed = corpus.task == "superb_asv"
    for split, clips in corpus.splits.items():
        for clip in clips:
            duration = "" if clip.duration_s is None else repr(clip.duration_s)
            fields = [
                split,
                clip.name,
                clip.path,
                repr(clip.start_s),
                duration,
                repr(clip.gain_db),
                "1" if trimmed else "0",
                clip.crop_of or "",
            ]
            lines.append(_csv_line(fields))
    _write_text(path, "".join(lines))


def _clusters(corpus: Corpus) -> dict[str, str]:
    return {
        f"{split}/{clip.name}": clip.cluster
        for split, clips in corpus.splits.items()
        for clip in clips
        if clip.cluster is not None
    }


def _write_relations(task: SuperbTask, root: Path, directory: Path, corpus: Corpus) -> None:
    """Write what a label cannot say: ASV's trials, QbE's matches, ER's development clips."""
    if task.superb_name == "ASV":
        trials = asv.read_trials(root / asv.TRIALS)
        rows = [_csv_line([str(int(t.same)), t.first, t.second]) for t in trials]
        _write_text(directory / TRIALS, "same,first,second\n" + "".join(rows))
    elif task.superb_name == "QbE":
        rows = [
            _csv_line([split, f"{query}.wav", f"{document}.wav"])
            for split in ("valid", "test")
            for query, document in sorted(qbe.read_relevance(root, split))
        ]
        _write_text(directory / RELEVANCE, "split,query,document\n" + "".join(rows))


def _metadata(task: SuperbTask, root: Path, corpus: Corpus) -> dict[str, object]:
    folds = task.superb_name == "ER"
    return {
        "task_name": task.name,
        "version": "superb",
        "embedding_type": "event" if task.prediction_type == "diarization" else "scene",
        "prediction_type": task.prediction_type,
        "split_mode": "presplit_kfold" if folds else "trainvaltest",
        "splits": list(corpus.splits),
        "sample_duration": None,
        "evaluation": list(task.metrics),
        "protocol": "superb",
        "pooling": task.pooling,
        "layers": "all",
        "audio_root": str(root),
        "clusters": CLUSTERS,
        "notes": list(corpus.notes),
    }
