"""What the clips of HEAR's tasks are not independent in, read off their file names.

HEAR's metadata name no clusters. Where file names carry a speaker, an instrument, a recording or a
shot, intervals and tests draw these; where they do not, `why` says what is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["HEAR_CLUSTERS", "HearClusters", "cluster_names"]


@dataclass(frozen=True)
class HearClusters:
    """One task's clusters: a group of the pattern's match, or why there are none."""

    title: str  # as in `HEAR_TASKS`
    prefix: str  # of its directories' names, whatever the version and mode
    what: str  # what a cluster is; "" where file names do not tell
    pattern: str = ""  # matches a whole file name; its named groups together are the cluster
    why: str = ""  # where the pattern is from, or why there is none


_TFDS = "names are running numbers of TensorFlow Datasets"
HEAR_CLUSTERS: tuple[HearClusters, ...] = (
    HearClusters(
        *("Beehive", "beehive_states_fold", "", ""),
        why="each state of a hive is one or two days of recording: too few to draw",
    ),
    HearClusters(
        *("Beijing Opera", "beijing_opera-", "", ""),
        why="names are Freesound's number, uploader, instrument and a count: one uploader",
    ),
    HearClusters(
        *("CREMA-D", "tfds_crema_d-", "actor"),
        r"(?P<actor>1\d{3})_[A-Z]{3}_[A-Z]{3}_[A-Z0-9]{2}\.wav",
        why="the corpus' own names; HEAR's archive has running numbers of TensorFlow Datasets",
    ),
    HearClusters(
        *("DCASE 2016", "dcase2016_task2-", "", ""),
        why="every clip is a scene of its own, mixed from common events",
    ),
    HearClusters(
        *("ESC-50", "esc50-", "Freesound recording"),
        r"\d-(?P<recording>\d+)-[A-Z]-\d+\.wav",
        why="fold, recording, take and class",
    ),
    HearClusters(*("FSD50K", "fsd50k-", "", ""), why="a clip a name; uploaders are not in it"),
    HearClusters(*("GTZAN Genre", "tfds_gtzan-", "", ""), why=_TFDS),
    HearClusters(*("GTZAN Music/Speech", "tfds_gtzan_music_speech-", "", ""), why=_TFDS),
    HearClusters(
        *("Gunshot", "gunshot_triangulation-", "shot"),
        r"mic\d_(?P<shot>shot\d+)_fid\d\.wav",
        why="four microphones record every shot",
    ),
    HearClusters(
        *("Libricount", "libricount-", "", ""), why="names are a speaker count and a number"
    ),
    HearClusters(
        *("Maestro 5h", "maestro-", "", ""),
        why="a clip a recording; names of performers differ from year to year",
    ),
    HearClusters(
        *("Mridangam Stroke", "mridangam_stroke-", "", ""),
        why="one player; the tonic in the name is one of six drums in all folds",
    ),
    HearClusters(
        *("Mridangam Tonic", "mridangam_tonic-", "", ""), why="one player; the drum is the label"
    ),
    HearClusters(
        *("NSynth Pitch 50h", "nsynth_pitch-v2.2.3-50h", "instrument"),
        r"(?P<instrument>[a-z]+_[a-z]+_\d{3})-\d{3}-\d{3}\.wav",
        why="instrument, pitch and velocity",
    ),
    HearClusters(
        *("NSynth Pitch 5h", "nsynth_pitch-", "instrument"),
        r"(?P<instrument>[a-z]+_[a-z]+_\d{3})-\d{3}-\d{3}\.wav",
        why="instrument, pitch and velocity",
    ),
    *(
        HearClusters(
            *(title, prefix, "speaker, or recording of noise"),
            r"(?:(?:_unknown__)?[a-z]+_(?P<speaker>[0-9a-f]{8})_nohash_\d+(?:\.wav)?"
            r"|_silence__(?P<noise>[a-z_]+)-\d+|_silence__(?P<clip>\d+))\.wav",
            why="word, hash of the speaker and a count; test clips of silence stand alone",
        )
        for title, prefix in (
            ("Speech commands full", "speech_commands-v0.0.2-full"),
            ("Speech commands 5h", "speech_commands-"),
        )
    ),
    HearClusters(
        *("Vocal Imitation", "vocal_imitation-", "", ""),
        why="participants stand in the corpus' table, not in names",
    ),
    HearClusters(
        *("VoxLingua107 top 10", "vox_lingua_top10-", "video"),
        r"(?P<video>.+?)__U__S\d+.*\.wav",
        why="the corpus' names: video, speaker segment and times",
    ),
)


def cluster_names(directory: str, clips: Sequence[str]) -> tuple[str, ...] | None:
    """Return the cluster of every clip of a HEAR task, from `directory` (its name) and file names.

    None where the task is not HEAR's, has no rule, or one of the names does not follow it.
    """
    rule = next((one for one in HEAR_CLUSTERS if directory.startswith(one.prefix)), None)
    if rule is None or not rule.pattern:
        return None
    pattern = re.compile(rule.pattern)
    names = []
    for clip in clips:
        match = pattern.fullmatch(clip)
        if match is None:
            return None
        names.append("/".join(f"{k}={v}" for k, v in match.groupdict().items() if v is not None))
    return tuple(names)
