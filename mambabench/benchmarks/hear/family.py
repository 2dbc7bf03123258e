"""HEAR's tasks as rows of ``tasks list``; they come as archives, so none is prepared here."""

from __future__ import annotations

from collections.abc import Iterator

from mambabench.benchmarks.family import TaskFamily, TaskRow
from mambabench.benchmarks.hear import DIRECTORIES, HearTask

__all__ = ["FAMILY"]


# by title; the others are sounds of any kind
_DOMAINS = {
    **dict.fromkeys(
        ("CREMA-D", "Libricount", "Speech commands 5h", "Speech commands full"), "speech"
    ),
    "VoxLingua107 top 10": "speech",
    **dict.fromkeys(("Beijing Opera", "GTZAN Genre", "GTZAN Music/Speech"), "music"),
    **dict.fromkeys(("Maestro 5h", "Mridangam Stroke", "Mridangam Tonic"), "music"),
    **dict.fromkeys(("NSynth Pitch 50h", "NSynth Pitch 5h"), "music"),
}
# by title: the BibTeX keys of the corpora
_SOURCES = {
    "Beehive": "nolasco2019beehive",
    "Beijing Opera": "tian2014beijing",
    "CREMA-D": "cao2014crema",
    "DCASE 2016": "mesaros2018dcase",
    "ESC-50": "piczak2015esc",
    "FSD50K": "fonseca2022fsd50k",
    "GTZAN Genre": "tzanetakis2002musical",
    "GTZAN Music/Speech": "tzanetakis1999gtzan",
    "Gunshot": "cooper2020gunshots",
    "Libricount": "stoter2018libricount",
    "Maestro 5h": "hawthorne2019maestro",
    **dict.fromkeys(("Mridangam Stroke", "Mridangam Tonic"), "anantapadmanabhan2013mridangam"),
    **dict.fromkeys(("NSynth Pitch 50h", "NSynth Pitch 5h"), "engel2017nsynth"),
    **dict.fromkeys(("Speech commands 5h", "Speech commands full"), "warden2018speech"),
    "Vocal Imitation": "kim2018vocal",
    "VoxLingua107 top 10": "valk2021voxlingua",
}


def _hours(task: HearTask) -> float | None:
    if task.sample_duration_s is None:
        return None
    return task.n_clips * task.sample_duration_s / 3600


def _rows() -> Iterator[TaskRow]:
    for name, task in DIRECTORIES.items():
        yield TaskRow(
            name=name,
            family="hear",
            title=task.title,
            embedding_type=task.embedding_type,
            prediction_type=task.prediction_type,
            split_mode=task.split_mode,
            n_splits=task.n_splits,
            n_labels=task.n_labels,
            metric=task.evaluation[0],
            sample_duration_s=task.sample_duration_s,
            n_clips=task.n_clips,
            domain=_DOMAINS.get(task.title, "sound"),
            hours=_hours(task),
            sources=(_SOURCES[task.title],),
        )


FAMILY = TaskFamily("hear", _rows, short_titles=True, sources=("turian2022hear",))
