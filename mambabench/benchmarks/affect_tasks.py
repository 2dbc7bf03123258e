"""The depression and sentiment tasks: which there are, and how a corpus becomes one."""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.affect import EVALUATION
from mambabench.benchmarks.depression import find_corpus
from mambabench.benchmarks.depression.interviews import InterviewCorpus, prepare
from mambabench.benchmarks.depression.sessions import SPLITS
from mambabench.benchmarks.family import Prepared, TaskFamily, TaskRow
from mambabench.benchmarks.sentiment.prepare import prepare as prepare_sentiment
from mambabench.benchmarks.sentiment.video import extract_audio
from mambabench.errors import DataError
from mambabench.files import read_json

__all__ = ["FAMILY", "TASKS", "prepare_affect"]


# tasks that `prepare_affect` makes; corpora of features (dvlog, lmvd) are trained on directly
TASKS: dict[str, str] = {
    "daic_woz": "depression",
    "e_daic": "depression",
    "mosi": "sentiment",
    "mosei": "sentiment",
    "sims": "sentiment",
    "generated": "sentiment",
}


def prepare_affect(name: str, data: Path, to: Path) -> Prepared:
    """Write `to`/<name> (scene embeddings) and `to`/<name>_frames (frame embeddings).

    Both point at the corpus in its own layout below `data`; a sentiment corpus that has videos but
    no wav folder gets one first. Raises DataError where the corpus is incomplete in a way that
    changes splits or labels; what differs otherwise stands in the notes.
    """

    if not data.is_dir():
        raise DataError(f"{data}: no such folder; it should hold the corpus {name}")
    if TASKS[name] == "sentiment":
        if not (data / "wav").is_dir() and (data / "Raw").is_dir():
            extract_audio(data, name)
        broken = prepare_sentiment(name, data, to)
        notes = tuple(f"left out: {clip.name}: {clip.reason}" for clip in broken)
    else:
        corpus = find_corpus(name)
        assert isinstance(corpus, InterviewCorpus)
        notes = prepare(corpus, data, to)
    entries = {split: read_json(to / name / f"{split}.json") for split in SPLITS}
    counts = {split: len(clips) for split, clips in entries.items()}
    return Prepared(directory=to / name, n_clips=counts, notes=notes)


def _rows() -> tuple[TaskRow, ...]:
    """Return the affect tasks as rows of ``tasks list``."""

    known: dict[str, tuple[str, tuple[str, ...]]] = {  # title, sources
        "daic_woz": ("DAIC-WOZ depression interviews", ("gratch2014daic",)),
        "e_daic": ("E-DAIC depression interviews", ("gratch2014daic", "ringeval2019avec")),
        "mosi": ("CMU-MOSI sentiment", ("zadeh2016mosi",)),
        "mosei": ("CMU-MOSEI sentiment", ("zadeh2018mosei",)),
        "sims": ("CH-SIMS sentiment", ("yu2020sims",)),
    }
    return tuple(
        TaskRow(
            name=name,
            family=TASKS[name],
            title=title,
            embedding_type="scene",
            prediction_type="multiclass",
            split_mode="trainvaltest",
            n_splits=3,
            n_labels=2,
            metric=EVALUATION[0],
            sample_duration_s=None,
            n_clips=None,
            domain="speech",
            sources=sources,
        )
        for name, (title, sources) in known.items()
    )


FAMILY = TaskFamily("affect", _rows, prepares=tuple(TASKS), prepare=prepare_affect)
