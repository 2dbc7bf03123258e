"""The nineteen tasks of HEAR 2021 as one table; any directory in their layout works without it.

Clip counts and durations are those of hear-preprocess' documentation. They are compared with a
directory only where its name is exactly one of the table's, since other modes hold other clips.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DIRECTORIES", "HEAR_TASKS", "HearTask"]

_ACCURACY = ("top1_acc", "mAP", "d_prime", "aucroc")


@dataclass(frozen=True)
class HearTask:
    """One task: the directories that it consists of and what was published about each of them."""

    title: str  # the column of HEAR's leaderboard
    directories: tuple[str, ...]  # one, but two for Beehive: two rows and their mean
    embedding_type: str
    prediction_type: str
    split_mode: str
    n_splits: int
    n_labels: int
    evaluation: tuple[str, ...]  # the first is primary
    sample_duration_s: float | None
    n_clips: int  # per directory
    in_ssam_paper: bool = False  # one of the ten that SSAM's authors report


def _scene(
    title: str,
    directories: str | tuple[str, ...],
    n_folds: int,
    n_labels: int,
    duration_s: float | None,
    n_clips: int,
    *,
    evaluation: tuple[str, ...] = _ACCURACY,
    split_mode: str = "",
    prediction_type: str = "multiclass",
    ssam: bool = False,
) -> HearTask:
    return HearTask(
        title=title,
        directories=(directories,) if isinstance(directories, str) else directories,
        embedding_type="scene",
        prediction_type=prediction_type,
        split_mode=split_mode or ("new_split_kfold" if n_folds else "trainvaltest"),
        n_splits=n_folds or 3,
        n_labels=n_labels,
        evaluation=evaluation,
        sample_duration_s=duration_s,
        n_clips=n_clips,
        in_ssam_paper=ssam,
    )


_PITCH = ("pitch_acc", "chroma_acc")
_MAP = ("mAP", "d_prime", "aucroc", "top1_acc")

HEAR_TASKS: tuple[HearTask, ...] = (
    _scene(
        "Beehive",
        ("beehive_states_fold0-v2-full", "beehive_states_fold1-v2-full"),
        0,
        2,
        600.0,
        576,
        evaluation=("aucroc", "mAP", "d_prime", "top1_acc"),
    ),
    _scene("Beijing Opera", "beijing_opera-v1.0-hear2021-full", 5, 4, 4.77, 236, ssam=True),
    _scene("CREMA-D", "tfds_crema_d-1.0.0-full", 5, 6, 5.0, 7438, ssam=True),
    HearTask(
        "DCASE 2016",
        ("dcase2016_task2-hear2021-full",),
        "event",
        "multilabel",
        "trainvaltest",
        3,
        11,
        ("event_onset_200ms_fms", "segment_1s_er"),
        120.0,
        72,
    ),
    _scene("ESC-50", "esc50-v2.0.0-full", 5, 50, 5.0, 2000, split_mode="presplit_kfold", ssam=True),
    _scene(
        "FSD50K",
        "fsd50k-v1.0-full",
        0,
        200,
        None,
        51185,
        evaluation=_MAP,
        prediction_type="multilabel",
        ssam=True,
    ),
    _scene("GTZAN Genre", "tfds_gtzan-1.0.0-full", 10, 10, 30.0, 1000),
    _scene("GTZAN Music/Speech", "tfds_gtzan_music_speech-1.0.0-full", 10, 2, 30.0, 128),
    _scene("Gunshot", "gunshot_triangulation-v1.0-full", 7, 4, 1.5, 88),
    _scene("Libricount", "libricount-v1.0.0-hear2021-full", 5, 11, 5.0, 5720, ssam=True),
    HearTask(
        "Maestro 5h",
        ("maestro-v3.0.0-5h",),
        "event",
        "multilabel",
        "new_split_kfold",
        5,
        88,
        ("event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"),
        120.0,
        185,
    ),
    _scene("Mridangam Stroke", "mridangam_stroke-v1.5-full", 5, 10, 0.81, 6977, ssam=True),
    _scene("Mridangam Tonic", "mridangam_tonic-v1.5-full", 5, 6, 0.81, 6977, ssam=True),
    _scene("NSynth Pitch 50h", "nsynth_pitch-v2.2.3-50h", 0, 88, 4.0, 49060, evaluation=_PITCH),
    _scene(
        "NSynth Pitch 5h", "nsynth_pitch-v2.2.3-5h", 0, 88, 4.0, 5000, evaluation=_PITCH, ssam=True
    ),
    _scene(
        "Speech commands 5h",
        "speech_commands-v0.0.2-5h",
        0,
        12,
        1.0,
        22890,
        evaluation=("top1_acc",),
        ssam=True,
    ),
    _scene(
        "Speech commands full",
        "speech_commands-v0.0.2-full",
        0,
        12,
        1.0,
        100503,
        evaluation=("top1_acc",),
    ),
    _scene("Vocal Imitation", "vocal_imitation-v1.1.3-full", 3, 302, 11.26, 5601, evaluation=_MAP),
    _scene("VoxLingua107 top 10", "vox_lingua_top10-hear2021-full", 5, 10, 18.64, 972, ssam=True),
)

DIRECTORIES: dict[str, HearTask] = {
    directory: task for task in HEAR_TASKS for directory in task.directories
}
